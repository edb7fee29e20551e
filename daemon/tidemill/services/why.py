"""Why: gathers what is known of a run or a deployment at a time, and has core/why.py make sentences of it.

Everything comes from the database, so that it answers while the daemon is down; what only the daemon knows is handed
in (services/lookout.py).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from msgspec.structs import replace

from tidemill.core.deployments import Deployment
from tidemill.core.filters import RunFilter, RunSort
from tidemill.core.runs import FlowRun
from tidemill.core.schedules import identity
from tidemill.core.states import ACTIVE, TERMINAL, StateType
from tidemill.core.when import read as read_when
from tidemill.core.why import Finding, Live, RunEvidence, Waiting, Words, stamp
from tidemill.core.why_deployment import Standing, explain_standing
from tidemill.core.why_fire import FireEvidence, explain_instant
from tidemill.core.why_run import explain_run
from tidemill.services.evidence import alongside, compiled_of, form_at, forms_of, past_of, waiting_of
from tidemill.store import backfills, catalogue, history, instance, listing, schedules
from tidemill.store.catalogue import Entry

RUNS = 200  # of a stretch of time
EXPLAINED = 5  # runs explained along with a deployment
WAITING = 3  # late runs of a deployment

Document = dict[str, Any]


def of_run(connection: sqlite3.Connection, run: FlowRun, now: datetime, live: Live | None) -> Document:
    """Return why a run is as it is, as JSON values."""
    words = _words(_entry(connection, run.deployment), now, live)
    return _answer("flow_run", run.name, words, _run_findings(connection, run, words, live)) | {"id": run.id}


def _run_findings(connection: sqlite3.Connection, run: FlowRun, words: Words, live: Live | None) -> list[Finding]:
    entry = _entry(connection, run.deployment)
    states = history.of(connection, run.seq)
    things = [("work_queue", run.work_queue), ("work_pool", run.work_pool)]
    waits = run.state.type is StateType.SCHEDULED and live is not None
    evidence = RunEvidence(
        run=run,
        states=states,
        now=words.now,
        past=past_of(connection, things, live=live),
        live=live,
        deployment=entry.value if entry is not None and entry.gone is None else None,
        gone=entry.gone if entry is not None else None,
        waiting=waiting_of(connection, run, live) if waits and live is not None else Waiting(),
        alongside=alongside(connection, run, states),
    )
    return explain_run(evidence, words)


def of_deployment(
    connection: sqlite3.Connection, entry: Entry[Deployment], now: datetime, live: Live | None
) -> Document:
    """Return how a deployment stands, as JSON values: what keeps it back, its last run, its next one."""
    deployment, words = entry.value, _words(entry, now, live)
    mine = RunFilter(deployments=(deployment.name,))
    name = deployment.name
    things = [("deployment", name), ("work_queue", deployment.work_queue), ("work_pool", deployment.work_pool)]
    ended = _select(
        connection, mine, state_types=tuple(TERMINAL), expected_start_before=now, sort=RunSort.EXPECTED_START_TIME_DESC
    )
    last = ended[0] if ended else None
    due: dict[str, Any] = {"state_types": (StateType.SCHEDULED,), "sort": RunSort.EXPECTED_START_TIME_ASC}
    later = now + timedelta(microseconds=1)
    coming = _select(connection, mine, most=RUNS, expected_start_after=later, **due)
    again = [run for run in coming if run.attempt][:WAITING]
    standing = Standing(
        deployment=deployment,
        compiled=compiled_of(deployment),
        now=now,
        gone=entry.gone,
        past=past_of(connection, things, live=live, deployment=name),
        live=live,
        waiting=_select(connection, mine, most=WAITING, expected_start_before=now, **due),
        running=_select(connection, mine, most=WAITING, state_types=(*ACTIVE, StateType.PAUSED)),
        last=last,
        again=again,
        coming=next((run for run in coming if not run.attempt), None),
        skipped=schedules.skipped(connection, deployment=name, limit=WAITING),
    )
    findings = explain_standing(standing, words)
    known = [run for run in (*standing.waiting, *standing.running, *again, last) if run is not None]
    return _answer("deployment", name, words, findings) | _explained(connection, findings, known, words, live)


def at_time(
    connection: sqlite3.Connection, entry: Entry[Deployment], text: str, now: datetime, live: Live | None
) -> Document:
    """Return why there was, or was no, run of a deployment at a time as people say it.

    Raises ValueError where the text is no time.
    """
    name = entry.value.name
    forms = forms_of(connection, entry)
    asked = read_when(text, _words(entry, now, live).info, now)
    form = form_at(forms, asked.first)
    words = _words(entry, now, live, form.value)
    if words.info != _words(entry, now, live).info:
        asked = read_when(text, words.info, now)  # its schedules had another zone then
    mine = RunFilter(deployments=(name,), limit=RUNS, sort=RunSort.EXPECTED_START_TIME_ASC)
    stretches = [(asked.first, asked.last), *([asked.second_pass] if asked.second_pass else [])]
    around: dict[str, FlowRun] = {}
    for first, last in stretches:
        # A fire's jitter puts its start later; a retry does, too.
        widest = max((each.jitter for each in form.value.schedules), default=timedelta(0))
        for run in _select(
            connection, mine, most=RUNS, expected_start_after=first, expected_start_before=last + widest
        ) + schedules.runs_between(connection, name, first, last):
            around[run.id] = run
    made_up = [
        run
        for each in form.value.schedules
        for first, last in stretches
        for run in backfills.runs_between(connection, name, identity(each), first, last)
    ]
    oldest = _select(connection, mine, most=1)
    evidence = FireEvidence(
        name=name,
        asked=asked,
        now=now,
        forms=forms,
        compiled=compiled_of(form.value),
        known_since=entry.created,
        gone=entry.gone,
        runs=[run for run in around.values() if run.schedule is not None],
        others=[
            run for run in around.values() if any(first <= run.expected_start <= last for first, last in stretches)
        ],
        made_up=made_up,
        skipped=schedules.skipped_between(connection, name, stretches[0][0], stretches[-1][1]),
        past=past_of(connection, [("deployment", name)], live=live, deployment=name),
        live=live,
        oldest=(oldest[0].due or oldest[0].expected_start) if oldest else None,
        seed=f"{instance.id(connection)}/{name}",
    )
    findings = explain_instant(evidence, words)
    return (
        _answer("deployment", name, words, findings)
        | {"at": text, "first": stamp(asked.first), "last": stamp(asked.last)}
        | _explained(connection, findings, [*around.values(), *made_up], words, live)
    )


def _explained(
    connection: sqlite3.Connection,
    findings: Sequence[Finding],
    known: Sequence[FlowRun],
    words: Words,
    live: Live | None,
) -> Document:
    """Return the explanations of the first few runs that findings name."""
    by_id = {run.id: run for run in known}
    wanted = [own for each in findings if (own := each.facts.get("run")) in by_id]
    told = [by_id[own] for own in dict.fromkeys(wanted)][:EXPLAINED]
    return {
        "runs": [
            {
                "id": run.id,
                "name": run.name,
                "findings": [_document(each) for each in _run_findings(connection, run, words, live)],
            }
            for run in told
        ]
    }


def _answer(kind: str, name: str, words: Words, findings: Sequence[Finding]) -> Document:
    return {
        "kind": kind,
        "name": name,
        "timezone": words.info.key,
        "now": stamp(words.now),
        "answer": findings[0].sentence,
        "findings": [_document(each) for each in findings],
    }


def _document(finding: Finding) -> Document:
    return {
        "kind": finding.kind,
        "sentence": finding.sentence,
        "at": stamp(finding.at),
        "facts": finding.facts,
        "remedy": finding.remedy,
    }


def _entry(connection: sqlite3.Connection, name: str | None) -> Entry[Deployment] | None:
    return None if name is None else catalogue.exactly(connection, Deployment, name, gone=True)


def _words(entry: Entry[Deployment] | None, now: datetime, live: Live | None, then: Deployment | None = None) -> Words:
    """Return words in the zone of the deployment's first schedule, else the daemon's."""
    deployment = then or (entry.value if entry is not None else None)
    zone = live.timezone if live is not None else "UTC"
    if deployment is not None and deployment.schedules:
        zone = deployment.schedules[0].timezone
    try:
        return Words(ZoneInfo(zone), now)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return Words(ZoneInfo("UTC"), now)


def _select(connection: sqlite3.Connection, base: RunFilter, *, most: int = 1, **conditions: Any) -> list[FlowRun]:
    return listing.select(connection, replace(base, limit=most, **conditions))
