-- The first schema. Instants are microseconds since 1970 (UTC). Numbers for state types are those of store/history.py:
-- 0 SCHEDULED, 1 PENDING, 2 RUNNING, 3 PAUSED, 4 CANCELLING, 5 COMPLETED, 6 FAILED, 7 CRASHED, 8 CANCELLED.

-- One row: which instance this database belongs to, and when its daemon was last seen alive.
CREATE TABLE instance (
    only       INTEGER PRIMARY KEY CHECK (only = 1),
    id         TEXT NOT NULL CHECK (length(id) = 36),
    created    INTEGER NOT NULL,
    last_alive INTEGER
) STRICT;

-- What a run executes and where it waits. Few and small, so that a run holds one number for the four names.
CREATE TABLE route (
    number     INTEGER PRIMARY KEY,
    flow       TEXT NOT NULL,
    deployment TEXT,
    work_pool  TEXT NOT NULL,
    work_queue TEXT NOT NULL
) STRICT;

CREATE UNIQUE INDEX route_once ON route (ifnull(deployment, ''), flow, work_queue, work_pool);

-- A deployment's schedule, the last due time of it that was dealt with, and a digest of what its runs were planned as.
CREATE TABLE schedule (
    number     INTEGER PRIMARY KEY,
    deployment TEXT NOT NULL,
    identity   TEXT NOT NULL,
    last_due   INTEGER,
    planned_as TEXT,
    UNIQUE (deployment, identity)
) STRICT;

-- Who took a run: boot ids of daemons.
CREATE TABLE owner (
    number INTEGER PRIMARY KEY,
    name   TEXT NOT NULL UNIQUE
) STRICT;

-- A run. What is usual is NULL: no parameters, no tags, the state type's plain name, made by its schedule.
-- The present state's timestamp, message and data are those of history (seq, state_number).
CREATE TABLE run (
    seq             INTEGER PRIMARY KEY,
    id              TEXT NOT NULL CHECK (length(id) = 36),
    name            TEXT NOT NULL,
    route           INTEGER NOT NULL,
    schedule        INTEGER,
    due             INTEGER,
    expected_start  INTEGER NOT NULL,
    state_type      INTEGER NOT NULL CHECK (state_type BETWEEN 0 AND 8),
    state_name      TEXT CHECK (state_name <> ''),
    state_number    INTEGER NOT NULL DEFAULT 1 CHECK (state_number >= 1),
    attempt         INTEGER NOT NULL DEFAULT 0 CHECK (attempt >= 0),
    retries_used    INTEGER NOT NULL DEFAULT 0 CHECK (retries_used >= 0),
    owner           INTEGER,
    created         INTEGER NOT NULL,
    created_by      TEXT,
    start_time      INTEGER,
    end_time        INTEGER,
    run_time        INTEGER NOT NULL DEFAULT 0 CHECK (run_time >= 0),
    parameters      TEXT,
    tags            TEXT,
    idempotency_key TEXT,
    -- Of a subflow, or of a run that a run asked for: whose it is. It may be gone before.
    parent_run_id      TEXT,
    parent_task_run_id TEXT
) STRICT;

CREATE UNIQUE INDEX run_id ON run (id);
-- One run per (deployment, schedule, due), never two. A schedule's number stands for its deployment too.
CREATE UNIQUE INDEX run_fire ON run (schedule, due) WHERE schedule IS NOT NULL;
CREATE UNIQUE INDEX run_idempotency ON run (idempotency_key) WHERE idempotency_key IS NOT NULL;
-- What waits, what is unfinished, lists and counts by state. `seq` keeps the order of lists for runs that are expected at
-- one instant; the route behind it saves looking at rows that do not fit.
CREATE INDEX run_state ON run (state_type, expected_start, seq, route);
-- Late, TimedOut, Skipped and the like.
CREATE INDEX run_state_name ON run (state_name, expected_start, seq, state_type, route) WHERE state_name IS NOT NULL;
CREATE INDEX run_route ON run (route, expected_start);
CREATE INDEX run_expected ON run (expected_start);
CREATE INDEX run_start ON run (start_time);
CREATE INDEX run_end ON run (end_time);
CREATE INDEX run_name ON run (name);
CREATE INDEX run_parent ON run (parent_run_id) WHERE parent_run_id IS NOT NULL;

