"""``tidemill systemd``: tidemill as a service."""

from __future__ import annotations

import argparse
import difflib
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from tidemill.cli import text, units
from tidemill.cli.session import Session
from tidemill.errors import NotFoundError, TidemillError

if TYPE_CHECKING:
    from tidemill.config import Loaded

SYSTEM = Path("/etc/systemd/system")
BOOTED = Path("/run/systemd/system")  # sd_booted(3)


def add(commands: Any, name: str, line: str, common: argparse.ArgumentParser) -> None:
    noun = commands.add_parser(name, help=line, parents=[common])
    verbs = noun.add_subparsers(title="commands", metavar="COMMAND", required=True)
    parser = verbs.add_parser(
        "install",
        help="write the unit files, and say what they mean",
        description="Write the unit files of a service that runs this very tidemill, and say what they mean.",
        parents=[common],
    )
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument(
        "--jobs", metavar="USER", help="a less closed service that runs jobs as a named user, as cron does"
    )
    kind.add_argument("--user", action="store_true", help="a service of your own, without root (systemctl --user)")
    parser.add_argument("--config", type=Path, metavar="FILE", help="the configuration that it runs")
    parser.add_argument("--dry-run", action="store_true", help="print the unit files and write nothing")
    parser.add_argument("--force", action="store_true", help="replace an edited unit; what it was is kept aside")
    parser.set_defaults(run=install)


class Unit(NamedTuple):
    """A unit file to be, and what is to be known of it."""

    path: Path
    text: str  # signed
    about: str


class Plan(NamedTuple):
    """Everything that an installation does and says."""

    units: list[Unit]
    notes: list[str]  # what keeps it from working, or is to be known
    next: list[str]  # commands


def install(session: Session) -> None:
    """Write the units, unless one that is there was edited; explain them and say what comes next."""
    args = session.args
    plan = _own(session) if args.user else _jobs(session, args.jobs) if args.jobs else _service(session)
    if args.dry_run:
        _show_dry(session, plan)
        return
    _refuse_edited(session, plan)
    done = [(unit, _write(unit)) for unit in plan.units]
    if not BOOTED.is_dir():
        plan.notes.append("this machine was not started by systemd: the units wait until one is")
    if any(action == "replaced" for _, action in done):  # what runs goes by the old one
        turn = re.compile("(.*) enable --now (.*)")
        plan = plan._replace(
            next="\n".join(turn.sub(r"\1 enable \2\n\1 restart \2", each) for each in plan.next).split("\n")
        )
    if session.json:
        written = [{"path": str(unit.path), "action": action} for unit, action in done]
        session.show({"units": written, "notes": plan.notes, "next": plan.next})
        return
    for unit, action in done:
        print(f"{action.capitalize()}: {unit.path}\n{unit.about}\n")
    for note in plan.notes:
        print(f"Note: {text.clean(note)}")
    print("\n".join(["Next:", *(f"  {command}" for command in plan.next)]))


# --- the three kinds --------------------------------------------------------------------------------------------------


def _service(session: Session) -> Plan:
    config = _config(session, units.SYSTEM_CONFIG / "tidemill.toml")
    found = _Daemon(config, session)
    show = units.hidden(found.folders())
    notes = list(found.notes())
    notes += [f"{each} is shown to the service read-only, though it lies where services do not look" for each in show]
    notes += [
        f"{path} is closed to the service's user: chmod o+rX it, or install tidemill below /opt"
        for path in _barred(found, show)
    ]
    program = _program()
    credentials = found.credentials(notes)
    instance = units.hidden([*units.python_folders(), units.SYSTEM_CONFIG])
    return Plan(
        [
            Unit(
                SYSTEM / "tidemill.service",
                units.signed(
                    units.written(
                        units.SERVICE, program=program, config=_quoted(config), credentials=credentials, show=show
                    )
                ),
                f"  runs {config} as a user that exists only while it runs; root and that user give it commands.\n"
                "  It can write its state, /var/lib/tidemill, and nothing else; it sees no home, no device and nobody\n"
                "  else's processes; it cannot gain rights. Jobs that need more: tidemill systemd install --jobs USER",
            ),
            Unit(
                SYSTEM / "tidemill@.service",
                units.signed(
                    units.written(
                        units.INSTANCE, program=program, config=f"{units.SYSTEM_CONFIG}/%i.toml", show=instance
                    )
                ),
                f"  the same several times: tidemill@NAME runs {units.SYSTEM_CONFIG}/NAME.toml,"
                " state in /var/lib/tidemill-NAME",
            ),
        ],
        notes,
        [
            *_first_file(config),
            "systemctl daemon-reload",
            "systemctl enable --now tidemill",
            "systemctl status tidemill; journalctl -u tidemill -f",
        ],
    )


