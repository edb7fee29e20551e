"""What flow code asks the daemon: one call for sync and async code, and errors of its own kind."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from tidemill import flow, pause_flow_run, resume_flow_run, task
from tidemill.blocks import JSON, Block, HttpApi, Secret, Webhook
from tidemill.concurrency.asyncio import concurrency as aconcurrency
from tidemill.concurrency.asyncio import rate_limit as arate_limit
from tidemill.concurrency.sync import concurrency, rate_limit
from tidemill.core.json_schemas import faults
from tidemill.core.reports import (
    PauseQuestion,
    Question,
    ResumeQuestion,
    RunDeploymentQuestion,
    RunStateQuestion,
    SlotsQuestion,
)
from tidemill.deployments import run_deployment
from tidemill.errors import TidemillError
from tidemill.events import emit_event
from tidemill.exceptions import ConcurrencySlotAcquisitionError, FlowPauseTimeout, FlowRunWaitTimeout, NoRunError
from tidemill.flow_runs import wait_for_flow_run
from tidemill.sdk.connect import begin_with
from tidemill.sdk.harness import HarnessRun, tidemill_test_harness
from tidemill.sdk.memory import MemoryRecorder
from tidemill.variables import Variable


class Daemon(MemoryRecorder):
    """Answers what a daemon answers, by a script: the kind of a question -> its answer, or an error."""

    def __init__(self, answers: dict[type, Any]) -> None:
        super().__init__()
        self.answers = answers

    async def ask(self, question: Question) -> Any:
        if type(question) not in self.answers:
            return await super().ask(question)
        self.questions.append(question)
        answer = self.answers[type(question)]
        if isinstance(answer, Exception):
            raise answer
        return answer(question) if callable(answer) else answer


@pytest.fixture
def daemon() -> Iterator[Any]:
    """Flows that are called find a scripted daemon: ``daemon({PauseQuestion: …})`` returns its recorder."""
    with tidemill_test_harness() as harness:

        def make(answers: dict[type, Any]) -> Daemon:
            recorder = Daemon(answers)

            def begin(*given: Any) -> HarnessRun:
                run = HarnessRun(harness, *given)
                run.recorder = recorder
                return run

            begin_with(begin)
            return recorder

        yield make


# Variables


def test_variables_are_read_set_and_removed() -> None:
    @flow
    def main() -> list[Any]:
        made = Variable.set("limit", {"n": 3}, tags=["a"])
        found = [Variable.get("region"), Variable.get("absent", "default"), Variable.get("limit"), made.name]
        Variable.set("limit", 5, overwrite=True)
        return [*found, Variable.get("limit"), Variable.unset("limit"), Variable.unset("limit"), Variable.get("limit")]

    with tidemill_test_harness(variables={"region": "fi"}):
        assert main() == ["fi", "default", {"n": 3}, "limit", 5, True, False, None]


async def test_async_code_awaits_the_same_calls() -> None:
    @flow
    async def main() -> list[Any]:
        await Variable.set("a", 1)
        return [
            await Variable.get("a"),
            await Variable.aget("a"),
            await Variable.unset("a"),
            await Variable.aunset("a"),
        ]

    with tidemill_test_harness():
        assert await main() == [1, 1, True, False]


@pytest.mark.parametrize(
    ("value", "text"), [("se", "overwrite=True"), ([{1, 2}], r"variable region is not JSON: \$\[0\] is set")]
)
def test_a_variable_is_not_set_over_in_silence_nor_to_what_is_not_json(value: Any, text: str) -> None:
    @flow
    def main() -> None:
        Variable.set("region", value)

    with tidemill_test_harness(variables={"region": "fi"}), pytest.raises(ValueError, match=text):
        main()


def test_none_is_no_value() -> None:
    with pytest.raises(ValueError, match="unset"):
        Variable.set("a", None)


def test_outside_a_run_there_is_nobody_to_ask() -> None:
    with pytest.raises(NoRunError):
        Variable.get("a")
    with pytest.raises(NoRunError):
        emit_event("a", {})


# Blocks

BLOCKS: dict[str, dict[str, Any]] = {
    "token": {"type": "secret", "value": "s3cret"},
    "settings": {"type": "json", "value": {"region": "fi"}},
    "alarm": {"type": "webhook", "url": "http://127.0.0.1:1/hook", "method": "PUT", "headers": {"X-A": "b"}},
    "orders": {"type": "http_api", "base_url": "https://api.example.org/v1", "auth": {"bearer": "tok"}},
    "basic": {
        "type": "http_api",
        "base_url": "https://api.example.org",
        "headers": {"A": "b"},
        "auth": {"basic": {"username": "u", "password": "p"}},
    },
}


def test_a_block_comes_as_its_type() -> None:
    @flow
    def main() -> list[Any]:
        return [
            Secret.load("token").get(),
            JSON.load("settings").value,
            type(Block.load("secret/token")).__name__,
            type(Block.load("http-api/orders")).__name__,
            repr(Secret.load("token")),
        ]

    with tidemill_test_harness(blocks=BLOCKS):
        assert main() == ["s3cret", {"region": "fi"}, "Secret", "HttpApi", "Secret('token')"]


@pytest.mark.parametrize(
    ("load", "says"),
    [
        (lambda: Secret.load("absent"), "absent"),
        (lambda: Secret.load("settings"), "type"),
        (lambda: Secret.load("json/a"), "type"),
    ],
)
def test_a_block_that_is_not_there_or_of_another_type_is_told(load: Any, says: str) -> None:
    with tidemill_test_harness(blocks=BLOCKS), pytest.raises(TidemillError, match=says):
        flow(name="f")(load)()


def test_an_api_s_client_carries_its_address_headers_and_credentials() -> None:
    @flow
    def main() -> list[Any]:
        with HttpApi.load("orders").client() as bearer, HttpApi.load("basic").client(timeout=3) as basic:
            one = bearer.build_request("GET", "/items")
            two = next(basic.auth.auth_flow(basic.build_request("GET", "items")))
            return [str(one.url), one.headers["authorization"], two.headers["authorization"], two.headers["a"]]

    with tidemill_test_harness(blocks=BLOCKS):
        assert main() == ["https://api.example.org/v1/items", "Bearer tok", "Basic dTpw", "b"]


@pytest.mark.network
def test_a_webhook_sends_what_it_is_given() -> None:
    heard: list[tuple[str, str, Any]] = []

    class Receiver(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            heard.append((self.path, self.headers["X-A"], json.loads(body)))
            self.send_response(200 if len(heard) < 2 else 500)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Receiver) as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        try:
            hook = Webhook("alarm", **{**BLOCKS["alarm"], "url": f"http://127.0.0.1:{server.server_port}/hook"})
            hook.notify("disk full", subject="web-1")
            with pytest.raises(Exception, match="500"):
                hook.notify("again")
        finally:
            server.shutdown()
            serving.join()
    assert heard[0] == ("/hook", "b", {"body": "disk full", "text": "web-1\ndisk full", "subject": "web-1"})


# Slots


def test_slots_are_held_for_the_code_inside_and_given_back_whatever_happens(daemon: Any) -> None:
    recorder = daemon({SlotsQuestion: "lease-7"})

    @flow
    def main() -> None:
        with concurrency("db", occupy=2, timeout_seconds=5, strict=True):
            assert recorder.released == []
            raise ValueError("inside")

    with pytest.raises(ValueError, match="inside"):
        main()
    assert recorder.released == ["lease-7"]
    assert recorder.questions == [SlotsQuestion(names=("db",), occupy=2, timeout_s=5, strict=True)]


async def test_async_slots_and_rates(daemon: Any) -> None:
    recorder = daemon({SlotsQuestion: lambda question: None if question.rate else "lease-1"})

    @flow
    async def main() -> None:
        async with aconcurrency(["a", "b"]):
            await arate_limit("api")

    await main()
    assert recorder.released == ["lease-1"]
    assert [question.rate for question in recorder.questions] == [False, True]


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (TidemillError("timed out after 5s: db has no free slot"), TimeoutError),
        (TidemillError("no concurrency limit is called db"), ConcurrencySlotAcquisitionError),
    ],
)
@pytest.mark.parametrize("use", [lambda: concurrency("db").__enter__(), lambda: rate_limit("db")])
def test_slots_that_cannot_be_had_are_an_error_of_their_own(daemon: Any, use: Any, error: Any, raised: Any) -> None:
    daemon({SlotsQuestion: error})
    with pytest.raises(raised):
        flow(name="f")(use)()


def test_no_names_are_no_limit() -> None:
    with concurrency([]):
        rate_limit([])


# Pauses


def test_a_pause_returns_what_the_resuming_person_gave(daemon: Any) -> None:
    recorder = daemon({PauseQuestion: {"approved": "true", "n": "3"}})

    @flow
    def main() -> list[Any]:
        return [pause_flow_run(timeout=60, key="approve"), pause_flow_run(wait_for_input=dict[str, str])]

    assert main() == [{"approved": "true", "n": "3"}] * 2
    assert recorder.questions[0] == PauseQuestion(timeout_s=60, key="approve")


def test_a_single_value_is_converted_to_what_is_asked_for(daemon: Any) -> None:
    daemon({PauseQuestion: {"value": "42"}})

    @flow
    def main() -> int:
        return pause_flow_run(wait_for_input=int)

    assert main() == 42


def test_a_pause_says_what_its_input_has_to_fit(daemon: Any) -> None:
    """Also in Prefect's form of a single value."""
    recorder = daemon({PauseQuestion: 42})

    @flow
    def main() -> None:
        pause_flow_run(wait_for_input=int)
        pause_flow_run(wait_for_input=list[int])
        pause_flow_run()

    with pytest.raises(ValueError, match=r"list|array"):
        main()
    single, many = (question.schema for question in recorder.questions)
    assert faults(42, single) == faults({"value": "42"}, single) == []
    assert faults("x", single) == ['"x" is not an integer']
    assert many == {"type": "array", "items": {"type": "integer"}}


