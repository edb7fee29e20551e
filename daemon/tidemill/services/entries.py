"""The scheduler's entries: one for each schedule of each deployment, and how far it has been planned."""

from __future__ import annotations

import hashlib
from datetime import datetime

import msgspec
from msgspec.structs import replace

from tidemill.core.deployments import Deployment
from tidemill.core.schedules import CompiledSchedule


class Entry:
    """One schedule of one deployment, and how far it has been planned."""

    __slots__ = ("ahead", "compiled", "cursor", "deployment", "key", "planned_as")

    def __init__(self, deployment: Deployment, compiled: CompiledSchedule, key: str, cursor: datetime) -> None:
        self.deployment = deployment
        self.compiled = compiled
        self.key = key
        self.cursor = cursor
        self.planned_as = digest(deployment, compiled)
        self.ahead: list[datetime] = []  # planned fires that are still to come, in order

    def drop_passed(self, now: datetime) -> None:
        """Forget planned fires that are not to come any more."""
        while self.ahead and self.ahead[0] <= now:
            self.ahead.pop(0)


def digest(deployment: Deployment, compiled: CompiledSchedule) -> str:
    """Return a digest of what a planned run takes from its deployment; where it changes, upcoming runs are replaced.

    The schedule's content is in it too: a named schedule keeps its identity when its content changes.
    """
    parts = (
        deployment.flow,
        deployment.parameters,
        deployment.work_pool,
        deployment.work_queue,
        deployment.tags,
        replace(compiled.schedule, name=None, active=True),
    )
    return hashlib.blake2b(msgspec.json.encode(parts, order="sorted"), digest_size=8).hexdigest()
