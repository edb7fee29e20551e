"""Listening sockets, bound before anything runs, so that a taken address stops the start and not the first run."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
from collections.abc import Sequence
from pathlib import Path

from tidemill.errors import AddressInUseError, StateDirectoryError, TidemillError

BACKLOG = 512
# sun_path holds 108 bytes with the closing zero (unix(7)).
MAX_UNIX_PATH_BYTES = 107


def bind(listen: Sequence[str]) -> list[socket.socket]:
    """Bind and listen on each ``host:port`` (``[::1]:4200`` for IPv6) or ``unix:/path``; a name at all its addresses.

    Raises AddressInUseError where something else listens there, TidemillError where the address cannot be had.
    """
    with contextlib.ExitStack() as undo:
        sockets = [undo.enter_context(opened) for address in listen for opened in _bind_one(address)]
        undo.pop_all()
        return sockets


def split_address(address: str) -> tuple[str, int]:
    """Return host and port of ``host:port``; raises TidemillError where it is not that."""
    host, colon, port = address.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or int(port) > 65535 or not host:
        raise TidemillError(f'[api] listen: "{address}" is not host:port; write for example "127.0.0.1:4200"')
    if host.startswith("[") and host.endswith("]"):
        return host[1:-1], int(port)
    if ":" in host:
        raise TidemillError(f'[api] listen: "{address}": an IPv6 address stands in brackets, as in "[::1]:{port}"')
    return host, int(port)


def _bind_one(address: str) -> list[socket.socket]:
    if address.startswith("unix:"):
        return [bind_control(Path(address.removeprefix("unix:")))]
    host, port = split_address(address)
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except socket.gaierror as error:
        raise TidemillError(f'[api] listen: "{address}": no such host ({error.strerror})') from error
    sockets: list[socket.socket] = []
    try:
        for family, _, _, _, where in found:
            # The protocol is named: asyncio sets TCP_NODELAY only on sockets that say they are TCP; without it every
            # answer on a kept connection waits some 40 ms for a delayed acknowledgement.
            opened = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
            sockets.append(opened)
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            opened.setblocking(False)
            opened.bind(where)
            opened.listen(BACKLOG)  # two sockets may bind one address; the second to listen is refused
    except OSError as error:
        for opened in sockets:
            opened.close()
        raise _refused(address, error) from error
    return sockets


def _refused(address: str, error: OSError) -> TidemillError:
    if error.errno == errno.EADDRINUSE:
        return AddressInUseError(
            f"{address} is taken: something else listens there; stop it, or change [api] listen in the configuration"
        )
    if error.errno == errno.EACCES:
        return TidemillError(f"{address}: not allowed ({error.strerror}); choose a port from 1024 up in [api] listen")
    return TidemillError(f"{address}: cannot listen there ({error.strerror}); change [api] listen")


def bind_control(path: Path) -> socket.socket:
    """Bind and listen on the control socket, mode 0660. A socket file that nobody answers on is replaced.

    Raises AddressInUseError where a process answers, TidemillError where the path is too long or is not a socket.
    """
    length = len(os.fsencode(path))
    if length > MAX_UNIX_PATH_BYTES:
        raise StateDirectoryError(
            f"{path}: {length} bytes are too many for the control socket (at most {MAX_UNIX_PATH_BYTES});"
            " choose a shorter --state-dir"
        )
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _clear_stale(path)
        opened = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            opened.setblocking(False)
            before = os.umask(0o117)
            try:
                opened.bind(str(path))
            finally:
                os.umask(before)
            path.chmod(0o660)
            opened.listen(BACKLOG)
        except BaseException:
            opened.close()
            raise
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise AddressInUseError(f"{path} is taken: another daemon has just made it") from error
        raise TidemillError(f"{path}: the control socket cannot be made there ({error.strerror})") from error
    return opened


def _clear_stale(path: Path) -> None:
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if stat.S_ISLNK(mode):
        path.unlink()  # a pointer left by a daemon that listened elsewhere
        return
    if not stat.S_ISSOCK(mode):
        raise TidemillError(f"{path} is in the way: it is not a socket; move it")
    if answers(path):
        raise AddressInUseError(
            f"{path} is taken: a daemon answers there; stop it, or give this one a --state-dir of its own"
        )
    path.unlink()


def answers(path: Path) -> bool:
    """Say whether a process accepts connections on a unix socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except OSError:
            return True  # a full backlog, no permission: something is there
    return True


def point_to(control: Path, state: Path) -> None:
    """Leave a pointer in the state directory to a control socket kept elsewhere, for ``--state-dir`` to find."""
    pointer = state / control.name
    if pointer == control:
        return
    fresh = state / f".{control.name}.new"
    with contextlib.suppress(FileNotFoundError):
        fresh.unlink()
    fresh.symlink_to(control)
    fresh.replace(pointer)


def remove(path: Path, opened: socket.socket) -> None:
    """Remove a control socket's file and close the socket. Called by the daemon that bound it."""
    opened.close()
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
