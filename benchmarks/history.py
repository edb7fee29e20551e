"""A long history: how long every list, filter and page of the API takes, and what pruning it does to starts."""

from __future__ import annotations

import asyncio
import random
import sqlite3
import time
from collections.abc import Sequence
from contextlib import closing
from datetime import timedelta
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
from starlette.types import ASGIApp, Message

from benchmarks.figures import Figure, median
from benchmarks.rig import CLOCK, TWO_FLOWS, Rig, at_rest, folder, services, spaced
from tidemill.api.app import build_app
from tidemill.clock import to_us
from tidemill.core.states import StateType
from tidemill.ids import Ids, stable_id
from tidemill.store.history import NUMBER_OF

TITLE = "A long history: lists, filters and pages of the API, and retention"
DEPLOYMENTS = 50
APART_US = 7_000_000  # a run every 7 s: a million is 81 days
TAGGED = 100  # one run in so many has a tag of its own
_S = StateType
# Of every 100 runs: how they ended, and the name where it is not the plain one.
ENDS = [(_S.FAILED, None)] * 3 + [(_S.FAILED, "TimedOut"), (_S.CRASHED, None), (_S.CANCELLED, "Skipped")]
LIST = "/api/flow_runs/filter"
COUNT = "/api/flow_runs/count"


def configuration() -> str:
    """Return the configuration whose deployments the history is of; they have no schedules."""
    tables = [f'[deployments.job-{number:02}]\nflow = "benchmarks.flows:nothing"\n' for number in range(DEPLOYMENTS)]
    return "\n".join(
        [
            TWO_FLOWS,
            '[retention]\nkeep = "forever"\nkeep_runs_per_deployment = "unlimited"\nmax_database_size = "100GB"\n',
            *tables,
        ]
    )


def fill(path: Path, count: int) -> None:
    """Write ``count`` finished runs with four states each into a closed store, as if they had come one by one."""
    ids, source = Ids(random.Random(2)), random.Random(3)
    first = to_us(CLOCK.now()) - (count + 10) * APART_US
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.executescript("PRAGMA synchronous = OFF; PRAGMA cache_size = -400000; PRAGMA wal_autocheckpoint = 0")
        at = connection.execute("SELECT max(seq), (SELECT max(number) FROM route) FROM run").fetchone()
        seq, route = (each or 0 for each in at)
        connection.execute("INSERT OR IGNORE INTO owner (name) VALUES ('a daemon of old')")
        (owner,) = connection.execute("SELECT max(number) FROM owner").fetchone()
        connection.executemany(
            "INSERT INTO route VALUES (?, 'nothing', ?, 'default', 'default')",
            [(route + 1 + number, f"job-{number:02}") for number in range(DEPLOYMENTS)],
        )
        connection.executemany(
            "INSERT INTO schedule (number, deployment, identity) VALUES (1000 + ?, ?, 's-0123456789')",
            [(number, f"job-{number:02}") for number in range(DEPLOYMENTS)],
        )

        def rows(number: int) -> tuple[tuple[Any, ...], list[tuple[Any, ...]]]:
            due = first + number * APART_US
            now, began, spent = seq + 1 + number, due + 1500, source.randrange(2_000, 900_000)
            type_, name = ENDS[number % 100] if number % 100 < len(ENDS) else (_S.COMPLETED, None)
            job, end = source.randrange(DEPLOYMENTS), NUMBER_OF[type_]
            tags = f'["team-{number // TAGGED % 7}"]' if number % TAGGED == 0 else None
            when = CLOCK.now() - timedelta(microseconds=(count + 10 - number) * APART_US)
            run: tuple[Any, ...] = (
                now,
                ids.new(when),
                ids.name(),
                route + 1 + job,
                1000 + job,
                due,
                due,
                end,
                name,
                4,
                1,
                owner,
            )
            run += (due - 60_000_000, began, began + spent, spent, tags)
            states = [
                (now, 1, None, 0, None, due - 60_000_000),
                (now, 2, 0, 1, None, began),
                (now, 3, 1, 2, None, began),
            ]
            return run, [*states, (now, 4, 2, end, name, began + spent)]

        numbers = iter(range(count))
        while batch := [rows(number) for number in islice(numbers, 20_000)]:
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(
                "INSERT INTO run (seq, id, name, route, schedule, due, expected_start, state_type, state_name,"
                " state_number, attempt, owner, created, start_time, end_time, run_time, tags)"
                f" VALUES ({', '.join('?' * 17)})",
                [run for run, _ in batch],
            )
            connection.executemany(
                "INSERT INTO history (run, number, before, type, name, at) VALUES (?, ?, ?, ?, ?, ?)",
                [state for _, states in batch for state in states],
            )
            tagged = [(tag, run[0]) for run, _ in batch if run[-1] for tag in msgspec.json.decode(run[-1])]
            connection.executemany("INSERT INTO run_tag VALUES (?, ?)", tagged)
            connection.execute("COMMIT")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


