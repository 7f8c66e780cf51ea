-- What the leaf of a record is made of, and the leaf. Rows without are forgotten: the service reads them from the stream again.
DELETE FROM deciding_policies;
DELETE FROM records;
UPDATE progress SET upto = 0, held = 0;
ALTER TABLE records ADD COLUMN time_ns INTEGER NOT NULL DEFAULT 0; -- the stream's time, nanoseconds since 1970
ALTER TABLE records ADD COLUMN subject TEXT    NOT NULL DEFAULT '';
ALTER TABLE records ADD COLUMN leaf    BLOB    NOT NULL DEFAULT x''; -- SHA-256, RFC 6962
CREATE INDEX records_id ON records (id) WHERE id IS NOT NULL;
