"""Where an allow-list is set, a request reaches an address that was checked, and no other."""

from __future__ import annotations

import pytest

from tidemill.flows.http_hosts import AllowList, HostRefusedError


@pytest.mark.parametrize(
    ("entries", "host", "port", "held"),
    [
        (["api.test"], "api.test", 443, True),
        (["API.test."], "api.TEST", 443, True),
        (["api.test"], "evil-api.test", 443, False),
        (["api.test"], "api.test.evil", 443, False),
        (["*.test"], "api.test", 443, True),
        (["*.test"], "a.b.test", 443, True),
        (["*.test"], "test", 443, False),  # what is below a name, not the name
        (["*.test"], "eviltest", 443, False),
        (["api.test:8443"], "api.test", 8443, True),
        (["api.test:8443"], "api.test", 443, False),
        (["10.0.0.0/8"], "10.1.2.3", 80, True),
        (["10.0.0.0/8"], "11.1.2.3", 80, False),
        (["10.0.0.1:80"], "10.0.0.1", 81, False),
        (["::1"], "::1", 80, True),
        (["[::1]:80"], "::1", 80, True),
        (["[::1]:80"], "::1", 81, False),
        (["127.0.0.1"], "::ffff:127.0.0.1", 80, True),  # the same address, written otherwise
        ([], "api.test", 443, False),
    ],
)
def test_a_list_holds_hosts_by_name_address_and_port(entries: list[str], host: str, port: int, held: bool) -> None:
    assert AllowList(entries).names(host, port) is held


@pytest.mark.parametrize("entry", ["", "a b", "http://api.test", "api.test:0", "api.test:x", "*", "a.*.test"])
def test_an_entry_that_is_no_host_is_refused(entry: str) -> None:
    with pytest.raises(ValueError, match=r"neither a host|no port"):
        AllowList([entry])


@pytest.mark.parametrize(
    ("entries", "found", "passed"),
    [
        (["api.test"], ["93.184.215.14"], ["93.184.215.14"]),
        (["api.test"], ["127.0.0.1"], None),  # a name that leads home
        (["api.test"], ["169.254.169.254"], None),  # the clouds' store of secrets
        (["api.test"], ["::ffff:10.0.0.1"], None),
        (["api.test"], ["fe80::1%eth0"], None),
        (["api.test"], ["10.0.0.1", "93.184.215.14"], ["93.184.215.14"]),
        (["api.test", "10.0.0.0/8"], ["10.0.0.1"], ["10.0.0.1"]),  # meant so
        (["api.test", "10.0.0.0/8"], ["192.168.0.1"], None),
    ],
)
async def test_an_address_that_is_not_public_must_stand_on_the_list(
    entries: list[str], found: list[str], passed: list[str] | None
) -> None:
    async def resolve(host: str, port: int) -> list[str]:
        assert (host, port) == ("api.test", 443)
        return found

    if passed is None:
        with pytest.raises(HostRefusedError, match=r"api\.test leads to .* not public"):
            await AllowList(entries).addresses("api.test", 443, resolve)
    else:
        assert await AllowList(entries).addresses("api.test", 443, resolve) == passed


async def test_an_address_on_the_list_needs_no_look_up() -> None:
    async def resolve(host: str, port: int) -> list[str]:
        raise AssertionError("looked up")

    assert await AllowList(["127.0.0.1"]).addresses("127.0.0.1", 80, resolve) == ["127.0.0.1"]
