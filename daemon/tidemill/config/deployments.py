"""Reading a deployment: what it runs, with what, when, where and how it behaves."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from tidemill.config.faults import Faults, Wrong, did_you_mean, show
from tidemill.config.keys import DEPLOYMENT, NEVER_OVERRIDABLE, SCHEDULE, SOURCES
from tidemill.config.kinds import json_value
from tidemill.config.notify import take_ping
from tidemill.config.pools import take_process
from tidemill.config.positions import KeyPath
from tidemill.config.schedules import read_schedules
from tidemill.config.secrets import SecretError, Secrets, plain_secrets, resolve_secret, take_references
from tidemill.config.settings import DaemonSettings
from tidemill.config.tables import Entry, read_keys
from tidemill.core.builtins import BUILTIN_PARAMETERS, SHORT_FORMS
from tidemill.core.deployments import Deployment, FlowKind, FlowRef
from tidemill.core.retries import RetryPolicy
from tidemill.core.schedules import CompiledSchedule

_FUNCTION = r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*"
_FILE = re.compile(rf"([^:\0]+\.py):{_FUNCTION}")
_MODULE = re.compile(rf"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*:{_FUNCTION}")
_WRITE_FLOW = 'write "reports.py:daily", "package.module:flow", "http_request" or "shell"'
_JSON = json_value()

# Keys of the file and the fields of the policy they fill.
_RETRY: Mapping[str, str] = {
    "retries": "retries",
    "retry_delay": "delays",
    "retry_backoff": "backoff",
    "retry_max_delay": "max_delay",
    "retry_jitter": "jitter",
    "retry_after_max": "cap",
}
_DEFAULTS_OF_DAEMON = ("catch_up", "catch_up_window", "late_after", "mode")


class Read(NamedTuple):
    """A deployment as its table says it; which pool and queue its names mean is still to be seen."""

    entry: Entry
    deployment: Deployment
    schedules: tuple[CompiledSchedule, ...]
    work_pool: str | None
    work_queue: str | None


def read_deployment(name: str, entry: Entry, daemon: DaemonSettings, secrets: Secrets, faults: Faults) -> Read | None:
    """Return the deployment in ``entry``; None where it is not even clear what it runs. Faults go to ``faults``."""
    if not isinstance(entry.value, dict):
        read_keys(entry, DEPLOYMENT, faults)
        return None
    sources = [key for key in SOURCES if key in entry.value]
    short = BUILTIN_PARAMETERS[SHORT_FORMS[sources[0]]] if sources and sources[0] in SHORT_FORMS else frozenset()
    own = {key: value for key, value in entry.value.items() if key in DEPLOYMENT and key not in short}
    values = read_keys(Entry(entry.document, entry.path, own), DEPLOYMENT, faults)
    flow = _flow(entry, sources, values.pop("flow", None), faults)
    schedules = read_schedules(entry, daemon.timezone, faults)
    direct = {key: value for key, value in entry.value.items() if key in short}
    for key in entry.value:
        if key not in own and key not in direct and key not in SCHEDULE and key not in (*SOURCES, "schedules"):
            _unknown_key(entry, key, flow, short, faults)
    if flow is None:
        return None
    listed = values.pop("parameters", {})
    parameters = _parameters(entry, flow, listed=listed, direct=direct, secrets=secrets, faults=faults)
    overridable = _overridable(entry, flow, values.pop("overridable", None), faults)
    retry = {field: values.pop(key) for key, field in _RETRY.items() if key in values}
    pool, queue = values.pop("work_pool", None), values.pop("work_queue", None)
    ping = take_ping(entry, values, secrets, faults)
    take_process(entry, values, faults)
    for key in _DEFAULTS_OF_DAEMON:
        values.setdefault(key, getattr(daemon, key))
    deployment = Deployment(
        name=name,
        flow=flow,
        parameters=parameters,
        overridable=overridable,
        schedules=tuple(compiled.schedule for compiled in schedules),
        retry=RetryPolicy(**retry) if "retries" in retry else None,
        ping=ping,
        **values,
    )
    _warn_of_no_effect(entry, deployment, faults)
    return Read(entry, deployment, schedules, pool, queue)


def _flow(entry: Entry, sources: list[str], written: str | None, faults: Faults) -> FlowRef | None:
    if not sources:
        remedy = 'add url = "https://…", command = "…", argv = ["…"] or flow = "reports.py:daily"'
        faults.add(entry.document, entry.path, "does not say what to run", remedy, at_key=True)
        return None
    for source in sources[1:]:
        problem = f'stands beside "{sources[0]}": a deployment runs one thing'
        remedy = "keep one"
        if entry.value[sources[0]] == SHORT_FORMS.get(source):
            remedy = f'leave out flow: {source} says it already; or put {source} under "parameters"'
        faults.add(entry.document, (*entry.path, source), problem, remedy, at_key=True)
    if sources[0] != "flow":
        flow = SHORT_FORMS[sources[0]]
        return FlowRef(kind=FlowKind.BUILTIN, entrypoint=flow, name=flow)
    if written is None:
        return None  # its key has said why
    try:
        return flow_ref(written)
    except Wrong as wrong:
        faults.wrong(entry.document, (*entry.path, "flow"), wrong)
        return None


def flow_ref(written: str) -> FlowRef:
    """Return what an entrypoint means by its form alone; raises :class:`Wrong` where it has none of the forms."""
    if written in BUILTIN_PARAMETERS:
        return FlowRef(kind=FlowKind.BUILTIN, entrypoint=written, name=written)
    function = written.rpartition(":")[2].rpartition(".")[2]
    name = function.replace("_", "-").strip("-") or function
    match = _FILE.fullmatch(written)
    if match is not None:
        file = Path(match.group(1))
        if file.is_absolute() or ".." in file.parts:
            raise Wrong(
                f"{show(written)} leads out of the flows folder", "name the file from there, or set [daemon] flows"
            )
        return FlowRef(kind=FlowKind.FILE, entrypoint=written, name=name)
    if _MODULE.fullmatch(written):
        return FlowRef(kind=FlowKind.MODULE, entrypoint=written, name=name)
    remedy = _WRITE_FLOW
    if ":" not in written:
        remedy = did_you_mean(written, BUILTIN_PARAMETERS) or remedy
        if written.endswith(".py"):
            remedy = f'name the function: "{written}:daily"'
    raise Wrong(f"{show(written)} is no entrypoint", remedy)


def _unknown_key(entry: Entry, key: str, flow: FlowRef | None, short: frozenset[str], faults: Faults) -> None:
    path = (*entry.path, key)
    homes = [name for name, parameters in BUILTIN_PARAMETERS.items() if key in parameters]
    if flow is not None and homes:
        if flow.entrypoint in homes:
            problem, remedy = f"is a parameter of {flow.entrypoint}", f'put it under "parameters": {{ {key} = … }}'
        else:
            problem, remedy = f"is a parameter of {homes[0]}, and this runs {flow.entrypoint}", "delete it"
            if flow.kind is not FlowKind.BUILTIN:
                remedy = f'put it under "parameters": {{ {key} = … }}, if it is one of the flow'
        faults.add(entry.document, path, problem, remedy, at_key=True)
        return
    known = (*DEPLOYMENT, *SCHEDULE, *sorted(short), *SHORT_FORMS, "schedules")
    remedy = "" if short else 'a parameter of the flow stands under "parameters"'
    faults.unknown(entry.document, path, known, "is no key of a deployment", remedy)


def _parameters(
    entry: Entry, flow: FlowRef, *, listed: dict[str, Any], direct: dict[str, Any], secrets: Secrets, faults: Faults
) -> dict[str, Any]:
    below = (*entry.path, "parameters")
    homes: dict[str, KeyPath] = {name: (*below, name) for name in listed}
    parameters = dict(listed)
    for name, value in direct.items():
        path = (*entry.path, name)
        if name in listed:
            faults.add(entry.document, path, 'stands here and under "parameters"', "keep one", at_key=True)
        try:
            parameters[name] = _JSON.convert(value, entry.folder)
        except Wrong as wrong:
            faults.wrong(entry.document, path, wrong)
        homes[name] = path
    if flow.kind is not FlowKind.BUILTIN:
        return parameters
    known = BUILTIN_PARAMETERS[flow.entrypoint]
    for name in sorted(parameters.keys() - known):
        faults.unknown(entry.document, homes[name], known, f"is no parameter of {flow.entrypoint}")
    wrongs: list[Wrong] = []
    parameters, references = take_references(flow.entrypoint, parameters, entry.folder, wrongs)
    for refused in wrongs:
        faults.add(entry.document, homes[str(refused.at[0])] + refused.at[1:], refused.problem, refused.remedy)
    for at, ref in references:
        try:
            resolve_secret(ref, secrets.environ, secrets.credentials_dir)
        except SecretError as error:
            tell = faults.warn if secrets.forgives(ref) else faults.add
            tell(entry.document, homes[str(at[0])] + at[1:], error.problem, error.remedy)
    for at in plain_secrets(flow.entrypoint, parameters):
        problem = "looks like a secret in plain text"
        remedy = 'keep it out of the file: { credential = "name" }, { env = "NAME" } or { file = "/path" }'
        faults.warn(entry.document, homes[str(at[0])] + at[1:], problem, remedy)
    return parameters


def _overridable(entry: Entry, flow: FlowRef, names: tuple[str, ...] | None, faults: Faults) -> frozenset[str] | None:
    if flow.kind is not FlowKind.BUILTIN:
        return None if names is None else frozenset(names)
    for number, name in enumerate(names or ()):
        path = (*entry.path, "overridable", number)
        if name not in BUILTIN_PARAMETERS[flow.entrypoint]:
            remedy = did_you_mean(name, BUILTIN_PARAMETERS[flow.entrypoint])
            faults.add(entry.document, path, f"{show(name)} is no parameter of {flow.entrypoint}", remedy)
        elif name in NEVER_OVERRIDABLE[flow.entrypoint]:
            problem = f"{show(name)} may be set by the file only: who may start a run must not choose what runs"
            faults.add(entry.document, path, problem, "take it off the list, or write a Python flow")
    return frozenset(names or ())


def _warn_of_no_effect(entry: Entry, deployment: Deployment, faults: Faults) -> None:
    if "retries" not in entry.value:
        for key in _RETRY.keys() & entry.value.keys():
            faults.warn(entry.document, (*entry.path, key), "has no effect without retries", "set retries", at_key=True)
    if "collision_strategy" in entry.value and deployment.concurrency_limit is None:
        problem = "has no effect: there is no concurrency_limit"
        path = (*entry.path, "collision_strategy")
        faults.warn(entry.document, path, problem, "set concurrency_limit", at_key=True)
