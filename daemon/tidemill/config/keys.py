"""Every key of the file, table by table: what it holds, what it is when absent, what it is for.

The reader of the file, the commented sample and the reference all come from these tables, and a test walks them.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from tidemill.config import kinds, notify_kinds
from tidemill.config.kinds import Kind
from tidemill.config.settings import LogFormat, LogLevel
from tidemill.core.builtins import SHORT_FORMS
from tidemill.core.deployments import CatchUp, CollisionStrategy, Mode, OnCrash


class Key(msgspec.Struct, frozen=True, kw_only=True):
    """One key. ``default`` is TOML, as the sample shows it; where there is none, ``example`` is shown instead."""

    name: str
    kind: Kind
    help: str
    default: str | None = None
    example: str | None = None
    unit: str = ""
    required: bool = False


Keys = Mapping[str, Key]


def keys_of(*keys: Key) -> Keys:
    """Return keys by their names."""
    return {key.name: key for key in keys}


_MANY = 1_000_000

DAEMON = keys_of(
    Key(
        name="timezone",
        kind=kinds.zone(),
        example='"Europe/Helsinki"',
        help="zone of schedules that name none; absent: the machine's zone",
    ),
    Key(
        name="flows",
        kind=kinds.folder(),
        default='"flows"',
        help="folder that entrypoints are loaded from, beside this file",
    ),
    Key(
        name="include",
        kind=kinds.texts('write patterns: ["tidemill.d/*.toml"]'),
        default="[]",
        help="more files, beside this one, in name order; the same table twice is an error",
    ),
    Key(
        name="grace_period",
        kind=kinds.duration(zero=True),
        default='"30s"',
        unit="duration",
        help="how long running runs may finish when the daemon stops",
    ),
    Key(
        name="upcoming",
        kind=kinds.whole(1, 100),
        default="3",
        unit="runs a schedule",
        help="how many runs are shown ahead",
    ),
    Key(
        name="import_timeout",
        kind=kinds.duration(),
        default='"20s"',
        unit="duration",
        help="how long importing a flow's code may take: when it is tried out, and in a run's own process",
    ),
    Key(
        name="catch_up",
        kind=kinds.choice(CatchUp),
        default='"latest"',
        help="fires missed while the daemon was down: skip, latest (run one) or all; where a deployment is silent",
    ),
    Key(
        name="catch_up_window",
        kind=kinds.duration(zero=True),
        default='"1d"',
        unit="duration",
        help="how old a missed fire may be to be run; where a deployment is silent",
    ),
    Key(
        name="late_after",
        kind=kinds.duration(zero=True),
        default='"15s"',
        unit="duration",
        help="how long a due run may wait before it is called Late; where a deployment is silent",
    ),
    Key(
        name="mode",
        kind=kinds.choice(Mode),
        default='"run"',
        help="shadow: record what would run, and run nothing; where a deployment is silent",
    ),
    Key(
        name="ping",
        kind=notify_kinds.ping(notify_kinds.OF_THE_DAEMON),
        example='"https://hc-ping.com/…"',
        help="a dead man's switch elsewhere: told that the daemon is well, or that it is not; a URL, to which /fail "
        "is added, or { success = …, fail = … }; each may be a secret's reference",
    ),
    Key(
        name="ping_interval",
        kind=notify_kinds.ping_interval(),
        default='"1m"',
        unit="duration",
        help="how often it is told",
    ),
)

API = keys_of(
    Key(
        name="listen",
        kind=kinds.addresses(),
        default='"127.0.0.1:4200"',
        help='address, or several: ["127.0.0.1:4200", "[::1]:4200", "unix:/run/tidemill/api.sock"]; [] = none',
    ),
    Key(
        name="allowed_hosts",
        kind=kinds.hosts(),
        default="[]",
        help="names by which this machine may be called, beside localhost",
    ),
    Key(
        name="sample",
        kind=kinds.flag(),
        default="false",
        help="serve GET /sample/activity, a small JSON API to try things on",
    ),
)

RETENTION = keys_of(
    Key(
        name="keep",
        kind=kinds.duration(no_limit=True),
        default='"90d"',
        unit='duration or "forever"',
        help="how long finished runs are kept",
    ),
    Key(
        name="keep_runs_per_deployment",
        kind=kinds.whole(1, _MANY, no_limit=True),
        default="1000",
        unit='runs or "unlimited"',
        help="how many finished runs of a deployment are kept",
    ),
    Key(
        name="max_database_size",
        kind=kinds.size(1024 * 1024, no_limit=True),
        default='"2GiB"',
        unit='size or "unlimited"',
        help="the oldest finished runs go when the database is larger",
    ),
    Key(
        name="keep_artifact_versions",
        kind=kinds.whole(1, 100_000),
        default="100",
        unit="versions a key",
        help="how many versions of an artifact are kept; the latest always stays",
    ),
    Key(
        name="keep_logs",
        kind=kinds.duration(no_limit=True),
        default='"forever"',
        unit='duration or "forever"',
        help="how long the lines of runs are kept; they go with their run at the latest",
    ),
)

LOG = keys_of(
    Key(
        name="format",
        kind=kinds.choice(LogFormat),
        default='"auto"',
        help="auto (for people; with fields for the journal under systemd), human, logfmt or json",
    ),
    Key(name="level", kind=kinds.choice(LogLevel), default='"info"', help="debug, info, warning or error"),
    Key(name="run_output", kind=kinds.flag(), default="true", help="write what runs print into the daemon's log, too"),
    Key(
        name="max_lines_per_second",
        kind=kinds.whole(1, _MANY),
        default="1000",
        unit="lines a second",
        help="of one run's output; what is cut says so",
    ),
    Key(
        name="file",
        kind=kinds.path("/var/log/tidemill/tidemill.log"),
        example='"/var/log/tidemill/tidemill.log"',
        help="gets the same lines, too; logrotate may rotate it; absent: none",
    ),
)

SCHEDULE = keys_of(
    Key(
        name="cron",
        kind=kinds.text('write five fields: "0 9 * * mon-fri"'),
        example='"0 9 * * *"',
        help="minute hour day month weekday; or @hourly, @daily, @weekly, @monthly, @yearly, @reboot",
    ),
    Key(
        name="interval",
        kind=kinds.duration(),
        example='"15m"',
        unit="duration",
        help="every so often, counted from the anchor",
    ),
    Key(
        name="rrule",
        kind=kinds.text('write a rule: "FREQ=WEEKLY;BYDAY=MO"'),
        example='"FREQ=MONTHLY;BYDAY=-1FR;BYHOUR=17;BYMINUTE=0"',
        help="a recurrence rule (RFC 5545)",
    ),
    Key(name="at", kind=kinds.instant(), example="2030-01-01T00:00:00", help="once, then"),
    Key(name="timezone", kind=kinds.zone(), example='"Europe/Helsinki"', help="absent: [daemon] timezone"),
    Key(
        name="anchor",
        kind=kinds.instant(),
        example="2026-01-01T00:00:00",
        help="interval only: fires are anchor + n * interval; absent: midnight of the zone",
    ),
    Key(name="start", kind=kinds.instant(), example="2026-01-01T00:00:00", help="no fire before"),
    Key(name="end", kind=kinds.instant(), example="2026-12-31T23:59:59", help="no fire after"),
    Key(
        name="jitter",
        kind=kinds.duration(zero=True),
        default='"0s"',
        unit="duration",
        help="each fire is put off by a random part of this",
    ),
    Key(name="exclude", kind=kinds.dates(), default="[]", help="dates, in the zone, without a fire"),
    Key(
        name="name",
        kind=kinds.name(),
        example='"mornings"',
        help="keeps the schedule's place in time when its rule is edited",
    ),
    Key(name="active", kind=kinds.flag(), default="true", help="false: the schedule does not fire"),
)

# Exactly one of them says when.
RULES = ("cron", "interval", "rrule", "at")
# One of them at most says what; the long form is `flow`.
SOURCES = ("flow", *SHORT_FORMS)

# What a run in a process of its own runs with, and how much it may use: for a whole pool, or for one deployment.
INTERPRETER = ("python", "project")
LIMITS: Mapping[str, str] = {
    "memory_limit": "memory",
    "cpu_limit": "cpu",
    "open_files": "open_files",
    "processes": "processes",
}
PROCESS = keys_of(
    Key(
        name="python",
        kind=kinds.path("/srv/etl/.venv/bin/python"),
        example='"/srv/etl/.venv/bin/python"',
        help="process pools: the interpreter that runs the code, with packages of its own; absent: tidemill's",
    ),
    Key(
        name="project",
        kind=kinds.path("/srv/etl"),
        example='"/srv/etl"',
        help="process pools, instead of python: a folder whose .venv/bin/python is the interpreter",
    ),
    Key(
        name="memory_limit",
        kind=kinds.size(16 * 1024 * 1024),
        example='"1GiB"',
        unit="size",
        help="process pools: of one run; absent: none",
    ),
    Key(
        name="cpu_limit",
        kind=kinds.duration(),
        example='"10m"',
        unit="duration",
        help="process pools: processor time of one run; absent: none",
    ),
    Key(
        name="open_files",
        kind=kinds.whole(16, _MANY),
        example="1024",
        unit="files a process",
        help="process pools: that may be open at a time; absent: as many as the daemon's limit",
    ),
    Key(
        name="processes",
        kind=kinds.whole(1, _MANY),
        example="50",
        unit="processes and threads a run",
        help="process pools: at a time; absent: none",
    ),
)

DEPLOYMENT = keys_of(
    Key(
        name="flow",
        kind=kinds.text('write "reports.py:daily", "package.module:flow", "http_request" or "shell"'),
        example='"reports.py:daily"',
        help="file in the flows folder:function, package.module:function, http_request or shell",
    ),
    Key(name="description", kind=kinds.text(empty=True), example='"What it is for"', help="for people"),
    Key(name="version", kind=kinds.text(), example='"1"', help="for people"),
    Key(
        name="parameters",
        kind=kinds.json_table(),
        default="{}",
        help="what the flow is called with; those of url, command and argv may stand beside them",
    ),
    Key(
        name="overridable",
        kind=kinds.texts('write parameter names: ["region"]', most=1000, unique=True),
        example='["region"]',
        help="parameters that a run by hand may set; absent: all of a Python flow, none of http_request and shell",
    ),
    Key(name="work_pool", kind=kinds.name(), default='"default"', help="where it runs; absent: where its queue stands"),
    Key(
        name="work_queue",
        kind=kinds.name(),
        example='"energy_usage"',
        help="line to wait in, made when it is named; absent: the pool's own, of the same name",
    ),
    Key(
        name="tags",
        kind=kinds.texts('write a list of texts: ["api"]', unique=True),
        default="[]",
        help="free words; [tag_limits] bounds the runs that share one",
    ),
    Key(name="paused", kind=kinds.flag(), default="false", help="true: its schedules make no runs"),
    Key(
        name="retries",
        kind=kinds.whole(0, 1000),
        default="0",
        unit="attempts after the first",
        help="after a failure; absent: what a Python flow's code says",
    ),
    Key(
        name="retry_delay",
        kind=kinds.durations(),
        default='"0s"',
        unit="duration, or a list: the last one repeats",
        help="wait before each retry",
    ),
    Key(
        name="retry_backoff",
        kind=kinds.number(1, 100),
        default="1.0",
        unit="factor",
        help="from one delay to the next once the list has ended",
    ),
    Key(
        name="retry_max_delay",
        kind=kinds.duration(),
        default='"1h"',
        unit="duration",
        help="where growing by retry_backoff ends",
    ),
    Key(
        name="retry_jitter",
        kind=kinds.number(0, 10),
        default="0.0",
        unit="fraction",
        help="0.3: each delay is stretched by up to 30 %",
    ),
    Key(
        name="retry_after_max",
        kind=kinds.duration(zero=True),
        default='"15m"',
        unit="duration",
        help="how long a server may ask us to wait (Retry-After)",
    ),
    Key(name="timeout", kind=kinds.duration(), example='"10m"', unit="duration", help="of one attempt; absent: none"),
    Key(
        name="concurrency_limit",
        kind=kinds.whole(1, _MANY),
        example="1",
        unit="runs at a time",
        help="absent: no limit of its own",
    ),
    Key(
        name="collision_strategy",
        kind=kinds.choice(CollisionStrategy),
        default='"enqueue"',
        help="when concurrency_limit is reached: enqueue, cancel_new or cancel_running",
    ),
    Key(name="catch_up", kind=kinds.choice(CatchUp), default='"latest"', help="absent: [daemon] catch_up"),
    Key(
        name="catch_up_window",
        kind=kinds.duration(zero=True),
        default='"1d"',
        unit="duration",
        help="absent: [daemon] catch_up_window",
    ),
    Key(
        name="on_crash",
        kind=kinds.choice(OnCrash),
        default='"fail"',
        help="when the daemon died under a run: fail, or retry, as often as retries says, three times at least",
    ),
    Key(
        name="late_after",
        kind=kinds.duration(zero=True),
        default='"15s"',
        unit="duration",
        help="absent: [daemon] late_after",
    ),
    Key(name="mode", kind=kinds.choice(Mode), default='"run"', help="absent: [daemon] mode"),
    Key(
        name="notify",
        kind=notify_kinds.channels(),
        example='"pager"',
        help="who hears of it: a [notify] channel or a list of them; false: nobody; absent: the default channel",
    ),
    Key(
        name="ping",
        kind=notify_kinds.ping(notify_kinds.OF_A_RUN),
        example='"https://hc-ping.com/…"',
        help="a dead man's switch elsewhere: told of a run's start, success and failure; a URL, to which /start and "
        "/fail are added, or { start = …, success = …, fail = … }; each may be a secret's reference",
    ),
    *PROCESS.values(),
)

WORK_QUEUE = keys_of(
    Key(
        name="work_pool",
        kind=kinds.name(),
        default='"default"',
        help="the pool it stands in front of; absent: the pool of the same name, where there is one",
    ),
    Key(name="priority", kind=kinds.whole(1, _MANY), default="1", unit="rank", help="a lower number goes first"),
    Key(
        name="concurrency_limit",
        kind=kinds.whole(1, _MANY),
        example="2",
        unit="runs at a time",
        help="absent: no limit of its own",
    ),
    Key(name="paused", kind=kinds.flag(), default="false", help="true: nothing is taken from it"),
    Key(name="description", kind=kinds.text(empty=True), example='"What it is for"', help="for people"),
)

CONCURRENCY_LIMIT = keys_of(
    Key(
        name="limit",
        kind=kinds.whole(1, _MANY),
        example="5",
        unit="slots",
        help="how many may be occupied at a time, by concurrency(...) and rate_limit(...)",
        required=True,
    ),
    Key(
        name="slot_decay_per_second",
        kind=kinds.number(0, _MANY),
        default="0.0",
        unit="slots a second",
        help="0: slots come back when they are given back; else a rate limit: so many come back each second",
    ),
    Key(name="active", kind=kinds.flag(), default="true", help="false: nobody waits and nothing is counted"),
    Key(name="description", kind=kinds.text(empty=True), example='"What it is for"', help="for people"),
)

VARIABLE = Key(name="NAME", kind=kinds.json_value(), example='"fi"', help="a JSON value that flows read by its name")
TAG_LIMIT = Key(
    name="TAG",
    kind=kinds.whole(1, _MANY),
    example="5",
    unit="runs at a time",
    help="how many runs with this tag may run at a time; and, counted apart, how many task runs",
)

# Tables that stand once.
SINGLE: Mapping[str, Keys] = {"daemon": DAEMON, "api": API, "retention": RETENTION, "log": LOG}
# Tables of tables by name. The keys of blocks and notify channels go by their type: block_keys.py, notify_keys.py.
NAMED = ("deployments", "work_queues", "work_pools", "concurrency_limits", "blocks", "notify", "automations")
# Tables of values by name.
VALUES: Mapping[str, Key] = {"variables": VARIABLE, "tag_limits": TAG_LIMIT}
TABLES = (*SINGLE, *NAMED, *VALUES)
# What the API and the command line may have written; the rest is a person's to say.
MADE_TABLES = frozenset({"deployments", "work_queues", "work_pools", "variables", "tag_limits"})

# Of a built-in flow: these make it do another thing, so nobody may set them but the file.
NEVER_OVERRIDABLE: Mapping[str, frozenset[str]] = {
    "http_request": frozenset({"url", "auth", "headers", "allowed_hosts"}),
    "shell": frozenset({"command", "argv", "env", "cwd"}),
}
