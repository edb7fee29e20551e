"""An allow-list of hosts, and connecting to the very address that was checked.

A name on the list vouches for the name, not for where it leads: an address that is not public must stand on the list
itself, or a name under somebody else's control could point into the private network. The address that passed is the one
connected to; a second look-up could answer otherwise (Prefect CVE-2026-7724).
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
from collections.abc import Awaitable, Callable, Sequence

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Resolver = Callable[[str, int], Awaitable[list[str]]]

_NAME = re.compile(r"(\*\.)?[a-z0-9_-]+(\.[a-z0-9_-]+)*\.?")


async def look_up(host: str, port: int) -> list[str]:
    """Return the addresses of ``host``, in the system's order; raises ``OSError`` where there are none."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in found))


class HostRefusedError(Exception):
    """The allow-list does not let this host or its addresses pass. The text says which and why."""


class AllowList:
    """Hosts by name (``*.`` for what is below a name), with a port or any, and addresses or networks.

    Raises ``ValueError`` for an entry that is none of these.
    """

    def __init__(self, entries: Sequence[str]) -> None:
        self._names: list[tuple[str, int | None]] = []
        self._networks: list[tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, int | None]] = []
        for entry in entries:
            host, port = _split(entry.strip().lower())
            try:
                self._networks.append((ipaddress.ip_network(host, strict=False), port))
            except ValueError:
                if not _NAME.fullmatch(host):
                    raise ValueError(f'"{entry}" is neither a host, nor an address or network') from None
                self._names.append((host.rstrip("."), port))

    def names(self, host: str, port: int) -> bool:
        """Say whether the list holds this host: its name, or the address where it is one."""
        address = _address(host)
        if address is not None:
            return self._holds(address, port)
        name = host.lower().rstrip(".")
        return any(
            (name == listed or (listed.startswith("*.") and name.endswith(listed[1:]))) and (at is None or at == port)
            for listed, at in self._names
        )

    async def addresses(self, host: str, port: int, resolve: Resolver) -> list[str]:
        """Return the addresses to connect to; raises :class:`HostRefusedError`, or ``OSError`` from the look-up."""
        if not self.names(host, port):
            raise HostRefusedError(f"allowed_hosts does not hold {host}:{port}")
        if _address(host) is not None:
            return [host]
        found = await resolve(host, port)
        passed = [text for text in found if (address := _address(text)) is not None and self._passes(address, port)]
        if not passed:
            raise HostRefusedError(
                f"{host} leads to {', '.join(found)}, which is not public and does not stand in allowed_hosts"
            )
        return passed

    def _passes(self, address: Address, port: int) -> bool:
        return (address.is_global and not address.is_multicast) or self._holds(address, port)

    def _holds(self, address: Address, port: int) -> bool:
        return any(address in network and (at is None or at == port) for network, at in self._networks)


def _address(text: str) -> Address | None:
    try:
        address = ipaddress.ip_address(text.strip("[]").partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def _split(entry: str) -> tuple[str, int | None]:
    """Split ``host:8443`` and ``[::1]:8443``; a bare IPv6 address has colons of its own."""
    if entry.startswith("["):
        host, _, rest = entry[1:].partition("]")
        port = rest.removeprefix(":")
    elif entry.count(":") == 1:
        host, _, port = entry.partition(":")
    else:
        return entry, None
    if not port:
        return host, None
    if not port.isdecimal() or not 0 < int(port) < 65536:
        raise ValueError(f'"{entry}" has no port in 1-65535')
    return host, int(port)
