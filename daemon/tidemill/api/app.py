"""The application: every route, built from the tables of reads and writes, behind the one gate."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from tidemill import __version__
from tidemill.api import (
    automation_writes,
    backfill_reads,
    backfill_writes,
    bodies,
    bulk_writes,
    database,
    following,
    gate,
    limit_reads,
    lookup,
    metrics,
    notify_writes,
    reads,
    sample,
    script_runs,
    streams,
    why_reads,
    writes,
)
from tidemill.api.asker import asker, name_of
from tidemill.api.bodies import BadRequestError
from tidemill.api.configuration import CONFIGURATION
from tidemill.api.ports import Control
from tidemill.api.writes import Answer
from tidemill.errors import NotFoundError, StoreUnavailableError, TidemillError, TransitionError, WrongUsageError

logger = logging.getLogger("tidemill.api")

PREFIX = "/api"
_LONGEST_WAIT_MS = 30_000
Handler = Callable[[Request], Awaitable[Any]]

# What a TidemillError is in HTTP; the first that fits. Others are refusals of what was asked.
_STATUS: tuple[tuple[type[TidemillError], int], ...] = (
    (NotFoundError, 404),
    (WrongUsageError, 422),
    (TransitionError, 409),
    (StoreUnavailableError, 503),
    (TidemillError, 400),
)


def build_app(control: Control, *, stop: asyncio.Event, source: random.Random) -> ASGIApp:
    """Return the ASGI application. ``stop`` ends its streams; ``source`` chooses the sample activities."""
    router = Router(routes=routes(control, stop=stop, source=source), redirect_slashes=False)
    # Asked at each request: a reload may change the names.
    return gate.Gate(
        _Answers(router), lambda: gate.allowed_names(control.settings.api.listen, control.settings.api.allowed_hosts)
    )


def routes(control: Control, *, stop: asyncio.Event, source: random.Random) -> list[Route]:
    """Return every route there is."""
    own: list[tuple[str, str, Handler]] = [
        ("GET", "/health", _health),
        ("GET", "/ready", _ready(control, stop)),
        ("GET", "/version", _version),
        ("GET", "/status", _status(control)),
        ("GET", "/drain", _drain(control, stop)),
        ("GET", "/why", _why(control)),
        ("GET", "/database", _database(control)),
        ("POST", "/database/prune", _prune(control)),
        *((method, path, _configuring(control, call)) for (method, path), call in CONFIGURATION.items()),
        ("GET", "/events", _events(control, stop)),
        ("GET", "/logs/stream", _log_stream(control, stop)),
        ("GET", "/logs/timeline", _timeline(control, stop)),
        ("POST", "/v2/concurrency_limits/filter", _limits(control, limit_reads.filter_limits)),
        ("GET", "/v2/concurrency_limits/{id}", _limits(control, limit_reads.limit)),
        ("POST", "/flow_runs/bulk_set_state", _writing(control, bulk_writes.set_states)),
        ("POST", "/flow_runs/bulk_delete", _writing(control, bulk_writes.delete)),
        ("POST", "/deployments/{id}/backfill", _writing(control, backfill_writes.begin)),
        ("GET", "/backfills/{id}", _backfill(control, stop)),
        ("DELETE", "/backfills/{id}", _writing(control, backfill_writes.cancel)),
        ("PATCH", "/automations/{id}", _writing(control, automation_writes.patch)),
        ("POST", "/automations/{id}/test", _writing(control, automation_writes.test)),
        ("GET", "/automations/{id}/standing", _writing(control, automation_writes.standing)),
        ("POST", "/notify/{name}/test", _writing(control, notify_writes.test)),
        *((method, path, _script(control, say)) for (method, path), say in script_runs.SAYINGS.items()),
    ]
    table = [
        *own,
        *((method, path, _reading(control, read)) for (method, path), read in reads.READS.items()),
        *((method, path, _writing(control, write)) for (method, path), write in writes.WRITES.items()),
    ]
    found = [Route(PREFIX + path, _handler(call), methods=[method]) for method, path, call in table]
    found.append(Route("/metrics", _handler(_metrics(control)), methods=["GET"]))
    found.append(Route("/sample/activity", _handler(_activity(control, source)), methods=["GET"]))
    return found


class _Answers:
    """Errors as JSON documents with a ``detail``, as Prefect's clients expect them; the text is the whole message."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            # With an "app" in the scope the router raises what it refuses instead of answering plain text.
            await self.app({**scope, "app": self}, receive, send)
        except HTTPException as error:
            await _problem(error.status_code, error.detail)(scope, receive, send)


