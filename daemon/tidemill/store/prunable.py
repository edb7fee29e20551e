"""What retention would delete: the counts that a person wants to see before it happens."""

from __future__ import annotations

import sqlite3

import msgspec

from tidemill.clock import to_us
from tidemill.store import daemon_log, retention
from tidemill.store.retention import Pruning
from tidemill.store.statements import load

_SQL = load("prunable")
NEVER = -(2**62)  # nothing is older
ALL = 2**62  # nobody has more


class Prospect(msgspec.Struct, frozen=True, kw_only=True):
    """How much would go. ``for_size`` of the ``runs`` would go for ``max_size`` alone, which is an estimate."""

    runs: int
    for_size: int
    lines: int
    artifacts: int
    skipped_fires: int
    cached_results: int
    daemon_lines: int
    bytes_used: int  # now


def prospect(connection: sqlite3.Connection, rules: Pruning) -> Prospect:
    """Count what would go by the rules. Looks at every run: some seconds for a million."""
    before = NEVER if rules.keep is None else to_us(rules.now - rules.keep)
    keep = ALL if rules.keep_runs is None else max(1, rules.keep_runs)
    going, lines, runs = connection.execute(_SQL["runs"], {"before": before, "keep": keep}).fetchone()
    if rules.keep_logs is not None:
        old = _count(connection, "lines", before=to_us(rules.now - rules.keep_logs))
        lines = max(lines, old)  # which lie in each other for the most part
    used = retention.size(connection)
    return Prospect(
        runs=going + (for_size := _for_size(used, going, runs, rules.max_size)),
        for_size=for_size,
        lines=lines,
        artifacts=_count(connection, "documents", before=before),
        skipped_fires=_count(connection, "skipped", before=before),
        cached_results=_count(connection, "cached", before=before, now=to_us(rules.now)),
        daemon_lines=_count(connection, "said", before=before, keep=daemon_log.KEEP_LINES),
        bytes_used=used,
    )


def _for_size(used: int, going: int, runs: int, most: int | None) -> int:
    """Estimate how many more runs have to go until the rest fits, taking all to be of one size."""
    if most is None or not runs:
        return 0
    a_run = used / runs
    too_much = used - going * a_run - most
    return min(runs - going, -int(-too_much // a_run)) if too_much > 0 else 0


def _count(connection: sqlite3.Connection, statement: str, **parameters: object) -> int:
    found: int = connection.execute(_SQL[statement], parameters).fetchone()[0]
    return found
