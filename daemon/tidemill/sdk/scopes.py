"""Where in a flow the running code is: its flow run, and its task run if it is in one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import count
from typing import Any

from tidemill.sdk.context import NoRunError, RunContext, Scope, current_scope
from tidemill.sdk.definitions import FlowDefinition, TaskDefinition
from tidemill.sdk.runs import FlowRun, TaskRun

_tags: ContextVar[frozenset[str]] = ContextVar("tidemill_tags", default=frozenset())


class FlowRunContext(Scope):
    """A flow run that is going on. ``attempt`` is the run of the daemon's that it belongs to."""

    __slots__ = (
        "attempt",
        "flow",
        "flow_run",
        "free_tags",
        "keys",
        "make_submissions",
        "parameters",
        "parent",
        "persist_result",
        "submissions",
    )

    def __init__(
        self,
        *,
        attempt: RunContext,
        flow: FlowDefinition,
        flow_run: FlowRun,
        parameters: dict[str, Any],
        make_submissions: Callable[[], Any],
        parent: FlowRunContext | None,
        subflow_id: str | None,
        log_prints: bool,
        persist_result: bool,
    ) -> None:
        super().__init__(subflow_id, None, log_prints)
        self.attempt = attempt
        self.flow = flow
        self.flow_run = flow_run
        self.parameters = parameters
        self.make_submissions = make_submissions
        self.submissions: Any = None  # made by the first task that is submitted
        self.parent = parent
        self.persist_result = persist_result
        self.keys: dict[str, Iterator[int]] = {}
        self.free_tags: set[frozenset[str]] = set()  # sets of tags that have no limit

    def next_key(self, task_key: str) -> int:
        """Return how many runs of the task there were before in this flow run."""
        keys = self.keys.get(task_key)
        if keys is None:
            keys = self.keys.setdefault(task_key, count())
        return next(keys)

    @property
    def task_runner(self) -> Any:
        """What carries the submitted tasks of this flow run."""
        if self.submissions is None:
            self.submissions = self.make_submissions()
        return self.submissions

    @staticmethod
    def get() -> FlowRunContext | None:
        """Return the flow run that the calling code belongs to, if any."""
        scope = current_scope.get()
        if isinstance(scope, TaskRunContext):
            return scope.flow_run_context
        return scope if isinstance(scope, FlowRunContext) else None


class TaskRunContext(Scope):
    """A task run that is going on."""

    __slots__ = ("attempt", "flow_run_context", "parameters", "persist_result", "task", "task_run")

    def __init__(
        self,
        *,
        attempt: RunContext,
        task: TaskDefinition,
        task_run: TaskRun,
        parameters: dict[str, Any],
        flow_run_context: FlowRunContext | None,
        log_prints: bool,
        persist_result: bool,
    ) -> None:
        super().__init__(task_run.subflow_id, task_run.id, log_prints)
        self.attempt = attempt
        self.task = task
        self.task_run = task_run
        self.parameters = parameters
        self.flow_run_context = flow_run_context
        self.persist_result = persist_result

    @staticmethod
    def get() -> TaskRunContext | None:
        """Return the task run that the calling code belongs to, if any."""
        scope = current_scope.get()
        return scope if isinstance(scope, TaskRunContext) else None


def get_run_context() -> FlowRunContext | TaskRunContext:
    """Return the task run's context, else the flow run's; raises ``MissingContextError`` outside of both."""
    scope = current_scope.get()
    if isinstance(scope, TaskRunContext | FlowRunContext):
        return scope
    raise NoRunError("this code does not run inside a flow or task run; call it from one")


@contextmanager
def tags(*names: str) -> Iterator[frozenset[str]]:
    """Give further tags to the flow and task runs that begin inside.

    >>> with tags("etl", "nightly") as every:
    ...     sorted(every)
    ['etl', 'nightly']
    """
    token = _tags.set(_tags.get() | frozenset(names))
    try:
        yield _tags.get()
    finally:
        _tags.reset(token)


def current_tags() -> frozenset[str]:
    """Return the tags that runs get which begin here."""
    return _tags.get()


def set_tags(names: frozenset[str]) -> Any:
    """Set the tags for this context; give the token back to :func:`reset_tags`."""
    return _tags.set(names)


def reset_tags(token: Any) -> None:
    _tags.reset(token)
