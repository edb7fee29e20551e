"""What a command works with: its arguments, the environment, the time, and a link to the daemon made when asked for."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from tidemill.cli import finding, text


class Session:
    """One invocation of the command line."""

    def __init__(self, args: argparse.Namespace, environ: Mapping[str, str], now: finding.Now) -> None:
        self.args, self.environ, self._now = args, environ, now
        self._link: finding.Link | None = None

    @property
    def json(self) -> bool:
        """Whether the answer is to be JSON."""
        return bool(getattr(self.args, "output", "text") == "json")

    def now(self) -> datetime:
        return self._now()

    @property
    def link(self) -> finding.Link:
        if self._link is None:
            self._link = self.another_link()
            if not self._link.live:
                self.note(f"the daemon is down; reading {self._link.where}")
        return self._link

    def another_link(self) -> finding.Link:
        """Look for the daemon anew, and say nothing of what is found. The caller closes it."""
        state_dir: Path | None = getattr(self.args, "state_dir", None)
        return finding.find(self.environ, self._now, api=getattr(self.args, "api", None), state_dir=state_dir)

    def get(self, path: str, **query: Any) -> Any:
        return self.link.ask("GET", path, query=query)

    def post(self, path: str, body: Mapping[str, Any]) -> Any:
        return self.link.ask("POST", path, body)

    def stream(self, path: str, **query: Any) -> Iterator[tuple[str, Any]]:
        return self.link.stream(path, query)

    def show(self, value: Any) -> None:
        """Print JSON, indented: lists as arrays, one document as an object."""
        print(json.dumps(value, indent=2, ensure_ascii=False))

    def show_line(self, value: Any) -> None:
        """Print JSON on one line and at once, for what goes on."""
        print(json.dumps(value, ensure_ascii=False), flush=True)

    def note(self, sentence: str) -> None:
        """Tell something beside the answer, on stderr."""
        print(f"tidemill: {text.clean(sentence, one_line=False)}", file=sys.stderr)

    def close(self) -> None:
        if self._link is not None:
            self._link.close()


def segment(value: str) -> str:
    """Return text as one segment of a path. A slash cannot stand in one; ``flow/name`` has a route of its own."""
    from urllib.parse import quote

    return quote(value, safe="")
