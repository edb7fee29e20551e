"""Whether deployments fit their flows: what the configuration's text cannot tell, because code has to be asked.

Built-in flows are asked directly. Python entrypoints are imported in a child process first, with a time limit: an
import can hang, exit or crash, and must not do so in the daemon.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from tidemill.config import BrokenConfigError, Loaded
from tidemill.config.documents import dotted, key_path
from tidemill.config.keys import SOURCES
from tidemill.config.positions import KeyPath
from tidemill.core.deployments import Deployment, FlowKind, PoolType
from tidemill.errors import Fault, TidemillError
from tidemill.flows.builtins import BuiltinFlow
from tidemill.sdk import interpreters
from tidemill.sdk.findings import Finding
from tidemill.sdk.probe import Probed, probe
from tidemill.sdk.signatures import Signature, check_parameters, misfits
from tidemill.services.automations.fitness import automation_faults, automation_warnings

OTHERS = 3  # deployments named beside the first, in a warning for all of them


def builtin_faults(loaded: Loaded, builtins: Mapping[str, BuiltinFlow]) -> list[Fault]:
    """Return what is wrong with the parameters of deployments of built-in flows, in the file's own terms."""
    faults: list[Fault] = []
    for deployment in loaded.settings.deployments.values():
        if deployment.flow.kind is FlowKind.BUILTIN:
            findings = builtins[deployment.flow.entrypoint].check(deployment.parameters)
            faults += [_fault(loaded, deployment, finding) for finding in findings]
    faults += automation_faults(loaded, builtins)
    return faults


def further_faults(error: BrokenConfigError, builtins: Mapping[str, BuiltinFlow]) -> list[Fault]:
    """Return the faults of built-in flows' parameters beside those of a text that has faults itself.

    What the text's own faults are about already is not told a second time.
    """
    told = [_subject(fault) for fault in error.faults]
    found = [(_subject(fault), fault) for fault in builtin_faults(error.rest, builtins)]
    return [fault for at, fault in found if not any(at[: len(each)] == each[: len(at)] for each in told)]


def _subject(fault: Fault) -> KeyPath:
    """Return what a fault is about: its key, and of a deployment's keys that say what runs, all of them."""
    path = key_path(fault.key)
    at = 3 if path[2:3] == ("parameters",) and path[3:] else 2
    if path[:1] != ("deployments",) or len(path) <= at:
        return path
    return path[:2] + (("flow",) if path[at] in SOURCES else path[at:])


class Fitness(msgspec.Struct, frozen=True, kw_only=True):
    """What importing the Python entrypoints has shown."""

    signatures: Mapping[str, Signature] = {}  # by entrypoint
    faults: Mapping[str, tuple[Fault, ...]] = {}  # by deployment: what keeps it from running
    warnings: tuple[Fault, ...] = ()


