"""Tasks: steps of a flow that are retried, timed, cached, logged and recorded on their own."""

from __future__ import annotations

import copy
import types
from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Any, Generic, ParamSpec, TypeVar, overload

from tidemill.sdk.annotations import Annotation, allow_failure, opaque, quote, unmapped
from tidemill.sdk.caching import CachePolicy
from tidemill.sdk.connect import outside
from tidemill.sdk.context import NoRunError, current
from tidemill.sdk.definitions import Hook, NotSet, TaskDefinition
from tidemill.sdk.driver import drive
from tidemill.sdk.exceptions import MappingLengthMismatch, MappingMissingIterable
from tidemill.sdk.futures import FutureList, TaskFuture
from tidemill.sdk.parameters import Signature
from tidemill.sdk.resolving import resolve
from tidemill.sdk.scopes import FlowRunContext
from tidemill.sdk.task_engine import run_task
from tidemill.sdk.ways import AWAITING, BLOCKING

P = ParamSpec("P")
R = TypeVar("R")

# What with_options may change; the rest belongs to the function.
_OPTIONS = (
    "name", "description", "tags", "version", "cache_policy", "cache_key_fn", "cache_expiration", "task_run_name",
    "retries", "retry_delay_seconds", "retry_jitter_factor", "persist_result", "result_storage", "result_serializer",
    "result_storage_key", "cache_result_in_memory", "timeout_seconds", "log_prints", "refresh_cache", "on_completion",
    "on_failure", "on_running", "on_rollback", "on_commit", "retry_condition_fn", "viz_return_value", "asset_deps",
)  # fmt: skip


