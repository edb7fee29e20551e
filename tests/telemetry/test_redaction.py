"""Secrets appear in nothing that leaves the daemon (P14)."""

import base64
import itertools
import json
import threading
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidemill.telemetry.redaction import MASK, Redactor

pytestmark = pytest.mark.thorough

# No asterisk: a secret made of the mask's own character cannot be told from it.
CHARACTERS = st.sampled_from([*list("abcXYZ019 -_.~!$&'()+,;=:@/?#[]%\"\\<>|{}^`\t"), "ä", "€", "😀", "\x1b"])
SECRETS = st.text(CHARACTERS, min_size=4, max_size=90).filter(lambda text: len(text.strip()) >= 4)
AROUND = st.text(CHARACTERS, max_size=12)


def lower_hex(encoded: str) -> str:
    return "".join(f"%{part[:2].lower()}{part[2:]}" if i else part for i, part in enumerate(encoded.split("%")))


def forms(secret: str) -> dict[str, str]:
    """Every form the promise names, and what common tools make of a secret beside them."""
    data = secret.encode()
    found = {
        "raw": secret,
        "quote": quote(secret),
        "quote everything": quote(secret, safe=""),
        "quote as httpx does in a query": quote(secret, safe="!$'()*,/:;?@"),
        "quote_plus": quote_plus(secret),
        "json": json.dumps(secret)[1:-1],
        "json, not ascii": json.dumps(secret, ensure_ascii=False)[1:-1],
        "json with escaped slashes": json.dumps(secret)[1:-1].replace("/", "\\/"),
        "json inside json": json.dumps(json.dumps(secret))[3:-3],
        "repr": repr(secret)[1:-1],
        "repr of bytes": repr(data)[2:-1],
    }
    for name in ("quote", "quote everything", "quote_plus"):
        found[f"{name}, small hex digits"] = lower_hex(found[name])
    for before in (b"", b"u", b"u:"):
        for after in (b"", b"!", b"!!"):
            text = base64.b64encode(before + data + after).decode()
            found[f"base64 after {len(before)} before {len(after)}"] = text
            found[f"base64 urlsafe after {len(before)} before {len(after)}"] = text.translate({43: "-", 47: "_"})
    return found


def in_chunks(redactor: Redactor, text: str, cuts: list[int]) -> str:
    stream, places = redactor.stream(), sorted({cut % (len(text) + 1) for cut in cuts} | {0, len(text)})
    parts = [stream.feed(text[start:end]) for start, end in itertools.pairwise(places)]
    return "".join([*parts, stream.finish()])


@given(secret=SECRETS, before=AROUND, after=AROUND)
def test_no_form_of_a_secret_survives(secret: str, before: str, after: str) -> None:
    """P14: raw, URL-encoded, JSON-escaped, base64."""
    redactor = Redactor([secret])
    for name, form in forms(secret).items():
        assert form not in redactor.text(f"{before}{form}{after}"), name


@given(secret=SECRETS, before=AROUND, after=AROUND, cuts=st.lists(st.integers(0, 400), max_size=8), data=st.data())
def test_no_form_survives_however_the_text_is_chunked(
    secret: str, before: str, after: str, cuts: list[int], data: st.DataObject
) -> None:
    """P14: across chunk borders."""
    form = data.draw(st.sampled_from(list(forms(secret).values())))
    assert form not in in_chunks(Redactor([secret]), f"{before}{form}{after}", cuts)


@given(
    secrets=st.lists(st.text("ab%2", min_size=4, max_size=9), min_size=1, max_size=4),
    text=st.text("ab%2\n", max_size=60),
    cuts=st.lists(st.integers(0, 60), max_size=12),
)
def test_chunking_changes_nothing_in_the_output(secrets: list[str], text: str, cuts: list[int]) -> None:
    """Secrets that begin alike, overlap and lie inside each other, in text that nearly is them."""
    redactor = Redactor(secrets)
    assert in_chunks(redactor, text, cuts) == redactor.text(text)


@given(secret=SECRETS, text=AROUND)
def test_ordinary_text_is_left_alone(secret: str, text: str) -> None:
    redactor = Redactor([secret])
    if not any(spelling[0][:1] in text for spelling in forms(secret).values()):
        assert redactor.text(text) == text


def test_text_without_a_secret_is_the_same_object() -> None:
    text = "Completed in 0.2 s"
    assert Redactor(["hunter22"]).text(text) is text


def test_everything_around_a_secret_stays() -> None:
    redactor = Redactor(["hunter22"])
    assert redactor.text("Bearer hunter22, again: hunter22.") == f"Bearer {MASK}, again: {MASK}."


