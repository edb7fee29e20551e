"""Whether what automations give to the runs they make fits the flows.

What holds a placeholder is passed over: what it will be is not known before something has happened.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tidemill.config import Loaded
from tidemill.config.documents import dotted
from tidemill.core.automations import Run
from tidemill.core.deployments import Deployment, FlowKind
from tidemill.core.placeholders import fill_all, holds
from tidemill.errors import Fault
from tidemill.flows.builtins import BuiltinFlow
from tidemill.sdk.findings import Finding
from tidemill.sdk.signatures import Signature, check_parameters


def automation_faults(loaded: Loaded, builtins: Mapping[str, BuiltinFlow]) -> list[Fault]:
    """Return what is wrong with what is given to runs of built-in flows."""
    faults: list[Fault] = []
    for name, deployment, parameters in _given(loaded):
        if deployment.flow.kind is FlowKind.BUILTIN:
            check = builtins[deployment.flow.entrypoint].check
            own = check(deployment.parameters)
            findings = [each for each in check({**deployment.parameters, **parameters}) if each not in own]
            faults += [_fault(loaded, name, deployment, finding) for finding in findings]
    return faults


def automation_warnings(loaded: Loaded, signatures: Mapping[str, Signature]) -> list[Fault]:
    """Return what is wrong with what is given to runs of Python flows: such a run will not be made."""
    warnings: list[Fault] = []
    for name, deployment, parameters in _given(loaded):
        signature = signatures.get(deployment.flow.entrypoint)
        findings = check_parameters(signature, parameters) if signature is not None else []
        warnings += [_fault(loaded, name, deployment, each) for each in findings if each.path in parameters]
    return warnings


def _given(loaded: Loaded) -> list[tuple[str, Deployment, dict[str, Any]]]:
    """Return (automation, deployment, parameters) of every run that an automation may make."""
    settings = loaded.settings
    return [
        (name, settings.deployments[action.deployment], known)
        for name, automation in settings.automations.items()
        for action in automation.then
        if isinstance(action, Run) and action.deployment in settings.deployments
        for known in ({key: fill_all(each, {}) for key, each in action.parameters.items() if not holds(each)},)
        if known
    ]


def _fault(loaded: Loaded, name: str, deployment: Deployment, finding: Finding) -> Fault:
    problem = f"gives {deployment.name} the parameter {finding.path}: {finding.problem}"
    return loaded.fault(dotted(("automations", name, "then")), problem, finding.remedy)