def _jobs(session: Session, name: str) -> Plan:
    import pwd

    try:
        user = pwd.getpwnam(name)
    except KeyError:
        raise NotFoundError(f'there is no user "{name}" on this machine; name the one whose jobs these are') from None
    config = _config(session, units.SYSTEM_CONFIG / "jobs.toml")
    found = _Daemon(config, session)
    notes = list(found.notes())
    if user.pw_uid == 0:
        notes.append("root's jobs may do everything: who may write the configuration or its flows is as good as root")
    if not Path(user.pw_dir).is_dir():
        notes.append(f"{name} has no home ({user.pw_dir}), where jobs would begin: set WorkingDirectory= by drop-in")
    groups = frozenset(os.getgrouplist(name, user.pw_gid))
    closed = dict.fromkeys(units.barred(each, uid=user.pw_uid, groups=groups) for each in found.folders())
    notes += [f"{path} is closed to {name}: open it, or install tidemill below /opt" for path in closed if path]
    return Plan(
        [
            Unit(
                SYSTEM / units.JOBS,
                units.signed(
                    units.written(
                        units.JOBS,
                        program=_program(),
                        config=_quoted(config),
                        user=name,
                        credentials=found.credentials(notes),
                    )
                ),
                f"  runs {config} as {name}, and its jobs may do all that {name} may: write every file\n"
                f"  of {name}'s, call setuid and setgid programs (sendmail, sudo), mount what fstab allows, make code\n"
                "  and run it. It is bounded in memory and processes, watched and restarted; its state is in\n"
                "  /var/lib/tidemill-jobs. The file itself says what is left open, and why.",
            )
        ],
        notes,
        [
            *_first_file(config),
            "systemctl daemon-reload",
            "systemctl enable --now tidemill-jobs",
            "systemctl status tidemill-jobs; journalctl -u tidemill-jobs -f",
            "tidemill --state-dir /var/lib/tidemill-jobs status",
        ],
    )


def _own(session: Session) -> Plan:
    from tidemill.api import places

    base = session.environ.get("XDG_CONFIG_HOME", "")
    folder = Path(base) if base.startswith("/") else places.home(session.environ) / ".config"
    usual = folder / "tidemill" / "tidemill.toml"
    config = _config(session, usual)
    found = _Daemon(config, session)
    notes = list(found.notes())
    return Plan(
        [
            Unit(
                folder / "systemd" / "user" / "tidemill.service",
                units.signed(
                    units.written(
                        units.OWN, program=_program(), config=_quoted(config), credentials=found.credentials(notes)
                    )
                ),
                f"  runs {config} as you; its jobs may do all that you may. State is in ~/.local/state/tidemill.",
            )
        ],
        notes,
        [
            *_first_file(config),
            "systemctl --user daemon-reload",
            "systemctl --user enable --now tidemill",
            "loginctl enable-linger        # so that it runs while you are not logged in",
            "systemctl --user status tidemill; journalctl --user -u tidemill -f",
        ],
    )


class _Daemon:
    """The daemon that the unit is for: its configuration, as far as it can be read, and what both need to see."""

    def __init__(self, config: Path, session: Session) -> None:
        from tidemill.config import BrokenConfigError, load
        from tidemill.errors import ConfigError

        self.config = config
        self.loaded: Loaded | None = None
        self.broken = 0
        if not config.exists():
            return
        try:
            self.loaded = load(config, environ=session.environ)
        except BrokenConfigError as error:
            self.loaded = error.rest
            # A credential is there in the service only: what is wrong with it is told below.
            self.broken = sum("credential" not in fault.problem for fault in error.faults)
        except ConfigError as error:
            self.broken = len(error.faults)

    def folders(self) -> Iterator[Path]:
        """Yield the folders that it reads from."""
        yield from units.python_folders()
        yield self.config.parent
        if self.loaded is None:
            return
        for file in self.loaded.files:
            yield file.parent
        settings = self.loaded.settings
        if settings.daemon.flows.is_dir():
            yield settings.daemon.flows
        used = [each.python for each in settings.work_pools.values()]
        used += [each.python for each in settings.deployments.values()]
        for python in used:
            if python:
                yield from units.interpreter_folders(Path(python))

    def notes(self) -> Iterator[str]:
        if self.broken:
            faults = "a fault" if self.broken == 1 else f"{self.broken} faults"
            yield f"{self.config} has {faults}: tidemill check {self.config}"

    def credentials(self, notes: list[str]) -> list[units.Credential]:
        """Return the credentials that the configuration names and that are there; what is missing goes to the notes."""
        import tomllib

        if self.loaded is None:
            return []
        folder = self.config.parent / "credentials"
        named: dict[str, str] = {}
        for document in self.loaded.documents:
            try:
                tables = tomllib.loads(document.text)
            except (tomllib.TOMLDecodeError, RecursionError):
                continue
            for name, table in units.credentials_named(tables):
                named.setdefault(name, table)
        found = [units.Credential(name, folder / name) for name in sorted(named)]
        missing = [each for each in found if not _is_file(each.path)]
        notes += [
            f'{named[each.name]} wants the credential "{each.name}": put it into {each.path} (chmod 600)'
            " and install again, or name another place by drop-in: LoadCredential="
            for each in missing
        ]
        return [each for each in found if each not in missing]


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:
        return False


