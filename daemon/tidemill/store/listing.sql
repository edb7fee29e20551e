-- Lists of runs. Every statement answers row numbers, or pairs of expected start and row number, as one JSON text.
--
-- Which statement is taken is decided in listing.py by counting, up to a bound, what each condition alone leaves over.
-- `gather_…` looks at all that one condition leaves over and sorts; `walk_…` goes along an index in the order wanted
-- until the page is full; `skim_…` does so where the index alone answers. INDEXED BY pins the plan: with a million runs
-- another one is a hundred times slower. Every way answers in one order, so that a page goes on where the last one ended.

-- The conditions; a NULL parameter is none.
-- fragment: conditions
(:ids IS NULL OR run.id IN (SELECT value FROM json_each(:ids)))
    AND (:names IS NULL OR run.name IN (SELECT value FROM json_each(:names)))
    AND (:like IS NULL OR run.name LIKE :like ESCAPE '\' OR (run.id >= :text AND run.id < :text_end))
    AND (:routes IS NULL OR run.route IN (SELECT value FROM json_each(:routes)))
    AND (:types IS NULL OR run.state_type IN (SELECT value FROM json_each(:types)))
    AND (
        :plain_types IS NULL
        OR (run.state_name IS NULL AND run.state_type IN (SELECT value FROM json_each(:plain_types)))
        OR run.state_name IN (SELECT value FROM json_each(:state_names))
    )
    AND (
        :tags IS NULL
        OR NOT EXISTS (
            SELECT 1 FROM json_each(:tags) AS wanted
            WHERE NOT EXISTS (SELECT 1 FROM run_tag WHERE run_tag.tag = wanted.value AND run_tag.run = run.seq)
        )
    )
    AND (:start_from IS NULL OR run.start_time >= :start_from)
    AND (:start_to IS NULL OR run.start_time <= :start_to)
    AND (:end_from IS NULL OR run.end_time >= :end_from)
    AND (:end_to IS NULL OR run.end_time <= :end_to)

-- fragment: expected
run.expected_start BETWEEN :expected_from AND :expected_to

-- fragment: sorted
ORDER BY
    CASE :sort
        WHEN 'EXPECTED_START_TIME_ASC' THEN run.expected_start
        WHEN 'START_TIME_ASC' THEN run.start_time
        WHEN 'NAME_ASC' THEN run.name
    END,
    CASE :sort
        WHEN 'EXPECTED_START_TIME_DESC' THEN run.expected_start
        WHEN 'START_TIME_DESC' THEN run.start_time
        WHEN 'END_TIME_DESC' THEN run.end_time
        WHEN 'NAME_DESC' THEN run.name
        WHEN 'ID_DESC' THEN run.id
    END DESC,
    iif(:sort IN ('EXPECTED_START_TIME_ASC', 'START_TIME_ASC', 'NAME_ASC'), run.seq, -run.seq)
LIMIT :limit OFFSET :offset

-- Numbers of the routes that lead through these deployments, flows, queues and pools.
-- name: routes
SELECT json_group_array(number)
FROM route
WHERE (:deployments IS NULL OR deployment IN (SELECT value FROM json_each(:deployments)))
    AND (:flows IS NULL OR flow IN (SELECT value FROM json_each(:flows)))
    AND (:work_queues IS NULL OR work_queue IN (SELECT value FROM json_each(:work_queues)))
    AND (:work_pools IS NULL OR work_pool IN (SELECT value FROM json_each(:work_pools)));

-- The names that have a part, among the first so many distinct ones, and how many were looked at: from one name to the
-- next by the index, as many runs share a name.
-- name: names_like
WITH RECURSIVE distinct_name (name) AS (
    SELECT min(name) FROM run
    UNION ALL
    SELECT (SELECT min(run.name) FROM run WHERE run.name > distinct_name.name)
    FROM distinct_name WHERE distinct_name.name IS NOT NULL
    LIMIT :bound
)
SELECT json_array(count(*), json_group_array(name) FILTER (WHERE name LIKE :like ESCAPE '\')) FROM distinct_name;

-- How many runs a condition alone leaves over, up to a bound.
-- name: count_ids
SELECT json_array_length(:ids);

-- name: count_names
SELECT count(*) FROM (
    SELECT 1 FROM json_each(:names) AS e CROSS JOIN run INDEXED BY run_name ON run.name = e.value LIMIT :bound
);

-- name: count_text
SELECT count(*) FROM (
    SELECT 1 FROM (
        SELECT 1 FROM json_each(:text_names) AS e CROSS JOIN run INDEXED BY run_name ON run.name = e.value LIMIT :bound
    )
    UNION ALL
    SELECT 1 FROM (SELECT 1 FROM run INDEXED BY run_id WHERE id >= :text AND id < :text_end LIMIT :bound)
);

-- name: count_tags
SELECT count(*) FROM (SELECT 1 FROM run_tag WHERE tag = :tag LIMIT :bound);

-- name: count_routes
SELECT count(*) FROM (
    SELECT 1 FROM json_each(:routes) AS e CROSS JOIN run INDEXED BY run_route ON run.route = e.value AND {expected}
    LIMIT :bound
);

-- name: count_types
SELECT count(*) FROM (
    SELECT 1 FROM json_each(:types) AS e CROSS JOIN run INDEXED BY run_state ON run.state_type = e.value AND {expected}
    LIMIT :bound
);

-- name: count_state_names
SELECT count(*) FROM (
    SELECT 1 FROM (
        SELECT 1 FROM json_each(:state_names) AS e
        CROSS JOIN run INDEXED BY run_state_name ON run.state_name = e.value AND {expected} LIMIT :bound
    )
    UNION ALL
    SELECT 1 FROM (
        SELECT 1 FROM json_each(:plain_types) AS e
        CROSS JOIN run INDEXED BY run_state ON run.state_type = e.value AND {expected} LIMIT :bound
    )
);

-- name: count_start
SELECT count(*) FROM (
    SELECT 1 FROM run INDEXED BY run_start
    WHERE start_time >= ifnull(:start_from, 0) AND start_time <= ifnull(:start_to, 9e18) LIMIT :bound
);

-- name: count_end
SELECT count(*) FROM (
    SELECT 1 FROM run INDEXED BY run_end
    WHERE end_time >= ifnull(:end_from, 0) AND end_time <= ifnull(:end_to, 9e18) LIMIT :bound
);

-- name: count_expected
SELECT count(*) FROM (SELECT 1 FROM run INDEXED BY run_expected WHERE {expected} LIMIT :bound);

-- name: gather_ids
SELECT json_group_array(seq) FROM (
    SELECT run.seq FROM json_each(:ids) AS e CROSS JOIN run INDEXED BY run_id ON run.id = e.value
    WHERE {expected} AND {conditions} {sorted}
);

-- name: gather_names
SELECT json_group_array(seq) FROM (
    SELECT run.seq FROM json_each(:names) AS e CROSS JOIN run INDEXED BY run_name ON run.name = e.value
    WHERE {expected} AND {conditions} {sorted}
);

-- name: gather_text
SELECT json_group_array(seq) FROM (
    SELECT run.seq
    FROM (
        SELECT run.seq AS found
        FROM json_each(:text_names) AS e CROSS JOIN run INDEXED BY run_name ON run.name = e.value
        UNION
        SELECT seq FROM run INDEXED BY run_id WHERE id >= :text AND id < :text_end
    )
    CROSS JOIN run ON run.seq = found
    WHERE {expected} AND {conditions} {sorted}
);

-- name: gather_tags
SELECT json_group_array(seq) FROM (
    SELECT run.seq FROM run_tag CROSS JOIN run ON run.seq = run_tag.run
    WHERE run_tag.tag = :tag AND {expected} AND {conditions} {sorted}
);

-- name: gather_routes
SELECT json_group_array(seq) FROM (
    SELECT run.seq FROM json_each(:routes) AS e CROSS JOIN run INDEXED BY run_route ON run.route = e.value
    WHERE {expected} AND {conditions} {sorted}
);

-- name: gather_types
SELECT json_group_array(seq) FROM (
    SELECT run.seq FROM json_each(:types) AS e CROSS JOIN run INDEXED BY run_state ON run.state_type = e.value
    WHERE {expected} AND {conditions} {sorted}
);

-- name: gather_state_names
SELECT json_group_array(seq) FROM (
    SELECT run.seq
    FROM (
        SELECT run.seq AS found FROM json_each(:state_names) AS e
        CROSS JOIN run INDEXED BY run_state_name ON run.state_name = e.value AND {expected}
        UNION
        SELECT run.seq FROM json_each(:plain_types) AS e
        CROSS JOIN run INDEXED BY run_state ON run.state_type = e.value AND {expected}
    )
    CROSS JOIN run ON run.seq = found
    WHERE {conditions} {sorted}
);

-- name: gather_start
SELECT json_group_array(seq) FROM (
    SELECT run.seq FROM run INDEXED BY run_start
    WHERE run.start_time >= ifnull(:start_from, 0) AND run.start_time <= ifnull(:start_to, 9e18)
        AND {expected} AND {conditions} {sorted}
);

-- name: gather_end
SELECT json_group_array(seq) FROM (
    SELECT run.seq FROM run INDEXED BY run_end
    WHERE run.end_time >= ifnull(:end_from, 0) AND run.end_time <= ifnull(:end_to, 9e18)
        AND {expected} AND {conditions} {sorted}
);

-- name: gather_expected
SELECT json_group_array(seq) FROM (
    SELECT run.seq FROM run INDEXED BY run_expected WHERE {expected} AND {conditions} {sorted}
);

-- Along one state type.
-- name: walk_type_desc
SELECT json_group_array(json_array(expected_start, seq)) FROM (
    SELECT run.expected_start, run.seq FROM run INDEXED BY run_state
    WHERE run.state_type = :along AND {expected} AND {conditions}
    ORDER BY run.expected_start DESC, run.seq DESC LIMIT :limit OFFSET :offset
);

-- name: walk_type_asc
SELECT json_group_array(json_array(expected_start, seq)) FROM (
    SELECT run.expected_start, run.seq FROM run INDEXED BY run_state
    WHERE run.state_type = :along AND {expected} AND {conditions}
    ORDER BY run.expected_start, run.seq LIMIT :limit OFFSET :offset
);

-- Along one of the state names that are not their type's plain one.
-- name: walk_state_name_desc
SELECT json_group_array(json_array(expected_start, seq)) FROM (
    SELECT run.expected_start, run.seq FROM run INDEXED BY run_state_name
    WHERE run.state_name = :along AND {expected} AND {conditions}
    ORDER BY run.expected_start DESC, run.seq DESC LIMIT :limit OFFSET :offset
);

-- name: walk_state_name_asc
SELECT json_group_array(json_array(expected_start, seq)) FROM (
    SELECT run.expected_start, run.seq FROM run INDEXED BY run_state_name
    WHERE run.state_name = :along AND {expected} AND {conditions}
    ORDER BY run.expected_start, run.seq LIMIT :limit OFFSET :offset
);

-- Along one route.
-- name: walk_route_desc
SELECT json_group_array(json_array(expected_start, seq)) FROM (
    SELECT run.expected_start, run.seq FROM run INDEXED BY run_route
    WHERE run.route = :along AND {expected} AND {conditions}
    ORDER BY run.expected_start DESC, run.seq DESC LIMIT :limit OFFSET :offset
);

-- name: walk_route_asc
SELECT json_group_array(json_array(expected_start, seq)) FROM (
    SELECT run.expected_start, run.seq FROM run INDEXED BY run_route
    WHERE run.route = :along AND {expected} AND {conditions}
    ORDER BY run.expected_start, run.seq LIMIT :limit OFFSET :offset
);

-- Along everything, in each of the orders.
-- name: walk_EXPECTED_START_TIME_DESC
SELECT json_group_array(seq) FROM (
    SELECT run.seq FROM run INDEXED BY run_expected WHERE {expected} AND {conditions}
    ORDER BY run.expected_start DESC, run.seq DESC LIMIT :limit OFFSET :offset
);

-- name: walk_EXPECTED_START_TIME_ASC
SELECT json_group_array(seq) FROM (
    SELECT run.seq FROM run INDEXED BY run_expected WHERE {expected} AND {conditions}
    ORDER BY run.expected_start, run.seq LIMIT :limit OFFSET :offset
);

-- name: walk_START_TIME_DESC
SELECT json_group_array(seq) FROM (
    SELECT run.seq FROM run INDEXED BY run_start WHERE {expected} AND {conditions}
    ORDER BY run.start_time DESC, run.seq DESC LIMIT :limit OFFSET :offset
);

-- name: walk_START_TIME_ASC
SELECT json_group_array(seq) FROM (
    SELECT run.seq FROM run INDEXED BY run_start WHERE {expected} AND {conditions}
    ORDER BY run.start_time, run.seq LIMIT :limit OFFSET :offset
);

-- name: walk_END_TIME_DESC
SELECT json_group_array(seq) FROM (
    SELECT run.seq FROM run INDEXED BY run_end WHERE {expected} AND {conditions}
    ORDER BY run.end_time DESC, run.seq DESC LIMIT :limit OFFSET :offset
);

-- name: walk_NAME_ASC
SELECT json_group_array(seq) FROM (
    SELECT run.seq FROM run INDEXED BY run_name WHERE {expected} AND {conditions}
    ORDER BY run.name, run.seq LIMIT :limit OFFSET :offset
);

-- name: walk_NAME_DESC
SELECT json_group_array(seq) FROM (
    SELECT run.seq FROM run INDEXED BY run_name WHERE {expected} AND {conditions}
    ORDER BY run.name DESC, run.seq DESC LIMIT :limit OFFSET :offset
);

-- name: walk_ID_DESC
SELECT json_group_array(seq) FROM (
    SELECT run.seq FROM run INDEXED BY run_id WHERE {expected} AND {conditions}
    ORDER BY run.id DESC LIMIT :limit OFFSET :offset
);

-- The same where nothing else is asked for.
-- name: skim_type_desc
SELECT json_group_array(json_array(expected_start, seq)) FROM (
    SELECT run.expected_start, run.seq FROM run INDEXED BY run_state
    WHERE run.state_type = :along AND {expected}
    ORDER BY run.expected_start DESC, run.seq DESC LIMIT :limit OFFSET :offset
);

-- name: skim_type_asc
SELECT json_group_array(json_array(expected_start, seq)) FROM (
    SELECT run.expected_start, run.seq FROM run INDEXED BY run_state
    WHERE run.state_type = :along AND {expected}
    ORDER BY run.expected_start, run.seq LIMIT :limit OFFSET :offset
);

-- name: skim_route_desc
SELECT json_group_array(json_array(expected_start, seq)) FROM (
    SELECT run.expected_start, run.seq FROM run INDEXED BY run_route
    WHERE run.route = :along AND {expected}
    ORDER BY run.expected_start DESC, run.seq DESC LIMIT :limit OFFSET :offset
);

-- name: skim_route_asc
SELECT json_group_array(json_array(expected_start, seq)) FROM (
    SELECT run.expected_start, run.seq FROM run INDEXED BY run_route
    WHERE run.route = :along AND {expected}
    ORDER BY run.expected_start, run.seq LIMIT :limit OFFSET :offset
);

-- name: skim_EXPECTED_START_TIME_DESC
SELECT json_group_array(seq) FROM (
    SELECT run.seq FROM run INDEXED BY run_expected WHERE {expected}
    ORDER BY run.expected_start DESC, run.seq DESC LIMIT :limit OFFSET :offset
);

-- name: skim_EXPECTED_START_TIME_ASC
SELECT json_group_array(seq) FROM (
    SELECT run.seq FROM run INDEXED BY run_expected WHERE {expected}
    ORDER BY run.expected_start, run.seq LIMIT :limit OFFSET :offset
);

-- How many of each state type and name, over row numbers.
-- name: states_of
SELECT json_group_array(json_array(state_type, state_name, n)) FROM (
    SELECT run.state_type, run.state_name, count(*) AS n
    FROM json_each(:seqs) AS e CROSS JOIN run ON run.seq = e.value
    GROUP BY run.state_type, run.state_name
);

-- How many of one state type fit, whatever their name.
-- name: count_along
SELECT count(*) FROM run INDEXED BY run_state WHERE run.state_type = :along AND {expected} AND {conditions};

-- The same where nothing is asked for but the type.
-- name: skim_count
SELECT count(*) FROM run INDEXED BY run_state WHERE run.state_type = :along AND {expected};

-- The same where nothing is asked for but the type and the route.
-- name: skim_count_routes
SELECT count(*) FROM run INDEXED BY run_state
WHERE run.state_type = :along AND {expected} AND run.route IN (SELECT value FROM json_each(:routes));

-- How many of each type fit that do not go by its plain name.
-- name: named_states
SELECT json_group_array(json_array(state_type, state_name, n)) FROM (
    SELECT run.state_type, run.state_name, count(*) AS n FROM run INDEXED BY run_state_name
    WHERE run.state_name IS NOT NULL AND {expected} AND {conditions}
    GROUP BY run.state_type, run.state_name
);

-- The same where nothing is asked for but the route.
-- name: skim_named_states
SELECT json_group_array(json_array(state_type, state_name, n)) FROM (
    SELECT run.state_type, run.state_name, count(*) AS n FROM run INDEXED BY run_state_name
    WHERE run.state_name IS NOT NULL AND {expected}
        AND (:routes IS NULL OR run.route IN (SELECT value FROM json_each(:routes)))
    GROUP BY run.state_type, run.state_name
);

-- The same of names that are known.
-- name: skim_known_names
SELECT json_group_array(json_array(state_type, state_name, n)) FROM (
    SELECT run.state_type, run.state_name, count(*) AS n
    FROM json_each(:known) AS e CROSS JOIN run INDEXED BY run_state_name ON run.state_name = e.value AND {expected}
    WHERE :routes IS NULL OR run.route IN (SELECT value FROM json_each(:routes))
    GROUP BY run.state_type, run.state_name
);

-- Numbers of the routes that are not asked for.
-- name: other_routes
SELECT json_group_array(number) FROM route WHERE number NOT IN (SELECT value FROM json_each(:routes));

-- How many runs there are: all, in a stretch of time, on routes.
-- name: total
SELECT count(*) FROM run;

-- name: total_expected
SELECT count(*) FROM run INDEXED BY run_expected WHERE {expected};

-- name: total_routes
SELECT count(*) FROM json_each(:routes) AS e CROSS JOIN run INDEXED BY run_route ON run.route = e.value AND {expected};

-- By the end of an id, whose beginning is time and the same for all runs of a moment, among the newest so many.
-- name: by_id_end
SELECT json_group_array(seq) FROM (
    SELECT seq FROM (SELECT seq, id FROM run INDEXED BY run_id ORDER BY id DESC LIMIT :among)
    WHERE substr(id, -length(:end)) = :end LIMIT :limit
);
