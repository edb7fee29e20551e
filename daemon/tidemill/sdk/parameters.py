"""Arguments become parameters by name, are coerced by their annotations, and are told as JSON schema."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import inspect
import sys
import threading
import typing
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from tidemill.sdk.exceptions import ParameterBindError, ParameterTypeError, ReservedArgumentError

_Kind = inspect.Parameter
_RESERVED = ("return_state", "wait_for")
_EMPTY = inspect.Parameter.empty


class Signature:
    """How a function is called. Made once for a function; binding a call costs about a microsecond."""

    __slots__ = ("_by_keyword", "_defaults", "_hints", "_simple", "fn", "keywords", "names", "parameters", "variadic")

    def __init__(self, fn: Callable[..., Any]) -> None:
        self.fn = fn
        try:
            self.parameters = inspect.signature(fn).parameters
        except (TypeError, ValueError):  # some functions written in C say nothing
            self.parameters = inspect.signature(lambda *args, **kwargs: None).parameters
        kinds = {each.kind for each in self.parameters.values()}
        self.names = tuple(name for name, each in self.parameters.items() if each.kind is _Kind.POSITIONAL_OR_KEYWORD)
        self.variadic = next((n for n, p in self.parameters.items() if p.kind is _Kind.VAR_POSITIONAL), None)
        self.keywords = next((n for n, p in self.parameters.items() if p.kind is _Kind.VAR_KEYWORD), None)
        self._by_keyword = not kinds & {_Kind.POSITIONAL_ONLY, _Kind.VAR_POSITIONAL, _Kind.VAR_KEYWORD}
        self._defaults = {name: p.default for name, p in self.parameters.items() if p.default is not _EMPTY}
        self._hints: dict[str, Any] | None = None
        self._simple = len(self.names) == len(self.parameters)

    def refuse_reserved(self) -> None:
        """Raise where an argument has a name that the engine needs."""
        for name in _RESERVED:
            if name in self.parameters:
                raise ReservedArgumentError(f"{name!r} is a reserved argument name; rename the argument of {self.fn}")

    def bind(self, args: tuple[Any, ...], kwargs: dict[str, Any], *, defaults: bool = True) -> dict[str, Any]:
        """Return the parameters of a call by name, ``*args`` and ``**kwargs`` under their own names.

        Raises ``ParameterBindError``.
        """
        if self._by_keyword:
            names = self.names
            count = len(args)
            if count <= len(names):
                # No copy of kwargs where nothing else is given; unknown and missing names are told below.
                given = dict(zip(names, args, strict=False)) if args else {}
                if kwargs:
                    clash = given and not given.keys().isdisjoint(kwargs)
                    given.update(kwargs)
                else:
                    clash = False
                parameters = self.parameters
                if len(given) == len(parameters) and not clash and given.keys() == parameters.keys():
                    return given
                if not clash and given.keys() <= parameters.keys():
                    if not defaults:
                        return given
                    filled = {**self._defaults, **given}
                    if len(filled) == len(parameters):
                        return {name: filled[name] for name in parameters}
        try:
            bound = inspect.signature(self.fn).bind(*args, **kwargs) if defaults else self._partly(args, kwargs)
        except TypeError as error:
            name = getattr(self.fn, "__name__", repr(self.fn))
            raise ParameterBindError(
                f"{name}: {error}; it takes ({', '.join(self.parameters)}) and was given {len(args)} by place"
                f" and {', '.join(kwargs) or 'none'} by name"
            ) from None
        if defaults:
            bound.apply_defaults()
        return dict(bound.arguments)

    def _partly(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> inspect.BoundArguments:
        return inspect.signature(self.fn).bind(*args, **kwargs)

    def call(self, parameters: Mapping[str, Any]) -> Any:
        """Call the function with parameters by name, as :meth:`bind` returned them."""
        if self._by_keyword:
            return self.fn(**parameters)
        args, kwargs = self.exploded(parameters)
        return self.fn(*args, **kwargs)

    def exploded(self, parameters: Mapping[str, Any]) -> tuple[list[Any], dict[str, Any]]:
        """Return parameters as arguments by place and by name."""
        args: list[Any] = []
        kwargs: dict[str, Any] = {}
        by_place = self.variadic is not None and parameters.get(self.variadic)
        for name, each in self.parameters.items():
            if each.kind is _Kind.VAR_POSITIONAL:
                args.extend(parameters.get(name, ()))
            elif each.kind is _Kind.VAR_KEYWORD:
                kwargs.update(parameters.get(name, {}))
            elif name in parameters:
                if each.kind is _Kind.POSITIONAL_ONLY or (by_place and each.kind is _Kind.POSITIONAL_OR_KEYWORD):
                    args.append(parameters[name])
                else:
                    kwargs[name] = parameters[name]
        if self.keywords is not None:
            kwargs.update({name: value for name, value in parameters.items() if name not in self.parameters})
        return args, kwargs

    # --- annotations ------------------------------------------------------------------------------------------------

    @property
    def hints(self) -> dict[str, Any]:
        """The annotations by name, as far as they can be evaluated."""
        if self._hints is None:
            self._hints = _hints_of(self.fn)
        return self._hints

    def coerced(self, parameters: dict[str, Any]) -> dict[str, Any]:
        """Return the parameters converted to their annotated types; raises ``ParameterTypeError`` naming every fault.

        What a default says is not looked at, nor are parameters without an annotation.
        """
        hints = self.hints
        if not hints:
            return parameters
        result = dict(parameters)
        faults: list[str] = []
        for name, value in parameters.items():
            wanted = hints.get(name, Any)
            if wanted is Any or (type(value) is wanted and wanted in _PLAIN):
                continue
            if name in self._defaults and self._defaults[name] is value:
                continue
            kind = self.parameters[name].kind if name in self.parameters else None
            try:
                if kind is _Kind.VAR_POSITIONAL:
                    result[name] = tuple(convert(each, wanted) for each in value)
                elif kind is _Kind.VAR_KEYWORD:
                    result[name] = {key: convert(each, wanted) for key, each in value.items()}
                else:
                    result[name] = convert(value, wanted)
            except ValueError as error:
                faults.append(f"{name}: {error}")
        if faults:
            raise ParameterTypeError("; ".join(faults))
        return result

    def schema(self) -> dict[str, Any]:
        """Return the parameters as a JSON schema, in the shape that Prefect's API uses."""
        properties: dict[str, Any] = {}
        definitions: dict[str, Any] = {}
        for position, (name, each) in enumerate(self.parameters.items()):
            if each.kind in (_Kind.VAR_POSITIONAL, _Kind.VAR_KEYWORD):
                continue
            entry = {"title": name, "position": position, **_schema_of(self.hints.get(name, Any), definitions)}
            default = _json_default(each.default)
            if default is not _EMPTY:
                entry["default"] = default
            properties[name] = entry
        schema: dict[str, Any] = {"title": "Parameters", "type": "object", "properties": properties}
        required = [name for name in properties if name not in self._defaults]
        if required:
            schema["required"] = required
        if self.keywords is not None:
            schema["additionalProperties"] = True
        return {**schema, "definitions": definitions} if definitions else schema


