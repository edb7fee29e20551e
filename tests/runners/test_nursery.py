"""The fork server and its children: warm, ready, restarted, refused, and gone when the daemon goes."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import socket
import subprocess
import sys
import textwrap
import venv
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tidemill.clock import SystemClock
from tidemill.core.deployments import FlowKind, FlowRef, WorkPool
from tidemill.core.ports import Cancellation
from tidemill.core.reports import ProcessReport
from tidemill.core.states import StateType
from tidemill.flows import process_table
from tidemill.runners.nursery import Nursery
from tidemill.runners.nursery_words import Spawn, encode
from tidemill.runners.process import ProcessRunner
from tidemill.sdk import interpreters
from tidemill.sdk.interpreters import environment

House = Any  # conftest's, which cannot be imported from here

COMPLETED, FAILED, CRASHED = StateType.COMPLETED, StateType.FAILED, StateType.CRASHED
CASES = Path(__file__).parent / "cases"

pytestmark = pytest.mark.asyncio(loop_scope="module")


@asynccontextmanager
async def runner(flows_dir: Path = CASES, patience: float = 60, **pool: Any) -> AsyncIterator[ProcessRunner]:
    made = ProcessRunner(
        pool=WorkPool(name="process", type="process", **pool),
        flows_dir=flows_dir,
        clock=SystemClock(),
        grace=timedelta(seconds=60),
        environ={"PATH": "/usr/bin:/bin"},
        patience=timedelta(seconds=patience),
    )
    try:
        yield made
    finally:
        await made.aclose()


async def run(made: ProcessRunner, house: House, entrypoint: str, **parameters: Any) -> Any:
    return await made.run(house.job(entrypoint, parameters), house.recorder, Cancellation())


def alive(pid: int) -> bool:
    found = process_table.read(pid)
    return found is not None and not found.dead


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what happens in other processes, of which nothing tells this one."""
    async with asyncio.timeout(120):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


# Warm


async def test_spares_wait_ready_and_are_made_up_for(apart: House) -> None:
    async with runner(spares=2) as made:
        nursery = made._nursery(None)
        await nursery.warm()
        assert nursery.spares == 2
        child = await nursery.take()
        assert nursery.spares == 1
        await until(lambda: nursery.spares == 2)
        child.kill()
        await child.ended
        child.close()


async def test_a_spare_that_dies_is_no_longer_one(apart: House) -> None:
    async with runner(spares=1) as made:
        nursery = made._nursery(None)
        await nursery.warm()
        (spare,) = nursery._server.spares  # type: ignore[union-attr]
        os.kill(spare.pid, signal.SIGKILL)
        await until(lambda: nursery.spares == 0)
        assert (await run(made, apart, "endings.py:sync_returns", value=1)).data == 1


async def test_a_pool_without_spares_forks_when_a_run_comes(apart: House) -> None:
    async with runner(spares=0) as made:
        assert (await run(made, apart, "endings.py:sync_returns", value=1)).data == 1
        assert made._nursery(None).spares == 0


async def test_preloaded_modules_are_imported_once_for_all_runs(apart: House, tmp_path: Path) -> None:
    (tmp_path / "loaded.py").write_text("import os\nPID = os.getpid()\n")
    (tmp_path / "flows.py").write_text("def flow():\n    import loaded\n    return loaded.PID\n")
    async with runner(tmp_path, preload=("loaded",), env={"PYTHONPATH": str(tmp_path)}) as made:
        first = await run(made, apart, "flows.py:flow")
        second = await run(made, apart, "flows.py:flow")
        assert first.data == second.data == made._nursery(None).server_pid


async def test_a_module_that_cannot_be_preloaded_is_a_warning(apart: House, caplog: pytest.LogCaptureFixture) -> None:
    async with runner(preload=("no_such_module",)) as made:
        assert (await run(made, apart, "endings.py:sync_returns", value=1)).data == 1
    assert "no_such_module cannot be preloaded: ModuleNotFoundError" in caplog.text


async def test_a_preloaded_numpy_draws_other_numbers_in_every_run(apart: House, tmp_path: Path) -> None:
    (tmp_path / "numpy.py").write_text("class random:\n    seeded = []\n    seed = lambda: random.seeded.append(1)\n")
    (tmp_path / "flows.py").write_text("def flow():\n    import numpy\n    return numpy.random.seeded\n")
    async with runner(tmp_path, preload=("numpy",), env={"PYTHONPATH": str(tmp_path)}) as made:
        assert (await run(made, apart, "flows.py:flow")).data == [1]


async def test_what_a_preloaded_module_started_is_nobodys_leftover(apart: House, tmp_path: Path) -> None:
    (tmp_path / "helper.py").write_text("import subprocess\nHELPER = subprocess.Popen(['/bin/sleep', '600'])\n")
    (tmp_path / "flows.py").write_text("def flow():\n    import helper\n    return helper.HELPER.pid\n")
    async with runner(tmp_path, preload=("helper",), env={"PYTHONPATH": str(tmp_path)}) as made:
        pid = (await run(made, apart, "flows.py:flow")).data
        await run(made, apart, "flows.py:flow")
        assert alive(pid)
        os.kill(pid, signal.SIGKILL)


