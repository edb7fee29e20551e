"""``tidemill import crontab``: crontabs as TOML for the configuration."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tidemill.cli.session import Session
from tidemill.errors import NotFoundError, TidemillError

if TYPE_CHECKING:
    from tidemill.config.crontab_toml import Source

SYSTEM = Path("/etc/crontab")
SYSTEM_FOLDER = Path("/etc/cron.d")
SPOOL = Path("/var/spool/cron/crontabs")
LARGEST = 1 << 20  # bytes of one file

# Debian's cron reads no other names there: no dots, so no *.dpkg-old and no *.rpmsave.
_READ_NAMES = re.compile(r"[A-Za-z0-9_-]+")
DESCRIPTION = """\
Print crontabs as TOML for the configuration, and change nothing: times,
commands, users, settings, percent signs, locks, time limits and random sleeps.
What cannot be carried over stays as a comment with the reason.
"""


class UnreadableCrontabError(TidemillError):
    """A crontab cannot be read. The text says who could."""


def add(commands: Any, name: str, line: str, common: argparse.ArgumentParser) -> None:
    noun = commands.add_parser(name, help=line, parents=[common])
    verbs = noun.add_subparsers(title="commands", metavar="COMMAND", required=True)
    parser = verbs.add_parser(
        "crontab",
        help="print crontabs as TOML for the configuration",
        description=DESCRIPTION,
        parents=[common],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    which = parser.add_mutually_exclusive_group()
    which.add_argument("file", nargs="?", type=Path, metavar="FILE", help="a crontab; - is stdin (your own crontab)")
    which.add_argument("--user", "-u", metavar="USER", help="that user's crontab")
    which.add_argument("--all", action="store_true", help=f"{SYSTEM}, {SYSTEM_FOLDER} and every user's crontab")
    parser.add_argument("--system", action="store_true", help="FILE names a user on each line, as /etc/crontab does")
    parser.add_argument(
        "--as", dest="runs_as", metavar="USER", help="whose daemon it is for (the crontab's owner; root)"
    )
    parser.add_argument("--shadow", action="store_true", help="record what would have run, and run nothing yet")
    parser.set_defaults(run=import_crontab)


def import_crontab(session: Session) -> None:
    """Print the TOML on stdout, and what was left out on stderr."""
    from tidemill.config.crontab_toml import ROOT, convert

    args = session.args
    sources = _sources(session)
    named = any(source.with_users for source in sources)
    runs_as: str | None = args.runs_as or (ROOT if named else sources[0].owner)
    imported = convert(sources, runs_as=runs_as, homes=_homes(), shadow=args.shadow)
    if session.json:
        left = [
            {"source": label, "line": each.number, "text": each.text, "reason": each.reason}
            for label, each in imported.left
        ]
        session.show({"toml": imported.toml, "deployments": list(imported.deployments), "left_out": left})
        return
    print(imported.toml, end="")
    jobs, left_out = len(imported.deployments), len(imported.left)
    session.note(f"{jobs} {'job' if jobs == 1 else 'jobs'} carried over, {left_out} left out")
    for label, each in imported.left:
        session.note(f"{label}:{each.number}: {each.reason}")


def _sources(session: Session) -> list[Source]:
    from tidemill.config.crontab_toml import Source

    args = session.args
    if args.all:
        return _every()
    if args.user is not None:
        return [Source(label=f"crontab of {args.user}", text=_spooled(args.user), owner=args.user)]
    if args.file is None:
        return [_own()]
    if str(args.file) == "-":
        import sys

        return [Source(label="stdin", text=sys.stdin.read(LARGEST), with_users=args.system)]
    path: Path = args.file.expanduser()
    with_users = args.system or path.absolute() == SYSTEM or path.absolute().parent == SYSTEM_FOLDER
    return [Source(label=str(path), text=_text(path), with_users=with_users)]


def _every() -> list[Source]:
    from tidemill.config.crontab_toml import Source

    sources: list[Source] = []
    if SYSTEM.exists():
        sources.append(Source(label=str(SYSTEM), text=_text(SYSTEM), with_users=True))
    if SYSTEM_FOLDER.is_dir():
        files = sorted(path for path in SYSTEM_FOLDER.iterdir() if _READ_NAMES.fullmatch(path.name) and path.is_file())
        sources += [Source(label=str(path), text=_text(path), with_users=True) for path in files]
    try:
        spooled = sorted(SPOOL.iterdir()) if SPOOL.is_dir() else []
    except PermissionError as error:
        raise UnreadableCrontabError(f"{SPOOL} cannot be read; be root") from error
    sources += [
        Source(label=f"crontab of {path.name}", text=_text(path), owner=path.name) for path in spooled if path.is_file()
    ]
    if not sources:
        raise NotFoundError(f"there is no crontab in {SYSTEM}, {SYSTEM_FOLDER} and {SPOOL}")
    return sources


def _spooled(user: str) -> str:
    if "/" in user or user in ("", ".", ".."):
        raise NotFoundError(f"{user!r} is no user's name")
    try:
        return _text(SPOOL / user)
    except FileNotFoundError as error:
        raise NotFoundError(f"{user} has no crontab ({SPOOL / user})") from error


def _own() -> Source:
    """Return the crontab of who asks, by crontab(1), which alone may read it."""
    import getpass
    import subprocess

    from tidemill.config.crontab_toml import Source

    user = getpass.getuser()
    try:
        done = subprocess.run(
            ["crontab", "-l"], capture_output=True, text=True, errors="replace", timeout=30, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UnreadableCrontabError(f"`crontab -l` cannot be run ({error}); name a FILE, or - for stdin") from error
    if done.returncode:
        raise NotFoundError(
            f"{user} has no crontab ({done.stderr.strip() or 'crontab -l found none'}); name a FILE, -u USER or --all"
        )
    return Source(label=f"crontab of {user}", text=done.stdout, owner=user)


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST + 1)
    except PermissionError as error:
        raise UnreadableCrontabError(
            f"{path} cannot be read; be root, or hand it over: crontab -l | tidemill import crontab -"
        ) from error
    if len(data) > LARGEST:
        raise UnreadableCrontabError(f"{path} is larger than {LARGEST >> 20} MiB: that is no crontab")
    return data.decode(errors="replace")


def _homes() -> dict[str, str]:
    import pwd

    return {each.pw_name: each.pw_dir for each in pwd.getpwall()}
