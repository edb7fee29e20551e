"""The log as a stream: history, then what comes; nothing twice and nothing lost between the two."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from edges import DEPLOYMENTS, Mill, opened
from fakes import FakeClock
from tidemill.api import following, streams
from tidemill.core.daemon_log import DaemonLine
from tidemill.core.states import StateType
from tidemill.store import daemon_log


@pytest.fixture(autouse=True)
def no_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "PACE_S", 0)
    monkeypatch.setattr(streams, "PACE_S", 0)


class Follower:
    """A reader of the log."""

    def __init__(self, mill: Mill, messages: Any, ending: asyncio.Future[None]) -> None:
        self.mill, self._messages, self.ending = mill, messages, ending
        self._unread: list[tuple[str, Any]] = []
        self.cursor: dict[str, Any] = {}

    async def next(self) -> tuple[str, Any]:
        """Return the next message that is no cursor; ("", None) at the end."""
        while True:
            while self._unread:
                event, data = self._unread.pop(0)
                if event != "cursor":
                    return event, data
                self.cursor = data
            try:
                chunk = await asyncio.wait_for(anext(self._messages), 10)
            except StopAsyncIteration:
                return "", None
            self._unread += _messages(chunk)

    async def said(self, count: int) -> list[str]:
        return [(await self.next())[1]["message"] for _ in range(count)]

    async def rest(self) -> list[tuple[str, Any]]:
        """Everything up to the end of the stream."""
        found = []
        while (message := await self.next())[0]:
            found.append(message)
        return found


def _messages(chunk: bytes) -> list[tuple[str, Any]]:
    found = []
    for block in chunk.decode().split("\n\n"):
        if block.startswith("event: "):
            event, _, data = block.partition("\ndata: ")
            found.append((event.removeprefix("event: "), json.loads(data)))
    return found


@asynccontextmanager
async def follower(mill: Mill, **query: Any) -> AsyncIterator[Follower]:
    given = {"follow": "true"} | {name: str(value) for name, value in query.items()}
    wanted = await mill.store.read(lambda connection: following.asked(connection, given))
    ending: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    messages = following.Following(mill, wanted).messages(ending)
    try:
        yield Follower(mill, messages, ending)
    finally:
        await messages.aclose()


async def note(mill: Mill, message: str, **more: Any) -> None:
    line = DaemonLine(at=mill.clock.now(), level=20, message=message, **more)
    mill.store.post(daemon_log.NOTE, line)
    await mill.store.flush()


async def test_history_is_followed_by_what_comes(tmp_path: Path, clock: FakeClock) -> None:
    async with opened(tmp_path, clock) as mill:
        run = await mill.begin(await mill.add())
        await mill.print(run, "before")
        async with follower(mill, tail=2) as log:
            assert await log.said(2) == ["Running", "> before"]
            await mill.print(run, "after")
            assert await log.said(1) == ["> after"]
            await note(mill, "config changed")
            assert await log.said(1) == ["config changed"]
            await mill.emit(run, "order.placed", "o.1")
            assert await log.said(1) == ["Event order.placed of o.1"]
            clock.advance(1)
            await mill.finish(run)
            assert await log.said(1) == ["Completed in 1.0 s"]
            log.ending.set_result(None)
            assert await log.rest() == []


async def test_what_happens_while_history_is_read_is_told_once(
    tmp_path: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between two pieces of history everything goes on."""
    async with opened(tmp_path, clock) as mill:
        run = await mill.begin(await mill.add())
        await mill.print(run, *[f"old {number}" for number in range(30)])
        monkeypatch.setattr("tidemill.api.timeline.PIECE", 4)
        async with follower(mill) as log:
            told = await log.said(3)
            await mill.print(run, "new 1")
            await mill.finish(run)
            other = await mill.begin(await mill.add())
            await mill.print(other, "new 2")
            told += await log.said(34)
            await mill.print(other, "new 3")
            assert await log.said(1) == ["> new 3"]
    wanted = ["Scheduled by person", "Running", *[f"> old {n}" for n in range(30)]]
    wanted += ["> new 1", "Completed in 0 ms", "Scheduled by person", "Running", "> new 2"]
    assert sorted(told) == sorted(wanted)


