"""Parameters that somebody gives for a run of a deployment: which may be given, and what comes of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from tidemill.config.keys import NEVER_OVERRIDABLE
from tidemill.core.deployments import Deployment
from tidemill.errors import TidemillError

Check = Callable[[Deployment, Mapping[str, Any]], None]


def merged(deployment: Deployment, given: Mapping[str, Any], check: Check, *, stated: bool = False) -> dict[str, Any]:
    """Return the deployment's parameters with the given ones over them; only those it lets be overridden (P15).

    ``stated``: the configuration gives them, which may give any. Raises TidemillError for what may not be given, or
    does not fit.
    """
    allowed = None if stated else deployment.overridable
    refused = sorted(name for name in given if allowed is not None and name not in allowed)
    if refused:
        may = f"it allows {', '.join(sorted(allowed))}" if allowed else "it allows none"
        never = NEVER_OVERRIDABLE.get(deployment.flow.entrypoint, frozenset())
        remedy = "change it in the configuration" if never.intersection(refused) else "list it under overridable"
        raise TidemillError(
            f"deployment {deployment.name} does not let {', '.join(refused)} be overridden ({may}); {remedy}"
        )
    found = {**deployment.parameters, **given}
    if given:
        check(deployment, found)
    return found
