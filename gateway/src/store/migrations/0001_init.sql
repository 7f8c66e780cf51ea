-- One conversation is one session. `opened` turns 1 when policy let its first message in and that was recorded.
CREATE TABLE sessions (
    id           TEXT    NOT NULL PRIMARY KEY,
    channel      TEXT    NOT NULL,
    conversation TEXT    NOT NULL,
    record       TEXT    NOT NULL,
    opened       INTEGER NOT NULL DEFAULT 0,
    taint        TEXT    NOT NULL DEFAULT '[]',
    created_at   TEXT    NOT NULL,
    UNIQUE (channel, conversation)
);

-- One message of a person is one turn; `event` is the channel's id of it, so that a message delivered again is the same turn.
-- `reply` is set once, before it is published; `transcript` is what later turns of the session see.
CREATE TABLE turns (
    id         TEXT   NOT NULL PRIMARY KEY,
    session    TEXT   NOT NULL REFERENCES sessions (id),
    event      TEXT   NOT NULL,
    position   BIGINT NOT NULL,
    state      TEXT   NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'replied', 'published', 'finished')),
    reply      TEXT,
    transcript TEXT,
    created_at TEXT   NOT NULL,
    UNIQUE (session, event)
);

CREATE INDEX turns_in_order ON turns (session, position);

-- What happened in a turn, in order.
CREATE TABLE steps (
    turn       TEXT   NOT NULL REFERENCES turns (id),
    number     BIGINT NOT NULL,
    entry      TEXT   NOT NULL,
    created_at TEXT   NOT NULL,
    PRIMARY KEY (turn, number)
);
