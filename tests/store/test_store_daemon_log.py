"""The diary in the database: what is kept of a line, how it is read, and when it goes."""

from __future__ import annotations

import logging
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from store_making import T0, at, opened

from tidemill.core.daemon_log import DaemonLine
from tidemill.store import Store, daemon_log
from tidemill.store.retention import Pruning, prune


def line(seconds: float, message: str = "said", **more: Any) -> DaemonLine:
    return DaemonLine(**({"at": at(seconds), "level": logging.INFO, "message": message} | more))


async def note(store: Store, *lines: DaemonLine) -> None:
    for each in lines:
        store.post(daemon_log.NOTE, each)
    await store.flush()


async def messages(store: Store, **which: Any) -> list[str]:
    found = await store.read(lambda connection: daemon_log.lines(connection, **which))
    return [each.line.message for each in found]


async def test_a_line_comes_back_as_it_was_written(tmp_path: Path) -> None:
    whole = line(
        0.123456,
        "the configuration was reloaded\nsaid in two lines — ü",
        event="config-reloaded",
        deployment="nightly",
        fields={"added": ["a"], "count": 3, "none": None, "nested": {"x": 1.5}},
        logger="tidemill.reloader",
        level=logging.WARNING,
    )
    plain = line(1)
    async with opened(tmp_path) as store:
        await note(store, whole, plain)
        found = await store.read(daemon_log.lines)
    assert [each.line for each in found] == [whole, plain]
    assert [each.number for each in found] == [1, 2]


@pytest.mark.parametrize(
    ("which", "found"),
    [
        ({}, ["a", "b", "c", "d"]),
        ({"since": at(1)}, ["b", "c", "d"]),  # from that instant on
        ({"until": at(2)}, ["a", "b"]),  # and before that one
        ({"level": logging.WARNING}, ["b", "d"]),
        ({"after": 2}, ["c", "d"]),
        ({"limit": 2}, ["a", "b"]),
        ({"since": at(1), "until": at(3), "level": logging.WARNING, "after": 1, "limit": 9}, ["b"]),
    ],
)
async def test_lines_are_found_by_time_level_and_number(
    tmp_path: Path, which: dict[str, Any], found: list[str]
) -> None:
    async with opened(tmp_path) as store:
        loud = {"b": logging.WARNING, "d": logging.ERROR}
        await note(store, *(line(n, name, level=loud.get(name, 20)) for n, name in enumerate("abcd")))
        assert await messages(store, **which) == found


async def test_lines_are_found_by_the_names_of_their_events_oldest_first(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        events = ("daemon-started", "paused", None, "resumed", "paused")
        await note(store, *(line(n, str(n), event=event) for n, event in enumerate(events)))

        async def named(*names: str, **which: Any) -> list[str]:
            found = await store.read(lambda connection: daemon_log.named(connection, names, **which))
            return [each.line.message for each in found]

        assert await named("paused", "resumed") == ["1", "3", "4"]
        assert await named("paused", since=at(1.5)) == ["4"]
        assert await named("paused", until=at(4)) == ["1"]
        assert await named() == await named("never-heard-of") == []


async def test_lines_go_when_they_are_as_old_as_history_may_be(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await note(store, *(line(-days * 86_400, str(days)) for days in (100, 95, 89, 1)))
        assert (await prune(store, Pruning(now=T0, keep=timedelta(days=90))))["lines of the daemon"] == 2
        assert await messages(store) == ["89", "1"]
        assert not any((await prune(store, Pruning(now=T0, keep=timedelta(days=90)))).values())


async def test_the_oldest_lines_go_where_there_are_too_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """P13: whatever the configuration keeps."""
    monkeypatch.setattr(daemon_log, "KEEP_LINES", 3)
    async with opened(tmp_path) as store:
        await note(store, *(line(n, str(n)) for n in range(10)))
        while any((await prune(store, Pruning(now=T0))).values()):
            pass
        assert await messages(store) == ["7", "8", "9"]
