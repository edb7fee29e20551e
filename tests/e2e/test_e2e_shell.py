"""Commands that do what a well-behaved one would not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from daemons import Daemon, alive, pids_in, until

pytestmark = pytest.mark.slow
Make = Callable[..., Daemon]


def test_a_command_that_ignores_sigterm_is_killed_before_it_counts_as_left_behind(make: Make, tmp_path: Path) -> None:
    """The time between SIGTERM and SIGKILL follows grace_period, and is shorter than what the runner waits."""
    told = tmp_path / "pids"
    daemon = make(
        f"""
        [daemon]
        grace_period = "4s"
        [deployments.deaf]
        command = "trap '' TERM; echo $$ > {told}; while :; do sleep 1; done"
        timeout = "1s"
        """
    ).start()
    assert daemon.command("deployment", "run", "deaf")[0] == 0
    (pid,) = until(lambda: pids_in(told), "the command runs")
    run = daemon.run_in("FAILED", "deaf")
    assert (run["state_name"], run["message"]) == ("TimedOut", "did not end within its timeout, 1s")
    assert not alive(pid)
    assert "killed by SIGKILL, 1 s after SIGTERM" in daemon.command("flow-run", "logs", run["id"])[1]
    assert daemon.stop() == 0


def test_a_secret_is_in_no_states_message_and_in_no_result(make: Make) -> None:
    """P11: the last line of a command that failed, the error's text, the result: all end in the database."""
    secret = "pa55-w0rd-of-the-day"
    daemon = make(
        """
        [deployments.says-it]
        command = "echo it is $WORD; exit 3"
        env = { WORD = { env = "WORD" } }
        [deployments.raises-it]
        flow = "said.py:raises"
        [deployments.returns-it]
        flow = "said.py:returns"
        """,
        environ={"WORD": secret},
    )
    (daemon.flows / "said.py").write_text(
        f"def raises():\n    raise ValueError('not {secret}')\n\ndef returns():\n    return {{'word': '{secret}'}}\n"
    )
    daemon.start()
    for name, state in (("says-it", "FAILED"), ("raises-it", "FAILED"), ("returns-it", "COMPLETED")):
        assert daemon.command("deployment", "run", name)[0] == 0
        run = daemon.run_in(state, name)
        assert secret not in daemon.command("flow-run", "inspect", run["id"], "--output", "json")[1]
    assert daemon.runs("says-it")[0]["message"] == "exit code 3: it is ********"
    assert daemon.stop() == 0
    assert secret not in daemon.log
    for file in daemon.state.iterdir():
        assert file.is_socket() or secret.encode() not in file.read_bytes(), file
