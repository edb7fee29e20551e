"""Arguments become parameters by name, of the types that annotations say."""

from __future__ import annotations

import dataclasses
import enum
import importlib.util
import inspect
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Any, Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidemill.exceptions import ParameterBindError, ParameterTypeError
from tidemill.sdk.parameters import Signature


@dataclasses.dataclass
class Point:
    x: int
    y: int = 0


class Settings(msgspec.Struct):
    region: str
    limit: int = 10


class Colour(enum.Enum):
    RED = "red"


HERE = Point(1)


def plain(a, b=2): ...
def keywords(a, *, b=2): ...
def places(a, /, b=2): ...
def variadic(a, *args, b=2, **kwargs): ...
def nothing(): ...


CALLS = [
    ((), {}),
    ((1,), {}),
    ((1, 3), {}),
    ((1, 3, 4), {}),
    ((), {"a": 1}),
    ((), {"b": 1}),
    ((1,), {"b": 3}),
    ((1,), {"a": 1}),
    ((1,), {"c": 3}),
    ((1, 2, 3), {"b": 5, "c": 6}),
]


@pytest.mark.parametrize("function", [plain, keywords, places, variadic, nothing])
@pytest.mark.parametrize(("args", "kwargs"), CALLS)
def test_a_call_is_bound_as_python_binds_it(function: Callable[..., Any], args: Any, kwargs: Any) -> None:
    try:
        bound = inspect.signature(function).bind(*args, **kwargs)
    except TypeError:
        with pytest.raises(ParameterBindError, match=function.__name__):
            Signature(function).bind(args, kwargs)
        return
    bound.apply_defaults()
    assert Signature(function).bind(args, dict(kwargs)) == dict(bound.arguments)


@given(st.lists(st.integers(), max_size=5), st.dictionaries(st.sampled_from(["b", "c", "d"]), st.integers()))
def test_a_call_goes_through_binding_and_back(args: list[int], kwargs: dict[str, int]) -> None:
    def echo(a=0, *args, b=0, **kwargs):
        return a, args, b, kwargs

    signature = Signature(echo)
    assert signature.call(signature.bind(tuple(args), kwargs)) == echo(*args, **kwargs)


NOW = datetime(2026, 11, 21, 9, tzinfo=UTC)
CONVERSIONS: list[tuple[Any, Any, Any]] = [
    (int, "5", 5),
    (int, 5.0, 5),
    (int, True, 1),
    (float, 5, 5.0),
    (bool, "true", True),
    (str, "a", "a"),
    (list[int], ["1", 2], [1, 2]),
    (dict[str, int], {"a": "1"}, {"a": 1}),
    (tuple[int, str], ["1", "a"], (1, "a")),
    (set[int], [1, 1, 2], {1, 2}),
    (int | None, None, None),
    (int | None, "3", 3),
    (Literal["a", "b"], "a", "a"),
    (datetime, "2026-11-21T09:00:00+00:00", NOW),
    (date, "2026-11-21", date(2026, 11, 21)),
    (timedelta, 60, timedelta(minutes=1)),
    (Colour, "red", Colour.RED),
    (Point, {"x": "1"}, Point(1)),
    (Point, Point(1, 2), Point(1, 2)),
    (list[Point], [{"x": 1}, Point(2)], [Point(1), Point(2)]),
    (Settings, {"region": "fi", "limit": "3"}, Settings("fi", 3)),
    (Any, object, object),
]


@pytest.mark.parametrize(("wanted", "value", "result"), CONVERSIONS)
def test_a_value_is_converted_to_what_is_declared(wanted: Any, value: Any, result: Any) -> None:
    def flow(value):
        return value

    flow.__annotations__ = {"value": wanted}
    found = Signature(flow).coerced({"value": value})["value"]
    assert found == result
    assert type(found) is type(result)