_PLAIN = frozenset({int, float, str, bool, bytes, type(None)})


def _hints_of(fn: Callable[..., Any]) -> dict[str, Any]:
    target = getattr(fn, "func", fn)
    if not hasattr(target, "__annotations__") and not inspect.isclass(target):
        target = type(target).__call__ if hasattr(type(target), "__call__") else target  # noqa: B004
    try:
        hints = typing.get_type_hints(target, include_extras=True)
    except Exception:
        # Names that exist for type checkers alone: what can be evaluated one by one still counts.
        hints = {}
        for name, annotation in getattr(target, "__annotations__", {}).items():
            try:
                hints[name] = (
                    eval(annotation, getattr(target, "__globals__", {}))  # noqa: S307 - the flow's own annotation
                    if isinstance(annotation, str)
                    else annotation
                )
            except Exception:  # noqa: S112 - it stays without a type
                continue
    return hints


def convert(value: Any, wanted: Any) -> Any:
    """Return ``value`` as ``wanted``, converting leniently ("5" is 5). Raises ``ValueError`` that says what is wrong.

    msgspec converts what it knows; pydantic, where it is installed, its models and the rest.
    """
    if isinstance(wanted, type) and wanted not in _CONTAINERS and isinstance(value, wanted):
        if not (wanted is int and isinstance(value, bool)):
            return value
        return int(value)
    if not _is_pydantic(wanted):
        try:
            return _converted(value, wanted)
        except msgspec.ValidationError as error:
            failure: Exception = error
        except TypeError as error:  # a type that msgspec does not know
            failure = error
        if not _pydantic_installed():
            if isinstance(failure, msgspec.ValidationError):
                raise ValueError(str(failure)) from None
            return value  # neither of them can tell
    return _by_pydantic(value, wanted)


