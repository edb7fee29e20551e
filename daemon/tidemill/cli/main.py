"""``tidemill``: the command line's entry, its nouns, and how it ends."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn

from tidemill.clock import SystemClock

EPILOG = """\
exit codes:
  0   done
  1   failed: the run watched, or the change asked for
  2   wrong usage
  3   no daemon answers, and no database of one can be read
  4   nothing has that name or id, or several have
  78  the configuration, the state directory or the database cannot be used

The daemon is found by --api or TIDEMILL_API_URL, by --state-dir, else at
/run/tidemill/control.sock, $XDG_RUNTIME_DIR/tidemill/control.sock and
~/.local/state/tidemill/control.sock. While it is down, reads go to its
database, for its owner and root.
"""

# The commands: module and one line of help. A module is imported when its command is called.
COMMANDS: Mapping[str, tuple[str, str]] = {
    "start": ("start", "run the daemon"),
    "check": ("check", "check a configuration; show what would run when"),
    "simulate": ("simulate", "show what would run, wait and be skipped over weeks, in seconds"),
    "import": ("import_crontab", "turn crontabs into configuration"),
    "init": ("init", "write a commented configuration to start from"),
    "reload": ("reload", "take over what the files say by now"),
    "deploy": ("deploy", "make a deployment without editing a file"),
    "adopt": ("adopt", "print what was made by a command, to paste it into a file"),
    "status": ("status", "show how the daemon is, what runs and what is next"),
    "logs": ("logs", "show and follow what runs did and printed, and what the daemon said"),
    "deployment": ("deployments", "list, inspect, run, pause and resume deployments"),
    "flow-run": ("flow_runs", "list, inspect, follow, cancel, resume, retry and delete flow runs"),
    "task-run": ("task_runs", "list and inspect task runs"),
    "artifact": ("artifacts", "list, inspect, compare and get artifacts"),
    "work-queue": ("work_queues", "list, inspect, pause and resume work queues"),
    "work-pool": ("work_pools", "list, inspect, pause and resume work pools"),
    "variable": ("variables", "list, get, set and unset variables"),
    "block": ("blocks", "list and inspect blocks, without their secrets"),
    "automation": ("automations", "list, inspect, pause, resume and try out automations"),
    "notify": ("notify", "list the channels that people are told by, and try them out"),
    "concurrency-limit": ("concurrency_limits", "list concurrency limits and what is taken of them"),
    "schedule": ("schedules", "show when a schedule fires"),
    "systemd": ("systemd", "install tidemill as a service"),
    "db": ("database", "back up, restore, check and prune the database"),
    "why": ("why", "say why a run is late, skipped or tried again, or why there was none"),
    "drain": ("drain", "start nothing new, and wait until nothing runs"),
    "report": ("report", "gather what helps to find out what is wrong into one file, without secrets"),
    "completion": ("completion", "print what a shell needs to complete commands and names"),
    "version": ("version", "show the version"),
}
EXIT_INTERRUPTED = 130
NOW = SystemClock().now
EXIT_BROKEN_PIPE = 141


class Verbs(argparse._SubParsersAction):  # type: ignore[type-arg]
    """argparse's, where every command's own help says what it does: by its description, or by its line in the list."""

    def add_parser(self, name: str, **options: Any) -> Any:
        about = options.get("description") or options["help"]
        options["description"] = about[0].upper() + about[1:] + ("" if about.rstrip().endswith(".") else ".")
        return super().add_parser(name, **options)


class Parser(argparse.ArgumentParser):
    """argparse's, with near names for a word it does not know."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.register("action", "parsers", Verbs)

    def error(self, message: str) -> NoReturn:
        if "invalid choice: '" in message:
            import difflib

            word = message.split("invalid choice: '", 1)[1].split("'", 1)[0]
            choices = message.partition("(choose from ")[2].rstrip(")").replace("'", "").split(", ")
            near = difflib.get_close_matches(word.replace("_", "-"), choices, n=2)
            if near:
                message = f"there is no '{word}' here; did you mean {' or '.join(near)}?"
        self.print_usage(sys.stderr)
        self.exit(2, f"{self.prog}: {message}\n")


def build(words: Sequence[str]) -> argparse.ArgumentParser:
    """Return the parser, complete for the commands among ``words``; the others are known by name only."""
    common = shared_options()
    parser = Parser(
        prog="tidemill",
        description="A workflow orchestrator for one machine.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        parents=[common],
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True, parser_class=Parser)
    for name, (module, line) in COMMANDS.items():
        if name in words:
            importlib.import_module(f"tidemill.cli.{module}").add(commands, name, line, common)
        else:
            commands.add_parser(name, help=line)
    return parser


def shared_options() -> argparse.ArgumentParser:
    """Return the options that every command has, before or after its name."""
    common = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
    common.add_argument("--output", "-o", choices=("text", "json"), help="text for people, json for programs")
    common.add_argument("--state-dir", type=_folder, metavar="DIR", help="the daemon's state directory")
    common.add_argument("--api", type=_said, metavar="URL", help="the daemon's address, such as http://127.0.0.1:4200")
    return common


def main(
    argv: Sequence[str] | None = None,
    *,
    environ: Mapping[str, str] = os.environ,
    now: Callable[[], datetime] = NOW,
) -> int:
    """Run one command and return its exit code. Never ends in a traceback for what a user can meet."""
    for name in ("stdout", "stderr"):  # closed by who has called: what is not wanted goes nowhere
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open("w"))  # noqa: SIM115
    words = [_dashed(word) for word in (sys.argv[1:] if argv is None else argv)]
    try:
        args = build(words).parse_args(words)
        code = _run(args, environ, now)
        sys.stdout.flush()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 1
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader (head, less) has seen enough. What is still buffered must not raise again at exit.
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_BROKEN_PIPE
    return code


def _run(args: argparse.Namespace, environ: Mapping[str, str], now: Callable[[], datetime]) -> int:
    from tidemill.cli.session import Session
    from tidemill.errors import EXIT_FAILED, TidemillError

    session = Session(args, environ, now)
    command: Callable[[Any], int | None] = args.run
    try:
        return command(session) or 0
    except TidemillError as error:
        session.note(str(error))
        return error.exit_code
    except BrokenPipeError:
        raise
    except OSError as error:
        session.note(f"{error.filename}: {error.strerror}" if error.filename else str(error.strerror or error))
        return EXIT_FAILED
    finally:
        session.close()


def _folder(value: str) -> Path:
    return Path(_said(value))


def _said(value: str) -> str:
    if not value.strip():
        raise argparse.ArgumentTypeError("nothing is named")  # as an unset variable of a script does
    return value


def _dashed(word: str) -> str:
    """Return a command's name with ``_`` as ``-``; other words are left alone."""
    dashed = word.replace("_", "-")
    return dashed if dashed in COMMANDS else word


if __name__ == "__main__":
    sys.exit(main())
