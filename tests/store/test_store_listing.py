"""Lists of runs: every filter in every order against a plain model, whichever way the store goes about it."""

from __future__ import annotations

import asyncio
import random
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from store_making import IDS, T0, at, change, ended, new_run, opened

from tidemill.core.filters import MAX_LIMIT, RunFilter, RunSort
from tidemill.core.runs import FlowRun
from tidemill.core.states import StateType
from tidemill.store import Store, connections, listing, runs

S = StateType
SEEDS = range(15)

# How the store may be made to go about it: bounds so low that it walks, or so high that it looks at each.
WAYS = [
    pytest.param({}, id="as-it-is"),
    pytest.param({"FEW": 0, "FEW_UNORDERED": 0, "LARGE": 1, "VERY_LARGE": 1}, id="walking"),
    pytest.param({"FEW": 0, "FEW_UNORDERED": 0, "FEW_WALKS": 1, "MANY": 0, "VERY_LARGE": 1}, id="walking-all"),
    pytest.param({"FEW": 0, "FEW_UNORDERED": 0, "DEEP": 3, "DISTINCT_NAMES": 2, "LARGE": 1}, id="deep"),
]


async def populate(store: Store) -> list[FlowRun]:
    """Write some two hundred runs of every kind; return them as they are."""
    source = random.Random(3)
    present: list[FlowRun] = []
    for seq in range(1, 221):
        number = source.randrange(6)
        run = new_run(
            seq,
            name=source.choice(["brisk-otter", "Brisk-Owl", "calm_fox", "100%-elk"]),
            flow=f"flow-{number % 2}",
            deployment=None if number == 5 else f"d{number}",
            work_queue=f"q{number % 3}",
            work_pool="process" if number == 4 else "default",
            # Many are expected at one instant.
            expected_start=at(source.randrange(40) * 10),
            tags=tuple(tag for tag in ("api", "db", "x") if source.random() < 0.4),
        )
        await store.write(runs.CREATE_RUNS, run)
        fate = source.randrange(10)
        changes = {
            0: [],
            1: [change(run, S.SCHEDULED, name="Late")],
            2: [change(run, S.CANCELLED, end_time=at(5))],
            3: ended(run)[:1],
            4: ended(run, S.FAILED, end_time=at(seq * 2 + 5)),
            5: [ended(run)[0], change(ended(run)[0].run, S.FAILED, name="TimedOut", end_time=at(seq))],
        }.get(fate, ended(run, end_time=at(source.randrange(300) + 5)))
        for each in changes:
            assert await store.write(runs.TRANSITIONS, each)
            run = each.run
        present.append(run)
    return present


Stock = tuple[sqlite3.Connection, list[FlowRun]]


@pytest.fixture(scope="module")
def stocked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stock]:
    """A database with runs of every kind in it, and those runs."""
    folder = tmp_path_factory.mktemp("listing")

    async def stock() -> list[FlowRun]:
        async with opened(folder) as store:
            return await populate(store)

    present = asyncio.run(stock())
    with closing(connections.open_reader(folder / "tidemill.db")) as connection:
        yield connection, present


def wanted_by(source: random.Random, present: list[FlowRun]) -> RunFilter:
    """Return a filter of one to three conditions, any order and any page."""

    def some(values: list[Any]) -> tuple[Any, ...]:
        return tuple(source.sample(values, source.randrange(0 if source.random() < 0.1 else 1, len(values))))

    def instant() -> datetime:
        return at(source.randrange(400))

    makers: dict[str, Any] = {
        "ids": lambda: some([run.id for run in source.sample(present, 5)]),
        "names": lambda: some(["brisk-otter", "calm_fox", "none"]),
        "text": lambda: source.choice(
            ["brisk", "OTTER", "k-o", "%", "_", "\\", "", source.choice(present).id[:20], source.choice(present).id]
        ),
        "deployments": lambda: some(["d0", "d1", "d2", "d3", "none"]),
        "flows": lambda: some(["flow-0", "flow-1", "none"]),
        "work_queues": lambda: some(["q0", "q1", "q2"]),
        "work_pools": lambda: some(["default", "process"]),
        "state_types": lambda: some(list(StateType)),
        "state_names": lambda: some(["Late", "TimedOut", "Completed", "Failed", "Scheduled", "None"]),
        "tags": lambda: some(["api", "db", "x", "none"]),
        "expected_start_after": instant,
        "expected_start_before": instant,
        "start_after": instant,
        "start_before": instant,
        "end_after": instant,
        "end_before": instant,
    }
    chosen = source.sample(sorted(makers), source.randrange(0, 4))
    return RunFilter(
        **{name: makers[name]() for name in chosen},
        sort=source.choice(list(RunSort)),
        limit=source.choice([1, 7, 50, 200, 1000]),
        offset=source.choice([0, 0, 3, 20]),
    )


