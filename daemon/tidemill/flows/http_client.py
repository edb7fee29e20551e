"""The one room that knows httpx: one pool of connections for the daemon, requests out, answers in.

Importing it costs some 60 ms, so it is imported when the first request is made (or warmed before).

Nothing is taken from the environment: no proxy, no ``.netrc``. A job does the same under systemd as in a shell. No
cookies are kept, neither between requests nor between hops: one deployment's session is not another's. Certificates are
checked against the system's store (``SSL_CERT_FILE`` and ``SSL_CERT_DIR`` are OpenSSL's own and count).
"""

from __future__ import annotations

import os
import re
import socket
import ssl
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

# httpx imports its own command line, and with it rich and click, wherever those are installed: two thirds of the time
# its import takes and 6 MB. It is told that this one module cannot be imported, for which it is prepared.
_NO_COMMAND_LINE = "httpx._main"
_hidden = "httpx" not in sys.modules and sys.modules.setdefault(_NO_COMMAND_LINE, None) is None  # type: ignore[arg-type]
import httpx  # noqa: E402

if _hidden:
    del sys.modules[_NO_COMMAND_LINE]

# Below the 5 s after which many servers (Node, uvicorn, Apache) close an idle connection: a job that repeats every 5 s
# would otherwise meet connections that are just being closed.
KEEPALIVE_S = 4.0


Transport = httpx.AsyncBaseTransport  # so that others can name it without knowing httpx


class ExchangeError(Exception):
    """No answer came, or not the whole of it. The text says why, without the URL.

    ``unsent``: there was no connection, so another address may be tried.
    """

    unsent = False


class Answer:
    """The beginning of an answer. Its body is read with :meth:`pieces`, once; close it in any case."""

    def __init__(self, response: httpx.Response) -> None:
        self._response = response
        self.status = response.status_code

    def header(self, name: str) -> str | None:
        """Return the header's value; several of one name are joined by commas."""
        value: str | None = self._response.headers.get(name)
        return value

    async def pieces(self) -> AsyncIterator[bytes]:
        """Give the body as it comes, still encoded as ``content-encoding`` says."""
        stream = self._response.stream
        assert isinstance(stream, httpx.AsyncByteStream)
        try:
            async for piece in stream:
                yield piece
        except httpx.HTTPError as error:
            raise ExchangeError(_why(error, self._response.request)) from error

    async def aclose(self) -> None:
        await self._response.aclose()


class HttpClient:
    """Sends single requests: no redirects, no cookies, no decoding, no retries."""

    def __init__(self, transport: Transport | None = None) -> None:
        if transport is not None:
            self._pooled = self._pinned = transport
            return
        context = _ssl_context()
        # The number of runs at a time bounds the connections; a second bound here would only hold healthy requests up.
        bounds = httpx.Limits(max_connections=None, max_keepalive_connections=20, keepalive_expiry=KEEPALIVE_S)
        self._pooled = httpx.AsyncHTTPTransport(verify=context, trust_env=False, limits=bounds)
        # The pool tells connections apart by address. One that was opened to a checked address under one host's name
        # must not serve another host there, so these are used once.
        once = httpx.Limits(max_connections=None, max_keepalive_connections=0)
        self._pinned = httpx.AsyncHTTPTransport(verify=context, trust_env=False, limits=once)

    async def send(
        self,
        method: str,
        url: str,
        *,
        headers: Sequence[tuple[str, str]],
        body: Mapping[str, Any],
        connect_timeout_s: float,
        read_timeout_s: float,
        address: str | None = None,
    ) -> Answer:
        """Send a request and return when the head of its answer is there.

        ``body`` is nothing, or ``data`` (a form) or ``content``. ``address`` is connected to in place
        of the URL's host, whose name still goes into the Host header and the certificate's check. Raises
        :class:`ExchangeError`.
        """
        request: httpx.Request | None = None
        try:
            target = httpx.URL(url)
            extensions: dict[str, Any] = {
                "timeout": {
                    "connect": connect_timeout_s,
                    "read": read_timeout_s,
                    "write": read_timeout_s,
                    "pool": connect_timeout_s,
                }
            }
            sent = list(headers)
            transport = self._pooled
            if address is not None:
                transport = self._pinned
                extensions["sni_hostname"] = target.host
                if not any(name.lower() == "host" for name, _ in sent):
                    sent.insert(0, ("Host", target.netloc.decode("ascii")))
                target = target.copy_with(host=address)
            request = httpx.Request(method, target, headers=sent, extensions=extensions, **body)
            response = await transport.handle_async_request(request)
        except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:
            fault = ExchangeError(_why(error, request))
            fault.unsent = isinstance(error, httpx.ConnectError | httpx.ConnectTimeout)
            raise fault from error
        response.request = request
        return Answer(response)

    async def aclose(self) -> None:
        await self._pooled.aclose()
        await self._pinned.aclose()


