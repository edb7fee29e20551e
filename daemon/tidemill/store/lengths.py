"""Lengths: how long the runs on record took and how they ended, for simulations."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from datetime import timedelta

import msgspec

from tidemill.core.lengths import Attempt
from tidemill.core.states import StateType
from tidemill.store.history import TYPE_OF
from tidemill.store.ops import rows, scalar
from tidemill.store.statements import load

_SQL = load("lengths")
LAST = 200  # runs of a deployment that are looked at

_ended = msgspec.json.Decoder(list[tuple[str, int, int, int]])


def of_deployments(connection: sqlite3.Connection, deployments: Iterable[str]) -> dict[str, list[Attempt]]:
    """Return the attempts of each deployment's last ended runs; deployments without any are left out.

    Of a run with several attempts only their time together is on record: each is taken to have had its part of it, and
    all but the last to have failed.
    """
    given = {"deployments": rows(list(deployments)), "limit": LAST}
    found: dict[str, list[Attempt]] = {}
    for name, run_time_us, attempts, kind in _ended.decode(str(scalar(connection, _SQL["of_deployments"], given))):
        lasted = timedelta(microseconds=run_time_us // attempts)
        known = found.setdefault(name, [])
        known.extend(Attempt(lasted, StateType.FAILED) for _ in range(attempts - 1))
        known.append(Attempt(lasted, TYPE_OF[kind]))
    return found
