-- Texts and salts beside records. The component is from the subject, which the server vouches for: a text belongs to a record only if
-- the same component published both. What came first stays.
CREATE TABLE parts (
    record    TEXT    NOT NULL, -- the record's id
    component TEXT    NOT NULL,
    field     TEXT    NOT NULL, -- the name in the record's `data`
    salt      TEXT    NOT NULL,
    text      TEXT,
    redacted  INTEGER NOT NULL,
    PRIMARY KEY (record, component, field)
);
