"""Bodies are read in the readers' threads."""

from __future__ import annotations

import subprocess
import sys

# Each in a process of its own: what is wrong takes the process down, and only a process's first requests can meet it.
AT_ONCE = """
import sys, threading
sys.setswitchinterval(1e-6)
from tidemill.api import bodies
body = {"flow_runs": {"state": {"type": {"any_": ["FAILED"]}}, "name": {"like_": "x"}}, "limit": 3}
together = threading.Barrier(4)
def ask():
    together.wait()
    bodies.query(body, "flow_runs")
threads = [threading.Thread(target=ask) for _ in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
"""


def test_the_first_requests_of_a_daemon_may_come_at_the_same_time() -> None:
    for _ in range(4):
        assert subprocess.run([sys.executable, "-c", AT_ONCE], timeout=180).returncode == 0
