"""Which annotations JSON schemas tell whole: values for them can be judged without the flow's code.

Models, dataclasses and types with converters of their own may take more than their schema says: nothing is known of
them, and the conversion before the call has the only word.
"""

from __future__ import annotations

import enum
import types
import typing
from collections.abc import Callable
from typing import Any

from tidemill.sdk.flows import as_flow
from tidemill.sdk.parameters import schema_of

_SCALARS = frozenset({bool, int, float, str, type(None)})
_CONTAINERS = frozenset({list, dict, tuple, set, frozenset})


def schemas_of(function: Callable[..., Any]) -> dict[str, dict[str, Any]]:
    """Return the JSON schemas of those parameters whose schema tells all that may be given, by name."""
    flow = as_flow(function)
    if not flow.should_validate_parameters:
        return {}
    variadic = (flow.signature.variadic, flow.signature.keywords)
    found = {
        name: schema_of(hint)
        for name, hint in flow.signature.hints.items()
        if name in flow.signature.parameters and name not in variadic and is_plain(hint)
    }
    return {name: schema for name, schema in found.items() if schema}


def is_plain(hint: Any) -> bool:
    """Say whether a type takes nothing beyond what its JSON schema says.

    >>> is_plain(list[int] | None), is_plain(dict[str, slice])
    (True, False)
    """
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        return all(type(each) in (str, int) for each in inner)
    if origin in (typing.Union, types.UnionType):
        return all(map(is_plain, inner))
    if origin is not None:
        return origin in _CONTAINERS and all(each in (Any, ...) or is_plain(each) for each in inner)
    if isinstance(hint, enum.EnumMeta):
        return getattr(hint._missing_, "__func__", None) is enum.Enum._missing_.__func__  # type: ignore[attr-defined]
    return isinstance(hint, type) and (hint in _SCALARS or hint in _CONTAINERS)
