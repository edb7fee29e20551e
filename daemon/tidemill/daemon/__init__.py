"""The daemon: one process, from the command line's word to the last line of its log.

``process`` takes the state directory and the addresses and gives them back; ``assembly`` builds the object graph;
``life`` is the time between start and stop; ``warming`` and ``heartbeat`` are what goes on beside it.
"""

from __future__ import annotations

from tidemill.daemon.life import Daemon
from tidemill.daemon.process import SWITCH_INTERVAL_S, run

__all__ = ["SWITCH_INTERVAL_S", "Daemon", "run"]