@pytest.mark.parametrize(
    ("wanted", "value"),
    [(int, "many"), (int, 1.5), (int, None), (list[int], "abc"), (Literal["a"], "b"), (Point, {"y": 1}), (Colour, "x")],
)
def test_a_value_that_does_not_fit_is_refused_by_its_name(wanted: Any, value: Any) -> None:
    def flow(amount):
        return amount

    flow.__annotations__ = {"amount": wanted}
    with pytest.raises(ParameterTypeError, match="amount: "):
        Signature(flow).coerced({"amount": value})


def test_every_fault_is_told_at_once() -> None:
    def flow(a: int, b: list[int], c: str):
        return a

    with pytest.raises(ParameterTypeError) as caught:
        Signature(flow).coerced({"a": "x", "b": 3, "c": "fine"})
    assert "a: " in str(caught.value) and "b: " in str(caught.value) and "c: " not in str(caught.value)


def test_a_default_is_taken_as_it_is() -> None:
    def flow(n: int = None):  # type: ignore[assignment]  # noqa: RUF013
        return n

    assert Signature(flow).coerced({"n": None}) == {"n": None}


def test_an_annotation_that_cannot_be_evaluated_takes_anything() -> None:
    def flow(a: Nowhere, b: int):  # type: ignore[name-defined]  # noqa: F821
        return a

    assert Signature(flow).coerced({"a": object, "b": "2"}) == {"a": object, "b": 2}


def test_an_object_of_any_class_passes_as_itself_and_another_does_not() -> None:
    class Client: ...

    def flow(client):
        return client

    flow.__annotations__ = {"client": Client}
    client = Client()
    assert Signature(flow).coerced({"client": client}) == {"client": client}


def test_the_schema_has_prefects_shape() -> None:
    def flow(region: str, limit: int = 3, tags: list[str] | None = None, *rest: int, point: Point = HERE, any=None):
        return region

    schema = Signature(flow).schema()
    assert (schema["title"], schema["type"], schema["required"]) == ("Parameters", "object", ["region"])
    properties = schema["properties"]
    assert list(properties) == ["region", "limit", "tags", "point", "any"]
    assert properties["region"] == {"title": "region", "position": 0, "type": "string"}
    assert properties["limit"] == {"title": "limit", "position": 1, "type": "integer", "default": 3}
    assert properties["point"]["default"] == {"x": 1, "y": 0}
    assert properties["point"]["$ref"] == "#/definitions/Point"
    assert set(schema["definitions"]) == {"Point"}


needs_pydantic = pytest.mark.skipif(
    importlib.util.find_spec("pydantic") is None, reason="pydantic is not installed: its models in flows were not tried"
)


@needs_pydantic
def test_pydantic_s_models_are_honoured_where_it_is_installed() -> None:
    from pydantic import BaseModel, Field

    class Order(BaseModel):
        id: int
        amount: float = Field(gt=0)

    def flow(order, orders):
        return order

    flow.__annotations__ = {"order": Order, "orders": list[Order]}
    signature = Signature(flow)
    found = signature.coerced({"order": {"id": "1", "amount": 2}, "orders": [{"id": 2, "amount": "3"}]})
    assert found == {"order": Order(id=1, amount=2.0), "orders": [Order(id=2, amount=3.0)]}
    with pytest.raises(ParameterTypeError, match="amount"):
        signature.coerced({"order": {"id": 1, "amount": -1}, "orders": []})
    assert signature.schema()["properties"]["order"]["properties"]["amount"]["exclusiveMinimum"] == 0


@needs_pydantic
def test_pydantic_s_bounds_hold_on_plain_types() -> None:
    from pydantic import Field

    def flow(number):
        return number

    flow.__annotations__ = {"number": Annotated[int, Field(gt=0, le=10)]}
    signature = Signature(flow)
    assert signature.coerced({"number": "10"}) == {"number": 10}
    with pytest.raises(ParameterTypeError, match="less than or equal to 10"):
        signature.coerced({"number": 11})
    assert signature.schema()["properties"]["number"]["maximum"] == 10
