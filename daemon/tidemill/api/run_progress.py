"""How far a run is: its task runs by state, and what its code says of its progress."""

from __future__ import annotations

import sqlite3

import msgspec

from tidemill.api.documents import Document
from tidemill.core.runs import FlowRun
from tidemill.store import artifacts, task_runs


def document(connection: sqlite3.Connection, run: FlowRun) -> Document:
    """Return the counts of task runs, and the last progress artifacts with their per cent."""
    return {
        "task_runs": [
            {"state_type": kind, "state_name": name, "count": count}
            for kind, name, count in task_runs.states_of_run(connection, run.seq)
        ],
        "artifacts": [
            {
                "id": made.id,
                "key": made.key,
                "description": made.description,
                "data": msgspec.json.decode(made.text),
            }
            for made in artifacts.progress_of_run(connection, run.id)
        ],
    }
