"""What does not fit a schema is said by place; what a conversion would take is let through."""

from __future__ import annotations

from enum import Enum
from typing import Any, Literal

import msgspec
import pydantic
import pytest

from tidemill.core import json_schemas
from tidemill.core.json_schemas import faults
from tidemill.sdk.parameters import convert, schema_of


class Size(Enum):
    SMALL = 1
    LARGE = 2


class Place(msgspec.Struct, forbid_unknown_fields=True):
    city: str
    zip: int | None = None


class Order(msgspec.Struct):
    approved: bool
    rows: list[int]
    place: Place | None = None
    size: Size = Size.SMALL
    kind: Literal["a", "b"] = "a"


class Limits(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")
    n: int = pydantic.Field(default=1, ge=0, lt=10)
    name: str = pydantic.Field(default="x", min_length=1, max_length=3)
    when: pydantic.AwareDatetime | None = None
    amount: pydantic.condecimal(max_digits=5) | None = None  # type: ignore[valid-type]


ORDER: dict[str, Any] = {"approved": True, "rows": [1, 2]}
UNFIT = [
    (Order, {}, ["approved: is missing", "rows: is missing"]),
    (Order, [], ["[] is not an object"]),
    (Order, None, ["null is not an object"]),
    (Order, ORDER | {"approved": "perhaps"}, ['approved: "perhaps" is not true or false']),
    (Order, ORDER | {"rows": [1, "two", {}]}, ['rows[1]: "two" is not an integer', "rows[2]: {} is not an integer"]),
    (Order, ORDER | {"rows": 1.5}, ["rows: 1.5 is not a list"]),
    (Order, ORDER | {"place": {"city": 7}}, ["place.city: 7 is not a text"]),
    (Order, ORDER | {"place": {"city": "x", "zap": 1}}, ["place.zap: is not known; known are city, zip"]),
    (Order, ORDER | {"size": 3}, ["size: 3 is not 1 or 2"]),
    (Order, ORDER | {"kind": "c"}, ['kind: "c" is not "a" or "b"']),
    (Limits, {"n": -1}, ["n: -1 is not at least 0"]),
    (Limits, {"n": "10"}, ['n: "10" is not less than 10']),
    (Limits, {"name": ""}, ["name: has 0 characters, fewer than 1"]),
    (Limits, {"name": "long"}, ["name: has 4 characters, more than 3"]),
    (Limits, {"m": 1}, ["m: is not known; known are n, name, when, amount"]),
    (int, "many", ['"many" is not an integer']),
    (int, 1.5, ["1.5 is not an integer"]),
    (int | None, "many", ['"many" is not an integer']),
    (tuple[int, str], [1, 2], ["[1]: 2 is not a text"]),
]  # fmt: skip
FIT = [
    (Order, ORDER),
    (Order, {"approved": "true", "rows": ["1", 2]}),
    (Order, ORDER | {"place": None, "size": 2, "kind": "b", "more": [{}]}),
    (Order, ORDER | {"place": {"city": "x", "zip": None}}),
    (Limits, {}),
    (Limits, {"n": "9", "when": 1_700_000_000, "amount": 1.5}),
    (Limits, {"when": "2026-11-21T09:00:00Z", "amount": "1.5"}),
    (int, "5"),
    (int | None, None),
    (float, "1e3"),
    (bool, 1),
    (dict, {"any": ["thing"]}),
    (tuple[int, str], [1, "x"]),
    (int, 10**400),
]  # fmt: skip


@pytest.mark.parametrize(("wanted", "value", "says"), UNFIT)
def test_what_is_wrong_is_said_by_place(wanted: Any, value: Any, says: list[str]) -> None:
    assert faults(value, schema_of(wanted)) == says
    with pytest.raises(ValueError):
        convert(value, wanted)


@pytest.mark.parametrize(("wanted", "value"), FIT)
def test_what_a_conversion_takes_fits(wanted: Any, value: Any) -> None:
    convert(value, wanted)
    assert faults(value, schema_of(wanted)) == []


def test_a_schema_that_leads_in_circles_costs_a_bounded_time(monkeypatch: pytest.MonkeyPatch) -> None:
    circle = {"anyOf": [{"$ref": "#/$defs/a"}] * 3}
    monkeypatch.setattr(json_schemas, "MOST_STEPS", 500)
    assert faults(1, {"$ref": "#/$defs/a", "$defs": {"a": circle}}) == []


def test_a_schema_that_is_none_takes_anything() -> None:
    for odd in ({"$ref": "#/$defs/gone"}, {"type": "color"}, {"properties": 7, "anyOf": []}, {"enum": None}):
        assert faults({"x": 1}, odd) == []


def test_a_few_of_many_faults_are_told() -> None:
    assert len(faults(["x"] * 100, schema_of(list[int]))) == 10
