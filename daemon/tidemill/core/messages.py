"""Messages: what a person reads at three in the morning. Facts go in, a subject line and a text come out."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import msgspec

from tidemill.core.notices import Notice, NoticeKind
from tidemill.core.runs import FlowRun, SkippedFire

SUBJECT_LENGTH = 150
OTHER_LENGTH = 80  # of a subject that is not alone
LINES = 20  # of a run's output
LISTED = 50  # deployments in one message
IN_FULL = 3  # failures in one message that are told with their output
NAMED = 3  # deployments in a subject line
ID_END = 8  # characters of an id, which the command line takes for the whole
SHORT = 1500  # characters, for chats
REASON_LENGTH = 500  # characters of it above the facts; the whole stands in the run's state and its log
REASON_LINES = 6

FAILURES = frozenset({NoticeKind.FAILED, NoticeKind.TIMED_OUT, NoticeKind.CRASHED})
_VERBS = {NoticeKind.FAILED: "failed", NoticeKind.TIMED_OUT: "timed out", NoticeKind.CRASHED: "crashed"}
# What a program writes to colour a terminal, or to name its window.
_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\^_])")


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where and when a message is made."""

    host: str
    zone: ZoneInfo
    now: datetime


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """A notice with what the database knows of it at the time of telling. ``next_due`` None: nothing is planned."""

    notice: Notice
    run: FlowRun | None = None
    lines: tuple[str, ...] | None = None  # of its output; None: nobody looked
    cut: int = 0  # lines before those
    last_success: datetime | None = None
    next_due: datetime | None = None
    paused: bool = False


class Text(msgspec.Struct, frozen=True):
    subject: str
    text: str


def compose(told: Sequence[Told], place: Place, *, lost: int = 0) -> Text:
    """Return the message that tells all of it, one thing or a storm. ``lost`` notices could not be kept for it.

    What ``latest`` leaves out is not to be among it.
    """
    found = _single(told[0], place) if len(told) == 1 else Text(_subject(told), _digest(told, place))
    text = found.text.rstrip()
    if lost:
        text += f"\n\n{lost} older notices are not here: too many waited for this channel."
    return Text(one_line(found.subject, SUBJECT_LENGTH), text + "\n")


def latest(notices: Sequence[Notice]) -> list[int]:
    """Return which notices are worth telling: not those that a later one of the same deployment says better."""
    kept: dict[object, int] = {}
    for number, notice in enumerate(notices):
        key: object = number
        if notice.kind in FAILURES:
            kept.pop(("well", notice.deployment), None)  # it was well, and is not any more
            key = ("failed", notice.deployment)
        elif notice.kind is NoticeKind.RECOVERED and notice.deployment is not None:
            key = ("well", notice.deployment)
        kept.pop(key, None)
        kept[key] = number
    return list(kept.values())


# --- one thing ------------------------------------------------------------------------------------------------------


def _single(told: Told, place: Place) -> Text:
    return Text(told.notice.subject, "\n".join([*_head(told, place), *_body(told, place)]))


def _head(told: Told, place: Place) -> list[str]:
    notice = told.notice
    at = moment(notice.at or place.now, place)
    if notice.kind in FAILURES:
        reason = f": {_bounded(notice.reason)}" if notice.reason else "."
        return [f"{notice.deployment} {_VERBS[notice.kind]} on {place.host}, {at}{reason}", ""]
    return [notice.subject, ""]


def _bounded(reason: str) -> str:
    lines = _ESCAPES.sub("", reason).splitlines()
    text = "\n".join(clean(line) for line in lines[:REASON_LINES])
    return text if len(lines) <= REASON_LINES and len(text) <= REASON_LENGTH else f"{text[: REASON_LENGTH - 1]}…"


