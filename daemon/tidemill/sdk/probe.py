"""Importing user code where it can do no harm: in a child process with a time limit.

An import can hang, call exit, or take the interpreter down. One child imports all entrypoints, one after another, and
says which it begins; when it dies or stalls, that one is named and a new child goes on with the rest.
"""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from tidemill.clock import SystemClock
from tidemill.core.deployments import FlowRef
from tidemill.errors import EntrypointError
from tidemill.sdk import interpreters
from tidemill.sdk.entrypoints import load
from tidemill.sdk.exceptions import ParameterTypeError
from tidemill.sdk.flows import as_flow
from tidemill.sdk.plain_types import schemas_of
from tidemill.sdk.signatures import Signature, signature_of

_OUTPUT_KEPT = 4096  # bytes of what the child printed last


Misfit = tuple[str, str]  # a parameter's name, and why its value is not of the annotated type


class Probed(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one entrypoint: its signature, or the error that a user should read."""

    entrypoint: str
    error: str | None = None
    signature: Signature | None = None
    misfits: tuple[tuple[Misfit, ...], ...] = ()  # of each set of parameters that was given along


class _Request(msgspec.Struct):
    flows_dir: str
    refs: list[FlowRef]
    given: dict[str, list[dict[str, Any]]]


class _Progress(msgspec.Struct):
    begun: int | None = None
    done: Probed | None = None


def probe(
    refs: Sequence[FlowRef],
    flows_dir: Path,
    timeout: timedelta,
    python: str | None = None,
    env: Mapping[str, str] | None = None,
    given: Mapping[str, Sequence[Mapping[str, Any]]] | None = None,
) -> Mapping[str, Probed]:
    """Import every entrypoint in a child process and return what was found, by entrypoint.

    ``python`` is the interpreter that does it, tidemill's own by default, with the environment ``env`` (None: ours).
    ``given`` are sets of parameters by entrypoint, whose values are held against the annotations.
    ``timeout`` is for each entrypoint. Blocks its caller: from a loop, call it in a thread. Built-in flows have no code
    to import and should not be among ``refs``.
    """
    waiting = list({ref.entrypoint: ref for ref in refs}.values())
    results: dict[str, Probed] = {}
    while waiting:
        finished, culprit, why = _run_child(
            waiting, flows_dir, timeout.total_seconds(), python or interpreters.own(), env, given or {}
        )
        results.update((probed.entrypoint, probed) for probed in finished)
        waiting = waiting[len(finished) :]
        if why is None:
            continue
        if culprit is None:  # the child never came to the first one: no further child would
            results.update((ref.entrypoint, _failed(ref, f"could not be probed: {why}")) for ref in waiting)
            break
        # What one file does while it is imported it would do again for its next function.
        file = culprit.entrypoint.rpartition(":")[0]
        for ref in [ref for ref in waiting if ref.entrypoint.rpartition(":")[0] == file]:
            results[ref.entrypoint] = _failed(ref, f"its import {why}")
            waiting.remove(ref)
    return results


def _failed(ref: FlowRef, why: str) -> Probed:
    return Probed(entrypoint=ref.entrypoint, error=f'"{ref.entrypoint}": {why}')


def _run_child(
    refs: list[FlowRef],
    flows_dir: Path,
    timeout_s: float,
    python: str,
    env: Mapping[str, str] | None,
    given: Mapping[str, Sequence[Mapping[str, Any]]],
) -> tuple[list[Probed], FlowRef | None, str | None]:
    """Return what one child finished, the entrypoint it was at when it failed, and why it failed (None: it did not)."""
    heard, told = os.pipe()
    with tempfile.TemporaryFile() as request, os.fdopen(heard, "rb", buffering=0) as results:
        try:
            sets = {ref.entrypoint: [dict(each) for each in given.get(ref.entrypoint, ())] for ref in refs}
            request.write(msgspec.json.encode(_Request(str(flows_dir), refs, sets)))
            request.seek(0)
            process = subprocess.Popen(
                interpreters.argv(python, "tidemill.sdk.probe", str(told)),
                env=env,
                stdin=request,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                pass_fds=(told,),
                start_new_session=True,
            )
        except OSError as error:
            return [], None, f"{python} cannot be started ({error.strerror})"
        finally:
            os.close(told)
        with process:
            try:
                return _listen(process, results, refs, timeout_s)
            finally:
                _kill(process)


def _listen(
    process: subprocess.Popen[bytes], results: BinaryIO, refs: list[FlowRef], timeout_s: float
) -> tuple[list[Probed], FlowRef | None, str | None]:
    finished: list[Probed] = []
    at: FlowRef | None = None
    unread, printed = b"", b""
    monotonic = SystemClock().monotonic  # a real process is watched: virtual time would not pass for it
    assert process.stdout is not None
    with selectors.DefaultSelector() as selector:
        selector.register(results, selectors.EVENT_READ)
        selector.register(process.stdout, selectors.EVENT_READ)
        deadline = monotonic() + timeout_s
        while True:
            ready = selector.select(max(0.0, deadline - monotonic()))
            if not ready:
                return finished, at, f"did not end within {timeout_s:g} s{_last_lines(printed)}"
            streams = {key.fileobj for key, _ in ready}
            if process.stdout in streams:
                chunk = os.read(process.stdout.fileno(), 65536)
                if not chunk:
                    selector.unregister(process.stdout)
                printed = (printed + chunk)[-_OUTPUT_KEPT:]
            if results not in streams:
                continue
            chunk = os.read(results.fileno(), 65536)
            if not chunk:
                if len(finished) == len(refs):
                    return finished, None, None
                how = _how_it_ended(process)
                if process.returncode == interpreters.REFUSED:
                    how = "was asked of a Python that cannot run flows"
                return finished, at, how + _last_lines(printed)
            *lines, unread = (unread + chunk).split(b"\n")
            for line in lines:
                progress = msgspec.json.decode(line, type=_Progress)
                if progress.begun is not None:
                    at = refs[progress.begun]
                if progress.done is not None:
                    finished.append(progress.done)
                    at = None
                deadline = monotonic() + timeout_s


def _how_it_ended(process: subprocess.Popen[bytes]) -> str:
    try:
        status = process.wait(1.0)
    except subprocess.TimeoutExpired:
        return "closed every open file of its process"
    if status < 0:
        return f"killed its process by {signal.Signals(-status).name}"
    return f"ended its process with exit status {status}"


def _last_lines(printed: bytes) -> str:
    lines = [line.strip() for line in printed.decode(errors="replace").splitlines() if line.strip()]
    return f"; it printed last: {' | '.join(lines[-3:])[:500]}" if lines else ""


def _kill(process: subprocess.Popen[bytes]) -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def main(arguments: Sequence[str]) -> None:
    """Import what standard input names and tell a file descriptor how it goes. The child's whole life."""
    told = int(arguments[0])
    os.set_inheritable(told, False)
    request = msgspec.json.decode(sys.stdin.buffer.read(), type=_Request)
    for number, ref in enumerate(request.refs):
        _tell(told, _Progress(begun=number))
        try:
            function = load(ref, Path(request.flows_dir))
            probed = Probed(
                entrypoint=ref.entrypoint,
                signature=msgspec.structs.replace(signature_of(function), schemas=schemas_of(function)),
                misfits=tuple(_misfits(function, each) for each in request.given.get(ref.entrypoint, ())),
            )
        except EntrypointError as error:
            probed = Probed(entrypoint=ref.entrypoint, error=str(error))
        except BaseException as error:
            probed = _failed(ref, f"cannot be imported: {type(error).__name__}: {error}")
        _tell(told, _Progress(done=probed))
    os._exit(0)  # threads or exit handlers of user code must not hold the answer up


def _misfits(function: Callable[..., Any], given: Mapping[str, Any]) -> tuple[Misfit, ...]:
    flow = as_flow(function)
    if not flow.should_validate_parameters:
        return ()
    found: list[Misfit] = []
    for name, value in given.items():
        try:
            flow.signature.coerced({name: value})
        except ParameterTypeError as error:
            found.append((name, str(error).removeprefix(f"{name}: ")))
    return tuple(found)


def _tell(told: int, progress: _Progress) -> None:
    line = msgspec.json.encode(progress) + b"\n"
    while line:
        line = line[os.write(told, line) :]