class Task(TaskDefinition, Generic[P, R]):
    """A function marked ``@task``. ``fn`` is the function itself, to be called without the engine."""

    def __get__(self, instance: Any, owner: type | None = None) -> Task[..., Any]:
        if self.binding == "staticmethod" or (instance is None and self.binding is None):
            return self
        return self._bound(owner if self.binding == "classmethod" else instance)

    def _bound(self, to: Any) -> Task[..., Any]:
        bound = copy.copy(self)
        bound.fn = types.MethodType(self.fn, to)
        bound.bound_to = to
        bound.signature = Signature(bound.fn)
        return bound

    def __call__(self, *args: Any, return_state: bool = False, wait_for: Any = None, **kwargs: Any) -> Any:
        """Run the task and return its result, or its state with ``return_state``. An async task is to be awaited.

        ``wait_for``: futures or states that must have completed before, though nothing of them is passed.
        """
        parameters = self.signature.bind(args, kwargs)
        context = current.get()
        if context is None:
            if self.isasync:
                return self._outside_async(parameters, return_state, wait_for)
            with outside() as context:
                return drive(
                    run_task(self, parameters, context, BLOCKING, wait_for=wait_for, return_state=return_state)
                )
        if self.isasync:
            return run_task(self, parameters, context, AWAITING, wait_for=wait_for, return_state=return_state)
        return drive(run_task(self, parameters, context, BLOCKING, wait_for=wait_for, return_state=return_state))

    async def _outside_async(self, parameters: dict[str, Any], return_state: bool, wait_for: Any) -> Any:
        with outside() as context:
            return await run_task(self, parameters, context, AWAITING, wait_for=wait_for, return_state=return_state)

    def submit(self, *args: Any, return_state: bool = False, wait_for: Any = None, **kwargs: Any) -> Any:
        """Have the task run beside the flow and return its future at once; its state, once it has ended, with
        ``return_state``. Raises ``NoRunError`` outside a flow."""
        parameters = self.signature.bind(args, kwargs)
        flow = _flow("submit")
        future: TaskFuture[Any] = flow.task_runner.submit(self, parameters, wait_for, flow)
        if not return_state:
            return future
        future.wait()
        return future.state

    def map(self, *args: Any, return_state: bool = False, wait_for: Any = None, **kwargs: Any) -> Any:
        """Submit the task once for each item of the iterable arguments, which are equally long, and return the futures.

        What is not iterable is given to every call, as is what stands in ``unmapped``. A future among the arguments is
        waited for first. Raises ``MappingMissingIterable`` and ``MappingLengthMismatch``.
        """
        given = self.signature.bind(args, kwargs, defaults=False)
        flow = _flow("map")
        futures = FutureList()
        submit = flow.task_runner.submit
        for parameters in self._each(given):
            futures.append(submit(self, parameters, wait_for, flow))
        if not return_state:
            return futures
        futures.wait()
        return [future.state for future in futures]

    def _each(self, given: dict[str, Any]) -> Iterable[dict[str, Any]]:
        """Yield the parameters of each mapped call."""
        keywords = self.signature.keywords
        if keywords is not None and keywords in given:
            given = {name: value for name, value in given.items() if name != keywords} | given[keywords]
        mapped: dict[str, list[Any]] = {}
        fixed: dict[str, Any] = {}
        marks: dict[str, Annotation[Any]] = {}
        for name, value in given.items():
            if isinstance(value, unmapped):
                fixed[name] = value.value
                continue
            if isinstance(value, allow_failure | quote | opaque):
                marks[name], value = value, value.value  # noqa: PLW2901
                if isinstance(value, unmapped):
                    fixed[name] = marks[name].rewrap(value.value)
                    continue
            if not isinstance(value, FutureList) and not (isinstance(marks.get(name), allow_failure)):
                value = resolve(value, deep=False)  # noqa: PLW2901
            if _iterable(value):
                mapped[name] = list(value)
            else:
                fixed[name] = marks[name].rewrap(value) if name in marks else value
        if not mapped:
            raise MappingMissingIterable(given)
        lengths = {name: len(values) for name, values in mapped.items()}
        if len(set(lengths.values())) > 1:
            raise MappingLengthMismatch(lengths)
        names = list(mapped)
        for values in zip(*mapped.values(), strict=True):
            call = dict(fixed)
            for name, value in zip(names, values, strict=True):
                call[name] = marks[name].rewrap(value) if name in marks else value
            yield self._filled(call)

    def _filled(self, call: dict[str, Any]) -> dict[str, Any]:
        signature = self.signature
        if signature.variadic is None and signature.keywords is None:
            return signature.bind((), call)
        extra = {name: call.pop(name) for name in list(call) if name not in signature.parameters}
        variadic = call.pop(signature.variadic) if signature.variadic in call else ()
        filled = {name: p.default for name, p in signature.parameters.items() if p.default is not p.empty} | call
        if signature.variadic is not None:
            filled[signature.variadic] = variadic
        if signature.keywords is not None:
            filled[signature.keywords] = extra
        return filled

    def with_options(self, **options: Any) -> Task[P, R]:
        """Return the same task with other options, by the names that :func:`task` takes."""
        unknown = [name for name in options if name not in _OPTIONS]
        if unknown:
            raise TypeError(f"with_options has no {', '.join(unknown)}; it takes {', '.join(_OPTIONS)}")
        now: dict[str, Any] = {
            "cache_policy": self.user_cache_policy,
            "persist_result": self.user_persist_result,
            **{name: getattr(self, name) for name in _OPTIONS if hasattr(self, name) and name not in _SPECIAL},
            **{name: list(getattr(self, f"{name}_hooks")) for name in _OPTIONS if name.startswith("on_")},
        }
        given = {name: value for name, value in options.items() if value is not NotSet}
        made: Task[P, R] = Task(self._unbound(), **{**now, **given})
        if self.bound_to is not None:
            return made._bound(self.bound_to)  # type: ignore[return-value]
        return made

    def _unbound(self) -> Callable[..., Any]:
        fn = self.fn.__func__ if isinstance(self.fn, types.MethodType) and self.bound_to is not None else self.fn
        if self.binding == "staticmethod":
            return staticmethod(fn)
        return classmethod(fn) if self.binding == "classmethod" else fn  # type: ignore[return-value]

    # --- hooks, as decorators ---------------------------------------------------------------------------------------

    def on_completion(self, fn: Hook) -> Hook:
        """Call ``fn(task, task_run, state)`` when a run completes."""
        self.on_completion_hooks.append(fn)
        return fn

    def on_failure(self, fn: Hook) -> Hook:
        """Call ``fn(task, task_run, state)`` when a run fails, after its last retry."""
        self.on_failure_hooks.append(fn)
        return fn

    def on_running(self, fn: Hook) -> Hook:
        """Call ``fn(task, task_run, state)`` when a run begins, and begins again."""
        self.on_running_hooks.append(fn)
        return fn

    def on_commit(self, fn: Hook) -> Hook:
        """Call ``fn(transaction)`` when the run's transaction commits."""
        self.on_commit_hooks.append(fn)
        return fn

    def on_rollback(self, fn: Hook) -> Hook:
        """Call ``fn(transaction)`` when the run's transaction is rolled back."""
        self.on_rollback_hooks.append(fn)
        return fn

    def __repr__(self) -> str:
        return f"Task({self.name!r})"


