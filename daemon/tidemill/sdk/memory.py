"""A recorder that keeps in memory what it is told: for tests of flows, without a daemon."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from tidemill.core.deployments import SecretRef
from tidemill.core.reports import ArtifactReport, LogReport, Question, Report
from tidemill.errors import TidemillError
from tidemill.sdk.canonical import canonical


class MemoryRecorder:
    """Keeps reports in order, and answers questions for secrets from ``secrets`` (by the env, credential or file name).

    >>> MemoryRecorder({"TOKEN": "s3cret"}).logs
    []
    """

    def __init__(self, secrets: Mapping[str, str] | None = None) -> None:
        self.secrets = dict(secrets or {})
        self.logs: list[LogReport] = []
        self.artifacts: list[ArtifactReport] = []
        self.others: list[Report] = []

    @property
    def messages(self) -> list[str]:
        """The texts of the run's log, in order."""
        return [log.message for log in self.logs]

    def report(self, report: Report) -> None:
        if isinstance(report, LogReport):
            self.logs.append(report)
        elif isinstance(report, ArtifactReport):
            self.artifacts.append(msgspec.structs.replace(report, data=msgspec.json.decode(canonical(report.data))))
        else:
            self.others.append(report)

    async def flush(self) -> None:
        """Everything is where it will ever be."""

    async def ask(self, question: Question) -> Any:
        ref: SecretRef = question.ref
        name = ref.env or ref.credential or ref.file or ""
        if name not in self.secrets:
            raise TidemillError(f'the secret "{name}" is not set')
        return self.secrets[name]
