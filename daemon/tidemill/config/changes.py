"""What another load of the files changes: two configurations beside each other, in the file's own words.

Both the daemon, which takes a configuration over, and ``tidemill check``, which asks what that would do, read it. What
a configuration says is compared as JSON values, so that one of them may come from elsewhere. Values that may hold what
is nobody's business (parameters, variables, channels) are named and never shown.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from pathlib import PurePath
from types import MappingProxyType
from typing import Any

import msgspec

from tidemill.config.keys import LIMITS
from tidemill.config.settings import Settings
from tidemill.core.retries import RetryPolicy
from tidemill.durations import format_duration

Stated = Mapping[str, Mapping[str, Any]]  # table -> key or name -> JSON value

# Read once, when the daemon starts.
RESTART = frozenset({"api.listen", "log.format"})
# What stands under these is told by its name alone.
UNSHOWN = frozenset({"parameters", "env", "headers", "ping", "tls", "when", "then"})
UNSHOWN_TABLES = frozenset({"variables", "blocks", "notify"})
SHOWN = 10  # things, in one line of a log
_LONGEST = 60  # characters of a value
_DURATION = re.compile(r"-?P(?:\d+D)?(?:T[\d.HMS]+)?")
# Fields of values that the file writes beside each other, under other names.
_FLAT: Mapping[str, Mapping[str, str]] = {
    "retry": {
        "retries": "retries",
        "delays": "retry_delay",
        "backoff": "retry_backoff",
        "max_delay": "retry_max_delay",
        "jitter": "retry_jitter",
        "cap": "retry_after_max",
    },
    "limits": {field: key for key, field in LIMITS.items()},
}

_ABSENT: Mapping[str, Mapping[str, Any]] = {
    "retry": msgspec.json.decode(msgspec.json.encode(RetryPolicy())),
    "limits": {},
}


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is other than it was. ``table`` is the file's; ``name`` is empty for a table that stands once."""

    table: str
    name: str
    how: str  # added, changed or removed
    keys: tuple[str, ...] = ()  # which of its keys changed
    texts: tuple[str, ...] = ()  # the same with what they were and are, for people

    def __str__(self) -> str:
        sign = {"added": "+", "removed": "-"}.get(self.how, "~")
        name = f"{self.table.removesuffix('s').replace('_', ' ')} {self.name}" if self.name else f"[{self.table}]"
        return f"{sign} {name}" + (f": {'; '.join(self.texts)}" if self.texts else "")


class Changes(msgspec.Struct, frozen=True, kw_only=True):
    """All that is other than it was, deployments first."""

    all: tuple[Change, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.all)

    def names(self, how: str, table: str = "deployments") -> tuple[str, ...]:
        """Return what of a table was added, changed or removed."""
        return tuple(change.name for change in self.all if change.how == how and change.table == table)

    @property
    def restart(self) -> tuple[str, ...]:
        """The keys among them that are read at a start only."""
        return tuple(
            f"{change.table}.{key}" for change in self.all for key in change.keys if f"{change.table}.{key}" in RESTART
        )

    def summary(self, most: int = SHOWN) -> str:
        """Return one line: the first changes, and how many more there are."""
        if not self.all:
            return "nothing has changed"
        more = len(self.all) - most
        return ", ".join(map(str, self.all[:most])) + (f", and {more} more" if more > 0 else "")


def between(before: Settings, after: Settings) -> Changes:
    """Return what ``after`` changes of ``before``."""
    return compare(_stated(before, after), _stated(after, before))


def held_until_restart(at_start: Settings, now: Settings) -> tuple[str, ...]:
    """Return the keys whose value was read at the start and is another by now."""
    return tuple(key for key in sorted(RESTART) if _value(at_start, key) != _value(now, key))


def _value(settings: Settings, key: str) -> Any:
    table, _, name = key.partition(".")
    return getattr(getattr(settings, table), name)


def stated(settings: Settings) -> dict[str, dict[str, Any]]:
    """Return everything that a configuration states, as JSON values. Secrets are references in it."""
    return _stated(settings, None)


def compare(before: Stated, after: Stated) -> Changes:
    """Return what changes from one :func:`stated` configuration to another."""
    found = []
    for table in _tables(before, after):
        old, new = before.get(table, {}), after.get(table, {})
        if table in _SINGLE:
            changed = list(_keys(table, old, new))
            if changed:
                found.append(_changed(table, "", changed))
            continue
        for name in dict.fromkeys((*new, *old)):
            if name not in old or name not in new:
                value = new.get(name, old.get(name))
                if not (isinstance(value, dict) and value.get("automatic")):
                    how = "added" if name in new else "removed"
                    found.append(Change(table=table, name=name, how=how, texts=_what(table, value, how)))
            elif old[name] != new[name]:
                changed = list(_keys(table, _table(old[name]), _table(new[name])))
                if changed:
                    found.append(_changed(table, name, changed))
    return Changes(all=tuple(found))


