-- One row per record of the stream AUDIT. `seq` is the stream's own number, so a record that comes twice is one row.
CREATE TABLE records (
    seq       INTEGER PRIMARY KEY,
    stored    INTEGER NOT NULL, -- the stream's time, microseconds since 1970
    component TEXT    NOT NULL, -- from the subject, which the server vouches for
    type      TEXT    NOT NULL,
    id        TEXT,
    session   TEXT,
    turn      TEXT,
    trace     TEXT,
    principal TEXT,
    channel   TEXT,
    tool      TEXT,
    outcome   TEXT,
    raw       TEXT    NOT NULL  -- the record as it was published
);

CREATE INDEX records_stored    ON records (stored);
CREATE INDEX records_type      ON records (type);
CREATE INDEX records_session   ON records (session)   WHERE session   IS NOT NULL;
CREATE INDEX records_turn      ON records (turn)      WHERE turn      IS NOT NULL;
CREATE INDEX records_trace     ON records (trace)     WHERE trace     IS NOT NULL;
CREATE INDEX records_principal ON records (principal) WHERE principal IS NOT NULL;
CREATE INDEX records_tool      ON records (tool)      WHERE tool      IS NOT NULL;
CREATE INDEX records_outcome   ON records (outcome)   WHERE outcome   IS NOT NULL;

-- Which policies decided; a decision may rest on several.
CREATE TABLE deciding_policies (
    policy TEXT    NOT NULL,
    seq    INTEGER NOT NULL REFERENCES records (seq),
    PRIMARY KEY (policy, seq)
) WITHOUT ROWID;

-- How far the index is complete: one row.
CREATE TABLE progress (
    only INTEGER PRIMARY KEY CHECK (only = 1),
    upto INTEGER NOT NULL, -- every record up to here was indexed or given up
    held INTEGER NOT NULL  -- rows in `records`
);
INSERT INTO progress (only, upto, held) VALUES (1, 0, 0);
