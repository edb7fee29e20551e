"""The answers to what the code of runs asks: slots, cached results, variables, blocks, pauses, other runs, subflows."""

from __future__ import annotations

import asyncio
import difflib
from collections.abc import Callable
from typing import Any

from msgspec.structs import replace

from tidemill.clock import Clock
from tidemill.core.blocks import Block, resolved
from tidemill.core.ports import Outcome
from tidemill.core.reports import (
    BlockQuestion,
    CacheQuestion,
    PauseQuestion,
    Question,
    ResumeQuestion,
    RunDeploymentQuestion,
    RunStateQuestion,
    SecretQuestion,
    SlotsQuestion,
    SubflowEnded,
    SubflowQuestion,
    VariableChange,
    VariableQuestion,
)
from tidemill.core.runs import FlowRun
from tidemill.errors import NotFoundError, TidemillError
from tidemill.sdk.canonical import canonical
from tidemill.services.catalogue import Catalogue, alike
from tidemill.services.control import Control
from tidemill.services.pauses import Pauses
from tidemill.services.recorder import DaemonRecorder
from tidemill.services.slots import SlotKeeper
from tidemill.services.subflows import Subflows
from tidemill.services.waits import Waits
from tidemill.store import Store, variables

VARIABLE_BYTES = 64 * 1024
LONGEST_NAME = 255

Document = dict[str, Any]


