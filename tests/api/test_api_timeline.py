"""The timeline: everything in the order of time, in any piece, told as it was told live."""

from __future__ import annotations

import random
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from edges import DEPLOYMENTS, Mill, opened
from fakes import FakeClock
from tidemill.api import following, timeline
from tidemill.api.bodies import BadRequestError
from tidemill.api.timeline import Line, Tail, state_lines
from tidemill.core import transitions
from tidemill.core.daemon_log import DaemonLine
from tidemill.core.events import Event, RunChanged
from tidemill.core.ports import Outcome
from tidemill.core.retries import RetryPolicy
from tidemill.core.runs import SkippedFire
from tidemill.core.states import State, StateType
from tidemill.errors import NotFoundError
from tidemill.store import daemon_log, schedules
from tidemill.store.emitted import EMITTED, EmittedRow
from tidemill.telemetry.formats import rfc3339
from tidemill.telemetry.sentences import entries_of

S = StateType


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every border between pieces is met."""
    monkeypatch.setattr(timeline, "PIECE", 3)
    monkeypatch.setattr(timeline, "SPARSE", 8)
    monkeypatch.setattr(timeline, "WINDOWS", (2, 4))


async def read(mill: Mill, **query: Any) -> list[dict[str, Any]]:
    """Return the lines that a command would print while the daemon is down."""
    await mill.store.flush()
    given = {name: str(value) for name, value in query.items()}
    found = await mill.store.read(lambda connection: list(following.read_all(connection, given)))
    assert found[-1][0] == "cursor"
    return [data for event, data in found if event == "line"]


def said(lines: list[dict[str, Any]]) -> list[str]:
    return [line["message"] for line in lines]


async def live(mill: Mill, clock: FakeClock, seed: int) -> None:
    """Let several runs live side by side: attempts, pauses, retries by policy and by hand, cancellations."""
    source = random.Random(seed)
    runs = []
    for step in range(60):
        clock.advance(source.choice([0, 0.001, 0.4, 3]))
        if step % 6 == 0:
            runs.append(await mill.add(source.choice(DEPLOYMENTS)))
        run = source.choice(runs)
        run = await mill.get(run.id)
        kind = run.state.type
        if kind is S.SCHEDULED and source.random() < 0.2:
            late = State(type=kind, name="Late", timestamp=clock.now())
            await mill._write(run, transitions.enter(run, late))
        elif kind is S.SCHEDULED:
            await mill.begin(run)
        elif kind is S.RUNNING:
            await mill.print(run, f"step {step}", level=source.choice([10, 20, 30]))
            clock.advance(0.2)
            ends = [Outcome(type=S.COMPLETED, name="Completed"), Outcome(type=S.FAILED, name="TimedOut", message="no")]
            outcome = source.choice([*ends, Outcome(type=S.FAILED, name="Failed", message="bad", retriable=True)])
            policy = RetryPolicy(retries=2, delays=(timedelta(seconds=1),))
            run = await mill._write(run, transitions.conclude(run, outcome, clock.now(), retry=policy, source=source))
            if run.state.name == "AwaitingRetry":
                clock.advance((run.expected_start - clock.now()).total_seconds())
                await mill.begin(run)
        elif source.random() < 0.3:
            await mill.begin(await mill.retry_run(run.id))


@pytest.mark.parametrize("level", [10, 20, 30, 40, 50])
@pytest.mark.parametrize("seed", range(4))
async def test_history_is_told_as_it_was_told_live(tmp_path: Path, clock: FakeClock, seed: int, level: int) -> None:
    """From the rows alone, with the attempt, the time and the words of then."""
    events: list[Event] = []
    async with opened(tmp_path, clock) as mill:
        mill.events.listen(events.extend)
        await live(mill, clock, seed)
        told = [line for line in await read(mill, level=level) if line["kind"] == "state"]
    heard = [line for event in events if isinstance(event, RunChanged) for line in state_lines(event, level)]
    heard.sort(key=lambda line: line.at)
    assert len(told) == len(heard)
    assert sorted(line["id"] for line in told) == sorted(f"{line.run_id}:{(line.key or (0, 0))[1]}" for line in heard)
    by_id = {line["id"]: line for line in told}
    for line in heard:
        found = by_id[f"{line.run_id}:{(line.key or (0, 0))[1]}"]
        entry = line.entry
        assert found["message"] == entry.message
        assert (found["level"], found["subject"], found["fields"]) == (entry.level, entry.subject, entry.fields)


@pytest.mark.parametrize(("level", "wanted"), [(10, 3), (20, 3), (30, 0)])
async def test_what_a_flow_emits_is_told_as_it_was_told_live(
    tmp_path: Path, clock: FakeClock, level: int, wanted: int
) -> None:
    """With its time, which is the code's own word, at the place where it was told."""
    async with opened(tmp_path, clock) as mill:
        run = await mill.begin(await mill.add())
        events = [await mill.emit(run, "order.placed", "o.1"), await mill.emit(run, "nothing\x07else")]
        long_ago = clock.now() - timedelta(days=9)
        row = EmittedRow(run=run.seq, at=clock.now(), occurred=long_ago, event="late", about=None)
        await mill.store.write(EMITTED, row)
        events.append(replace(events[1], event="late", occurred=long_ago))
        found = [line for line in await read(mill, level=level) if line["kind"] == "event"]
    heard = [entry for event in events for entry in entries_of(event, level)]
    assert len(heard) == wanted
    assert [(line["timestamp"], line["level"], line["subject"], line["message"], line["fields"]) for line in found] == [
        (rfc3339(entry.at), entry.level, entry.subject, entry.message, entry.fields) for entry in heard
    ]


