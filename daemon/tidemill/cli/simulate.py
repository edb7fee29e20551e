"""``tidemill simulate``: what a configuration would do over days or weeks, in seconds."""

from __future__ import annotations

import argparse
import fnmatch
import os
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tidemill.cli import configuration, text
from tidemill.cli.progress import Progress
from tidemill.cli.session import Session
from tidemill.clock import no_instant
from tidemill.errors import EXIT_USAGE, NotFoundError, TidemillError

if TYPE_CHECKING:
    from tidemill.config import Loaded
    from tidemill.core.lengths import Attempt, Lengths
    from tidemill.core.simulations import Simulated

DESCRIPTION = """\
Run the scheduler, the queues and the policies of a configuration on a virtual
clock, and tell what would run when, what would be late, skipped, collide or
hit a limit, and what changes of the clocks do. Nothing is executed.
"""
DEFAULT_SPAN = timedelta(weeks=1)
DATABASE_HINT = "tidemill.db"


class SimulationRefusedError(TidemillError):
    """It cannot be simulated as asked. The text says what would be right."""

    exit_code = EXIT_USAGE


def add(commands: Any, name: str, line: str, common: argparse.ArgumentParser) -> None:
    parser = commands.add_parser(
        name,
        help=line,
        description=DESCRIPTION,
        parents=[common],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "config", nargs="?", type=Path, metavar="CONFIG", help="the configuration (as for `tidemill check`)"
    )
    parser.add_argument(
        "--from", dest="start", metavar="INSTANT", help="such as 2026-03-28, in the configuration's zone (now)"
    )
    parser.add_argument("--for", dest="lasts", metavar="DURATION", help="how long, such as 2w, 36h (1w)")
    parser.add_argument(
        "--seed", type=int, default=0, metavar="N", help="of what is drawn; the same gives the same (0)"
    )
    parser.add_argument(
        "--duration", action="append", default=[], metavar="[DEPLOYMENT=]DURATION",
        help="how long its runs take, such as backup=20m or 'report-*=2m'; without a name, all others' (a guess)",
    )  # fmt: skip
    parser.add_argument(
        "--history", type=Path, metavar="PATH",
        help="a state directory or its database: runs take as long, and fail as often, as they did there",
    )  # fmt: skip
    parser.add_argument("--runs", action="store_true", help="list every run")
    parser.add_argument("--svg", type=Path, metavar="FILE", help="draw a timeline into this file")
    parser.set_defaults(run=simulate)


def simulate(session: Session) -> None:
    """Print what would happen."""
    from tidemill.cli import simulation_documents, simulation_text
    from tidemill.core.clock_changes import clock_changes
    from tidemill.services.simulation.service import Simulation

    args = session.args
    path = configuration.find(args.config, session.environ)
    loaded = _load(session, path)
    start = _start(session, loaded)
    end = _end(start, args.lasts, loaded.settings.daemon.timezone)
    names = list(loaded.settings.deployments)
    history = _History.read(args.history, names) if args.history is not None else _History()
    lengths = _lengths(args.duration, args.seed, names, history)
    with Progress() as progress:
        simulation = Simulation(
            loaded,
            start=start,
            lasts=end - start,
            lengths=lengths,
            instance_id=history.instance_id,
            processes=len(os.sched_getaffinity(0)),
            tell=lambda part: progress.say(f"simulated {part:.0%}"),
        )
        simulated = simulation.run()
    changes = clock_changes(loaded.compiled, simulated.start, simulated.end)
    notes = _notes(session, loaded, lengths, history, simulated)
    if args.svg is not None:
        from tidemill.cli.timeline import draw

        drawing = draw(simulated, changes, names, timezone=loaded.settings.daemon.timezone, title=path.name)
        args.svg.write_text(drawing, encoding="utf-8")
        notes.append(f"the timeline is drawn in {args.svg}")
    if session.json:
        session.show(simulation_documents.document(simulated, changes, loaded.settings, notes, str(path)))
    else:
        print(simulation_text.report(simulated, changes, loaded.settings, notes, path.name, every_run=args.runs))


def _load(session: Session, path: Path) -> Loaded:
    from tidemill.api import places
    from tidemill.flows.builtins import builtins
    from tidemill.services.reloading import read

    made = places.state_dir(session.environ, asked=getattr(session.args, "state_dir", None)) / "made.d"
    loaded = read(path, made if made.is_dir() else None, builtins(), session.environ)
    if not loaded.settings.deployments:
        raise SimulationRefusedError(f"{path} has no deployments: there is nothing to simulate")
    return loaded


def _start(session: Session, loaded: Loaded) -> datetime:
    from tidemill.core import zones

    written: str | None = session.args.start
    if written is None:
        return session.now().replace(microsecond=0)
    try:
        when = datetime.fromisoformat(written)
        if when.tzinfo is None:
            when = zones.read(when, zones.zone(loaded.settings.daemon.timezone)).instant
        return when.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise SimulationRefusedError(f"--from: {no_instant(written, '2026-03-28 or 2026-03-28T06:00')}") from error


