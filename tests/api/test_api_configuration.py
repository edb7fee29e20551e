"""Making things over the API: for the daemon's own user, over the control socket, and for nobody else (P15)."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from starlette.requests import Request

from tidemill.api import asker, places
from tidemill.api.bodies import BadRequestError
from tidemill.api.configuration import CONFIGURATION, reload
from tidemill.api.gate import Refusal
from tidemill.api.ports import Control

ME = os.geteuid()
CONTROL = f"/run/tidemill/{places.SOCKET}"


def request(method: str = "GET", **peer: Any) -> Request:
    path = {"table": "deployments", "name": "job"}
    extensions = {asker.EXTENSION: peer} if peer else {}
    return Request({"type": "http", "method": method, "headers": [], "extensions": extensions, "path_params": path})


class Maker:
    """Notes what it is asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.made_dir = Path("/state/made.d")

    def document(self) -> dict[str, Any]:
        return {"outcome": "ok"}

    def documents(self) -> list[Any]:
        return []

    def in_force(self) -> dict[str, Any]:
        return {}

    async def reload(self, reason: str) -> Maker:
        self.asked.append(reason)
        return self

    async def put(self, table: str, name: str, value: Any, *, by: str) -> Maker:
        self.asked.append(f"{table}.{name} = {value} by {by}")
        return self

    async def remove(self, table: str, name: str, *, by: str) -> Maker:
        self.asked.append(f"{table}.{name} gone by {by}")
        return self


def control(maker: Maker) -> Control:
    return cast(Control, SimpleNamespace(reloader=maker, made=maker))


OWNED = [name for name in CONFIGURATION if name != ("POST", "/reload")]
STRANGERS = [
    {},  # over TCP
    {"user": None},  # over TCP, as the server says it
    {"user": "nobody", "uid": 65534, "socket": CONTROL},  # one of the socket's group
    {"user": "me", "uid": ME, "socket": "/srv/proxy/api.sock"},  # another socket: behind it may be anybody
    {"user": "control socket", "uid": None, "socket": CONTROL},  # the kernel does not say whose it is
]


@pytest.mark.parametrize("peer", STRANGERS)
@pytest.mark.parametrize("route", OWNED)
async def test_nobody_else_makes_or_sees_what_is_made(route: tuple[str, str], peer: dict[str, Any]) -> None:
    """P15"""
    maker = Maker()
    with pytest.raises(Refusal) as refused:
        await CONFIGURATION[route](control(maker), request(route[0], **peer), {"value": {"command": "rm -rf /"}})
    assert refused.value.status == 403
    assert maker.asked == []


@pytest.mark.parametrize("uid", sorted({0, ME}))
@pytest.mark.parametrize("route", OWNED)
async def test_the_daemons_user_and_root_do(route: tuple[str, str], uid: int) -> None:
    maker = Maker()
    await CONFIGURATION[route](control(maker), request(route[0], user="me", uid=uid, socket=CONTROL), {"value": 1})
    wanted = {"PUT": ["deployments.job = 1 by me"], "DELETE": ["deployments.job gone by me"]}
    assert maker.asked == wanted.get(route[0], [])


async def test_a_reload_is_for_everybody_and_takes_nothing() -> None:
    maker = Maker()
    assert await reload(control(maker), request("POST"), {}) == {"outcome": "ok"}
    with pytest.raises(BadRequestError):
        await reload(control(maker), request("POST"), {"config": "/tmp/mine.toml"})
    assert maker.asked == ["asked for by api"]


def test_the_kernel_says_who_is_at_the_other_end() -> None:
    here, there = socket.socketpair(socket.AF_UNIX)
    with here, there:
        found = asker.address_of(here)
        assert found["uid"] == ME
        assert not asker.owns({"extensions": {asker.EXTENSION: found}}), "it has no name"
        assert asker.owns({"extensions": {asker.EXTENSION: {**found, "socket": CONTROL}}})
    with socket.socket(socket.AF_INET) as tcp:
        assert asker.address_of(tcp) == {"user": None}
