"""Parameters either fit a flow's function or are told apart, name by name."""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import enum
import functools
import uuid
from collections.abc import Callable
from typing import Annotated, Any, Literal

import msgspec
import pytest

from tidemill import flow, task
from tidemill.sdk.parameters import convert
from tidemill.sdk.plain_types import schemas_of
from tidemill.sdk.signatures import Signature, check_parameters, is_async, misfits, signature_of

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


class Colour(enum.Enum):
    RED = "red"


class Any3(enum.IntEnum):
    THREE = 3

    @classmethod
    def _missing_(cls, value: object) -> Any3:
        return cls.THREE


HINTS: list[Any] = [
    bool, int, float, str, list, dict, dt.datetime, dt.date, dt.time, dt.timedelta, decimal.Decimal, uuid.UUID, Colour,
    Any3, list[int], dict[str, float], dict[int, int], tuple[int, ...], tuple[int, str], set[int], frozenset[str],
    int | None, int | str, float | list[int], Literal["a", 1, None], Literal["a", 1], bytes,
    Annotated[str, msgspec.Meta(max_length=2)], Annotated[list[int], msgspec.Meta(min_length=1)], object,
    Annotated[int, msgspec.Meta(gt=3)],
]  # fmt: skip
VALUES: list[Any] = [
    None, True, False, 0, 1, 3, 5, -7, 2.0, 2.5, 1e300, "", "x", "5", " 5", "5.0", "1_000", "1e3", "2.5", "true", "no",
    "null", "None", "nan", "inf", "red", "RED", "a", "2026-01-01", "2026-01-01T00:00:00Z", "2026-01-01 00:00", "12:30",
    "PT5M", "1 day", "00:05:00", "12345678123456781234567812345678", [], [1], ["1"], ["x"], [1, "a"], {}, {"a": 1},
    {"a": "x"}, {"1": "2"}, [[1, 2]], 1_700_000_000, "abc",
]  # fmt: skip


def known(fn: Callable[..., Any], **hints: Any) -> Signature:
    fn.__annotations__ = hints
    return msgspec.structs.replace(signature_of(fn), schemas=schemas_of(flow(fn)))


@pytest.mark.parametrize("hint", HINTS, ids=str)
def test_what_the_conversion_takes_is_never_a_misfit(hint: Any) -> None:
    def fn(value: Any) -> None: ...

    signature = known(fn, value=hint)
    for value in VALUES:
        try:
            convert(value, hint)
        except ValueError:
            continue
        assert misfits(signature, {"value": value}) == [], value


def test_what_no_conversion_takes_is_a_misfit_named_with_fact_and_remedy() -> None:
    def fn(n: int, days: list[int], colour: Colour = Colour.RED, *, limit: int | None = None, **_: int) -> None: ...

    signature = known(fn, n=int, days=list[int], colour=Colour, limit=int | None, _=int)
    found = misfits(signature, {"n": "x", "days": ["mon"], "colour": "blue", "more": 1})
    remedy = "the flow's signature says so; give a value that fits it"
    assert [str(each) for each in found] == [
        f'n: "x" is not an integer; {remedy}',
        f'days[0]: "mon" is not an integer; {remedy}',
        f'colour: "blue" is not "red"; {remedy}',
    ]
    assert [each.path for each in misfits(signature, {"limit": "many"})] == ["limit"]


@dataclasses.dataclass
class Order:
    count: int


def test_of_models_and_of_flows_that_validate_nothing_nothing_is_known() -> None:
    def fn(order: Order, orders: list[Order], missing: Any3) -> None: ...

    assert known(fn, order=Order, orders=list[Order], missing=Any3).schemas == {}

    def lax(n: int) -> None: ...

    lax.__annotations__ = {"n": int}
    assert schemas_of(flow(validate_parameters=False)(lax)) == {}
    assert schemas_of(lax) == {}
