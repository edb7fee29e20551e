"""Looking for what is wrong with the daemon itself: its configuration, its code, its database, its clock."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta

from tidemill.core.messages import one_line
from tidemill.core.notices import NoticeKind
from tidemill.core.ports import RemoteRunner
from tidemill.core.troubles import CHANNEL, CODE_OF, Trouble
from tidemill.services.outbox import Outbox
from tidemill.services.status import Status
from tidemill.services.timekeeper import Timekeeper
from tidemill.services.worker import Worker
from tidemill.store import Store

BROKEN = timedelta(minutes=15)  # how long a channel may fail before others hear of it
FAULTS = 20  # told in one message
_WIDTH = 110


class Troubles:
    """Looks at the services; an answer is a subject with a space in it, which no deployment's name has."""

    def __init__(
        self, *, store: Store, timekeeper: Timekeeper, workers: Mapping[str, Worker], status: Status, outbox: Outbox
    ) -> None:
        self._store = store
        self._timekeeper = timekeeper
        self._workers = workers
        self._status = status
        self._outbox = outbox

    def now(self) -> dict[str, Trouble]:
        """Return what is wrong now."""
        found: dict[str, Trouble] = {}
        self._configuration(found)
        for name, reason in self._status.unfit.items():
            found[f"{CODE_OF}{name}"] = Trouble(
                kind=NoticeKind.BROKEN_CONFIG,
                subject=f"{name} cannot run: {one_line(reason, _WIDTH)}",
                lines=("Its runs fail until its code loads again.", "", *reason.split("; ")[:FAULTS]),
            )
        if self._store.degraded is not None:
            found["the database"] = Trouble(
                kind=NoticeKind.TROUBLE,
                subject=f"nothing can be recorded: {one_line(self._store.degraded, _WIDTH)}",
                lines=(
                    "No run starts until the database can be written again; the daemon tries by itself.",
                    f"It is {self._store.path}. Make room there, or see to the disk.",
                ),
            )
        if self._timekeeper.held is not None:
            found["the clock"] = Trouble(
                kind=NoticeKind.TROUBLE,
                subject=f"nothing is scheduled: {one_line(self._timekeeper.held, _WIDTH)}",
                lines=("Set this machine's clock right; scheduling then goes on by itself.",),
            )
        for name, error in self._outbox.broken(BROKEN).items():
            found[f"{CHANNEL}{name}"] = Trouble(
                kind=NoticeKind.TROUBLE,
                subject=f"{CHANNEL}{name} does not work: {one_line(error, _WIDTH)}",
                lines=(
                    "What is to be told by it waits, for three days at most.",
                    "",
                    f"Look  tidemill notify test {name}",
                ),
            )
        for name, worker in self._workers.items():
            if isinstance(worker.runner, RemoteRunner) and worker.runner.problem is not None:
                found[f"work pool {name}"] = Trouble(
                    kind=NoticeKind.TROUBLE,
                    subject=f"work pool {name} is out of reach: {one_line(worker.runner.problem, _WIDTH)}",
                    lines=("Its runs wait until it can be reached again.",),
                )
        return found

    def _configuration(self, found: dict[str, Trouble]) -> None:
        status = self._status
        file = status.config_file or "the configuration"
        reload = status.parts["reload"]() if "reload" in status.parts else None
        faults: Sequence[str] = ()
        if status.config_faults:
            faults, means = status.config_faults, "The daemon runs by the last configuration that was good."
        elif reload and reload["outcome"] == "refused":
            faults, means = reload.get("faults") or (reload["summary"],), "What was in force before goes on as it was."
        if faults:
            more = [f"… and {len(faults) - FAULTS} more"] if len(faults) > FAULTS else []
            found["the configuration"] = Trouble(
                kind=NoticeKind.BROKEN_CONFIG,
                subject=f"configuration refused: {one_line(faults[0], _WIDTH)}",
                lines=(
                    f"{file} has {len(faults)} fault{'' if len(faults) == 1 else 's'}, so nothing of it took effect.",
                    means,
                    "",
                    *(f"  {each}" for each in faults[:FAULTS]),
                    *more,
                    "",
                    f"Look  tidemill check {file}",
                ),
            )
