"""Sync flows are threads: what they do for the first time, several may do at once."""

from __future__ import annotations

import subprocess
import sys


def test_flows_in_threads_may_convert_to_a_type_for_the_first_time_at_the_same_time() -> None:
    """In a process of its own, which msgspec would take down."""
    program = """
import sys, threading
import msgspec
from tidemill.sdk.parameters import convert
sys.setswitchinterval(1e-6)
for _ in range(30):
    parts = [msgspec.defstruct(f"Part{n}", [("x", "list[str] | None", None)], module="builtins") for n in range(8)]
    whole = msgspec.defstruct("Whole", [(f"f{n}", part | None, None) for n, part in enumerate(parts)])
    together = threading.Barrier(4)
    def call():
        together.wait()
        convert({f"f{n}": {"x": ["a"]} for n in range(8)}, whole)
    threads = [threading.Thread(target=call) for _ in range(4)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
"""
    assert subprocess.run([sys.executable, "-c", program], timeout=180).returncode == 0
