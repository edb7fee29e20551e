"""Equal values have equal texts, and what is not JSON is refused where it stands."""

from __future__ import annotations

import json
import math
from datetime import date
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidemill.sdk.canonical import canonical, unicode_text

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(JSON)
def test_the_text_says_the_value_and_is_its_own_canonical_text(value: Any) -> None:
    text = canonical(value)
    assert json.loads(text) == value
    assert canonical(json.loads(text)) == text


def test_keys_are_sorted_and_characters_stay_themselves() -> None:
    assert canonical({"b": 1, "a": ["é", None, True]}) == '{"a":["é",null,true],"b":1}'


def looped() -> list[Any]:
    loop: list[Any] = []
    loop.append(loop)
    return loop


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ({"rows": [1, {"price": math.nan}]}, "$.rows[1].price is NaN; use null or a text"),
        ([math.inf], "$[0] is Infinity"),
        ({"day": date(2026, 3, 29)}, "$.day is date, which JSON does not have"),
        ({"a": {1, 2}}, "$.a is set"),
        ({"a": 1, 2: 3}, "$ has both text keys and keys that are int"),
        ({"x": {(1, 2): 3}}, "$.x has a key that is tuple, not text"),
        (["\ud800"], "$[0] holds half a surrogate pair"),
        ({"\ud800": 1}, "a key of $ holds half a surrogate pair"),
        (looped(), "nested too deeply, or containing itself"),
    ],
)
def test_what_is_not_json_is_refused_where_it_stands(value: Any, says: str) -> None:
    with pytest.raises(ValueError, match="not JSON") as refused:
        canonical(value)
    assert says in str(refused.value)


def test_too_large_is_told_in_bytes_of_utf8() -> None:
    assert len(canonical("é" * 4, limit=10)) == 6
    with pytest.raises(ValueError, match="too large: 12 bytes of JSON, at most 10 are kept"):
        canonical("é" * 5, limit=10)


@pytest.mark.parametrize(
    ("text", "kept"),
    [("plain", "plain"), ("é😀", "é😀"), ("no file b\udcff", "no file b\\udcff"), ("\ud800", "\\ud800")],
)
def test_half_a_surrogate_pair_is_spelled_out(text: str, kept: str) -> None:
    assert unicode_text(text) == kept
