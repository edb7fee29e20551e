"""``tidemill logs``: what runs did and printed, fires that made no run, and what the daemon said, as one log."""

from __future__ import annotations

import argparse
import json
import sys
import time
from datetime import datetime
from typing import Any

from msgspec.structs import replace

from tidemill.cli import moments, text, times
from tidemill.cli.finding import TIMELINE, Link
from tidemill.cli.session import Session
from tidemill.cli.watching import LEVELS
from tidemill.errors import EXIT_OK, EXIT_USAGE, DaemonUnreachableError, TidemillError
from tidemill.telemetry.entries import Entry
from tidemill.telemetry.formats import HumanFormat, JsonFormat

DEFAULT_LINES = 100
ALL = -1
INDENT = " " * 44  # where the sentence stands on a terminal: behind time, level and subject
MOST_LINES = 100_000
LOOK_AGAIN_S = 1.0  # for a daemon that is down
REMEMBERED = 20_000  # states told last, which a new connection may tell again
DESCRIPTION = (
    "Show what runs did and printed, fires that made no run, artifacts, and what the daemon said, by time. "
    "Without a daemon it is read from its database."
)


class WrongMomentError(TidemillError):
    """The time asked for cannot be read, or cannot be."""

    exit_code = EXIT_USAGE


def add(commands: Any, name: str, line: str, common: argparse.ArgumentParser) -> None:
    parser = commands.add_parser(name, help=line, description=DESCRIPTION, parents=[common])
    parser.add_argument("-f", "--follow", action="store_true", help="go on, also over restarts of the daemon")
    parser.add_argument("--deployment", action="append", metavar="NAME", help="only of this deployment; may repeat")
    parser.add_argument("--run", metavar="RUN", dest="flow_run", help="only of this flow run; --follow ends with it")
    parser.add_argument(
        "--level", choices=tuple(LEVELS), type=str.upper, default="INFO", help="lines of at least this level (INFO)"
    )
    parser.add_argument("--since", metavar="MOMENT", help="from then on: 1h, 09:00, today, 2026-03-29 09:00")
    parser.add_argument("--until", metavar="MOMENT", help="only before then")
    parser.add_argument(
        "-n", "--lines", type=lines, metavar="N",
        help=f"only the last N lines, or all ({DEFAULT_LINES}; all with --since)",
    )  # fmt: skip
    parser.set_defaults(run=show)


def lines(value: str) -> int:
    """Return how many lines; ALL for all."""
    if value == "all":
        return ALL
    if not value.isascii() or not value.isdigit():
        raise argparse.ArgumentTypeError(f'{value!r} is not a number, or "all"')
    if int(value) > MOST_LINES:
        raise argparse.ArgumentTypeError(f'at most {MOST_LINES}; "all" for all')
    return int(value)


def show(session: Session) -> int:
    """Print the log; with ``--follow`` go on until interrupted, or until the run has ended."""
    query = _query(session)
    printer = Printer(session)
    if session.args.follow:
        return Follower(session, query, printer).run()
    for event, data in session.stream(TIMELINE, **query):
        if event == "line":
            printer.line(data)
    if not printer.printed and query["tail"] != 0:
        session.note(_silence(query))
    return EXIT_OK


def _query(session: Session) -> dict[str, Any]:
    args, now = session.args, session.now()
    if args.follow and args.until:
        raise WrongMomentError("--follow and --until do not go together: what is followed has no end yet")
    since, until = _moment("--since", args.since, now), _moment("--until", args.until, now)
    if since is not None and until is not None and since >= until:
        raise WrongMomentError(
            f"--since ({times.local(since.isoformat())}) is not before --until ({times.local(until.isoformat())})"
        )
    wanted = args.lines if args.lines is not None else DEFAULT_LINES if since is None else ALL
    return {
        "deployment": ",".join(args.deployment) if args.deployment else None,
        "flow_run_id": args.flow_run,
        "level": LEVELS[args.level],
        "since": None if since is None else since.isoformat(),
        "until": None if until is None else until.isoformat(),
        "tail": None if wanted == ALL else wanted,
        "follow": "true" if args.follow else None,
    }