async def test_only_what_is_asked_for_is_told(tmp_path: Path, clock: FakeClock) -> None:
    async with opened(tmp_path, clock) as mill:
        theirs, ours = await mill.begin(await mill.add(DEPLOYMENTS[0])), await mill.add(DEPLOYMENTS[1])
        async with follower(mill, tail=0, deployment=DEPLOYMENTS[1].name, level=20) as log:
            waiting = asyncio.ensure_future(log.next())
            await mill.events.until(1)
            await mill.print(theirs, "not ours")
            await mill.begin(ours)
            assert (await waiting)[1]["message"] == "Running"
            await mill.print(ours, "too quiet", level=10)
            await note(mill, "not ours either", deployment=DEPLOYMENTS[0].name)
            await note(mill, "ours", deployment=DEPLOYMENTS[1].name)
            assert await log.said(1) == ["ours"]


@pytest.mark.parametrize("follow_from", ["before its end", "after its end"])
async def test_a_run_is_followed_to_its_end(tmp_path: Path, clock: FakeClock, follow_from: str) -> None:
    async with opened(tmp_path, clock) as mill:
        run = await mill.begin(await mill.add())
        clock.advance(1)
        await mill.print(run, "one")
        clock.advance(1)
        if follow_from == "after its end":
            await mill.finish(run, StateType.FAILED, "no luck")
        async with follower(mill, flow_run_id=run.id) as log:
            assert await log.said(3) == ["Scheduled by person", "Running", "> one"]
            if follow_from == "before its end":
                await mill.print(run, "two")
                assert await log.said(1) == ["> two"]
                await mill.finish(run, StateType.FAILED, "no luck")
            (line, end) = await log.rest()
    assert line[1]["message"] == "Failed after 2.0 s: no luck"
    assert end == ("end", {"flow_run_id": run.id})


async def test_the_following_of_a_run_that_is_deleted_ends(tmp_path: Path, clock: FakeClock) -> None:
    async with opened(tmp_path, clock) as mill:
        run = await mill.add()
        async with follower(mill, flow_run_id=run.id, tail=1) as log:
            assert await log.said(1) == ["Scheduled by person"]
            await mill.delete_run(run.id, by="api")
            assert [event for event, _ in await log.rest()] == ["end"]


async def test_a_reader_that_was_too_slow_for_the_events_reads_the_states(tmp_path: Path, clock: FakeClock) -> None:
    """P13: the bus holds so many events for a reader; the states themselves are in the database."""
    async with opened(tmp_path, clock) as mill:
        real = mill.events.subscribe
        mill.events.subscribe = lambda **options: real(backlog=3, **options)  # type: ignore[method-assign]
        made = await mill.add()
        clock.advance(0.2)
        run = await mill.begin(made)
        async with follower(mill, tail=1) as log:
            assert await log.said(1) == ["Running"]
            await mill.finish(run)
            others = [await mill.begin(await mill.add()) for _ in range(10)]
            for other in others:
                await mill.finish(other)
            found = await log.said(1 + 3 * len(others))
    assert sorted(found) == sorted(["Completed in 0 ms", *["Scheduled by person", "Running", "Completed in 0 ms"] * 10])


async def test_a_reader_that_was_cut_off_goes_on_where_it_was(tmp_path: Path, clock: FakeClock) -> None:
    async with opened(tmp_path, clock) as mill:
        run = await mill.begin(await mill.add())
        await mill.print(run, "one")
        clock.advance(60)
        async with follower(mill) as log:
            assert await log.said(3) == ["Scheduled by person", "Running", "> one"]
            await mill.print(run, "two")
            assert await log.said(1) == ["> two"]
            log.ending.set_result(None)
            await log.rest()
            cursor = json.dumps(log.cursor)
        clock.set_wall(clock.now().replace(year=2025))  # what is written late is told all the same
        await mill.print(run, "three")
        clock.set_wall(clock.now().replace(year=2026))
        clock.advance(1)
        await mill.finish(run)
        async with follower(mill, cursor=cursor) as log:
            assert sorted(await log.said(2)) == ["> three", "Completed in 1 min 1 s"]


async def test_a_stream_that_is_not_followed_ends_with_the_history(tmp_path: Path, clock: FakeClock) -> None:
    async with opened(tmp_path, clock) as mill:
        await mill.print(await mill.begin(await mill.add()), "one")
        async with follower(mill, follow="false") as log:
            assert len(await log.rest()) == 3
            assert set(log.cursor["numbers"]) == {"log", "skipped", "artifact", "emitted", "daemon"}


async def test_history_is_not_read_on_for_a_reader_that_has_left(
    tmp_path: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tidemill.api.timeline.PIECE", 2)
    async with opened(tmp_path, clock) as mill:
        run = await mill.begin(await mill.add())
        for number in range(50):
            clock.advance(1)
            await mill.print(run, f"line {number}")
        async with follower(mill) as log:
            await log.next()
            log.ending.set_result(None)
            assert len(await log.rest()) < 10