def _body(told: Told, place: Place) -> list[str]:
    notice, run = told.notice, told.run
    found: list[str] = []
    found += _fields(_facts(told, place))
    of_run = notice.kind in FAILURES or notice.kind is NoticeKind.RECOVERED
    if notice.lines and not of_run:
        found += ["", *notice.lines]
    if told.lines:
        count = len(told.lines)
        title = f"Its last {count} lines:" if told.cut else f"Its output, {count} line{'' if count == 1 else 's'}:"
        found += ["", title, *(f"  | {line}" for line in told.lines)]
    elif told.lines is not None and run is not None and notice.kind in FAILURES:
        found += ["", "It wrote nothing."]
    look = _look(told)
    if look:
        found += ["", *_fields([("Look", look[0]), *(("", each) for each in look[1:])])]
    if notice.lines and of_run:
        found += ["", *notice.lines]
    return found


def _facts(told: Told, place: Place) -> list[tuple[str, str | None]]:
    notice, run = told.notice, told.run
    row = None
    if notice.failures > 1 and notice.since is not None and notice.kind is not NoticeKind.RECOVERED:
        row = f"{ordinal(notice.failures)} failure, since {moment(notice.since, place)}"
    attempt = None
    if run is not None:
        attempt = f"{run.name} ({run.id})"
        if run.attempt:
            tried = f"attempt {run.attempt}, " if run.attempt > 1 else ""
            attempt += f", {tried}ran {span(run.run_time_s)}"
        else:
            attempt += ", never began"
    healthy = notice.kind is NoticeKind.RECOVERED
    of_run = notice.kind in FAILURES  # whose first line says where and when
    return [
        ("Where", None if of_run else place.host),
        ("When", None if of_run else moment(notice.at or place.now, place)),
        ("Run", attempt),
        ("Repeated", row),
        ("Last success", None if healthy or notice.deployment is None else _ago(told.last_success, place)),
        ("Next due", _next(told, place) if notice.deployment is not None else None),
    ]


def _ago(when: datetime | None, place: Place) -> str:
    if when is None:
        return "none on record"
    return f"{moment(when, place)} ({span((place.now - when).total_seconds())} ago)"


def _next(told: Told, place: Place) -> str:
    if told.paused:
        return "never: it is paused"
    if told.next_due is None:
        return "nothing is planned; run it by hand"
    away_s = (told.next_due - place.now).total_seconds()
    return f"{moment(told.next_due, place)} ({f'in {span(away_s)}' if away_s > 0 else 'now'})"


def _look(told: Told) -> list[str]:
    notice = told.notice
    if notice.kind in FAILURES and notice.run is not None:
        return [f"tidemill flow-run {verb} {notice.run[-ID_END:]}" for verb in ("logs", "retry")]
    if notice.kind is NoticeKind.MISSED and notice.deployment is not None:
        return [f"tidemill why {notice.deployment}", f"tidemill deployment run {notice.deployment}"]
    if notice.kind is NoticeKind.AUTOMATION and notice.run is not None:
        return [f"tidemill flow-run logs {notice.run[-ID_END:]}"]
    return []


def missed_notice(missed: SkippedFire, place: Place) -> Notice:
    """Return what is told of fires that made no run; the reason is catch-up's."""
    name, first, last, count, reason = missed.deployment, missed.first, missed.last, missed.count, missed.reason
    why = reason.removeprefix("missed ")
    brief = why.partition(";")[0].partition(",")[0]
    fires = "its fire of" if count == 1 else f"{count} fires, the first of"
    lines = [f"Skipped: {reason}."]
    if count > 1:
        lines.insert(0, f"They were due from {moment(first, place)} to {moment(last, place)}.")
    lines.append("Nothing makes up for them by itself; what catch_up and catch_up_window say decides that.")
    return Notice(
        kind=NoticeKind.MISSED,
        subject=f"{name} missed {fires} {brief_moment(first, place)} {brief}".rstrip(),
        deployment=name,
        lines=tuple(lines),
        reason=reason,
        failures=count,
    )


# --- several --------------------------------------------------------------------------------------------------------


