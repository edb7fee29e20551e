"""What the settings hold when the file is right."""

# ruff: noqa: DTZ001 - local times of a schedule's zone are naive

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

import msgspec
import pytest

from tidemill.config import Loaded, LogFormat
from tidemill.config.keys import DEPLOYMENT, NEVER_OVERRIDABLE, SCHEDULE
from tidemill.core.builtins import BUILTIN_PARAMETERS, SHORT_FORMS
from tidemill.core.deployments import (
    CatchUp,
    CollisionStrategy,
    Deployment,
    FlowKind,
    Limits,
    Mode,
    OnCrash,
    Ping,
    SecretRef,
)
from tidemill.core.retries import RetryPolicy
from tidemill.core.schedules import Schedule

Load = Callable[..., Loaded]

H = timedelta(hours=1)
M = timedelta(minutes=1)
S = timedelta(seconds=1)

IN_PROCESS = 'work_pool = "process"\n'

# One row a key: what stands in [deployments.a] -> the field and its value. {} stands for a Python flow.
DEPLOYMENTS: dict[str, tuple[str, str, Any]] = {
    "description": ('description = "x"', "description", "x"),
    "an empty description": ('description = ""', "description", ""),
    "version": ('version = "2"', "version", "2"),
    "parameters": ("parameters = { a = [1, { b = true }] }", "parameters", {"a": [1, {"b": True}]}),
    "dates become text": (
        "parameters = { d = 2026-01-02, t = 07:30:00, i = 2026-01-02T03:04:05Z }",
        "parameters",
        {"d": "2026-01-02", "t": "07:30:00", "i": "2026-01-02T03:04:05+00:00"},
    ),
    "a table like a secret in a Python flow's parameters is data": (
        'parameters = { auth = { env = "NOT_SET" } }',
        "parameters",
        {"auth": {"env": "NOT_SET"}},
    ),
    "every parameter of a Python flow may be overridden": ("", "overridable", None),
    "unless it says which": ('overridable = ["a", "b"]', "overridable", frozenset({"a", "b"})),
    "none": ("overridable = []", "overridable", frozenset()),
    "tags": ('tags = ["b", "Any text: ü"]', "tags", ("b", "Any text: ü")),
    "one tag": ('tags = "b"', "tags", ("b",)),
    "paused": ("paused = true", "paused", True),
    "no word of retries: the flow's own": ("", "retry", None),
    "no retry": ("retries = 0", "retry", RetryPolicy()),
    "retries": (
        'retries = 5\nretry_delay = ["10s", "1m"]\nretry_backoff = 2\nretry_max_delay = "1h"\nretry_jitter = 0.3\n'
        'retry_after_max = "5m"',
        "retry",
        RetryPolicy(retries=5, delays=(10 * S, M), backoff=2.0, max_delay=H, jitter=0.3, cap=5 * M),
    ),
    "one delay": ("retries = 1\nretry_delay = 1.5", "retry", RetryPolicy(retries=1, delays=(1.5 * S,))),
    "timeout": ('timeout = "10m"', "timeout", 10 * M),
    "a bare number is seconds": ("timeout = 90", "timeout", 90 * S),
    "no timeout": ("", "timeout", None),
    "concurrency_limit": ("concurrency_limit = 2", "concurrency_limit", 2),
    "collision_strategy": (
        'concurrency_limit = 1\ncollision_strategy = "cancel_new"',
        "collision_strategy",
        CollisionStrategy.CANCEL_NEW,
    ),
    "catch_up": ('catch_up = "all"', "catch_up", CatchUp.ALL),
    "catch_up of the daemon": ("", "catch_up", CatchUp.SKIP),
    "catch_up_window": ('catch_up_window = "1w"', "catch_up_window", timedelta(weeks=1)),
    "catch_up_window of the daemon": ("", "catch_up_window", 2 * H),
    "on_crash": ('on_crash = "retry"', "on_crash", OnCrash.RETRY),
    "late_after": ("late_after = 0", "late_after", timedelta(0)),
    "late_after of the daemon": ("", "late_after", 20 * S),
    "mode": ('mode = "run"', "mode", Mode.RUN),
    "mode of the daemon": ("", "mode", Mode.SHADOW),
    "notify": ("notify = false", "notify", ()),
    "notify nobody named": ("", "notify", None),
    "ping": ('ping = "https://hc-ping.com/x"', "ping", Ping(base="https://hc-ping.com/x")),
    "pings": (
        'ping = { success = "https://a.b/up", fail = { env = "TZ" } }',
        "ping",
        Ping(success="https://a.b/up", fail=SecretRef(env="TZ")),
    ),
    "python": (f'{IN_PROCESS}python = "/srv/etl/bin/python"', "python", "/srv/etl/bin/python"),
    "project": (f'{IN_PROCESS}project = "/srv/etl"', "python", "/srv/etl/.venv/bin/python"),
    "no python": (IN_PROCESS, "python", None),
    "limits": (
        f'{IN_PROCESS}memory_limit = "1GiB"\ncpu_limit = "10m"\nopen_files = 64\nprocesses = 5',
        "limits",
        Limits(memory=1024**3, cpu=10 * M, open_files=64, processes=5),
    ),
    "no limits": ("", "limits", Limits()),
}
DAEMON = """\
[daemon]
timezone = "Europe/Berlin"
catch_up = "skip"
catch_up_window = "2h"
late_after = 20
mode = "shadow"
"""