def with_query(url: str, params: Mapping[str, Any]) -> str:
    """Return ``url`` with ``params`` added to its query. Raises :class:`ExchangeError` for what is not a URL."""
    try:
        return str(httpx.URL(url).copy_merge_params(dict(params)) if params else httpx.URL(url))
    except (httpx.InvalidURL, UnicodeError) as error:
        raise ExchangeError(_why(error)) from error


def follow(url: str, location: str) -> str:
    """Return where ``location`` leads from ``url``, without a user name or fragment. Raises :class:`ExchangeError`."""
    try:
        target = httpx.URL(url).join(location)
        if target.scheme not in {"http", "https"} or not target.host:
            raise ExchangeError(f'the redirect leads to a "{target.scheme}:" address')
        return str(target.copy_with(userinfo=b"", fragment=None))
    except (httpx.InvalidURL, UnicodeError) as error:
        raise ExchangeError(f"the redirect leads nowhere: {_why(error)}") from error


def origin(url: str) -> tuple[str, str, int]:
    """Return scheme, host and port: what a secret may go to."""
    parsed = httpx.URL(url)
    return parsed.scheme, parsed.host, parsed.port or (443 if parsed.scheme == "https" else 80)


def shown(url: str, *, secret: bool = False) -> str:
    """Return the URL as it may be read by anybody: no user name, no values of the query; a secret one, no path."""
    parsed = httpx.URL(url)
    base = f"{parsed.scheme}://{parsed.netloc.decode('ascii')}"
    if secret:
        return f"{base}/…"
    names = [name for name, _ in parsed.params.multi_items()]
    query = "?" + "&".join(f"{name}=…" for name in names) if "=" in parsed.query.decode("ascii") else ""
    return f"{base}{parsed.raw_path.partition(b'?')[0].decode('ascii')}{query or ('?…' if parsed.query else '')}"


def _ssl_context() -> ssl.SSLContext:
    paths = ssl.get_default_verify_paths()
    if paths.cafile or paths.capath:
        return ssl.create_default_context()
    import certifi

    return ssl.create_default_context(cafile=certifi.where())


def _why(error: BaseException, request: httpx.Request | None = None) -> str:
    """Return the deepest reason that says something: not "All connection attempts failed".

    Time that has run out is the reason itself, whatever was under way: a TLS handshake, for one.
    """
    if isinstance(error, httpx.TimeoutException):
        return _ran_out(error, request)
    text = str(error)
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, socket.gaierror):
            return f"its host has no address ({seen.strerror})"
        if isinstance(seen, OSError) and seen.errno and not isinstance(seen, ssl.SSLError):
            return os.strerror(seen.errno)
        if isinstance(seen, ssl.SSLError):
            return f"TLS: {getattr(seen, 'verify_message', '') or seen.reason or seen}"
        if isinstance(seen, BaseExceptionGroup):
            seen = seen.exceptions[0]
            continue
        seen = seen.__cause__ or seen.__context__
    if isinstance(error, httpx.RemoteProtocolError):
        return f"the server broke the protocol ({_in_words(text)})"
    return text or type(error).__name__


def _ran_out(error: httpx.TimeoutException, request: httpx.Request | None) -> str:
    problem, which = _TIMEOUTS[type(error)]
    seconds = request.extensions["timeout"][which.removesuffix("_timeout")] if request is not None else None
    return f"{problem} within {which}" + (f", {seconds:g} s" if seconds is not None else "")


def _in_words(text: str) -> str:
    """Return what h11 says of a broken answer without Python's own spelling of bytes."""
    return _BYTES.sub(r'"\2"', _BREACHES.get(text, text.rstrip(".")))


_BYTES = re.compile(r"bytearray\(b(['\"])(.*?)\1\)")
_BREACHES: Mapping[str, str] = {"Receive buffer too long": "a head of more than 100 kB"}
_TIMEOUTS: Mapping[type[httpx.TimeoutException], tuple[str, str]] = {
    httpx.ConnectTimeout: ("no connection", "connect_timeout"),
    httpx.ReadTimeout: ("nothing came", "read_timeout"),
    httpx.WriteTimeout: ("nothing could be sent", "read_timeout"),
    httpx.PoolTimeout: ("no connection", "connect_timeout"),
}
