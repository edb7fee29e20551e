"""Connections to a daemon, by http.client."""

from __future__ import annotations

import http.client
import socket
from urllib.parse import SplitResult

CONNECT_S = 5.0


class UnixConnection(http.client.HTTPConnection):
    """Over a unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=CONNECT_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(CONNECT_S)
        self.sock.connect(self._path)
        self.sock.settimeout(self.timeout)


def connection(parts: SplitResult) -> http.client.HTTPConnection:
    """Return a connection to ``unix:///path``, ``http://host:port`` or ``https://host:port``, not opened yet."""
    if parts.scheme == "unix":
        return UnixConnection(parts.path)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    return kind(str(parts.hostname), parts.port, timeout=CONNECT_S)
