"""Automations: when something happens, or does not, then something is done. Values and tables; watches decide.

``when`` is one of the conditions below, ``then`` a row of actions. What happened is a :class:`Cause`; that an
automation acts on one is a :class:`Fire`, which is durable before anything is done, so that a restart neither forgets
it nor does it twice.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec

from tidemill.core.states import NAMES, TERMINAL, State, StateType

# --- when -----------------------------------------------------------------------------------------------------------


class Of(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Whose runs are meant. Nothing said: everybody's; subflows never, as they are part of their parent."""

    deployments: tuple[str, ...] | None = None
    tags: tuple[str, ...] = ()  # the run has every one of them

    def fits(self, deployment: str | None, tags: Sequence[str]) -> bool:
        """Say whether a run of that deployment, with those tags, is meant."""
        if self.deployments is not None and deployment not in self.deployments:
            return False
        return all(tag in tags for tag in self.tags)


class EntersState(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="state"):
    """A run enters one of these states; with ``stays``, and is in one of them for that long."""

    states: tuple[str, ...]
    of: Of = Of()
    stays: timedelta | None = None


class IsLate(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="late"):
    """A run is called Late and still has not started so long after it should have."""

    by: timedelta
    of: Of = Of()


class NoneWithin(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="no"):
    """No run of a deployment ended in one of these states for that long: a dead man's switch."""

    states: tuple[str, ...]
    deployments: tuple[str, ...]
    within: timedelta
    repeat: timedelta | None = None  # say it again as long as it lasts


class InARow(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="failures"):
    """So many runs of a deployment failed or crashed in a row. Cancelled ones count as neither."""

    count: int
    of: Of = Of()


class ArtifactChanges(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="artifact"):
    """An artifact of one of these keys has a new version, the first one included."""

    keys: tuple[str, ...]
    deployments: tuple[str, ...] | None = None  # made by these; None: by whomever


class AllCompleted(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="after"):
    """Each of these deployments completed a run since the last time; with ``within``, no longer apart than that."""

    deployments: tuple[str, ...]
    within: timedelta | None = None


Condition = EntersState | IsLate | NoneWithin | InARow | ArtifactChanges | AllCompleted


# --- then -----------------------------------------------------------------------------------------------------------


class Kind(enum.StrEnum):
    """What can be paused and resumed."""

    DEPLOYMENT = "deployment"
    WORK_QUEUE = "work_queue"
    WORK_POOL = "work_pool"


class Tell(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="notify"):
    """Tell the people of a channel. ``message`` may hold placeholders; None: what happened, in our words."""

    channel: str
    message: str | None = None


class Run(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="run"):
    """Make a run of a deployment. Texts among the parameters may hold placeholders."""

    deployment: str
    parameters: dict[str, Any] = msgspec.field(default_factory=dict)
    tags: tuple[str, ...] = ()


class Pause(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="pause"):
    """Pause something by hand, as a person would. A name may be ``{deployment}``: the one it is about."""

    kind: Kind
    name: str


class Resume(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="resume"):
    """Undo a pause."""

    kind: Kind
    name: str


class Cancel(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="cancel"):
    """Cancel runs of a deployment that run or wait for their turn; ``{run}``: the one it is about."""

    what: str


Action = Tell | Run | Pause | Resume | Cancel


