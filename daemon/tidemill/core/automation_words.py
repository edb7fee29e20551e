"""What an automation waits for and does, in words."""

from __future__ import annotations

from collections.abc import Sequence

from tidemill.core.automations import (
    Action,
    AllCompleted,
    ArtifactChanges,
    Cancel,
    Condition,
    EntersState,
    InARow,
    IsLate,
    NoneWithin,
    Of,
    Pause,
    Resume,
    Run,
    Tell,
)
from tidemill.core.placeholders import ABOUT_DEPLOYMENT, ABOUT_RUN
from tidemill.durations import format_duration


def condition_text(condition: Condition) -> str:
    """Return a condition in a few words: ``a run of report is Failed``."""
    match condition:
        case EntersState():
            text = f"{_run(condition.of)} is {_listed(condition.states, 'or')}"
            return text if condition.stays is None else f"{text} for {format_duration(condition.stays)}"
        case IsLate():
            return f"{_run(condition.of)} is late by {format_duration(condition.by)}"
        case NoneWithin():
            whose = _listed(condition.deployments, "or")
            text = f"no {_listed(condition.states, 'or')} run of {whose} for {format_duration(condition.within)}"
            return text if condition.repeat is None else f"{text}, again every {format_duration(condition.repeat)}"
        case InARow():
            whose = _listed(condition.of.deployments or ("a deployment",), "or") + _tagged(condition.of)
            return f"{whose} fails {condition.count} times in a row"
        case ArtifactChanges():
            by = "" if condition.deployments is None else f" by {_listed(condition.deployments, 'or')}"
            return f"artifact {_listed(condition.keys, 'or')} changes{by}"
        case AllCompleted():
            within = "" if condition.within is None else f" within {format_duration(condition.within)}"
            return f"{_listed(condition.deployments, 'and')} completed{within}"


def action_text(action: Action) -> str:
    """Return an action in a few words: ``tell default``, ``run clean-up``."""
    match action:
        case Tell():
            return f"tell {action.channel}"
        case Run():
            return f"run {action.deployment}"
        case Pause() | Resume():
            verb = "pause" if isinstance(action, Pause) else "resume"
            if action.name == ABOUT_DEPLOYMENT:
                return f"{verb} the deployment"
            kind = "" if action.kind == "deployment" else f"{action.kind.replace('_', ' ')} "
            return f"{verb} {kind}{action.name}"
        case Cancel():
            return "cancel the run" if action.what == ABOUT_RUN else f"cancel the runs of {action.what}"


def _run(of: Of) -> str:
    whose = "" if of.deployments is None else f" of {_listed(of.deployments, 'or')}"
    return f"a run{whose}{_tagged(of)}"


def _tagged(of: Of) -> str:
    return f" tagged {_listed(of.tags, 'and')}" if of.tags else ""


def _listed(words: Sequence[str], link: str) -> str:
    return f"{', '.join(words[:-1])} {link} {words[-1]}" if words[1:] else words[0]
