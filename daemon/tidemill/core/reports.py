"""What user code and the daemon tell each other, over whatever lies between: a call, a pipe, Dask, HTTP.

Reports go one way and are not waited for; questions are answered. All are JSON-able values with a ``kind`` on the wire.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import msgspec

from tidemill.core.deployments import SecretRef
from tidemill.core.states import State


class _Told(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", omit_defaults=True):
    pass


# --- reports --------------------------------------------------------------------------------------------------------


class LogReport(_Told, frozen=True, kw_only=True, tag="log"):
    """A line that flow code printed or logged."""

    at: datetime
    level: int  # logging's number; prints are INFO
    logger: str  # "print" for prints, stdout/stderr of a child process under their names
    message: str
    task_run_id: str | None = None
    flow_run_id: str | None = None  # of a subflow; None: the run itself


class ArtifactReport(_Told, frozen=True, kw_only=True, tag="artifact"):
    """A document that flow code made. ``data`` is any JSON value; NaN and Infinity are refused by the recorder."""

    key: str | None
    type: str  # json, table, markdown, link, image, progress
    data: Any
    description: str | None = None
    keep_versions: int | None = None
    new_version: bool = False
    task_run_id: str | None = None
    id: str | None = None  # chosen by the maker, to be updated later (progress); None: the daemon chooses
    update: bool = False  # change the artifact of that id in place instead of making a version


class TaskReport(_Told, frozen=True, kw_only=True, tag="task"):
    """A task run as it is now. Later reports of one ``id`` replace earlier ones, by ``state_number``."""

    id: str
    name: str
    task_key: str
    dynamic_key: str
    state: State
    state_number: int = 1
    attempt: int = 0
    tags: tuple[str, ...] = ()
    created: datetime
    expected_start: datetime | None = None
    start_time: datetime | None = None
    end_time: datetime | None = None
    run_time_s: float = 0.0
    cache_key: str | None = None
    flow_run_id: str | None = None  # of a subflow; None: the run itself


class CacheReport(_Told, frozen=True, kw_only=True, tag="cache"):
    """A task's result, to be found again under ``key``. ``expires`` None: never."""

    key: str
    value: Any  # JSON
    expires: datetime | None = None


class SlotsReleased(_Told, frozen=True, kw_only=True, tag="slots_released"):
    """Slots got by a SlotsQuestion are given back."""

    lease: str


class EventReport(_Told, frozen=True, kw_only=True, tag="event"):
    """Something that flow code says happened."""

    event: str
    resource: dict[str, Any]
    payload: dict[str, Any] | None = None
    occurred: datetime


class SubflowEnded(_Told, frozen=True, kw_only=True, tag="subflow_ended"):
    """A subflow's run has ended in ``state`` (terminal)."""

    flow_run_id: str
    state: State


class ProcessReport(_Told, frozen=True, kw_only=True, tag="process"):
    """The attempt has started a process, the leader of its own group, which must not outlive the attempt.

    With ``birth``, in clock ticks since the boot of that id, a later daemon knows it again: a pid alone comes again.
    """

    pid: int
    birth: int
    boot_id: str


Report = (
    ProcessReport | LogReport | ArtifactReport | TaskReport | CacheReport | SlotsReleased | EventReport | SubflowEnded
)


# --- questions ------------------------------------------------------------------------------------------------------


class SecretQuestion(_Told, frozen=True, kw_only=True, tag="secret"):
    """The secret's value, a str. It is redacted from everything the daemon writes from then on."""

    ref: SecretRef


class SlotsQuestion(_Told, frozen=True, kw_only=True, tag="slots"):
    """Wait for ``occupy`` slots of each named concurrency limit; the answer is a lease (str) for SlotsReleased.

    A lease ends with its run at the latest, so no crash or cancellation leaks one. With ``rate`` the slots decay by
    themselves (slot_decay_per_second) and the answer is None. A name with no limit configured is free, or an error with
    ``strict``. ``timeout_s`` None: wait for ever; when it ends, the error's text begins with "timed out".
    ``tag:NAME`` names the tag limit of NAME.
    """

    names: tuple[str, ...]
    occupy: int = 1
    timeout_s: float | None = None
    strict: bool = False
    rate: bool = False


class CacheQuestion(_Told, frozen=True, kw_only=True, tag="cache"):
    """A task's earlier result: a CacheHit document ``{"value": …}``, or None."""

    key: str


class VariableQuestion(_Told, frozen=True, kw_only=True, tag="variable"):
    """A variable's JSON value; None where there is none."""

    name: str


class VariableChange(_Told, frozen=True, kw_only=True, tag="variable_change"):
    """Set a variable (``value`` None: remove it); the answer is the value before."""

    name: str
    value: Any
    tags: tuple[str, ...] = ()
    overwrite: bool = False


class BlockQuestion(_Told, frozen=True, kw_only=True, tag="block"):
    """A configured block: ``{"type": …, "name": …, **fields}`` with its secrets, which are redacted from then on."""

    name: str
    type: str | None = None


class PauseQuestion(_Told, frozen=True, kw_only=True, tag="pause"):
    """Pause the asking flow run until it is resumed; the answer is what the resuming person gave (JSON or None).

    ``timeout_s``: the answer is then an error whose text begins with "timed out".
    """

    timeout_s: float | None = 3600.0
    schema: dict[str, Any] | None = None  # what a person's input has to fit, as JSON schema; None: anything goes
    key: str | None = None  # a pause of this key that the run was resumed from before is passed over
    flow_run_id: str | None = None  # of a subflow; None: the run itself


class ResumeQuestion(_Told, frozen=True, kw_only=True, tag="resume"):
    """Resume a paused flow run; the answer is its document."""

    flow_run_id: str
    input: Any = None


class RunDeploymentQuestion(_Told, frozen=True, kw_only=True, tag="run_deployment"):
    """Make a run of a deployment; the answer is its flow-run document (Prefect's field names)."""

    deployment: str
    parameters: dict[str, Any] = {}
    tags: tuple[str, ...] = ()
    name: str | None = None
    scheduled_time: datetime | None = None
    idempotency_key: str | None = None
    as_subflow: bool = True  # False: the run has no parent, and is not cancelled with the one that asks


class RunStateQuestion(_Told, frozen=True, kw_only=True, tag="run_state"):
    """A flow run's document, once it is in a terminal state or ``timeout_s`` is over, whichever is first."""

    flow_run_id: str
    timeout_s: float | None = None


class SubflowQuestion(_Told, frozen=True, kw_only=True, tag="subflow"):
    """Begin a subflow: a flow run of its own, RUNNING and durable when answered; the answer is its id (str).

    ``parent_task_run_id`` links it to the task run that stands for it in the parent.
    """

    flow: str
    name: str | None
    parameters: dict[str, Any]
    tags: tuple[str, ...] = ()
    parent_flow_run_id: str | None = None  # None: the run itself
    parent_task_run_id: str | None = None
    timeout: timedelta | None = None


Question = (
    SecretQuestion
    | SlotsQuestion
    | CacheQuestion
    | VariableQuestion
    | VariableChange
    | BlockQuestion
    | PauseQuestion
    | ResumeQuestion
    | RunDeploymentQuestion
    | RunStateQuestion
    | SubflowQuestion
)