class Automation(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One ``[automations]`` entry: a condition, what is done then, and how often at most."""

    name: str
    when: Condition
    then: tuple[Action, ...]
    description: str | None = None
    paused: bool = False
    max_fires: int = 60
    per: timedelta = timedelta(minutes=1)
    rounds: int = 3  # how often it may follow from its own doing


# --- what happened, and what became of it ---------------------------------------------------------------------------


class Cause(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What made a condition true. An automation acts on a cause of one ``key`` once, whatever happens in between."""

    key: str
    at: datetime
    reason: str  # one line, for people
    deployment: str | None = None
    run: str | None = None  # an id
    run_name: str | None = None
    flow: str | None = None
    state: str | None = None  # its name
    message: str | None = None  # the state's
    artifact: str | None = None  # a key
    version: int | None = None
    over: bool = False  # what it fired for before has come to an end: people are told, and nothing else is done


class StepState(enum.StrEnum):
    WAITING = "waiting"  # to be done, or tried again
    DONE = "done"
    FAILED = "failed"


class Step(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One action of a fire and what became of it. ``told`` is what was done, or why it was not."""

    action: Action
    state: StepState = StepState.WAITING
    tries: int = 0
    told: str | None = None


class Fire(msgspec.Struct, frozen=True, kw_only=True):
    """That an automation acts on a cause. ``number`` is the database's, 0 before it has one."""

    number: int = 0
    automation: str
    cause: Cause
    at: datetime  # decided
    steps: tuple[Step, ...]
    finished: datetime | None = None

    @property
    def failed(self) -> bool:
        """Whether something of it could not be done."""
        return any(step.state is StepState.FAILED for step in self.steps)


class Past(msgspec.Struct, frozen=True, kw_only=True):
    """When an automation last fired for a deployment, for how late a cause, and when it last said that all is over."""

    at: datetime
    occurred: datetime
    over: datetime | None = None


# Waits before an action that could not be done is tried again; after the last one it is given up.
RETRY_S = (1.0, 5.0, 30.0, 120.0, 600.0)


def retry_after(tries: int) -> timedelta | None:
    """Return how long to wait after so many tries that failed; None: it is given up."""
    return timedelta(seconds=RETRY_S[tries - 1]) if tries <= len(RETRY_S) else None


# --- states by their names ------------------------------------------------------------------------------------------

_TYPE_OF_PLAIN: Mapping[str, StateType] = {names[0]: kind for kind, names in NAMES.items()}
_TYPE_OF: Mapping[str, StateType] = {name: kind for kind, names in NAMES.items() for name in names}
STATE_NAMES: tuple[str, ...] = tuple(_TYPE_OF)
ENDINGS: tuple[str, ...] = tuple(name for name, kind in _TYPE_OF.items() if kind in TERMINAL)
FAILURES = frozenset({StateType.FAILED, StateType.CRASHED})


def split(states: Iterable[str]) -> tuple[frozenset[StateType], frozenset[str]]:
    """Return the types that are meant as a whole, by their plain name (Failed: TimedOut, too), and single names."""
    named = tuple(states)
    types = frozenset(_TYPE_OF_PLAIN[name] for name in named if name in _TYPE_OF_PLAIN)
    return types, frozenset(name for name in named if name not in _TYPE_OF_PLAIN)


def types_of(states: Iterable[str]) -> frozenset[StateType]:
    """Return the types of these states."""
    return frozenset(_TYPE_OF[name] for name in states)


def means(states: tuple[frozenset[StateType], frozenset[str]], state: State) -> bool:
    """Say whether a state is one of those that :func:`split` has returned."""
    return state.type in states[0] or state.name in states[1]


# --- circles --------------------------------------------------------------------------------------------------------

# The idempotency key of a run that an automation made begins so; by it a run's descent is known.
MADE_BY = "automation"


def key_of(fire: Fire, step: int) -> str:
    """Return the idempotency key of the run that a fire's step makes: made twice, it is one run."""
    return f"{MADE_BY}/{fire.automation}/{fire.number}/{step}"


def rounds(keys: Iterable[str | None], automation: str) -> int:
    """Return how many of a run's forebears, by their idempotency keys, the automation made."""
    start = f"{MADE_BY}/{automation}/"
    return sum(key is not None and key.startswith(start) for key in keys)


def follows(condition: Condition, deployment: str, artifacts: frozenset[str], tags: Sequence[str] = ()) -> bool:
    """Say whether a run of ``deployment``, which makes ``artifacts``, may make the condition true by itself.

    Silence and failures in a row are told once each, so they go round in no circle.
    """
    match condition:
        case EntersState() | IsLate():
            return condition.of.fits(deployment, tags)
        case AllCompleted():
            return deployment in condition.deployments
        case ArtifactChanges():
            return bool(artifacts.intersection(condition.keys))
        case NoneWithin() | InARow():
            return False


def circles(
    automations: Iterable[Automation], deployments: Mapping[str, tuple[frozenset[str], Sequence[str]]]
) -> dict[str, tuple[str, ...]]:
    """Return the automations that may set themselves off, each with the way round: names of deployments it runs.

    ``deployments``: by name, the artifacts that are known to be made by it, and its tags.
    """
    every = {each.name: each for each in automations}
    after: dict[str, list[tuple[str, str]]] = {  # automation -> (the deployment it runs, who hears of that)
        each.name: [
            (action.deployment, other.name)
            for action in each.then
            if isinstance(action, Run) and action.deployment in deployments
            for other in every.values()
            if follows(
                other.when,
                action.deployment,
                deployments[action.deployment][0],
                (*deployments[action.deployment][1], *action.tags),
            )
        ]
        for each in every.values()
    }
    found: dict[str, tuple[str, ...]] = {}
    for name in every:
        way = _way_round(name, after)
        if way is not None:
            found[name] = way
    return found


def _way_round(start: str, after: Mapping[str, Sequence[tuple[str, str]]]) -> tuple[str, ...] | None:
    """Return the shortest way from an automation back to itself."""
    ways: list[tuple[str, tuple[str, ...]]] = [(start, ())]
    seen: set[str] = set()
    while ways:
        name, way = ways.pop(0)
        for deployment, other in after[name]:
            further = (*way, deployment)
            if other == start:
                return further
            if other not in seen:
                seen.add(other)
                ways.append((other, further))
    return None


# --- how often ------------------------------------------------------------------------------------------------------


def may_fire(fired: Sequence[datetime], now: datetime, automation: Automation) -> bool:
    """Say whether it may fire once more, after having fired at these times."""
    return sum(at > now - automation.per for at in fired) < automation.max_fires
