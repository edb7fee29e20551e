"""Telling by HTTP: webhooks, signed as standardwebhooks.com says, and the bare requests of pings."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec

import tidemill
from tidemill.clock import Clock, to_us
from tidemill.core.channels import Channel, UndeliveredError
from tidemill.core.notices import PLACES, Message

if TYPE_CHECKING:
    from tidemill.flows.http_client import HttpClient

CONNECT_S = 10.0
READ_S = 30.0
ANSWER_BYTES = 300  # of a refusal, for the log
_PLACE = re.compile(r"\{\{|\}\}|\{(\w+)\}")


class Web:
    """Sends requests on behalf of notices and pings; httpx is loaded with the first one."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._client: HttpClient | None = None

    async def post(
        self,
        channel: Channel,
        message: Message,
        *,
        url: str,
        headers: Mapping[str, str],
        signing_secret: str | None,
    ) -> None:
        """Send a message; raises UndeliveredError."""
        document = message.document if channel.template is None else filled(channel.template, message.document)
        body = msgspec.json.encode(document)
        sent = {"content-type": "application/json", "webhook-id": message.id}
        stamp = str(to_us(self._clock.now()) // 1_000_000)
        sent["webhook-timestamp"] = stamp
        if signing_secret is not None:
            sent["webhook-signature"] = signature(signing_secret, message.id, stamp, body)
        sent.update({name.lower(): value for name, value in headers.items()})
        await self.ask(channel.method, url, headers=sent, content=None if channel.method == "GET" else body)

    async def ask(
        self, method: str, url: str, *, headers: Mapping[str, str] | None = None, content: bytes | None = None
    ) -> None:
        """Send one request and expect 2xx; raises UndeliveredError."""
        from tidemill.flows.http_client import ExchangeError, HttpClient

        sent = {"user-agent": f"tidemill/{tidemill.__version__}", "accept": "*/*", **(headers or {})}
        for name, value in sent.items():
            if re.search(r"[\r\n\0]", value) or not value.isascii():
                raise UndeliveredError(f"the value of the header {name} holds a line break or letters beyond ASCII")
        if self._client is None:
            self._client = HttpClient()
        try:
            answer = await self._client.send(
                method,
                url,
                headers=list(sent.items()),
                body={} if content is None else {"content": content},
                connect_timeout_s=CONNECT_S,
                read_timeout_s=READ_S,
            )
            try:
                if 200 <= answer.status < 300:
                    return
                said = bytearray()
                async for piece in answer.pieces():
                    said += piece
                    if len(said) >= ANSWER_BYTES:
                        break
                location = answer.header("location")
                retry_after = answer.header("retry-after")
            finally:
                await answer.aclose()
        except ExchangeError as error:
            raise UndeliveredError(_in_seconds(str(error))) from None
        raise UndeliveredError(
            _refusal(answer.status, bytes(said), location), retry_after_s=_seconds(retry_after, self._clock.now())
        )

    async def aclose(self) -> None:
        """Give the connections back."""
        if self._client is not None:
            client, self._client = self._client, None
            await client.aclose()


def _in_seconds(said: str) -> str:
    """Leave out the key that says how long was waited: a channel has none."""
    return said.replace("connect_timeout, ", "").replace("read_timeout, ", "")


def _refusal(status: int, said: bytes, location: str | None) -> str:
    from tidemill.flows.http_answer import excerpt, phrase

    words = phrase(status)
    if 300 <= status < 400:
        return f"answered {words}" + (f" to {location[:200]}: write that address" if location else "")
    text = excerpt(said[:ANSWER_BYTES])
    return f"answered {words}" + (f": {text}" if text else "")


def _seconds(header: str | None, now: datetime) -> float | None:
    if header is None:
        return None
    if header.strip().isdecimal():
        return float(header.strip()[:6])
    from email.utils import parsedate_to_datetime  # httpx has it loaded

    try:
        until = parsedate_to_datetime(header)
    except ValueError:
        return None
    return max(0.0, ((until if until.tzinfo else until.replace(tzinfo=UTC)) - now).total_seconds())


def signature(secret: str, message_id: str, stamp: str, body: bytes) -> str:
    """Return the ``webhook-signature`` header (standardwebhooks.com): a secret with ``whsec_`` before it is base64."""
    key = secret.encode()
    if secret.startswith("whsec_"):
        try:
            key = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
        except ValueError:
            raise UndeliveredError("signing_secret begins with whsec_ and is no base64 after it") from None
    digest = hmac.new(key, f"{message_id}.{stamp}.".encode() + body, hashlib.sha256).digest()
    return f"v1,{base64.b64encode(digest).decode()}"


def filled(template: Any, document: Mapping[str, Any]) -> Any:
    """Return a template with its places filled in."""
    if isinstance(template, dict):
        return {key: filled(item, document) for key, item in template.items()}
    if isinstance(template, list):
        return [filled(item, document) for item in template]
    if not isinstance(template, str):
        return template

    def put(match: re.Match[str]) -> str:
        name = match[1]
        if name is None:
            return match[0][0]
        value = document.get(name) if name in PLACES else None
        return "" if value is None else str(value)

    return _PLACE.sub(put, template)
