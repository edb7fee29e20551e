"""Task runs as a table, for the commands that show some."""

from __future__ import annotations

from typing import Any

from tidemill.cli import text, times
from tidemill.cli.session import Session

COLUMNS = (
    text.Column("ID"),
    text.Column("NAME", below=True),
    text.Column("STATE"),
    text.Column("FLOW RUN"),
    text.Column("START", optional=True),
    text.Column("TOOK", right=True),
)


def table(session: Session, found: list[dict[str, Any]]) -> str:
    """Return task runs as a table."""
    now = session.now()
    rows = [
        (
            each["id"][:13],
            each["name"],
            each["state_name"],
            each["flow_run_id"][-8:],
            times.short(each["start_time"], now) if each["start_time"] else "",
            times.span(each["total_run_time"]) if each["end_time"] else "",
        )
        for each in found
    ]
    return text.table(COLUMNS, rows, states=[each["state_type"] for each in found])
