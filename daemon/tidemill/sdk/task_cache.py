"""A task's results, kept under keys: looked up before it runs, published after it has."""

from __future__ import annotations

import logging
import math
from datetime import datetime
from typing import Any

import msgspec

from tidemill.core.reports import CacheQuestion, CacheReport
from tidemill.sdk.canonical import MAX_ARTIFACT_BYTES, canonical
from tidemill.sdk.context import RunContext
from tidemill.sdk.definitions import TaskDefinition
from tidemill.sdk.exceptions import BlockingInLoopError, HashError
from tidemill.sdk.outcomes import traceback_text
from tidemill.sdk.parameters import convert
from tidemill.sdk.runtime import ROOMS
from tidemill.sdk.scopes import TaskRunContext
from tidemill.sdk.ways import Way

MISS: Any = object()
_WARNED: set[tuple[str, str]] = set()
_ATOMS = (str, int, float, bool, type(None))


def key_of(scope: TaskRunContext) -> str | None:
    """Return the cache key of a task run, None where its result is not kept."""
    task = scope.task
    if not scope.persist_result:
        return None
    flow = scope.flow_run_context
    try:
        key = task.cache_policy.compute_key(scope, scope.parameters, flow.parameters if flow is not None else {})
        if key is None and task.result_storage_key is not None:
            key = task.result_storage_key.format(parameters=scope.parameters, **ROOMS)
    except Exception as error:
        ours = isinstance(error.__cause__, HashError)  # says what is wrong, and what to do
        told = f": {error}" if ours else f"\n{traceback_text(error)}"
        scope.attempt.log(f"no cache key could be made: the result will not be kept{told}", logging.ERROR)
        return None
    return key


async def look_up(key: str, task: TaskDefinition, context: RunContext, way: Way) -> Any:
    """Return the result kept under ``key``, or :data:`MISS`."""
    kept = context.memory.get(key)
    if kept is not None:
        value, expires = kept
        if expires is None or expires > context.clock.now():
            return value
        del context.memory[key]
    try:
        hit = await way.ask(context, CacheQuestion(key=key))
    except BlockingInLoopError as error:
        _warn_once(context, task, "loop", f"its cache cannot be looked up here: {error}")
        return MISS
    if hit is None:
        return MISS
    value = hit["value"] if isinstance(hit, dict) else hit.value
    returns = task.signature.hints.get("return", Any)
    if returns is Any or isinstance(value, _ATOMS):
        return value
    try:
        return convert(value, returns)
    except (ValueError, TypeError):
        return value  # declared otherwise than it was when it was kept


def publish(key: str, value: Any, task: TaskDefinition, context: RunContext, expires: datetime | None) -> None:
    """Keep a result under ``key``: for everybody if it is JSON, else for the rest of this attempt alone."""
    context.memory[key] = (value, expires)
    document = as_json(value, task)
    if document is MISS:
        _warn_once(
            context,
            task,
            "json",
            f"its result, {type(value).__name__}, is not JSON and is kept for this run only; "
            "declare what it returns (-> a dataclass, a model), or return JSON",
        )
        return
    try:
        context.recorder.report(CacheReport(key=key, value=document, expires=expires))
    except ValueError as error:
        _warn_once(context, task, "size", f"its result is kept for this run only: {error}")


def as_json(value: Any, task: TaskDefinition) -> Any:
    """Return a result as JSON that gives the same value back, else :data:`MISS`."""
    if isinstance(value, _ATOMS) and type(value) in _ATOMS:
        return MISS if isinstance(value, float) and not math.isfinite(value) else value
    if _plain(value):
        try:
            canonical(value, limit=MAX_ARTIFACT_BYTES)
        except ValueError:
            return MISS
        return value
    returns = task.signature.hints.get("return", Any)
    if returns is Any:
        return MISS
    try:
        document = value.model_dump(mode="json") if hasattr(value, "model_dump") else msgspec.to_builtins(value)
        canonical(document, limit=MAX_ARTIFACT_BYTES)
        return document if convert(document, returns) == value else MISS
    except Exception:
        return MISS


def _plain(value: Any) -> bool:
    """Whether JSON gives back exactly this value."""
    if type(value) is list:
        return all(_plain(each) for each in value)
    if type(value) is dict:
        return all(type(name) is str and _plain(each) for name, each in value.items())
    return type(value) in _ATOMS


def _warn_once(context: RunContext, task: TaskDefinition, what: str, text: str) -> None:
    if (task.task_key, what) not in _WARNED:
        _WARNED.add((task.task_key, what))
        context.log(f"task {task.name}: {text}", logging.WARNING)
