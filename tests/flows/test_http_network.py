"""The HTTP request against real sockets: what hangs, drips, floods, lies or is not there (P13)."""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
import ssl
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tidemill.flows.http_request import HttpRequestFlow
from tidemill.sdk.context import RunContext
from tidemill.sdk.failures import FlowFailed
from tidemill.sdk.memory import MemoryRecorder

pytestmark = pytest.mark.network

NewContext = Callable[..., RunContext]
Behaviour = Callable[["Exchange"], Awaitable[None]]


class Exchange:
    """One request as the server sees it, and its way to answer."""

    def __init__(self, head: bytes, writer: asyncio.StreamWriter, connection: int) -> None:
        lines = head.decode("latin-1").split("\r\n")
        self.target = lines[0].split()[1]
        self.headers = {
            name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:] if line)
        }
        self.writer = writer
        self.connection = connection

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        lines = [f"HTTP/1.1 {status} X", f"content-length: {len(body)}"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        await self.send("\r\n".join([*lines, "", ""]).encode() + body)


class Server:
    """A server that does to every request what it was told."""

    def __init__(self, behaviour: Behaviour) -> None:
        self.behaviour = behaviour
        self.exchanges: list[Exchange] = []
        self.connections = 0
        self.gone = asyncio.Event()  # a client has hung up in the middle

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        connection = self.connections
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                exchange = Exchange(head, writer, connection)
                self.exchanges.append(exchange)
                await self.behaviour(exchange)
        except (asyncio.IncompleteReadError, ConnectionError):
            self.gone.set()
        finally:
            writer.close()


@asynccontextmanager
async def serving(behaviour: Behaviour) -> AsyncIterator[tuple[str, Server]]:
    server = Server(behaviour)
    tasks: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(asyncio.ensure_future(server.serve(reader, writer)))

    listening = await asyncio.start_server(accept, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/", server
    finally:
        listening.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def for_ever(exchange: Exchange) -> None:
    await asyncio.Event().wait()


async def ask(context: RunContext, url: str, **parameters: Any) -> dict[str, Any]:
    flow = HttpRequestFlow()
    try:
        return await flow.run({"url": url} | parameters, context)
    finally:
        await flow.aclose()


async def refusal(context: RunContext, url: str, **parameters: Any) -> FlowFailed:
    with pytest.raises(FlowFailed) as failed:
        await asyncio.wait_for(ask(context, url, **parameters), 30)
    return failed.value


async def test_a_real_answer_is_kept(context: NewContext, recorder: MemoryRecorder) -> None:
    async def compressed(exchange: Exchange) -> None:
        body = gzip.compress(json.dumps({"activity": "é"}).encode())
        await exchange.answer(200, body, content_type="application/json", content_encoding="gzip")

    async with serving(compressed) as (url, server):
        await ask(context(), url + "random", params={"type": "music"})
    assert server.exchanges[0].target == "/random?type=music"
    assert recorder.artifacts[0].data["body"] == {"activity": "é"}


async def test_one_connection_serves_request_after_request(context: NewContext) -> None:
    async def good(exchange: Exchange) -> None:
        await exchange.answer(200, b"{}", content_type="application/json")

    async with serving(good) as (url, server):
        flow = HttpRequestFlow()
        for _ in range(3):
            await flow.run({"url": url}, context())
        await flow.aclose()
        await server.gone.wait()  # and it is closed with the flow
    assert server.connections == 1


async def test_a_server_that_says_nothing_is_left_after_the_read_timeout(context: NewContext) -> None:
    async with serving(for_ever) as (url, _):
        failed = await refusal(context(), url, read_timeout="50ms")
    assert failed.message == f"GET {url}: nothing came within read_timeout, 0.05 s"
    assert failed.retriable


async def test_a_server_that_leaves_a_tls_handshake_unanswered_is_no_fault_of_tls(context: NewContext) -> None:
    """A port that speaks no TLS waits for more, as we do: what is told is the time that ran out."""

    async def mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(mute, "127.0.0.1", 0)
    async with server:
        url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        failed = await refusal(context(), url, connect_timeout="200ms")
    assert failed.message == f"GET {url}: no connection within connect_timeout, 0.2 s"


async def test_what_is_no_http_at_all_is_quoted_as_text(context: NewContext) -> None:
    async def another_protocol(exchange: Exchange) -> None:
        await exchange.send(b"SSH-2.0-OpenSSH_9\r\n\r\n")

    async with serving(another_protocol) as (url, _):
        failed = await refusal(context(), url)
    assert failed.message == f'GET {url}: the server broke the protocol (illegal status line: "SSH-2.0-OpenSSH_9")'


async def test_a_server_that_drips_is_cut_off_by_the_total_timeout(context: NewContext) -> None:
    """Every piece comes within the read timeout, so that alone would wait for ever."""

    async def drip(exchange: Exchange) -> None:
        await exchange.send(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n")
        while True:
            await exchange.send(b"x")
            await asyncio.sleep(0.01)

    async with serving(drip) as (url, server):
        failed = await refusal(context(), url, read_timeout="10s", total_timeout="200ms")
        await asyncio.wait_for(server.gone.wait(), 10)  # the connection was closed, not kept
    assert failed.message == f"GET {url}: no whole answer within total_timeout, 0.2 s"
    assert failed.retriable


async def test_headers_that_drip_are_cut_off_as_well(context: NewContext) -> None:
    async def drip(exchange: Exchange) -> None:
        await exchange.send(b"HTTP/1.1 200 OK\r\n")
        while True:
            await exchange.send(b"x-more: x\r\n")
            await asyncio.sleep(0.01)

    async with serving(drip) as (url, server):
        failed = await refusal(context(), url, read_timeout="10s", total_timeout="200ms")
        await asyncio.wait_for(server.gone.wait(), 10)
    assert "no whole answer within total_timeout" in failed.message


async def test_headers_without_end_are_refused(context: NewContext) -> None:
    async def flood(exchange: Exchange) -> None:
        await exchange.send(b"HTTP/1.1 200 OK\r\n")
        while True:
            await exchange.send(b"x-more: " + b"x" * 10_000 + b"\r\n")

    async with serving(flood) as (url, _):
        failed = await refusal(context(), url)
    assert failed.message == f"GET {url}: the server broke the protocol (a head of more than 100 kB)"


async def test_a_body_that_breaks_off_is_told(context: NewContext) -> None:
    async def break_off(exchange: Exchange) -> None:
        await exchange.send(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{")
        exchange.writer.close()
        raise ConnectionResetError

    async with serving(break_off) as (url, _):
        failed = await refusal(context(), url)
    assert "the server broke the protocol" in failed.message
    assert failed.retriable


async def test_a_hundred_megabytes_are_cut_off_at_the_bound(context: NewContext) -> None:
    async def flood(exchange: Exchange) -> None:
        await exchange.send(b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n\r\n")
        for _ in range(1600):
            await exchange.send(b"x" * 65536)
        raise AssertionError("all of it was taken")

    async with serving(flood) as (url, server):
        tracemalloc.start()
        try:
            failed = await refusal(context(), url, max_bytes="1MiB")
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        await asyncio.wait_for(server.gone.wait(), 10)
    assert failed.message.startswith(f"GET {url}: the answer is larger than max_bytes, 1MiB")
    assert not failed.retriable  # it would be as large the next time
    assert peak < 8 * 1024 * 1024


async def test_a_gzip_bomb_is_cut_off_at_the_bound(context: NewContext) -> None:
    bomb = gzip.compress(bytes(50_000_000))

    async def explode(exchange: Exchange) -> None:
        await exchange.answer(200, bomb, content_type="application/json", content_encoding="gzip")

    async with serving(explode) as (url, _):
        tracemalloc.start()
        try:
            failed = await refusal(context(), url, max_bytes="1MiB")
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert "larger than max_bytes, 1MiB" in failed.message
    assert peak < 8 * 1024 * 1024


async def test_a_large_refusal_is_read_for_its_beginning_only(context: NewContext) -> None:
    async def refuse(exchange: Exchange) -> None:
        await exchange.send(b"HTTP/1.1 500 No\r\ncontent-type: text/plain\r\n\r\n")
        while True:
            await exchange.send(b"sorry " * 1000)

    async with serving(refuse) as (url, server):
        failed = await refusal(context(), url)
        await asyncio.wait_for(server.gone.wait(), 10)
    assert failed.message.startswith(f"GET {url} answered 500 Internal Server Error: sorry sorry")


async def test_redirects_without_end_stop_at_the_bound(context: NewContext) -> None:
    async def again(exchange: Exchange) -> None:
        await exchange.answer(302, location=exchange.target + "x")

    async with serving(again) as (url, server):
        failed = await refusal(context(), url)
    assert failed.message == f"GET {url}xxxxx: more redirects than max_redirects, 5"
    assert len(server.exchanges) == 6


async def test_another_port_is_another_host_to_a_redirect(context: NewContext) -> None:
    """P14: what is behind another port may belong to somebody else."""

    async def good(exchange: Exchange) -> None:
        await exchange.answer(200, b"{}", content_type="application/json")

    async with serving(good) as (there, other):

        async def away(exchange: Exchange) -> None:
            await exchange.answer(307, location=there + "taken")

        async with serving(away) as (url, first):
            auth = {"basic": {"username": "me", "password": {"env": "PASSWORD"}}}
            await ask(context(), url, auth=auth, headers={"Cookie": "a=b", "X-Plain": "kept"})
    assert "authorization" in first.exchanges[0].headers
    arrived = other.exchanges[0].headers
    assert ("authorization" in arrived, "cookie" in arrived, arrived["x-plain"]) == (False, False, "kept")


async def test_a_refused_connection_is_named(context: NewContext) -> None:
    with socket.socket() as taken:  # bound and not listening: nobody else can take it
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/"
        failed = await refusal(context(), url)
    assert failed.message == f"GET {url}: Connection refused"
    assert failed.retriable


async def test_a_host_without_an_address_is_named(context: NewContext) -> None:
    failed = await refusal(context(), "http://nonesuch.invalid/")
    assert "its host has no address" in failed.message


async def test_a_server_that_does_not_speak_http_is_named(context: NewContext) -> None:
    async def babble(exchange: Exchange) -> None:
        await exchange.send(b"220 mail.test ESMTP\r\n\r\n")

    async with serving(babble) as (url, _):
        failed = await refusal(context(), url)
    assert "the server broke the protocol" in failed.message


async def test_tls_where_there_is_none_is_named(context: NewContext) -> None:
    async with serving(for_ever) as (url, server):
        plain = url.removeprefix("http")

        async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"HTTP/1.1 400 No\r\n\r\n")
            writer.close()

        server.serve = greet  # type: ignore[method-assign]
        failed = await refusal(context(), "https" + plain)
    assert failed.message.startswith(f"GET https{plain}: TLS: ")


async def test_an_allowed_name_is_connected_to_at_the_checked_address(context: NewContext) -> None:
    """The name itself does not exist, so nothing but the checked address can have been used."""

    async def good(exchange: Exchange) -> None:
        await exchange.answer(200, b"{}", content_type="application/json")

    async def resolve(host: str, port: int) -> list[str]:
        assert host == "api.invalid"
        return ["127.0.0.1"]

    async with serving(good) as (url, server):
        port = url.rpartition(":")[2].rstrip("/")
        flow = HttpRequestFlow(resolver=resolve)
        request = {"url": f"http://api.invalid:{port}/x", "allowed_hosts": ["api.invalid", "127.0.0.0/8"]}
        await flow.run(request, context())
        with pytest.raises(FlowFailed, match=r"api\.invalid leads to 127\.0\.0\.1, which is not public"):
            await flow.run(request | {"allowed_hosts": ["api.invalid"]}, context())
        await flow.aclose()
    assert [exchange.headers["host"] for exchange in server.exchanges] == [f"api.invalid:{port}"]


async def test_a_proxy_in_the_environment_changes_nothing(context: NewContext, monkeypatch: pytest.MonkeyPatch) -> None:
    async def good(exchange: Exchange) -> None:
        await exchange.answer(200, b"{}", content_type="application/json")

    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://proxy.invalid:3128")
    async with serving(good) as (url, _):
        assert (await ask(context(), url))["status"] == 200


async def test_a_cancelled_request_hangs_up(context: NewContext) -> None:
    arrived = asyncio.Event()

    async def hang(exchange: Exchange) -> None:
        arrived.set()
        while True:  # writing is how a server hears that nobody listens
            await exchange.send(b"HTTP/1.1 100 Continue\r\n\r\n")
            await asyncio.sleep(0.01)

    async with serving(hang) as (url, server):
        asking = asyncio.ensure_future(ask(context(), url))
        await arrived.wait()
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        await asyncio.wait_for(server.gone.wait(), 10)


async def test_certificates_are_checked(context: NewContext) -> None:
    from tidemill.flows.http_client import _ssl_context

    made = _ssl_context()
    assert (made.verify_mode, made.check_hostname) == (ssl.CERT_REQUIRED, True)
