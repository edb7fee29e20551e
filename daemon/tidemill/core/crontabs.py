"""Reading crontabs: lines, environment, users and percent signs, as Debian's cron reads them (crontab(5)).

What a line's command means to a shell is ``crontab_commands``'s business.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import msgspec

from tidemill.core import cron
from tidemill.core.refusals import ScheduleError

# Settings that cron itself heeds; the rest goes into the environment of commands.
OWN_SETTINGS = frozenset(
    {"SHELL", "MAILTO", "MAILFROM", "CRON_TZ", "RANDOM_DELAY", "START_HOURS_RANGE", "CONTENT_TYPE",
     "CONTENT_TRANSFER_ENCODING", "LOGNAME", "USER"}
)  # fmt: skip
LONGEST_LINE = 10_000  # characters; cron itself refuses commands of 1,000

_SETTING = re.compile(r"""\s*(?:"(\w+)"|'(\w+)'|([A-Za-z_]\w*))\s*=\s*(.*?)\s*""")
_USER = re.compile(r"[A-Za-z_][\w.-]*\$?")


class CronLine(msgspec.Struct, frozen=True, kw_only=True):
    """One job. ``command`` is what the shell gets, ``stdin`` what it reads; ``settings`` are those in force."""

    number: int
    text: str  # as written
    schedule: str  # five fields, or a nickname
    user: str | None  # None: the crontab's owner
    command: str
    stdin: str | None
    settings: Mapping[str, str]
    comments: tuple[str, ...] = ()  # that stand right above it


class LeftOut(msgspec.Struct, frozen=True, kw_only=True):
    """A line that cannot be carried over, and why."""

    number: int
    text: str
    reason: str


def read(text: str, *, with_users: bool) -> tuple[list[CronLine], list[LeftOut]]:
    """Read a crontab; ``with_users``: /etc/crontab and /etc/cron.d, whose lines name a user after the time."""
    lines: list[CronLine] = []
    left: list[LeftOut] = []
    settings: dict[str, str] = {}
    comments: list[str] = []
    for number, written in enumerate(text.splitlines(), 1):
        line = written.strip()
        if not line or line.startswith("#"):
            comments = [*comments, line] if line else []
            continue
        setting = _SETTING.fullmatch(written)
        if setting is not None:
            settings = {**settings, (setting[1] or setting[2] or setting[3]): _unquoted(setting[4])}
        else:
            try:
                lines.append(_job(number, line, settings, tuple(comments), with_users=with_users))
            except ValueError as error:
                left.append(LeftOut(number=number, text=line, reason=str(error)))
        comments = []
    return lines, left


def _unquoted(value: str) -> str:
    return value[1:-1] if len(value) >= 2 and value[0] == value[-1] and value[0] in "\"'" else value


def _job(
    number: int, line: str, settings: Mapping[str, str], comments: tuple[str, ...], *, with_users: bool
) -> CronLine:
    """Return the job of a line; raises ValueError with the reason why there is none."""
    if len(line) > LONGEST_LINE:
        raise ValueError(f"{len(line)} characters are too long for a line")
    if "\0" in line:
        raise ValueError("there is a zero byte in it")
    line = line.removeprefix("-")  # some crons: do not log this one
    count = 1 if line.startswith("@") else 5
    parts = line.split(None, count + with_users)
    if len(parts) <= count + with_users:
        raise ValueError(
            "it has no command" if len(parts) >= count else "it is neither a setting nor a time with a command"
        )
    schedule, user, rest = " ".join(parts[:count]), parts[count] if with_users else None, parts[-1]
    try:
        cron.parse(schedule)
    except ScheduleError as error:
        raise ValueError(f"{error.problem}; {error.remedy}" if error.remedy else error.problem) from None
    if user is not None and not _USER.fullmatch(user):
        raise ValueError(f"{user} is no user's name")
    command, stdin = split_percent(rest)
    return CronLine(
        number=number,
        text=line,
        schedule=schedule,
        user=user,
        command=command,
        stdin=stdin,
        settings=settings,
        comments=comments,
    )


def split_percent(text: str) -> tuple[str, str | None]:
    """Return the command and what it reads: ``%`` is a newline, the first one begins the input, ``\\%`` is a ``%``."""
    parts = [part.replace("\\%", "%") for part in re.split(r"(?<!\\)%", text)]
    if len(parts) == 1:
        return parts[0].strip(), None
    data = "\n".join(parts[1:])
    return parts[0].strip(), data if data.endswith("\n") else data + "\n"
