"""A real Dask cluster in child processes on loopback: ``from dask_cluster import DaskCluster``."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
QUIET = {
    "DASK_DISTRIBUTED__WORKER__MEMORY__TERMINATE": "false",
    "DASK_DISTRIBUTED__WORKER__MEMORY__PAUSE": "false",
    "DASK_DISTRIBUTED__WORKER__MEMORY__SPILL": "false",
    "DASK_DISTRIBUTED__WORKER__MEMORY__TARGET": "false",
}


class DaskCluster:
    """A scheduler and workers, each a process of its own without a nanny: what is killed stays dead."""

    def __init__(self, folder: Path, *, port: int | None = None) -> None:
        self.folder = folder
        self.port = port or free_port()
        self.address = f"tcp://127.0.0.1:{self.port}"
        self.scheduler: subprocess.Popen[bytes] | None = None
        self.workers: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, *workers: str) -> DaskCluster:
        self.start_scheduler()
        for name in workers:
            self.start_worker(name)
        return self

    def start_scheduler(self) -> None:
        self.scheduler = self._run("dask_scheduler", "--host", "127.0.0.1", "--port", str(self.port), "--no-dashboard")
        self._until(self.scheduler, b"Scheduler at:")

    def start_worker(self, name: str, *options: str) -> subprocess.Popen[bytes]:
        command = (self.address, "--name", name, "--no-nanny", "--nthreads", "12", "--no-dashboard", *options)
        worker = self._run("dask_worker", *command, "--local-directory", str(self.folder))
        self._until(worker, b"Registered to:")
        self.workers[name] = worker
        return worker

    def kill_worker(self, name: str) -> None:
        self._kill(self.workers.pop(name))

    def kill_scheduler(self) -> None:
        assert self.scheduler is not None
        self._kill(self.scheduler)
        self.scheduler = None

    def busy(self, name: str) -> bool:
        """Say whether a worker has a task of ours at work."""
        from distributed import Client

        with Client(self.address, set_as_default=False, timeout=20) as client:
            processing = client.processing()
            names = {
                address: each["name"] for address, each in client.sync(client.scheduler.identity)["workers"].items()
            }
        return any(names[address] == name and keys for address, keys in processing.items())

    def stop(self) -> None:
        for process in (*self.workers.values(), *([self.scheduler] if self.scheduler else [])):
            self._kill(process)
        self.workers.clear()
        self.scheduler = None

    def _run(self, module: str, *arguments: str) -> subprocess.Popen[bytes]:
        environ = {**os.environ, **QUIET, "PYTHONUNBUFFERED": "1", "PYTHONPATH": str(ROOT / "daemon")}
        command = [sys.executable, "-W", "ignore", "-m", f"distributed.cli.{module}", *arguments]
        log = self.folder / f"{module}-{len(self.workers)}-{time.monotonic_ns()}.log"
        process: Any = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environ, start_new_session=True
        )
        process.log = log
        return process

    def _until(self, process: Any, word: bytes, timeout_s: float = 60) -> None:
        """Read what the process says until it says this; the rest is taken off its hands by a child of ours."""
        said = b""
        until = time.monotonic() + timeout_s
        while word not in said:
            ready, _, _ = select.select([process.stderr], [], [], max(0, until - time.monotonic()))
            more = os.read(process.stderr.fileno(), 65536) if ready else b""
            if not more:
                self._kill(process)
                raise RuntimeError(f"no {word!r} within {timeout_s:g} s: {said.decode(errors='replace')}")
            said += more
        process.log.write_bytes(said)
        # The pipe must not fill up: a sink reads it to its end.
        process.sink = subprocess.Popen(
            ["/bin/sh", "-c", f'exec cat >> "{process.log}"'], stdin=process.stderr, start_new_session=True
        )
        process.stderr.close()

    @staticmethod
    def _kill(process: Any) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        sink = getattr(process, "sink", None)
        if sink is not None:
            sink.wait()
        if process.stderr is not None:
            process.stderr.close()


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port
