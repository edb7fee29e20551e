"""The batch ops against a simple model: whatever comes together in whatever order, the same becomes of it."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from store_making import T0, change, new_run, opened

from tidemill.core.runs import FlowRun, Transition
from tidemill.core.states import State, StateType, may_follow
from tidemill.store import Store, history, runs

# A step: make a run, or change one, decided on the present state, on an older one, or against the rules.
_MAKE = st.tuples(st.just("make"), st.integers(0, 3), st.integers(0, 2))
_CHANGE = st.tuples(
    st.just("change"), st.integers(0, 5), st.lists(st.sampled_from(StateType), min_size=1, max_size=3), st.booleans()
)
_STEPS = st.lists(st.lists(st.one_of(_MAKE, _CHANGE), max_size=12), min_size=1, max_size=6)


class Model:
    """What the database should hold: runs with their states, and what each change should answer."""

    def __init__(self) -> None:
        self.runs: dict[int, FlowRun] = {}
        self.states: dict[int, list[State]] = {}
        self.fires: set[tuple[str | None, Any]] = set()
        self.last_seq = 0

    def make(self, schedule: int, due: int) -> tuple[FlowRun, bool]:
        self.last_seq += 1
        fire = (f"s{schedule}", T0 + timedelta(seconds=due))
        run = new_run(self.last_seq, schedule=fire[0], due=fire[1])
        if fire in self.fires:
            return run, False
        self.fires.add(fire)
        self.runs[run.seq] = run
        self.states[run.seq] = [run.state]
        return run, True

    def change(self, seq: int, kinds: list[StateType], stale: bool) -> tuple[Transition, bool | None] | None:
        """Return a change and its answer: None where the rules forbid it. Returns None where there is no such run."""
        if seq not in self.runs:
            return None
        run = self.runs[seq]
        basis = replace(run, state_number=run.state_number - 1) if stale and run.state_number > 1 else run
        decided = change(basis, *kinds, attempt=run.attempt + 1)
        if basis is not run:
            return decided, False
        before = run.state.type
        for kind in kinds:
            if not may_follow(before, kind, by_person=True):
                return decided, None
            before = kind
        self.runs[seq] = decided.run
        self.states[seq] += decided.states
        return decided, True


async def replay(folder: Path, groups: list[list[tuple[Any, ...]]]) -> None:
    model = Model()
    async with opened(folder) as store:
        for group in groups:
            # What is made in a group is made before what is changed in it: ops go by rank, items by arrival.
            futures: list[tuple[asyncio.Future[bool], bool | None]] = []
            for kind, *arguments in sorted(group, key=lambda step: step[0] != "make"):
                if kind == "make":
                    run, answer = model.make(*arguments)
                    futures.append((store.submit(runs.CREATE_RUNS, run), answer))
                elif (decided := model.change(*arguments)) is not None:
                    futures.append((store.submit(runs.TRANSITIONS, decided[0]), decided[1]))
            results = await asyncio.gather(*(future for future, _ in futures), return_exceptions=True)
            for result, (_, answer) in zip(results, futures, strict=True):
                assert isinstance(result, Exception) if answer is None else result is answer
            await compare(store, model)


async def compare(store: Store, model: Model) -> None:
    assert await store.read(lambda connection: connection.execute("SELECT seq FROM run").fetchall()) == [
        (seq,) for seq in sorted(model.runs)
    ]
    for seq, run in model.runs.items():
        assert await store.read(lambda connection, run=run: runs.get(connection, run.id)) == run
        assert await store.read(lambda connection, seq=seq: history.of(connection, seq)) == model.states[seq]


@settings(max_examples=25)
@given(_STEPS)
def test_groups_of_changes_do_what_the_same_changes_do_one_by_one(groups: list[list[tuple[Any, ...]]]) -> None:
    with TemporaryDirectory() as folder:
        asyncio.run(replay(Path(folder), groups))
