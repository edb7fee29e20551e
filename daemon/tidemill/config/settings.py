"""What the files say, validated: values that are never changed, only replaced by another load."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Any

import msgspec

from tidemill.core.automations import Automation
from tidemill.core.blocks import Block
from tidemill.core.channels import Channel
from tidemill.core.deployments import CatchUp, Deployment, Mode, Ping, WorkPool, WorkQueue
from tidemill.core.slots import SlotLimit

_NOTHING: Mapping[str, Any] = MappingProxyType({})


class LogFormat(enum.StrEnum):
    AUTO = "auto"  # for people; with fields for the journal under systemd
    HUMAN = "human"
    LOGFMT = "logfmt"
    JSON = "json"


class LogLevel(enum.StrEnum):
    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class DaemonSettings(msgspec.Struct, frozen=True, kw_only=True):
    """``[daemon]``: where things are, and what deployments do unless they say otherwise."""

    timezone: str  # IANA name; the machine's zone where the file names none
    flows: Path  # absolute; entrypoints are loaded from here
    include: tuple[str, ...] = ()  # as written
    grace_period: timedelta = timedelta(seconds=30)
    upcoming: int = 3  # runs shown ahead, per schedule
    import_timeout: timedelta = timedelta(seconds=20)
    catch_up: CatchUp = CatchUp.LATEST
    catch_up_window: timedelta = timedelta(days=1)
    late_after: timedelta = timedelta(seconds=15)
    mode: Mode = Mode.RUN
    ping: Ping | None = None  # who is told outside that the daemon is well
    ping_interval: timedelta = timedelta(minutes=1)


class ApiSettings(msgspec.Struct, frozen=True, kw_only=True):
    """``[api]``: the HTTP side. The control socket is there whatever this says."""

    listen: tuple[str, ...] = ("127.0.0.1:4200",)  # HOST:PORT, [IPV6]:PORT or unix:/path; empty: none
    allowed_hosts: tuple[str, ...] = ()  # beside the loopback names
    sample: bool = False  # GET /sample/activity answers


class RetentionSettings(msgspec.Struct, frozen=True, kw_only=True):
    """``[retention]``: how much history is kept. None: no limit."""

    keep: timedelta | None = timedelta(days=90)
    keep_runs_per_deployment: int | None = 1000
    max_database_size: int | None = 2 * 1024**3  # bytes
    keep_artifact_versions: int = 100
    keep_logs: timedelta | None = None  # None: as long as their runs


class LogSettings(msgspec.Struct, frozen=True, kw_only=True):
    """``[log]``: what the daemon writes to stdout, and to a file."""

    format: LogFormat = LogFormat.AUTO
    level: LogLevel = LogLevel.INFO
    run_output: bool = True  # what runs print, too
    max_lines_per_second: int = 1000  # of one run's output
    file: str | None = None  # a whole path; gets the same lines


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Everything. Names map to what stands under them, in the order of the files."""

    daemon: DaemonSettings
    api: ApiSettings = ApiSettings()
    retention: RetentionSettings = RetentionSettings()
    log: LogSettings = LogSettings()
    deployments: Mapping[str, Deployment] = _NOTHING
    work_queues: Mapping[str, WorkQueue] = _NOTHING  # with the automatic ones
    work_pools: Mapping[str, WorkPool] = _NOTHING  # "default" is always there
    variables: Mapping[str, Any] = _NOTHING  # JSON values
    tag_limits: Mapping[str, int] = _NOTHING  # tag -> runs at a time; and, counted apart, task runs at a time
    concurrency_limits: Mapping[str, SlotLimit] = _NOTHING
    blocks: Mapping[str, Block] = _NOTHING
    notify: Mapping[str, Channel] = _NOTHING  # who is told
    automations: Mapping[str, Automation] = _NOTHING
