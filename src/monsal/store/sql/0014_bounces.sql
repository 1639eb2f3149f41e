-- What came back, and who is not written to any more. address: folded, as the key.

-- One row for each report about one recipient of a mail of ours; `message` is the report's row in the spool.
CREATE TABLE monsal_bounces(
    message INTEGER NOT NULL,
    address TEXT NOT NULL,
    token TEXT NOT NULL,         -- of our mail, as in monsal_outbox
    kind TEXT NOT NULL,          -- failure, delay, success, complaint
    hard INTEGER NOT NULL,
    reason TEXT NOT NULL,
    status TEXT NOT NULL,
    detail TEXT NOT NULL,
    at REAL NOT NULL,
    PRIMARY KEY (message, address)
) STRICT, WITHOUT ROWID;
CREATE INDEX monsal_bounces_address ON monsal_bounces(address, at);

CREATE TABLE monsal_suppressed(
    address TEXT PRIMARY KEY,
    reason TEXT NOT NULL,
    detail TEXT NOT NULL,
    since REAL NOT NULL,
    until REAL                   -- NULL: for good
) STRICT, WITHOUT ROWID;
