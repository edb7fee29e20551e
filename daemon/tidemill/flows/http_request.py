"""``http_request``: one request to an API; its answer printed, judged, and kept as an artifact.

The artifact is a document of the request and its answer: ``{"body", "headers", "method", "status", "url"}``. What
differs every time although the API says the same (how long it took, the Date header) is not in it, so that an equal
answer makes no new version; the time taken stands in the artifact's description and in the run's result.
"""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import msgspec

from tidemill.core.deployments import SecretRef
from tidemill.core.ports import Threads
from tidemill.core.reports import ArtifactReport
from tidemill.durations import format_size
from tidemill.flows.http_answer import Body, BodyError, Decoder, TooLargeError, excerpt, phrase, printed, understand
from tidemill.flows.http_hosts import AllowList, HostRefusedError, Resolver, look_up
from tidemill.flows.http_parameters import HttpRequestParameters, http_findings, read_http_parameters
from tidemill.sdk.context import RunContext
from tidemill.sdk.failures import FlowFailed
from tidemill.sdk.findings import Finding
from tidemill.telemetry.redaction import MASK

if TYPE_CHECKING:
    from tidemill.flows.http_client import Answer, HttpClient, Transport

NAME = "http_request"
FAILED_BODY_BYTES = 64 * 1024  # read of an answer that is not a good one
_LONGEST_WAIT_S = 366 * 24 * 3600  # of a Retry-After; the deployment's policy caps it far below
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_RETRIABLE = frozenset({408, 425, 429})
_FOR_ONE_HOST = frozenset({"authorization", "proxy-authorization", "cookie", "host"})
_OF_A_BODY = frozenset({"content-type", "content-encoding", "content-language"})


class _Request(msgspec.Struct):
    """A request ready to be sent, and sent on along redirects."""

    method: str
    url: str
    url_is_secret: bool
    headers: list[tuple[str, str]]
    body: dict[str, Any]
    body_is_secret: bool
    guarded: frozenset[str]  # headers, in lower case, that must not reach another host
    secrets: tuple[str, ...]  # what an answer might echo
    stripped: bool = False


