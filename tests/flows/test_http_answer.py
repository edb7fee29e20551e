"""A body is decoded under a bound and understood as its headers say, or refused with its first bytes."""

from __future__ import annotations

import gzip
import tracemalloc
import zlib
from typing import Any

import pytest

from tidemill.flows.http_answer import (
    KEPT_BYTES,
    PRINTED_CHARACTERS,
    PRINTED_LINES,
    BodyError,
    Decoder,
    TooLargeError,
    excerpt,
    phrase,
    printed,
    understand,
)

TEXT = b"to be or not to be, " * 50


def decode(data: bytes, encoding: str | None, limit: int = 10_000, piece: int = 7) -> bytes:
    decoder = Decoder(encoding, limit)
    body = b"".join(
        decoded for start in range(0, len(data), piece) for decoded in decoder.feed(data[start : start + piece])
    )
    decoder.finish()
    return body


def bare_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


def gzipped(data: bytes) -> bytes:
    """Without the time: what a test is called must not depend on the second in which a process collected it."""
    return gzip.compress(data, mtime=0)


@pytest.mark.parametrize(
    ("data", "encoding"),
    [
        (TEXT, None),
        (TEXT, "identity"),
        (gzipped(TEXT), "gzip"),
        (gzipped(TEXT), "X-GZIP"),
        (zlib.compress(TEXT), "deflate"),
        (bare_deflate(TEXT), "deflate"),  # some servers mean this by it
        (gzipped(TEXT[:500]) + gzipped(TEXT[500:]), "gzip"),  # members one after another
        (gzipped(TEXT) + b"\0" * 20, "gzip"),  # padded
    ],
)
@pytest.mark.parametrize("piece", [1, 7, 100_000])
def test_what_was_encoded_comes_out_again(data: bytes, encoding: str | None, piece: int) -> None:
    assert decode(data, encoding, piece=piece) == TEXT


@pytest.mark.parametrize(
    ("data", "encoding", "says"),
    [
        (TEXT, "br", 'encoded as "br", which was not asked for'),
        (TEXT, "gzip", "not gzip, though it says so"),
        (gzipped(TEXT)[:-9], "gzip", "ends in the middle of its gzip"),
    ],
)
def test_a_broken_encoding_is_named(data: bytes, encoding: str, says: str) -> None:
    with pytest.raises(BodyError, match=says):
        decode(data, encoding)


@pytest.mark.parametrize(("size", "fits"), [(1000, True), (1001, False)])
@pytest.mark.parametrize("encoding", ["identity", "gzip", "deflate"])
def test_the_bound_is_on_decoded_bytes_and_exact(size: int, fits: bool, encoding: str) -> None:
    pack = {"identity": bytes, "gzip": gzip.compress, "deflate": zlib.compress}[encoding]
    data = pack(b"x" * size)
    if fits:
        assert len(decode(data, encoding, limit=1000)) == size
    else:
        with pytest.raises(TooLargeError, match="larger than max_bytes, 1kB"):
            decode(data, encoding, limit=1000)


def test_a_gzip_bomb_is_never_held_in_memory() -> None:
    """P13: 100 MB in 100 kB of gzip, in one piece; no more than the bound comes out."""
    bomb = gzip.compress(bytes(100_000_000), compresslevel=9)
    tracemalloc.start()
    try:
        with pytest.raises(TooLargeError):
            decode(bomb, "gzip", limit=1_000_000, piece=len(bomb))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 5_000_000


def test_gzip_that_decodes_to_nothing_does_not_go_on_for_ever() -> None:
    empty = gzip.compress(b"")
    with pytest.raises(TooLargeError):
        decode(empty * 10_000, "gzip", limit=1000, piece=len(empty) * 100)


@pytest.mark.parametrize(
    ("raw", "content_type", "value", "is_json"),
    [
        (b'{"a": [1, null]}', "application/json", {"a": [1, None]}, True),
        (b'{"a": 1}', "application/problem+json; charset=utf-8", {"a": 1}, True),
        (b'\xef\xbb\xbf{"a": 1}', "application/json", {"a": 1}, True),  # with a byte order mark
        ('{"a": "é"}'.encode("latin-1"), "application/json; charset=ISO-8859-1", {"a": "é"}, True),
        (b"plain", "text/plain", "plain", False),
        ("é".encode("latin-1"), "text/plain; charset=latin-1", "é", False),
        (b"<a/>", "application/atom+xml", "<a/>", False),
        (b"no type at all", None, "no type at all", False),
        (b"", "application/json", None, False),  # nothing is not bad JSON: 204, HEAD
        (b" \n", "application/json", None, False),
    ],
)
def test_a_body_is_what_its_type_says(raw: bytes, content_type: str | None, value: Any, is_json: bool) -> None:
    body = understand(raw, content_type)
    assert (body.value, body.is_json, body.kept) == (value, is_json, True)
    assert body.document() == {"body": value}


