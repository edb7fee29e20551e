"""Flows: functions whose runs are recorded, retried, timed and scheduled."""

from __future__ import annotations

import copy
import types
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Generic, ParamSpec, TypeVar, overload

from tidemill.sdk.connect import script_run, script_run_async
from tidemill.sdk.context import current
from tidemill.sdk.definitions import FlowDefinition, Hook, NotSet
from tidemill.sdk.driver import drive
from tidemill.sdk.flow_engine import run_flow
from tidemill.sdk.parameters import Signature
from tidemill.sdk.serving import ServedFlow, serve, to_deployment
from tidemill.sdk.signatures import signature_of
from tidemill.sdk.ways import AWAITING, BLOCKING

P = ParamSpec("P")
R = TypeVar("R")

_OPTIONS = (
    "name", "version", "flow_run_name", "retries", "retry_delay_seconds", "retry_jitter_factor", "task_runner",
    "description", "timeout_seconds", "validate_parameters", "persist_result", "result_storage", "result_serializer",
    "cache_result_in_memory", "log_prints", "on_completion", "on_failure", "on_cancellation", "on_crashed",
    "on_running",
)  # fmt: skip


class Flow(FlowDefinition, Generic[P, R]):
    """A function marked ``@flow``. ``fn`` is the function itself, to be called without the engine."""

    def __get__(self, instance: Any, owner: type | None = None) -> Flow[..., Any]:
        if self.binding == "staticmethod" or (instance is None and self.binding is None):
            return self
        return self._bound(owner if self.binding == "classmethod" else instance)

    def _bound(self, to: Any) -> Flow[..., Any]:
        bound = copy.copy(self)
        bound.fn = types.MethodType(self.fn, to)
        bound.bound_to = to
        bound.signature = Signature(bound.fn)
        bound.checked = signature_of(bound.fn)
        return bound

    def __call__(self, *args: Any, return_state: bool = False, wait_for: Any = None, **kwargs: Any) -> Any:
        """Run the flow and return its result, or its state with ``return_state``. An async flow is to be awaited.

        In another flow this is a subflow with a flow run of its own. In a script the run is reported to the daemon if
        one is found, else told on standard error.
        """
        parameters = self.signature.bind(args, kwargs)
        context = current.get()
        if context is not None:
            way = AWAITING if self.isasync else BLOCKING
            call = run_flow(self, parameters, context, way, wait_for=wait_for, return_state=return_state)
            return call if self.isasync else drive(call)
        if self.isasync:
            return script_run_async(self, parameters, wait_for=wait_for, return_state=return_state)
        return script_run(self, parameters, wait_for=wait_for, return_state=return_state)

    def validate_parameters(self, parameters: dict[str, Any]) -> dict[str, Any]:
        """Return parameters coerced by the annotations; raises ``ParameterTypeError``."""
        return self.signature.coerced(parameters)

    def with_options(self, **options: Any) -> Flow[P, R]:
        """Return the same flow with other options, by the names that :func:`flow` takes."""
        unknown = [name for name in options if name not in _OPTIONS]
        if unknown:
            raise TypeError(f"with_options has no {', '.join(unknown)}; it takes {', '.join(_OPTIONS)}")
        now: dict[str, Any] = {
            "validate_parameters": self.should_validate_parameters,
            **{name: getattr(self, name) for name in _OPTIONS if name not in _SPECIAL},
            **{name: list(getattr(self, f"{name}_hooks")) for name in _OPTIONS if name.startswith("on_")},
        }
        given = {name: value for name, value in options.items() if value is not NotSet}
        fn = self.fn.__func__ if isinstance(self.fn, types.MethodType) and self.bound_to is not None else self.fn
        if self.binding is not None:
            fn = (staticmethod if self.binding == "staticmethod" else classmethod)(fn)  # type: ignore[assignment]
        made: Flow[P, R] = Flow(fn, **{**now, **given})
        return made if self.bound_to is None else made._bound(self.bound_to)  # type: ignore[return-value]

    def to_deployment(self, name: str | None = None, **options: Any) -> ServedFlow:
        """Return a deployment of this flow for :func:`serve`, with the options that :meth:`serve` takes."""
        return to_deployment(self, name, **options)

    def serve(
        self,
        name: str | None = None,
        *,
        state_dir: Path | str | None = None,
        listen: Iterable[str] = (),
        **options: Any,
    ) -> None:
        """Run a daemon with this flow as a deployment in place of this process, until Ctrl-C; does not come back.

        ``interval`` (seconds or a timedelta), ``cron``, ``rrule`` or ``at``, with ``timezone``; ``parameters``,
        ``tags``, ``description``, ``version``, ``paused``, ``concurrency_limit``, ``work_pool_name`` ("process").
        ``state_dir`` and ``listen`` as in :func:`serve`.
        """
        serve(to_deployment(self, name, **options), state_dir=state_dir, listen=listen)

    # --- hooks, as decorators ---------------------------------------------------------------------------------------

    def on_completion(self, fn: Hook) -> Hook:
        """Call ``fn(flow, flow_run, state)`` when a run completes."""
        self.on_completion_hooks.append(fn)
        return fn

    def on_failure(self, fn: Hook) -> Hook:
        """Call ``fn(flow, flow_run, state)`` when a run fails."""
        self.on_failure_hooks.append(fn)
        return fn

    def on_cancellation(self, fn: Hook) -> Hook:
        """Call ``fn(flow, flow_run, state)`` when a run is cancelled."""
        self.on_cancellation_hooks.append(fn)
        return fn

    def on_crashed(self, fn: Hook) -> Hook:
        """Call ``fn(flow, flow_run, state)`` when a run is ended from outside its code."""
        self.on_crashed_hooks.append(fn)
        return fn

    def on_running(self, fn: Hook) -> Hook:
        """Call ``fn(flow, flow_run, state)`` when a run begins."""
        self.on_running_hooks.append(fn)
        return fn

    def __repr__(self) -> str:
        return f"Flow({self.name!r})"