def _handler(call: Handler) -> Callable[[Request], Awaitable[Any]]:
    async def handle(request: Request) -> Any:
        try:
            return await call(request)
        except TidemillError as error:
            status = next(status for kind, status in _STATUS if isinstance(error, kind))
            return _problem(status, str(error))
        except (gate.Refusal, HTTPException):
            raise
        except ClientDisconnect:
            return _problem(400, "the client went away")  # which nobody reads
        except Exception:
            # What went wrong is for the daemon's log; the answer must not carry values from inside.
            logger.exception("a request failed", extra={"fields": {"path": request.url.path, "method": request.method}})
            return _problem(500, "the daemon failed to answer; its log says why")

    return handle


def _problem(status: int, detail: str) -> Response:
    return _json(Answer(status, {"detail": detail}))


def _json(answer: Answer) -> Response:
    body = b"" if answer.status == 204 else msgspec.json.encode(answer.document)
    response = Response(body, answer.status, media_type=None if answer.status == 204 else "application/json")
    response.raw_headers.extend(gate.SAFETY)
    return response


async def _body(request: Request) -> Any:
    raw = await request.body()
    if not raw:
        return {}
    try:
        found = msgspec.json.decode(raw)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise BadRequestError(f"the body is not JSON: {error}") from error
    if not isinstance(found, dict):
        raise BadRequestError("the body is not a JSON object")
    return found


def _reading(control: Control, read: reads.Read) -> Handler:
    async def call(request: Request) -> Response:
        body = await _body(request) if request.method == "POST" else {}
        now, path, query = control.clock.now(), request.path_params, dict(request.query_params)
        document = await control.store.read(lambda connection: read(reads.Ask(connection, now, path, query, body)))
        return _json(Answer(200, document))

    return call


def _writing(control: Control, write: writes.Write) -> Handler:
    async def call(request: Request) -> Response:
        path: Mapping[str, str] = request.path_params
        asker.set(name_of(request.scope))  # each request is a task of its own
        return _json(await write(control, path, await _body(request)))

    return call


def _limits(control: Control, read: Callable[[reads.Ask, limit_reads.Live], Any]) -> Handler:
    """What is configured comes from the database, what is taken from the daemon."""

    async def call(request: Request) -> Response:
        body = await _body(request) if request.method == "POST" else {}
        now, path, query = control.clock.now(), request.path_params, dict(request.query_params)
        live = control.concurrency_limits()
        document = await control.store.read(
            lambda connection: read(reads.Ask(connection, now, path, query, body), live)
        )
        return _json(Answer(200, document))

    return call


def _script(control: Control, say: script_runs.Saying) -> Handler:
    async def call(request: Request) -> Response:
        return _json(await say(control, request.path_params, await request.body()))

    return call


async def _health(request: Request) -> Response:
    return _json(Answer(200, True))


def _ready(control: Control, stop: asyncio.Event) -> Handler:
    """The database answers and the daemon does not stop: what ``health`` does not say."""

    async def call(request: Request) -> Response:
        if stop.is_set():
            return _problem(503, "the daemon is stopping")
        await control.store.read(lambda connection: connection.execute("SELECT 1").fetchone())
        return _json(Answer(200, {"message": "OK"}))

    return call


async def _version(request: Request) -> Response:
    return _json(Answer(200, {"name": "tidemill", "version": __version__}))


def _status(control: Control) -> Handler:
    async def call(request: Request) -> Response:
        return _json(Answer(200, await control.status()))

    return call


def _drain(control: Control, stop: asyncio.Event) -> Handler:
    """How far the draining is; with ``wait_ms`` when a run has ended, or after that time."""

    async def call(request: Request) -> Response:
        wait_ms = min(bodies.number(request.query_params, "wait_ms", 0), _LONGEST_WAIT_MS)
        if wait_ms and control.draining.document()["waits_for"]:
            await _first(control.draining.moved(), stop, wait_ms)
        return _json(Answer(200, control.draining.document()))

    return call


