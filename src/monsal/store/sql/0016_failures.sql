-- What failed stays known when its message is handled again: a row for each time that a message was given up or held.
ALTER TABLE monsal_failures RENAME TO monsal_former_failures;
CREATE TABLE monsal_failures(
    id INTEGER PRIMARY KEY AUTOINCREMENT,  -- in the order of the commits, never used again
    message INTEGER NOT NULL,
    status INTEGER NOT NULL,     -- what the message was by it: 1 held, 3 dead
    at REAL NOT NULL,
    reason TEXT NOT NULL,
    detail TEXT NOT NULL         -- tracebacks
) STRICT;
CREATE INDEX monsal_failures_message ON monsal_failures(message);
INSERT INTO monsal_failures(message, status, at, reason, detail)
SELECT f.id, s.status, f.at, coalesce(s.reason, ''), f.detail
FROM monsal_former_failures f JOIN monsal_spool s ON s.id = f.id WHERE s.status IN (1, 3) ORDER BY f.at;
DROP TABLE monsal_former_failures;

-- The try that was the last one counts, too.
UPDATE monsal_spool SET attempts = attempts + 1
WHERE status IN (1, 3) AND id IN (SELECT message FROM monsal_failures WHERE detail <> '');
