"""An answer's body: decoded under a bound, understood by its content type, printed and kept.

Everything here takes bytes and headers and needs no connection.
"""

from __future__ import annotations

import codecs
import hashlib
import json
import zlib
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any

import msgspec

from tidemill.durations import format_size
from tidemill.sdk.canonical import MAX_ARTIFACT_BYTES

PRINTED_LINES = 200
PRINTED_CHARACTERS = 16 * 1024
EXCERPT_BYTES = 200
# An artifact also holds the headers and the status beside the body.
KEPT_BYTES = MAX_ARTIFACT_BYTES - 64 * 1024

_STEP = 256 * 1024  # decoded bytes at a time, so that other runs have their turn
_ONE_LINE = 120
# Codecs that are no charset of the web: slow on long input, or not about text.
_NO_CHARSETS = frozenset({"idna", "punycode", "unicode-escape", "raw-unicode-escape", "undefined", "mbcs", "oem"})
_TEXT_TYPES = ("xml", "javascript", "x-www-form-urlencoded", "yaml", "csv", "html")


class BodyError(Exception):
    """The body is not what its headers say. ``first`` are its first bytes."""

    def __init__(self, problem: str, first: bytes = b"") -> None:
        super().__init__(problem)
        self.first = first


class TooLargeError(BodyError):
    """The body has more bytes than it may have."""


class Decoder:
    """Undoes a content encoding piece by piece, never holding more decoded bytes at once than a step.

    A few kilobytes of gzip can stand for gigabytes, so the bound is on what comes out.
    """

    def __init__(self, encoding: str | None, limit: int) -> None:
        self._encoding = (encoding or "identity").strip().lower()
        if self._encoding not in {"identity", "", "gzip", "x-gzip", "deflate"}:
            raise BodyError(f'the answer is encoded as "{self._encoding}", which was not asked for')
        self._limit = limit
        self._taken = self._given = 0
        self._inflater: zlib._Decompress | None = None

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Give the decoded pieces of ``data``; raises :class:`TooLargeError` as soon as there is one byte too many."""
        self._taken += len(data)
        # Empty gzip members decode to nothing for ever: what comes in is bounded as well.
        if self._taken > self._limit + 64 * 1024:
            raise self._too_large()
        if self._encoding in {"identity", ""}:
            yield self._count(data)
            return
        while data:
            if self._inflater is None:
                if self._given and not data.strip(b"\0"):  # padding after the last member
                    return
                self._inflater = self._inflater_for(data)
            try:
                out = self._inflater.decompress(data, min(_STEP, self._limit - self._given + 1))
            except zlib.error as error:
                raise BodyError(f"the answer is not {self._encoding}, though it says so ({error})", data) from None
            data = self._inflater.unconsumed_tail
            if self._inflater.eof:
                data, self._inflater = self._inflater.unused_data, None
            yield self._count(out)

    def finish(self) -> None:
        """Raise :class:`BodyError` where the encoded body ends in its middle."""
        if self._inflater is not None:
            raise BodyError(f"the answer ends in the middle of its {self._encoding}")

    def _inflater_for(self, data: bytes) -> zlib._Decompress:
        # "deflate" means zlib's format, and some servers send it bare (RFC 9110, 8.4.1.2).
        bare = self._encoding == "deflate" and data[0] & 0x0F != 8
        return zlib.decompressobj(-zlib.MAX_WBITS if bare else zlib.MAX_WBITS | 32)

    def _count(self, out: bytes) -> bytes:
        self._given += len(out)
        if self._given > self._limit:
            raise self._too_large()
        return out

    def _too_large(self) -> TooLargeError:
        return TooLargeError(f"the answer is larger than max_bytes, {format_size(self._limit)}")


class Body(msgspec.Struct, frozen=True, kw_only=True):
    """A body understood: ``value`` is its JSON or text; None with ``kept`` False where it is neither or too large."""

    raw: bytes
    value: Any = None
    is_json: bool = False
    kept: bool = True
    note: str | None = None  # why it is not kept

    def document(self) -> dict[str, Any]:
        """Return the body's part of the artifact."""
        if self.kept:
            return {"body": self.value}
        return {"body": None, "bytes": len(self.raw), "sha256": hashlib.sha256(self.raw).hexdigest()}


