"""What is written past Python: whole lines, in bounded pieces, no more a second than may be kept."""

from __future__ import annotations

import asyncio
import os

import pytest

from fakes import FakeClock
from tidemill.runners.output import BURST, Output


class Heard:
    """A pipe, what is made of it, and a clock to move."""

    def __init__(self, rate: float = 10) -> None:
        self.clock = FakeClock()
        self.said: list[str | int] = []
        read, self.write = os.pipe()
        self.output = Output(read, rate=rate, clock=self.clock, line=self.said.append, dropped=self.said.append)

    def put(self, data: bytes) -> None:
        os.write(self.write, data)

    async def read(self) -> None:
        """Let the loop have a few turns, in which what is in the pipe is read."""
        for _ in range(30):
            await asyncio.sleep(0)

    async def close(self) -> list[str | int]:
        os.close(self.write)
        await asyncio.wait_for(self.output.ended, 30)
        self.output.close()
        return self.said


# What is written, piece by piece -> the lines of it.
PIECES: list[tuple[list[bytes], list[str]]] = [
    ([b"one\ntwo\n"], ["one", "two"]),
    ([b"o", b"ne\ntw", b"o"], ["one", "two"]),
    (["tä".encode()[:2], "tä".encode()[2:] + b"\n"], ["tä"]),
    ([b"\xff\n"], ["\ufffd"]),
    ([b"\n\n"], ["", ""]),
    ([b"10%\r50%\r100%\n"], ["100%"]),
    ([], []),
]


@pytest.mark.parametrize(("pieces", "lines"), PIECES)
async def test_pieces_become_lines(pieces: list[bytes], lines: list[str]) -> None:
    heard = Heard()
    for piece in pieces:
        heard.put(piece)
        await heard.read()
    assert await heard.close() == lines


async def test_beyond_the_burst_lines_are_dropped_and_counted_once_it_is_over() -> None:
    heard = Heard(rate=10)
    heard.put(b"".join(b"%d\n" % number for number in range(BURST + 50)))
    await heard.read()
    assert heard.said == [str(number) for number in range(BURST)]
    heard.clock.advance(1.0)
    heard.put(b"after\n")
    assert await heard.close() == [*map(str, range(BURST)), 50, "after"]


async def test_what_was_dropped_last_is_told_at_the_end() -> None:
    heard = Heard(rate=10)
    heard.put(b"x\n" * (BURST + 7))
    said = await heard.close()
    assert said == ["x"] * BURST + [7]


async def test_a_line_that_begins_before_a_gap_does_not_go_on_behind_it() -> None:
    heard = Heard(rate=10)
    heard.put(b"x\n" * BURST + b"begun")
    await heard.read()
    heard.put(b" and ended\nlost\nnext")
    await heard.read()
    heard.clock.advance(1.0)
    await asyncio.sleep(0.02)  # a piece that was dropped as a whole is followed by a pause
    heard.put(b" line\n")
    assert await heard.close() == ["x"] * BURST + [2, "next line"]


async def test_without_a_rate_nothing_is_dropped() -> None:
    heard = Heard(rate=0)
    heard.put(b"x\n" * 5000)
    assert await heard.close() == ["x"] * 5000