@pytest.mark.parametrize(("lines", "field", "value"), DEPLOYMENTS.values(), ids=DEPLOYMENTS.keys())
def test_a_deployments_key_becomes_its_field(lines: str, field: str, value: Any, load_text: Load) -> None:
    loaded = load_text(f'{DAEMON}[deployments.a]\nflow = "reports.py:daily"\n{lines}\n')
    assert getattr(loaded.settings.deployments["a"], field) == value
    assert loaded.warnings == ()


def test_every_key_of_a_deployment_has_a_row_above() -> None:
    written = "\n".join(lines for lines, _, _ in DEPLOYMENTS.values())
    elsewhere = {"flow", "work_queue"}
    assert {key for key in DEPLOYMENT if f"{key} =" not in written} == elsewhere


# What a Python flow may be called in the file -> its kind and the name people call it by.
FLOWS = {
    "reports.py:daily": (FlowKind.FILE, "daily"),
    "sub/my reports.py:daily_report": (FlowKind.FILE, "daily-report"),
    "package.module:flow": (FlowKind.MODULE, "flow"),
    "module:Class.method_": (FlowKind.MODULE, "method"),
    "http_request": (FlowKind.BUILTIN, "http_request"),
    "shell": (FlowKind.BUILTIN, "shell"),
}


@pytest.mark.parametrize("written", FLOWS)
def test_an_entrypoint_is_told_by_its_form(written: str, load_text: Load) -> None:
    flow = load_text(f'[deployments.a]\nflow = "{written}"').settings.deployments["a"].flow
    assert (flow.kind, flow.name) == FLOWS[written]
    assert flow.entrypoint == written


@pytest.mark.parametrize(
    ("lines", "flow", "parameters"),
    [
        ('url = "http://h/"', "http_request", {"url": "http://h/"}),
        (
            'url = "http://h/"\nmethod = "PUT"\njson = { a = 1 }\nartifact = "k"\nparameters = { keep_versions = 3 }',
            "http_request",
            {"url": "http://h/", "method": "PUT", "json": {"a": 1}, "artifact": "k", "keep_versions": 3},
        ),
        ('command = "date"\ncwd = "/"', "shell", {"command": "date", "cwd": "/"}),
        ('argv = ["ls", "-l"]', "shell", {"argv": ["ls", "-l"]}),
        ('flow = "shell"\nparameters = { command = "date" }', "shell", {"command": "date"}),
    ],
)
def test_the_short_form_means_a_built_in_flow(
    lines: str, flow: str, parameters: dict[str, Any], load_text: Load
) -> None:
    found = load_text(f"[deployments.a]\n{lines}").settings.deployments["a"]
    assert found.flow.kind is FlowKind.BUILTIN
    assert found.flow.name == flow
    assert found.parameters == parameters
    assert found.overridable == frozenset()  # P15


def test_no_parameter_of_a_built_in_flow_is_called_like_a_key_of_a_deployment() -> None:
    """In the short form they stand side by side."""
    for parameters in BUILTIN_PARAMETERS.values():
        assert not parameters & {*DEPLOYMENT, *SCHEDULE, "schedules"}
    assert set(SHORT_FORMS) <= frozenset().union(*BUILTIN_PARAMETERS.values())
    for flow, names in NEVER_OVERRIDABLE.items():
        assert names <= BUILTIN_PARAMETERS[flow]