def entrypoint_fitness(loaded: Loaded, environ: Mapping[str, str]) -> Fitness:
    """Import every Python entrypoint in a child process, and hold its deployments against it.

    Those of process pools are imported by their pool's interpreter. Blocks: from a loop, call it in a thread.
    ``environ`` is the daemon's environment, of which code in a process of its own gets next to nothing.
    """
    settings = loaded.settings
    # What Dask workers have installed, nobody here can try.
    python = [
        each
        for each in settings.deployments.values()
        if each.flow.kind is not FlowKind.BUILTIN and settings.work_pools[each.work_pool].type != PoolType.DASK
    ]
    if not python:
        return Fitness()
    probed: dict[tuple[str | None, str], Mapping[str, Probed]] = {}
    given: dict[str, list[dict[str, Any]]] = {}  # parameters of the deployments of an entrypoint
    places: dict[str, int] = {}  # whose are which
    for place in dict.fromkeys((each.python, each.work_pool) for each in python):
        interpreter, name = place
        pool = settings.work_pools[name]
        here = [each for each in python if (each.python, each.work_pool) == place]
        for each in here:
            given.setdefault(each.flow.entrypoint, []).append(each.parameters)
            places[each.name] = len(given[each.flow.entrypoint]) - 1
        env = None if pool.type == PoolType.INLINE else interpreters.environment(environ, interpreter, pool.env)
        refs = [each.flow for each in here]
        probed[place] = probe(refs, settings.daemon.flows, settings.daemon.import_timeout, interpreter, env, given)
    faults: dict[str, tuple[Fault, ...]] = {}
    threaded: dict[str, list[str]] = {}  # deployments of plain functions in inline pools, by entrypoint
    signatures: dict[str, Signature] = {}
    for deployment in python:
        found = probed[deployment.python, deployment.work_pool][deployment.flow.entrypoint]
        flow = dotted(("deployments", deployment.name, "flow"))
        if found.error is not None or found.signature is None:
            faults[deployment.name] = (loaded.fault(flow, found.error or "cannot be loaded"),)
            continue
        signatures[deployment.flow.entrypoint] = found.signature
        findings = check_parameters(found.signature, deployment.parameters)
        known = {finding.path for finding in findings}
        misfits = found.misfits[places[deployment.name]]
        findings += [Finding(name, problem) for name, problem in misfits if name not in known]
        if findings:
            faults[deployment.name] = tuple(_fault(loaded, deployment, finding) for finding in findings)
        if not found.signature.is_async and settings.work_pools[deployment.work_pool].type == PoolType.INLINE:
            threaded.setdefault(deployment.flow.entrypoint, []).append(deployment.name)
    warnings = [_threaded(loaded, entrypoint, names) for entrypoint, names in threaded.items()]
    warnings += automation_warnings(loaded, signatures)
    return Fitness(signatures=signatures, faults=faults, warnings=tuple(warnings))


def _threaded(loaded: Loaded, entrypoint: str, names: Sequence[str]) -> Fault:
    """Return the warning for a plain function in an inline pool, once for all deployments of it."""
    also = ""
    if names[1:]:
        others = ", ".join(names[1 : OTHERS + 1]) + (" …" if names[OTHERS + 1 :] else "")
        also = f" (also of {others})"
    problem = f'"{entrypoint}" is a plain function in an inline pool: it gets a thread{also}'
    remedy = "fine for code that waits; code that computes delays the other runs and belongs in a process pool"
    return loaded.fault(dotted(("deployments", names[0], "flow")), problem, remedy)


class ParameterCheck:
    """Checks parameters that are given at run time against the flow they are for."""

    def __init__(self, builtins: Mapping[str, BuiltinFlow], signatures: Mapping[str, Signature]) -> None:
        self._builtins = builtins
        self._signatures = signatures

    def go_by(self, signatures: Mapping[str, Signature]) -> None:
        """Check against the flows as they are by now."""
        self._signatures = signatures

    def __call__(self, deployment: Deployment, parameters: Mapping[str, Any]) -> None:
        """Raise TidemillError that says everything wrong with ``parameters``."""
        if deployment.flow.kind is FlowKind.BUILTIN:
            findings = self._builtins[deployment.flow.entrypoint].check(parameters)
        else:
            signature = self._signatures.get(deployment.flow.entrypoint)
            findings = [] if signature is None else _unfit(signature, deployment, parameters)
        if findings:
            raise TidemillError(f"deployment {deployment.name}: " + "; ".join(str(each) for each in findings))


def _unfit(signature: Signature, deployment: Deployment, parameters: Mapping[str, Any]) -> list[Finding]:
    """Return what keeps a flow from being called so. The deployment's own values were tried when it was loaded."""
    own = deployment.parameters
    given = {name: value for name, value in parameters.items() if name not in own or own[name] != value}
    return check_parameters(signature, parameters) + misfits(signature, given)


def _fault(loaded: Loaded, deployment: Deployment, finding: Finding) -> Fault:
    key = dotted(("deployments", deployment.name, "parameters")) + (f".{finding.path}" if finding.path else "")
    return loaded.fault(key, finding.problem, finding.remedy)
