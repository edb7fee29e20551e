"""``tidemill completion``: what a shell needs to complete commands, options and the names of things."""

from __future__ import annotations

import argparse
import itertools
import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from string import Template
from typing import Any

from tidemill.cli.session import Session
from tidemill.errors import TidemillError

SHELLS = ("bash", "zsh", "fish")
WHERE = """\
where the shells look for it:
  bash  tidemill completion bash > ~/.local/share/bash-completion/completions/tidemill
  zsh   tidemill completion zsh > ~/.zfunc/_tidemill     (and fpath+=~/.zfunc before compinit)
  fish  tidemill completion fish > ~/.config/fish/completions/tidemill.fish

Names of deployments, runs and the like come from the daemon, or its database while it is down: the one that --state-dir
or --api names on the line that is completed (bash, fish), else the one that is found.
"""
NEWEST = 50  # runs whose names are completed
# What a shell takes as it stands. Bash expands the words that it is given to choose from: a run that somebody named
# $(command) would run it in the shell of whoever presses Tab.
HARMLESS = re.compile(r"\w[\w.@%+,/-]*")

# The kinds of names, and how they are asked for: route, body, and the field with the name.
KINDS: Mapping[str, tuple[str, dict[str, Any], str]] = {
    "deployment": ("/deployments/filter", {}, "name"),
    "flow-run": ("/flow_runs/filter", {"sort": "ID_DESC", "limit": NEWEST}, "name"),
    "work-queue": ("/work_queues/filter", {}, "name"),
    "work-pool": ("/work_pools/filter", {}, "name"),
    "artifact": ("/artifacts/latest/filter", {}, "key"),
    "variable": ("/variables/filter", {}, "name"),
    "block": ("/block_documents/filter", {}, "name"),
    "concurrency-limit": ("/v2/concurrency_limits/filter", {}, "name"),
}
# Whose names an option takes, and a positional of any command; else those of its own command are meant.
OPTIONS = {"--deployment": "deployment", "--flow-run": "flow-run", "--run": "flow-run"} | {
    f"--{kind}": kind for kind in ("work-queue", "work-pool")
}
NAMED = ("NAME", "RUN", "KEY", "RUN|DEPLOYMENT", "DEPLOYMENT")


def add(commands: Any, name: str, line: str, common: argparse.ArgumentParser) -> None:
    parser = commands.add_parser(
        name,
        help=line,
        epilog=WHERE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        parents=[common],
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("shell", nargs="?", choices=SHELLS, metavar="SHELL", help="bash, zsh or fish")
    what.add_argument(
        "--names",
        choices=KINDS,
        metavar="KIND",
        help=f"print names instead, as the shell asks: of a {', '.join(KINDS)}",
    )
    parser.add_argument("--line", metavar="TEXT", help="the line that is completed: its --state-dir or --api counts")
    parser.set_defaults(run=show)


def show(session: Session) -> None:
    """Print the script for a shell, or names for one."""
    if session.args.names is not None:
        _go_by(session, session.args.line or "")
        for each in _names(session, session.args.names):
            print(each)
    else:
        print(script(session.args.shell), end="")


def script(shell: str) -> str:
    """Return the script by which a shell completes ``tidemill``."""
    import shtab

    from tidemill.cli.main import COMMANDS, build

    parser = build(list(COMMANDS))
    for words, action in _arguments(parser):
        if action.type is Path:
            action.complete = shtab.DIRECTORY if action.metavar == "DIR" else shtab.FILE
        elif (kind := _kind(words, action)) is not None:
            action.complete = _asking(kind)
    text: str = shtab.complete(parser, shell)
    return text.rstrip("\n") + "\n"


def _asking(kind: str) -> dict[str, Any]:
    """Return how each shell asks for names, telling the line where it has it: that may say which daemon is meant."""
    import shtab

    def complete(line: str) -> dict[str, Any]:
        return dict(shtab.cmd(f"tidemill completion --names {kind}{line} 2>/dev/null"))

    bash, fish = complete(' --line "$COMP_LINE"'), complete(" --line (commandline | string collect)")
    return complete("") | {"bash": bash["bash"], "preamble": bash["preamble"], "fish": fish["fish"]}


def _go_by(session: Session, line: str) -> None:
    """Ask the daemon that the line names, which is read and never carried out."""
    try:
        words = shlex.split(line)
    except ValueError:  # a quote that is still open
        words = line.split()
    for word, following in itertools.pairwise([*words, ""]):
        option, _, value = word.partition("=")
        value = Template(value or following).safe_substitute(session.environ)
        if option == "--state-dir" and value:
            session.args.state_dir = Path(value).expanduser()
        elif option == "--api" and value:
            session.args.api = value


def _arguments(parser: argparse.ArgumentParser, words: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield the arguments of every command, with the command's words."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, each in action.choices.items():
                yield from _arguments(each, (*words, name))
        elif not action.choices:
            yield words, action


def _kind(words: tuple[str, ...], action: argparse.Action) -> str | None:
    if action.option_strings:
        return next((OPTIONS[option] for option in action.option_strings if option in OPTIONS), None)
    if action.metavar not in NAMED or not words:
        return None
    return words[0] if words[0] in KINDS else {"RUN": "flow-run", "KEY": "artifact"}.get(action.metavar, "deployment")


def _names(session: Session, kind: str) -> list[str]:
    """Return names; none where nobody can be asked: a shell has no place for a reason."""
    path, body, field = KINDS[kind]
    try:
        found = session.post(path, body)
    except TidemillError:
        return []
    return [each[field] for each in found if each[field] and HARMLESS.fullmatch(each[field])]
