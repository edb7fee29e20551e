-- Events of runs that are still there. A row: run, at, occurred, event, about.
-- name: add
WITH e AS MATERIALIZED (SELECT value AS item FROM json_each(:rows))
INSERT INTO emitted (run, at, occurred, event, about)
SELECT
    run.seq, json_extract(e.item, '$[1]'), json_extract(e.item, '$[2]'), json_extract(e.item, '$[3]'),
    json_extract(e.item, '$[4]')
FROM e CROSS JOIN run ON run.seq = json_extract(e.item, '$[0]');