async def answered(app: ASGIApp, method: str, path: str, body: object = None) -> tuple[float, Any]:
    """Ask the application as a connection would; return the seconds to its answer, and the answer."""
    route, _, query = path.partition("?")
    raw = b"" if body is None else msgspec.json.encode(body)
    headers = [(b"host", b"localhost"), (b"content-type", b"application/json")]
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": route,
        "raw_path": route.encode(),
        "query_string": query.encode(),
        "headers": [*headers, (b"content-length", str(len(raw)).encode())],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 4200),
    }
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": raw, "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    began = time.perf_counter()
    await app(scope, receive, send)
    spent = time.perf_counter() - began
    answer = b"".join(message.get("body", b"") for message in sent)
    if sent[0]["status"] != 200:
        raise SystemExit(f"{method} {path} {raw.decode()}: {answer.decode()}")
    return spent, msgspec.json.decode(answer)


def asked(rig: Rig, run: dict[str, Any], count: int) -> dict[str, tuple[str, str, object]]:
    """Return every kind of list, filter and page: name → method, path, body. ``run`` is one out of the middle."""
    now = CLOCK.now()
    week = {"after_": (now - timedelta(days=7)).isoformat(), "before_": now.isoformat()}
    old = {"before_": (now - timedelta(microseconds=APART_US * count * 3 // 4)).isoformat()}
    deployment = {"deployments": {"name": {"any_": ["job-07"]}}}
    own = stable_id(rig.house.catalogue.instance, "deployment", "job-07")

    def runs(**conditions: object) -> dict[str, object]:
        return {"flow_runs": conditions}

    def state(*types: str) -> dict[str, object]:
        return runs(state={"type": {"any_": types}})

    lists: dict[str, Any] = {"newest": {}} | {
        f"by {sort}": {"sort": sort}
        for sort in ("EXPECTED_START_TIME_ASC", "START_TIME_DESC", "END_TIME_DESC", "NAME_ASC", "NAME_DESC", "ID_DESC")
    }
    lists |= {f"page at {offset:,}": {"offset": offset} for offset in (200, 10_000, count // 2, count - 300)}
    lists |= {
        "completed": state("COMPLETED"),
        "failed": state("FAILED"),
        "failed, crashed": state("FAILED", "CRASHED"),
        "running": state("RUNNING"),
        "crashed by end": state("CRASHED") | {"sort": "END_TIME_DESC"},
        "state name TimedOut": runs(state={"name": {"any_": ["TimedOut"]}}),
        "state name Skipped or Completed": runs(state={"name": {"any_": ["Skipped", "Completed"]}}),
        "one deployment": deployment,
        "one deployment by id": runs(deployment_id={"any_": [own]}),
        "one deployment, failed": deployment | state("FAILED"),
        "one deployment, page at 10,000": deployment | {"offset": min(10_000, count // 60)},
        "one deployment by name": deployment | {"sort": "NAME_ASC"},
        "one flow": {"flows": {"name": {"any_": ["nothing"]}}},
        "one queue": {"work_queues": {"name": {"any_": ["default"]}}},
        "one pool": {"work_pools": {"name": {"any_": ["default"]}}},
        "one tag": runs(tags={"all_": ["team-3"]}),
        "a tag, failed": runs(tags={"all_": ["team-0"]}, state={"type": {"any_": ["FAILED"]}}),
        "a tag that nothing has": runs(tags={"all_": ["nobody"]}),
        "a name": runs(name={"any_": [run["name"]]}),
        "part of a name": runs(name={"like_": "otter"}),
        "part of a name that nothing has": runs(name={"like_": "qqqq"}),
        "an id": runs(id={"any_": [run["id"]]}),
        "the last week": runs(expected_start_time=week),
        "the last week, failed": runs(expected_start_time=week, state={"type": {"any_": ["FAILED"]}}),
        "long ago": runs(expected_start_time=old),
        "long ago, failed, by end": runs(expected_start_time=old, state={"type": {"any_": ["FAILED"]}})
        | {"sort": "END_TIME_DESC"},
        "one deployment, long ago": deployment | runs(expected_start_time=old),
    }
    found: dict[str, tuple[str, str, object]] = {f"list: {name}": ("POST", LIST, body) for name, body in lists.items()}
    unsorted = {name: body for name, body in lists.items() if "sort" not in body and "offset" not in body}
    found |= {f"count: {name}": ("POST", COUNT, body) for name, body in unsorted.items()}
    found |= {
        f"list: {kind}": ("POST", f"/api/{kind}/filter", {})
        for kind in ("deployments", "flows", "work_queues", "work_pools", "artifacts", "logs", "variables")
    }
    return found | {
        "one run": ("GET", f"/api/flow_runs/{run['id']}", None),
        "its states": ("GET", f"/api/flow_run_states/?flow_run_id={run['id']}", None),
        "its lines": ("GET", f"/api/flow_runs/{run['id']}/logs", None),
        "its task runs": ("POST", "/api/task_runs/filter", {"flow_runs": {"id": {"any_": [run["id"]]}}}),
        "the status": ("GET", "/api/status", None),
    }


async def _lists(rig: Rig, count: int, rounds: int) -> list[Figure]:
    app = build_app(rig.house.control, stop=asyncio.Event(), source=random.Random(1))
    _, middle = await answered(app, "POST", LIST, {"offset": count // 2, "limit": 1})
    times: dict[str, list[float]] = {}
    for _ in range(rounds):
        for name, question in asked(rig, middle[0], count).items():
            spent, _ = await answered(app, *question)
            times.setdefault(name, []).append(1000 * spent)
    usual = {name: median(spent) for name, spent in times.items()}
    slowest = sorted(usual, key=lambda name: usual[name], reverse=True)
    over = [f"{name} {usual[name]:.0f} ms" for name in slowest if usual[name] >= 50]
    least, _ = await answered(app, "GET", "/api/health")
    told = "; ".join(f"{name} {usual[name]:.0f}" for name in slowest[1:6])
    return [
        Figure(
            name=f"{len(usual)} lists, filters, pages, counts: p50",
            value=median(usual.values()),
            unit="ms",
            target="< 50",
            floor=1000 * least,
            note=f"{count:,} runs; in the application, without a socket; pages of 200; floor: GET /api/health",
        ),
        Figure(
            name="  the slowest",
            value=usual[slowest[0]],
            unit="ms",
            target="< 50",
            note=f"it is: {slowest[0]}; then, in ms: {told}",
            peers="others: Airflow's UI fails at 8,000 runs (issue 49800)",
        ),
        Figure(name="  how many take 50 ms or longer", value=len(over), unit="", target="≤ 0", note="; ".join(over)),
    ]


async def _retention(rig: Rig, count: int) -> list[Figure]:
    def dues() -> Sequence[Any]:
        return spaced(count, 0.0313, in_s=0.5)

    await at_rest()
    before = await rig.lateness(dues())
    pruning = asyncio.create_task(prune(rig))
    beside = await rig.lateness(dues())
    still = not pruning.done()
    rig.house.janitor.close()
    deleted = await pruning
    if not still:
        raise SystemExit("retention ended before the runs did: nothing was measured")
    slower = [1000 * (median(beside) - median(before)), 1000 * (max(beside) - max(before))]
    return [
        Figure(
            name="one run while retention prunes, p50",
            value=1000 * median(beside),
            unit="ms",
            floor=1000 * median(before),
            note=f"floor: the same without; {deleted:,} runs were deleted meanwhile",
        ),
        Figure(name="  how much later the median run starts", value=slower[0], unit="ms", target="< 20"),
        Figure(
            name="one run while retention prunes, latest", value=1000 * max(beside), unit="ms", floor=1000 * max(before)
        ),
    ]


async def prune(rig: Rig) -> int:
    """Let the janitor delete what it may, until it is told to stop; return how many runs went."""
    return (await rig.house.janitor.tick(CLOCK.now()))["runs"]


async def _measure(directory: Path, quick: bool) -> list[Figure]:
    count = 100_000 if quick else 1_000_000
    async with services(directory, configuration()):
        pass  # makes the database
    began = time.monotonic()
    fill(directory / "tidemill.db", count)
    filled_s = time.monotonic() - began
    began = time.monotonic()
    async with services(directory, configuration()) as rig:
        opened_s = time.monotonic() - began
        size = (directory / "tidemill.db").stat().st_size
        figures = await _lists(rig, count, 3)
        rig.house.catalogue.settings = retaining_little(rig)
        figures += await _retention(rig, 100 if quick else 300)
    note = f"{size / 1e6:,.0f} MB, written in {filled_s:.0f} s"
    return [*figures, Figure(name="to open the database, with its quick check", value=opened_s, unit="s", note=note)]


def retaining_little(rig: Rig) -> Any:
    """Return the settings with a retention that has much to do."""
    settings = rig.house.catalogue.settings
    little = msgspec.structs.replace(settings.retention, keep=timedelta(days=1), keep_runs_per_deployment=None)
    return msgspec.structs.replace(settings, retention=little)


def measure(quick: bool) -> list[Figure]:
    with folder() as directory:
        return asyncio.run(_measure(directory, quick))
