-- The first layout. Times are seconds since 1970 UTC. Codes of status and source: engine/codes.py and the views below.
-- No foreign keys among these tables: every reference is written by one place in one transaction, and checking each
-- again at every turn would cost an index more for each of them.

CREATE TABLE monsal_meta(
    one INTEGER PRIMARY KEY CHECK (one = 1),
    secret BLOB NOT NULL,
    epoch INTEGER NOT NULL,      -- of the last opening
    flushed INTEGER NOT NULL,    -- number of the last group of operations: tells whether a failed COMMIT did succeed
    version INTEGER NOT NULL,    -- last version of a state; the ids below are the last ones given, never used again
    last_body INTEGER NOT NULL,
    last_row INTEGER NOT NULL,
    last_turn INTEGER NOT NULL,
    last_mail INTEGER NOT NULL
) STRICT;

-- A message, once however many rows point to it: its bytes, or the token of the file that holds them.
CREATE TABLE monsal_bodies(
    id INTEGER PRIMARY KEY,
    size INTEGER NOT NULL,
    raw BLOB,
    file TEXT
) STRICT;
CREATE INDEX monsal_bodies_file ON monsal_bodies(file) WHERE file IS NOT NULL;

-- What came in: one row for each recipient. status: 0 waiting, 1 held, 2 done, 3 dead, 4 dropped.
CREATE TABLE monsal_spool(
    id INTEGER PRIMARY KEY,
    lease_key TEXT NOT NULL,
    source INTEGER NOT NULL,
    status INTEGER NOT NULL,
    sender TEXT NOT NULL,
    correspondent TEXT NOT NULL,
    recipient TEXT NOT NULL,
    message_id TEXT,
    body INTEGER NOT NULL,
    received REAL NOT NULL,
    due REAL NOT NULL,
    attempts INTEGER NOT NULL,
    kills INTEGER NOT NULL,
    turns INTEGER NOT NULL,      -- rows of monsal_history that it has
    reason TEXT,
    dedup BLOB,                  -- hash of what makes a duplicate; NULL when it is too old to count
    envelope BLOB NOT NULL,
    target TEXT,                 -- the rest is of source timer
    state_key TEXT,
    state_sender TEXT,
    entered INTEGER
) STRICT;
CREATE INDEX monsal_spool_queue ON monsal_spool(lease_key) WHERE status < 2;
CREATE INDEX monsal_spool_body ON monsal_spool(body);
CREATE INDEX monsal_spool_dead ON monsal_spool(id) WHERE status = 3;
CREATE UNIQUE INDEX monsal_spool_dedup ON monsal_spool(dedup) WHERE dedup IS NOT NULL;

-- Tracebacks of dead and held rows.
CREATE TABLE monsal_failures(
    id INTEGER PRIMARY KEY,
    detail TEXT NOT NULL,
    at REAL NOT NULL
) STRICT;

CREATE TABLE monsal_states(
    key TEXT NOT NULL,
    sender TEXT NOT NULL,
    state TEXT NOT NULL,
    version INTEGER NOT NULL,
    entered INTEGER NOT NULL,
    since REAL NOT NULL,
    previous TEXT NOT NULL,      -- the state before, so that an ERROR can be resumed
    reason TEXT NOT NULL,
    message INTEGER,             -- the row whose turn made it; NULL when an operator did
    PRIMARY KEY (key, sender)
) STRICT, WITHOUT ROWID;

CREATE TABLE monsal_timers(
    key TEXT NOT NULL,
    sender TEXT NOT NULL,
    target TEXT NOT NULL,
    due REAL NOT NULL,
    entered INTEGER NOT NULL,
    recipient TEXT NOT NULL,
    correspondent TEXT NOT NULL,
    lease_key TEXT NOT NULL,
    envelope_sender TEXT NOT NULL,
    message_id TEXT,
    body INTEGER NOT NULL,
    envelope BLOB NOT NULL,
    PRIMARY KEY (key, sender, target)
) STRICT, WITHOUT ROWID;
CREATE INDEX monsal_timers_due ON monsal_timers(due);
CREATE INDEX monsal_timers_body ON monsal_timers(body);

