"""For tests: of flows :func:`tidemill_test_harness`, which needs no daemon; of the daemon, a virtual clock.

On it weeks pass in seconds, and the same seed gives the same trace: ``run_virtually(main)`` with a house from
:func:`open_house`, whose runs take as long and end as a script says.
"""

from __future__ import annotations

from tidemill.sdk.harness import Harness, tidemill_test_harness
from tidemill.services.simulation.scripted import ScriptedRunner, SilentRecorder, close_house, open_house
from tidemill.services.simulation.virtual import (
    VIRTUAL_SLICE_S,
    DeadlockError,
    InlineThreads,
    VirtualClock,
    VirtualLoop,
    run_virtually,
)

__all__ = [
    "VIRTUAL_SLICE_S",
    "DeadlockError",
    "Harness",
    "InlineThreads",
    "ScriptedRunner",
    "SilentRecorder",
    "VirtualClock",
    "VirtualLoop",
    "close_house",
    "open_house",
    "run_virtually",
    "tidemill_test_harness",
]
