"""Futures and states among the arguments become results, or say that the run is not ready."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from tidemill.sdk.annotations import Annotation, allow_failure, opaque, quote
from tidemill.sdk.exceptions import UpstreamTaskError
from tidemill.sdk.futures import TaskFuture
from tidemill.sdk.states import State, result_of

_LEAVES = frozenset({int, float, str, bool, bytes, type(None)})


def resolved(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return parameters with every future and state replaced by its result, waiting for the futures.

    Looks into lists, tuples, sets, dicts and dataclasses, not into ``quote``. Raises ``UpstreamTaskError`` for an input
    whose run did not complete, unless ``allow_failure`` stands around it, or around a collection that it is in. A
    collection without any is kept as it is.
    """
    return {name: value if type(value) in _LEAVES else resolve(value) for name, value in parameters.items()}


def resolve(value: Any, allowed: bool = False, deep: bool = True) -> Any:
    """Return one value resolved, as :func:`resolved` does; ``deep`` False: not what stands inside collections."""
    kind = type(value)
    if kind in _LEAVES:
        return value
    if isinstance(value, TaskFuture):
        value.wait()
        return _result(value.state, allowed, value.name or value.task_run_id)
    if isinstance(value, State):
        return _result(value, allowed, value.state_details.task_run_id or value.state_details.flow_run_id or value.name)
    if isinstance(value, Annotation):
        if isinstance(value, quote):
            return value.value
        return resolve(value.value, allowed or isinstance(value, allow_failure), deep and not isinstance(value, opaque))
    if not deep:
        return value
    if isinstance(value, list):
        items = [each if type(each) in _LEAVES else resolve(each, allowed) for each in value]
        return value if _same(value, items) and kind in (list, tuple) else items
    if isinstance(value, tuple):
        items = [resolve(each, allowed) for each in value]
        if _same(value, items):
            return value
        return kind(*items) if hasattr(value, "_fields") else kind(items)
    if isinstance(value, set | frozenset):
        items = [resolve(each, allowed) for each in value]
        return value if _same(value, items) else kind(items)
    if isinstance(value, dict):
        entries = {key: each if type(each) in _LEAVES else resolve(each, allowed) for key, each in value.items()}
        return value if all(entries[key] is each for key, each in value.items()) else entries
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        before = {field.name: getattr(value, field.name) for field in dataclasses.fields(value) if field.init}
        after = {name: resolve(each, allowed) for name, each in before.items()}
        changed = {name: each for name, each in after.items() if each is not before[name]}
        return dataclasses.replace(value, **changed) if changed else value
    return value


def _same(before: Any, after: list[Any]) -> bool:
    return all(one is other for one, other in zip(before, after, strict=True))


def _result(state: State, allowed: bool, who: str) -> Any:
    if state.is_completed():
        return result_of(state)
    not_ready = state.is_pending() and state.name == "NotReady"
    if allowed and (state.is_failed() or not_ready):
        return state.data if not_ready else result_of(state, raise_on_failure=False)
    raise UpstreamTaskError(f"Upstream task run '{who}' did not reach a 'COMPLETED' state.")


def to_states(value: Any) -> Any:
    """Return a flow's return value with its futures replaced by their last states, waiting for them."""
    if isinstance(value, TaskFuture):
        value.wait()
        return value.state
    if isinstance(value, list | tuple | set | dict):
        if isinstance(value, dict):
            entries = {key: to_states(each) for key, each in value.items()}
            return value if all(entries[key] is each for key, each in value.items()) else entries
        items = [to_states(each) for each in value]
        if _same(value, items) and not (isinstance(value, list) and type(value) is not list):
            return value
        if isinstance(value, tuple) and hasattr(value, "_fields"):
            return type(value)(*items)
        return items if isinstance(value, list) else type(value)(items)
    return value


def to_results(value: Any) -> Any:
    """Return a value with its futures replaced by their results, waiting for them; raises the first failure."""
    if isinstance(value, TaskFuture):
        return value.result()
    if isinstance(value, dict):
        return {key: to_results(each) for key, each in value.items()}
    if isinstance(value, list):
        return [to_results(each) for each in value]
    if isinstance(value, tuple | set):
        return type(value)(to_results(each) for each in value)
    return value


def holds_futures(value: Any) -> bool:
    """Whether a value, or a collection it is, holds a future: a cheap look before :func:`to_states`."""
    if isinstance(value, TaskFuture):
        return True
    if isinstance(value, list | tuple | set):
        return any(holds_futures(each) for each in value)
    if isinstance(value, dict):
        return any(holds_futures(each) for each in value.values())
    return False
