"""Sockets: bound before anything runs, or a clear word about why not."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest

from tidemill.api import places, sockets
from tidemill.errors import AddressInUseError, StateDirectoryError, TidemillError


def close(opened: list[socket.socket]) -> None:
    for each in opened:
        each.close()


@pytest.mark.network
def test_a_taken_address_is_named() -> None:
    """P12"""
    first = sockets.bind(["127.0.0.1:0"])
    port = first[0].getsockname()[1]
    try:
        with pytest.raises(AddressInUseError, match=rf"127\.0\.0\.1:{port} is taken"):
            sockets.bind([f"127.0.0.1:{port}"])
    finally:
        close(first)


@pytest.mark.network
def test_nothing_stays_bound_where_one_address_is_taken() -> None:
    """P12"""
    taken, free = sockets.bind(["127.0.0.1:0"]), sockets.bind(["127.0.0.1:0"])
    free_port = free[0].getsockname()[1]
    close(free)
    try:
        with pytest.raises(AddressInUseError):
            sockets.bind([f"127.0.0.1:{free_port}", f"127.0.0.1:{taken[0].getsockname()[1]}"])
        close(sockets.bind([f"127.0.0.1:{free_port}"]))
    finally:
        close(taken)


@pytest.mark.network
def test_tcp_sockets_say_that_they_are_tcp() -> None:
    """Else asyncio leaves Nagle's algorithm on and each answer on a kept connection takes 40 ms."""
    opened = sockets.bind(["127.0.0.1:0"])
    try:
        assert {each.proto for each in opened} == {socket.IPPROTO_TCP}
    finally:
        close(opened)


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("4200", "is not host:port"),
        ("localhost:http", "is not host:port"),
        ("localhost:70000", "is not host:port"),
        (":4200", "is not host:port"),
        ("::1:4200", "brackets"),
        ("no-such-host.invalid:4200", "no such host"),
    ],
)
def test_an_address_that_is_none_is_told(address: str, words: str) -> None:
    with pytest.raises(TidemillError, match=words):
        sockets.bind([address])


def test_the_control_socket_is_for_owner_and_group_only(tmp_path: Path) -> None:
    path = tmp_path / "run" / "control.sock"
    opened = sockets.bind_control(path)
    try:
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        assert sockets.answers(path)
    finally:
        sockets.remove(path, opened)
    assert not path.exists()


def test_a_control_socket_that_answers_is_not_taken_away(tmp_path: Path) -> None:
    """P12"""
    path = tmp_path / "control.sock"
    opened = sockets.bind_control(path)
    try:
        with pytest.raises(AddressInUseError, match="a daemon answers there"):
            sockets.bind_control(path)
        assert sockets.answers(path)
    finally:
        sockets.remove(path, opened)


def test_a_socket_file_that_nobody_answers_on_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    sockets.bind_control(path).close()  # as after kill -9
    assert path.exists()
    assert not sockets.answers(path)
    opened = sockets.bind_control(path)
    assert sockets.answers(path)
    sockets.remove(path, opened)


def test_a_file_in_the_way_of_the_control_socket_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    path.write_text("precious")
    with pytest.raises(TidemillError, match="it is not a socket"):
        sockets.bind_control(path)
    assert path.read_text() == "precious"


def test_a_path_too_long_for_a_unix_socket_is_told_in_bytes(tmp_path: Path) -> None:
    path = tmp_path / ("ä" * 60) / "control.sock"
    with pytest.raises(
        StateDirectoryError, match=rf"{len(os.fsencode(path))} bytes are too many .*at most 107"
    ) as told:
        sockets.bind_control(path)
    assert told.value.exit_code == 78
    assert not path.parent.exists()


def test_a_unix_address_can_be_listened_on(tmp_path: Path) -> None:
    path = tmp_path / "extra.sock"
    (opened,) = sockets.bind([f"unix:{path}"])
    assert sockets.answers(path)
    sockets.remove(path, opened)


def test_the_state_directory_points_to_a_control_socket_kept_elsewhere(tmp_path: Path) -> None:
    state, runtime = tmp_path / "state", tmp_path / "run"
    state.mkdir()
    opened = sockets.bind_control(runtime / "control.sock")
    try:
        sockets.point_to(runtime / "control.sock", state)
        sockets.point_to(runtime / "control.sock", state)  # again, after a restart
        assert sockets.answers(state / "control.sock")
    finally:
        sockets.remove(runtime / "control.sock", opened)


def test_a_pointer_left_behind_gives_way_to_a_socket(tmp_path: Path) -> None:
    (tmp_path / "control.sock").symlink_to(tmp_path / "gone")
    opened = sockets.bind_control(tmp_path / "control.sock")
    assert not (tmp_path / "control.sock").is_symlink()
    sockets.remove(tmp_path / "control.sock", opened)


HOME = {"HOME": "/home/ann"}


@pytest.mark.parametrize(
    ("environ", "asked", "found"),
    [
        (HOME, None, "/home/ann/.local/state/tidemill"),
        (HOME | {"XDG_STATE_HOME": "/data"}, None, "/data/tidemill"),
        (HOME | {"XDG_STATE_HOME": "relative"}, None, "/home/ann/.local/state/tidemill"),
        (HOME | {"STATE_DIRECTORY": "/var/lib/tidemill"}, None, "/var/lib/tidemill"),
        (HOME | {"STATE_DIRECTORY": "/var/lib/tidemill"}, "/here", "/here"),
    ],
)
def test_the_state_directory(environ: dict[str, str], asked: str | None, found: str) -> None:
    chosen = places.state_dir(environ, asked=Path(asked) if asked else None)
    assert chosen == Path(found)


@pytest.mark.parametrize(
    ("environ", "asked", "found"),
    [
        (HOME, False, "/state/control.sock"),
        (HOME | {"XDG_RUNTIME_DIR": "/run/user/1000"}, False, "/run/user/1000/tidemill/control.sock"),
        (HOME | {"XDG_RUNTIME_DIR": "/run/user/1000"}, True, "/state/control.sock"),  # several side by side
        (HOME | {"RUNTIME_DIRECTORY": "/run/tidemill"}, False, "/run/tidemill/control.sock"),
    ],
)
def test_the_control_socket_is_where_commands_look(environ: dict[str, str], asked: bool, found: str) -> None:
    assert places.control_socket(environ, Path("/state"), asked=asked) == Path(found)