# Keys of one schedule -> the schedule, in a file whose zone is Berlin.
SCHEDULES = {
    'cron = "0 9 * * *"': Schedule(cron="0 9 * * *", timezone="Europe/Berlin"),
    'cron = "@daily"\ntimezone = "Asia/Tokyo"': Schedule(cron="@daily", timezone="Asia/Tokyo"),
    'interval = "1h30m"': Schedule(interval=1.5 * H, timezone="Europe/Berlin"),
    'interval = 5\nanchor = "2026-01-01 00:00"': Schedule(
        interval=5 * S,
        anchor=datetime(2026, 1, 1),
        timezone="Europe/Berlin",
    ),
    'rrule = "FREQ=DAILY"': Schedule(rrule="FREQ=DAILY", timezone="Europe/Berlin"),
    "at = 2030-01-01T00:00:00Z": Schedule(at=datetime(2030, 1, 1, tzinfo=UTC), timezone="Europe/Berlin"),
    "at = 2030-01-01": Schedule(at=datetime(2030, 1, 1), timezone="Europe/Berlin"),
    'at = "2030-01-01T00:00:00+02:00"': Schedule(
        at=datetime(2030, 1, 1, tzinfo=timezone(2 * H)), timezone="Europe/Berlin"
    ),
    'cron = "@daily"\nstart = 2026-01-01T00:00:00Z\nend = 2027-01-01T00:00:00Z\njitter = "30s"\nname = "n"\n'
    'active = false\nexclude = [2026-12-24, "2026-12-25"]': Schedule(
        cron="@daily",
        timezone="Europe/Berlin",
        start=datetime(2026, 1, 1, tzinfo=UTC),
        end=datetime(2027, 1, 1, tzinfo=UTC),
        jitter=30 * S,
        name="n",
        active=False,
        exclude=(date(2026, 12, 24), date(2026, 12, 25)),
    ),
}


@pytest.mark.parametrize("form", ["beside the other keys", "in a list"])
@pytest.mark.parametrize("lines", SCHEDULES)
def test_a_schedule_says_the_same_in_both_forms(lines: str, form: str, load_text: Load) -> None:
    header = "" if form == "beside the other keys" else "[[deployments.a.schedules]]\n"
    loaded = load_text(f'{DAEMON}[deployments.a]\ncommand = "date"\n{header}{lines}')
    assert loaded.settings.deployments["a"].schedules == (SCHEDULES[lines],)
    (compiled,) = loaded.compiled["a"]
    assert compiled.schedule == SCHEDULES[lines]


def test_every_key_of_a_schedule_has_a_row_above() -> None:
    assert all(any(f"{key} =" in lines for lines in SCHEDULES) for key in SCHEDULE)


def test_a_deployment_without_a_schedule_runs_by_hand_only(load_text: Load) -> None:
    loaded = load_text('[deployments.a]\ncommand = "date"\n[deployments.b]\ncommand = "date"\nschedules = []')
    assert [found.schedules for found in loaded.settings.deployments.values()] == [(), ()]


# Other tables: what they say -> which field has which value.
TABLES: dict[str, tuple[str, Any]] = {
    '[daemon]\ntimezone = "Asia/Tokyo"': ("daemon.timezone", "Asia/Tokyo"),
    '[daemon]\ngrace_period = "0s"': ("daemon.grace_period", timedelta(0)),
    "[daemon]\nupcoming = 10": ("daemon.upcoming", 10),
    '[daemon]\nimport_timeout = "1m"': ("daemon.import_timeout", M),
    "[api]\nlisten = []": ("api.listen", ()),
    '[api]\nlisten = ["127.0.0.1:0", "[::1]:80", "localhost:65535", "unix:/run/x.sock"]': (
        "api.listen",
        ("127.0.0.1:0", "[::1]:80", "localhost:65535", "unix:/run/x.sock"),
    ),
    '[api]\nallowed_hosts = ["Box.example.org", "10.0.0.7"]': ("api.allowed_hosts", ("box.example.org", "10.0.0.7")),
    "[api]\nsample = true": ("api.sample", True),
    '[retention]\nkeep = "forever"': ("retention.keep", None),
    '[retention]\nkeep = "4w"': ("retention.keep", timedelta(weeks=4)),
    '[retention]\nkeep_runs_per_deployment = "unlimited"': ("retention.keep_runs_per_deployment", None),
    '[retention]\nmax_database_size = "512MiB"': ("retention.max_database_size", 512 * 1024**2),
    "[retention]\nmax_database_size = 5000000": ("retention.max_database_size", 5_000_000),
    '[retention]\nmax_database_size = "unlimited"': ("retention.max_database_size", None),
    "[retention]\nkeep_artifact_versions = 1": ("retention.keep_artifact_versions", 1),
    '[retention]\nkeep_logs = "30d"': ("retention.keep_logs", timedelta(days=30)),
    '[log]\nformat = "json"': ("log.format", LogFormat.JSON),
    '[log]\nlevel = "debug"': ("log.level", "debug"),
    "[log]\nrun_output = false": ("log.run_output", False),
    "[log]\nmax_lines_per_second = 5": ("log.max_lines_per_second", 5),
    '[variables]\nregion = "fi"\nlimits = { a = [1, 2.5] }': ("variables", {"region": "fi", "limits": {"a": [1, 2.5]}}),
    '[tag_limits]\n"Any tag" = 3\nother = 1': ("tag_limits", {"Any tag": 3, "other": 1}),
}


