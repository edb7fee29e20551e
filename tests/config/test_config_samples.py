"""The sample files load as they are, and tell every key with its default."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tidemill.config import init_text, keys, load, pool_keys
from tidemill.config.automation_keys import AUTOMATION
from tidemill.config.block_keys import BLOCKS
from tidemill.config.keys import Key
from tidemill.config.notify_keys import NOTIFY
from tidemill.config.settings import ApiSettings, DaemonSettings, LogSettings, RetentionSettings
from tidemill.core.automations import Automation
from tidemill.core.blocks import BlockType
from tidemill.core.channels import ChannelType
from tidemill.core.deployments import Deployment, WorkPool, WorkQueue
from tidemill.core.retries import RetryPolicy
from tidemill.core.schedules import Schedule
from tidemill.core.slots import SlotLimit

SAMPLES = Path(__file__).parents[2] / "config"
ENV = {"TZ": "UTC"}
SCHEDULES = "deployments.report.schedules"
# Tables of the sample and the keys that stand in them.
TABLES: dict[str, keys.Keys] = {
    "daemon": keys.DAEMON,
    "api": keys.API,
    "retention": keys.RETENTION,
    "log": keys.LOG,
    "deployments.report": keys.DEPLOYMENT,
    SCHEDULES: keys.SCHEDULE,
    "concurrency_limits.database": keys.CONCURRENCY_LIMIT,
    "blocks.token": BLOCKS[BlockType.SECRET],
    "blocks.settings": BLOCKS[BlockType.JSON],
    "blocks.alarm": BLOCKS[BlockType.WEBHOOK],
    "blocks.orders-api": BLOCKS[BlockType.HTTP_API],
    "automations.after-both": AUTOMATION,
    "notify.pager": NOTIFY[ChannelType.MAIL],
    "notify.hook": NOTIFY[ChannelType.WEBHOOK],
    "notify.chat": NOTIFY[ChannelType.APPRISE],
    "work_queues.energy_usage": keys.WORK_QUEUE,
    "work_pools.default": pool_keys.INLINE_POOL,
    "work_pools.process": pool_keys.PROCESS_POOL,
    "work_pools.cluster": pool_keys.DASK_POOL,
}
KEYS = [(table, key) for table, found in TABLES.items() for key in found.values()]


def lines_of(table: str) -> list[str]:
    """The lines below each header of this table, in the sample of everything."""
    found: list[str] = []
    inside = False
    for line in (SAMPLES / "tidemill.toml").read_text().splitlines():
        if header := re.fullmatch(r"(?:# )?\[+([a-z_.-]+)\]+", line):
            inside = header.group(1) == table
        elif inside:
            found.append(line)
    return found


@pytest.mark.parametrize("name", ["quickstart.toml", "tidemill.toml"])
def test_a_sample_loads_without_faults_and_without_warnings(name: str) -> None:
    loaded = load(SAMPLES / name, environ=ENV)
    assert loaded.warnings == ()
    assert loaded.settings.deployments


@pytest.mark.parametrize(("table", "key"), KEYS, ids=[f"{table}.{key.name}" for table, key in KEYS])
def test_the_sample_tells_every_key_with_its_default_and_unit(table: str, key: Key) -> None:
    shown = [match for line in lines_of(table) if (match := re.match(rf"(# )?{key.name} = (.*)$", line))]
    assert shown, f"[{table}] lacks {key.name}"
    commented, rest = shown[0].group(1), shown[0].group(2)
    value = key.default if key.default is not None else key.example
    assert value is not None
    if commented:
        assert rest == value or re.match(rf"{re.escape(value)}\s+#", rest), rest
    else:
        assert key.default is None or f"default: {key.default}" in rest
    for unit in re.findall(r"duration|size|runs at a time|factor|fraction|rank|versions|lines|threads", key.unit):
        assert unit in rest


def test_the_sample_tells_no_key_that_is_not_there() -> None:
    for table, known in TABLES.items():
        shown = {match.group(1) for line in lines_of(table) if (match := re.match(r"#? ?([a-z_]+) = ", line))}
        assert shown <= known.keys()


def test_the_sample_with_every_comment_taken_off_still_loads(tmp_path: Path) -> None:
    """Defaults and examples are values that are taken."""
    text = (SAMPLES / "tidemill.toml").read_text()
    text = re.sub(
        r"(?m)^# (\[deployments\.orders\]|\[(blocks|work_pools|notify)\.[a-z]+\]|\[notify\]|[a-z_]+ = )", r"\1", text
    )
    text = text.replace('work_queue = "energy_usage"', "")
    text = re.sub(r'credential = "[a-z-]+"', 'env = "TOKEN"', text)
    text = text.replace("# anchor", "anchor")
    text = re.sub(r"(?m)^(project|sendmail) = .*$", "", text)  # stands instead of python, and of server
    path = tmp_path / "tidemill.toml"
    path.write_text(text)
    loaded = load(path, environ={**ENV, "TOKEN": "x", "API_TOKEN": "x", "HOOK_URL": "x"})
    assert set(loaded.settings.deployments) == {"bored-daily", "disk-space", "list-home", "orders", "report"}
    assert loaded.settings.tag_limits == {"api": 5}
    assert loaded.settings.variables == {"region": "fi"}
    assert set(loaded.settings.notify) == {"default", "pager", "hook", "chat"}


# The values in which each table's defaults stand.
DEFAULTS: list[tuple[keys.Keys, type[msgspec.Struct]]] = [
    (keys.DAEMON, DaemonSettings),
    (keys.API, ApiSettings),
    (keys.RETENTION, RetentionSettings),
    (keys.LOG, LogSettings),
    (keys.DEPLOYMENT, Deployment),
    (keys.SCHEDULE, Schedule),
    (keys.WORK_QUEUE, WorkQueue),
    (keys.CONCURRENCY_LIMIT, SlotLimit),
    (pool_keys.WORK_POOL, WorkPool),
    (AUTOMATION, Automation),
]


@pytest.mark.parametrize(("table", "kind"), DEFAULTS, ids=[kind.__name__ for _, kind in DEFAULTS])
def test_the_defaults_told_are_the_defaults_taken(table: keys.Keys, kind: type[msgspec.Struct]) -> None:
    fields: dict[str, Any] = {field.name: field.default for field in msgspec.structs.fields(kind)}
    retry = RetryPolicy()
    fields |= {
        "retries": retry.retries,
        "retry_delay": retry.delays,
        "retry_backoff": retry.backoff,
        "retry_max_delay": retry.max_delay,
        "retry_jitter": retry.jitter,
        "retry_after_max": retry.cap,
    }
    # Made anew each time; beside the file.
    factories = {"parameters": {}, "env": {}, "resources": {}, "tls": {}, "flows": Path("flows")}
    for key in table.values():
        if key.default is None:
            continue
        told = key.kind.convert(tomllib.loads(f"x = {key.default}")["x"], Path())
        assert told == factories.get(key.name, fields.get(key.name)), key.name


@pytest.mark.parametrize(("table", "key"), KEYS, ids=[f"{table}.{key.name}" for table, key in KEYS])
def test_an_example_is_a_value_that_is_taken(table: str, key: Key) -> None:
    shown = key.default if key.default is not None else key.example
    assert shown is not None
    key.kind.convert(tomllib.loads(f"x = {shown}")["x"], Path())
    assert key.help


def test_the_quickstart_needs_no_internet() -> None:
    settings = load(SAMPLES / "quickstart.toml", environ=ENV).settings
    assert settings.api.sample
    (listen,) = settings.api.listen
    activity = settings.deployments["activity"]
    assert activity.parameters["url"] == f"http://{listen}/sample/activity"
    assert activity.parameters["artifact"] == "activity"
    assert not any("://" in str(found.parameters) for name, found in settings.deployments.items() if name != "activity")


@pytest.mark.parametrize(("sample", "start"), [("quickstart.toml", "# [deployments.bored-daily]")])
def test_the_commented_neighbour_is_right_when_the_comment_is_taken_off(
    sample: str, start: str, tmp_path: Path
) -> None:
    text = (SAMPLES / sample).read_text()
    head, _, tail = text.partition(start)
    path = tmp_path / "tidemill.toml"
    path.write_text(head + re.sub(r"(?m)^# ", "", start + tail))
    bored = load(path, environ=ENV).settings.deployments["bored-daily"]
    assert bored.parameters["url"] == "https://bored-api.appbrewery.com/random"
    assert bored.schedules == (Schedule(cron="0 9 * * *", timezone="Europe/Helsinki"),)


@pytest.mark.parametrize("zone", ["Europe/Helsinki", "UTC", "America/Argentina/Buenos_Aires"])
def test_what_init_writes_loads_and_names_the_zone(zone: str, tmp_path: Path) -> None:
    path = tmp_path / "tidemill.toml"
    path.write_text(init_text(zone))
    loaded = load(path, environ=ENV)
    assert loaded.warnings == ()
    assert loaded.settings.daemon.timezone == zone
    assert set(loaded.settings.deployments) == {"bored-daily"}


def test_what_init_writes_is_right_with_its_comments_taken_off(tmp_path: Path) -> None:
    text = re.sub(r"(?m)^# (\[|[a-z_]+ = )", r"\1", init_text("UTC"))
    path = tmp_path / "tidemill.toml"
    path.write_text(text.replace('credential = "orders-token"', 'env = "TOKEN"'))
    loaded = load(path, environ={**ENV, "TOKEN": "x"})
    assert loaded.warnings == ()
    assert set(loaded.settings.deployments) == {"bored-daily", "nightly-backup", "report", "private-api"}