@pytest.mark.parametrize(
    ("raw", "content_type", "says"),
    [
        (b"<html>oops", "application/json", "not JSON, though it says so"),
        (b'{"a": NaN}', "application/json", "not JSON, though it says so"),
        (b'{"a": 1', "application/json", "not JSON, though it says so"),
        (b'{"a": "\xe9"}', "application/json", 'cannot be read as "utf-8": it is not utf-8 at byte 7'),
        (b"\xe9", "text/plain; charset=utf-8", "it is not utf-8 at byte 0"),
        (b"a", "text/plain; charset=klingon", 'cannot be read as "klingon": there is no such charset'),
        (b"a", "text/plain; charset=idna", "there is no such charset"),
        (b"a", "text/plain; charset=rot13", "there is no such charset"),
        (b"[" * 100_000 + b"]" * 100_000, "application/json", "nested too deeply"),
        (b"[" * (KEPT_BYTES + 1), "application/json", "not JSON, though it says so"),
    ],
)
def test_a_body_that_is_not_what_it_says_is_refused(raw: bytes, content_type: str, says: str) -> None:
    with pytest.raises(BodyError, match=says) as refused:
        understand(raw, content_type)
    assert refused.value.first == raw


@pytest.mark.parametrize(
    ("raw", "content_type", "why"),
    [
        (b"\x89PNG\0\0", "image/png", "image/png is neither JSON nor text"),
        (b"\0\1\2", None, "the answer is neither JSON nor text"),
        (b"\xff\xfe", "text/plain", "text/plain is neither JSON nor text"),
        (b"x" * (KEPT_BYTES + 1), "text/plain", "are more than an artifact may have"),
        (b'"' + b"x" * KEPT_BYTES + b'"', "application/json", "are more than an artifact may have"),
    ],
)
def test_what_cannot_be_kept_leaves_its_size_and_hash(raw: bytes, content_type: str | None, why: str) -> None:
    body = understand(raw, content_type)
    document = body.document()
    assert (document["body"], document["bytes"], len(document["sha256"])) == (None, len(raw), 64)
    assert why in str(body.note)
    assert len(printed(body)) == 1
    assert "not shown: " in printed(body)[0]


def test_short_json_is_printed_on_one_line_and_longer_json_indented() -> None:
    assert printed(understand(b'{"b":1,"a":"\xc3\xa9"}', "application/json")) == ['{"b": 1, "a": "é"}']
    long = printed(understand(b'{"a": "' + b"x" * 200 + b'"}', "application/json"))
    assert (long[0], long[-1], len(long)) == ("{", "}", 3)


@pytest.mark.parametrize("raw", [b"x" * (PRINTED_CHARACTERS + 5), b"line\n" * (PRINTED_LINES + 5)])
def test_a_long_answer_is_cut_and_says_so(raw: bytes) -> None:
    lines = printed(understand(raw, "text/plain"))
    rest = len(raw.rstrip()) - len("\n".join(lines[:-1]))
    assert lines[-1] == f"… [{rest} more characters not shown]"
    assert rest > 0


def test_an_excerpt_is_one_printable_line() -> None:
    assert excerpt(b"a\r\n\tb\x1b[31mred\xff" + b"x" * 300).startswith("a b\N{REPLACEMENT CHARACTER}[31mred")
    assert len(excerpt(b"x" * 300)) == 200
    assert excerpt(b"") == ""


@pytest.mark.parametrize(("status", "told"), [(503, "503 Service Unavailable"), (299, "299")])
def test_a_status_is_told_in_words_where_it_has_some(status: int, told: str) -> None:
    assert phrase(status) == told


def test_lines_that_end_as_in_windows_are_all_shown_and_none_is_counted_as_left_out() -> None:
    assert printed(understand(b"one\r\ntwo\r\nthree\r\n", "text/plain")) == ["one", "two", "three"]