_SPECIAL = frozenset({"cache_policy", "persist_result", *(name for name in _OPTIONS if name.startswith("on_"))})


def _flow(what: str) -> FlowRunContext:
    flow = FlowRunContext.get()
    if flow is None:
        raise NoRunError(f"task.{what}() belongs into a flow; outside of one, call the task itself")
    return flow


def _iterable(value: Any) -> bool:
    if isinstance(value, str | bytes | bytearray | Annotation | TaskFuture):
        return False
    return hasattr(value, "__iter__") or (hasattr(value, "__getitem__") and hasattr(value, "__len__"))


@overload
def task(fn: Callable[P, R], /) -> Task[P, R]: ...


@overload
def task(
    fn: None = None,
    /,
    *,
    name: str | None = None,
    description: str | None = None,
    tags: Iterable[str] | None = None,
    version: str | None = None,
    cache_policy: CachePolicy | None = NotSet,
    cache_key_fn: Callable[..., str | None] | None = None,
    cache_expiration: timedelta | None = None,
    task_run_name: str | Callable[..., str] | None = None,
    retries: int | None = None,
    retry_delay_seconds: float | list[float] | Callable[[int], list[float]] | None = None,
    retry_jitter_factor: float | None = None,
    persist_result: bool | None = None,
    result_storage: Any = None,
    result_serializer: Any = None,
    result_storage_key: str | None = None,
    cache_result_in_memory: bool = True,
    timeout_seconds: float | None = None,
    log_prints: bool | None = None,
    refresh_cache: bool | None = None,
    on_completion: Iterable[Hook] | None = None,
    on_failure: Iterable[Hook] | None = None,
    on_running: Iterable[Hook] | None = None,
    on_rollback: Iterable[Hook] | None = None,
    on_commit: Iterable[Hook] | None = None,
    retry_condition_fn: Callable[..., Any] | None = None,
    viz_return_value: Any = None,
    asset_deps: Any = None,
) -> Callable[[Callable[P, R]], Task[P, R]]: ...


def task(fn: Any = None, /, **options: Any) -> Any:
    """Mark a function, sync or async, as a task; with or without arguments.

    name: what the task is called; the function's name if None.
    description: a text; the docstring if None.
    tags: texts that each run carries, beside those of ``tags(...)``. A tag with a limit (``[tag_limits]``) bounds how
        many runs that carry it run at a time.
    version: a text.
    task_run_name: a template over the arguments ("load-{region}"), or a function of nothing or of ``parameters``.
    retries: how many further attempts a failure gets.
    retry_delay_seconds: a number, a list (the last one repeats), or a function of ``retries`` that gives a list, such
        as ``exponential_backoff(10)``.
    retry_jitter_factor: stretches each delay at random by up to this factor.
    retry_condition_fn: ``(task, task_run, state) -> bool``; False: this failure is not retried.
    timeout_seconds: the time of one attempt; over it the state is Failed, named TimedOut. Sync code that blocks in one
        call is interrupted in a process's main thread only.
    log_prints: whether prints go to the run's log; None: as the flow has it.
    cache_policy: what the cache key is made of: INPUTS, TASK_SOURCE, RUN_ID, FLOW_PARAMETERS, their sums, NO_CACHE.
    cache_key_fn: ``(context, parameters) -> key or None``, in place of a policy.
    cache_expiration: a timedelta after which a kept result no longer counts; None: never.
    refresh_cache: run and keep anew, whatever is kept.
    persist_result: whether results are kept; None: if a policy or key is given, else as the flow has it.
    on_completion, on_failure, on_running: lists of ``(task, task_run, state)``.
    on_rollback, on_commit: lists of ``(transaction)``.
    result_storage, result_serializer, result_storage_key, cache_result_in_memory, viz_return_value, asset_deps: taken
        as Prefect's, so that a flow need not be changed; the daemon keeps results as JSON in its database.

    Raises ``TypeError`` and ``ValueError`` for options that make no sense.

    >>> @task(retries=2)
    ... def double(x):
    ...     return 2 * x
    >>> double.fn(4)
    8
    """
    if fn is not None:
        return Task(fn)
    return lambda function: Task(function, **options)