CREATE TABLE monsal_history(
    id INTEGER PRIMARY KEY,
    message INTEGER NOT NULL,
    handler TEXT NOT NULL,
    stateful INTEGER NOT NULL,
    key TEXT NOT NULL,
    sender TEXT NOT NULL,
    before TEXT NOT NULL,
    after TEXT NOT NULL,
    note TEXT NOT NULL,
    at REAL NOT NULL,
    epoch INTEGER NOT NULL,      -- epoch and counter: the fence of the lease that committed it
    counter INTEGER NOT NULL,
    UNIQUE (message, handler)
) STRICT;

-- What goes out: one row for each recipient. status: 0 waiting, 1 deferred, 2 sent, 3 failed. mail is the body's id.
CREATE TABLE monsal_outbox(
    id INTEGER PRIMARY KEY,
    turn INTEGER NOT NULL,       -- 0 for a mail that no turn made (the bounce of a refusal)
    message INTEGER NOT NULL,    -- the row that was handled
    mail INTEGER NOT NULL,
    token TEXT NOT NULL,
    message_id TEXT NOT NULL,
    sender TEXT NOT NULL,
    recipient TEXT NOT NULL,
    status INTEGER NOT NULL,
    attempts INTEGER NOT NULL,
    due REAL NOT NULL,
    reason TEXT NOT NULL,
    created REAL NOT NULL
) STRICT;
CREATE INDEX monsal_outbox_due ON monsal_outbox(due) WHERE status < 2;
CREATE INDEX monsal_outbox_failed ON monsal_outbox(id) WHERE status = 3;
CREATE INDEX monsal_outbox_mail ON monsal_outbox(mail);
CREATE INDEX monsal_outbox_token ON monsal_outbox(token);

-- Counters, changed in the same transactions as the rows they count; pruning does not move them.
CREATE TABLE monsal_ledger(
    source INTEGER PRIMARY KEY,
    accepted INTEGER NOT NULL DEFAULT 0,
    done INTEGER NOT NULL DEFAULT 0,
    waiting INTEGER NOT NULL DEFAULT 0,
    held INTEGER NOT NULL DEFAULT 0,
    dead INTEGER NOT NULL DEFAULT 0,
    dropped INTEGER NOT NULL DEFAULT 0,
    duplicates INTEGER NOT NULL DEFAULT 0
) STRICT;
INSERT INTO monsal_ledger(source) VALUES (0), (1), (2), (3);

CREATE TABLE monsal_outbox_counts(
    status INTEGER PRIMARY KEY,
    rows INTEGER NOT NULL DEFAULT 0
) STRICT;
INSERT INTO monsal_outbox_counts(status) VALUES (0), (1), (2), (3);

-- What others may rely on (docs/interface.md). A row that runs counts as waiting here: leases are not on the disk.
-- A row of source timer is no message: it has no Message-ID here, though it has the body of the one that set it.
CREATE VIEW v_ledger(source, accepted, done, waiting, running, held, dead, dropped, duplicates) AS
SELECT CASE source WHEN 0 THEN 'mail' WHEN 1 THEN 'timer' WHEN 2 THEN 'bounce' ELSE 'call' END,
       accepted, done, waiting, 0, held, dead, dropped, duplicates
FROM monsal_ledger;

CREATE VIEW v_turns(id, message, message_id, recipient, sender, handler, key, state_before, state_after, at) AS
SELECT h.id, h.message, CASE s.source WHEN 1 THEN NULL ELSE s.message_id END, s.recipient, s.correspondent,
       h.handler, h.key, h.before, h.after, h.at
FROM monsal_history h LEFT JOIN monsal_spool s ON s.id = h.message;

CREATE VIEW v_states(key, sender, state, version, since) AS
SELECT key, sender, state, version, since FROM monsal_states;

CREATE VIEW v_outbox(id, turn, message_id, sender, recipient, status, attempts, due, reason) AS
SELECT id, turn, message_id, sender, recipient,
       CASE status WHEN 0 THEN 'waiting' WHEN 1 THEN 'deferred' WHEN 2 THEN 'sent' ELSE 'failed' END,
       attempts, due, reason
FROM monsal_outbox;

CREATE VIEW v_messages(id, message_id, sender, recipient, status, received) AS
SELECT id, CASE source WHEN 1 THEN NULL ELSE message_id END, sender, recipient,
       CASE status WHEN 0 THEN 'waiting' WHEN 1 THEN 'held' WHEN 2 THEN 'done' WHEN 3 THEN 'dead' ELSE 'dropped' END,
       received
FROM monsal_spool;