async def test_code_is_read_anew_for_every_run(apart: House, tmp_path: Path) -> None:
    async with runner(tmp_path) as made:
        for number in (1, 2):
            (tmp_path / "flows.py").write_text(f"def flow():\n    return {number} # {'x' * number}\n")
            assert (await run(made, apart, "flows.py:flow")).data == number


# The fork server dies


async def test_when_its_fork_server_dies_a_run_has_crashed_and_the_next_one_runs(apart: House, tmp_path: Path) -> None:
    """P10: with all that it had started."""
    held = tmp_path / "held"
    os.mkfifo(held)
    reader = os.open(held, os.O_RDONLY | os.O_NONBLOCK)
    async with runner() as made:
        running = asyncio.ensure_future(
            run(made, apart, "hostile.py:grows_a_tree", held=str(held), marked=True),
        )
        await apart.recorder.said("grown")
        (report,) = [each for each in apart.recorder.others if isinstance(each, ProcessReport)]
        os.kill(made._nursery(None).server_pid, signal.SIGKILL)  # type: ignore[arg-type]
        outcome = await asyncio.wait_for(running, 30)
        assert (outcome.type, outcome.message) == (
            CRASHED,
            "its fork server was killed by SIGKILL (signal 9): not by tidemill; perhaps the machine ran out of memory",
        )
        assert not alive(report.pid)
        os.set_blocking(reader, True)
        assert await asyncio.wait_for(asyncio.to_thread(os.read, reader, 1), 30) == b""
        os.close(reader)
        assert (await run(made, apart, "endings.py:sync_returns", value=1)).data == 1


async def test_a_fork_server_that_does_not_answer_is_ended(apart: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tidemill.runners.nursery.SPAWN_S", 0.3)
    async with runner(spares=0) as made:
        await made._nursery(None).warm()
        os.kill(made._nursery(None).server_pid, signal.SIGSTOP)  # type: ignore[arg-type]
        outcome = await run(made, apart, "endings.py:sync_returns", value=1)
        assert outcome.type is CRASHED
        assert outcome.message == f"the fork server of {sys.executable} does not answer"
        await until(lambda: made._nursery(None).server_pid is None)
        assert (await run(made, apart, "endings.py:sync_returns", value=1)).data == 1


DAEMON = """
import asyncio, os, sys
sys.path.insert(0, {tests!r})
from conftest import House, process

async def main():
    house = House(process(grace=60))
    running = house.start("hostile.py:grows_a_tree", held={held!r}, marked=False)
    await house.recorder.said("grown")
    print(house.runner._nursery(None).server_pid, house.recorder.others[0].pid, flush=True)
    await running

asyncio.run(main())
"""


async def test_when_the_daemon_is_killed_everything_goes_with_it(tmp_path: Path) -> None:
    """P4, P10: no signal, no handler, and still nothing is left."""
    held = tmp_path / "held"
    os.mkfifo(held)
    reader = os.open(held, os.O_RDONLY | os.O_NONBLOCK)
    code = DAEMON.format(tests=str(Path(__file__).parent), held=str(held))
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    daemon = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=subprocess.PIPE, env=env)
    assert daemon.stdout is not None
    server, child = map(int, (await asyncio.wait_for(daemon.stdout.readline(), 30)).split())
    assert alive(server) and alive(child)
    daemon.kill()
    await daemon.wait()
    os.set_blocking(reader, True)
    assert await asyncio.wait_for(asyncio.to_thread(os.read, reader, 1), 30) == b""
    os.close(reader)
    await until(lambda: not alive(child) and not alive(server))


# Interpreters


def fake_python(path: Path, text: str) -> str:
    path.write_text(f"#!/bin/sh\n{textwrap.dedent(text)}")
    path.chmod(0o755)
    return str(path)


async def test_an_interpreter_that_is_not_there_is_named(apart: House, tmp_path: Path) -> None:
    async with runner(python=str(tmp_path / "absent")) as made:
        outcome = await run(made, apart, "endings.py:sync_returns")
    assert (outcome.type, outcome.retriable) == (FAILED, False)
    assert outcome.message == f"{tmp_path}/absent cannot be started: No such file or directory"


BROKEN = {
    "it refuses": ("echo why not >&2; exit 72", "cannot run flows: why not"),
    "it exits": ("echo nothing; exit 3", "cannot run flows: it exited with exit code 3; it printed last: nothing"),
    "it dies": (
        "kill -SEGV $$",
        "cannot run flows: it was killed by SIGSEGV (signal 11): it touched memory that is not its own",
    ),
    "it hangs": ("echo zzz; exec sleep 600", "did not get ready within 0.3 s; it printed last: zzz"),
}