def _subject(told: Sequence[Told]) -> str:
    failed = [each for each in told if each.notice.kind in FAILURES]
    well = [each for each in told if each.notice.kind is NoticeKind.RECOVERED]
    missed = [each for each in told if each.notice.kind is NoticeKind.MISSED]
    other = [each for each in told if each not in failed and each not in well and each not in missed]
    parts = []
    if failed:
        parts.append(f"{_count(len(failed), 'deployment')} failed")
    names, healthy = ({each.notice.deployment for each in some} for some in (failed, well))
    if failed and names == healthy:
        parts[0] += f" and {'is' if len(failed) == 1 else 'are'} well again"
        well = []
    if missed:
        parts.append(f"{len(missed)} missed fires" if failed else f"{_count(len(missed), 'deployment')} missed fires")
    if well:
        parts.append(f"{len(well)} well again" if parts else f"{_count(len(well), 'deployment')} well again")
    named = _names([each.notice.deployment for each in failed or missed or well if each.notice.deployment])
    words = f"{', '.join(parts)}{f': {named}' if named else ''}"
    if not other:
        return words
    # What is wrong with the daemon itself, or was asked for, matters more than any one run.
    first = one_line(other[0].notice.subject, OTHER_LENGTH)
    more = f" and {len(other) - 1} more" if len(other) > 1 else ""
    return f"{first}{more}; {words}" if words else f"{first}{more}"


def _names(names: Sequence[str]) -> str:
    shown = ", ".join(names[:NAMED])
    return f"{shown} and {len(names) - NAMED} more" if len(names) > NAMED else shown


def _digest(told: Sequence[Told], place: Place) -> str:
    times = [each.notice.at or place.now for each in told]
    first, last = moment(min(times), place), moment(max(times), place)
    when = first if first == last else f"from {first} to {last}"
    found = [f"On {place.host}, {when}:", ""]
    other = [each for each in told if each.notice.kind not in {*FAILURES, NoticeKind.RECOVERED, NoticeKind.MISSED}]
    for each in other:
        at = (each.notice.at or place.now).astimezone(place.zone)
        lines = (*each.notice.lines, *_look(each))
        found += [f"{at:%H:%M:%S}  {each.notice.subject}", *(f"  {line}".rstrip() for line in lines), ""]
    failed = [each for each in told if each.notice.kind in FAILURES]
    if failed:
        found += _failed(failed, place)
    missed = [each for each in told if each.notice.kind is NoticeKind.MISSED]
    if missed:
        found += [f"{_count(len(missed), 'deployment')} missed fires:"]
        found += _listed([each.notice.subject for each in missed])
    well = [each for each in told if each.notice.kind is NoticeKind.RECOVERED]
    if well:
        found += ["Well again:", *_listed([each.notice.subject for each in well])]
    look = ["tidemill status"]
    if failed:
        look.append("tidemill flow-run ls --state Failed")
    found += _fields([("Look", look[0]), *(("", each) for each in look[1:])])
    return "\n".join(found)


def _failed(failed: Sequence[Told], place: Place) -> list[str]:
    if len(failed) <= IN_FULL:
        found = []
        for each in failed:
            found += [f"--- {each.notice.subject}", "", *_body(each, place), ""]
        return found
    found = [f"{len(failed)} deployments failed."]
    ends = Counter(_end(each.notice.reason) for each in failed if each.notice.reason)
    common, count = ends.most_common(1)[0] if ends else ("", 0)
    if count > 1 and count * 2 >= len(failed):
        found[0] += f" {'All' if count == len(failed) else count} of them say: {common}"
    found.append("")
    width = max(len(each.notice.deployment or "") for each in failed[:LISTED])
    rows = []
    for each in failed:
        at = (each.notice.at or place.now).astimezone(place.zone)
        due = f"; next due {brief_moment(each.next_due, place)}" if each.next_due is not None else ""
        reason = one_line(each.notice.reason or _VERBS[each.notice.kind], 160)
        rows.append(f"{at:%H:%M:%S}  {each.notice.deployment or '':<{width}}  {reason}{due}")
    return [*found, *_listed(rows)]


