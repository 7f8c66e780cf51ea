-- Texts and salts beside records. The component is from the subject, which the server vouches for: a text belongs to a record only if
-- the same component published both. What came first stays.
CREATE TABLE contents (
    record    TEXT    NOT NULL,
    component TEXT    NOT NULL,
    field     TEXT    NOT NULL,
    salt      TEXT    NOT NULL,
    text      TEXT,
    redacted  INTEGER NOT NULL,
    PRIMARY KEY (record, component, field)
);

-- Records whose texts were erased before they came: when they come they are not kept.
CREATE TABLE erased (
    record    TEXT NOT NULL,
    component TEXT NOT NULL,
    PRIMARY KEY (record, component)
) WITHOUT ROWID;
