"""A run followed at the terminal: its log, its states, and how far it is."""

from __future__ import annotations

import sys
from typing import Any

from tidemill.cli import text, times
from tidemill.cli.session import Session
from tidemill.errors import EXIT_FAILED, EXIT_OK

LEVELS = {"DEBUG": 10, "INFO": 20, "WARNING": 30, "ERROR": 40, "CRITICAL": 50}
BAR = 20  # characters of a progress bar
STEP = 10  # per cent of progress that are a line where there is no terminal
CLEAR = "\r\x1b[K"


def follow(session: Session, run_id: str, *, level: int | None = None, tail: int | None = None) -> int:
    """Print a run's log until it has ended."""
    for event, data in session.stream("/logs/stream", flow_run_id=run_id, level=level, tail=tail):
        if event == "log":
            print_line(session, data)
        elif event == "end":
            return EXIT_OK
    return _cut_off(session)


def watch(session: Session, run_id: str) -> int:
    """Print a run's log, states and progress until it has ended, or with JSON the run then.

    Returns EXIT_FAILED unless it completed.
    """
    screen = Screen(session)
    try:
        for event, data in session.stream("/logs/stream", flow_run_id=run_id, progress="true"):
            if event == "end":
                screen.end()
                if session.json:
                    session.show(data)
                return EXIT_OK if data["state_type"] == "COMPLETED" else EXIT_FAILED
            if not session.json:
                screen.tell(event, data)
    finally:
        screen.end()
    return _cut_off(session)


def _cut_off(session: Session) -> int:
    session.note("the daemon ended the stream before the run ended; look again with `tidemill flow-run inspect`")
    return EXIT_FAILED


class Screen:
    """Lines that go by, and on a terminal below them one that stays: how far the run is."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._stays = sys.stdout.isatty() and not session.json
        self._state: dict[str, Any] | None = None
        self._tasks = ""
        self._progress: dict[str, tuple[str, float]] = {}  # by id: what, and its per cent
        self._steps: dict[str, int] = {}
        self._shown = False

    def tell(self, event: str, data: Any) -> None:
        """Show one message of the stream."""
        self._clear()
        if event == "log":
            print_line(self._session, data)
        elif event == "state":
            self._state = data
            _print_state(data)
        elif event == "progress":
            self._tasks = tasks_told(data["task_runs"])
            for each in data["artifacts"]:
                what = text.clean(each["description"] or each["key"] or "progress")
                self._progress[each["id"]] = (what, float(each["data"]))
            if not self._stays:
                self._print_steps()
        self._show()

    def end(self) -> None:
        """Take away the line that stays; what the run's tasks came to is told for good."""
        self._clear()
        if self._tasks and not self._session.json:
            print(self._tasks)
        self._tasks = ""

    def _clear(self) -> None:
        if self._shown:
            sys.stdout.write(CLEAR)
            self._shown = False

    def _show(self) -> None:
        if not self._stays or self._state is None or self._state["type"] not in ("RUNNING", "PAUSED", "CANCELLING"):
            return
        since = times.parse(self._state["timestamp"]).astimezone()
        state = [f"{self._state['name']} since {since:%H:%M:%S}"]
        tasks = [self._tasks] if self._tasks else []
        bars = [f"{what} {_bar(percent)}" for what, percent in self._progress.values()]
        plain = [f"{what} {percent:.0f} %" for what, percent in self._progress.values()]
        room = (text.width() or 80) - 1
        # Where it is narrow, what tells least goes first, and the per cent last.
        lines = [" · ".join(parts) for parts in (state + bars + tasks, state + plain + tasks, plain + tasks)]
        line = next((each for each in lines if text.display_width(each) <= room), lines[-1])
        sys.stdout.write(line[:room])
        sys.stdout.flush()
        self._shown = True

    def _print_steps(self) -> None:
        for number, (what, percent) in self._progress.items():
            step = int(percent // STEP)
            if step > self._steps.get(number, -1):
                self._steps[number] = step
                print(f"{what} {percent:.0f} %", flush=True)


def tasks_told(counts: list[dict[str, Any]]) -> str:
    """Return how many task runs are in each state: ``tasks: 12 Completed, 3 Running``; "" for none."""
    if not counts:
        return ""
    return "tasks: " + ", ".join(f"{each['count']} {each['state_name']}" for each in counts)


def _bar(percent: float) -> str:
    full = round(percent / 100 * BAR)
    return f"[{'#' * full}{'.' * (BAR - full)}] {percent:.0f} %"


def print_line(session: Session, line: dict[str, Any]) -> None:
    """Print one line of a run's log."""
    if session.json:
        session.show_line(line)
        return
    when = times.parse(line["timestamp"]).astimezone()
    level = next((name for name, number in reversed(LEVELS.items()) if line["level"] >= number), "DEBUG")
    message = text.clean(line["message"], one_line=False).replace("\n", "\n" + " " * 22)
    stamp = f"{when:%H:%M:%S}.{when.microsecond // 1000:03d}"
    print(f"{stamp} {text.tint(f'{level:<8}', line['level'])} {text.tint(message, line['level'])}", flush=True)


def _print_state(state: dict[str, Any]) -> None:
    when = times.parse(state["timestamp"]).astimezone()
    message = f": {text.clean(state['message'])}" if state["message"] else ""
    stamp = f"{when:%H:%M:%S}.{when.microsecond // 1000:03d}"
    print(f"{stamp} {text.paint(state['name'], state['type'])}{message}", flush=True)
