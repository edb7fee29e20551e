"""Output in pieces becomes whole lines of bounded length."""

from __future__ import annotations

MAX_LINE = 8192  # characters; what is cut off says so


class LineSplitter:
    """Collects text written in any pieces and gives back its lines.

    A line that draws over itself with carriage returns (a progress bar) counts as what a terminal would show at its
    end. Memory stays bounded, however long a line grows.
    """

    __slots__ = ("_cut", "_limit", "_tail")

    def __init__(self, limit: int = MAX_LINE) -> None:
        self._limit = limit
        self._tail = ""
        self._cut = 0

    def feed(self, text: str) -> list[str]:
        """Take more text; return the lines that it completed, without their ends."""
        if "\n" not in text:
            self._add(text)
            return []
        first, *rest = text.split("\n")
        self._add(first)
        lines = [self._take()]
        last = rest.pop()
        for piece in rest:
            if len(piece) > self._limit or "\r" in piece:
                self._add(piece)
                lines.append(self._take())
            else:
                lines.append(piece)
        self._add(last)
        return lines

    def finish(self) -> list[str]:
        """Return what stands in an unfinished last line, if anything."""
        return [self._take()] if self._tail else []

    def _add(self, piece: str) -> None:
        tail = self._tail + piece if self._tail else piece
        if len(tail) > self._limit:
            drawn = tail.rfind("\r", 0, len(tail) - 1)
            if drawn >= 0:
                tail, self._cut = tail[drawn + 1 :], 0
            if len(tail) > self._limit:
                self._cut += len(tail) - self._limit
                tail = tail[: self._limit]
        self._tail = tail

    def _take(self) -> str:
        line, cut = self._tail, self._cut
        self._tail, self._cut = "", 0
        if "\r" in line:
            line = line.rstrip("\r")
            line = line[line.rfind("\r") + 1 :]
        return f"{line} … [{cut} more characters cut]" if cut else line
