"""What is kept of a result."""

from __future__ import annotations

from typing import Any

import pytest

from tidemill.sdk import outcomes
from tidemill.sdk.outcomes import MAX_RESULT_BYTES, kept

CIRCLE: list[Any] = []
CIRCLE.append(CIRCLE)
# A result that is not kept -> what is said of it.
LARGE: dict[str, tuple[Any, str]] = {
    "a text": ("x" * (MAX_RESULT_BYTES + 1), f"{MAX_RESULT_BYTES + 1} characters"),
    "a list of numbers": (list(range(MAX_RESULT_BYTES)), f"{MAX_RESULT_BYTES} items"),
    "a dict of lists of texts": ({str(n): ["x" * 1000] for n in range(500)}, "500 items"),
    "what holds itself": (CIRCLE, "[[...]]"),
}


@pytest.mark.parametrize("case", LARGE)
def test_a_result_that_is_surely_too_large_is_not_made_json_first(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a second for 50 MB, in which nothing else of the interpreter runs."""
    monkeypatch.setattr(outcomes, "canonical", None)
    result, told = LARGE[case]
    assert kept(result) == {"type": f"builtins.{type(result).__name__}", "repr": told}


@pytest.mark.parametrize(
    "result", ["x" * (MAX_RESULT_BYTES - 2), [0] * (MAX_RESULT_BYTES // 2 - 1), {"a": [{}, [], None, "", 1.5, True]}]
)
def test_a_result_of_the_largest_size_is_kept(result: Any) -> None:
    assert kept(result) == result
