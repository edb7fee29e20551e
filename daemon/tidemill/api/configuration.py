"""The configuration: what is in force, taking over what the files say by now, and what commands write beside them.

What is made here may be code to run and places to call, which the rest of the API never takes. So it is taken from the
daemon's own user alone, over the control socket; anybody else is answered 403.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from starlette.requests import Request

from tidemill.api import asker, places
from tidemill.api.bodies import BadRequestError
from tidemill.api.gate import Refusal
from tidemill.api.ports import Control


class _Make(msgspec.Struct, forbid_unknown_fields=True):
    value: Any


async def reload(control: Control, request: Request, body: Mapping[str, Any]) -> Any:
    """Take over what the files say by now; a refusal is an answer."""
    if body:
        raise BadRequestError("a reload takes nothing: it reads the files that the daemon was started with")
    return (await control.reloader.reload(f"asked for by {asker.name_of(request.scope)}")).document()


async def in_force(control: Control, request: Request, body: Mapping[str, Any]) -> Any:
    """Return everything that the configuration in force states, and where what is made is kept."""
    _only_owner(request)
    return {"settings": control.reloader.in_force(), "made_dir": str(control.made.made_dir)}


async def list_made(control: Control, request: Request, body: Mapping[str, Any]) -> Any:
    """Return what was made by commands."""
    _only_owner(request)
    return control.made.documents()


async def make(control: Control, request: Request, body: Mapping[str, Any]) -> Any:
    """Make a thing, or make it anew."""
    _only_owner(request)
    try:
        asked = msgspec.convert(body, _Make)
    except msgspec.ValidationError as error:
        raise BadRequestError(f"the body does not fit: {error}") from error
    path = request.path_params
    by = asker.name_of(request.scope)
    return (await control.made.put(path["table"], path["name"], asked.value, by=by)).document()


async def unmake(control: Control, request: Request, body: Mapping[str, Any]) -> Any:
    """Remove what was made."""
    _only_owner(request)
    path = request.path_params
    return (await control.made.remove(path["table"], path["name"], by=asker.name_of(request.scope))).document()


def _only_owner(request: Request) -> None:
    if not asker.owns(request.scope):
        raise Refusal(403, f"this is for the daemon's own user, over its control socket ({places.SOCKET})")


CONFIGURATION = {
    ("POST", "/reload"): reload,
    ("GET", "/configuration"): in_force,
    ("GET", "/made"): list_made,
    ("PUT", "/made/{table}/{name}"): make,
    ("DELETE", "/made/{table}/{name}"): unmake,
}