_SINGLE = frozenset(
    field.name
    for field in msgspec.structs.fields(Settings)
    if isinstance(field.type, type) and issubclass(field.type, msgspec.Struct)
)


def _tables(before: Stated, after: Stated) -> list[str]:
    known = dict.fromkeys((*after, *before))
    return sorted(known, key=lambda table: (table != "deployments", table in _SINGLE))


def _stated(settings: Settings, other: Settings | None) -> dict[str, dict[str, Any]]:
    """Return a configuration as JSON values, without the things that are the same in ``other``."""
    found: dict[str, dict[str, Any]] = {}
    for field in msgspec.structs.fields(Settings):
        value = getattr(settings, field.name)
        against = getattr(other, field.name) if other is not None else None
        if isinstance(value, Mapping):
            found[field.name] = {
                name: _plain(item) for name, item in value.items() if against is None or against.get(name) != item
            }
            if against is not None:  # what is the same stands there without its value: it is neither new nor gone
                found[field.name] |= {name: None for name, item in value.items() if against.get(name) == item}
        else:
            found[field.name] = _plain(value)
    return found


def _plain(value: Any) -> Any:
    return msgspec.json.decode(msgspec.json.encode(value, enc_hook=_encode, order="sorted"))


def _encode(value: Any) -> Any:
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, MappingProxyType):
        return dict(value)
    raise TypeError(type(value).__name__)


def _table(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {"value": value}


def _changed(table: str, name: str, keys: Sequence[tuple[str, str]]) -> Change:
    return Change(
        table=table, name=name, how="changed", keys=tuple(key for key, _ in keys), texts=tuple(text for _, text in keys)
    )


def _keys(table: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the keys that differ, and each with what it was and is."""
    for key in dict.fromkeys((*new, *old)):
        before, after = old.get(key), new.get(key)
        if before == after or key == "automatic":
            continue
        if key in _FLAT:
            names, absent = _FLAT[key], _ABSENT[key]
            old_parts, new_parts = before or absent, after or absent
            inner = [
                (name, f"{name} {_text(name, old_parts.get(field))} → {_text(name, new_parts.get(field))}")
                for field, name in names.items()
                if old_parts.get(field) != new_parts.get(field)
            ]
            yield from inner or [(key, f"{key} {'not set' if after is None else 'set, as by default'}")]
        elif table in UNSHOWN_TABLES:
            yield key, "another value" if key == "value" else key
        elif key in UNSHOWN:
            parts = _parts(before, after)
            yield key, f"{key} ({', '.join(parts)})" if parts else key
        elif key == "value":
            yield key, f"{_text(key, before)} → {_text(key, after)}"
        else:
            was, now = _text(key, before), _text(key, after)
            if was == now and key == "schedules":  # intervals alone: they count from a midnight of their zone
                was, now = _zones(before), _zones(after)
            yield key, f"{key} {was} → {now}"


def _parts(before: Any, after: Any) -> list[str]:
    if not isinstance(before, dict) or not isinstance(after, dict):
        return []
    return [name for name in dict.fromkeys((*after, *before)) if before.get(name) != after.get(name)]


def _what(table: str, value: Any, how: str) -> tuple[str, ...]:
    if table != "deployments" or how == "removed" or not isinstance(value, dict):
        return ()
    words = [str(value["flow"]["entrypoint"])]
    words += [_schedule(each) for each in value["schedules"]] or ["no schedule"]
    return (", ".join(words),)


def _text(key: str, value: Any) -> str:
    if value is None:
        return "not set"
    if key == "schedules":
        return ", ".join(map(_schedule, value)) or "none"
    if key == "flow":
        return str(value["entrypoint"])
    if isinstance(value, str):
        text = _duration(value)
    elif isinstance(value, list) and all(isinstance(each, str) for each in value):
        text = ", ".join(map(_duration, value)) or "none"
    else:
        text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def _schedule(value: Mapping[str, Any]) -> str:
    """Return a schedule in a few words."""
    kind = next(kind for kind in ("cron", "interval", "rrule", "at") if value.get(kind) is not None)
    words = {"interval": "every ", "at": "at "}.get(kind, "") + _duration(str(value[kind]))
    extra = [] if kind == "interval" else [str(value["timezone"])]
    if (jitter := _duration(value.get("jitter") or "")) not in ("", "0s"):
        extra.append(f"+ up to {jitter}")
    extra += [f"{key} {value[key]}" for key in ("start", "end", "anchor", "name") if value.get(key) is not None]
    if value.get("exclude"):
        extra.append(f"not on {', '.join(value['exclude'])}")
    if not value.get("active", True):
        extra.append("not active")
    return " ".join((words, *extra))


def _zones(value: Any) -> str:
    return ", ".join(f"{_schedule(each)} {each['timezone']}" for each in value)


def _duration(text: str) -> str:
    if not _DURATION.fullmatch(text) or len(text) < len("P1D"):
        return text
    return format_duration(msgspec.convert(text, timedelta))