_SPECIAL = frozenset({"validate_parameters", *(name for name in _OPTIONS if name.startswith("on_"))})


class PlainFlow(FlowDefinition):
    """A function without the decorator, named as an entrypoint: its prints are kept, its parameters are its own."""

    plain = True

    def __init__(self, fn: Callable[..., Any]) -> None:
        super().__init__(fn, validate_parameters=False)


def as_flow(function: Any) -> FlowDefinition:
    """Return what an entrypoint names as a flow: a Flow as it is, a plain function as one."""
    return function if isinstance(function, FlowDefinition) else PlainFlow(function)


@overload
def flow(fn: Callable[P, R], /) -> Flow[P, R]: ...


@overload
def flow(
    fn: None = None,
    /,
    *,
    name: str | None = None,
    version: str | None = None,
    flow_run_name: str | Callable[[], str] | None = None,
    retries: int | None = None,
    retry_delay_seconds: float | list[float] | Callable[[int], list[float]] | None = None,
    retry_jitter_factor: float | None = None,
    task_runner: Any = None,
    description: str | None = None,
    timeout_seconds: float | None = None,
    validate_parameters: bool = True,
    persist_result: bool | None = None,
    result_storage: Any = None,
    result_serializer: Any = None,
    cache_result_in_memory: bool = True,
    log_prints: bool | None = None,
    on_completion: Iterable[Hook] | None = None,
    on_failure: Iterable[Hook] | None = None,
    on_cancellation: Iterable[Hook] | None = None,
    on_crashed: Iterable[Hook] | None = None,
    on_running: Iterable[Hook] | None = None,
) -> Callable[[Callable[P, R]], Flow[P, R]]: ...


def flow(fn: Any = None, /, **options: Any) -> Any:
    """Mark a function, sync or async, as a flow; with or without arguments.

    name: what the flow is called; the function's name with dashes if None.
    version: a text.
    flow_run_name: a template over the parameters ("load-{region}"), or a function of nothing.
    retries: how many further attempts a failed run gets; a deployment's own ``retries`` goes before it.
    retry_delay_seconds: a number, a list (the last one repeats), or a function of ``retries`` that gives a list.
    retry_jitter_factor: stretches each delay at random by up to this factor.
    task_runner: ``ThreadPoolTaskRunner(max_workers=8)`` bounds how many submitted tasks run at a time.
    description: a text; the docstring if None.
    timeout_seconds: the time of one attempt; over it the state is Failed, named TimedOut.
    validate_parameters: whether parameters are checked and coerced by their annotations.
    persist_result: whether its tasks' results are kept, where they do not say so themselves.
    log_prints: whether prints go to the run's log; None: as the parent flow has it, else not.
    on_completion, on_failure, on_cancellation, on_crashed, on_running: lists of ``(flow, flow_run, state)``.
    result_storage, result_serializer, cache_result_in_memory: taken as Prefect's, so that a flow need not be changed;
        the daemon keeps results as JSON in its database.

    Raises ``TypeError`` and ``ValueError`` for options that make no sense.

    >>> @flow
    ... def greet(name: str = "world") -> str:
    ...     return f"hello {name}"
    >>> greet.fn("Ada")
    'hello Ada'
    """
    if fn is not None:
        return Flow(fn)
    return lambda function: Flow(function, **options)
