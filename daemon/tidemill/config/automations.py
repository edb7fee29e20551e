"""Reading automations: one condition, a row of actions, and whether everything they name is there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any, NamedTuple

from tidemill.config.automation_keys import ACTIONS, AUTOMATION, CONDITIONS, THEN, WHEN
from tidemill.config.faults import Faults, alike, did_you_mean, show
from tidemill.config.keys import NEVER_OVERRIDABLE, Keys
from tidemill.config.positions import KeyPath
from tidemill.config.tables import Entry, read_keys
from tidemill.core.automations import (
    ENDINGS,
    Action,
    AllCompleted,
    ArtifactChanges,
    Automation,
    Cancel,
    Condition,
    EntersState,
    InARow,
    IsLate,
    Kind,
    NoneWithin,
    Of,
    Pause,
    Resume,
    Run,
    Tell,
    circles,
)
from tidemill.core.builtins import BUILTIN_PARAMETERS
from tidemill.core.deployments import Deployment, FlowKind
from tidemill.core.placeholders import ABOUT_DEPLOYMENT, ABOUT_RUN, PLACEHOLDERS, unknown_placeholders
from tidemill.durations import format_duration


class Known(NamedTuple):
    """What an automation may name. ``names``: deployments that the file has, also where they are faulty."""

    names: Iterable[str]
    deployments: Mapping[str, Deployment]
    work_queues: Iterable[str]
    work_pools: Iterable[str]
    channels: Iterable[str]


def read_automations(
    entries: Mapping[str, Entry], known: Known, faults: Faults, unsure: Faults
) -> dict[str, Automation]:
    """Return the automations by name; what is wrong goes to ``faults``, names that are nobody's to ``unsure``."""
    found = {}
    for name, entry in entries.items():
        automation = _Reading(entry, known, faults, unsure).automation(name)
        if automation is not None:
            found[name] = automation
    _warn_of_circles(found, entries, known, faults)
    return found