OVERLAPS = {
    # a secret that begins inside another: what is left of neither is shown
    "one begins inside the other": (["xyzw", "zwSECRET"], "<xyzwSECRET>", f"<{MASK}>"),
    "one is the other's beginning": (["token", "token-of-mine"], "<token-of-mine>", f"<{MASK}>"),
    "one lies inside the other": (["mine", "token-of-mine-too"], "<token-of-mine-too>", f"<{MASK}>"),
    "one follows the other": (["first", "second"], "<firstsecond>", f"<{MASK}>"),
}


@pytest.mark.parametrize(("secrets", "text", "shown"), OVERLAPS.values(), ids=OVERLAPS)
def test_overlapping_secrets_are_masked_whole(secrets: list[str], text: str, shown: str) -> None:
    redactor = Redactor(secrets)
    assert redactor.text(text) == shown
    assert in_chunks(redactor, text, list(range(len(text)))) == shown


def test_a_stream_holds_back_only_what_may_be_a_secret() -> None:
    stream = Redactor(["hunter22"]).stream()
    assert stream.feed("password: hun") == "password: "
    assert stream.feed("ting season\nh") == "hunting season\n"
    assert stream.feed("unter22") == MASK
    assert stream.feed("!") == "!"
    assert stream.finish() == ""


def test_a_line_is_shown_at_once_where_no_secret_has_several_lines() -> None:
    stream = Redactor(["hunter22\n"]).stream()
    assert stream.feed("hunter2\n") == "hunter2\n"


def test_a_secret_of_several_lines_is_masked_line_by_line() -> None:
    """A private key is printed and logged one line at a time."""
    key = "-----BEGIN KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQEFAASC\nqhki9==\n-----END KEY-----\n"
    redactor = Redactor([key])
    assert redactor.text(key.replace("\n", "\r\n").strip()) == MASK
    assert redactor.text("MIIEvQIBADANBgkqhkiG9w0BAQEFAASC") == MASK
    assert "MIIEvQ" not in redactor.text(base64.b64encode(key.encode()).decode())
    assert redactor.text("a\nbc\nde") == "a\nbc\nde"
    assert Redactor(["a\nbc\nde"]).text("<a\nbc\nde>") == f"<{MASK}>"


def test_a_part_of_a_long_secret_is_masked_too() -> None:
    """A token cut short by a log line's limit is still a token."""
    token = "".join(chr(ord("a") + i * 7 % 26) + str(i % 10) for i in range(200))
    redactor = Redactor([token])
    assert redactor.text(f"<{token}>") == f"<{MASK}>"
    assert len(redactor.text(token[:300])) < 100


def test_a_file_s_last_newline_is_no_part_of_its_secret() -> None:
    assert Redactor(["hunter22\n"]).text("Bearer hunter22") == f"Bearer {MASK}"


def test_a_short_secret_is_masked_only_as_a_whole_value() -> None:
    redactor = Redactor()
    assert redactor.add("hunter22")
    assert not redactor.add("abc")
    assert not redactor.add("")
    assert redactor.text("abc") == MASK
    assert redactor.text("abcd abc") == "abcd abc"
    assert redactor.value({"pin": "abc", "n": [1, True]}) == {"pin": MASK, "n": [1, True]}


def test_a_json_value_is_masked_in_keys_values_and_numbers() -> None:
    redactor = Redactor(["hunter22", "hunter33", "123456"])
    value = {"hunter22": 1, "hunter33": [None, True, 1.5, "x hunter22", 123456, {"a": ("b",)}]}
    assert redactor.value(value) == {MASK: 1, f"{MASK} 2": [None, True, 1.5, f"x {MASK}", MASK, {"a": ["b"]}]}


def test_a_json_value_is_the_same_object_where_no_secret_is_known() -> None:
    value = {"a": [1, "b"]}
    redactor = Redactor()
    assert redactor.empty
    assert redactor.value(value) is value


def test_a_value_that_is_not_json_is_masked_by_its_text() -> None:
    assert Redactor(["hunter22"]).value(ValueError("no hunter22")) == f"no {MASK}"


def test_a_secret_added_by_one_thread_is_masked_in_all() -> None:
    redactor, go, faults = Redactor(["first-secret"]), threading.Barrier(3), []

    def work(number: int) -> None:
        go.wait()
        for i in range(8):
            secret = f"secret-{number}-{i}-end"
            redactor.add(secret)
            if secret in redactor.text(f"<{secret}>") or "first" in redactor.text("first-secret"):
                faults.append(secret)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []


def test_a_secret_of_quotes_and_backslashes_is_looked_for_in_bounded_time() -> None:
    """One text must not match in exponentially many ways: ten thousand near misses take well under a second."""
    redactor = Redactor(["\\" * 40 + "x", '\\"' * 12 + "x"])
    text = "\\" * 3000 + '\\"' * 60
    assert redactor.text(text) == text
