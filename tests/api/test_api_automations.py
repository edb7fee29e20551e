"""Automations over HTTP: listed, looked at, paused, tried out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from test_api_routes import serving

from fakes import FakeClock
from tidemill.core.automations import Cause, Fire, Step, StepState, Tell
from tidemill.store.automations import CARRY, FIRE


async def test_automations_are_listed_with_what_they_wait_for_and_do(tmp_path: Path, clock: FakeClock) -> None:
    async with serving(tmp_path, clock) as client:
        first, second = await client.post("/automations/filter", {})
        assert (first["name"], first["enabled"], first["description"]) == ("must-succeed", True, "somebody has to look")
        assert first["when"] == "no Completed run of bored-daily for 1d1h"
        assert first["then"][0] == "tell default"
        assert first["trigger"]["type"] == "no"
        assert [action["type"] for action in first["actions"]] == ["notify", "run"]
        assert (first["fires"], first["last_fire"]) == (0, None)
        assert (second["name"], second["enabled"]) == ("three_strikes", False)


async def test_a_list_is_filtered_by_name_and_id(tmp_path: Path, clock: FakeClock) -> None:
    async with serving(tmp_path, clock) as client:
        everything = await client.post("/automations/filter", {})

        async def names(**asked: Any) -> list[str]:
            found = await client.post("/automations/filter", {"automations": asked})
            return [each["name"] for each in found]

        assert await names(name={"any_": ["three_strikes"]}) == ["three_strikes"]
        assert await names(name={"like_": "SUCC"}) == ["must-succeed"]
        assert await names(id={"any_": [everything[1]["id"]]}) == ["three_strikes"]
        page = await client.post("/automations/filter", {"limit": 1, "offset": 1})
        assert [each["name"] for each in page] == ["three_strikes"]


async def test_one_is_found_by_name_and_id_and_near_names_are_told(tmp_path: Path, clock: FakeClock) -> None:
    async with serving(tmp_path, clock) as client:
        found = await client.get("/automations/three-strikes")
        assert await client.get(f"/automations/{found['id']}") == found
        answer = await client.send("GET", "/api/automations/must-suceed")
        assert answer.status_code == 404
        assert answer.json() == {"detail": 'no automation is called "must-suceed"; did you mean must-succeed?'}


async def test_what_one_did_is_told_newest_first(tmp_path: Path, clock: FakeClock) -> None:
    async with serving(tmp_path, clock) as client:
        now = clock.now()
        for key in ("1", "2"):
            cause = Cause(key=key, at=now, reason=f"reason {key}", deployment="bored-daily", run="r")
            step = Step(action=Tell(channel="default"))
            fire = Fire(automation="must-succeed", cause=cause, at=now, steps=(step,))
            fire = Fire(
                number=await client.mill.store.write(FIRE, fire) or 0,
                automation="must-succeed",
                cause=cause,
                at=now,
                steps=(Step(action=step.action, state=StepState.FAILED, tries=2, told="no such channel"),),
                finished=now if key == "1" else None,
            )
            await client.mill.store.write(CARRY, fire)
        newest, oldest = await client.get("/automations/must-succeed/fires")
        assert (newest["reason"], newest["state"]) == ("reason 2", "failed")
        assert oldest["steps"] == [{"action": "tell default", "state": "failed", "tries": 2, "told": "no such channel"}]
        assert (oldest["deployment"], oldest["flow_run_id"]) == ("bored-daily", "r")
        assert await client.get("/automations/must-succeed/fires?limit=1&offset=1") == [oldest]
        listed = await client.get("/automations/must-succeed")
        assert (listed["fires"], listed["last_fire"]) == (2, newest)


async def test_one_is_paused_and_resumed_by_hand(tmp_path: Path, clock: FakeClock) -> None:
    async with serving(tmp_path, clock) as client:
        for enabled in (False, True):
            answer = await client.send("PATCH", "/api/automations/must-succeed", {"enabled": enabled})
            assert answer.status_code == 204
            assert (await client.get("/automations/must-succeed"))["enabled"] is enabled


async def test_an_automation_is_the_files_to_say(tmp_path: Path, clock: FakeClock) -> None:
    """P15: what is done, and to whom, cannot be sent."""
    async with serving(tmp_path, clock) as client:
        for body in ({}, {"enabled": True, "actions": []}, {"trigger": {}}, {"enabled": "no"}):
            answer = await client.send("PATCH", "/api/automations/must-succeed", body)
            assert answer.status_code == 422
        for method, path in (("POST", "/api/automations/"), ("DELETE", "/api/automations/must-succeed")):
            assert (await client.send(method, path, {})).status_code in (404, 405)


async def test_one_is_tried_out_and_tells_how_it_stands(tmp_path: Path, clock: FakeClock) -> None:
    async with serving(tmp_path, clock) as client:
        assert await client.post("/automations/must-succeed/test", {}) == {
            "told": ["default"],
            "not_done": ["the rest"],
        }
        assert await client.get("/automations/must-succeed/standing") == ["must-succeed waits"]
