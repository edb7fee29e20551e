"""The database's own routes: what is kept, and pruning, by other rules only from this machine's socket."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
from starlette.types import Receive, Scope, Send

from edges import Mill, opened
from fakes import FakeClock
from tidemill.api.app import build_app


@pytest.fixture
async def mill(tmp_path: Path, clock: FakeClock) -> AsyncIterator[Mill]:
    async with opened(tmp_path, clock) as found:
        for days in (1, 10, 100):
            at = clock.now() - timedelta(days=days)
            await found.finish(await found.begin(await found.add(at=at)))
        yield found


def client(mill: Mill, *, socket: bool) -> httpx.AsyncClient:
    """Who asks over TCP, or over a socket's file, as the server tells the two apart."""
    app = build_app(mill, stop=asyncio.Event(), source=random.Random(1))

    async def reached(scope: Scope, receive: Receive, send: Send) -> None:
        server = ("/run/tidemill/control.sock", None) if socket else ("127.0.0.1", 4200)
        await app({**scope, "server": server}, receive, send)

    return httpx.AsyncClient(transport=httpx.ASGITransport(reached), base_url="http://localhost/api")


async def runs_left(mill: Mill) -> int:
    (count,) = await mill.store.read(lambda connection: connection.execute("SELECT count(*) FROM run").fetchone())
    return int(count)


async def test_what_is_kept_is_told_as_the_file_would_write_it(mill: Mill) -> None:
    async with client(mill, socket=False) as http:
        found = (await http.get("/database")).json()
    assert found["file"] == str(mill.store.path)
    assert found["retention"] == {
        "keep": "90d",
        "keep_runs_per_deployment": 1000,
        "keep_logs": "forever",
        "max_database_size": 2 * 1024**3,
    }


@pytest.mark.parametrize("socket", [True, False])
async def test_what_may_go_by_the_configuration_goes_for_whoever_asks(mill: Mill, socket: bool) -> None:
    async with client(mill, socket=socket) as http:
        answer = await http.post("/database/prune", json={})
    assert answer.json()["deleted"]["runs"] == 1
    assert answer.json()["more"] is False
    assert await runs_left(mill) == 2


async def test_other_rules_are_taken_from_a_sockets_file_only(mill: Mill) -> None:
    """P15: a page that got through to the port must not have the history deleted by one word."""
    async with client(mill, socket=False) as http:
        answer = await http.post("/database/prune", json={"keep": "1h"})
        assert answer.status_code == 403
        assert "control socket only" in answer.json()["detail"]
        assert await runs_left(mill) == 3
    async with client(mill, socket=True) as http:
        assert (await http.post("/database/prune", json={"keep": "5d"})).json()["deleted"]["runs"] == 2
    assert await runs_left(mill) == 1


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"keep": "soon"}, 'keep: "soon"'),
        ({"keep_runs_per_deployment": 0}, "keep_runs_per_deployment: 0 is not in"),
        ({"keep_artifact_versions": 1}, "there is no such rule of retention"),
        ({"command": "rm"}, "there is no such rule of retention"),
    ],
)
async def test_a_rule_that_is_none_is_told_and_nothing_goes(mill: Mill, body: dict[str, object], words: str) -> None:
    async with client(mill, socket=True) as http:
        answer = await http.post("/database/prune", json=body)
    assert answer.status_code == 422
    assert words in answer.json()["detail"]
    assert await runs_left(mill) == 3


async def test_metrics_are_text_behind_the_gate(mill: Mill) -> None:
    async with client(mill, socket=False) as http:
        answer = await http.get("http://localhost/metrics")
        assert answer.headers["content-type"].startswith("text/plain; version=")
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "# TYPE tidemill_flow_run_start_lateness_seconds histogram" in answer.text
        assert (await http.get("http://localhost/metrics", headers={"host": "evil.example"})).status_code == 403