class HttpRequestFlow:
    """The built-in flow ``http_request``. One of it serves the whole daemon and holds its pool of connections."""

    parameters = HttpRequestParameters

    def __init__(
        self,
        *,
        transport: Transport | None = None,
        resolver: Resolver = look_up,
        threads: Threads | None = None,
        agent: str = "tidemill",
    ) -> None:
        self._transport = transport
        self._resolver = resolver
        self._threads = threads
        self._agent = agent
        self._client: HttpClient | None = None
        self._building = asyncio.Lock()

    def check(self, parameters: Mapping[str, Any]) -> list[Finding]:
        """Return every fault of ``parameters``, without resolving a secret or opening a connection."""
        return http_findings(parameters)

    async def warm(self) -> None:
        """Import the HTTP client and make its pool now, off the loop where there are threads."""
        async with self._building:
            if self._client is None:
                self._client = await self._threads.run(self._build) if self._threads is not None else self._build()

    async def aclose(self) -> None:
        if self._client is not None:
            client, self._client = self._client, None
            await client.aclose()

    async def run(self, parameters: Mapping[str, Any], context: RunContext) -> dict[str, Any]:
        """Send the request and return ``{"status", "elapsed_s", "bytes", "artifact"}``; raises :class:`FlowFailed`."""
        found = self.check(parameters)
        if found:
            raise FlowFailed("; ".join(map(str, found)), retriable=False)
        wanted = read_http_parameters(parameters)
        if self._client is None:
            await self.warm()
        request = await _prepare(wanted, context, self._agent)
        started = context.clock.monotonic()
        deadline = asyncio.timeout(wanted.total_timeout)
        try:
            async with deadline:
                return await self._exchange(wanted, request, context, started)
        except TimeoutError as error:
            if not deadline.expired():
                raise
            raise FlowFailed(
                f"{_named(request)}: no whole answer within total_timeout, {wanted.total_timeout:g} s",
                retriable=wanted.may_repeat,
            ) from error

    def _build(self) -> HttpClient:
        from tidemill.flows.http_client import HttpClient

        return HttpClient(self._transport)

    async def _exchange(
        self, wanted: HttpRequestParameters, request: _Request, context: RunContext, started: float
    ) -> dict[str, Any]:
        from tidemill.flows.http_client import ExchangeError

        try:
            answer = await self._ask(wanted, request, context)
            try:
                good = wanted.expects(answer.status)
                raw, whole = await _read(answer, wanted.max_bytes if good else FAILED_BODY_BYTES, cut=not good)
            finally:
                await answer.aclose()
        except (ExchangeError, OSError) as error:
            text = getattr(error, "strerror", None) or str(error)
            raise FlowFailed(f"{_named(request)}: {text}", retriable=wanted.may_repeat) from error
        except HostRefusedError as error:
            raise FlowFailed(f"{_named(request)}: {error}", retriable=False) from error
        except BodyError as error:
            retriable = wanted.may_repeat and not isinstance(error, TooLargeError)
            raise FlowFailed(
                f"{_named(request)}: {error}{_shown_first(_without(error.first, request.secrets))}", retriable=retriable
            ) from error
        elapsed_s = round(context.clock.monotonic() - started, 3)
        raw = _without(raw, request.secrets)
        if not good:
            raise self._refused(wanted, request, answer, raw, context)
        size = format_size(len(raw)) if whole else "a part"
        told = f"{_named(request)} answered {phrase(answer.status)} in {elapsed_s:g} s, {size}"
        context.log(told, logger=NAME)
        try:
            body = understand(raw, answer.header("content-type"))
        except BodyError as error:
            raise FlowFailed(
                f"{_named(request)} answered {phrase(answer.status)}, but {error}{_shown_first(raw)}",
                retriable=wanted.may_repeat,
            ) from error
        if wanted.log_response:
            for line in printed(body):
                context.log(line, logger=NAME)
        key = _keep(wanted, request, answer, body, told=told, context=context)
        return {"status": answer.status, "elapsed_s": elapsed_s, "bytes": len(raw), "artifact": key}

    async def _ask(self, wanted: HttpRequestParameters, request: _Request, context: RunContext) -> Answer:
        """Return the answer at the end of the redirects; ``request`` becomes the last one sent."""
        from tidemill.flows.http_client import ExchangeError, follow

        for hop in range(wanted.max_redirects + 1):
            answer = await self._send(wanted, request)
            location = answer.header("location")
            if answer.status not in _REDIRECTS or location is None or not wanted.follow_redirects:
                return answer
            await answer.aclose()
            if hop == wanted.max_redirects:
                break
            _redirect(request, answer.status, follow(request.url, location))
            context.log(f"redirected by {phrase(answer.status)} to {_named(request)}", logging.DEBUG, NAME)
        raise ExchangeError(f"more redirects than max_redirects, {wanted.max_redirects}")

    async def _send(self, wanted: HttpRequestParameters, request: _Request) -> Answer:
        from tidemill.flows.http_client import ExchangeError, origin

        assert self._client is not None
        addresses: list[str | None] = [None]
        if wanted.allowed_hosts is not None:
            _, host, port = origin(request.url)
            addresses = list(await AllowList(wanted.allowed_hosts).addresses(host, port, self._resolver))
        last: ExchangeError | None = None
        for address in addresses:
            try:
                return await self._client.send(
                    request.method,
                    request.url,
                    headers=request.headers,
                    body=request.body,
                    connect_timeout_s=wanted.connect_timeout,
                    read_timeout_s=wanted.read_timeout,
                    address=address,
                )
            except ExchangeError as error:
                if not error.unsent:
                    raise
                last = error
        assert last is not None
        raise last

    def _refused(
        self, wanted: HttpRequestParameters, request: _Request, answer: Answer, raw: bytes, context: RunContext
    ) -> FlowFailed:
        """Return what an answer with another status than the expected ones means."""
        again = answer.status in _RETRIABLE or answer.status >= 500
        left_out = "; auth was not sent there, as a redirect led to another host" if request.stripped else ""
        note = left_out if answer.status in {401, 403} else ""
        message = f"{_named(request)} answered {phrase(answer.status)}{note}{_shown_first(raw)}"
        return FlowFailed(
            message,
            data={"status": answer.status},
            retriable=wanted.may_repeat and again,
            retry_after=retry_after(answer.header("retry-after"), context.clock.now()),
        )


def retry_after(header: str | None, now: datetime) -> timedelta | None:
    """Return how long a server asks to wait, in seconds or until a date (RFC 9110, 10.2.3); None: it does not say."""
    text = (header or "").strip()
    if text.isascii() and text.isdecimal():
        return timedelta(seconds=min(int(text[:12]), _LONGEST_WAIT_S))
    from email.utils import parsedate_to_datetime  # httpx has it loaded

    try:
        until = parsedate_to_datetime(text)
    except ValueError:
        return None
    wait_s = ((until if until.tzinfo else until.replace(tzinfo=UTC)) - now).total_seconds()
    return timedelta(seconds=min(max(wait_s, 0.0), _LONGEST_WAIT_S))


