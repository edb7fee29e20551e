"""What stands among the arguments of a task, and what a failure among them means."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from tidemill import allow_failure, flow, task
from tidemill.sdk.harness import tidemill_test_harness


@task
def halves(number: int) -> int:
    if number % 2:
        raise ValueError(f"{number} is odd")
    return number // 2


@task
def told(what: Any) -> str:
    return str(what)


@dataclass
class Pair:
    one: Any
    other: Any


# How futures of 1 and 2 are packed -> what the task is given. ``allow_failure`` holds for all that it stands around.
PACKED: dict[str, tuple[Callable[[Any], Any], str]] = {
    "what map returned": (lambda futures: futures, "[ValueError('1 is odd'), 1]"),
    "a tuple": (tuple, "(ValueError('1 is odd'), 1)"),
    "a dict": (lambda futures: {"a": futures[0], "b": futures[1]}, "{'a': ValueError('1 is odd'), 'b': 1}"),
    "a list in a list": (lambda futures: [[futures[0]], 3], "[[ValueError('1 is odd')], 3]"),
    "a dataclass": (lambda futures: Pair(*futures), "Pair(one=ValueError('1 is odd'), other=1)"),
}


@pytest.mark.parametrize("case", PACKED)
def test_allow_failure_holds_for_all_that_is_in_a_collection(case: str) -> None:
    pack, expected = PACKED[case]

    @flow
    def main() -> str:
        given: str = told(allow_failure(pack(halves.map([1, 2]))))
        return given

    with tidemill_test_harness():
        assert main() == expected


def test_a_failure_in_a_collection_is_not_allowed_by_itself() -> None:
    @flow
    def main() -> str:
        name: str = told([allow_failure(halves.submit(2)), halves.submit(1)], return_state=True).name
        return name

    with tidemill_test_harness():
        assert main() == "NotReady"
