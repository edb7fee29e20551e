"""Hooks: functions that a flow or task wants called when its run enters a state. They never change the outcome."""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterable
from typing import Any

from tidemill.sdk.context import RunContext
from tidemill.sdk.definitions import FlowDefinition, Hook, TaskDefinition
from tidemill.sdk.outcomes import traceback_text
from tidemill.sdk.states import State
from tidemill.sdk.ways import Way


def hook_name(hook: Hook) -> str:
    """Return what a hook is called in the log."""
    if isinstance(hook, functools.partial):
        hook = hook.func
    return getattr(hook, "__name__", type(hook).__name__)


def task_hooks(task: TaskDefinition, state: State) -> list[Hook]:
    """Return the hooks for a state of a task run."""
    if state.is_completed():
        return task.on_completion_hooks
    if state.is_failed():
        return task.on_failure_hooks
    return task.on_running_hooks if state.is_running() else []


def flow_hooks(flow: FlowDefinition, state: State) -> list[Hook]:
    """Return the hooks for a state of a flow run."""
    if state.is_completed():
        return flow.on_completion_hooks
    if state.is_failed():
        return flow.on_failure_hooks
    if state.is_running():
        return flow.on_running_hooks
    if state.is_crashed():
        return flow.on_crashed_hooks
    return flow.on_cancellation_hooks if state.is_cancelling() else []


async def run_hooks(
    hooks: Iterable[Hook],
    definition: TaskDefinition | FlowDefinition,
    run: Any,
    state: State,
    context: RunContext,
    way: Way,
) -> None:
    """Call hooks one after another; what one raises is told in the log and keeps nobody else from being called."""
    for hook in list(hooks):
        name = hook_name(hook)
        context.log(f"Running hook {name!r} in response to entering state {state.name!r}", logging.INFO)
        try:
            await way.finish(hook(definition, run, state))
        except (Exception, SystemExit) as error:
            told = traceback_text(error)
            context.log(f"An error was encountered while running hook {name!r}\n{told}", logging.ERROR)
        else:
            context.log(f"Hook {name!r} finished running successfully", logging.INFO)
