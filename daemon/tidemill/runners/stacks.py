"""Stacks of running threads: whose code it is, where it is, and which step of the loop it belongs to."""

from __future__ import annotations

import asyncio
import concurrent.futures.thread
import contextvars
import linecache
import selectors
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

from tidemill.core.deployments import FlowKind
from tidemill.sdk.context import RunContext, current

LONGEST_SOURCE = 120  # characters

_HANDLE = asyncio.Handle._run.__code__
_WORK_ITEM: CodeType = concurrent.futures.thread._WorkItem.run.__code__
# Code in which a loop waits for something to do.
WAITING = {
    selector.select.__code__
    for selector in (getattr(selectors, name, None) for name in ("EpollSelector", "PollSelector", "SelectSelector"))
    if selector is not None
}
_OURS = str(Path(__file__).resolve().parents[1])
_LIBRARIES = tuple({sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")})


def run_of(frame: FrameType | None) -> RunContext | None:
    """Return the run that the code at ``frame`` belongs to.

    The innermost piece of house work on the stack that knows a context tells: a callback or a task's step (asyncio
    keeps its context), a call in a thread (a context, or the run's own), the runner.
    """
    for each in _outward(frame):
        for value in _known_by(each):
            context = value.get(current) if isinstance(value, contextvars.Context) else value
            if isinstance(context, RunContext):
                return context
    return None


def _known_by(frame: FrameType) -> Iterator[Any]:
    if frame.f_code is _HANDLE:
        yield getattr(frame.f_locals.get("self"), "_context", None)
    elif frame.f_code is _WORK_ITEM:  # asyncio.to_thread: partial(context.run, function, …)
        call = getattr(frame.f_locals.get("self"), "fn", None)
        yield getattr(getattr(call, "func", None), "__self__", None)
    elif frame.f_code.co_filename.startswith((_OURS, *_LIBRARIES)):
        yield from [value for value in frame.f_locals.values() if isinstance(value, RunContext | contextvars.Context)]


def place(frame: FrameType | None, context: RunContext | None) -> tuple[str, str | None, int | None]:
    """Return where code is, for people, and its file and line.

    The line of the flow's own code is shown, and the innermost one behind it where that is a library's.
    """
    if frame is None:
        return "a place that is not known", None, None
    own = next((each for each in _outward(frame) if _is_own(each, context)), frame)
    file, line = own.f_code.co_filename, _line_of(own)
    source = linecache.getline(file, line, own.f_globals).strip()
    if len(source) > LONGEST_SOURCE:
        source = f"{source[:LONGEST_SOURCE]}…"
    text = f"{file}:{line} {own.f_code.co_name}" + (f": {source}" if source else "")
    if own is not frame:
        text += f" (in {Path(frame.f_code.co_filename).name}:{_line_of(frame)} {frame.f_code.co_name})"
    return text, file, line


def _line_of(frame: FrameType) -> int:
    """Return the line a frame is at; the frame of a running thread has none for moments."""
    line: int | None = frame.f_lineno
    return line if line is not None else frame.f_code.co_firstlineno


def _is_own(frame: FrameType, context: RunContext | None) -> bool:
    if context is not None and context.job.flow.kind is FlowKind.MODULE:
        package = context.job.flow.entrypoint.partition(":")[0].partition(".")[0]
        if str(frame.f_globals.get("__name__", "")).partition(".")[0] == package:
            return True
    file = frame.f_code.co_filename
    return not file.startswith((_OURS, *_LIBRARIES, "<frozen"))


def step_of(frame: FrameType | None, loop: asyncio.AbstractEventLoop) -> object:
    """Return what stands for the loop's present step: its callback's frame, or its task where loops are made in C."""
    callback = next((each for each in _outward(frame) if each.f_code is _HANDLE), None)
    return callback if callback is not None else asyncio.current_task(loop)


def _outward(frame: FrameType | None) -> Iterator[FrameType]:
    while frame is not None:
        yield frame
        frame = frame.f_back
