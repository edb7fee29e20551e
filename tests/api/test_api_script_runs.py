"""The routes of plain scripts: JSON as the protocol says, bounded, and behind the gate like every other."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import msgspec
import pytest
from test_api_routes import Client, serving

from fakes import FakeClock
from tidemill.api import gate, script_runs
from tidemill.core.script_runs import MAX_BODY_BYTES, MAX_REPORTS, ScriptAnswer, ScriptBegun, ScriptHeard

NOW = "2026-11-21T09:00:00Z"
LINE = {"kind": "log", "at": NOW, "level": 20, "logger": "print", "message": "hello"}


class Script:
    def __init__(self, client: Client) -> None:
        self.client = client

    async def begin(self) -> Script:
        body = {"key": str(uuid.UUID(int=1)), "flow": "my-flow", "parameters": {"n": 1}, "tags": ["a"]}
        begun = msgspec.convert(await self.client.post("/script_runs/", body, 201), ScriptBegun)
        self.id, self.session = begun.id, begun.session
        return self

    async def say(self, what: str, status: int = 200, **body: Any) -> Any:
        return await self.client.post(f"/script_runs/{self.id}/{what}", {"session": self.session, **body}, status)


async def test_a_run_is_begun_reported_and_ended(tmp_path: Path, clock: FakeClock) -> None:
    async with serving(tmp_path, clock) as client:
        script = await Script(client).begin()
        (listed,) = await client.post("/flow_runs/filter", {})
        assert (listed["id"], listed["state_name"], listed["flow"]) == (script.id, "Running", "my-flow")
        assert (listed["deployment"], listed["parameters"], listed["tags"]) == (None, {"n": 1}, ["a"])
        heard = await script.say("reports", number=1, reports=[LINE])
        assert msgspec.convert(heard, ScriptHeard) == ScriptHeard()
        (line,) = await client.get(f"/flow_runs/{script.id}/logs")
        assert line["message"] == "hello"
        state = {"type": "COMPLETED", "name": "Completed", "timestamp": NOW, "data": [1]}
        ended = await script.say("end", number=2, state=state)
        assert (ended["id"], ended["state_name"], ended["state"]["data"]) == (script.id, "Completed", [1])
        assert await script.say("end", number=2, state=state) == ended
        gone = await script.say("reports", 409, number=3)
        assert "takes nothing from a script" in gone["detail"]


async def test_a_question_is_answered_or_not_yet(tmp_path: Path, clock: FakeClock) -> None:
    async with serving(tmp_path, clock) as client:
        script = await Script(client).begin()
        answer = await script.say("ask", number=1, question={"kind": "secret", "ref": {"env": "PATH"}})
        found = msgspec.convert(answer, ScriptAnswer)
        assert (found.answer, found.error) == (None, "secrets are not given out here; a script reads its own")


# A body -> the status and a part of what is said.
REFUSED: dict[str, tuple[str, dict[str, Any], int, str]] = {
    "an unknown kind of report": ("reports", {"number": 1, "reports": [{"kind": "run", "command": "rm"}]}, 422, "kind"),
    "a report with an unknown key": ("reports", {"number": 1, "cmd": "x"}, 422, "unknown field `cmd`"),
    "no number": ("reports", {}, 422, "missing required field `number`"),
    "a gap": ("reports", {"number": 3}, 409, "body 3 came, and 1 is the next"),
    "another session": ("reports", {"number": 1, "session": "x"}, 409, "is another script's"),
    "an unknown question": ("ask", {"number": 1, "question": {"kind": "shell"}}, 422, "shell"),
    "no end": (
        "end",
        {"number": 1, "state": {"type": "RUNNING", "name": "R", "timestamp": NOW}},
        400,
        "not in RUNNING",
    ),
    "too many reports": ("reports", {"number": 1, "reports": [LINE] * (MAX_REPORTS + 1)}, 422, "10000 are possible"),
}


@pytest.mark.parametrize("case", REFUSED)
async def test_what_a_script_may_not_say_is_refused_with_the_reason(
    case: str, tmp_path: Path, clock: FakeClock
) -> None:
    """P15"""
    what, body, status, text = REFUSED[case]
    async with serving(tmp_path, clock) as client:
        script = await Script(client).begin()
        assert text in (await script.say(what, status, **body))["detail"]
        (listed,) = await client.post("/flow_runs/filter", {})
        assert listed["state_name"] == "Running"


async def test_a_run_that_is_not_there_is_404(tmp_path: Path, clock: FakeClock) -> None:
    async with serving(tmp_path, clock) as client:
        script = await Script(client).begin()
        script.id = "x"
        await script.say("reports", 404, number=1)


async def test_reports_may_be_as_large_as_artifacts_are_and_nothing_else_may(tmp_path: Path, clock: FakeClock) -> None:
    """P13"""
    async with serving(tmp_path, clock) as client:
        script = await Script(client).begin()
        large = {"kind": "artifact", "key": "a", "type": "json", "data": "x" * 1_000_000}
        assert await script.say("reports", number=1, reports=[large]) == {}
        refused = await script.say("reports", 413, number=2, reports=[large] * 5)
        assert refused["detail"] == f"the body is larger than {MAX_BODY_BYTES // 1024} KiB"
        answer = await client.send("POST", "/api/flow_runs/filter", {"sort": "x" * gate.MAX_BODY_BYTES})
        assert answer.status_code == 413


def test_the_docstring_tells_every_route() -> None:
    for method, path in script_runs.SAYINGS:
        assert f"``{method} /api{path}``" in (script_runs.__doc__ or "")
