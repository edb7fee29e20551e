"""Orphans: what runs of a daemon that died had started, and what still runs though nobody looks after it.

They are ended before their run is called crashed or tried again, so that no two attempts of one run are ever at work
at a time (P4). A process is known by its record (pid, start time, boot) or, where the daemon died before it could be
written, by the run's id in its environment; so are those that they started in turn. A process that is known by neither,
such as one that cleared its environment and left its session, is nobody's any more.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from tidemill.clock import Clock
from tidemill.core.runs import FlowRun
from tidemill.flows import process_table
from tidemill.flows.process_table import Process
from tidemill.store import Store, processes
from tidemill.store.processes import RunProcess

MARK = "TIDEMILL_RUN_ID"  # in the environment of what a run starts
TERM_S = 2.0  # between SIGTERM and SIGKILL
KILL_S = 3.0  # after SIGKILL, before one is given up: it hangs in the kernel
_POLL_S = 0.02

logger = logging.getLogger("tidemill.recovery")


class Ended(msgspec.Struct, frozen=True):
    """What became of one run's orphans: how many there were, and the pids of those that could not be ended."""

    count: int = 0
    left: tuple[int, ...] = ()


class Orphans:
    """Finds and ends the processes of runs that an earlier daemon left unfinished."""

    def __init__(self, *, store: Store, clock: Clock, term_s: float = TERM_S, kill_s: float = KILL_S) -> None:
        self._store = store
        self._clock = clock
        self._term_s = term_s
        self._kill_s = kill_s

    async def end(self, runs: Sequence[FlowRun]) -> Mapping[str, Ended]:
        """End what the runs' attempts left behind; return what there was, by run id. Waits for their end."""
        records = await self._store.read(processes.of_unfinished)
        boot = process_table.boot_id()
        leaders: dict[int, list[RunProcess]] = {each.run: [] for each in records}
        for each in records:
            if each.boot_id == boot:
                leaders[each.run].append(each)
        found: dict[str, set[Process]] = {run.id: set() for run in runs}
        told: set[tuple[int, int]] = set()
        began = self._clock.monotonic()
        left: dict[str, list[Process]] = {}
        while runs:
            left = {run_id: group for run_id, group in belonging(runs, leaders).items() if group}
            waited = self._clock.monotonic() - began
            if not left or waited > self._term_s + self._kill_s:
                break
            for run_id, group in left.items():
                found[run_id].update(group)
                for process in group:
                    if waited > self._term_s:
                        _send(process, signal.SIGKILL)
                    elif (process.pid, process.birth) not in told:
                        told.add((process.pid, process.birth))
                        _send(process, signal.SIGTERM)
            await self._clock.sleep(_POLL_S)
        for run_id, group in left.items():
            logger.error("processes of flow run %s cannot be ended: %s", run_id, ", ".join(str(p.pid) for p in group))
        await self._forget(records)
        return {
            run_id: Ended(len({p.pid for p in group}), tuple(sorted(p.pid for p in left.get(run_id, ()))))
            for run_id, group in found.items()
            if group
        }

    async def _forget(self, records: Iterable[RunProcess]) -> None:
        for attempt in dict.fromkeys((each.run, each.attempt) for each in records):
            await self._store.write(processes.PROCESSES_ENDED, attempt)


def belonging(runs: Sequence[FlowRun], leaders: Mapping[int, Sequence[RunProcess]]) -> dict[str, list[Process]]:
    """Return the processes at work that belong to each run; never this one, nor one that it descends from."""
    try:
        table = {each.pid: each for each in process_table.processes()}
    except OSError:
        return {}
    ours = _ancestors(table, os.getpid())
    found: dict[str, list[Process]] = {run.id: [] for run in runs}
    led: dict[int, str] = {}  # groups and sessions, by their leader
    for run in runs:
        for leader in leaders.get(run.seq, ()):
            present = table.get(leader.pid)
            if present is not None and present.birth == leader.birth:
                led[leader.pid] = run.id
    for process in table.values():
        if process.dead or process.pid in ours:
            continue
        run_id = led.get(process.group) or led.get(process.session) or process_table.variable(process.pid, MARK)
        if run_id in found:
            found[run_id].append(process)
    return found


def _ancestors(table: Mapping[int, Process], pid: int) -> set[int]:
    found: set[int] = set()
    while pid in table and pid not in found:
        found.add(pid)
        pid = table[pid].parent
    return found


def _send(process: Process, number: signal.Signals) -> None:
    present = process_table.read(process.pid)
    if present is not None and present.birth == process.birth:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(process.pid, number)
