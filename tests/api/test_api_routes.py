"""Every route, over a real store: gated, in Prefect's field names, and saying why not."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest

from edges import DEPLOYMENTS, LONG, Mill, opened
from fakes import FakeClock
from tidemill.api import app as api_app
from tidemill.api import documents
from tidemill.api.reads import READS, find
from tidemill.api.writes import WRITES
from tidemill.core.schedules import Schedule, compile_schedule, fires
from tidemill.core.states import StateType
from tidemill.errors import StoreUnavailableError

JSON = {"content-type": "application/json"}


class Client:
    """Requests to the application without a socket."""

    def __init__(self, mill: Mill) -> None:
        self.mill = mill
        self.stop = asyncio.Event()
        self.app = api_app.build_app(mill, stop=self.stop, source=random.Random(1))
        self._http = httpx.AsyncClient(transport=httpx.ASGITransport(self.app), base_url="http://localhost")

    async def send(self, method: str, path: str, body: Any = None, **options: Any) -> httpx.Response:
        if body is not None:
            options["content"] = json.dumps(body)
        headers = ({} if body is None else JSON) | options.pop("headers", {})
        return await self._http.request(method, path, headers=headers, **options)

    async def get(self, path: str) -> Any:
        answer = await self.send("GET", f"/api{path}")
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def post(self, path: str, body: Any, status: int = 200) -> Any:
        answer = await self.send("POST", f"/api{path}", body)
        assert answer.status_code == status, answer.text
        return answer.json() if answer.content else None


@contextlib.asynccontextmanager
async def serving(folder: Path, clock: FakeClock) -> AsyncIterator[Client]:
    async with opened(folder, clock) as mill:
        client = Client(mill)
        async with client._http:
            yield client


# -- the gate stands before everything -------------------------------------------------------------------------------


async def test_every_route_there_is_is_behind_the_gate(tmp_path: Path, clock: FakeClock) -> None:
    """P15: exemptions are where other daemons were broken into; there are none, streams included."""
    async with serving(tmp_path, clock) as client:
        routes = api_app.routes(client.mill, stop=client.stop, source=random.Random(1))
        methods = {(method, route.path) for route in routes for method in (route.methods or set()) - {"HEAD"}}
        tabled = {(method, f"/api{path}") for method, path in (*READS, *WRITES)}
        assert tabled <= methods
        assert ("GET", "/api/events") in methods
        assert ("GET", "/api/logs/stream") in methods
        for method, template in methods:
            path = template.replace("{", "").replace("}", "")
            body = {} if method in {"POST", "PATCH"} else None
            for headers in (
                {"host": "evil.example"},
                {"origin": "http://evil.example"},
                {"sec-fetch-site": "cross-site"},
            ):
                answer = await client.send(method, path, body, headers=headers)
                assert answer.status_code == 403, (method, path, headers)
                assert "access-control-allow-origin" not in answer.headers
            if method in {"POST", "PATCH"}:
                answer = await client.send(method, path, body, headers={"content-type": "text/plain"})
                assert answer.status_code == 415, (method, path)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/api/health/", 404),  # exact paths only
        ("GET", "/api/Health", 404),
        ("GET", "/anything/health", 404),
        ("GET", "/api/flow_runs/x/health", 404),
        ("GET", "/", 404),
        ("GET", "/api/flow_runs/filter/", 404),
        ("OPTIONS", "/api/health", 415),
        ("DELETE", "/api/health", 405),
        ("GET", "/api/admin/version", 404),  # Prefect's own version would not be true
    ],
)
async def test_paths_match_exactly_or_not_at_all(
    tmp_path: Path, clock: FakeClock, method: str, path: str, status: int
) -> None:
    """P15"""
    async with serving(tmp_path, clock) as client:
        answer = await client.send(method, path)
        assert answer.status_code == status
        assert "detail" in answer.json()


async def test_answers_are_no_pages_and_are_not_kept(tmp_path: Path, clock: FakeClock) -> None:
    async with serving(tmp_path, clock) as client:
        answer = await client.send("GET", "/api/health")
        assert answer.json() is True
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["content-security-policy"].startswith("default-src 'none'")
        assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"{", "not JSON"),
        (b"[]", "not a JSON object"),
        (b'{"limit": NaN}', "not JSON"),
        (b"[" * 100_000, "not JSON"),  # deeper than any parser's stack
        (b'{"limit": "many"}', "limit"),
        (b'{"limit": -1}', "0 or more"),
        (b'{"offset": 9223372036854775808}', "offset is at most"),
        (b'{"sort": "BY_LUCK"}', "BY_LUCK"),
        (b'{"flow_runs": {"colour": {"any_": ["red"]}}}', "colour"),
        (b'{"flow_runs": {"operator": "or_"}}', "or_"),
        (b'{"artifacts": {"key": {"any_": ["x"]}}}', "cannot be filtered by artifacts"),
        (b'{"flow_runs": {"expected_start_time": {"after_": "2026-11-21T09:00:00"}}}', "offset"),
        (b"\xff\xfe", "not JSON"),
    ],
)
async def test_a_body_that_cannot_be_meant_is_refused_in_words(
    tmp_path: Path, clock: FakeClock, content: bytes, words: str
) -> None:
    """P13"""
    async with serving(tmp_path, clock) as client:
        answer = await client.send("POST", "/api/flow_runs/filter", headers=JSON, content=content)
        assert answer.status_code == 422
        assert words in answer.json()["detail"]


async def test_what_goes_wrong_inside_is_for_the_log_only(
    tmp_path: Path, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    """P14"""
    async with serving(tmp_path, clock) as client:
        client.mill.failing = RuntimeError("secret-value")
        answer = await client.send("POST", "/api/deployments/bored-daily/create_flow_run", {})
        assert answer.status_code == 500
        assert "secret-value" not in answer.text
        assert "a request failed" in caplog.text


async def test_a_disk_that_is_full_is_503_with_the_reason(tmp_path: Path, clock: FakeClock) -> None:
    """P11"""
    async with serving(tmp_path, clock) as client:
        client.mill.failing = StoreUnavailableError("the disk is full; nothing was changed")
        answer = await client.send("POST", "/api/deployments/bored-daily/create_flow_run", {})
        assert answer.status_code == 503
        assert answer.json()["detail"] == "the disk is full; nothing was changed"


async def test_ready_says_when_the_daemon_is_stopping(tmp_path: Path, clock: FakeClock) -> None:
    async with serving(tmp_path, clock) as client:
        assert (await client.send("GET", "/api/ready")).status_code == 200
        client.stop.set()
        assert (await client.send("GET", "/api/ready")).status_code == 503


# -- flow runs -------------------------------------------------------------------------------------------------------


async def test_a_flow_run_has_prefects_fields(tmp_path: Path, clock: FakeClock) -> None:
    async with serving(tmp_path, clock) as client:
        mill = client.mill
        run = await mill.add(tags=("api",), parameters={"url": "http://x"}, name="brisk-otter", key="once")
        clock.advance(2)
        run = await mill.begin(run)
        clock.advance(3)
        found = await client.get(f"/flow_runs/{run.id}")
        assert found["id"] == run.id
        assert found["name"] == "brisk-otter"
        assert found["deployment"] == "bored-daily"
        assert found["flow"] == "http_request"
        assert found["state_type"] == found["state"]["type"] == "RUNNING"
        assert found["state_name"] == found["state"]["name"] == "Running"
        assert found["expected_start_time"] == "2026-11-21T09:00:00Z"
        assert found["start_time"] == "2026-11-21T09:00:02Z"
        assert found["end_time"] is None
        assert found["run_count"] == 1
        assert found["total_run_time"] == 0
        assert found["estimated_run_time"] == 3
        assert found["estimated_start_time_delta"] == 2
        assert found["parameters"] == {"url": "http://x"}
        assert found["tags"] == ["api"]
        assert found["idempotency_key"] == "once"
        assert found["auto_scheduled"] is False
        assert found["work_queue_name"] == "default"
        assert found["work_pool_name"] == "default"
        deployment = await client.get("/deployments/bored-daily")
        assert found["deployment_id"] == deployment["id"]
        assert found["flow_id"] == deployment["flow_id"]
        await mill.finish(run, StateType.FAILED, "status 500", {"status": 500})
        found = await client.get("/flow_runs/brisk-otter")
        assert found["state"]["message"] == "status 500"
        assert found["state"]["data"] == {"status": 500}
        assert found["end_time"] == "2026-11-21T09:00:05Z"
        assert found["total_run_time"] == found["estimated_run_time"] == 3


async def test_the_history_of_a_run_is_told_oldest_first(tmp_path: Path, clock: FakeClock) -> None:
    async with serving(tmp_path, clock) as client:
        run = await client.mill.finish(await client.mill.begin(await client.mill.add()))
        found = await client.get(f"/flow_run_states/?flow_run_id={run.id}")
        assert [each["name"] for each in found] == ["Scheduled", "Pending", "Running", "Completed"]
        assert found[-1]["id"] == (await client.get(f"/flow_runs/{run.id}"))["state_id"]
        assert (await client.send("GET", "/api/flow_run_states/")).status_code == 422


async def test_a_run_is_found_by_id_by_either_end_of_it_and_by_name(tmp_path: Path, clock: FakeClock) -> None:
    async with serving(tmp_path, clock) as client:
        run = await client.mill.add(name="brisk-otter")
        for text in (run.id, run.id.upper(), run.id[:8], run.id[:4], run.id[-8:], "brisk-otter"):
            assert (await client.get(f"/flow_runs/{text}"))["id"] == run.id
        for text in ("abc", run.id[:3], "no-such", run.id[-5:]):
            answer = await client.send("GET", f"/api/flow_runs/{text}")
            assert answer.status_code == 404
            assert text in answer.json()["detail"]


async def test_of_several_runs_with_one_name_the_newest_is_meant(tmp_path: Path, clock: FakeClock) -> None:
    async with serving(tmp_path, clock) as client:
        await client.mill.add(name="brisk-otter")
        clock.advance(1)
        newer = await client.mill.add(name="brisk-otter")
        assert (await client.get("/flow_runs/brisk-otter"))["id"] == newer.id


async def test_an_abbreviation_that_fits_several_lists_them(tmp_path: Path, clock: FakeClock) -> None:
    async with serving(tmp_path, clock) as client:
        runs = [await client.mill.add(), await client.mill.add()]
        answer = await client.send("GET", f"/api/flow_runs/{runs[0].id[:6]}")
        assert answer.status_code == 404
        for run in runs:
            assert run.id in answer.json()["detail"]


async def test_runs_are_filtered_sorted_and_paged(tmp_path: Path, clock: FakeClock) -> None:
    async with serving(tmp_path, clock) as client:
        mill = client.mill
        old = await mill.finish(await mill.begin(await mill.add(name="old", tags=("a", "b"))))
        clock.advance(60)
        failed = await mill.finish(await mill.begin(await mill.add(name="failed")), StateType.FAILED)
        coming = await mill.add(DEPLOYMENTS[1], name="coming", at=clock.now() + timedelta(hours=1), tags=("a",))

        async def names(body: dict[str, Any]) -> list[str]:
            found = [each["name"] for each in await client.post("/flow_runs/filter", body)]
            assert await client.post("/flow_runs/count", body | {"limit": None, "offset": 0}) >= len(found)
            return found

        assert await names({}) == ["coming", "failed", "old"]
        # As Prefect's client sends it: whatever it knows, most of it null.
        nulls = {"flow_runs": {"id": None, "flow_version": None}, "work_pool_queues": None, "sort": None, "limit": None}
        assert await names(nulls) == ["coming", "failed", "old"]
        assert await names({"sort": "EXPECTED_START_TIME_ASC"}) == ["old", "failed", "coming"]
        assert await names({"limit": 1}) == ["coming"]
        assert await names({"limit": 1, "offset": 1}) == ["failed"]
        assert await names({"limit": 0}) == []
        assert await names({"flow_runs": {"state": {"type": {"any_": ["FAILED"]}}}}) == ["failed"]
        assert await names({"flow_runs": {"state": {"name": {"any_": ["Completed", "Scheduled"]}}}}) == [
            "coming",
            "old",
        ]
        assert await names({"flow_runs": {"state": {"type": {"any_": []}}}}) == []
        assert await names({"flow_runs": {"id": {"any_": [old.id, failed.id]}}}) == ["failed", "old"]
        assert await names({"flow_runs": {"name": {"any_": ["old"]}}}) == ["old"]
        assert await names({"flow_runs": {"name": {"like_": "%IL%"}}}) == ["failed"]
        assert await names({"flow_runs": {"tags": {"all_": ["a"]}}}) == ["coming", "old"]
        assert await names({"flow_runs": {"tags": {"all_": ["a", "b"]}}}) == ["old"]
        assert await names({"deployments": {"name": {"any_": ["report_weekly"]}}}) == ["coming"]
        assert await names({"deployments": {"name": {"like_": "REPORT"}}}) == ["coming"]
        assert await names({"flows": {"name": {"any_": ["http_request"]}}}) == ["failed", "old"]
        assert await names({"work_queues": {"name": {"any_": ["energy_usage"]}}}) == ["coming"]
        assert await names({"deployments": {"name": {}}, "flows": {"name": {}}}) == ["coming", "failed", "old"]
        assert await names({"deployments": {"name": {"any_": []}}}) == []
        until = {"expected_start_time": {"before_": clock.now().isoformat()}}
        assert await names({"flow_runs": until}) == ["failed", "old"]
        listed = await client.post("/deployments/filter", {"deployments": {"name": {"any_": ["report_weekly"]}}})
        assert await names({"flow_runs": {"deployment_id": {"any_": [listed[0]["id"]]}}}) == ["coming"]
        assert await client.post("/flow_runs/count", {"flow_runs": {"state": {"type": {"any_": ["FAILED"]}}}}) == 1
        assert (await client.get(f"/flow_runs/{coming.id}"))["next_scheduled_start_time"] == "2026-11-21T10:01:00Z"


async def test_the_log_of_a_run_is_read_on_from_a_number_by_level_and_from_its_end(
    tmp_path: Path, clock: FakeClock
) -> None:
    async with serving(tmp_path, clock) as client:
        run = await client.mill.begin(await client.mill.add())
        await client.mill.print(run, "one", "two", "three")
        await client.mill.print(run, "bad", level=40)

        async def lines(query: str) -> list[str]:
            return [each["message"] for each in await client.get(f"/flow_runs/{run.id}/logs{query}")]

        assert await lines("") == ["one", "two", "three", "bad"]
        first = (await client.get(f"/flow_runs/{run.id}/logs?limit=1"))[0]
        assert first["flow_run_id"] == run.id
        assert first["name"] == "print"
        assert first["level"] == 20
        assert first["timestamp"] == "2026-11-21T09:00:00Z"
        assert await lines(f"?after={first['number']}&limit=2") == ["two", "three"]
        assert await lines("?tail=true&limit=2") == ["three", "bad"]
        assert await lines("?level=30") == ["bad"]
        asked = {"logs": {"flow_run_id": {"any_": [run.id]}, "level": {"ge_": 0}}, "limit": 2, "offset": 2}
        assert [each["message"] for each in await client.post("/logs/filter", asked)] == ["three", "bad"]
        assert len(await client.post("/logs/filter", {})) == 4
        assert (await client.send("GET", f"/api/flow_runs/{run.id}/logs?after=x")).status_code == 422


# -- what is configured ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("at", "text"),
    [
        (datetime(2030, 1, 1, 9), "once at 2030-01-01 09:00:00 Europe/Helsinki"),  # noqa: DTZ001 - local
        (datetime(2030, 1, 1, 9, tzinfo=UTC), "once at 2030-01-01T09:00:00Z"),
    ],
)
def test_a_schedule_that_fires_once_is_told_in_its_own_zone_or_with_its_offset(at: datetime, text: str) -> None:
    once = Schedule(at=at, timezone="Europe/Helsinki")
    assert documents.schedule_text(once) == text
    due = next(iter(fires(compile_schedule(once), datetime(2026, 11, 21, tzinfo=UTC), limit=1)))
    assert documents.schedule(str(UUID(int=0)), "job", "1", 0, once)["schedule"]["rrule"].startswith(
        f"DTSTART:{due:%Y%m%dT%H%M%SZ}"
    )


async def test_a_deployment_has_prefects_fields(tmp_path: Path, clock: FakeClock) -> None:
    async with serving(tmp_path, clock) as client:
        mill = client.mill
        await mill.finish(await mill.begin(await mill.add()))
        clock.advance(1)
        await mill.add(at=clock.now() + timedelta(days=1))
        await mill.skip("the daemon was down")
        found = await client.get("/deployments/bored-daily")
        assert found["name"] == "bored-daily"
        assert found["flow"] == "http_request"
        assert found["paused"] is False
        assert found["schedules"][0]["schedule"] == {
            "cron": "0 9 * * *",
            "timezone": "Europe/Helsinki",
            "day_or": True,
        }
        assert found["schedules"][0]["deployment_id"] == found["id"]
        assert found["schedule_texts"] == ["0 9 * * * Europe/Helsinki"]
        assert found["overridable"] == ["url"]
        assert found["next_scheduled_start_time"] == "2026-11-22T09:00:01Z"
        assert found["last_run"]["state_name"] == "Completed"
        assert [each["reason"] for each in found["skipped_fires"]] == ["the daemon was down"]
        weekly = await client.get("/deployments/report_weekly")
        assert weekly["schedules"][0]["schedule"] == {"interval": 604800.0, "timezone": "UTC"}
        assert weekly["schedule_texts"] == ["every 1w + up to 1m30s"]
        assert weekly["concurrency_limit"] == 1


@pytest.mark.parametrize(
    "text",
    ["bored-daily", "bored_daily", "BORED-DAILY", "name/http_request/bored-daily", "name/http-request/bored_daily"],
)
async def test_a_deployment_is_found_by_its_names(tmp_path: Path, clock: FakeClock, text: str) -> None:
    async with serving(tmp_path, clock) as client:
        found = await client.get(f"/deployments/{text}")
        assert found["name"] == "bored-daily"
        assert (await client.get(f"/deployments/{found['id']}"))["name"] == "bored-daily"
        assert (await client.get(f"/deployments/{found['id'][:8]}"))["name"] == "bored-daily"


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/deployments/bored-dayly", "did you mean bored-daily?"),
        ("/deployments/reportweekly", "did you mean report_weekly?"),
        ("/deployments/zzz", "there are"),
        ("/work_queues/enery-usage", "did you mean energy_usage?"),
        ("/work_pools/spair", "did you mean spare?"),
        ("/flows/wekly", "did you mean weekly?"),
        ("/artifacts/find?key=activty", "did you mean activity?"),
        ("/artifacts/find?key=activity&version=7", "has no version 7; the newest kept are 1"),
    ],
)
async def test_what_is_not_there_is_answered_with_near_names(
    tmp_path: Path, clock: FakeClock, path: str, words: str
) -> None:
    async with serving(tmp_path, clock) as client:
        await client.mill.keep("activity", "{}")
        answer = await client.send("GET", f"/api{path}")
        assert answer.status_code == 404
        assert words in answer.json()["detail"]


async def test_ids_of_configured_things_are_the_same_everywhere_and_for_ever(tmp_path: Path, clock: FakeClock) -> None:
    async with serving(tmp_path, clock) as client:
        first = {each["name"]: each["id"] for each in await client.post("/deployments/filter", {})}
        pools = {each["name"]: each for each in await client.post("/work_pools/filter", {})}
        queues = await client.post("/work_queues/filter", {})
        assert {each["work_pool_id"] for each in queues} == {pools["default"]["id"]}
    async with serving(tmp_path, clock) as client:
        assert {each["name"]: each["id"] for each in await client.post("/deployments/filter", {})} == first


async def test_deployments_flows_queues_and_pools_are_listed(tmp_path: Path, clock: FakeClock) -> None:
    async with serving(tmp_path, clock) as client:

        async def names(path: str, body: dict[str, Any]) -> list[str]:
            return [each["name"] for each in await client.post(path, body)]

        assert await names("/deployments/filter", {}) == [LONG, "bored-daily", "report_weekly"]
        assert await names("/deployments/filter", {"limit": 1, "offset": 1}) == ["bored-daily"]
        assert await names("/deployments/filter", {"flows": {"name": {"any_": ["weekly"]}}}) == ["report_weekly"]
        assert await names("/flows/filter", {}) == ["http_request", "weekly"]
        assert await names("/work_queues/filter", {}) == ["default", "energy_usage"]
        assert await names("/work_pools/filter", {}) == ["default", "spare"]
        assert await names("/work_pools/default/queues/filter", {}) == ["default", "energy_usage"]
        assert await names("/work_pools/spare/queues/filter", {}) == []
        assert (await client.get("/work_pools/default/queues/energy-usage"))["concurrency_limit"] == 2
        flow = await client.get("/flows/name/weekly")
        assert (await client.get(f"/flows/{flow['id']}"))["name"] == "weekly"


async def test_a_queue_says_what_waits_is_late_and_runs_in_it(tmp_path: Path, clock: FakeClock) -> None:
    async with serving(tmp_path, clock) as client:
        mill = client.mill
        await mill.begin(await mill.add())
        await mill.add()
        await mill.add(at=clock.now() + timedelta(hours=1))
        found = await client.get("/work_queues/default")
        assert (found["running"], found["waiting"], found["upcoming"], found["late"]) == (1, 1, 1, 0)
        assert (await client.get("/work_pools/default"))["running"] == 1
        assert (await client.get("/work_queues/energy_usage"))["waiting"] == 0


# -- artifacts -------------------------------------------------------------------------------------------------------


async def test_artifacts_are_versions_of_keys(tmp_path: Path, clock: FakeClock) -> None:
    async with serving(tmp_path, clock) as client:
        mill = client.mill
        run = await mill.add()
        await mill.keep("activity", '{"a":1}', run=run)
        await mill.keep("activity", '{"a":2}', run=run)
        await mill.keep("folder/key with blanks", '"text"', type_="markdown")
        latest = await client.post("/artifacts/latest/filter", {})
        assert [(each["key"], each["version"]) for each in latest] == [("activity", 2), ("folder/key with blanks", 1)]
        found = await client.get("/artifacts/find?key=activity")
        assert found["data"] == {"a": 2}
        assert found["versions"] == [2, 1]
        assert found["deployment"] == "bored-daily"
        assert found["flow_run_id"] == run.id
        assert latest[0]["latest_id"] == found["id"]
        assert (await client.get("/artifacts/find?key=activity&version=1"))["data"] == {"a": 1}
        assert (await client.get("/artifacts/find?key=folder/key%20with%20blanks"))["data"] == "text"
        assert (await client.get(f"/artifacts/{found['id']}"))["data"] == {"a": 2}
        assert (await client.get("/artifacts/activity/latest"))["version"] == 2
        of_key = await client.post("/artifacts/filter", {"artifacts": {"key": {"any_": ["activity"]}}})
        assert [each["data"] for each in of_key] == [{"a": 2}, {"a": 1}]
        of_run = await client.post("/artifacts/filter", {"artifacts": {"flow_run_id": {"any_": [run.id]}}})
        assert len(of_run) == 2
        assert len(await client.post("/artifacts/filter", {})) == 3
        like = await client.post("/artifacts/latest/filter", {"artifacts": {"key": {"like_": "%blank%"}}})
        assert [each["key"] for each in like] == ["folder/key with blanks"]


# -- changes ---------------------------------------------------------------------------------------------------------


async def test_a_run_of_a_deployment_is_made(tmp_path: Path, clock: FakeClock) -> None:
    async with serving(tmp_path, clock) as client:
        made = await client.post(
            "/deployments/bored_daily/create_flow_run",
            {
                "name": "mine",
                "parameters": {"url": "http://y"},
                "tags": ["t"],
                "state": {"type": "SCHEDULED", "state_details": {"scheduled_time": "2026-11-22T00:00:00Z"}},
                "context": {},
                "empirical_policy": {},
                "job_variables": {},
            },
            201,
        )
        assert (made["name"], made["deployment"], made["parameters"]) == ("mine", "bored-daily", {"url": "http://y"})
        assert made["expected_start_time"] == "2026-11-22T00:00:00Z"
        assert made["state_type"] == "SCHEDULED"
        assert (await client.get("/flow_runs/mine"))["id"] == made["id"]


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({"parameters": {"method": "DELETE"}}, 400, "method"),  # not overridable
        ({"job_variables": {"command": "rm"}}, 422, "job_variables"),
        ({"work_queue_name": "other"}, 422, "work_queue_name"),
        ({"entrypoint": "evil.py:flow"}, 422, "entrypoint"),
        ({"command": "rm -rf /"}, 422, "command"),
        ({"state": {"type": "COMPLETED"}}, 422, "SCHEDULED"),
        ({"state": {"type": "SCHEDULED", "state_details": {"scheduled_time": "2026-11-22T00:00:00"}}}, 422, "offset"),
        ({"name": ""}, 422, "name"),
        ({"name": "x" * 257}, 422, "257"),
        ({"tags": ["t"] * 101}, 422, "tags"),
        ({"parameters": [1]}, 422, "parameters"),
    ],
)
async def test_a_run_takes_names_and_overridable_parameters_never_code(
    tmp_path: Path, clock: FakeClock, body: dict[str, Any], status: int, words: str
) -> None:
    """P15"""
    async with serving(tmp_path, clock) as client:
        answer = await client.send("POST", "/api/deployments/bored-daily/create_flow_run", body)
        assert answer.status_code == status
        assert words in answer.json()["detail"]
        assert await client.post("/flow_runs/count", {}) == 0


async def test_a_run_is_cancelled_and_retried_in_prefects_words(tmp_path: Path, clock: FakeClock) -> None:
    async with serving(tmp_path, clock) as client:
        run = await client.mill.begin(await client.mill.add())
        cancel = {"state": {"type": "CANCELLING", "message": "enough"}, "force": False}
        result = await client.post(f"/flow_runs/{run.id}/set_state", cancel, 201)
        assert result["status"] == "ACCEPT"
        assert result["state"]["name"] == "Cancelling"
        assert result["state"]["message"] == "enough"
        retry = {"state": {"type": "SCHEDULED", "name": "AwaitingRetry"}}
        result = await client.post(f"/flow_runs/{run.id}/set_state", retry)
        assert result["status"] == "REJECT"
        assert "only a finished run is retried" in result["details"]["reason"]
        await client.mill.finish(await client.mill.get(run.id), StateType.CANCELLED)
        assert (await client.post(f"/flow_runs/{run.id}/set_state", retry, 201))["state"]["type"] == "SCHEDULED"
        await client.post(f"/flow_runs/{run.id}/set_state", {"state": {"type": "COMPLETED"}}, 422)


async def test_a_run_is_deleted(tmp_path: Path, clock: FakeClock) -> None:
    async with serving(tmp_path, clock) as client:
        run = await client.mill.finish(await client.mill.begin(await client.mill.add()))
        assert (await client.send("DELETE", f"/api/flow_runs/{run.id}")).status_code == 204
        assert (await client.send("DELETE", f"/api/flow_runs/{run.id}")).status_code == 404


async def test_deployments_queues_and_pools_are_paused_and_resumed(tmp_path: Path, clock: FakeClock) -> None:
    async with serving(tmp_path, clock) as client:

        async def change(method: str, path: str, body: dict[str, Any]) -> None:
            assert (await client.send(method, f"/api{path}", body)).status_code == 204

        await change("POST", "/deployments/bored-daily/pause_deployment", {})
        assert (await client.get("/deployments/bored-daily"))["paused"] is True
        await change("POST", "/deployments/bored-daily/resume_deployment", {})
        assert (await client.get("/deployments/bored-daily"))["paused"] is False
        await change("PATCH", "/deployments/bored-daily", {"paused": True})
        assert (await client.get("/deployments/bored-daily"))["paused"] is True
        await change("PATCH", "/work_queues/energy-usage", {"is_paused": True})
        assert (await client.get("/work_queues/energy_usage"))["status"] == "PAUSED"
        await change("PATCH", "/work_pools/spare", {"is_paused": True})
        assert (await client.get("/work_pools/spare"))["is_paused"] is True
        await change("PATCH", "/work_pools/spare", {"is_paused": False})
        assert (await client.get("/work_pools/spare"))["is_paused"] is False
        # The rest is the configuration's, and is not passed over in silence.
        for body in ({"is_paused": True, "type": "process"}, {}, {"concurrency_limit": "2"}):
            assert (await client.send("PATCH", "/api/work_pools/spare", body)).status_code == 422


async def test_limits_and_priorities_are_set_by_hand_and_cleared(tmp_path: Path, clock: FakeClock) -> None:
    async with serving(tmp_path, clock) as client:
        body = {"concurrency_limit": 7, "priority": 3}
        assert (await client.send("PATCH", "/api/work_queues/energy-usage", body)).status_code == 204
        queue = await client.get("/work_queues/energy_usage")
        assert (queue["concurrency_limit"], queue["priority"]) == (7, 3)
        assert [(each["key"], each["file_value"], each["by"]) for each in queue["set_by_hand"]] == [
            ("concurrency_limit", 2, "api from 127.0.0.1"), ("priority", 2, "api from 127.0.0.1")
        ]  # fmt: skip
        assert await client.get("/overrides") == queue["set_by_hand"]
        body = {"kind": "work_queue", "name": "energy_usage", "key": "priority"}
        assert (await client.send("POST", "/api/overrides/clear", body)).json() == {"cleared": ["priority"]}
        assert (await client.get("/work_queues/energy_usage"))["priority"] == 2
        await client.send("PATCH", "/api/work_pools/spare", {"concurrency_limit": 1})
        assert (await client.get("/work_pools/spare"))["concurrency_limit"] == 1
        await client.send("PATCH", "/api/work_pools/spare", {"concurrency_limit": None})
        assert (await client.get("/work_pools/spare"))["set_by_hand"] == []
        await client.send("PATCH", "/api/deployments/report-weekly", {"concurrency_limit": None})
        assert (await client.get("/deployments/report_weekly"))["concurrency_limit"] is None


async def test_many_runs_are_changed_in_one_request_each_or_refused(tmp_path: Path, clock: FakeClock) -> None:
    async with serving(tmp_path, clock) as client:
        mill = client.mill
        done = await mill.finish(await mill.begin(await mill.add(name="done")))
        waiting = await mill.add(name="waiting")
        body = {"flow_runs": {"id": {"any_": [done.id, waiting.id]}}, "state": {"type": "CANCELLING"}}
        results = (await client.send("POST", "/api/flow_runs/bulk_set_state", body)).json()["results"]
        assert {each["flow_run_id"]: each["status"] for each in results} == {done.id: "REJECT", waiting.id: "ACCEPT"}
        assert (await mill.get(waiting.id)).state.message == "cancelled by api from 127.0.0.1"
        body = {"deployments": {"name": {"any_": ["bored-daily"]}}}
        answer = (await client.send("POST", "/api/flow_runs/bulk_delete", body)).json()
        assert (sorted(answer["deleted"]), answer["kept"]) == (sorted([done.id, waiting.id]), [])


@pytest.mark.parametrize("body", [{}, {"flow_runs": {}}, {"flow_runs": {"state": {"type": None}}}, {"limit": 5}])
async def test_a_change_of_many_runs_says_which(tmp_path: Path, clock: FakeClock, body: dict[str, Any]) -> None:
    """An empty filter means every run: it is a slip, and not done."""
    async with serving(tmp_path, clock) as client:
        await client.mill.add()
        for path, more in (("bulk_delete", {}), ("bulk_set_state", {"state": {"type": "CANCELLED"}})):
            answer = await client.send("POST", f"/api/flow_runs/{path}", body | more)
            assert answer.status_code == 422
            assert "does not say which runs" in answer.json()["detail"]


async def test_draining_is_begun_looked_at_and_undone(tmp_path: Path, clock: FakeClock) -> None:
    async with serving(tmp_path, clock) as client:
        assert (await client.get("/drain"))["draining"] is False
        assert (await client.send("POST", "/api/drain", {})).json()["by"] == "api from 127.0.0.1"
        assert (await client.get("/drain"))["draining"] is True
        assert (await client.send("DELETE", "/api/drain")).json()["draining"] is False


# -- the sample, and the table ---------------------------------------------------------------------------------------


async def test_the_sample_api_answers_where_it_is_switched_on(tmp_path: Path, clock: FakeClock) -> None:
    async with serving(tmp_path, clock) as client:
        answer = await client.send("GET", "/sample/activity")
        assert set(answer.json()) >= {"activity", "type", "participants", "price", "key"}
        client.mill.settings.api = type(client.mill.settings.api)(sample=False)
        assert (await client.send("GET", "/sample/activity")).status_code == 404


@pytest.mark.parametrize(
    ("method", "path", "template", "parts"),
    [
        ("GET", "/flow_runs/abc", "/flow_runs/{id}", {"id": "abc"}),
        ("GET", "/flow_runs/a%20b/logs", "/flow_runs/{id}/logs", {"id": "a b"}),
        ("GET", "/artifacts/find", "/artifacts/find", {}),
        ("GET", "/deployments/name/f/d", "/deployments/name/{flow}/{name}", {"flow": "f", "name": "d"}),
    ],
)
def test_the_commands_find_the_same_read_by_path(method: str, path: str, template: str, parts: dict[str, str]) -> None:
    assert find(method, path) == (READS[method, template], parts)


@pytest.mark.parametrize(("method", "path"), [("DELETE", "/flow_runs/x"), ("GET", "/flow_runs/"), ("GET", "/nothing")])
def test_a_path_that_is_no_read_is_none(method: str, path: str) -> None:
    assert find(method, path) is None
