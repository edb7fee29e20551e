"""Why a schedule is refused."""

from __future__ import annotations


class ScheduleError(ValueError):
    """A schedule that cannot be meant. ``field`` is the key at fault ("cron", "timezone", …; "" for the whole).

    The text is ``problem; remedy``, for a caller that has no place to name.
    """

    def __init__(self, field: str, problem: str, remedy: str = "") -> None:
        self.field = field
        self.problem = problem
        self.remedy = remedy
        super().__init__(f"{problem}; {remedy}" if remedy else problem)
