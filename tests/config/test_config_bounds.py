"""Texts that would keep tomllib busy for seconds, or break it, never reach it."""

from __future__ import annotations

import time
import tomllib
from collections.abc import Callable

import pytest

from tidemill.config import Loaded, bounds

pytestmark = pytest.mark.thorough

MIB = 1024 * 1024

# Bombs of about a megabyte that tomllib takes seconds for, or that break it by recursion.
BOMBS = {
    "a dotted key": ".".join(["a"] * (MIB // 2 - 10)) + " = 1",
    "a dotted key with blanks": " . ".join(["a"] * (MIB // 4 - 10)) + " = 1",
    "a dotted key in quotes": ".".join(['"a"'] * (MIB // 4 - 10)) + " = 1",
    "a dotted key of few long parts": f"{'a' * (MIB // 3)}.{'b' * (MIB // 3)} = 1",
    "a dotted header": "[" + ".".join(["a"] * (MIB // 2 - 10)) + "]",
    "a dotted header of an array": "[[" + ".".join(["a"] * (MIB // 2 - 10)) + "]]",
    "arrays in arrays": "a = " + "[" * (MIB - 10),
    "arrays in arrays, closed": "a = " + "[" * (MIB // 2 - 10) + "]" * (MIB // 2 - 10),
    "arrays in arrays over lines": "a = " + "[\n" * (MIB // 2 - 10),
    "inline tables in inline tables": "a = " + "{a=" * (MIB // 3 - 10),
    "dotted inline tables": "a = " + "{a.b.c=" * (MIB // 7 - 10),
    "arrays and inline tables in turn": "a = " + "[{a=" * (MIB // 4 - 10),
    "a bomb behind a text that looks like its end": "t = '''\n\"\"\"'''\na = " + "[" * (MIB - 100),
    "a bomb behind a quote in a comment": "# it's \"\n" + "a = " + "[" * (MIB - 100),
    "a bomb behind escaped quotes": 't = "\\"\\\\"\na = ' + "[" * (MIB - 100),
    "a bomb behind a text over lines": 't = """a"" \\"""b"""""\na = ' + "[" * (MIB - 100),
}


@pytest.mark.parametrize("bomb", BOMBS.values(), ids=BOMBS.keys())
def test_a_bomb_is_refused_before_it_is_parsed(
    bomb: str, faults_of: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """P13."""
    monkeypatch.setattr(tomllib, "loads", lambda _: pytest.fail("the bomb was parsed"))
    (fault,) = faults_of(bomb)
    assert fault.startswith("tidemill.toml:")


# A megabyte that is allowed, and must be gone through in a time that grows with its length alone.
LONG = {
    "one long text": 'a = "' + "x" * (MIB - 10) + '"',
    "one text of escapes": 'a = "' + "\\n" * (MIB // 2 - 10) + '"',
    "one text without an end": 'a = "' + "x" * (MIB - 10),
    "one long text without an end": 'a = """' + '"" ' * (MIB // 3 - 10),
    "one long name": "a" * (MIB - 10) + " = 1",
    "one long comment": "x = 1 #" + "#" * (MIB - 10),
    "blanks": "a" + " " * (MIB - 10),
    "many short keys": "\n".join(f"a{n}=1" for n in range(100_000)),
    "many empty arrays": "a = [" + "[]," * (MIB // 3 - 10) + "]",
    "many tables": "\n".join(f"[t{n}]" for n in range(100_000)),
    "many tables of one array": "[[a]]\n" * (MIB // 6 - 10),
    "a huge number": "a = " + "9" * (MIB - 10),
    "a huge hexadecimal number": "a = 0x" + "f" * (MIB - 10),
    "equal signs": "a=" * (MIB // 2 - 10),
    "quotes": '"a"=' * (MIB // 4 - 10),
    "lists begun": 'a=["x",' * (MIB // 7 - 10),
    "dots": "." * (MIB - 10),
    "brackets closed": "]" * (MIB - 10),
}


@pytest.mark.slow
@pytest.mark.parametrize("text", LONG.values(), ids=LONG.keys())
def test_a_long_file_costs_time_by_its_length_alone(text: str, faults_of: Callable[..., list[str]]) -> None:
    """P13. CPU seconds, a hundred times what is needed: what grows with the square would take hours."""
    begun = time.process_time()
    faults = faults_of(text)
    assert faults
    assert time.process_time() - begun < 30
    assert all(len(fault) < 2000 for fault in faults)
    assert len(faults) <= 201


def test_a_file_larger_than_a_mebibyte_is_refused(faults_of: Callable[..., list[str]]) -> None:
    assert faults_of("#" * (MIB + 1)) == [
        "tidemill.toml: is larger than 1 MiB; split it with [daemon] include, or say less"
    ]


@pytest.mark.parametrize(
    "text",
    [
        "a = " + "[" * bounds.MAX_NESTING + "]" * bounds.MAX_NESTING,
        ".".join("a" * bounds.MAX_KEY_PARTS) + " = 1",
        "a = '" + "[" * 100 + "a." * 100 + "'",
        'a = """' + "[" * 100 + '"" """',
        "# " + "[" * 100,
        '"' + "." * 100 + '" = 1',
        "[[a]]\n" * 100,
    ],
)
def test_what_is_within_the_bounds_is_let_through(text: str) -> None:
    tomllib.loads(text)
    assert bounds.check(text) is None


@pytest.mark.parametrize(
    ("text", "offset"),
    [
        ("a = " + "[" * (bounds.MAX_NESTING + 1), 4 + bounds.MAX_NESTING),
        ("b = 1\n" + ".".join("a" * (bounds.MAX_KEY_PARTS + 1)) + " = 1", 6),
    ],
)
def test_what_is_one_beyond_the_bounds_is_refused_where_it_stands(text: str, offset: int) -> None:
    refused = bounds.check(text)
    assert refused is not None
    assert refused.offset == offset


def test_more_faults_than_anybody_reads_are_counted(faults_of: Callable[..., list[str]]) -> None:
    faults = faults_of("[daemon]\n" + "\n".join(f"k{n} = 1" for n in range(1000)))
    assert len(faults) == 201
    assert faults[-1] == "tidemill.toml: and 800 more faults"


def test_a_load_within_the_bounds_never_recurses_deeply(load_text: Callable[..., Loaded]) -> None:
    """Every level of brackets may hold a dotted key of its own."""
    key = ".".join("k" * bounds.MAX_KEY_PARTS)
    value = "1"
    for _ in range(bounds.MAX_NESTING - 1):
        value = f"{{{key} = {value}}}"
    loaded = load_text(f"[variables]\ndeep = {value}")
    depth, found = 0, loaded.settings.variables["deep"]
    while isinstance(found, dict):
        depth, found = depth + 1, found["k"]
    assert (depth, found) == (bounds.MAX_KEY_PARTS * (bounds.MAX_NESTING - 1), 1)
