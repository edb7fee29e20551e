"""Parameters either fit a flow's function or are told apart, name by name."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from tidemill import flow, task
from tidemill.sdk.signatures import Signature, check_parameters, is_async, signature_of

GIVE_IT = "give it in parameters, or give it a default in the function"


async def coroutine(day: str, limit: int = 3) -> None: ...
def plain(day: str, *, limit: int = 3) -> None: ...
def nothing() -> None: ...
def anything(**more: object) -> None: ...
def by_place(day: str, /) -> None: ...


class Called:
    async def __call__(self, day: str) -> None: ...


@pytest.mark.parametrize(
    ("flow", "parameters", "findings"),
    [
        (plain, {"day": "mon"}, []),
        (plain, {"day": "mon", "limit": 1}, []),
        (
            plain,
            {},
            ["day: the flow needs this parameter; give it in parameters, or give it a default in the function"],
        ),
        (plain, {"day": 1, "limt": 2}, ['limt: the flow has no such parameter; did you mean "limit"?']),
        (plain, {"day": 1, "zebra": 2}, ["zebra: the flow has no such parameter; there are: day, limit"]),
        (nothing, {"x": 1}, ["x: the flow has no such parameter; the flow takes no parameters"]),
        (anything, {"x": 1}, []),
        (
            by_place,
            {},
            ['day: can only be given by place; parameters are given by name; remove the "/" from the function'],
        ),
        (functools.partial(plain, day="mon"), {"limit": 1}, []),
        (Called(), {"day": 1}, []),
    ],
)
def test_parameters_are_checked_by_name(
    flow: Callable[..., Any], parameters: dict[str, Any], findings: list[str]
) -> None:
    assert [str(finding) for finding in check_parameters(flow, parameters)] == findings


def test_a_signature_leaves_its_process_and_checks_the_same() -> None:
    sent = msgspec.json.decode(msgspec.json.encode(signature_of(plain)), type=Signature)
    assert sent == signature_of(plain)
    assert check_parameters(sent, {}) == check_parameters(plain, {})


@pytest.mark.parametrize(
    ("flow", "awaited"),
    [
        (coroutine, True),
        (functools.partial(coroutine, day="mon"), True),
        (Called(), True),
        (plain, False),
        (Called, False),
        (print, False),
    ],
)
def test_who_gives_a_coroutine_is_known_beforehand(flow: Callable[..., Any], awaited: bool) -> None:
    assert is_async(flow) is awaited
    assert signature_of(flow).is_async is awaited


def test_decorated_functions_are_as_async_as_what_they_decorate() -> None:
    assert is_async(flow(coroutine))
    assert is_async(task(coroutine))
    assert not is_async(flow(plain))
    assert signature_of(flow(coroutine)).is_async
