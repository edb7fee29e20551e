"""What is wrong with parameters, told so that a person can put it right."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import NamedTuple


class Finding(NamedTuple):
    """One thing wrong: the dotted path inside the parameters, the fact, and the remedy ("" where the fact says it)."""

    path: str
    problem: str
    remedy: str = ""

    def __str__(self) -> str:
        text = f"{self.path}: {self.problem}" if self.path else self.problem
        return f"{text}; {self.remedy}" if self.remedy else text


def near(name: str, known: Iterable[str]) -> str:
    """Return a remedy naming what was probably meant, or else what there is (at most ten names); "" for nothing."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    if close:
        return f'did you mean "{close[0]}"?'
    if not names:
        return ""
    more = f" and {len(names) - 10} more" if len(names) > 10 else ""
    return f"there are: {', '.join(names[:10])}{more}"
