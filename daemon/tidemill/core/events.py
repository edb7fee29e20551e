"""What the daemon tells itself and others after each commit."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

from tidemill.core.runs import Artifact, FlowRun, SkippedFire, TaskRun
from tidemill.core.states import State


class RunChanged(msgspec.Struct, frozen=True):
    """A flow run entered ``states`` (in order; the last is ``run.state``) from ``before`` (None: it was made)."""

    run: FlowRun
    states: tuple[State, ...]
    before: State | None


class RunDeleted(msgspec.Struct, frozen=True):
    """A flow run was deleted with its history."""

    run_id: str
    seq: int
    deployment: str | None


class ArtifactStored(msgspec.Struct, frozen=True):
    """An artifact has a new version."""

    artifact: Artifact
    run: str | None = None  # the name of the run that made it


class ArtifactUpdated(msgspec.Struct, frozen=True):
    """A document was changed in place: how far something is, now."""

    artifact: Artifact


class FiresSkipped(msgspec.Struct, frozen=True):
    """Fires of a schedule made no run."""

    skipped: SkippedFire


class TaskRunChanged(msgspec.Struct, frozen=True):
    """A task run of ``run`` is in another state than before; states that it passed through quickly are not told."""

    run: FlowRun
    task: TaskRun


class Emitted(msgspec.Struct, frozen=True, kw_only=True):
    """The code of ``run`` says that something happened."""

    run: FlowRun
    event: str
    resource: dict[str, Any]
    payload: dict[str, Any] | None
    occurred: datetime
    id: str

    @property
    def about(self) -> str | None:
        """The id of what it happened to."""
        about = self.resource.get("prefect.resource.id")
        return None if about is None else str(about)


Event = RunChanged | RunDeleted | ArtifactStored | ArtifactUpdated | FiresSkipped | TaskRunChanged | Emitted
