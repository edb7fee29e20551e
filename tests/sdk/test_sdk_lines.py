"""Output in pieces becomes whole lines of bounded length (P13)."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidemill.sdk.lines import LineSplitter


def split(*pieces: str, limit: int = 10) -> list[str]:
    splitter = LineSplitter(limit)
    lines = [line for piece in pieces for line in splitter.feed(piece)]
    return lines + splitter.finish()


@pytest.mark.parametrize(
    ("pieces", "lines"),
    [
        ((), []),
        (("a\nb\n",), ["a", "b"]),
        (("a\n\nb\n",), ["a", "", "b"]),  # an empty line is a line
        (("a", "b", "\nc"), ["ab", "c"]),  # pieces join; the unfinished last line comes at the end
        (("a\r\nb\r\n",), ["a", "b"]),  # lines of another world
        (("10%\r20%\r100%\n",), ["100%"]),  # a progress bar counts as what it shows last
        (("10%\r20%\r",), ["20%"]),
        (("0123456789ab\nc\n",), ["0123456789 … [2 more characters cut]", "c"]),
        (("0123456789", "ab", "cd\n"), ["0123456789 … [4 more characters cut]"]),
        (("x" * 9 + "\r" + "y" * 9 + "\n",), ["y" * 9]),  # drawn over before it grew too long
        (("a\n0123456789ab\nb\n",), ["a", "0123456789 … [2 more characters cut]", "b"]),
    ],
)
def test_pieces_become_lines(pieces: tuple[str, ...], lines: list[str]) -> None:
    assert split(*pieces) == lines


@given(st.text(alphabet="ab\n", max_size=60), st.lists(st.integers(0, 60), max_size=6))
def test_where_the_pieces_end_makes_no_difference(text: str, cuts: list[int]) -> None:
    places = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    pieces = [text[start:end] for start, end in pairwise(places)]
    assert split(*pieces, limit=5) == split(text, limit=5)


def test_a_line_that_never_ends_takes_bounded_memory() -> None:
    splitter = LineSplitter(100)
    for _ in range(1000):
        assert splitter.feed("x" * 1000) == []
    assert len(splitter._tail) == 100
    assert splitter.feed("\n") == ["x" * 100 + " … [999900 more characters cut]"]