async def _prepare(wanted: HttpRequestParameters, context: RunContext, agent: str) -> _Request:
    """Resolve the secrets and lay the request out."""
    from tidemill.flows.http_client import ExchangeError, with_query

    secrets: list[str] = []

    async def plain(value: Any) -> Any:
        if not isinstance(value, SecretRef):
            return value
        text = await context.secret(value)
        secrets.append(text)
        return text

    headers = {"user-agent": agent, "accept": "*/*", "accept-encoding": "gzip, deflate"}
    guarded = set(_FOR_ONE_HOST)
    for name, value in wanted.headers.items():
        headers[name.lower()] = str(await plain(value))
        if isinstance(value, SecretRef):
            guarded.add(name.lower())
    if wanted.auth is not None:
        headers["authorization"] = await _authorization(wanted, context, secrets)
    if wanted.idempotency_header is not None:
        headers[wanted.idempotency_header.lower()] = context.job.run_id
    for name, text in headers.items():
        if re.search(r"[\r\n\0]", text) or not text.isascii():
            raise FlowFailed(
                f"the value of the header {name} holds a line break or letters beyond ASCII", retriable=False
            )
    body: dict[str, Any] = {}
    if wanted.json is not msgspec.UNSET:
        body["content"] = json.dumps(wanted.json, ensure_ascii=False, separators=(",", ":")).encode()
        headers.setdefault("content-type", "application/json")
    elif wanted.form is not None:
        body["data"] = {name: await plain(value) for name, value in wanted.form.items()}
    elif wanted.text is not None:
        body["content"] = wanted.text
        headers.setdefault("content-type", "text/plain; charset=utf-8")
    params = {name: await plain(value) for name, value in wanted.params.items()}
    try:
        url = with_query(await plain(wanted.url), params)
    except ExchangeError as error:
        raise FlowFailed(f"url is not a URL: {error}", retriable=False) from None
    return _Request(
        method=wanted.verb,
        url=url,
        url_is_secret=isinstance(wanted.url, SecretRef),
        headers=list(headers.items()),
        body=body,
        body_is_secret=wanted.form is not None and any(isinstance(value, SecretRef) for value in wanted.form.values()),
        guarded=frozenset(guarded),
        secrets=tuple(secrets),
    )


async def _authorization(wanted: HttpRequestParameters, context: RunContext, secrets: list[str]) -> str:
    assert wanted.auth is not None
    if wanted.auth.bearer is not None:
        token = await context.secret(wanted.auth.bearer)
        secrets.append(token)
        return f"Bearer {token}"
    assert wanted.auth.basic is not None
    username = await context.secret(wanted.auth.basic.username)
    password = await context.secret(wanted.auth.basic.password)
    pair = base64.b64encode(f"{username}:{password}".encode()).decode()
    secrets += [password, pair]
    return f"Basic {pair}"


def _redirect(request: _Request, status: int, target: str) -> None:
    """Turn ``request`` into the one that follows it (RFC 9110, 15.4; Fetch for the change of method)."""
    from tidemill.flows.http_client import origin

    if (status == 303 and request.method != "HEAD") or (status in {301, 302} and request.method == "POST"):
        request.method, request.body, request.body_is_secret = "GET", {}, False
        request.headers = [(name, value) for name, value in request.headers if name not in _OF_A_BODY]
    if origin(target) != origin(request.url):
        if request.body_is_secret:
            raise HostRefusedError(f"a redirect to {origin(target)[1]} would take the form's secrets to another host")
        kept = [(name, value) for name, value in request.headers if name not in request.guarded]
        request.stripped = request.stripped or any(name != "host" for name, _ in set(request.headers) - set(kept))
        request.headers = kept
    request.url = target


async def _read(answer: Answer, limit: int, *, cut: bool) -> tuple[bytes, bool]:
    """Return the decoded body and whether it is all of it; ``cut`` stops at the limit instead of raising."""
    decoder = Decoder(answer.header("content-encoding"), limit)
    body = bytearray()
    try:
        async for piece in answer.pieces():
            for decoded in decoder.feed(piece):
                body += decoded
                await asyncio.sleep(0)  # a large piece must not hold the loop to its end
        decoder.finish()
    except TooLargeError:
        if not cut:
            raise
        return bytes(body), False
    return bytes(body), True


def _keep(
    wanted: HttpRequestParameters, request: _Request, answer: Answer, body: Body, *, told: str, context: RunContext
) -> str | None:
    """Report the artifact and return its key."""
    if wanted.artifact is False:
        return None
    key = wanted.artifact if isinstance(wanted.artifact, str) else context.job.deployment or NAME
    if not body.kept:
        context.log(f'artifact "{key}" has only size and SHA-256 of the body: {body.note}', logging.WARNING, NAME)
    headers = {name.lower(): value for name in wanted.artifact_headers if (value := answer.header(name)) is not None}
    document = {"url": _shown(request), "method": request.method, "status": answer.status, "headers": headers}
    try:
        context.recorder.report(
            ArtifactReport(
                key=key,
                type="json",
                data=document | body.document(),
                description=told,
                keep_versions=wanted.keep_versions,
                new_version=wanted.new_version,
            )
        )
    except ValueError as error:
        raise FlowFailed(f'{_named(request)}: the answer cannot be kept as artifact "{key}": {error}') from error
    return key


def _shown(request: _Request) -> str:
    from tidemill.flows.http_client import shown

    return shown(request.url, secret=request.url_is_secret)


def _named(request: _Request) -> str:
    return f"{request.method} {_shown(request)}"


def _shown_first(raw: bytes) -> str:
    return f": {text}" if (text := excerpt(raw)) else ""


def _without(raw: bytes, secrets: Iterable[str]) -> bytes:
    """Return ``raw`` without the secrets that the request carried: an API may echo them."""
    for secret in secrets:
        if len(secret) >= 4:
            raw = raw.replace(secret.encode(), MASK.encode())
    return raw