-- Every state a run was in, by number from 1. `before` is the type of the state before it, NULL for the first.
-- The CHECK is core/states.py's FOLLOWS: bit n of a mask allows type n. A finished run goes back to SCHEDULED only.
CREATE TABLE history (
    run     INTEGER NOT NULL,
    number  INTEGER NOT NULL CHECK (number >= 1),
    before  INTEGER CHECK ((before IS NULL) = (number = 1)),
    type    INTEGER NOT NULL CHECK (type BETWEEN 0 AND 8),
    name    TEXT CHECK (name <> ''),
    at      INTEGER NOT NULL,
    message TEXT,
    data    TEXT,
    PRIMARY KEY (run, number),
    CONSTRAINT follows CHECK (
        (CASE before
            WHEN 0 THEN 259 -- SCHEDULED: SCHEDULED PENDING CANCELLED
            WHEN 1 THEN 469 -- PENDING: SCHEDULED RUNNING CANCELLING FAILED CRASHED CANCELLED
            WHEN 2 THEN 505 -- RUNNING: SCHEDULED PAUSED CANCELLING COMPLETED FAILED CRASHED CANCELLED
            WHEN 3 THEN 469 -- PAUSED: SCHEDULED RUNNING CANCELLING FAILED CRASHED CANCELLED
            WHEN 4 THEN 384 -- CANCELLING: CRASHED CANCELLED
            WHEN 5 THEN 1
            WHEN 6 THEN 1
            WHEN 7 THEN 1
            WHEN 8 THEN 1
            ELSE 259 -- being made: SCHEDULED PENDING CANCELLED
        END >> type) & 1
    )
) STRICT, WITHOUT ROWID;

-- Tags of runs, for lists by tag. The tags themselves, in order, are in run.tags.
CREATE TABLE run_tag (
    tag TEXT NOT NULL,
    run INTEGER NOT NULL,
    PRIMARY KEY (tag, run)
) STRICT, WITHOUT ROWID;

-- Fires of a schedule that made no run, and why.
CREATE TABLE skipped_fire (
    number     INTEGER PRIMARY KEY,
    deployment TEXT NOT NULL,
    schedule   TEXT NOT NULL,
    first      INTEGER NOT NULL,
    last       INTEGER NOT NULL CHECK (last >= first),
    count      INTEGER NOT NULL CHECK (count >= 1),
    exact      INTEGER NOT NULL CHECK (exact IN (0, 1)),
    reason     TEXT NOT NULL,
    at         INTEGER NOT NULL
) STRICT;

CREATE INDEX skipped_fire_deployment ON skipped_fire (deployment, number);

CREATE TABLE task_run (
    number         INTEGER PRIMARY KEY,
    id             TEXT NOT NULL CHECK (length(id) = 36),
    run            INTEGER NOT NULL,
    name           TEXT NOT NULL,
    task_key       TEXT NOT NULL,
    dynamic_key    TEXT NOT NULL,
    state_type     INTEGER NOT NULL CHECK (state_type BETWEEN 0 AND 8),
    state_name     TEXT CHECK (state_name <> ''),
    state_at       INTEGER NOT NULL,
    state_message  TEXT,
    state_data     TEXT,
    state_number   INTEGER NOT NULL CHECK (state_number >= 1),
    attempt        INTEGER NOT NULL CHECK (attempt >= 0),
    tags           TEXT,
    created        INTEGER NOT NULL,
    expected_start INTEGER,
    start_time     INTEGER,
    end_time       INTEGER,
    run_time       INTEGER NOT NULL CHECK (run_time >= 0),
    cache_key      TEXT
) STRICT;

CREATE UNIQUE INDEX task_run_id ON task_run (id);
CREATE INDEX task_run_of_run ON task_run (run);

-- Results of tasks, to be found again by a key that the task's code made. `expires` NULL: never.
CREATE TABLE task_cache (
    number  INTEGER PRIMARY KEY,
    key     TEXT NOT NULL UNIQUE,
    value   TEXT NOT NULL,
    created INTEGER NOT NULL,
    expires INTEGER
) STRICT;