def _end(start: datetime, written: str | None, timezone: str) -> datetime:
    from tidemill.core import zones

    lasts = DEFAULT_SPAN if written is None else _duration("--for", written)
    if lasts < timedelta(minutes=1):
        raise SimulationRefusedError(f"--for: {written} is shorter than a minute; write for example 2w or 36h")
    try:
        if lasts % timedelta(days=1):
            return start + lasts
        # Whole days end at the hour at which they began, also where one of them has 23 or 25 hours.
        info = zones.zone(timezone)
        return zones.read(start.astimezone(info).replace(tzinfo=None, fold=0) + lasts, info).instant
    except OverflowError as error:
        raise SimulationRefusedError("--for: reaches beyond the calendar; simulate a shorter time") from error


def _duration(option: str, written: str) -> timedelta:
    from tidemill.durations import parse_duration

    try:
        return parse_duration(written)
    except ValueError as error:
        raise SimulationRefusedError(f"{option}: {error}") from error


class _History:
    """What a database on record says of these deployments."""

    def __init__(self) -> None:
        self.path: Path | None = None
        self.instance_id: str | None = None
        self.recorded: dict[str, list[Attempt]] = {}

    @classmethod
    def read(cls, path: Path, names: Sequence[str]) -> _History:
        """Read it; raises DatabaseError where there is none."""
        import sqlite3

        from tidemill.errors import DatabaseError
        from tidemill.store import instance, lengths
        from tidemill.store.connections import open_reader

        found = cls()
        path = path.expanduser()
        found.path = path / DATABASE_HINT if path.is_dir() else path
        connection = open_reader(found.path)
        try:
            found.instance_id = instance.id(connection)
            found.recorded = lengths.of_deployments(connection, names)
        except sqlite3.Error as error:
            raise DatabaseError(f"{found.path}: is not a tidemill database that can be read: {error}") from error
        finally:
            connection.close()
        return found


def _lengths(options: Sequence[str], seed: int, names: Sequence[str], history: _History) -> Lengths:
    from tidemill.core.lengths import Lengths

    given: dict[str, timedelta] = {}
    others: timedelta | None = None
    for option in options:
        pattern, equals, written = option.rpartition("=")
        lasted = _duration("--duration", written)
        if not equals:
            others = lasted
            continue
        chosen = [name for name in names if fnmatch.fnmatchcase(name.replace("_", "-"), pattern.replace("_", "-"))]
        if not chosen:
            raise NotFoundError(f"--duration: {_near(pattern, names)}")
        given.update(dict.fromkeys(chosen, lasted))
    return Lengths(given=given, recorded=history.recorded, others=others, seed=seed)


def _near(pattern: str, names: Sequence[str]) -> str:
    import difflib

    near = difflib.get_close_matches(pattern, names, n=3)
    hint = f"; did you mean {' or '.join(near)}?" if near else ""
    return f"no deployment is called {pattern}{hint}"


def _notes(session: Session, loaded: Loaded, lengths: Lengths, history: _History, simulated: Simulated) -> list[str]:
    """Return what is to be known of the simulation itself."""
    from tidemill.core.deployments import FlowKind, Mode
    from tidemill.core.lengths import GUESS
    from tidemill.durations import format_duration

    deployments = loaded.settings.deployments
    notes = []
    if simulated.cut_short:
        notes.append(
            f"stopped after {len(simulated.runs):,} runs, at {simulated.end.isoformat(timespec='minutes')}: "
            "simulate a shorter time"
        )
    ran = {run.deployment for run in simulated.runs}
    recorded = [name for name in lengths.recorded if name in ran and name not in lengths.given]
    unknown = [name for name in ran if name not in lengths.given and name not in lengths.recorded]
    if recorded:
        notes.append(f"{_count(recorded)} took as long, and failed as often, as on record in {history.path}")
    if unknown and lengths.others is None:
        notes.append(
            f"{_count(unknown)} took {format_duration(GUESS)} a run, a guess: "
            "say --duration DEPLOYMENT=2m or --history STATE_DIR"
        )
    paused = [name for name, each in deployments.items() if each.paused]
    by_hand = [name for name, each in deployments.items() if not (each.paused or each.schedules or name in ran)]
    shadows = [name for name, each in deployments.items() if each.mode is Mode.SHADOW]
    coded = [name for name, each in deployments.items() if each.flow.kind is not FlowKind.BUILTIN and name in ran]
    if paused:
        notes.append(f"paused, so without runs: {_names(paused)}")
    if by_hand:
        notes.append(f"without a schedule, so without runs: {_names(by_hand)}")
    if shadows:
        notes.append(f"in shadow mode, and simulated as if they ran: {_names(shadows)}")
    if coded:
        notes.append(
            f"{_count(coded)} ran Python flows, whose code was not looked at: retries, timeouts and limits that stand "
            "only in it were not simulated"
        )
    return notes


def _count(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{len(names)} deployments"


def _names(names: Sequence[str]) -> str:
    shown = ", ".join(text.clean(name) for name in names[:10])
    return shown if len(names) <= 10 else f"{shown} and {len(names) - 10} more"
