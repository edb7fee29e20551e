"""Streams: what happens, as it happens, to each reader for as long as it reads."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from edges import DEPLOYMENTS, Mill, opened
from fakes import FakeClock
from tidemill.api import app as api_app
from tidemill.api import sockets, streams
from tidemill.api.server import Server
from tidemill.core.events import ArtifactUpdated
from tidemill.core.states import StateType


class Reader:
    """A stream being read."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self.head = b""

    async def next(self) -> tuple[str, Any]:
        """Return the next message; ("", None) at the end."""
        event = ""
        while line := await asyncio.wait_for(self._reader.readline(), 10):
            if line == b"0\r\n":  # the last chunk; the connection is kept
                break
            if line.startswith(b"event: "):
                event = line[7:].strip().decode()
            elif line.startswith(b"data: "):
                return event, json.loads(line[6:])
        return "", None

    async def until_begun(self) -> None:
        """Return when the stream has begun to listen."""
        self.head = await self._reader.readuntil(b"\r\n\r\n")

    async def leave(self) -> None:
        self._writer.close()
        with contextlib.suppress(ConnectionError):
            await self._writer.wait_closed()


class Serving:
    """A mill with a real server on a unix socket."""

    def __init__(self, mill: Mill, folder: Path) -> None:
        self.mill, self.path = mill, folder / "control.sock"
        self.stop = asyncio.Event()
        self.readers: list[Reader] = []
        self.app = api_app.build_app(mill, stop=self.stop, source=random.Random(1))

    async def read(self, path: str) -> Reader:
        reader, writer = await asyncio.open_unix_connection(self.path)
        writer.write(f"GET /api{path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        found = Reader(reader, writer)
        self.readers.append(found)
        await found.until_begun()
        return found


@contextlib.asynccontextmanager
async def serving(folder: Path, clock: FakeClock) -> AsyncIterator[Serving]:
    async with opened(folder, clock) as mill:
        found = Serving(mill, folder)
        server = Server(found.app, [sockets.bind_control(found.path)], clock=clock)
        task = asyncio.create_task(server.serve_until(found.stop))
        try:
            yield found
        finally:
            found.stop.set()
            await task
            for reader in found.readers:
                await reader.leave()


async def test_every_state_that_a_run_enters_is_told_in_order(tmp_path: Path, clock: FakeClock) -> None:
    async with serving(tmp_path, clock) as served:
        mill = served.mill
        reader = await served.read("/events")
        await mill.events.until(1)
        run = await mill.finish(await mill.begin(await mill.add(name="brisk-otter")))
        found = [await reader.next() for _ in range(4)]
        assert [document["event"] for _, document in found] == [
            "prefect.flow-run.Scheduled",
            "prefect.flow-run.Pending",
            "prefect.flow-run.Running",
            "prefect.flow-run.Completed",
        ]
        document = found[3][1]
        assert document["resource"]["prefect.resource.id"] == f"prefect.flow-run.{run.id}"
        assert document["resource"]["prefect.state-type"] == "COMPLETED"
        assert document["payload"]["flow_run"]["name"] == "brisk-otter"
        assert document["related"][0]["prefect.resource.name"] == "bored-daily"
        assert document["occurred"] == "2026-11-21T09:00:00Z"
        assert len({document["id"] for _, document in found}) == 4
        await mill.delete_run(run.id, by="api")
        assert (await reader.next())[1]["event"] == "prefect.flow-run.Deleted"


async def test_a_stream_is_of_one_deployment_or_one_run(tmp_path: Path, clock: FakeClock) -> None:
    async with serving(tmp_path, clock) as served:
        mill = served.mill
        run = await mill.add(DEPLOYMENTS[1])
        of_run = await served.read(f"/events?flow_run_id={run.id}")
        of_deployment = await served.read("/events?deployment=report-weekly")
        await mill.events.until(2)
        await mill.add()
        other = await mill.add(DEPLOYMENTS[1])
        await mill.begin(run)
        assert (await of_run.next())[1]["event"] == "prefect.flow-run.Pending"
        assert other.id in (await of_deployment.next())[1]["resource"]["prefect.resource.id"]
        assert run.id in (await of_deployment.next())[1]["resource"]["prefect.resource.id"]


async def test_what_is_not_there_has_no_stream(tmp_path: Path, clock: FakeClock) -> None:
    async with serving(tmp_path, clock) as served:
        for path in ("/events?deployment=nothing", "/logs/stream?flow_run_id=nothing"):
            reader = await served.read(path)
            assert b"404 Not Found" in reader.head
        reader = await served.read("/logs/stream")
        assert b"422" in reader.head


async def test_a_reader_that_leaves_is_forgotten_at_once(tmp_path: Path, clock: FakeClock) -> None:
    """P13"""
    async with serving(tmp_path, clock) as served:
        reader = await served.read("/events")
        await served.mill.events.until(1)
        await reader.leave()
        await served.mill.events.until(0)


async def test_streams_end_at_once_when_the_daemon_stops(tmp_path: Path, clock: FakeClock) -> None:
    """P9"""
    async with serving(tmp_path, clock) as served:
        run = await served.mill.begin(await served.mill.add())
        readers = [await served.read("/events"), await served.read(f"/logs/stream?flow_run_id={run.id}")]
        await served.mill.events.until(2)
        served.stop.set()
        for reader in readers:
            while (await reader.next())[0]:
                pass
    assert served.mill.events.listening == 0


async def test_a_reader_that_is_too_slow_is_told_what_it_missed(tmp_path: Path, clock: FakeClock) -> None:
    """P13"""
    async with opened(tmp_path, clock) as mill:
        ending: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        stream = streams.events(mill, ending, streams.matching(None, None))
        assert await anext(stream) == b": tidemill events\n\n"
        reading = asyncio.ensure_future(anext(stream))
        await mill.events.until(1)
        run = await mill.add()
        assert b"Scheduled" in await reading
        changed = [streams.RunChanged(run, (run.state,), None)] * 1500
        mill.events.publish(changed)
        assert await anext(stream) == streams.message("dropped", {"count": 500})
        await stream.aclose()
        assert mill.events.listening == 0


async def test_a_log_is_followed_from_its_beginning_to_the_runs_end(tmp_path: Path, clock: FakeClock) -> None:
    async with serving(tmp_path, clock) as served:
        mill = served.mill
        run = await mill.begin(await mill.add())
        await mill.print(run, "before", "before too")
        reader = await served.read(f"/logs/stream?flow_run_id={run.id}")
        assert (await reader.next())[1]["name"] == "Running"
        assert [(await reader.next())[1]["message"] for _ in range(2)] == ["before", "before too"]
        await mill.print(run, "while it runs")
        event, line = await reader.next()
        assert (event, line["message"]) == ("log", "while it runs")
        await mill.print(run, "at last")
        await mill.finish(run, StateType.FAILED, "no luck")
        rest = [await reader.next() for _ in range(3)]
        assert {event for event, _ in rest} == {"log", "state", "end"}
        assert rest[-1][0] == "end"
        assert rest[-1][1]["state"]["message"] == "no luck"
        assert (await reader.next())[0] == ""


async def test_the_lines_of_a_short_run_come_after_the_state_in_which_it_printed_them(
    tmp_path: Path, clock: FakeClock
) -> None:
    async with opened(tmp_path, clock) as mill:
        run = await mill.add()
        ending: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        stream = streams.RunLog(mill, run, level=0, tail=None).messages(ending)
        told = [await anext(stream)]
        run = await mill.begin(run)
        clock.advance(1)
        await mill.print(run, "done")
        await mill.finish(run)
        told += [chunk async for chunk in stream]
        text = b"".join(told).decode()
        places = [text.index(word) for word in ('"name":"Scheduled"', '"name":"Running"', "done", '"name":"Completed"')]
        assert places == sorted(places)


async def test_the_log_of_a_run_that_has_ended_is_told_and_ends(tmp_path: Path, clock: FakeClock) -> None:
    async with serving(tmp_path, clock) as served:
        mill = served.mill
        run = await mill.begin(await mill.add())
        await mill.print(run, *(str(number) for number in range(1100)))
        await mill.finish(run)
        reader = await served.read(f"/logs/stream?flow_run_id={run.id}")
        found = []
        while (message := await reader.next())[0]:
            found.append(message)
        assert [event for event, _ in found] == [*["log"] * 1100, "state", "end"], "in the order of time"
        tail = await served.read(f"/logs/stream?flow_run_id={run.id}&tail=2&level=20")
        assert [(await tail.next())[0] for _ in range(4)] == ["log", "log", "state", "end"]


async def test_following_a_run_that_is_deleted_ends(tmp_path: Path, clock: FakeClock) -> None:
    async with serving(tmp_path, clock) as served:
        run = await served.mill.add(at=clock.now() + timedelta(hours=1))
        reader = await served.read(f"/logs/stream?flow_run_id={run.id}")
        assert (await reader.next())[0] == "state"
        await served.mill.delete_run(run.id, by="api")
        assert (await reader.next())[0] == ""


async def test_a_client_that_leaves_in_the_middle_of_its_request_is_no_fault(
    tmp_path: Path, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(tmp_path, clock) as served:
        _, writer = await asyncio.open_unix_connection(served.path)
        head = "POST /api/flow_runs/filter HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        writer.write(f"{head}Content-Length: 100\r\n\r\n{{".encode())
        writer.close()
        await writer.wait_closed()
        # Answered after the request that was broken off.
        reader = await served.read("/health")
        assert b"200 OK" in reader.head
    assert caplog.text == ""


async def test_progress_of_a_run_is_told_when_it_changes(tmp_path: Path, clock: FakeClock) -> None:
    async with serving(tmp_path, clock) as served:
        mill = served.mill
        run = await mill.begin(await mill.add())
        reader = await served.read(f"/logs/stream?flow_run_id={run.id}&progress=true")
        assert (await reader.next())[0] == "state"
        assert await reader.next() == ("progress", {"task_runs": [], "artifacts": []})
        made = await mill.keep("load", "5.0", run=run, type_="progress")
        mill.events.publish([ArtifactUpdated(made)])
        event, told = await reader.next()
        assert event == "progress"
        assert [(each["key"], each["data"]) for each in told["artifacts"]] == [("load", 5.0)]
        await mill.task(run, "first")
        await mill.finish(run)
        rest = [await reader.next() for _ in range(3)]
        assert [event for event, _ in rest] == ["state", "progress", "end"]
        assert rest[1][1]["task_runs"] == [{"state_type": "COMPLETED", "state_name": "Completed", "count": 1}]


async def test_an_artifact_that_was_changed_in_place_is_an_event(tmp_path: Path, clock: FakeClock) -> None:
    async with serving(tmp_path, clock) as served:
        reader = await served.read("/events")
        await served.mill.events.until(1)
        made = await served.mill.keep("load", "5.0", type_="progress")
        served.mill.events.publish([ArtifactUpdated(made)])
        found = []
        while not found or found[-1]["event"] != "prefect.artifact.updated":
            found.append((await reader.next())[1])
        assert found[-1]["payload"]["data"] == 5.0
