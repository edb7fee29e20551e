"""Every channel against a real receiver: SMTP with and without TLS, a mail program, HTTP, Apprise."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import email
import email.policy
import hashlib
import hmac
import json
import os
import ssl
import subprocess
from collections.abc import AsyncIterator, Callable, Mapping
from datetime import UTC, datetime
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword

from tidemill.clock import SystemClock
from tidemill.core.channels import Channel, ChannelType, Encryption, UndeliveredError
from tidemill.core.deployments import SecretRef
from tidemill.core.notices import Message
from tidemill.runners.threads import PoolThreads
from tidemill.services.telling import mail, webhooks
from tidemill.services.telling.carriers import Carriers, with_ending
from tidemill.services.telling.webhooks import filled, signature
from tidemill.telemetry.redaction import Redactor

pytestmark = pytest.mark.network

TEXT = "nightly failed on web1: Ärger\n\n.a line that begins with a dot\n"
MESSAGE = Message(
    id="0196f1c2-0000-7000-8000-00008a49247b",
    at=datetime(2026, 6, 1, 12, tzinfo=UTC),
    subject="nightly failed: Ärger",
    text=TEXT,
    document={"subject": "nightly failed: Ärger", "text": TEXT, "kind": "failed", "host": "web1", "deployment": None},
)
PASSWORD = "c4n4ry-passw0rd"
SECRETS = {"PASSWORD": PASSWORD, "KEY": "whsec_" + base64.b64encode(b"k3y").decode(), "TOKEN": "c4n4ry-t0ken"}


@contextlib.asynccontextmanager
async def carriers(environ: Mapping[str, str] | None = None) -> AsyncIterator[Carriers]:
    redactor = Redactor(SECRETS.values())
    found = Carriers(
        reveal=lambda ref: SECRETS[str(ref.env)],
        redact=redactor.value,
        threads=PoolThreads(2),
        clock=SystemClock(),
        host="web1",
        environ=environ or {"PATH": os.environ["PATH"]},
    )
    try:
        yield found
    finally:
        await found.aclose()


def mailing(**more: Any) -> Channel:
    return Channel(name="default", type=ChannelType.MAIL, to=("me@example.org", "root"), **more)


# --- mail -------------------------------------------------------------------------------------------------------------


class Post:
    """A mail server's hands: keeps what it is given, refuses whom it does not know."""

    def __init__(self) -> None:
        self.envelopes: list[Envelope] = []
        self.unknown: set[str] = set()
        self.answer = "250 OK"

    async def handle_RCPT(  # noqa: N802 - aiosmtpd's names
        self, server: Any, session: Any, envelope: Envelope, address: str, options: Any
    ) -> str:
        if address in self.unknown:
            return "550 5.1.1 nobody is called so"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Envelope) -> str:  # noqa: N802
        self.envelopes.append(envelope)
        return self.answer


def read(raw: object) -> EmailMessage:
    assert isinstance(raw, bytes)
    found = email.message_from_bytes(raw, policy=email.policy.default)
    assert isinstance(found, EmailMessage)
    return found


def known(server: Any, session: Any, envelope: Any, mechanism: str, data: Any) -> AuthResult:
    good = isinstance(data, LoginPassword) and (data.login, data.password) == (b"me", PASSWORD.encode())
    return AuthResult(success=good, handled=False)