async def test_an_async_flow_awaits_its_pause(daemon: Any) -> None:
    daemon({PauseQuestion: None})

    @flow
    async def main() -> Any:
        return await pause_flow_run()

    assert await main() is None


def test_a_pause_that_nobody_ends_is_an_error(daemon: Any) -> None:
    daemon({PauseQuestion: TidemillError("timed out: nobody resumed")})

    @flow
    def main() -> None:
        pause_flow_run(timeout=1)

    with pytest.raises(FlowPauseTimeout):
        main()


def test_a_task_does_not_pause() -> None:
    @task
    def inside() -> None:
        pause_flow_run()

    @flow
    def main() -> None:
        inside()

    with tidemill_test_harness(), pytest.raises(RuntimeError, match="Cannot pause task runs"):
        main()
    with pytest.raises(NoRunError):
        pause_flow_run()


def test_a_flow_resumes_another(daemon: Any) -> None:
    recorder = daemon({ResumeQuestion: {}})

    @flow
    def main() -> None:
        resume_flow_run("run-7", {"approved": True})

    main()
    assert recorder.questions == [ResumeQuestion(flow_run_id="run-7", input={"approved": True})]


# Deployments

AT = datetime(2026, 11, 21, 9, tzinfo=UTC)


def document(name: str, data: Any = None) -> dict[str, Any]:
    state = {"type": name.upper(), "name": name, "timestamp": AT.isoformat(), "message": None, "data": data}
    return {"id": "run-9", "name": "brisk-otter", "state": state, "parameters": {"n": 1}, "tags": ["a"]}


