-- Lines of runs that are still there. A row: run, at, level, logger, message, task run id.
-- name: add
WITH e AS MATERIALIZED (SELECT value AS item FROM json_each(:rows))
INSERT INTO log (run, at, level, logger, message, task_run_id)
SELECT
    run.seq, json_extract(e.item, '$[1]'), json_extract(e.item, '$[2]'), json_extract(e.item, '$[3]'),
    json_extract(e.item, '$[4]'), json_extract(e.item, '$[5]')
FROM e CROSS JOIN run ON run.seq = json_extract(e.item, '$[0]');

-- name: of_run
SELECT json_group_array(json_array(number, run, run_id, at, level, logger, message, task_run_id))
FROM (
    SELECT log.number, log.run, run.id AS run_id, log.at, log.level, log.logger, log.message, log.task_run_id
    FROM log CROSS JOIN run ON run.seq = log.run
    WHERE log.run = :run AND log.number > :after AND log.level >= :level
    ORDER BY log.number LIMIT :limit OFFSET :offset
);

-- The last lines of a run, newest first.
-- name: tail_of_run
SELECT json_group_array(json_array(number, run, run_id, at, level, logger, message, task_run_id))
FROM (
    SELECT log.number, log.run, run.id AS run_id, log.at, log.level, log.logger, log.message, log.task_run_id
    FROM log CROSS JOIN run ON run.seq = log.run
    WHERE log.run = :run AND log.level >= :level
    ORDER BY log.number DESC LIMIT :limit
);

-- name: of_all
SELECT json_group_array(json_array(number, run, run_id, at, level, logger, message, task_run_id))
FROM (
    SELECT log.number, log.run, run.id AS run_id, log.at, log.level, log.logger, log.message, log.task_run_id
    FROM log CROSS JOIN run ON run.seq = log.run
    WHERE log.number > :after AND log.level >= :level
    ORDER BY log.number LIMIT :limit OFFSET :offset
);

-- name: last_number
SELECT ifnull(max(number), 0) FROM log;

-- name: count_of_run
SELECT count(*) FROM log WHERE run = :run AND level >= :level;
