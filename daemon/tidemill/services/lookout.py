"""The lookout: what only the daemon itself knows of why something does not run, at one moment."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from tidemill.core.ports import RemoteRunner
from tidemill.core.why import Drain, Live
from tidemill.services.catalogue import Catalogue
from tidemill.services.dispatcher import Dispatcher
from tidemill.services.draining import Draining
from tidemill.services.timekeeper import Timekeeper
from tidemill.services.worker import Worker
from tidemill.store import Store


class Lookout:
    """Looks at the services."""

    def __init__(
        self,
        *,
        store: Store,
        catalogue: Catalogue,
        dispatcher: Dispatcher,
        timekeeper: Timekeeper,
        draining: Draining,
        workers: Mapping[str, Worker],
        unfit: Callable[[], Mapping[str, str]],
        stopping: Callable[[], bool],
    ) -> None:
        self._store = store
        self._catalogue = catalogue
        self._dispatcher = dispatcher
        self._timekeeper = timekeeper
        self._draining = draining
        self._workers = workers
        self._unfit = unfit
        self._stopping = stopping

    def live(self) -> Live:
        """Return what they know."""
        settings, limits, lineup = self._catalogue.settings, self._catalogue.limits(), self._dispatcher.lineup
        since = self._draining.since
        keep = settings.retention.keep
        return Live(
            timezone=settings.daemon.timezone,
            held=self._timekeeper.held,
            degraded=self._store.degraded,
            drain=Drain(since=since, by=self._draining.by) if since is not None else None,
            stopping=self._stopping(),
            slots=limits.slots,
            used={limit: lineup.used(limit) for limit in limits.slots},
            unreachable={
                name: worker.runner.problem
                for name, worker in self._workers.items()
                if isinstance(worker.runner, RemoteRunner) and worker.runner.problem is not None
            },
            unfit=dict(self._unfit()),
            keep=keep,
            upcoming=settings.daemon.upcoming,
        )
