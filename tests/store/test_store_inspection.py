"""Inspection: a whole database agrees with itself, and each rule notices its own breach."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from store_making import T0, begin, ended, new_run, opened

from tidemill.core.runs import LogRow
from tidemill.core.states import StateType
from tidemill.store import connections, inspection, logs, runs


async def made(folder: Path) -> Path:
    """A database with a run of each sort: planned, running, completed, failed."""
    async with opened(folder) as store:
        for seq in range(1, 5):
            await store.write(runs.CREATE_RUNS, new_run(seq, tags=("a",)))
        async with opened_again(folder) as connection:
            found = runs.documents(connection, "[1,2,3,4]")
        await store.write(runs.TRANSITIONS, begin(found[1]))
        for transition in (*ended(found[2]), *ended(found[3], StateType.FAILED)):
            await store.write(runs.TRANSITIONS, transition)
        store.post(logs.LOGS, LogRow(run=3, run_id=found[2].id, at=T0, level=20, logger="print", message="hello"))
        await store.flush()
    return folder / "tidemill.db"


class opened_again:  # noqa: N801 - reads as the function it stands for
    """A reader beside the store."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "tidemill.db"

    async def __aenter__(self) -> sqlite3.Connection:
        self._connection = connections.open_reader(self._path)
        return self._connection

    async def __aexit__(self, *error: object) -> None:
        self._connection.close()


async def test_facts_tell_what_is_in_it(tmp_path: Path) -> None:
    path = await made(tmp_path)
    with closing(connections.open_reader(path)) as reader:
        found = inspection.facts(reader, path)
    assert found.flow_runs == {"Scheduled": 1, "Running": 1, "Completed": 1, "Failed": 1}
    assert found.rows["history"] == 4 + 2 + 3 + 3  # made; begun; begun and ended, twice
    assert found.rows["log"] == 1
    assert found.bytes == path.stat().st_size
    assert found.sqlite == sqlite3.sqlite_version


@pytest.mark.parametrize("full", [False, True])
async def test_a_database_that_is_well_breaks_no_rule(tmp_path: Path, full: bool) -> None:
    path = await made(tmp_path)
    with closing(connections.open_reader(path)) as reader:
        assert inspection.damage(reader, full=full) == []
        assert [found for rule in inspection.RULES if (found := inspection.broken(reader, rule))] == []


BREACHES = {
    "unfinished_without_history": "UPDATE run SET state_name = 'Late' WHERE seq = 1",
    "begun_without_owner": "UPDATE run SET owner = NULL WHERE seq = 2",
    "processes_of_nothing": "INSERT INTO process VALUES (99, 1, 4711, 1, 'boot')",
    "without_history": "UPDATE run SET state_number = 9 WHERE seq = 3",
    "broken_history": "DELETE FROM history WHERE run = 3 AND number = 2",
    "history_of_nothing": "INSERT INTO history (run, number, type, at) VALUES (99, 1, 0, 0)",
    "ended_without_end": "UPDATE run SET end_time = NULL WHERE seq = 4",
    "without_route": "UPDATE run SET route = 99 WHERE seq = 4",
    "tasks_of_nothing": (
        "INSERT INTO task_run (id, run, name, task_key, dynamic_key, state_type, state_at, state_number, attempt, "
        "created, run_time) VALUES (printf('%036d', 1), 99, 'a', 'a', '0', 5, 0, 1, 0, 0, 0)"
    ),
    "lines_of_nothing": "UPDATE log SET run = 99",
    "events_of_nothing": "INSERT INTO emitted (run, at, occurred, event) VALUES (99, 0, 0, 'e')",
    "tags_of_nothing": "UPDATE run_tag SET run = 99 WHERE run = 1",
}


@pytest.mark.parametrize("name", BREACHES)
async def test_each_breach_is_noticed_by_its_rule_with_an_example(tmp_path: Path, name: str) -> None:
    path = await made(tmp_path)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(BREACHES[name])
    with closing(connections.open_reader(path)) as reader:
        found = {rule.name: inspection.broken(reader, rule) for rule in inspection.RULES}
    breach = found[name]
    assert breach is not None
    assert breach.count == len(breach.examples) == 1


def test_every_rule_has_a_breach() -> None:
    """But the one that the UNIQUE index forbids: only a damaged file breaks it."""
    assert {rule.name for rule in inspection.RULES} == {*BREACHES, "due_twice"}


async def test_a_damaged_file_is_told_in_sqlites_words(tmp_path: Path) -> None:
    path = await made(tmp_path)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        (page,) = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'run_id'").fetchone()
    with path.open("r+b") as file:
        file.seek(page * 4096 - 300)  # entries stand at the end of their page
        file.write(b"\xff" * 300)
    with closing(connections.open_reader(path)) as reader:
        assert inspection.damage(reader, full=True)
