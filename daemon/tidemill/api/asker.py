"""Who asks: what stands in the record of a change that a person made.

On the control socket the kernel says whose process it is. Over TCP nobody can say more than where it came from.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import socket
import struct
from collections.abc import Mapping
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from tidemill.api import places

Scope = Mapping[str, Any]  # ASGI's
EXTENSION = (
    "tidemill.peer"  # in a scope's extensions: {"user": who is at the other end of a unix socket, "uid", "socket"}
)
UNKNOWN = "api"

asker: ContextVar[str] = ContextVar("asker", default=UNKNOWN)
"""Who asked for what is under way, for the handlers of changes."""


def name_of(scope: Scope) -> str:
    """Return who sends a request, in words."""
    user = peer(scope)
    if user is not None:
        return user
    client = scope.get("client")
    return f"{UNKNOWN} from {client[0]}" if client else UNKNOWN


def peer(scope: Scope) -> str | None:
    """Return the user at the other end of the control socket; None: the request came over TCP."""
    found: str | None = scope.get("extensions", {}).get(EXTENSION, {}).get("user")
    return found


def owns(scope: Scope) -> bool:
    """Say whether a request came over the control socket from the daemon's own user, or from root.

    What such a one asks for may be code to run: it is no more than that user could do anyway.
    """
    found = scope.get("extensions", {}).get(EXTENSION, {})
    return found.get("uid") in (0, os.geteuid()) and by_control(found)


def by_control(found: Mapping[str, Any]) -> bool:
    """Say whether what :func:`address_of` found is a connection to the control socket."""
    return Path(str(found.get("socket"))).name == places.SOCKET


def address_of(connection: socket.socket) -> dict[str, Any]:
    """Return what a connection says of its other end: user, uid and the socket's file; of TCP, nothing."""
    user = user_at(connection)
    if user is None:
        return {"user": None}
    return {"user": user, "uid": _uid_at(connection), "socket": connection.getsockname()}


def user_at(connection: socket.socket) -> str | None:
    """Return the name of the user at the other end of a unix socket; None for any other socket."""
    if connection.family != socket.AF_UNIX:
        return None
    uid = _uid_at(connection)
    if uid is None:
        return "control socket"
    with contextlib.suppress(KeyError):
        return pwd.getpwuid(uid).pw_name
    return f"user {uid}"


def _uid_at(connection: socket.socket) -> int | None:
    size = struct.calcsize("3i")
    try:
        _, uid, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))
    except OSError:
        return None
    return int(uid)