def test_a_deployment_is_run_and_waited_for(daemon: Any) -> None:
    recorder = daemon({RunDeploymentQuestion: document("Scheduled"), RunStateQuestion: document("Completed", 3)})

    @task
    def one() -> int:
        return 1

    @flow
    def main() -> Any:
        run = run_deployment("report/daily", parameters={"n": one.submit()}, tags=["a"], timeout=5)
        return [run.id, run.name, run.state.is_completed(), run.state.result(), run.tags]

    assert main() == ["run-9", "brisk-otter", True, 3, ("a",)]
    asked, waited = recorder.questions
    assert (asked.deployment, asked.parameters) == ("report/daily", {"n": 1})  # a future among them was waited for
    assert waited == RunStateQuestion(flow_run_id="run-9", timeout_s=5)


async def test_a_deployment_is_not_waited_for_with_timeout_zero(daemon: Any) -> None:
    recorder = daemon({RunDeploymentQuestion: document("Scheduled")})

    @flow
    async def main() -> bool:
        return (await run_deployment("daily", timeout=0)).state.is_scheduled()

    assert await main()
    assert len(recorder.questions) == 1


def test_a_run_that_does_not_end_in_time_is_an_error_for_who_waits_for_it(daemon: Any) -> None:
    daemon({RunStateQuestion: document("Running")})

    @flow
    def main() -> None:
        wait_for_flow_run("run-9", timeout=1)

    with pytest.raises(FlowRunWaitTimeout):
        main()


@pytest.mark.parametrize("options", [{"client": object()}, {"job_variables": {"a": 1}}, {"work_queue_name": "q"}])
def test_what_belongs_into_the_deployments_table_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"table|queue"):
        run_deployment("daily", **options)


# Events


SHOP = {"prefect.resource.id": "shop", "prefect.resource.role": "seller"}


@pytest.mark.parametrize(
    ("resource", "related", "says"),
    [
        ({}, [], "the resource of event 'e' has no \"prefect.resource.id\" (it has nothing); add it: "),
        ({"prefect.resource.id": ""}, [], 'has no "prefect.resource.id"'),
        (SHOP, [{"prefect.resource.role": "seller"}], "a related resource of event 'e' has no \"prefect.resource.id\""),
        (SHOP, [{"prefect.resource.id": "shop"}], 'has no "prefect.resource.role" (it has prefect.resource.id)'),
    ],
)
def test_an_event_of_nothing_is_refused(resource: dict[str, str], related: list[dict[str, str]], says: str) -> None:
    @flow
    def main() -> None:
        with pytest.raises(ValueError, match=re.escape(says)):
            emit_event("e", resource, related=related)

    with tidemill_test_harness() as harness:
        main()
    assert not harness.run.events


def test_an_event_is_told() -> None:
    @flow
    def main() -> str:
        return emit_event("orders.loaded", {"prefect.resource.id": "o"}, payload={"rows": 3}, related=[SHOP]).event

    with tidemill_test_harness() as harness:
        assert main() == "orders.loaded"
    (event,) = harness.run.events
    assert (event.resource, event.payload) == ({"prefect.resource.id": "o"}, {"rows": 3, "related": [SHOP]})
