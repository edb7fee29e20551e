"""A recorder that keeps in memory what it is told: for tests of flows, without a daemon."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec

from tidemill.clock import Clock, SystemClock
from tidemill.core.deployments import SecretRef
from tidemill.core.reports import (
    ArtifactReport,
    BlockQuestion,
    CacheQuestion,
    CacheReport,
    EventReport,
    LogReport,
    Question,
    Report,
    SecretQuestion,
    SlotsQuestion,
    SlotsReleased,
    SubflowEnded,
    SubflowQuestion,
    TaskReport,
    VariableChange,
    VariableQuestion,
)
from tidemill.core.states import State
from tidemill.errors import TidemillError
from tidemill.sdk.canonical import canonical
from tidemill.sdk.identity import new_id


class MemoryRecorder:
    """Keeps reports in order, and answers questions from what it was given.

    ``secrets`` by the env, credential or file name, ``variables`` and ``blocks`` by name. Every slot is free at once. A
    question that only a daemon answers (pause, run_deployment) raises ``TidemillError``.

    >>> MemoryRecorder({"TOKEN": "s3cret"}).logs
    []
    """

    def __init__(
        self,
        secrets: Mapping[str, str] | None = None,
        *,
        variables: Mapping[str, Any] | None = None,
        blocks: Mapping[str, Mapping[str, Any]] | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.secrets = dict(secrets or {})
        self.variables = dict(variables or {})
        self.blocks = {name: dict(block) for name, block in (blocks or {}).items()}
        self.logs: list[LogReport] = []
        self.artifacts: list[ArtifactReport] = []
        self.tasks: dict[str, TaskReport] = {}  # as they are now, by id
        self.task_states: list[tuple[str, str]] = []  # every state that a task came into: (run's name, state's name)
        self.events: list[EventReport] = []
        self.cache: dict[str, tuple[Any, datetime | None]] = {}
        self.subflows: dict[str, SubflowQuestion] = {}
        self.subflow_states: dict[str, State] = {}
        self.questions: list[Question] = []
        self.released: list[str] = []
        self._clock = clock or SystemClock()

    @property
    def messages(self) -> list[str]:
        """The texts of the run's log, in order."""
        return [log.message for log in self.logs]

    def report(self, report: Report) -> None:
        if isinstance(report, LogReport):
            self.logs.append(report)
        elif isinstance(report, TaskReport):
            self.tasks[report.id] = report
            self.task_states.append((report.name, report.state.name))
        elif isinstance(report, ArtifactReport):
            kept = msgspec.structs.replace(report, data=msgspec.json.decode(canonical(report.data)))
            if report.update:
                at = next((i for i, each in enumerate(self.artifacts) if each.id == report.id), None)
                if at is not None:
                    self.artifacts[at] = msgspec.structs.replace(self.artifacts[at], data=kept.data)
            else:
                self.artifacts.append(kept)
        elif isinstance(report, CacheReport):
            self.cache[report.key] = (msgspec.json.decode(canonical(report.value)), report.expires)
        elif isinstance(report, EventReport):
            self.events.append(report)
        elif isinstance(report, SubflowEnded):
            self.subflow_states[report.flow_run_id] = report.state
        elif isinstance(report, SlotsReleased):
            self.released.append(report.lease)

    async def flush(self) -> None:
        """Everything is where it will ever be."""

    async def ask(self, question: Question) -> Any:
        self.questions.append(question)
        if isinstance(question, SecretQuestion):
            return self._secret(question.ref)
        if isinstance(question, CacheQuestion):
            return self._cached(question.key)
        if isinstance(question, SlotsQuestion):
            return None if question.rate else f"lease-{len(self.questions)}"
        if isinstance(question, VariableQuestion):
            return self.variables.get(question.name)
        if isinstance(question, VariableChange):
            return self._change(question)
        if isinstance(question, BlockQuestion):
            return self._block(question)
        if isinstance(question, SubflowQuestion):
            id_ = new_id(self._clock.now())
            self.subflows[id_] = question
            return id_
        raise TidemillError(f'only a daemon can answer "{question.__struct_config__.tag}"; run this as a deployment')

    def _secret(self, ref: SecretRef) -> str:
        name = ref.env or ref.credential or ref.file or ""
        if name not in self.secrets:
            raise TidemillError(f'the secret "{name}" is not set')
        return self.secrets[name]

    def _cached(self, key: str) -> dict[str, Any] | None:
        if key not in self.cache:
            return None
        value, expires = self.cache[key]
        return None if expires is not None and expires <= self._clock.now() else {"value": value}

    def _change(self, change: VariableChange) -> Any:
        before = self.variables.get(change.name)
        if change.value is None:
            self.variables.pop(change.name, None)
        elif before is not None and not change.overwrite:
            raise TidemillError(f'there is a variable "{change.name}" already; overwrite=True sets it anew')
        else:
            self.variables[change.name] = msgspec.json.decode(canonical(change.value))
        return before

    def _block(self, question: BlockQuestion) -> dict[str, Any]:
        block = self.blocks.get(question.name)
        if block is None:
            raise TidemillError(f'there is no block "{question.name}"')
        if question.type is not None and block.get("type", question.type) != question.type:
            raise TidemillError(f'block "{question.name}" is of type {block["type"]}, not {question.type}')
        return {"name": question.name, "type": question.type, **block}
