"""The configuration in force: what the file says, with what was set by hand on top."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from tidemill.config.settings import Settings
from tidemill.core.admission import Limits, limits_of
from tidemill.core.automations import Automation
from tidemill.core.deployments import Deployment, WorkPool, WorkQueue
from tidemill.core.overrides import Override
from tidemill.core.schedules import CompiledSchedule, compile_schedule
from tidemill.errors import NotFoundError
from tidemill.ids import stable_id


def alike(name: str) -> str:
    """Return the form under which names that differ only in ``_`` and ``-`` are the same."""
    return name.replace("_", "-")


class Catalogue:
    """Deployments, queues and pools by name. Replaced settings and overrides take effect at the next look."""

    def __init__(
        self,
        settings: Settings,
        *,
        instance: str,
        overrides: Iterable[Override] = (),
        compiled: Mapping[str, Sequence[CompiledSchedule]] | None = None,
    ) -> None:
        self.instance = instance
        self._ids: dict[tuple[str, str], str] = {}
        self._compiled = compiled or {}
        self._overrides = {(each.kind, each.name, each.key): each for each in overrides}
        self.settings = settings
        # Told of (settings before, settings now) after a reload; each must not wait.
        self.on_replaced: list[Callable[[Settings, Settings], None]] = []

    def replace(self, settings: Settings, compiled: Mapping[str, Sequence[CompiledSchedule]]) -> None:
        """Put a new configuration in force, in one step; who holds something of the old one is told."""
        before, self.settings, self._compiled = self.settings, settings, compiled
        for tell in self.on_replaced:
            tell(before, settings)

    @property
    def deployments(self) -> Mapping[str, Deployment]:
        return self.settings.deployments

    def schedules(self, deployment: Deployment) -> Sequence[CompiledSchedule]:
        """Return a deployment's schedules, ready to be asked."""
        known = self._compiled.get(deployment.name)
        return known if known is not None else [compile_schedule(each) for each in deployment.schedules]

    @property
    def queues(self) -> Mapping[str, WorkQueue]:
        return self.settings.work_queues

    @property
    def pools(self) -> Mapping[str, WorkPool]:
        return self.settings.work_pools

    @property
    def overrides(self) -> list[Override]:
        """What is set by hand and still holds."""
        return list(self._overrides.values())

    def obsolete(self) -> list[Override]:
        """Return the overrides that no longer hold: their thing is gone, or the file's own value has changed since."""
        return [
            each
            for each in self._overrides.values()
            if self._thing(each.kind, each.name) is None
            or self.file_value(each.kind, each.name, each.key) != each.file_value
        ]

    def set_override(self, override: Override) -> None:
        """Let an override take effect. It was made durable before."""
        self._overrides[override.kind, override.name, override.key] = override

    def clear_override(self, kind: str, name: str, key: str) -> None:
        """Let the file's value be in force again."""
        self._overrides.pop((kind, name, key), None)

    def file_value(self, kind: str, name: str, key: str) -> Any:
        """Return what the file says of one key."""
        return getattr(self._thing(kind, name), key, None)

    def value(self, kind: str, name: str, key: str) -> Any:
        """Return what is in force of one key."""
        override = self._overrides.get((kind, name, key))
        return override.value if override is not None else self.file_value(kind, name, key)

    def paused(self, kind: str, name: str) -> bool:
        """Say whether a deployment, work_queue or work_pool is paused."""
        return bool(self.value(kind, name, "paused"))

    def concurrency_limit(self, kind: str, name: str) -> int | None:
        """Return the slots of a deployment, work_queue or work_pool; None: unbounded."""
        limit: int | None = self.value(kind, name, "concurrency_limit")
        return limit

    def limits(self) -> Limits:
        """Return all limits in force, for the lines in front of the pools."""
        deployments = {name: self.concurrency_limit("deployment", name) for name in self.deployments}
        return limits_of(
            deployments={name: limit for name, limit in deployments.items() if limit is not None},
            queues={
                name: (
                    self.value("work_queue", name, "priority"),
                    self.concurrency_limit("work_queue", name),
                    self.paused("work_queue", name),
                )
                for name in self.queues
            },
            pools={
                name: (
                    self.concurrency_limit("work_pool", name) or pool.concurrency_limit,
                    self.paused("work_pool", name),
                )
                for name, pool in self.pools.items()
            },
            tags=self.settings.tag_limits,
        )

    def find(self, text: str) -> Deployment:
        """Return the deployment called ``name`` or ``flow/name`` (``_`` and ``-`` alike), or of that id.

        Raises NotFoundError, which lists near names.
        """
        deployment = self.deployments.get(text)
        if deployment is not None:
            return deployment
        wanted = alike(text)
        for each in self.deployments.values():
            if wanted in (
                alike(each.name),
                alike(f"{each.flow.name}/{each.name}"),
                self.id_of("deployment", each.name),
            ):
                return each
        raise NotFoundError(_not_found("deployment", text, self.deployments))

    def find_queue(self, text: str) -> WorkQueue:
        """Return the work queue of that name or id; raises NotFoundError."""
        for queue in self.queues.values():
            if text in (queue.name, self.id_of("work_queue", queue.name)) or alike(text) == alike(queue.name):
                return queue
        raise NotFoundError(_not_found("work queue", text, self.queues))

    def find_pool(self, text: str) -> WorkPool:
        """Return the work pool of that name or id; raises NotFoundError."""
        for pool in self.pools.values():
            if text in (pool.name, self.id_of("work_pool", pool.name)) or alike(text) == alike(pool.name):
                return pool
        raise NotFoundError(_not_found("work pool", text, self.pools))

    def find_automation(self, text: str) -> Automation:
        """Return the automation of that name or id; raises NotFoundError."""
        stated = self.settings.automations
        for each in stated.values():
            if text in (each.name, self.id_of("automation", each.name)) or alike(text) == alike(each.name):
                return each
        raise NotFoundError(_not_found("automation", text, stated))

    def id_of(self, kind: str, name: str) -> str:
        """Return the UUID of a configured thing."""
        known = self._ids.get((kind, name))
        if known is None:  # each run asks for its deployment's
            known = self._ids[kind, name] = stable_id(self.instance, kind, name)
        return known

    def _thing(self, kind: str, name: str) -> Deployment | WorkQueue | WorkPool | Automation | None:
        if kind == "deployment":
            return self.deployments.get(name)
        if kind == "automation":
            return self.settings.automations.get(name)
        return self.queues.get(name) if kind == "work_queue" else self.pools.get(name)


def _not_found(kind: str, text: str, names: Iterable[str]) -> str:
    known = sorted(names)
    near = difflib.get_close_matches(text.rsplit("/", 1)[-1], known, n=3)
    if near:
        return f"no {kind} is called {text}; did you mean {' or '.join(near)}?"
    return f"no {kind} is called {text}; there are {', '.join(known[:10]) or 'none'}" + (
        " …" if len(known) > 10 else ""
    )
