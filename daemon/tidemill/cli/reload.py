"""``tidemill reload``."""

from __future__ import annotations

import argparse
from typing import Any

from tidemill.cli import text
from tidemill.cli.session import Session
from tidemill.errors import EXIT_FAILED, EXIT_OK, DaemonUnreachableError


def add(commands: Any, name: str, line: str, common: argparse.ArgumentParser) -> None:
    parser = commands.add_parser(
        name, help=line, parents=[common],
        description="Take over what the files say by now, and flow code as it is by now. The daemon does so by itself "
        "when they are edited; this waits for the answer. Exits 1 where it was refused: then nothing has changed.",
    )  # fmt: skip
    parser.set_defaults(run=reload)


def reload(session: Session) -> int:
    """Reload and show what that changed."""
    if not session.link.live:
        raise DaemonUnreachableError("the daemon is down; it reads its files when it starts")
    found = session.post("/reload", {})
    ok = found["outcome"] == "ok"
    if session.json:
        session.show(found)
    elif ok:
        print("\n".join(map(text.clean, found["changes"])) or "Nothing has changed.")
        if found["restart"]:
            print(f"Read at a start only, and so to hold from the next one on: {', '.join(found['restart'])}.")
    else:
        for fault in found["faults"]:
            print(text.clean(fault))
        session.note("not reloaded: what was in force stays")
    return EXIT_OK if ok else EXIT_FAILED
