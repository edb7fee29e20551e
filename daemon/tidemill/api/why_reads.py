"""Why: a run, or a deployment at a time, explained; by the daemon, or from the database of one that is down."""

from __future__ import annotations

from tidemill.api import lookup
from tidemill.api.ask import Ask
from tidemill.api.bodies import BadRequestError
from tidemill.api.documents import Document
from tidemill.core.deployments import Deployment
from tidemill.core.why import Live
from tidemill.errors import NotFoundError
from tidemill.services import why
from tidemill.store import catalogue
from tidemill.store.catalogue import Entry


def explain(ask: Ask, live: Live | None = None) -> Document:
    """Explain ``?flow_run_id=``, or ``?deployment=`` with ``&at=``, or ``?name=``, which may be either."""
    run, deployment, name, at = (ask.query.get(key) for key in ("flow_run_id", "deployment", "name", "at"))
    if sum(each is not None for each in (run, deployment, name)) != 1:
        raise BadRequestError("say what to explain: ?flow_run_id=…, ?deployment=… or ?name=…")
    if run is not None:
        return _run(ask, run, live)
    if deployment is not None or at is not None:
        return _deployment(ask, _entry(ask, deployment or name or ""), at, live)
    try:
        entry = _entry(ask, name or "")
    except NotFoundError as error:
        try:
            return _run(ask, name or "", live)
        except NotFoundError:
            raise NotFoundError(f"{error}; nor is a flow run, of those that are on record") from None
    return _deployment(ask, entry, None, live)


def _entry(ask: Ask, text: str) -> Entry[Deployment]:
    """Return a deployment, also one that is no longer configured."""
    gone = catalogue.exactly(ask.connection, Deployment, text, gone=True)
    return gone if gone is not None else lookup.deployment(ask.connection, text)


def _run(ask: Ask, text: str, live: Live | None) -> Document:
    return why.of_run(ask.connection, lookup.flow_run(ask.connection, text), ask.now, live)


def _deployment(ask: Ask, entry: Entry[Deployment], at: str | None, live: Live | None) -> Document:
    if at is None:
        return why.of_deployment(ask.connection, entry, ask.now, live)
    try:
        return why.at_time(ask.connection, entry, at, ask.now, live)
    except (ValueError, OverflowError) as error:
        raise BadRequestError(str(error)) from None
