"""Whatever stands in the file, it is settings or a list of faults with places: never another exception."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from datetime import date, datetime, time
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tidemill.config import keys, load
from tidemill.core.builtins import BUILTIN_PARAMETERS
from tidemill.errors import ConfigError

SAMPLE = (Path(__file__).parents[2] / "config" / "tidemill.toml").read_text()
ENV = {"TZ": "UTC"}
anywhere = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

# A document that says a bit of everything.
DOCUMENT: dict[str, Any] = {
    "daemon": {"timezone": "Europe/Berlin", "include": ["d/*.toml"], "catch_up": "all", "upcoming": 2},
    "api": {"listen": ["127.0.0.1:4200"], "allowed_hosts": ["x"]},
    "retention": {"keep": "90d", "max_database_size": "1GiB"},
    "log": {"level": "info"},
    "work_pools": {"etl": {"threads": 3}},
    "work_queues": {"q": {"work_pool": "etl", "priority": 2}},
    "tag_limits": {"t": 2},
    "variables": {"v": {"a": [1]}},
    "deployments": {
        "h": {"url": "http://h/", "auth": {"bearer": {"env": "TZ"}}, "cron": "@daily", "jitter": 5, "tags": ["t"]},
        "s": {"command": "date", "work_queue": "q", "schedules": [{"interval": "5m"}, {"at": date(2030, 1, 1)}]},
        "p": {"flow": "a.py:f", "parameters": {"x": 1}, "retries": 2, "retry_delay": ["1s"], "overridable": ["x"]},
    },
}
WORDS = sorted(
    {
        *keys.DEPLOYMENT,
        *keys.SCHEDULE,
        *keys.DAEMON,
        *keys.TABLES,
        *frozenset().union(*BUILTIN_PARAMETERS.values()),
        "schedules",
        "default",
        "latest",
        "0 25 * * *",
        "1h30m",
        "2GiB",
        "Europe/Helsinki",
        "*.toml",
        "unix:/x",
        "a.py:f",
        "",
    }
)
values = st.recursive(
    st.one_of(
        st.sampled_from(WORDS),
        st.text(max_size=10).filter(lambda text: text.isprintable()),
        st.booleans(),
        st.integers(-(2**70), 2**70),
        st.integers(-2, 2),
        st.floats(),
        st.dates(),
        st.times(),
        st.datetimes(),
        st.sampled_from([datetime.min, datetime.max, date.min, date.max, time.min]),  # noqa: DTZ901
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(WORDS) | st.text("aé.", max_size=3), inner)
    ),
    max_leaves=6,
)


def places(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in pairs:
        yield (*path, key)
        yield from places(item, (*path, key))


PLACES = sorted(places(DOCUMENT), key=str)


def put(document: Any, path: tuple[str | int, ...], value: Any) -> None:
    for part in path[:-1]:
        document = document[part]
    document[path[-1]] = value


def check(folder: Path, text: str) -> None:
    path = folder / "tidemill.toml"
    path.write_text(text)
    try:
        loaded = load(path, environ=ENV)
    except ConfigError as error:
        assert error.faults
        lines = text.count("\n") + 1
        assert all(1 <= fault.line <= lines and fault.column >= 1 for fault in error.faults), str(error)
        assert all(fault.problem for fault in error.faults)
        assert all("\n" not in str(fault) for fault in error.faults)
    else:
        for name in loaded.settings.deployments:
            assert loaded.locate(f"deployments.{name}")[1] > 0


@pytest.mark.slow
@anywhere
@given(st.sampled_from(PLACES), values)
def test_any_value_anywhere(tmp_path: Path, path: tuple[str | int, ...], value: Any) -> None:
    document = copy.deepcopy(DOCUMENT)
    put(document, path, value)
    check(tmp_path, tomli_w.dumps(document))


@pytest.mark.slow
@anywhere
@given(st.sampled_from([(), *(path for path in PLACES if len(path) <= 3)]), st.sampled_from(WORDS), values)
def test_any_key_in_any_table(tmp_path: Path, path: tuple[str | int, ...], key: str, value: Any) -> None:
    document = copy.deepcopy(DOCUMENT)
    table: Any = document
    for part in path:
        table = table[part]
    if isinstance(table, dict):
        table[key] = value
    check(tmp_path, tomli_w.dumps(document))


@pytest.mark.slow
@anywhere
@given(st.integers(0, len(SAMPLE)), st.integers(0, 40), st.text('[]{}"=.,#\n a1', max_size=3))
def test_any_edit_of_the_sample(tmp_path: Path, at: int, gone: int, text: str) -> None:
    check(tmp_path, SAMPLE[:at] + text + SAMPLE[at + gone :])


def test_the_document_itself_is_right(tmp_path: Path) -> None:
    """Or the tests above would look at faults alone."""
    (tmp_path / "tidemill.toml").write_text(tomli_w.dumps(DOCUMENT))
    assert len(load(tmp_path / "tidemill.toml", environ=ENV).settings.deployments) == 3
