"""Whether an async flow may block the loop it runs on, read off its code.

A sync task or subflow is called without ``await``, so its caller's loop stands still until it has ended; so it does
while ``future.result()`` waits. Such a flow gets a thread and a loop of its own, and the daemon's goes on.
"""

from __future__ import annotations

import types
from collections.abc import Iterator
from typing import Any

from tidemill.sdk.definitions import FlowDefinition, TaskDefinition

_SUBMITTING = frozenset({"submit", "map"})
_DEEPEST = 20


def may_block(flow: FlowDefinition) -> bool:
    """Whether an async flow names, directly or through functions of its own module, sync tasks or subflows, submits
    tasks, or uses functions that say they block (``blocks_a_loop``). What is only found at run time is not seen."""
    return flow.isasync and _blocks(flow.fn, flow.bound_to, set(), 0)


def _blocks(fn: Any, bound_to: Any, seen: set[int], depth: int) -> bool:
    while hasattr(fn, "func") and hasattr(fn, "keywords"):  # functools.partial
        fn = fn.func
    fn = getattr(fn, "__func__", fn)
    code = getattr(fn, "__code__", None)
    if code is None or id(code) in seen or depth > _DEEPEST:
        return False
    seen.add(id(code))
    names = set(_names(code))
    tasks = False
    for value in _values(fn, names, bound_to):
        if isinstance(value, TaskDefinition | FlowDefinition):
            if not value.isasync:
                return True
            tasks = tasks or isinstance(value, TaskDefinition)
            if _blocks(value.fn, value.bound_to, seen, depth + 1):
                return True
        elif _says_so(value) or _blocks_too(value, fn, seen, depth):
            return True
    return tasks and not names.isdisjoint(_SUBMITTING)


def _says_so(value: Any) -> bool:
    return getattr(value, "blocks_a_loop", False) is True


def _blocks_too(called: Any, by: Any, seen: set[int], depth: int) -> bool:
    """Whether a plain function of the same module blocks, or a method of a class of it that is named."""
    if not isinstance(called, types.FunctionType) or called.__module__ != by.__module__:
        return False
    return _blocks(called, None, seen, depth + 1)


def _names(code: types.CodeType) -> Iterator[str]:
    yield from code.co_names
    yield from code.co_freevars
    for each in code.co_consts:
        if isinstance(each, types.CodeType):
            yield from _names(each)


def _values(fn: Any, names: set[str], bound_to: Any) -> Iterator[Any]:
    """Yield what the names may stand for: globals, closed-over variables, attributes of named modules and of self."""
    spaces: list[Any] = [fn.__globals__]
    for cell, name in zip(fn.__closure__ or (), fn.__code__.co_freevars, strict=False):
        try:
            spaces.append({name: cell.cell_contents})
        except ValueError:  # not bound yet
            continue
    if bound_to is not None:
        owner = bound_to if isinstance(bound_to, type) else type(bound_to)
        spaces += [vars(each) for each in owner.__mro__[:-1]]
    for space in spaces:
        for name in names & space.keys():
            value = space[name]
            yield value
            if isinstance(value, types.ModuleType | type):
                inside = vars(value)
                yield from (inside[attribute] for attribute in names & inside.keys())
