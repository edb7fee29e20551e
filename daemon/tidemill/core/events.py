"""What the daemon tells itself and others after each commit."""

from __future__ import annotations

import msgspec

from tidemill.core.runs import Artifact, FlowRun, SkippedFire
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


class FiresSkipped(msgspec.Struct, frozen=True):
    """Fires of a schedule made no run."""

    skipped: SkippedFire


Event = RunChanged | RunDeleted | ArtifactStored | FiresSkipped