@contextlib.asynccontextmanager
async def smtp(post: Post, *, tls: ssl.SSLContext | None = None, **options: Any) -> AsyncIterator[int]:
    loop = asyncio.get_running_loop()
    served: list[SMTP] = []

    def serve() -> SMTP:
        served.append(SMTP(post, loop=loop, hostname="mail.example.org", **options))
        return served[-1]

    server = await loop.create_server(serve, "127.0.0.1", 0, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await server.wait_closed()
        async with asyncio.timeout(120):  # the clients have gone, so each comes to its end
            for each in served:
                if each._handler_coroutine is not None:
                    await asyncio.wait({each._handler_coroutine})


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A key and a certificate of localhost."""
    folder = tmp_path_factory.mktemp("tls")
    key, cert = folder / "key.pem", folder / "cert.pem"
    words = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost"
    subprocess.run(
        [*words.split(), "-addext", "subjectAltName=DNS:localhost", "-keyout", str(key), "-out", str(cert)],
        check=True,
        capture_output=True,
        timeout=180,
    )
    return key, cert


@pytest.fixture
def tls(certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """A server's context, whose certificate this machine trusts."""
    key, cert = certificate
    monkeypatch.setenv("SSL_CERT_FILE", str(cert))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    return context


async def test_a_mail_server_gets_one_text_message() -> None:
    post = Post()
    async with smtp(post) as port, carriers() as outside:
        await outside.carry(mailing(server="localhost", port=port, sender="mill@example.org"), MESSAGE)
    assert post.envelopes[0].mail_from == "mill@example.org"
    assert post.envelopes[0].rcpt_tos == ["me@example.org", "root"]
    found = read(post.envelopes[0].content)
    assert found["Subject"] == "nightly failed: Ärger"
    assert found["From"] == "tidemill on web1 <mill@example.org>"
    assert found["Message-ID"] == "<0196f1c2-0000-7000-8000-00008a49247b@web1>"
    assert found["Auto-Submitted"] == "auto-generated"
    assert found.get_content().replace("\r\n", "\n") == TEXT
    assert found.get_content_type() == "text/plain"


async def test_a_login_goes_over_starttls_only(tls: ssl.SSLContext) -> None:
    post = Post()
    channel = mailing(
        server="localhost", encryption=Encryption.STARTTLS, username="me", password=SecretRef(env="PASSWORD")
    )
    options: dict[str, Any] = {"tls_context": tls, "require_starttls": True, "auth_required": True}
    async with smtp(post, authenticator=known, **options) as port, carriers() as outside:
        await outside.carry(_at(channel, port), MESSAGE)
        assert len(post.envelopes) == 1
        wrong = _at(channel, port, password=SecretRef(env="TOKEN"))
        with pytest.raises(UndeliveredError, match=r"localhost:\d+ refused the login of me: 535") as caught:
            await outside.carry(wrong, MESSAGE)
    assert SECRETS["TOKEN"] not in str(caught.value)


def _at(channel: Channel, port: int, **more: Any) -> Channel:
    import msgspec

    return msgspec.structs.replace(channel, port=port, **more)


async def test_tls_from_the_first_byte(tls: ssl.SSLContext) -> None:
    post = Post()
    async with smtp(post, tls=tls) as port, carriers() as outside:
        await outside.carry(mailing(server="localhost", port=port, encryption=Encryption.TLS), MESSAGE)
    assert len(post.envelopes) == 1


async def test_a_server_whose_certificate_nobody_knows_gets_nothing(
    tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    post = Post()
    async with smtp(post, tls_context=tls) as port, carriers() as outside:
        with pytest.raises(UndeliveredError, match="certificate verify failed"):
            await outside.carry(mailing(server="localhost", port=port, encryption=Encryption.STARTTLS), MESSAGE)
    assert post.envelopes == []


async def test_a_server_without_starttls_gets_nothing() -> None:
    post = Post()
    async with smtp(post) as port, carriers() as outside:
        with pytest.raises(UndeliveredError, match="STARTTLS"):
            await outside.carry(mailing(server="localhost", port=port, encryption=Encryption.STARTTLS), MESSAGE)
    assert post.envelopes == []


async def test_why_a_server_took_nothing_is_said() -> None:
    post = Post()
    post.answer = "452 4.3.1 the disk is full"
    async with smtp(post) as port, carriers() as outside:
        channel = mailing(server="localhost", port=port)
        with pytest.raises(UndeliveredError, match=r"localhost:\d+: 452 4.3.1 the disk is full"):
            await outside.carry(channel, MESSAGE)
        post.unknown = {"me@example.org", "root"}
        with pytest.raises(UndeliveredError, match=r"refused every recipient: me@example\.org"):
            await outside.carry(channel, MESSAGE)
    async with carriers() as outside:
        with pytest.raises(UndeliveredError, match=r"localhost:\d+: Connection refused"):
            await outside.carry(channel, MESSAGE)


async def test_who_is_refused_among_others_is_said_and_nobody_is_told_twice(caplog: pytest.LogCaptureFixture) -> None:
    post = Post()
    post.unknown = {"root"}
    async with smtp(post) as port, carriers() as outside:
        await outside.carry(mailing(server="localhost", port=port), MESSAGE)
    assert post.envelopes[0].rcpt_tos == ["me@example.org"]
    assert "refused root (550 5.1.1 nobody is called so)" in caplog.text


@pytest.fixture
def program(tmp_path: Path) -> Callable[[str], Path]:
    """A mail program: it keeps its words and its input, then does what it is told."""

    def make(then: str = "exit 0") -> Path:
        path = tmp_path / "sendmail"
        path.write_text(
            f"""#!/bin/sh
echo "$@" > {tmp_path}/words
env > {tmp_path}/env
cat > {tmp_path}/mail
{then}
"""
        )
        path.chmod(0o755)
        return path

    return make


async def test_the_machines_mail_program_gets_the_message(program: Callable[[str], Path], tmp_path: Path) -> None:
    path = program("exit 0")
    async with carriers({"PATH": os.environ["PATH"], "API_TOKEN": "c4n4ry"}) as outside:
        await outside.carry(mailing(sendmail=str(path)), MESSAGE)
    assert (tmp_path / "words").read_text() == "-i me@example.org root\n"
    found = read((tmp_path / "mail").read_bytes())
    assert found["Subject"] == "nightly failed: Ärger"
    assert found.get_content() == TEXT
    assert "c4n4ry" not in (tmp_path / "env").read_text()


async def test_why_a_mail_program_failed_is_said(program: Callable[[str], Path], tmp_path: Path) -> None:
    path = program("echo postdrop: no permission >&2; exit 75")
    async with carriers() as outside:
        with pytest.raises(UndeliveredError, match="sendmail ended with 75: postdrop: no permission"):
            await outside.carry(mailing(sendmail=str(path)), MESSAGE)
        with pytest.raises(UndeliveredError, match="cannot be run: No such file or directory"):
            await outside.carry(mailing(sendmail=str(tmp_path / "gone")), MESSAGE)


# What this machine has -> who gets the mail of a channel that names neither program nor server.
WAYS = [
    ("a program", False, "program"),
    ("a program that it may not use, and a server", True, "server"),
    ("a program that it may not use", True, "program"),
]


@pytest.mark.parametrize(("there", "dropped", "who"), WAYS, ids=[each[0] for each in WAYS])
async def test_mail_goes_by_whatever_of_this_machine_works(
    there: str,
    dropped: bool,
    who: str,
    program: Callable[[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(mail, "SENDMAIL", (str(program("exit 0")),))
    monkeypatch.setattr(mail, "_privileges_dropped", lambda: dropped)
    post = Post()
    async with smtp(post) as port, carriers() as outside:
        monkeypatch.setattr(mail, "LOCAL_PORT", port if "server" in there else 1)
        await outside.carry(mailing(), MESSAGE)
    assert len(post.envelopes) == (who == "server")
    assert (tmp_path / "mail").exists() is (who == "program")


async def test_a_machine_without_mail_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(mail, "SENDMAIL", ())
    monkeypatch.setattr(mail, "LOCAL_PORT", 1)
    async with carriers({"PATH": str(tmp_path)}) as outside:
        with pytest.raises(UndeliveredError, match=r"no sendmail program here, and .*set server in \[notify.default\]"):
            await outside.carry(mailing(), MESSAGE)


# --- webhooks ---------------------------------------------------------------------------------------------------------


class Web:
    """An HTTP server that keeps requests and answers as it is told."""

    def __init__(self, answer: bytes = b"HTTP/1.1 204 No Content\r\ncontent-length: 0\r\n\r\n") -> None:
        self.answer = answer
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        self.serving: set[asyncio.Task[Any]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.serving.add(task)
        try:
            await self._serve(reader, writer)
        finally:
            self.serving.discard(task)
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
                headers = dict(line.lower().split(": ", 1) for line in head[1:] if line)
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                original = dict(line.split(": ", 1) for line in head[1:] if line)
                self.requests.append((head[0], {name.lower(): value for name, value in original.items()}, body))
                writer.write(self.answer)
                await writer.drain()


@contextlib.asynccontextmanager
async def web(found: Web) -> AsyncIterator[str]:
    server = await asyncio.start_server(found.serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        await server.wait_closed()
        async with asyncio.timeout(120):
            while found.serving:  # the clients have gone, so each comes to its end
                await asyncio.wait(found.serving)


def hook(url: str, **more: Any) -> Channel:
    return Channel(name="hook", type=ChannelType.WEBHOOK, url=url, **more)


async def test_a_webhook_gets_the_document_and_is_known_when_it_comes_again() -> None:
    seen = Web()
    async with web(seen) as base, carriers() as outside:
        await outside.carry(hook(f"{base}/x", headers={"X-Key": SecretRef(env="TOKEN")}), MESSAGE)
        await outside.carry(hook(f"{base}/x"), MESSAGE)
    first, second = seen.requests
    assert first[0] == "POST /x HTTP/1.1"
    assert json.loads(first[2]) == MESSAGE.document
    assert first[1]["content-type"] == "application/json"
    assert first[1]["x-key"] == SECRETS["TOKEN"]
    assert first[1]["webhook-id"] == second[1]["webhook-id"] == MESSAGE.id


async def test_a_signature_is_what_standard_webhooks_say() -> None:
    seen = Web()
    async with web(seen) as base, carriers() as outside:
        await outside.carry(hook(base, signing_secret=SecretRef(env="KEY")), MESSAGE)
    ((_, headers, body),) = seen.requests
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    wanted = base64.b64encode(hmac.new(b"k3y", signed, hashlib.sha256).digest()).decode()
    assert headers["webhook-signature"] == f"v1,{wanted}"


def test_a_signature_of_the_standards_own_example() -> None:
    """The worked example of the standard-webhooks specification."""
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    body = b'{"test": 2432232314}'
    assert (
        signature(secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", body)
        == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    )


async def test_a_template_is_what_a_chat_wants() -> None:
    seen = Web()
    template = {"text": "*{subject}*\n{text}{{}}", "deployment": "{deployment}", "n": [1, {"host": "{host}"}]}
    async with web(seen) as base, carriers() as outside:
        await outside.carry(hook(base, template=template), MESSAGE)
    assert json.loads(seen.requests[0][2]) == {
        "text": f"*nightly failed: Ärger*\n{TEXT}{{}}",
        "deployment": "",
        "n": [1, {"host": "web1"}],
    }


def test_what_a_job_printed_is_never_taken_for_a_place() -> None:
    document = {"subject": "{text}", "text": "{host} {0.__class__}", "host": "web1"}
    assert filled({"a": "{subject} {text}"}, document) == {"a": "{text} {host} {0.__class__}"}


# What a receiver answers -> why it does not count as delivered, and how long it asks to wait.
ANSWERS = {
    b"HTTP/1.1 500 X\r\ncontent-length: 4\r\n\r\noops": ("answered 500 Internal Server Error: oops", None),
    b"HTTP/1.1 404 X\r\ncontent-length: 0\r\n\r\n": ("answered 404 Not Found", None),
    b"HTTP/1.1 429 X\r\nretry-after: 120\r\ncontent-length: 0\r\n\r\n": ("answered 429 Too Many Requests", 120.0),
    b"HTTP/1.1 301 X\r\nlocation: https://new.example.org/\r\ncontent-length: 0\r\n\r\n": (
        "answered 301 Moved Permanently to https://new.example.org/: write that address",
        None,
    ),
    f"HTTP/1.1 403 X\r\ncontent-length: 16\r\n\r\nbad {SECRETS['TOKEN']}".encode(): (
        "answered 403 Forbidden: bad ********",
        None,
    ),
}


@pytest.mark.parametrize(("answer", "why"), ANSWERS.items(), ids=[answer[9:12].decode() for answer in ANSWERS])
async def test_why_a_webhook_was_not_delivered_is_said_without_secrets(
    answer: bytes, why: tuple[str, float | None]
) -> None:
    async with web(Web(answer)) as base, carriers() as outside:
        with pytest.raises(UndeliveredError) as caught:
            await outside.carry(hook(f"{base}/{SECRETS['TOKEN']}"), MESSAGE)
    assert (str(caught.value), caught.value.retry_after_s) == why


async def test_a_receiver_that_is_not_there_is_named_by_why_alone() -> None:
    async with carriers() as outside:
        with pytest.raises(UndeliveredError, match=r"^Connection refused$"):
            await outside.carry(hook(f"http://127.0.0.1:1/{SECRETS['TOKEN']}"), MESSAGE)


# --- pings ------------------------------------------------------------------------------------------------------------


async def test_of_a_receiver_that_says_nothing_is_said_how_long_was_waited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mail, "CONNECT_S", 0.2)
    monkeypatch.setattr(webhooks, "READ_S", 0.2)

    talks: list[asyncio.Task[Any] | None] = []

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        talks.append(asyncio.current_task())
        while await reader.read(1000):
            pass
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, carriers() as found:
        with pytest.raises(UndeliveredError, match=rf"127\.0\.0\.1:{port}: no answer within 0 s"):
            await found.carry(mailing(server="127.0.0.1", port=port, encryption=Encryption.NONE), MESSAGE)
        with pytest.raises(UndeliveredError, match=r"^nothing came within 0\.2 s$"):
            await found.carry(hook(f"http://127.0.0.1:{port}/"), MESSAGE)
    await asyncio.gather(*(talk for talk in talks if talk is not None))


async def test_a_ping_asks_its_url_with_a_word_added() -> None:
    seen = Web()
    async with web(seen) as base, carriers() as outside:
        await outside.ping(f"{base}/uuid", "")
        await outside.ping(f"{base}/uuid/?rid=1", "start")
    assert [line for line, _, _ in seen.requests] == ["GET /uuid HTTP/1.1", "GET /uuid/start?rid=1 HTTP/1.1"]


@pytest.mark.parametrize(
    ("url", "ending", "found"),
    [
        ("https://hc.example.org/u", "", "https://hc.example.org/u"),
        ("https://hc.example.org/u/", "fail", "https://hc.example.org/u/fail"),
        ("https://hc.example.org/u?a=/", "fail", "https://hc.example.org/u/fail?a=/"),
    ],
)
def test_a_word_goes_before_the_query(url: str, ending: str, found: str) -> None:
    assert with_ending(url, ending) == found


# --- Apprise ----------------------------------------------------------------------------------------------------------


apprises_warnings = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")  # its own


@apprises_warnings
async def test_apprise_tells_what_its_url_says() -> None:
    seen = Web(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nOK")
    async with web(seen) as base, carriers() as outside:
        channel = Channel(name="chat", type=ChannelType.APPRISE, url=base.replace("http:", "json:") + "/x")
        await outside.carry(channel, MESSAGE)
    ((line, _, body),) = seen.requests
    assert line.startswith("POST /x")
    told = json.loads(body)
    assert told["title"] == "nightly failed: Ärger"
    assert "Ärger" in told["message"]


@apprises_warnings
async def test_why_apprise_could_not_tell_it_is_said() -> None:
    async with carriers() as outside:
        refused = {"json://127.0.0.1:1/x": "Apprise could not tell it", "nothing://x": "does not know such a URL"}
        for url, why in refused.items():
            with pytest.raises(UndeliveredError, match=why):
                await outside.carry(Channel(name="chat", type=ChannelType.APPRISE, url=url), MESSAGE)
