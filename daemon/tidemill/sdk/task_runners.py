"""How many submitted tasks of a flow run at a time."""

from __future__ import annotations

from typing import Any


class TaskRunner:
    """Base of what ``@flow(task_runner=...)`` takes: bounds alone. Each flow run has threads of its own."""

    def __init__(self, max_workers: int | None = None) -> None:
        if max_workers is not None and (isinstance(max_workers, bool) or max_workers < 1):
            raise ValueError(f"max_workers is at least 1, not {max_workers!r}")
        self.max_workers = max_workers

    @property
    def name(self) -> str:
        return type(self).__name__.lower().replace("taskrunner", "")

    def duplicate(self) -> TaskRunner:
        """Return another one with the same bounds."""
        return type(self)(self.max_workers)

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self.__dict__ == other.__dict__

    __hash__ = object.__hash__

    def __repr__(self) -> str:
        return f"{type(self).__name__}(max_workers={self.max_workers})"


class ThreadPoolTaskRunner(TaskRunner):
    """Sync tasks in at most ``max_workers`` threads (32 if None), async ones on one loop, as many (1,000 if None).

    A task that waits for another one does not count meanwhile.
    """


class ConcurrentTaskRunner(TaskRunner):
    """The same as :class:`ThreadPoolTaskRunner`, under its older name."""


def configured(given: Any) -> TaskRunner:
    """Return the runner that a flow asks for: an instance, a class, or None for the default."""
    if given is None:
        return ThreadPoolTaskRunner()
    made = given() if isinstance(given, type) else given
    if not isinstance(made, TaskRunner):
        raise TypeError(f"task_runner is a ThreadPoolTaskRunner or ConcurrentTaskRunner, not {type(made).__name__}")
    return made
