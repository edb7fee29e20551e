"""Figures: what was measured, what is to be reached, what the least possible is, and how they look in a table."""

from __future__ import annotations

import statistics
import textwrap
import time
from collections.abc import Iterable, Mapping, Sequence

import msgspec

WIDTH = 100


class Figure(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One measured figure. ``target`` is "< 10", "≥ 2500" or empty where none is set.

    ``floor`` is the least (or most) that the machine gave in the same run, in the same unit, with nothing of tidemill
    in the way; ``ratio`` is ``value / floor``. ``peers`` are others' figures, ``note`` what else belongs to it.
    """

    name: str
    value: float
    unit: str
    target: str = ""
    floor: float | None = None
    peers: str = ""
    note: str = ""

    @property
    def ratio(self) -> float | None:
        return None if not self.floor else self.value / self.floor

    @property
    def reached(self) -> bool | None:
        """Whether the target was reached; None: there is none."""
        if not self.target:
            return None
        sign, _, bound = self.target.partition(" ")
        return {"<": self.value < float(bound), "≤": self.value <= float(bound), "≥": self.value >= float(bound)}[sign]

    def document(self) -> dict[str, object]:
        """Return the figure for JSON, with what is worked out from it."""
        return msgspec.structs.asdict(self) | {"ratio": self.ratio, "reached": self.reached}


class Stopwatch:
    """Wall time and this process's CPU time: on a busy machine the first grows and the second hardly does."""

    def __init__(self) -> None:
        self._wall, self._cpu = time.perf_counter(), time.process_time()
        self.wall_s = self.cpu_s = 0.0

    def stop(self) -> Stopwatch:
        self.wall_s, self.cpu_s = time.perf_counter() - self._wall, time.process_time() - self._cpu
        return self


def median(values: Iterable[float]) -> float:
    return statistics.median(values)


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the nearest-rank percentile."""
    ordered = sorted(values)
    return ordered[max(0, min(len(ordered) - 1, round(percent / 100 * len(ordered) + 0.5) - 1))]


def table(found: Mapping[str, Sequence[Figure]]) -> str:
    """Return all figures, by benchmark, in 100 columns."""
    lines = [f"{'':<48}{'measured':>13}  {'to reach':<9}{'floor':>10}{'ratio':>8}"]
    for title, figures in found.items():
        lines += ["", title]
        for each in figures:
            mark = {None: " ", True: "+", False: "-"}[each.reached]
            head = f"{mark} {each.name}"
            if len(head) > 48:
                lines.append(head)
                head = ""
            ratio = "" if each.ratio is None else f"{each.ratio:.0%}" if each.ratio < 1.5 else f"{each.ratio:.1f}x"
            floor = "" if each.floor is None else _number(each.floor)
            value = f"{_number(each.value)} {each.unit}"
            lines.append(f"{head:<48}{value:>13}  {each.target:<9}{floor:>10}{ratio:>8}".rstrip())
            for text in (each.note, each.peers):
                lines += textwrap.wrap(text, WIDTH - 6, initial_indent=" " * 6, subsequent_indent=" " * 6)
    return "\n".join(lines)


def _number(value: float) -> str:
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}" if abs(value) >= 0.1 else f"{value:.3f}"