async def fill(mill: Mill, clock: FakeClock, seed: int) -> None:
    """Write some of everything, at times that often coincide and that are not always in order."""
    source = random.Random(seed)
    start = clock.now()
    run = await mill.begin(await mill.add(DEPLOYMENTS[0]))
    for number in range(40):
        clock.advance(source.choice([0, 0, 1, 5]))
        name = source.choice([each.name for each in DEPLOYMENTS])
        match source.randrange(7):
            case 0:
                run = await mill.begin(await mill.add(source.choice(DEPLOYMENTS)))
            case 1 if not (await mill.get(run.id)).state.is_terminal:
                run = await mill.finish(await mill.get(run.id), source.choice([S.COMPLETED, S.FAILED]))
            case 2:
                line = DaemonLine(at=clock.now(), level=source.choice([20, 40]), message=f"diary {number}")
                await mill.store.write(daemon_log.NOTE, replace(line, deployment=source.choice([None, name])))
            case 3:
                skipped = SkippedFire(
                    deployment=name, schedule="s", first=start, last=start, count=1, reason=f"{number}", at=clock.now()
                )
                await mill.store.write(schedules.PLAN, schedules.Plan(skipped=(skipped,)))
            case 4:
                await mill.keep(f"key-{source.randrange(3)}", f'"{number}"', run=run)
            case 5:
                await mill.emit(run, f"event-{number}", source.choice([None, "o.1"]))
            case _:
                await mill.print(run, f"line {number}", level=source.choice([10, 20, 30]))


@pytest.mark.parametrize("seed", range(6))
async def test_any_piece_of_the_timeline_is_that_piece_of_the_whole(
    tmp_path: Path, clock: FakeClock, seed: int
) -> None:
    source = random.Random(seed)
    start = clock.now()
    async with opened(tmp_path, clock) as mill:
        await fill(mill, clock, seed)
        whole = await read(mill, level=0)
        assert len(whole) > 40
        assert [line["timestamp"] for line in whole] == sorted(line["timestamp"] for line in whole)
        for _ in range(40):
            level = source.choice([0, 20, 30, 40])
            kept = [line for line in whole if line["level"] >= level]
            query: dict[str, Any] = {"level": level}
            if source.random() < 0.5:
                since = start + timedelta(seconds=source.randrange(60))
                query["since"] = since.isoformat()
                kept = [line for line in kept if datetime.fromisoformat(line["timestamp"]) >= since]
            if source.random() < 0.5:
                until = start + timedelta(seconds=source.randrange(100))
                query["until"] = until.isoformat()
                kept = [line for line in kept if datetime.fromisoformat(line["timestamp"]) < until]
            if source.random() < 0.5:
                names = source.sample([each.name for each in DEPLOYMENTS], 2)
                query["deployment"] = ",".join(names)
                kept = [line for line in kept if line["fields"].get("deployment") in names]
            if source.random() < 0.6:
                query["tail"] = source.choice([0, 1, 3, 10, 1000])
                kept = kept[len(kept) - min(len(kept), query["tail"]) :]
            found = await read(mill, **query)
            assert _sorted(found) == _sorted(kept), query


