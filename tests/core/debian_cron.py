"""A model of Debian's cron that shares nothing with ours.

It reads the expression in its own way and knows nothing of steps, masks or transitions: it looks at the wall once a
minute, as cron(8) does, runs jobs with a star at every matching minute, and the others when the wall reaches a time it
has not shown before, all skipped ones at once. It differs from cron(8) in two points that are ours: what coincides runs
once, and a wall set back counts as repeated however far.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

MINUTE = timedelta(minutes=1)
MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
NAMES = {name: n for n, name in enumerate(MONTHS, 1)} | {name: n for n, name in enumerate(WEEKDAYS)}
BOUNDS = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7))


class Model:
    """One expression, read for the model."""

    def __init__(self, text: str) -> None:
        fields = text.split()
        self.minutes, self.hours, self.days, self.months, weekdays = (
            {value for item in field.split(",") for value in self._values(item, low, high)}
            for field, (low, high) in zip(fields, BOUNDS, strict=True)
        )
        self.weekdays = {day % 7 for day in weekdays}
        self.starred = fields[0][0] == "*" or fields[1][0] == "*"
        self.both = fields[2][0] == "*" or fields[4][0] == "*"

    @staticmethod
    def _values(item: str, low: int, high: int) -> range:
        spread, _, step = item.partition("/")
        if spread != "*":
            ends = [NAMES[word.lower()] if word.isalpha() else int(word) for word in spread.split("-")]
            low, high = ends[0], ends[-1]
        return range(low, high + 1, int(step or 1))

    def on(self, wall: datetime) -> bool:
        """Say whether the wall time matches."""
        if wall.minute not in self.minutes or wall.hour not in self.hours or wall.month not in self.months:
            return False
        day, weekday = wall.day in self.days, wall.isoweekday() % 7 in self.weekdays
        return (day and weekday) if self.both else (day or weekday)

    def walk(self, walls: list[tuple[datetime, datetime]]) -> Iterator[datetime]:
        """Give the instants at which it fires; the first wall is where the walk begins and does not fire."""
        shown = walls[0][1]
        for instant, wall in walls[1:]:
            if self.starred:
                if self.on(wall):
                    yield instant
            elif wall > shown:
                skipped = (wall - shown) // MINUTE - 1
                new = [wall - n * MINUTE for n in range(1 + (skipped if skipped <= 180 else 0))]
                if any(self.on(time) for time in new):
                    yield instant
            shown = max(shown, wall)