class Answers:
    """Answers questions on the loop. A waiting question ends with its attempt at the latest."""

    def __init__(
        self,
        *,
        store: Store,
        catalogue: Catalogue,
        clock: Clock,
        control: Control,
        slots: SlotKeeper,
        pauses: Pauses,
        waits: Waits,
        subflows: Subflows,
        document: Callable[[FlowRun], Document],
    ) -> None:
        self._store = store
        self._catalogue = catalogue
        self._clock = clock
        self._control = control
        self._slots = slots
        self._pauses = pauses
        self._waits = waits
        self._subflows = subflows
        self._document = document
        self._asking: dict[DaemonRecorder, set[asyncio.Task[Any]]] = {}

    async def answer(self, recorder: DaemonRecorder, question: Question) -> Any:
        """Return the answer; raises a TidemillError that says why not."""
        if not isinstance(question, SlotsQuestion | PauseQuestion | RunStateQuestion):
            return await self._at_once(recorder, question)
        task = asyncio.get_running_loop().create_task(self._waited_for(recorder, question))
        asking = self._asking.setdefault(recorder, set())
        asking.add(task)
        try:
            return await task
        except asyncio.CancelledError:
            if recorder.sealed and not _cancelled_itself():
                raise TidemillError(f"the attempt of flow run {recorder.run.name} that asks has ended") from None
            raise
        finally:
            task.cancel()
            asking.discard(task)
            if not asking:
                self._asking.pop(recorder, None)

    def release(self, recorder: DaemonRecorder, lease: str) -> None:
        """Take slots back."""
        self._slots.release((recorder.run.id, recorder.run.attempt), lease)

    def subflow_ended(self, recorder: DaemonRecorder, ended: SubflowEnded) -> None:
        """Take note of a subflow's end."""
        self._subflows.ended(recorder, ended)

    async def attempt_ends(self, recorder: DaemonRecorder, outcome: Outcome) -> None:
        """End the attempt's waiting questions and its subflows. Its slots go when its code has ended."""
        for task in self._asking.pop(recorder, ()):
            task.cancel()
        await self._subflows.attempt_ends(recorder, outcome)

    async def _waited_for(
        self, recorder: DaemonRecorder, question: SlotsQuestion | PauseQuestion | RunStateQuestion
    ) -> Any:
        match question:
            case SlotsQuestion():
                return await self._slots.acquire((recorder.run.id, recorder.run.attempt), question)
            case PauseQuestion():
                run = recorder.run
                if question.flow_run_id not in (None, run.id):
                    found = recorder.subflows.get(question.flow_run_id or "")
                    if found is None:
                        raise TidemillError(f"flow run {question.flow_run_id} does not run here and cannot pause")
                    run = found
                await recorder.flush()
                return await self._pauses.pause(run, replace(question, schema=recorder.masked(question.schema)))
            case RunStateQuestion():
                return self._document(await self._waits.ended(question.flow_run_id, question.timeout_s))

    async def _at_once(self, recorder: DaemonRecorder, question: Question) -> Any:
        match question:
            case CacheQuestion():
                return await recorder.find_cached(question.key)
            case VariableQuestion():
                found = await self._variable(question.name)
                return None if found is None else found.value
            case VariableChange():
                return await self.set_variable(question)
            case BlockQuestion():
                return self._block(recorder, question)
            case ResumeQuestion():
                return self._document(await self._control.resume_run(question.flow_run_id, question.input))
            case RunDeploymentQuestion():
                return self._document(
                    await self._control.create_run(
                        question.deployment,
                        parameters=question.parameters,
                        tags=question.tags,
                        name=question.name,
                        scheduled_time=question.scheduled_time,
                        idempotency_key=question.idempotency_key,
                        parent=recorder.run,
                        as_subflow=question.as_subflow,
                    )
                )
            case SubflowQuestion():
                return await self._subflows.begin(recorder, question)
            case SecretQuestion():
                return recorder.reveal(question.ref)
            case _:
                raise TidemillError(f"a {type(question).__name__} is nothing that is answered here")

    async def _variable(self, name: str) -> variables.Variable | None:
        return await self._store.read(lambda connection: variables.get(connection, name))

    async def set_variable(self, change: VariableChange) -> Any:
        """Set or remove a variable; return the value before. Raises a TidemillError that says why not."""
        name, now = change.name, self._clock.now()
        if not 0 < len(name) <= LONGEST_NAME:
            raise TidemillError(f"a variable's name has 1 to {LONGEST_NAME} characters, not {len(name)}")
        before = await self._variable(name)
        if change.value is None:
            if before is None:
                raise NotFoundError(f"there is no variable {name}")
            if not await self._store.write(variables.UNSET_VARIABLE, (name, now)):
                raise TidemillError(f"variable {name} stands in the configuration; remove it there")
            return before.value
        if before is not None and not change.overwrite:
            raise TidemillError(f"variable {name} is set already; overwrite=True replaces its value")
        try:
            canonical(change.value, limit=VARIABLE_BYTES)
        except ValueError as error:
            raise TidemillError(f"the value for variable {name} is {error}") from None
        created = now if before is None else before.created
        value = variables.Variable(name=name, value=change.value, tags=change.tags, created=created, updated=now)
        await self._store.write(variables.SET_VARIABLE, value)
        return None if before is None else before.value

    def _block(self, recorder: DaemonRecorder, question: BlockQuestion) -> Document:
        blocks = self._catalogue.settings.blocks
        block = blocks.get(question.name) or next(
            (each for each in blocks.values() if alike(each.name) == alike(question.name)), None
        )
        if block is None:
            raise NotFoundError(_no_block(question.name, list(blocks)))
        if question.type is not None and block.type != question.type:
            raise TidemillError(f"block {block.name} is of type {block.type}, not {question.type}")
        if block.secrets and not recorder.trusted:
            raise TidemillError(f"block {block.name} holds a secret, which is not given out here; {_OWN_SECRETS}")
        return self._resolved(recorder, block)

    def _resolved(self, recorder: DaemonRecorder, block: Block) -> Document:
        return resolved(block, recorder.reveal)


_OWN_SECRETS = "read it in the script itself, from its environment"


def _cancelled_itself() -> bool:
    """Say whether the asking code is being cancelled, and not only its question."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _no_block(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=3)
    if near:
        return f"no block is called {name}; did you mean {' or '.join(near)}?"
    return f"no block is called {name}; the configuration has {', '.join(sorted(known)[:10]) or 'none'}"
