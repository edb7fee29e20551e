"""``tidemill schedule``: when a schedule fires, without a daemon or a configuration."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from tidemill.cli import text
from tidemill.cli.session import Session
from tidemill.clock import no_instant
from tidemill.errors import EXIT_USAGE, TidemillError

if TYPE_CHECKING:
    from tidemill.core.schedules import CompiledSchedule, Fire, Schedule

MOST = 10_000


class ScheduleRefusedError(TidemillError):
    """The schedule cannot be read. The text says what would be right."""

    exit_code = EXIT_USAGE


def add(commands: Any, name: str, line: str, common: argparse.ArgumentParser) -> None:
    noun = commands.add_parser(name, help=line, parents=[common])
    verbs = noun.add_subparsers(title="commands", metavar="COMMAND", required=True)
    preview = verbs.add_parser("preview", help="show the next fires of a schedule", parents=[common])
    kinds = preview.add_mutually_exclusive_group(required=True)
    kinds.add_argument(
        "--cron", metavar="EXPRESSION", help='five fields, as in "0 9 * * mon-fri", or @daily and the like'
    )
    kinds.add_argument("--interval", metavar="DURATION", help='such as "90s", "1h30m", "1d"')
    kinds.add_argument("--rrule", metavar="RULE", help='such as "FREQ=MONTHLY;BYDAY=-1FR"')
    kinds.add_argument("--at", metavar="INSTANT", help="once, such as 2026-03-29T02:30")
    preview.add_argument("--timezone", "--tz", metavar="ZONE", help="such as Europe/Helsinki (the machine's)")
    preview.add_argument(
        "--after", metavar="INSTANT", help="show fires later than this, such as 2026-03-29T00:00:00Z (now)"
    )
    preview.add_argument("--count", type=fire_count, default=5, metavar="N", help="how many (5)")
    preview.set_defaults(run=show_preview)


def fire_count(value: str) -> int:
    if not value.isascii() or not value.isdigit() or not 1 <= int(value) <= MOST:
        raise argparse.ArgumentTypeError(f"{value!r} is not a number from 1 to {MOST}")
    return int(value)


def show_preview(session: Session) -> None:
    """Show the next fires of a schedule, with what changes of the zone's offset do to them."""
    from tidemill.core.schedules import ScheduleError, compile_schedule, preview

    args = session.args
    try:
        compiled = compile_schedule(_schedule(session))
        after = _after(args.after, compiled) if args.after else session.now()
        fires = preview(compiled, after, args.count)
    except (ScheduleError, ValueError, OverflowError) as error:
        raise ScheduleRefusedError(str(error)) from error
    if session.json:
        session.show({"fires": [fire_document(fire) for fire in fires]})
        return
    for remark in compiled.remarks:
        session.note(remark)
    if compiled.is_reboot:
        print("Fires once, each time the daemon starts.")
    elif not fires:
        print(f"Does not fire after {after.astimezone(compiled.info):%a %Y-%m-%d %H:%M:%S %z}.")
    else:
        print(fire_lines(fires))


def _schedule(session: Session) -> Schedule:
    from tidemill.core.schedules import Schedule
    from tidemill.durations import parse_duration

    args = session.args
    interval: timedelta | None = parse_duration(args.interval) if args.interval is not None else None
    at = _instant("--at", args.at) if args.at is not None else None
    zone = args.timezone if args.timezone is not None else machine_zone(session)
    return Schedule(cron=args.cron, interval=interval, rrule=args.rrule, at=at, timezone=zone)


def machine_zone(session: Session) -> str:
    """Return the machine's zone."""
    from tidemill.config.timezone import machine_zone as zone_of

    return zone_of(session.environ)


def _instant(option: str, value: str) -> datetime:
    try:
        return datetime.fromisoformat(value)
    except ValueError as error:
        raise ValueError(f"{option}: {no_instant(value, '2026-03-29T02:30')}") from error


def _after(value: str, compiled: CompiledSchedule) -> datetime:
    when = _instant("--after", value)
    return when.astimezone(UTC) if when.tzinfo else when.replace(tzinfo=compiled.info).astimezone(UTC)


def fire_document(fire: Fire) -> dict[str, Any]:
    """Return a fire as JSON."""
    return {
        "utc": fire.utc.isoformat().replace("+00:00", "Z"),
        "local": fire.local.isoformat(),
        "note": fire.note,
    }


def fire_lines(fires: list[Fire], indent: str = "") -> str:
    """Return fires one per line: local time with offset, then what is to be known of it."""
    lines = []
    for fire in fires:
        note = f"  {text.clean(fire.note)}" if fire.note else ""
        lines.append(f"{indent}{fire.local:%a %Y-%m-%d %H:%M:%S %z}{note}")
    return "\n".join(lines)