def _why(control: Control) -> Handler:
    """What the database tells, and what only the daemon knows."""

    async def call(request: Request) -> Response:
        now, live, query = control.clock.now(), control.why.live(), dict(request.query_params)
        document = await control.store.read(
            lambda connection: why_reads.explain(reads.Ask(connection, now, {}, query, {}), live)
        )
        return _json(Answer(200, document))

    return call


def _backfill(control: Control, stop: asyncio.Event) -> Handler:
    """How far a backfill is; with ``wait_ms`` when it got further, or after that time."""

    async def call(request: Request) -> Response:
        wait_ms = min(bodies.number(request.query_params, "wait_ms", 0), _LONGEST_WAIT_MS)
        if wait_ms and control.backfills.find(request.path_params["id"]) is not None:
            await _first(control.backfills.moved.next(), stop, wait_ms)
        now, path = control.clock.now(), request.path_params
        document = await control.store.read(
            lambda connection: backfill_reads.backfill(reads.Ask(connection, now, path, {}, {}))
        )
        return _json(Answer(200, document))

    return call


async def _first(moved: Awaitable[object], stop: asyncio.Event, wait_ms: int) -> None:
    """Wait until something has moved, the daemon stops, or the time is over."""
    waiting = [asyncio.ensure_future(each) for each in (moved, stop.wait())]
    try:
        await asyncio.wait(waiting, timeout=wait_ms / 1000, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for each in waiting:
            each.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)


def _database(control: Control) -> Handler:
    async def call(request: Request) -> Response:
        return _json(Answer(200, database.facts(control)))

    return call


def _prune(control: Control) -> Handler:
    async def call(request: Request) -> Response:
        return _json(Answer(200, await database.prune(control, request, await _body(request))))

    return call


def _configuring(control: Control, ask: Callable[[Control, Request, Any], Awaitable[Any]]) -> Handler:
    async def call(request: Request) -> Response:
        body = await _body(request) if request.method in ("POST", "PUT") else {}
        return _json(Answer(200, await ask(control, request, body)))

    return call


def _metrics(control: Control) -> Handler:
    async def call(request: Request) -> Response:
        body, content_type = await metrics.text(control, request.headers.get("accept", ""))
        response = Response(body, headers={"content-type": content_type})
        response.raw_headers.extend(gate.SAFETY)
        return response

    return call


def _events(control: Control, stop: asyncio.Event) -> Handler:
    async def call(request: Request) -> Any:
        named, run_text = request.query_params.get("deployment"), request.query_params.get("flow_run_id")
        deployment = run_id = None
        if named is not None:
            deployment = (await control.store.read(lambda connection: lookup.deployment(connection, named))).value.name
        if run_text is not None:
            run_id = (await control.store.read(lambda connection: lookup.flow_run(connection, run_text))).id
        wanted = streams.matching(deployment, run_id)
        task_runs = request.query_params.get("task_runs") == "true"
        return streams.EventStream(lambda ending: streams.events(control, ending, wanted, task_runs=task_runs), stop)

    return call


def _log_stream(control: Control, stop: asyncio.Event) -> Handler:
    async def call(request: Request) -> Any:
        query = request.query_params
        text = query.get("flow_run_id")
        if text is None:
            raise BadRequestError("say which run: ?flow_run_id=…")
        run = await control.store.read(lambda connection: lookup.flow_run(connection, text))
        log = streams.RunLog(
            control,
            run,
            level=bodies.number(query, "level", 0),
            tail=bodies.number(query, "tail", 0) or None,
            progress=query.get("progress") == "true",
        )
        return streams.EventStream(log.messages, stop)

    return call


def _timeline(control: Control, stop: asyncio.Event) -> Handler:
    async def call(request: Request) -> Any:
        query = dict(request.query_params)
        wanted = await control.store.read(lambda connection: following.asked(connection, query))
        return streams.EventStream(following.Following(control, wanted).messages, stop)

    return call


def _activity(control: Control, source: random.Random) -> Handler:
    async def call(request: Request) -> Response:
        if not control.settings.api.sample:
            raise HTTPException(404, "the sample API is off; [api] sample = true switches it on")
        return _json(Answer(200, sample.activity(source)))

    return call