def _barred(found: _Daemon, show: list[Path]) -> list[Path]:
    """Return what the service's own user could not enter. Homes are replaced, so their own modes do not count."""
    closed: dict[Path, None] = {}
    for folder in found.folders():
        path = units.barred(folder, uid=None, groups=frozenset())
        home = next((each for each in show if folder.is_relative_to(each)), None)
        if path is not None and (home is None or path.is_relative_to(home)):
            closed[path] = None
    return list(closed)


def _config(session: Session, usual: Path) -> Path:
    given: Path | None = session.args.config
    return usual if given is None else given.expanduser().absolute()


def _quoted(config: Path) -> str:
    return units.word(str(config))


def _program() -> list[str]:
    """Return the command that runs this very tidemill."""
    beside = Path(sys.executable).absolute().parent / "tidemill"
    if os.access(beside, os.X_OK):
        return [str(beside)]
    return [str(Path(sys.executable).absolute()), "-m", "tidemill.cli.main"]


def _first_file(config: Path) -> list[str]:
    if config.exists():
        return []
    folder = [] if config.parent.is_dir() else [f"mkdir -p {config.parent}"]
    return [*folder, f"tidemill init {config}        # and edit it"]


# --- writing ----------------------------------------------------------------------------------------------------------


def _show_dry(session: Session, plan: Plan) -> None:
    if session.json:
        would = [{"path": str(unit.path), "action": "would be written", "text": unit.text} for unit in plan.units]
        session.show({"units": would, "notes": plan.notes, "next": plan.next})
        return
    for unit in plan.units:
        print(f"# {unit.path}\n{unit.text}")
    for note in plan.notes:
        session.note(note)


def _refuse_edited(session: Session, plan: Plan) -> None:
    """Raise where a unit that is there is not ours any more; with --force, keep it aside."""
    theirs: list[tuple[Unit, str]] = []
    for unit in plan.units:
        if unit.path.is_symlink():
            to = unit.path.readlink()
            raise TidemillError(f"{unit.path} is a link to {to}, and stays; remove it to install (systemctl unmask?)")
        try:
            present = unit.path.read_text()
        except FileNotFoundError:
            continue
        if units.edited(present) and present not in (unit.text, units.template(_name(unit))):
            theirs.append((unit, present))
    if not theirs:
        return
    if session.args.force:
        for unit, present in theirs:
            aside = unit.path.with_name(unit.path.name + ".edited")
            _put(aside, present)
            session.note(f"{unit.path} was edited; what it was is in {aside}")
        return
    for unit, present in theirs:
        new = unit.text.splitlines(keepends=True)
        sys.stderr.writelines(
            text.clean(line.rstrip("\n")) + "\n"
            for line in difflib.unified_diff(new, present.splitlines(keepends=True), "ours", str(unit.path), n=1)
        )
    names = " and ".join(str(unit.path) for unit, _ in theirs)
    raise TidemillError(
        f"{names} was edited or written by hand, and stays as it is (what differs is above);"
        " put your changes into a drop-in (systemctl edit) and use --force, which keeps the edited file aside"
    )


def _name(unit: Unit) -> str:
    return unit.path.name if unit.path.is_relative_to(SYSTEM) else units.OWN


def _write(unit: Unit) -> str:
    """Write a unit in one step; say what was done."""
    try:
        there = unit.path.read_text() if unit.path.exists() else None
        if there == unit.text:
            return "up to date"
        unit.path.parent.mkdir(parents=True, exist_ok=True)
        _put(unit.path, unit.text)
    except PermissionError as error:
        raise TidemillError(
            f"{unit.path} cannot be written: {error.strerror}; be root (sudo), look at it with --dry-run,"
            " or take a service of your own with --user"
        ) from error
    return "written" if there is None else "replaced"


def _put(path: Path, content: str) -> None:
    fresh = path.with_name(f".{path.name}.new")
    fresh.write_text(content)
    fresh.chmod(0o644)
    fresh.replace(path)
