"""What a flow's function takes, and whether given parameters fit it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from tidemill.core.json_schemas import faults
from tidemill.sdk.findings import Finding, near

_POSITIONAL_ONLY = inspect.Parameter.POSITIONAL_ONLY
_GENERATORS = (inspect.isgeneratorfunction, inspect.isasyncgenfunction)


class Signature(msgspec.Struct, frozen=True, kw_only=True):
    """A function's parameters by name, in a form that can leave the process that imported it."""

    names: tuple[str, ...] = ()
    required: tuple[str, ...] = ()
    positional_only: tuple[str, ...] = ()
    takes_any: bool = False  # has **kwargs, or tells nothing about itself
    is_async: bool = False
    schemas: dict[str, dict[str, Any]] = {}  # JSON schemas of those parameters whose schema tells all


def is_async(function: Callable[..., Any]) -> bool:
    """Say whether calling ``function`` gives a coroutine: async functions, partials of them, objects called so."""
    while hasattr(function, "func") and hasattr(function, "keywords"):  # functools.partial
        function = function.func
    decorated = getattr(function, "isasync", None)  # a flow or task, which is called without being a function
    if isinstance(decorated, bool):
        return decorated
    if inspect.iscoroutinefunction(function):
        return True
    call = inspect.getattr_static(type(function), "__call__", None)
    return not inspect.isroutine(function) and not inspect.isclass(function) and inspect.iscoroutinefunction(call)


def is_generator(function: Callable[..., Any]) -> bool:
    return any(test(function) for test in _GENERATORS)


def signature_of(function: Callable[..., Any]) -> Signature:
    """Return what ``function`` takes."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # some functions written in C say nothing
        return Signature(takes_any=True, is_async=is_async(function))
    named = [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    return Signature(
        names=tuple(p.name for p in named),
        required=tuple(p.name for p in named if p.default is p.empty),
        positional_only=tuple(p.name for p in parameters if p.kind is _POSITIONAL_ONLY and p.default is p.empty),
        takes_any=any(p.kind is p.VAR_KEYWORD for p in parameters),
        is_async=is_async(function),
    )


def check_parameters(flow: Callable[..., Any] | Signature, parameters: Mapping[str, Any]) -> list[Finding]:
    """Return what keeps ``flow`` from being called with ``parameters``: unknown names, missing ones."""
    signature = flow if isinstance(flow, Signature) else signature_of(flow)
    found = [
        Finding(name, "can only be given by place; parameters are given by name", 'remove the "/" from the function')
        for name in signature.positional_only
    ]
    if not signature.takes_any:
        for name in parameters:
            if name not in signature.names:
                nothing = "" if signature.names else "the flow takes no parameters"
                found.append(Finding(name, "the flow has no such parameter", nothing or near(name, signature.names)))
    found += [
        Finding(name, "the flow needs this parameter", "give it in parameters, or give it a default in the function")
        for name in signature.required
        if name not in parameters
    ]
    return found


def misfits(signature: Signature, given: Mapping[str, Any]) -> list[Finding]:
    """Return which JSON values do not fit the annotations, as far as these are known without the flow's code."""
    told: list[Finding] = []
    for name in filter(signature.schemas.__contains__, given):
        schema = signature.schemas[name]
        whole = {"properties": {name: schema}, "definitions": schema.get("definitions", {})}
        for fault in faults({name: given[name]}, whole):
            place, _, problem = fault.partition(": ")
            told.append(Finding(place, problem, "the flow's signature says so; give a value that fits it"))
    return told