def _end(reason: str | None) -> str:
    """Return what is the same where many fail for one cause: the last part, without whom it was said of."""
    return one_line(reason or "", 400).rpartition(": ")[2]


def _listed(rows: Sequence[str]) -> list[str]:
    found = [f"  {row}" for row in rows[:LISTED]]
    if len(rows) > LISTED:
        found.append(f"  … and {len(rows) - LISTED} more")
    return [*found, ""]


# --- words ----------------------------------------------------------------------------------------------------------


def _fields(rows: Sequence[tuple[str, str | None]]) -> list[str]:
    there = [(name, value) for name, value in rows if value is not None]
    width = max((len(name) for name, _ in there), default=0)
    return [f"{name:<{width}}  {value}" for name, value in there]


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def ordinal(number: int) -> str:
    """Return 1st, 2nd, 3rd, 4th … 11th … 21st."""
    ending = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"


def moment(when: datetime, place: Place) -> str:
    """Return an instant as local time with its offset."""
    local = when.astimezone(place.zone)
    offset = f"{local:%z}"
    return f"{local:%a %Y-%m-%d %H:%M:%S} {offset[:3]}:{offset[3:5]}"


def brief_moment(when: datetime, place: Place) -> str:
    """Return an instant as a subject line has it: the time, with the day where it is not today's."""
    local, today = when.astimezone(place.zone), place.now.astimezone(place.zone)
    if local.date() == today.date():
        return f"{local:%H:%M}"
    near = abs((local.date() - today.date()).days) < 6
    return f"{local:%a %H:%M}" if near else f"{local:%Y-%m-%d %H:%M}"


def span(seconds: float) -> str:
    """Return a duration as one reads it: ``0.2 s``, ``3 min``, ``2 h 5 min``, ``3 d 4 h``."""
    whole = round(abs(seconds))
    if abs(seconds) < 10:
        return f"{abs(seconds):.1f} s"
    if whole < 120:
        return f"{whole} s"
    if whole < 7200:
        return f"{whole // 60} min"
    if whole < 172_800:
        return f"{whole // 3600} h {whole % 3600 // 60} min" if whole % 3600 >= 60 else f"{whole // 3600} h"
    return f"{whole // 86_400} d {whole % 86_400 // 3600} h"


def one_line(text: str, most: int) -> str:
    """Return a text as one line of at most so many characters."""
    line = " ".join(clean(text).split())
    return line if len(line) <= most else f"{line[: most - 1].rstrip()}…"


def clean(text: str) -> str:
    """Return a line without what only a terminal understands."""
    return "".join(each if each.isprintable() or each == "\t" else " " for each in _ESCAPES.sub("", text))


def lasted(since: datetime, until: datetime) -> str:
    """Return how long something lasted."""
    return span(max(timedelta(0), until - since).total_seconds())


def document(told: Told) -> dict[str, Any]:
    """Return a notice as JSON values, for programs."""
    notice, run = told.notice, told.run
    found: dict[str, Any] = {
        "kind": notice.kind.value,
        "subject": notice.subject,
        "at": _time(notice.at),
        "deployment": notice.deployment,
        "state": notice.state,
        "reason": notice.reason,
        "failures": notice.failures,
        "since": _time(notice.since),
        "details": list(notice.lines),
        "run": None,
        "lines": list(told.lines or ()),
        "last_success": _time(told.last_success),
        "next_due": _time(told.next_due),
    }
    if run is not None:
        found["run"] = {
            "id": run.id,
            "name": run.name,
            "attempt": run.attempt,
            "expected_start": _time(run.expected_start),
            "started": _time(run.start_time),
            "ended": _time(run.end_time),
            "seconds": round(run.run_time_s, 3),
            "data": run.state.data,
        }
    elif notice.run is not None:
        found["run"] = {"id": notice.run}
    return found


def _time(when: datetime | None) -> str | None:
    return None if when is None else when.isoformat().replace("+00:00", "Z")