def understand(raw: bytes, content_type: str | None) -> Body:
    """Return what ``raw`` says; raises :class:`BodyError` for JSON that is none and for a text in another charset."""
    if not raw.strip():
        return Body(raw=raw)
    kind, charset = _content_type(content_type)
    large = len(raw) > KEPT_BYTES
    too_large = f"{format_size(len(raw))} are more than an artifact may have" if large else None
    if kind in {"application/json", "text/json"} or kind.endswith("+json"):
        text = _decode(raw, charset or "utf-8")
        try:
            # One that is not kept is read for its form only: building its values would hold the loop up.
            value = msgspec.json.decode(text, type=msgspec.Raw) if large else msgspec.json.decode(text)
        except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
            problem = "nested too deeply" if isinstance(error, RecursionError) else str(error)
            raise BodyError(f"the answer is not JSON, though it says so ({problem})", raw) from None
        return Body(raw=raw, value=None if large else value, is_json=True, kept=not large, note=too_large)
    textual = kind.startswith("text/") or kind.endswith(_TEXT_TYPES)
    if charset is None and (b"\0" in raw[:1024] or not (textual or kind in {"", "application/octet-stream"})):
        return Body(raw=raw, kept=False, note=f"{kind or 'the answer'} is neither JSON nor text")
    try:
        text = _decode(raw, charset or "utf-8")
    except BodyError:
        if charset is not None:
            raise
        return Body(raw=raw, kept=False, note=f"{kind or 'the answer'} is neither JSON nor text")
    return Body(raw=raw, value=None if large else text, kept=not large, note=too_large)


def printed(body: Body) -> list[str]:
    """Return the lines to print: short JSON on one line, longer JSON indented, text as it is; cut where it is long."""
    if not body.raw.strip():
        return []
    if not body.kept:
        return [f"[{format_size(len(body.raw))} not shown: {body.note}]"]
    if body.is_json:
        text = json.dumps(body.value, ensure_ascii=False)
        if len(text) > _ONE_LINE:
            text = json.dumps(body.value, ensure_ascii=False, indent=2)
    else:
        text = str(body.value).rstrip()
    text = "\n".join(text.splitlines())  # what ends a line is not shown, so it is not counted as left out, either
    shown = text[:PRINTED_CHARACTERS].split("\n")[:PRINTED_LINES]
    rest = len(text) - len("\n".join(shown))
    return [*shown, f"… [{rest} more characters not shown]"] if rest > 0 else shown


def excerpt(raw: bytes) -> str:
    """Return the first bytes as one printable line; "" for an empty body."""
    text = " ".join(raw[:EXCERPT_BYTES].decode(errors="replace").split())
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)


def phrase(status: int) -> str:
    """Return the status with its words: ``503 Service Unavailable``."""
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return str(status)


def _content_type(header: str | None) -> tuple[str, str | None]:
    if not header:
        return "", None
    from email.message import Message  # httpx has it loaded; a start does without it

    message = Message()
    message["content-type"] = header
    return message.get_content_type(), message.get_content_charset()


def _decode(raw: bytes, charset: str) -> str:
    try:
        codec = codecs.lookup(charset)
        if codec.name.replace("_", "-") in _NO_CHARSETS:
            raise LookupError(charset)
        if codec.name == "utf-8":
            return raw.decode("utf-8-sig")
        return raw.decode(codec.name)
    except (LookupError, ValueError) as error:
        unknown = not isinstance(error, UnicodeError)
        problem = (
            "there is no such charset" if unknown else f"it is not {charset} at byte {getattr(error, 'start', '?')}"
        )
        raise BodyError(f'the answer cannot be read as "{charset}": {problem}', raw) from None
