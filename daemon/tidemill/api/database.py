"""The database's own routes. Rules of retention other than the file's are taken from a socket's file only.

Over TCP a page or a program that may only look could otherwise have the whole history deleted by one word.
"""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.requests import Request

from tidemill.api.gate import Refusal
from tidemill.api.ports import Control


def facts(control: Control) -> dict[str, Any]:
    """Return where the database is and what is kept in it."""
    return control.upkeep.document()


async def prune(control: Control, request: Request, body: dict[str, Any]) -> dict[str, Any]:
    """Delete what may go, for some seconds; ``more`` says whether to ask again."""
    server = request.scope.get("server")
    if body and not (server and server[1] is None):
        raise Refusal(403, "other rules than the configuration's are taken from the control socket only")
    found: dict[str, Any] = msgspec.to_builtins(await control.upkeep.prune(body))
    return found