CREATE INDEX task_cache_created ON task_cache (created);
CREATE INDEX task_cache_expires ON task_cache (expires) WHERE expires IS NOT NULL;

-- Lines that runs printed or logged, in the order they were written. `logger` NULL is "print".
CREATE TABLE log (
    number      INTEGER PRIMARY KEY,
    run         INTEGER NOT NULL,
    at          INTEGER NOT NULL,
    level       INTEGER NOT NULL CHECK (level >= 0),
    logger      TEXT,
    message     TEXT NOT NULL,
    task_run_id TEXT
) STRICT;

CREATE INDEX log_of_run ON log (run);

-- What the daemon said of itself. `logger` NULL is "tidemill"; `fields` is JSON, NULL for none.
CREATE TABLE daemon_log (
    number     INTEGER PRIMARY KEY,
    at         INTEGER NOT NULL,
    level      INTEGER NOT NULL CHECK (level >= 0),
    logger     TEXT,
    event      TEXT CHECK (event <> ''),
    deployment TEXT,
    message    TEXT NOT NULL,
    fields     TEXT
) STRICT;

CREATE INDEX daemon_log_event ON daemon_log (event, at) WHERE event IS NOT NULL;

-- Processes that attempts started and that have not ended as far as is known: what a daemon that died leaves behind.
-- `birth` is in clock ticks since the boot of that id: a pid is given out again.
CREATE TABLE process (
    run     INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    pid     INTEGER NOT NULL,
    birth   INTEGER NOT NULL,
    boot_id TEXT NOT NULL,
    PRIMARY KEY (run, attempt, pid)
) STRICT, WITHOUT ROWID;

-- JSON documents by key and version. They outlive their run.
CREATE TABLE artifact (
    number      INTEGER PRIMARY KEY,
    id          TEXT NOT NULL UNIQUE CHECK (length(id) = 36),
    key         TEXT,
    version     INTEGER NOT NULL CHECK (version >= 1),
    type        TEXT NOT NULL,
    text        TEXT NOT NULL,
    description TEXT,
    run_id      TEXT,
    task_run_id TEXT,
    deployment  TEXT,
    created     INTEGER NOT NULL
) STRICT;

CREATE UNIQUE INDEX artifact_version ON artifact (key, version) WHERE key IS NOT NULL;
CREATE INDEX artifact_of_run ON artifact (run_id) WHERE run_id IS NOT NULL;
CREATE INDEX artifact_keyless ON artifact (created) WHERE key IS NULL;

-- What the configuration last stated, secrets as references; `gone` since when it no longer does.
CREATE TABLE catalogue (
    kind     TEXT NOT NULL CHECK (
        kind IN ('deployment', 'work_queue', 'work_pool', 'concurrency_limit', 'block', 'automation')
    ),
    name     TEXT NOT NULL,
    id       TEXT NOT NULL UNIQUE CHECK (length(id) = 36),
    document TEXT NOT NULL,
    created  INTEGER NOT NULL,
    updated  INTEGER NOT NULL,
    gone     INTEGER,
    PRIMARY KEY (kind, name)
) STRICT, WITHOUT ROWID;

-- What a person set by hand over the configuration's word. Values are JSON.
CREATE TABLE override (
    kind       TEXT NOT NULL,
    name       TEXT NOT NULL,
    key        TEXT NOT NULL,
    value      TEXT NOT NULL,
    file_value TEXT,
    at         INTEGER NOT NULL,
    by         TEXT NOT NULL,
    PRIMARY KEY (kind, name, key)
) STRICT, WITHOUT ROWID;

-- A variable's value set at runtime, and the configuration's own; the first holds while the second stays as it is.
CREATE TABLE variable (
    name       TEXT PRIMARY KEY,
    value      TEXT,
    file_value TEXT,
    tags       TEXT,
    created    INTEGER NOT NULL,
    updated    INTEGER NOT NULL,
    CHECK (value IS NOT NULL OR file_value IS NOT NULL)
) STRICT, WITHOUT ROWID;

-- What people are still to be told, by channel. `document` is core/notices.py's Waiting.
CREATE TABLE notice (
    number   INTEGER PRIMARY KEY,
    id       TEXT NOT NULL UNIQUE CHECK (length(id) = 36),
    channel  TEXT NOT NULL,
    at       INTEGER NOT NULL,
    document TEXT NOT NULL
) STRICT;

