"""The keys of an automation: of the table itself, of its ``when``, and of each action in its ``then``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tidemill.config import kinds
from tidemill.config.faults import Wrong, did_you_mean, kind_of, show
from tidemill.config.keys import Key, Keys
from tidemill.config.kinds import Kind, of_type
from tidemill.core.automations import STATE_NAMES
from tidemill.core.placeholders import PLACEHOLDERS

_MANY = 1_000_000
_DEPLOYMENTS = 'write a deployment\'s name, or several: ["a", "b"]'


def _states() -> Kind:
    write = f"write one or more of {', '.join(STATE_NAMES)}"
    plain = kinds.texts(write, unique=True)

    def convert(value: Any, base: Path) -> tuple[str, ...]:
        found: tuple[str, ...] = plain.convert(value, base)
        for number, each in enumerate(found):
            if each not in STATE_NAMES:
                at = () if isinstance(value, str) else (number,)
                raise Wrong(f"{show(each)} is no state", did_you_mean(each, STATE_NAMES) or write, at)
        if not found:
            raise Wrong("names no state", write)
        return found

    return Kind("state or list of states", write, convert)


def _names(write: str) -> Kind:
    plain = kinds.texts(write, unique=True)

    def convert(value: Any, base: Path) -> tuple[str, ...]:
        found: tuple[str, ...] = plain.convert(value, base)
        if not found:
            raise Wrong("is an empty list", write)
        return found

    return Kind("text or list of texts", write, convert)


def _tables(name: str, write: str, *, several: bool) -> Kind:
    """Build the kind of a table, or of one or several; what stands in it is read key by key elsewhere."""

    def convert(value: Any, _: Path) -> Any:
        if isinstance(value, dict):
            found = [value]
        elif several:
            found = of_type(value, list, "a table or a list of tables", write)
        else:
            raise Wrong(f"{show(value)} is {kind_of(value)}, not a table", write)
        for number, each in enumerate(found):
            if not isinstance(each, dict):
                raise Wrong(f"{show(each)} is {kind_of(each)}, not a table", write, (number,))
        if not found or not all(found):
            raise Wrong("is empty", write)
        if len(found) > 20:
            raise Wrong(f"holds {len(found)} actions, more than 20", "write two automations")
        return found if several else value

    return Kind(name, write, convert)


def _keys(*keys: Key) -> Keys:
    return {key.name: key for key in keys}


AUTOMATION = _keys(
    Key(
        name="when",
        kind=_tables("table", 'write when = { deployment = "a", state = "Failed" }', several=False),
        example='{ deployment = "report", state = "Failed" }',
        help="the condition, a table of the keys below",
        required=True,
    ),
    Key(
        name="then",
        kind=_tables("table or list of tables", 'write then = [{ notify = "default" }]', several=True),
        example='[{ notify = "default" }]',
        help="what is done, in this order: tables of the keys further below",
        required=True,
    ),
    Key(name="description", kind=kinds.text(empty=True), example='"What it is for"', help="for people"),
    Key(name="paused", kind=kinds.flag(), default="false", help="true: nothing is done"),
    Key(
        name="max_fires",
        kind=kinds.whole(1, _MANY),
        default="60",
        unit="times",
        help="how often it acts at most, in any stretch of time as long as per; what is held back is counted and said",
    ),
    Key(
        name="per",
        kind=kinds.duration(),
        default='"1m"',
        unit="duration",
        help="the stretch of time that max_fires is about",
    ),
    Key(
        name="rounds",
        kind=kinds.whole(1, 1000),
        default="3",
        unit="times",
        help="how often it may follow from its own doing: a run that it made, and what that set off",
    ),
)

WHEN = _keys(
    Key(
        name="state",
        kind=_states(),
        example='"Failed"',
        help="a run enters this state, or one of several; Failed, Completed and the like include every kind of it",
    ),
    Key(
        name="for",
        kind=kinds.duration(),
        example='"2h"',
        unit="duration",
        help="with state: and is still in it so long after",
    ),
    Key(
        name="late",
        kind=kinds.duration(),
        example='"10m"',
        unit="duration",
        help="a run has not started so long after it should have, and is called Late",
    ),
    Key(
        name="no",
        kind=_states(),
        example='"Completed"',
        help="no run of the deployment ended in this state, or one of several, within so long: a dead man's switch",
    ),
    Key(
        name="within",
        kind=kinds.duration(),
        example='"25h"',
        unit="duration",
        help="with no: how long that may be; with after: how far apart the runs may have ended",
    ),
    Key(
        name="repeat",
        kind=kinds.duration(),
        example='"1d"',
        unit="duration",
        help="with no: act again, as often as this, until there is one; absent: once",
    ),
    Key(
        name="failures",
        kind=kinds.whole(1, 1000),
        example="3",
        unit="runs in a row",
        help="so many runs of one deployment failed or crashed, with none completed in between",
    ),
    Key(
        name="artifact",
        kind=_names('write an artifact\'s key, or several: ["prices", "stock"]'),
        example='"prices"',
        help="an artifact of this key has a new version",
    ),
    Key(
        name="after",
        kind=_names(_DEPLOYMENTS),
        example='["extract-a", "extract-b"]',
        help="each of these deployments completed a run since this was so last",
    ),
    Key(
        name="deployment",
        kind=_names(_DEPLOYMENTS),
        example='"report"',
        help="whose runs; one or several; absent: all",
    ),
    Key(
        name="tags",
        kind=_names('write a tag, or several: ["api"]'),
        example='["api"]',
        help="only runs that have all of these tags",
    ),
)

# What says when, and what may stand beside it.
CONDITIONS: Mapping[str, frozenset[str]] = {
    "state": frozenset({"for", "deployment", "tags"}),
    "late": frozenset({"deployment", "tags"}),
    "no": frozenset({"within", "repeat", "deployment"}),
    "failures": frozenset({"deployment", "tags"}),
    "artifact": frozenset({"deployment"}),
    "after": frozenset({"within"}),
}

_FILLED = ", ".join(f"{{{name}}}" for name in PLACEHOLDERS)


def _place(what: str, example: str) -> Kind:
    return kinds.text(f'write the name of {what}: "{example}"')


THEN = _keys(
    Key(
        name="notify",
        kind=_names("write a channel of [notify], or several"),
        example='"default"',
        help="tell the people of a [notify] channel, or of several",
    ),
    Key(
        name="message",
        kind=kinds.text(),
        example='"{deployment}: {reason}"',
        help=f"with notify: what they are told; {_FILLED} are filled in; absent: what happened",
    ),
    Key(name="run", kind=_place("a deployment", "clean-up"), example='"clean-up"', help="make a run of a deployment"),
    Key(
        name="parameters",
        kind=kinds.json_table(),
        example='{ key = "{artifact}" }',
        help="with run: over the deployment's own; in texts the same is filled in as in message",
    ),
    Key(
        name="tags",
        kind=kinds.texts('write a list of texts: ["automatic"]', unique=True),
        example='["automatic"]',
        help="with run: beside the deployment's own",
    ),
    Key(
        name="cancel",
        kind=_place("a deployment", "report"),
        example='"{run}"',
        help='cancel what a deployment has running and waiting; "{run}": the run that it is about',
    ),
    Key(
        name="pause",
        kind=_place("a deployment", "report"),
        example='"{deployment}"',
        help='pause a deployment, as by hand; "{deployment}": the one that it is about',
    ),
    Key(name="resume", kind=_place("a deployment", "report"), example='"report"', help="undo a deployment's pause"),
    Key(
        name="pause_work_queue",
        kind=_place("a work queue", "default"),
        example='"energy_usage"',
        help="pause a work queue",
    ),
    Key(
        name="resume_work_queue",
        kind=_place("a work queue", "default"),
        example='"energy_usage"',
        help="undo its pause",
    ),
    Key(name="pause_work_pool", kind=_place("a work pool", "default"), example='"process"', help="pause a work pool"),
    Key(name="resume_work_pool", kind=_place("a work pool", "default"), example='"process"', help="undo its pause"),
)

# What says what is done, and what may stand beside it.
ACTIONS: Mapping[str, frozenset[str]] = {
    "notify": frozenset({"message"}),
    "run": frozenset({"parameters", "tags"}),
    "cancel": frozenset(),
    "pause": frozenset(),
    "resume": frozenset(),
    "pause_work_queue": frozenset(),
    "resume_work_queue": frozenset(),
    "pause_work_pool": frozenset(),
    "resume_work_pool": frozenset(),
}
