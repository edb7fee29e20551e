"""A whole daemon in a process of its own, as a person starts it, and what it costs by the kernel's books."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

READY_WITHIN_S = 60.0
FOR_BARE = "import asyncio, json, logging, sqlite3"


def config(directory: Path, text: str) -> Path:
    """Write a configuration."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / "tidemill.toml"
    path.write_text(text)
    return path


def many(count: int, port: int) -> str:
    """Return a configuration of ``count`` yearly HTTP requests, none of them due for months."""
    tables = [f'[api]\nlisten = "127.0.0.1:{port}"\n']
    month = (datetime.now(UTC).month + 5) % 12 + 1
    tables += [
        f'[deployments.job-{number:05}]\nurl = "http://127.0.0.1:9/{number}"\n'
        f'cron = "{number * 7 % 60} {number // 60 % 24} 1 {month} *"\n'
        for number in range(count)
    ]
    return "\n".join(tables)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def environment(**more: str) -> dict[str, str]:
    """Return the environment as a person's shell has it: Python keeps what it compiled."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"} | more


class Daemon:
    """A running daemon. ``ready_s``: from its start until it says READY to systemd's socket."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, ready_s: float, ready_cpu_s: float) -> None:
        self.process = process
        self.port = port
        self.ready_s = ready_s
        self.ready_cpu_s = ready_cpu_s
        self.answered_s = 0.0

    def cpu_s(self) -> float:
        """CPU seconds of all its threads, in the kernel's own resolution (nanoseconds in schedstat)."""
        return cpu_s(self.process.pid)

    def rss_mb(self) -> float:
        return rss_mb(self.process.pid)


def cpu_s(pid: int) -> float:
    tasks = Path(f"/proc/{pid}/task")
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks.iterdir()) / 1e9


def rss_mb(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise SystemExit(f"process {pid} has no VmRSS")


@contextmanager
def daemon(path: Path, port: int) -> Iterator[Daemon]:
    """Start a daemon on a configuration, wait until it is ready and answers, stop it at the end."""
    notify = path.parent / "notify"
    notify.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard, (path.parent / "log").open("wb") as log:
        heard.bind(str(notify))
        heard.settimeout(READY_WITHIN_S)
        command = [
            str(Path(sys.executable).with_name("tidemill")),
            "start",
            str(path),
            "--state-dir",
            str(path.parent / "state"),
        ]
        started = time.perf_counter()
        process = subprocess.Popen(
            command, stdout=log, stderr=subprocess.STDOUT, env=environment(NOTIFY_SOCKET=str(notify))
        )
        try:
            try:
                while b"READY=1" not in heard.recv(4096):
                    pass
            except TimeoutError:
                raise SystemExit(f"the daemon did not get ready: {(path.parent / 'log').read_text()}") from None
            running = Daemon(process, port, time.perf_counter() - started, cpu_s(process.pid))
            with socket.create_connection(("127.0.0.1", port), timeout=READY_WITHIN_S) as asked:
                asked.sendall(b"GET /api/health HTTP/1.1\r\nHost: localhost\r\n\r\n")
                if not asked.recv(4096).startswith(b"HTTP/1.1 200"):
                    raise SystemExit("the daemon's API is not well")
            running.answered_s = time.perf_counter() - started
            yield running
            if process.poll() is not None:
                raise SystemExit(f"the daemon ended by itself with {process.returncode}")
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(30)


def bare_start_s() -> float:
    """Return how long Python takes to start and import what no daemon of this kind can do without."""
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", FOR_BARE], check=True, env=environment())
    return time.perf_counter() - started


@contextmanager
def bare() -> Iterator[int]:
    """A process with an idle event loop and nothing else; gives its process id."""
    program = f"{FOR_BARE}\nasyncio.run(asyncio.sleep(3600))"
    process = subprocess.Popen([sys.executable, "-c", program])
    try:
        yield process.pid
    finally:
        process.kill()
        process.wait()