class _Reading:
    """One entry being read."""

    def __init__(self, entry: Entry, known: Known, faults: Faults, unsure: Faults) -> None:
        self.entry, self.known, self.faults, self.unsure = entry, known, faults, unsure

    def automation(self, name: str) -> Automation | None:
        entry = self.entry
        values = read_keys(entry, AUTOMATION, self.faults)
        if not isinstance(entry.value, dict):
            return None
        for key in AUTOMATION.values():
            if key.required and key.name not in entry.value:
                problem, remedy = f"does not say {key.name}", f"write {key.name} = {key.example}"
                self.faults.add(entry.document, entry.path, problem, remedy, at_key=True)
        written_when, written_then = values.pop("when", None), values.pop("then", None)
        when = None if written_when is None else self._when(written_when)
        then: list[Action] = []
        listed = isinstance(entry.value.get("then"), list)
        for number, each in enumerate(written_then or ()):
            path = (*entry.path, "then", number) if listed else (*entry.path, "then")
            then += self._action(path, each, when)
        if when is None or not then:
            return None
        return Automation(name=name, when=when, then=tuple(then), **values)

    def _add(self, path: KeyPath, problem: str, remedy: str = "", *, at_key: bool = False) -> None:
        self.faults.add(self.entry.document, path, problem, remedy, at_key=at_key)

    # -- when --------------------------------------------------------------------------------------------------------

    def _when(self, value: dict[str, Any]) -> Condition | None:
        path = (*self.entry.path, "when")
        main, values = self._one_of(path, value, WHEN, CONDITIONS, "says no condition")
        if main is None or main not in values:
            return None
        deployments = self._deployments((*path, "deployment"), value, values.get("deployment"))
        of = Of(deployments=deployments, tags=values.get("tags", ()))
        match main:
            case "state":
                return self._enters(path, values, of)
            case "late":
                self._warn_of_late((*path, "late"), values["late"], of)
                return IsLate(by=values["late"], of=of)
            case "no":
                return self._none(path, value, values, of)
            case "failures":
                return InARow(count=values["failures"], of=of)
            case "artifact":
                self._warn_of_artifacts((*path, "artifact"), value, values["artifact"])
                return ArtifactChanges(keys=values["artifact"], deployments=of.deployments)
        names = self._deployments((*path, "after"), value, values["after"])
        return AllCompleted(deployments=names or (), within=values.get("within"))

    def _enters(self, path: KeyPath, values: dict[str, Any], of: Of) -> Condition:
        stays: timedelta | None = values.get("for")
        ends = [name for name in values["state"] if name in ENDINGS]
        if stays is not None and ends:
            remedy = "leave out for, or name a state that a run leaves: Running, Late, Paused"
            self._add((*path, "for"), f"a run that is {ends[0]} stays so", remedy, at_key=True)
        return EntersState(states=values["state"], of=of, stays=stays)

    def _none(self, path: KeyPath, value: dict[str, Any], values: dict[str, Any], of: Of) -> Condition | None:
        for number, name in enumerate(values["no"]):
            if name not in ENDINGS:
                at: KeyPath = (*path, "no", number) if isinstance(value["no"], list) else (*path, "no")
                self._add(at, f"{show(name)} is no state that a run ends in", f"write one of {', '.join(ENDINGS)}")
        if "within" not in value:
            self._add((*path, "no"), "does not say for how long", 'add within = "25h"', at_key=True)
        if of.deployments is None:
            if "deployment" not in value:
                remedy = 'add deployment = "NAME": silence is one deployment\'s'
                self._add((*path, "no"), "does not say whose", remedy, at_key=True)
            return None
        if "within" not in values:
            return None
        return NoneWithin(
            states=values["no"], deployments=of.deployments, within=values["within"], repeat=values.get("repeat")
        )

    def _deployments(self, path: KeyPath, value: dict[str, Any], names: Sequence[str] | None) -> tuple[str, ...] | None:
        """Return deployments by the names they are written with in their tables; None: none are named."""
        if names is None:
            return None
        listed = isinstance(value[str(path[-1])], list)
        found = [
            self._named((*path, number) if listed else path, name, self.known.names, "deployment", "[deployments]")
            for number, name in enumerate(names)
        ]
        return tuple(dict.fromkeys(found))

    def _warn_of_late(self, path: KeyPath, by: timedelta, of: Of) -> None:
        for name in of.deployments or ():
            deployment = self.known.deployments.get(name)
            if deployment is not None and deployment.late_after > by:
                after = format_duration(deployment.late_after)
                problem = f"{name} is called late after {after} only, and this is heard then"
                remedy = f"write at least {show(after)}, or lower the deployment's late_after"
                self.faults.warn(self.entry.document, path, problem, remedy)

    def _warn_of_artifacts(self, path: KeyPath, value: dict[str, Any], keys: Sequence[str]) -> None:
        """What Python flows make is not known here; a key that nothing known makes may be a slip."""
        made = set().union(*(artifacts_of(each) for each in self.known.deployments.values()))
        unseen = any(each.flow.kind is not FlowKind.BUILTIN for each in self.known.deployments.values())
        for number, key in enumerate(keys):
            if key not in made:
                near = did_you_mean(key, made)
                if near or not unseen:
                    at: KeyPath = (*path, number) if isinstance(value["artifact"], list) else path
                    problem = f"no deployment of this file is known to make an artifact {show(key)}"
                    remedy = near or "name one in a deployment's artifact"
                    self.faults.warn(self.entry.document, at, problem, remedy)

    # -- then --------------------------------------------------------------------------------------------------------

    def _action(self, path: KeyPath, value: dict[str, Any], when: Condition | None) -> list[Action]:
        main, values = self._one_of(path, value, THEN, ACTIONS, "says nothing to do")
        if main is None or main not in values:
            return []
        at = (*path, main)
        match main:
            case "notify":
                return self._tell(path, value, values)
            case "run":
                return [self._run(path, values)]
            case "cancel":
                what = values["cancel"]
                if what == ABOUT_RUN and isinstance(when, NoneWithin):
                    self._add(at, "there is no run that it is about", "name a deployment")
                return [Cancel(what=what if what == ABOUT_RUN else self._deployment(at, what))]
        verb, _, thing = main.partition("_")
        kind = Kind(thing or "deployment")
        lists: Mapping[Kind, tuple[Iterable[str], str]] = {
            Kind.DEPLOYMENT: (self.known.names, "[deployments]"),
            Kind.WORK_QUEUE: (self.known.work_queues, "[work_queues]"),
            Kind.WORK_POOL: (self.known.work_pools, "[work_pools]"),
        }
        name = values[main]
        if not (kind is Kind.DEPLOYMENT and name == ABOUT_DEPLOYMENT):
            name = self._named(at, name, lists[kind][0], kind.replace("_", " "), lists[kind][1])
        return [Pause(kind=kind, name=name) if verb == "pause" else Resume(kind=kind, name=name)]

    def _tell(self, path: KeyPath, value: dict[str, Any], values: dict[str, Any]) -> list[Action]:
        message = values.get("message")
        if message is not None:
            self._check_placeholders((*path, "message"), message)
        listed = isinstance(value["notify"], list)
        channels = []
        for number, name in enumerate(values["notify"]):
            at = (*path, "notify", number) if listed else (*path, "notify")
            channels.append(self._named(at, name, self.known.channels, "channel", "[notify]"))
        return [Tell(channel=each, message=message) for each in channels]

    def _run(self, path: KeyPath, values: dict[str, Any]) -> Run:
        name = self._deployment((*path, "run"), values["run"])
        parameters: dict[str, Any] = values.get("parameters", {})
        below = (*path, "parameters")
        deployment = self.known.deployments.get(name)
        if deployment is not None and deployment.flow.kind is FlowKind.BUILTIN:
            flow = deployment.flow.entrypoint
            for key in parameters:
                if key in NEVER_OVERRIDABLE[flow]:
                    problem = "is what the deployment does: only its own table says that"
                    self._add((*below, key), problem, f"write a deployment of its own, and run that instead of {name}")
                elif key not in BUILTIN_PARAMETERS[flow]:
                    known = BUILTIN_PARAMETERS[flow]
                    self.faults.unknown(self.entry.document, (*below, key), known, f"is no parameter of {flow}")
        self._check_placeholders(below, parameters)
        return Run(deployment=name, parameters=parameters, tags=values.get("tags", ()))

    def _deployment(self, path: KeyPath, name: str) -> str:
        return self._named(path, name, self.known.names, "deployment", "[deployments]")

    def _check_placeholders(self, path: KeyPath, value: Any) -> None:
        if isinstance(value, dict):
            for key, each in value.items():
                self._check_placeholders((*path, key), each)
        elif isinstance(value, list):
            for number, each in enumerate(value):
                self._check_placeholders((*path, number), each)
        elif isinstance(value, str):
            for unknown in unknown_placeholders(value):
                brace = unknown in ("{", "}")
                problem = f"{show(unknown)} stands alone" if brace else f"nothing is called {{{unknown}}} here"
                near = "" if brace else did_you_mean(unknown, PLACEHOLDERS)
                remedy = near or f"write {{{{ and }}}} for braces, or one of {', '.join(PLACEHOLDERS)} in them"
                self._add(path, problem, remedy)

    # -- both --------------------------------------------------------------------------------------------------------

    def _one_of(
        self, path: KeyPath, value: dict[str, Any], keys: Keys, mains: Mapping[str, frozenset[str]], nothing: str
    ) -> tuple[str | None, dict[str, Any]]:
        """Return the one key that says what a table is about, and the table's values; the rest must go with it."""
        values = read_keys(Entry(self.entry.document, path, value), keys, self.faults)
        found = [key for key in mains if key in value]
        if not found:
            if set(value) <= set(keys):
                self._add(path, nothing, f"add one of {', '.join(mains)}")
            return None, values
        main = found[0]
        for other in found[1:]:
            remedy = "write two automations" if keys is WHEN else "write two tables, one for each"
            self._add((*path, other), f'stands beside "{main}"', remedy, at_key=True)
        for key in value.keys() & keys.keys() - mains.keys() - mains[main]:
            goes = " or ".join(f'"{each}"' for each, beside in mains.items() if key in beside)
            self._add((*path, key), f'does not go with "{main}"', f"it goes with {goes}", at_key=True)
        return main, values

    def _named(self, path: KeyPath, name: str, known: Iterable[str], what: str, table: str) -> str:
        """Return a name as its own table has it; one that is nobody's is a fault."""
        by_form = {alike(each): each for each in known}
        found = by_form.get(alike(name))
        if found is None:
            remedy = did_you_mean(name, by_form.values()) or f"add it to {table}"
            self.unsure.add(self.entry.document, path, f"there is no {what} {show(name)}", remedy)
        return found or name


def artifacts_of(deployment: Deployment) -> frozenset[str]:
    """Return the keys of the artifacts that a deployment is known to make, by its table alone."""
    key = deployment.parameters.get("artifact") if deployment.flow.kind is FlowKind.BUILTIN else None
    return frozenset({key} if isinstance(key, str) else ())


def _warn_of_circles(
    automations: Mapping[str, Automation], entries: Mapping[str, Entry], known: Known, faults: Faults
) -> None:
    known_of = {name: (artifacts_of(each), each.tags) for name, each in known.deployments.items()}
    for name, way in circles(automations.values(), known_of).items():
        entry = entries[name]
        if "rounds" in entry.value:
            continue  # who says how often knows
        times = automations[name].rounds
        problem = f"may set itself off, by a run of {', then of '.join(way)}; it stops after {times} rounds"
        remedy = "say whose runs in when, or say how often with rounds"
        faults.warn(entry.document, entry.path, problem, remedy, at_key=True)
