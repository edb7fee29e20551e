"""Actions of automations: telling people, making runs, pausing, resuming and cancelling, as a person would."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial

from tidemill.clock import Clock
from tidemill.core.automations import Cancel, Fire, Pause, Resume, Run, Tell, key_of, rounds
from tidemill.core.filters import MAX_LIMIT, RunFilter
from tidemill.core.notices import Notice, NoticeKind
from tidemill.core.placeholders import ABOUT_DEPLOYMENT, ABOUT_RUN, fill, fill_all, values_of
from tidemill.core.runs import FlowRun
from tidemill.core.states import ACTIVE, StateType
from tidemill.errors import TidemillError, TransitionError
from tidemill.services.automations.backlook import pages
from tidemill.services.overrides import Overrides
from tidemill.store import Store
from tidemill.store import automations as stored
from tidemill.store import runs as stored_runs

TellChannel = Callable[[Notice, str], None]
MADE_BY = "automation"  # created_by of the runs it makes
IN_HANDS = (*ACTIVE, StateType.PAUSED)
MOST_CANCELLED = 10 * MAX_LIMIT  # by one action


class CircleError(TidemillError):
    """An automation has set itself off too often in a row. Say whose runs it is about, or allow more ``rounds``."""


class Actions:
    """Carries out one action of a fire. What is done twice, after a crash, is done once: runs have a key, and so on."""

    def __init__(
        self,
        *,
        store: Store,
        clock: Clock,
        overrides: Overrides,
        tell: TellChannel,
        create_run: Callable[..., Awaitable[FlowRun]],
        cancel_run: Callable[[str, str], Awaitable[FlowRun]],
    ) -> None:
        self._store = store
        self._clock = clock
        self._overrides = overrides
        self.tell = tell
        self._create_run = create_run
        self._cancel_run = cancel_run

    async def carry_out(self, fire: Fire, step: int, *, most_rounds: int) -> str:
        """Do what a step says; return what was done, in words. Raises TidemillError that says why not."""
        match fire.steps[step].action:
            case Tell() as action:
                self.tell(notice_of(fire, step, action), action.channel)
                return f"told {action.channel}"
            case Run() as action:
                return await self._run(fire, step, action, most_rounds)
            case Pause() as action:
                name = _about_deployment(fire, action.name)
                await self._overrides.set(action.kind, name, "paused", True, by=_by(fire))
                return f"paused {action.kind.replace('_', ' ')} {name}"
            case Resume() as action:
                name = _about_deployment(fire, action.name)
                await self._overrides.set(action.kind, name, "paused", False, by=_by(fire))
                return f"resumed {action.kind.replace('_', ' ')} {name}"
            case Cancel() as action:
                return await self._cancel(fire, action)

    async def _run(self, fire: Fire, step: int, action: Run, most_rounds: int) -> str:
        cause = fire.cause
        parent: FlowRun | None = None
        if cause.run is not None:
            run_id = cause.run
            keys = await self._store.read(lambda connection: stored.descent(connection, run_id))
            before = rounds(keys, fire.automation)
            if before >= most_rounds:
                raise CircleError(
                    f"went round in a circle {before} times: {cause.run_name or cause.run} follows from its own runs; "
                    f"say whose runs it is about, or allow more rounds"
                )
            parent = await self._store.read(lambda connection: stored_runs.get(connection, run_id))
        values = values_of(fire.automation, cause)
        run = await self._create_run(
            action.deployment,
            parameters=fill_all(action.parameters, values),
            tags=action.tags,
            idempotency_key=key_of(fire, step),
            parent=parent,
            made_by=MADE_BY,
        )
        return f"made run {run.name} ({run.id}) of {run.deployment}"

    async def _cancel(self, fire: Fire, action: Cancel) -> str:
        reason = f"{_by(fire)}: {fire.cause.reason}"
        if action.what == ABOUT_RUN:
            if fire.cause.run is None:
                raise TidemillError("there is no run that it is about")
            try:
                run = await self._cancel_run(fire.cause.run, reason)
            except TransitionError as error:
                return str(error)  # it has ended meanwhile
            return f"cancelled {run.name} ({run.id})"
        cancelled = 0
        for run in await self._at_work(action.what):
            try:
                await self._cancel_run(run.id, reason)
            except TransitionError:
                continue
            cancelled += 1
        return f"cancelled {cancelled} run{'' if cancelled == 1 else 's'} of {action.what}"

    async def _at_work(self, deployment: str) -> Sequence[FlowRun]:
        """Return the runs that run, or wait though they are due."""
        now = self._clock.now()
        of = (deployment,)
        running = RunFilter(deployments=of, state_types=IN_HANDS)
        waiting = RunFilter(deployments=of, state_types=(StateType.SCHEDULED,), expected_start_before=now)
        found: list[FlowRun] = []
        for wanted in (waiting, running):  # what waits first, or it would take the place of what is cancelled
            found += await self._store.read(partial(pages, wanted=wanted, most=MOST_CANCELLED))
        return found


def notice_of(fire: Fire, step: int, action: Tell, *, test: bool = False) -> Notice:
    """Return what people are told by an action."""
    cause = fire.cause
    written = None if cause.over else action.message  # which is about what happened, not about its end
    text = cause.reason if written is None else fill(written, values_of(fire.automation, cause))
    subject, *lines = text.strip().splitlines() or [cause.reason]
    if written is not None:
        lines.append(cause.reason)
    lines.append(f"automation: {fire.automation}")
    return Notice(
        kind=NoticeKind.TEST if test else NoticeKind.AUTOMATION,
        subject=f"test: {subject}" if test else subject,
        deployment=cause.deployment,
        run=cause.run,
        lines=tuple(lines),
        at=cause.at,
        # Told twice, after a crash, it is told once as long as it waits.
        key=f"automation/{fire.automation}/{fire.number}/{step}",
        reason=cause.message,
        state=cause.state,
    )


def _by(fire: Fire) -> str:
    return f"automation {fire.automation}"


def _about_deployment(fire: Fire, name: str) -> str:
    if name != ABOUT_DEPLOYMENT:
        return name
    if fire.cause.deployment is None:
        raise TidemillError("there is no deployment that it is about")
    return fire.cause.deployment
