-- Capabilities that may be used once, and the message that used each. Kept some time longer than they are valid.
CREATE TABLE monsal_consumed(
    token TEXT PRIMARY KEY,
    message INTEGER NOT NULL,    -- the row of the spool that used it: its turns may use it again
    expires REAL NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX monsal_consumed_expires ON monsal_consumed(expires);

-- Held rows that stand aside until their correspondent confirms them. Each has a queue of its own meanwhile, so that
-- nobody who forges a sender keeps that sender's own mail waiting; lease_key is the queue that it goes back to.
CREATE TABLE monsal_aside(
    message INTEGER PRIMARY KEY,
    correspondent TEXT NOT NULL,
    lease_key TEXT NOT NULL,
    expires REAL NOT NULL
) STRICT;
CREATE INDEX monsal_aside_correspondent ON monsal_aside(correspondent);
CREATE INDEX monsal_aside_expires ON monsal_aside(expires);