-- What fails and has not recovered: a deployment's name or another subject. `document` is core/incidents.py's Incident.
CREATE TABLE incident (
    subject  TEXT PRIMARY KEY,
    document TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- Up to when the ends of runs have been heard by who tells people: what ended since is heard at the next start.
CREATE TABLE heard (
    only INTEGER PRIMARY KEY CHECK (only = 1),
    at   INTEGER NOT NULL
) STRICT;

-- Since when an automation counts, and a digest of its condition: another one starts anew.
CREATE TABLE automation (
    name   TEXT PRIMARY KEY,
    digest TEXT NOT NULL,
    since  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- That an automation acts on a cause, once; `finished` NULL: something of it is still to be done. `occurred` is the
-- cause's own instant. `document` is core/automations.py's Fire.
CREATE TABLE automation_fire (
    number     INTEGER PRIMARY KEY,
    automation TEXT NOT NULL,
    cause      TEXT NOT NULL,
    deployment TEXT,
    occurred   INTEGER NOT NULL,
    at         INTEGER NOT NULL,
    finished   INTEGER,
    document   TEXT NOT NULL
) STRICT;

CREATE UNIQUE INDEX automation_fire_once ON automation_fire (automation, cause);
CREATE INDEX automation_fire_of ON automation_fire (automation, number);
CREATE INDEX automation_fire_open ON automation_fire (number) WHERE finished IS NULL;

-- Backfills: fires in the past for which somebody asked for runs. `cursor`: the last due time dealt with.
CREATE TABLE backfill (
    number      INTEGER PRIMARY KEY,
    id          TEXT NOT NULL UNIQUE CHECK (length(id) = 36),
    deployment  TEXT NOT NULL,
    first       INTEGER NOT NULL,
    last        INTEGER NOT NULL CHECK (last >= first),
    at_a_time   INTEGER NOT NULL CHECK (at_a_time >= 1),
    again       INTEGER NOT NULL CHECK (again IN (0, 1)),
    parameters  TEXT NOT NULL,
    total       INTEGER NOT NULL CHECK (total >= 0),
    cursor      INTEGER,
    passed_over INTEGER NOT NULL CHECK (passed_over >= 0),
    made        INTEGER NOT NULL CHECK (made >= 0),
    created     INTEGER NOT NULL,
    by          TEXT NOT NULL,
    ended       INTEGER,
    outcome     TEXT CHECK ((outcome IS NULL) = (ended IS NULL))
) STRICT;

-- What deployments were stated as before they were changed or removed: the newest few of each.
CREATE TABLE catalogue_past (
    number   INTEGER PRIMARY KEY,
    kind     TEXT NOT NULL,
    name     TEXT NOT NULL,
    document TEXT NOT NULL,
    since    INTEGER NOT NULL,
    until    INTEGER NOT NULL
) STRICT;

CREATE INDEX catalogue_past_of ON catalogue_past (kind, name, number);

-- Runs as people read them.
CREATE VIEW flow_run AS
SELECT
    run.seq, run.id, run.name, route.flow, route.deployment, route.work_pool, route.work_queue,
    schedule.identity AS schedule, run.due, run.expected_start,
    CASE run.state_type
        WHEN 0 THEN 'SCHEDULED' WHEN 1 THEN 'PENDING' WHEN 2 THEN 'RUNNING' WHEN 3 THEN 'PAUSED'
        WHEN 4 THEN 'CANCELLING' WHEN 5 THEN 'COMPLETED' WHEN 6 THEN 'FAILED' WHEN 7 THEN 'CRASHED'
        ELSE 'CANCELLED'
    END AS state,
    run.state_type, run.state_name, run.state_number, run.attempt, run.retries_used, owner.name AS owner,
    run.created, run.created_by, run.start_time, run.end_time, run.run_time, run.parameters, run.tags,
    run.idempotency_key, run.parent_run_id, run.parent_task_run_id
FROM run
JOIN route ON route.number = run.route
LEFT JOIN schedule ON schedule.number = run.schedule
LEFT JOIN owner ON owner.number = run.owner;
