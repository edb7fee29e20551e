"""Who asks: what stands in the record of a change that a person made.

On the control socket the kernel says whose process it is. Over TCP nobody can say more than where it came from.
"""

from __future__ import annotations

import contextlib
import pwd
import socket
import struct
from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any

Scope = Mapping[str, Any]  # ASGI's
EXTENSION = "tidemill.peer"  # in a scope's extensions: {"user": who is at the other end of a unix socket}
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


def user_at(connection: socket.socket) -> str | None:
    """Return the name of the user at the other end of a unix socket; None for any other socket."""
    if connection.family != socket.AF_UNIX:
        return None
    size = struct.calcsize("3i")
    try:
        _, uid, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))
    except OSError:
        return "control socket"
    with contextlib.suppress(KeyError):
        return pwd.getpwuid(uid).pw_name
    return f"user {uid}"
