"""The recorder of a script without a daemon: tells on standard error what happens, and keeps nothing."""

from __future__ import annotations

import logging
import sys
import threading
from datetime import datetime
from typing import Any, TextIO

from tidemill.clock import Clock
from tidemill.core.reports import BlockQuestion, LogReport, Question, Report, SecretQuestion, SubflowEnded, TaskReport
from tidemill.core.states import TERMINAL
from tidemill.errors import TidemillError
from tidemill.sdk.memory import MemoryRecorder


class LocalRecorder(MemoryRecorder):
    """Writes log lines and the ends of task runs as they come. Cached results live as long as the process.

    ``level`` is logging's number; less is not written.
    """

    def __init__(self, flow_run: str, clock: Clock, stream: TextIO | None = None, level: int = logging.INFO) -> None:
        super().__init__(clock=clock)
        self.flow_run = flow_run
        self._stream = stream
        self._level = level
        self._writing = threading.Lock()
        with _SHARED:
            self.cache, self.variables = _CACHE, _VARIABLES

    def report(self, report: Report) -> None:
        if isinstance(report, LogReport):
            name = _NAMES.get(report.task_run_id or "") if report.task_run_id else None
            who = f"Task run {name!r}" if name is not None else self._flow_run(report.flow_run_id)
            self.tell(report.level, who, report.message, report.at)
        elif isinstance(report, TaskReport):
            if report.state.type in TERMINAL or report.state.name == "NotReady":
                _NAMES.pop(report.id, None)
                level = logging.INFO if report.state.type == "COMPLETED" else logging.ERROR
                message = f" ({report.state.message})" if report.state.message else ""
                self.tell(
                    level,
                    f"Task run {report.name!r}",
                    f"Finished in state {report.state.name}{message}",
                    report.state.timestamp,
                )
            else:
                _NAMES[report.id] = report.name
        elif isinstance(report, SubflowEnded):
            level = logging.INFO if report.state.type == "COMPLETED" else logging.ERROR
            who = self._flow_run(report.flow_run_id)
            self.subflows.pop(report.flow_run_id, None)
            self.tell(level, who, f"Finished in state {report.state.name}", report.state.timestamp)
        else:
            super().report(report)

    async def ask(self, question: Question) -> Any:
        if isinstance(question, SecretQuestion):
            raise TidemillError("secrets of the configuration are the daemon's; a script reads its own")
        self.questions.clear()
        return await super().ask(question)

    def _flow_run(self, subflow_id: str | None) -> str:
        begun = self.subflows.get(subflow_id or "")
        return f"Flow run {self.flow_run!r}" if begun is None else f"Subflow run {begun.name or begun.flow!r}"

    def _block(self, question: BlockQuestion) -> dict[str, Any]:
        raise TidemillError(
            f"there is no block {question.name}: no daemon was found, and blocks stand in its configuration; "
            "set TIDEMILL_API_URL, or run this as a deployment"
        )

    def tell(self, level: int, who: str, message: str, at: datetime) -> None:
        """Write one line, in Prefect's style: time, level, who, message."""
        if level < self._level:
            return
        stream = self._stream or getattr(sys.stderr, "original", sys.stderr)
        local = at.astimezone()
        line = (
            f"{local:%H:%M:%S}.{local.microsecond // 1000:03d} | {logging.getLevelName(level):<7} | {who} - {message}\n"
        )
        if stream is not None:
            with self._writing:
                stream.write(line)


# A process without a daemon still resumes and shares what its own tasks cached.
_SHARED = threading.Lock()
_CACHE: dict[str, tuple[Any, datetime | None]] = {}
_VARIABLES: dict[str, Any] = {}
_NAMES: dict[str, str] = {}  # of task runs that are going on
