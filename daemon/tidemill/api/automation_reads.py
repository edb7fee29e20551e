"""Reads of automations: what each waits for and does, and what it did."""

from __future__ import annotations

import msgspec

from tidemill.api import documents, lookup
from tidemill.api.ask import Ask
from tidemill.api.bodies import MAX_LIMIT, any_of, matches, number, query
from tidemill.api.documents import Document
from tidemill.core.automation_words import action_text, condition_text
from tidemill.core.automations import Automation, Fire, StepState
from tidemill.errors import NotFoundError
from tidemill.store import automations, catalogue
from tidemill.store.automations import Summary
from tidemill.store.catalogue import Entry


def filter_automations(ask: Ask) -> list[Document]:
    """List automations by name."""
    asked = query(ask.body, "automations", sorts=("NAME_ASC",))
    given = asked.automations
    ids = None if given is None else any_of(given.id)
    found = [
        each
        for each in _all(ask)
        if (given is None or matches(given.name, each["name"])) and (ids is None or each["id"] in ids)
    ]
    return found[asked.offset : asked.offset + asked.most]


def automation(ask: Ask) -> Document:
    """Return one automation by its name or id."""
    return _one(ask)


def fires(ask: Ask) -> list[Document]:
    """List what an automation did, newest first."""
    name = _one(ask)["name"]
    most, offset = min(number(ask.query, "limit", MAX_LIMIT), MAX_LIMIT), number(ask.query, "offset", 0)
    return [fire(each) for each in automations.fires(ask.connection, name, limit=most, offset=offset)]


def _one(ask: Ask) -> Document:
    text, found = ask.path["id"], _all(ask)
    for each in found:
        if text == each["id"] or lookup.alike(text) == lookup.alike(each["name"]):
            return each
    raise NotFoundError(lookup.not_found("automation", text, [each["name"] for each in found]))


def _all(ask: Ask) -> list[Document]:
    summaries = automations.summaries(ask.connection)
    held = {
        each.name: each
        for each in catalogue.overrides(ask.connection)
        if (each.kind, each.key) == ("automation", "paused")
    }
    found = []
    for entry in catalogue.automations(ask.connection):
        override = held.get(entry.value.name)
        holds = override is not None and override.file_value == entry.value.paused
        paused = bool(override.value) if override is not None and holds else entry.value.paused
        found.append(_document(entry, summaries.get(entry.value.name), paused=paused))
    return found


def _document(entry: Entry[Automation], summary: Summary | None, *, paused: bool) -> Document:
    value = entry.value
    return {
        "id": entry.id,
        "created": documents.instant(entry.created),
        "updated": documents.instant(entry.updated),
        "name": value.name,
        "description": value.description or "",
        "enabled": not paused,
        "when": condition_text(value.when),
        "then": [action_text(each) for each in value.then],
        "trigger": msgspec.to_builtins(value.when),
        "actions": msgspec.to_builtins(value.then),
        "max_fires": value.max_fires,
        "per": value.per.total_seconds(),
        "rounds": value.rounds,
        "fires": 0 if summary is None else summary.fires,
        "last_fire": None if summary is None else fire(summary.last),
    }


def fire(value: Fire) -> Document:
    """Return what an automation did on one cause."""
    cause = value.cause
    return {
        "number": value.number,
        "occurred": documents.instant(cause.at),
        "fired": documents.instant(value.at),
        "reason": cause.reason,
        "deployment": cause.deployment,
        "flow_run_id": cause.run,
        "state": "failed" if value.failed else StepState.WAITING if value.finished is None else StepState.DONE,
        "steps": [
            {"action": action_text(step.action), "state": step.state, "tries": step.tries, "told": step.told}
            for step in value.steps
        ],
    }