def _moment(option: str, given: str | None, now: datetime) -> datetime | None:
    try:
        return None if given is None else moments.moment(given, now)
    except ValueError as error:
        raise WrongMomentError(f"{option}: {error}") from None


def _silence(query: dict[str, Any]) -> str:
    narrowed = query["level"] > LEVELS["INFO"] or any(
        query[name] for name in ("deployment", "flow_run_id", "since", "until")
    )
    return "nothing in the log fits; ask for less" if narrowed else "nothing has been logged yet"


class Printer:
    """Prints lines: for people as the daemon's own log has them, or each as JSON."""

    def __init__(self, session: Session) -> None:
        terminal = sys.stdout.isatty()
        self.printed = 0
        self.first: str | None = None  # when the first line was
        self._json = JsonFormat() if session.json else None
        self._human = HumanFormat(times="short" if terminal else "full", colour=text.coloured())
        self._several = (
            terminal and self._json is None
        )  # a line of output may be several on a terminal; in a pipe one event is one line
        self._told: dict[str, None] = {}

    def line(self, line: dict[str, Any]) -> None:
        """Print a line, unless it is a state that was printed before."""
        state = line.get("id")
        if state is not None:
            if state in self._told:
                return
            self._told[state] = None
            if len(self._told) > REMEMBERED:
                del self._told[next(iter(self._told))]
        self.printed += 1
        self.first = self.first or line["timestamp"]
        fields = line["fields"]
        if self._json is not None:
            fields = {"kind": line["kind"], **fields}
        entry = Entry(
            at=times.parse(line["timestamp"]),
            level=line["level"],
            subject=line["subject"],
            message=line["message"],
            fields=fields,
            said=line["kind"] != "daemon",
            error=line.get("error"),
            traceback=line.get("traceback"),
        )
        if self._several:
            entry = replace(entry, message=entry.message.expandtabs())
        form = self._json or self._human
        if self._several and "\n" in entry.message:
            first, *more = entry.message.rstrip("\n").split("\n")
            print(form(replace(entry, message=first)))
            for each in more:
                print(f"{INDENT}{text.clean(each)}")
        else:
            print(form(entry))

    def flush(self) -> None:
        """Let go of what was printed: its reader waits for it."""
        sys.stdout.flush()


class Follower:
    """Follows the log over restarts of the daemon: it goes on where it was cut off."""

    def __init__(self, session: Session, query: dict[str, Any], printer: Printer) -> None:
        self._session = session
        self._query = query
        self._printer = printer
        self._began = session.now().isoformat()
        self._link: Link | None = session.link

    def run(self) -> int:
        """Print until the run that is followed has ended, or the person has seen enough."""
        reads_while_down = 0
        while True:
            link = self._link
            if link is not None and link.live:
                reads_while_down = 0
            elif link is not None:
                reads_while_down += 1
            # The second time for what a daemon that was just stopping still had to say.
            if link is not None and reads_while_down <= 2 and self._ended(link):
                return EXIT_OK
            if reads_while_down == 1:
                self._session.note("the daemon is down; waiting for it")
            time.sleep(LOOK_AGAIN_S)
            self._link = self._find()

    def _ended(self, link: Link) -> bool:
        """Print what a link gives; return whether all is told that there will be."""
        try:
            for event, data in link.stream(TIMELINE, self._query):
                if event == "line":
                    self._printer.line(data)
                elif event == "cursor":
                    self._printer.flush()
                    # Where it goes on, nothing is told that is older than what was told first.
                    since = self._query["since"] or self._printer.first or self._began
                    self._query |= {"cursor": json.dumps(data), "tail": None, "since": since}
                elif event == "end":
                    return True
        except DaemonUnreachableError:
            if "cursor" not in self._query:
                raise
        finally:
            link.close()
        return False

    def _find(self) -> Link | None:
        try:
            return self._session.another_link()
        except DaemonUnreachableError:
            return None