def _sorted(lines: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """What happened at one instant may stand in either order."""
    return sorted((line["timestamp"], line["message"]) for line in lines)


async def test_the_timeline_of_a_run_has_nothing_of_others(tmp_path: Path, clock: FakeClock) -> None:
    async with opened(tmp_path, clock) as mill:
        await fill(mill, clock, 1)
        run = await mill.begin(await mill.add(name="brisk-otter"))
        clock.advance(1)
        await mill.print(run, "one", "two")
        clock.advance(1)
        await mill.keep("result", '"x"', run=run)
        await mill.emit(run, "order.placed", "o.1")
        clock.advance(1)
        await mill.finish(run)
        found = await read(mill, flow_run_id=run.id)
        assert said(found) == [
            "Scheduled by person", "Running", "> one", "> two", "Artifact result version 1 (json, 3 characters)",
            "Event order.placed of o.1", "Completed in 3.0 s",
        ]  # fmt: skip
        assert {line["fields"]["run_id"] for line in found} == {run.id}
        assert {line["fields"]["run"] for line in found} == {"brisk-otter"}
        assert {line["subject"] for line in found} == {"bored-daily brisk-otter"}
        assert said(await read(mill, flow_run_id="brisk-otter", tail=2)) == said(found)[-2:]


async def test_a_line_that_was_written_late_is_not_lost(tmp_path: Path, clock: FakeClock) -> None:
    """Its run was out of reach while it was printed: its place is where it was written."""
    async with opened(tmp_path, clock) as mill:
        run = await mill.begin(await mill.add())
        for number in range(12):
            clock.advance(100)
            await mill.print(run, f"line {number}")
        clock.set_wall(clock.now() - timedelta(seconds=1000))
        await mill.print(run, "late")
        clock.set_wall(clock.now() + timedelta(seconds=2000))
        await mill.print(run, "last")
        found = said(await read(mill))
    assert found.count("> late") == 1
    assert found[-1] == "> last"


async def test_runs_that_live_long_are_told_where_they_began(tmp_path: Path, clock: FakeClock) -> None:
    """Its end lies far behind that of others, its start before all of them."""
    async with opened(tmp_path, clock) as mill:
        long = await mill.begin(await mill.add(name="long"))
        for number in range(20):
            clock.advance(1)
            await mill.finish(await mill.begin(await mill.add(name=f"short-{number}")))
        clock.advance(1)
        await mill.finish(await mill.get(long.id))
        found = [(line["subject"].split()[-1], line["message"]) for line in await read(mill)]
    assert found[1] == ("long", "Running")
    assert found[-1] == ("long", "Completed in 21.0 s")


async def test_finding_where_the_last_lines_begin_takes_pieces_of_bounded_size(
    tmp_path: Path, clock: FakeClock
) -> None:
    """P13: however few lines there are of what is wanted."""
    async with opened(tmp_path, clock) as mill:
        run = await mill.begin(await mill.add())
        await mill.print(run, "loud", level=40)
        for _ in range(5):
            await mill.print(run, *["quiet"] * 20)
        wanted = await mill.store.read(lambda connection: following.asked(connection, {"level": "40", "tail": "1"}))
        reading = following.begin(wanted)
        assert isinstance(reading, Tail)
        steps = 0
        while not await mill.store.read(reading.step):
            steps += 1
        assert steps > 100 // timeline.SPARSE
        lines: list[Line] = []
        found = reading.timeline()
        while not found.done:
            lines += await mill.store.read(found.page)
    assert [line.entry.message for line in lines] == ["> loud"]


@pytest.mark.parametrize(
    ("query", "error"),
    [
        ({"deployment": "bored-dayly"}, "did you mean bored-daily"),
        ({"flow_run_id": "zzzz"}, "no flow run has the id or name"),
        ({"since": "yesterday"}, 'since: "yesterday" is no date with time; write for example 2026-03-29T01:00:00Z'),
        ({"until": "2026-03-29T01:00:00"}, 'until: "2026-03-29T01:00:00" has no offset; write for example'),
        ({"tail": "100001"}, "at most the last 100000 lines"),
        ({"level": "loud"}, 'level: "loud" is not a number'),
        ({"cursor": "{}"}, "cursor: "),
    ],
)
async def test_what_makes_no_sense_is_refused(
    tmp_path: Path, clock: FakeClock, query: dict[str, str], error: str
) -> None:
    async with opened(tmp_path, clock) as mill:
        with pytest.raises((NotFoundError, BadRequestError), match=error):
            await mill.store.read(lambda connection: following.asked(connection, query))


async def test_a_run_of_another_deployment_is_not_looked_for_in_vain(tmp_path: Path, clock: FakeClock) -> None:
    async with opened(tmp_path, clock) as mill:
        run = await mill.add(DEPLOYMENTS[0])
        query = {"flow_run_id": run.id, "deployment": DEPLOYMENTS[1].name}
        with pytest.raises(BadRequestError, match="is not of deployment"):
            await mill.store.read(lambda connection: following.asked(connection, query))