def fits(run: FlowRun, wanted: RunFilter) -> bool:
    """The rules, said plainly."""

    def within(value: datetime | None, after: datetime | None, before: datetime | None) -> bool:
        if after is None and before is None:
            return True
        return value is not None and (after is None or value >= after) and (before is None or value <= before)

    def among(value: Any, allowed: tuple[Any, ...] | None) -> bool:
        return allowed is None or value in allowed

    text = wanted.text or ""
    return (
        among(run.id, wanted.ids)
        and among(run.name, wanted.names)
        and (text.lower() in run.name.lower() or (len(text) >= 8 and run.id.startswith(text.lower())))
        and among(run.deployment, wanted.deployments)
        and among(run.flow, wanted.flows)
        and among(run.work_queue, wanted.work_queues)
        and among(run.work_pool, wanted.work_pools)
        and among(run.state.type, wanted.state_types)
        and among(run.state.name, wanted.state_names)
        and set(wanted.tags or ()) <= set(run.tags)
        and within(run.expected_start, wanted.expected_start_after, wanted.expected_start_before)
        and within(run.start_time, wanted.start_after, wanted.start_before)
        and within(run.end_time, wanted.end_after, wanted.end_before)
    )


_KEYS: dict[str, Any] = {
    "EXPECTED_START_TIME": lambda run: run.expected_start,
    "START_TIME": lambda run: run.start_time or datetime.min.replace(tzinfo=T0.tzinfo),
    "END_TIME": lambda run: run.end_time or datetime.min.replace(tzinfo=T0.tzinfo),
    "NAME": lambda run: run.name,
    "ID": lambda run: run.id,
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("seed", SEEDS)
def test_a_page_is_what_the_rules_say(
    stocked: Stock, monkeypatch: pytest.MonkeyPatch, way: dict[str, int], seed: int
) -> None:
    for name, value in way.items():
        monkeypatch.setattr(listing, name, value)
    connection, present = stocked
    source = random.Random(seed)
    for _ in range(5):
        wanted = wanted_by(source, present)
        page = listing.select(connection, wanted)
        key = _KEYS[re.sub("_(ASC|DESC)$", "", wanted.sort)]
        fitting = sorted(
            (run for run in present if fits(run, wanted)),
            key=lambda run: (key(run), run.seq),
            reverse=wanted.sort.endswith("DESC"),
        )
        limit = min(wanted.limit, MAX_LIMIT)
        # Runs that are alike in the order go by row number.
        assert page == fitting[wanted.offset : wanted.offset + limit], wanted
        counts = listing.count_by_state(connection, wanted)
        expected: dict[tuple[StateType, str], int] = {}
        for run in fitting:
            state = (run.state.type, run.state.name)
            expected[state] = expected.get(state, 0) + 1
        assert counts == expected, wanted


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("sort", list(RunSort))
@pytest.mark.parametrize(
    "wanted",
    [
        pytest.param(RunFilter(), id="all"),
        pytest.param(RunFilter(state_types=(S.COMPLETED,)), id="one-state"),
        pytest.param(RunFilter(state_types=(S.COMPLETED, S.FAILED)), id="two-states"),
        pytest.param(RunFilter(state_names=("Completed", "TimedOut")), id="names"),
        pytest.param(RunFilter(deployments=("d1",)), id="one-route"),
        pytest.param(RunFilter(work_queues=("q1",)), id="routes"),
    ],
)
def test_page_after_page_shows_every_run_once(
    stocked: Stock,
    monkeypatch: pytest.MonkeyPatch,
    way: dict[str, int],
    sort: RunSort,
    wanted: RunFilter,
) -> None:
    for name, value in way.items():
        monkeypatch.setattr(listing, name, value)
    connection, present = stocked
    seen: list[str] = []
    for offset in range(0, len(present) + 30, 30):
        asked = replace(wanted, sort=sort, limit=30, offset=offset)
        seen += [run.id for run in listing.select(connection, asked)]
    assert sorted(seen) == sorted(run.id for run in present if fits(run, wanted))


async def test_lists_leave_the_data_of_states_out(tmp_path: Path) -> None:
    """A page of two hundred results of 64 KiB each is no page."""
    run = new_run(1)
    async with opened(tmp_path) as store:
        await store.write(runs.CREATE_RUNS, run)
        started, done = ended(run)
        done = replace(done, states=(replace(done.states[0], data={"x": 1}),))
        done = replace(done, run=replace(done.run, state=done.states[0]))
        for each in (started, done):
            await store.write(runs.TRANSITIONS, each)
        (listed,) = await store.read(lambda connection: listing.select(connection, RunFilter()))
        assert listed.state.data is None
        whole = await store.read(lambda connection: runs.get(connection, run.id))
        assert whole is not None and whole.state.data == {"x": 1}


def test_a_run_is_found_by_the_end_of_its_id(stocked: Stock) -> None:
    connection, present = stocked
    run = present[17]
    for end, found in ((run.id[-8:], [run.id]), (run.id[-12:].upper(), [run.id]), (IDS.new(T0)[-12:], [])):
        listed = listing.by_id_end(connection, end)
        assert [each.id for each in listed] == found


def test_nothing_a_user_types_becomes_sql(stocked: Stock) -> None:
    connection, _ = stocked
    evil = "'; DROP TABLE run; --"
    wanted = RunFilter(ids=(evil,), names=(evil,), text=evil, deployments=(evil,), tags=(evil,), state_names=(evil,))
    assert listing.select(connection, wanted) == []
    assert listing.count_by_state(connection, wanted) == {}
    query = "SELECT count(*) FROM sqlite_schema WHERE name = 'run'"
    assert connection.execute(query).fetchone() == (1,)