# msgspec works out what a type is when it is first converted to, and two threads that do so at the same time take the
# whole process down (seen with 0.22): sync flows are threads, so first conversions are made one after another.
_first = threading.RLock()
_met: set[Any] = set()


def _converted(value: Any, wanted: Any) -> Any:
    try:
        met = wanted in _met
    except TypeError:  # what cannot be hashed cannot be remembered: each time is its first
        with _first:
            return msgspec.convert(value, wanted, strict=False, from_attributes=True)
    if met:
        return msgspec.convert(value, wanted, strict=False, from_attributes=True)
    with _first:
        try:
            return msgspec.convert(value, wanted, strict=False, from_attributes=True)
        finally:
            _met.add(wanted)


_BOUNDS = ("pydantic", "annotated_types")
_CONTAINERS = (list, dict, tuple, set, frozenset)


def _is_pydantic(wanted: Any) -> bool:
    if isinstance(wanted, type):
        return hasattr(wanted, "__pydantic_validator__") or hasattr(wanted, "__get_pydantic_core_schema__")
    if type(wanted).__module__.partition(".")[0] in _BOUNDS:  # in Annotated: msgspec would pass it over
        return _pydantic_installed()
    return any(_is_pydantic(each) for each in typing.get_args(wanted))


def _pydantic_installed() -> bool:
    if "pydantic" in sys.modules:
        return True
    return importlib.util.find_spec("pydantic") is not None


def _by_pydantic(value: Any, wanted: Any) -> Any:
    pydantic = importlib.import_module("pydantic")  # not ours to require
    try:
        adapter = _adapters.get(wanted)
    except TypeError:  # an annotation that cannot be hashed
        adapter = None
    if adapter is None:
        try:
            adapter = pydantic.TypeAdapter(wanted, config=pydantic.ConfigDict(arbitrary_types_allowed=True))
        except pydantic.PydanticUserError:  # a model has a configuration of its own
            adapter = pydantic.TypeAdapter(wanted)
        with contextlib.suppress(TypeError):
            _adapters[wanted] = adapter
    try:
        return adapter.validate_python(value)
    except pydantic.ValidationError as error:
        faults = [
            f"{'.'.join(map(str, each['loc']))}: {each['msg']}" if each["loc"] else str(each["msg"])
            for each in error.errors()
        ]
        raise ValueError(", ".join(faults)) from None


_adapters: dict[Any, Any] = {}


def schema_of(wanted: Any) -> dict[str, Any]:
    """Return a type's JSON schema, with its ``definitions``; empty for a type that has none."""
    definitions: dict[str, Any] = {}
    with _first:
        schema = _schema_of(wanted, definitions)
    return {**schema, "definitions": definitions} if schema and definitions else schema


def _schema_of(wanted: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    if wanted is Any:
        return {}
    try:
        if _is_pydantic(wanted):
            adapter = importlib.import_module("pydantic").TypeAdapter(wanted)
            schema: dict[str, Any] = adapter.json_schema(ref_template="#/definitions/{model}")
            definitions.update(schema.pop("$defs", {}))
            return schema
        (schema,), components = msgspec.json.schema_components([wanted], ref_template="#/definitions/{name}")
        definitions.update(components)
        return schema
    except Exception:  # a type that has no schema takes anything, and is checked when the flow is called
        return {}


def _json_default(default: Any) -> Any:
    if default is _EMPTY:
        return _EMPTY
    try:
        return msgspec.to_builtins(default)
    except (TypeError, ValueError):
        return _EMPTY