@pytest.mark.parametrize("text", TABLES)
def test_a_tables_key_becomes_its_field(text: str, load_text: Load) -> None:
    path, value = TABLES[text]
    found: Any = load_text(text).settings
    for part in path.split("."):
        found = getattr(found, part)
    assert found == value


def test_folders_are_beside_the_file(load_text: Load, folder: Any) -> None:
    assert load_text("# nothing").settings.daemon.flows == folder / "flows"
    daemon = load_text('[daemon]\nflows = "../code"').settings.daemon
    assert str(daemon.flows) == f"{folder}/../code"


def test_the_machines_zone_is_the_default_zone(load_text: Load) -> None:
    loaded = load_text('[deployments.a]\ncommand = "date"\ncron = "@daily"', {"TZ": "America/New_York"})
    assert loaded.settings.daemon.timezone == "America/New_York"
    assert loaded.settings.deployments["a"].schedules[0].timezone == "America/New_York"


def test_settings_cannot_be_changed(load_text: Load) -> None:
    settings = load_text('[deployments.a]\ncommand = "date"').settings
    with pytest.raises(AttributeError):
        settings.api = settings.api  # type: ignore[misc]
    with pytest.raises(TypeError):
        settings.deployments["b"] = settings.deployments["a"]  # type: ignore[index]
    with pytest.raises(AttributeError):
        settings.deployments["a"].name = "b"  # type: ignore[misc]


def test_defaults_of_the_file_are_defaults_of_the_values(load_text: Load) -> None:
    """A deployment that says nothing is what the value says when made with nothing."""
    found = load_text('[deployments.a]\nflow = "a.py:f"').settings.deployments["a"]
    assert found == Deployment(name="a", flow=found.flow)
    assert msgspec.structs.asdict(found).keys() == set(Deployment.__struct_fields__)


# Warnings: what the file says -> the line a user reads; the file is taken.
WARNINGS = {
    '[api]\nlisten = "0.0.0.0:80"': (
        '2:10 api.listen: "0.0.0.0:80" is reached from other machines, and the API asks nobody who they are; listen on '
        "127.0.0.1, behind a proxy that asks"
    ),
    '[api]\nlisten = ["localhost:1", "[::]:80"]': (
        '2:26 api.listen[1]: "[::]:80" is reached from other machines, and the API asks nobody who they are; listen on '
        "127.0.0.1, behind a proxy that asks"
    ),
    '[deployments.a]\ncommand = "x"\nretry_delay = "1m"': (
        "3:1 deployments.a.retry_delay: has no effect without retries; set retries"
    ),
    '[deployments.a]\ncommand = "x"\ncollision_strategy = "cancel_new"': (
        "3:1 deployments.a.collision_strategy: has no effect: there is no concurrency_limit; set concurrency_limit"
    ),
}


@pytest.mark.parametrize("text", WARNINGS)
def test_what_is_taken_and_surely_not_meant_is_a_warning(text: str, load_text: Load) -> None:
    (warning,) = load_text(text).warnings
    assert str(warning) == f"tidemill.toml:{WARNINGS[text]}"


LOCATED = """\
[daemon]
upcoming = 1
[deployments.a-b]
url = "http://h/"
headers = { "X-A.b" = "1" }
cron = "@daily"
[deployments.c]
flow = "http_request"
parameters.url = "http://h/"
[deployments."c.d"]
command = "x"
"""


@pytest.mark.parametrize(
    ("key", "line", "column"),
    [
        ("deployments.a-b", 3, 1),
        ("deployments.a_b.url", 4, 7),  # found alike
        ("deployments.a-b.parameters.url", 4, 7),  # the short form's place
        ('deployments.a-b.parameters.headers."X-A.b"', 5, 23),
        ("deployments.a-b.parameters.headers.missing", 5, 1),  # the nearest that is there
        ("deployments.a-b.parameters", 3, 14),
        ("deployments.c.parameters.url", 9, 18),
        ("deployments.c.flow", 8, 8),
        ('deployments."c.d".command', 11, 11),
        ("deployments.c.d.command", 11, 11),  # the longest name that is there
        ("deployments.nobody", 0, 0),
        ("daemon.upcoming", 2, 12),
        ("api.listen", 0, 0),
        ("", 0, 0),
    ],
)
def test_a_key_is_located_for_faults_found_later(key: str, line: int, column: int, load_text: Load) -> None:
    loaded = load_text(LOCATED)
    assert loaded.locate(key) == ("tidemill.toml", line, column)
    assert str(loaded.fault(key, "is odd")).startswith("tidemill.toml:" if line else "tidemill.toml")


def test_the_hash_changes_with_the_text_alone(load_text: Load) -> None:
    one = load_text("# a").text_hash
    assert load_text("# a").text_hash == one
    assert load_text("# b").text_hash != one
