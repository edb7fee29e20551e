"""The ports: what the daemon asks of the world, so that the world can be replaced."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, Protocol, TypeVar, runtime_checkable

import msgspec

from tidemill.core.deployments import FlowRef, Limits
from tidemill.core.reports import Question, Report
from tidemill.core.retries import RetryPolicy
from tidemill.core.states import StateType

T = TypeVar("T")


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt of a flow run, as handed to a runner. Everything a runner may know."""

    run_id: str
    run_name: str
    attempt: int
    flow: FlowRef
    deployment: str | None
    parameters: dict[str, Any]
    tags: tuple[str, ...] = ()
    timeout: timedelta | None = None
    due: datetime | None = None
    expected_start: datetime
    work_pool: str = "default"
    work_queue: str = "default"
    python: str | None = None  # process pools: the interpreter's path; None: tidemill's own
    limits: Limits = Limits()  # process pools
    deployment_id: str | None = None
    parent_flow_run_id: str | None = None  # the run whose code asked for this one


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """How an attempt ended. ``retriable`` and ``retry_after`` are the flow's advice; the policy decides."""

    type: StateType  # COMPLETED, FAILED, CRASHED or CANCELLED
    name: str
    message: str | None = None
    data: Any = None  # JSON
    retriable: bool = True
    retry_after: timedelta | None = None
    retry: RetryPolicy | None = None  # the flow's own policy; it holds where the deployment sets none
    abandoned: bool = False  # the code still runs though its run has ended; its slot is not free


class Recorder(Protocol):
    """The one port between user code and the daemon: in it, a call; in a child, a pipe; in a script, the API."""

    def report(self, report: Report) -> None:
        """Hand over a report: never waits, keeps order, callable from any thread, bounded (drops are counted).

        Raises ``ValueError`` for an artifact that is not JSON or is too large: the maker hears of it at once.
        """
        ...

    async def flush(self) -> None:
        """Return when everything reported so far is durable."""
        ...

    async def ask(self, question: Question) -> Any:
        """Return the answer; raises a TidemillError that says why not."""
        ...


class Cancellation:
    """A request that one attempt should end, made once by the daemon and heard by the attempt's runner.

    ``reason`` says why in words; ``crashed`` says that the daemon stops and the attempt counts as cut off.
    Not thread-safe: both sides live on the loop.
    """

    __slots__ = ("_hear", "crashed", "reason")

    def __init__(self) -> None:
        self.reason: str | None = None
        self.crashed = False
        self._hear: Callable[[], None] | None = None

    @property
    def requested(self) -> bool:
        return self.reason is not None

    def request(self, reason: str, *, crashed: bool = False) -> None:
        """Ask the attempt to end. A second request changes nothing."""
        if self.reason is not None:
            return
        self.reason, self.crashed = reason, crashed
        if self._hear is not None:
            self._hear()

    def on_request(self, hear: Callable[[], None]) -> None:
        """Call ``hear`` at the request, or at once where it was made already."""
        self._hear = hear
        if self.requested:
            hear()


class Runner(Protocol):
    """Carries one attempt through. One conformance suite holds all implementations to the same behaviour."""

    async def run(self, job: Job, recorder: Recorder, cancellation: Cancellation) -> Outcome:
        """Run the flow's code to its end and say how it ended. Never raises for what the code does.

        Enforces ``job.timeout`` (FAILED, named TimedOut) and ``cancellation`` (CANCELLED, or CRASHED where it says so).
        Code that does not end within the runner's grace after either is left behind: ``Outcome.abandoned``.
        """
        ...

    @property
    def abandoned(self) -> int:
        """How many attempts were left behind and still run."""
        ...

    async def left(self, job: Job) -> None:
        """Return when the code that this attempt left behind (``Outcome.abandoned``) has ended after all."""
        ...

    async def aclose(self) -> None:
        """Give back what the runner holds. Attempts still running have been cancelled before."""
        ...


class Detached(Exception):  # noqa: N818 - nothing went wrong
    """The runner lets go of an attempt: it goes on elsewhere, and a later daemon adopts it, or it never ``began``."""

    def __init__(self, *, began: bool) -> None:
        super().__init__()
        self.began = began


@runtime_checkable
class RemoteRunner(Runner, Protocol):
    """A runner on other machines: it may be out of reach, and what it runs outlives the daemon."""

    def start(self, changed: Callable[[], None]) -> None:
        """Come within reach; ``changed`` is called, on the loop, whenever ``problem`` is another one."""
        ...

    @property
    def problem(self) -> str | None:
        """Why nothing can be started now, in words; None: it can."""
        ...

    async def adopt(self, job: Job, recorder: Recorder, cancellation: Cancellation) -> Outcome:
        """Go on with an attempt that an earlier daemon began. Call it before :meth:`start`; else like :meth:`run`."""
        ...

    def detach(self) -> None:
        """Let go of every attempt, as the daemon stops: :meth:`run` and :meth:`adopt` raise Detached."""
        ...


class Threads(Protocol):
    """Where blocking calls go. The real one has a bounded number of threads; the virtual clock's runs them inline."""

    async def run(self, call: Callable[[], T], /) -> T:
        """Run ``call`` in a thread with the caller's context variables; a cancelled caller leaves the thread behind."""
        ...
