-- The counters of the ledger and of the outbox stand in the record that each group of operations writes anyway: one
-- statement and one page for all of them. ledger: for each source (engine/codes.py) accepted, done, waiting, held, dead,
-- dropped, duplicates. outbox: rows for each status. Both are JSON.
ALTER TABLE monsal_meta ADD COLUMN ledger TEXT NOT NULL DEFAULT '[]';
ALTER TABLE monsal_meta ADD COLUMN outbox TEXT NOT NULL DEFAULT '[]';
UPDATE monsal_meta SET
    ledger = (SELECT json_group_array(json_array(accepted, done, waiting, held, dead, dropped, duplicates))
              FROM (SELECT * FROM monsal_ledger ORDER BY source)),
    outbox = (SELECT json_group_array(rows) FROM (SELECT rows FROM monsal_outbox_counts ORDER BY status));
DROP VIEW v_ledger;
DROP TABLE monsal_ledger;
DROP TABLE monsal_outbox_counts;

CREATE VIEW v_ledger(source, accepted, done, waiting, running, held, dead, dropped, duplicates) AS
SELECT CASE l.key WHEN 0 THEN 'mail' WHEN 1 THEN 'timer' WHEN 2 THEN 'bounce' ELSE 'call' END,
       json_extract(l.value, '$[0]'), json_extract(l.value, '$[1]'), json_extract(l.value, '$[2]'), 0,
       json_extract(l.value, '$[3]'), json_extract(l.value, '$[4]'), json_extract(l.value, '$[5]'),
       json_extract(l.value, '$[6]')
FROM monsal_meta m, json_each(m.ledger) l;