@pytest.mark.parametrize(("script", "says"), BROKEN.values(), ids=BROKEN.keys())
async def test_an_interpreter_that_cannot_run_flows_says_why(
    apart: House, script: str, says: str, tmp_path: Path
) -> None:
    python = fake_python(tmp_path / "python", script)
    async with runner(python=python, patience=0.3 if "sleep" in script else 60) as made:
        outcome = await run(made, apart, "endings.py:sync_returns")
    assert (outcome.type, outcome.message) == (FAILED, f"{python} {says}")


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with nothing in it."""
    folder = tmp_path_factory.mktemp("bare")
    venv.create(folder, symlinks=True, with_pip=False)
    return folder


@pytest.fixture(scope="module")
def furnished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with msgspec, and a package that tidemill's own has not."""
    project = tmp_path_factory.mktemp("project")
    folder = project / ".venv"
    venv.create(folder, symlinks=True, with_pip=False)
    (packages,) = folder.glob("lib/python*/site-packages")
    (packages / "msgspec").symlink_to(Path(msgspec.__file__).parent)
    (packages / "only_here.py").write_text("ANSWER = 42\n")
    return project


async def test_an_interpreter_without_msgspec_is_refused_with_the_remedy(apart: House, bare: Path) -> None:
    python = str(bare / "bin" / "python")
    async with runner(python=python) as made:
        outcome = await run(made, apart, "endings.py:sync_returns")
    assert outcome.message == (
        f"{python} cannot run flows: it has no msgspec that it can import (No module named 'msgspec'); "
        f"install it there: {python} -m pip install -U msgspec"
    )


FOREIGN = """
import sys
import only_here
from tidemill.sdk import get_run_logger

def flow():
    get_run_logger().info("hello")
    seen = []
    for name in ("httpx", "anyio", "starlette"):
        try:
            __import__(name)
            seen.append(name)
        except ImportError:
            pass
    return [only_here.ANSWER, sys.prefix, seen]

def spawns():
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(eval, "__import__('tidemill.sdk').__name__").result()
"""


async def test_a_foreign_interpreter_needs_no_tidemill_and_sees_none_of_its_packages(
    apart: House, furnished: Path, tmp_path: Path
) -> None:
    (tmp_path / "flows.py").write_text(FOREIGN)
    python = str(furnished / ".venv" / "bin" / "python")
    async with runner(tmp_path, python=python) as made:
        outcome = await run(made, apart, "flows.py:flow")
        assert outcome.data == [42, str(furnished / ".venv"), []]
        assert apart.recorder.messages == ["hello"]
        assert (await run(made, apart, "flows.py:spawns")).data == "tidemill"


async def test_a_deployments_interpreter_goes_before_the_pools(apart: House, furnished: Path, tmp_path: Path) -> None:
    (tmp_path / "flows.py").write_text("def flow():\n    import sys\n    return sys.prefix\n")
    python = str(furnished / ".venv" / "bin" / "python")
    async with runner(tmp_path) as made:
        job = msgspec.structs.replace(apart.job("flows.py:flow", {}), python=python)
        own = await run(made, apart, "flows.py:flow")
        assert own.data == sys.prefix
        assert (await made.run(job, apart.recorder, Cancellation())).data == str(furnished / ".venv")


async def test_a_built_in_flow_runs_with_tidemills_own_interpreter(apart: House, bare: Path) -> None:
    async with runner(python=str(bare / "bin" / "python")) as made:
        job = apart.job("shell", {"command": "echo hello"})
        assert job.flow == FlowRef(kind=FlowKind.BUILTIN, entrypoint="shell", name="shell")
        assert (await made.run(job, apart.recorder, Cancellation())).type is COMPLETED
        assert apart.recorder.messages == ["hello"]


async def test_the_commands_beside_an_interpreter_are_found_first(furnished: Path) -> None:
    folder = furnished / ".venv"
    found = environment({"PATH": "/usr/bin"}, str(folder / "bin" / "python"), {"A": "1"})
    assert found["PATH"] == f"{folder}/bin:/usr/bin"
    assert (found["VIRTUAL_ENV"], found["A"]) == (str(folder), "1")


async def test_a_closed_nursery_starts_nothing(apart: House) -> None:
    async with runner() as made:
        nursery = made._nursery(None)
        await nursery.aclose()
        outcome = await run(made, apart, "endings.py:sync_returns")
    assert outcome.message.endswith("the daemon stops")
    assert isinstance(nursery, Nursery)


async def test_a_daemon_that_is_killed_with_words_of_the_fork_server_unread_is_heard_of_all_the_same() -> None:
    """P4: the kernel tells of it as a reset connection, not as its end (unix(7)); the runs must end either way."""
    control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    server = await asyncio.to_thread(
        subprocess.Popen,
        interpreters.argv(sys.executable, "tidemill.runners.forkserver", str(theirs.fileno()), "[]"),
        pass_fds=(theirs.fileno(),),
        env={"PATH": "/usr/bin:/bin"},
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    theirs.close()
    assert control.recv(65536), "it is ready, and says so"
    pipe, childs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    read, write = os.pipe()
    socket.send_fds(control, [encode(Spawn(number=1))], [childs.fileno(), write, write])
    select.select([control], [], [])  # Spawned is there, and nobody reads it
    control.close()
    _, complaint = await asyncio.to_thread(server.communicate, timeout=180)
    assert (server.returncode, complaint) == (0, b"")
    for each in (pipe, childs):
        each.close()
    for descriptor in (read, write):
        os.close(descriptor)
