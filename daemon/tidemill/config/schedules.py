"""Reading when a deployment runs: one schedule beside its other keys, or a list of tables."""

from __future__ import annotations

from tidemill.config.documents import dotted
from tidemill.config.faults import Faults, kind_of, show
from tidemill.config.keys import RULES, SCHEDULE
from tidemill.config.tables import Entry, read_keys
from tidemill.core.schedules import CompiledSchedule, Schedule, ScheduleError, compile_schedule, identity

MAX_SCHEDULES = 100  # of one deployment
_WRITE_RULE = 'add cron = "0 9 * * *", interval = "15m", rrule = "…" or at = 2030-01-01T00:00:00'


def read_schedules(entry: Entry, timezone: str, faults: Faults) -> tuple[CompiledSchedule, ...]:
    """Return the compiled schedules of the deployment in ``entry``; what is wrong goes to ``faults``.

    ``timezone`` is for schedules that name none.
    """
    short = {key: value for key, value in entry.value.items() if key in SCHEDULE}
    listed = entry.value.get("schedules")
    if listed is None:
        if not short:
            return ()
        compiled = _read(Entry(entry.document, entry.path, short), timezone, faults)
        return () if compiled is None else (compiled,)
    for key in short:
        problem = "stands beside a list of schedules"
        faults.add(entry.document, (*entry.path, key), problem, "put it into one of them", at_key=True)
    path = (*entry.path, "schedules")
    if not isinstance(listed, list):
        remedy = f"write [[{dotted(path)}]] with two brackets"
        faults.add(entry.document, path, f"{show(listed)} is {kind_of(listed)}, not a list of tables", remedy)
        return ()
    if len(listed) > MAX_SCHEDULES:
        faults.add(entry.document, path, f"holds {len(listed)} schedules, more than {MAX_SCHEDULES}", "use an rrule")
        return ()
    found: dict[str, tuple[int, CompiledSchedule]] = {}
    for number, item in enumerate(listed):
        place = Entry(entry.document, (*path, number), item)
        if not isinstance(item, dict):
            faults.add(
                place.document, place.path, f"{show(item)} is {kind_of(item)}, not a table", "write { cron = … }"
            )
            continue
        compiled = _read(place, timezone, faults)
        if compiled is None:
            continue
        first = found.setdefault(identity(compiled.schedule), (number, compiled))
        if first[1] is not compiled:
            what = "has the name" if compiled.schedule.name else "says the same as"
            what += f" of schedules[{first[0]}]" if compiled.schedule.name else f" schedules[{first[0]}]"
            faults.add(place.document, place.path, what, "keep one of them, or give each its own name", at_key=True)
    return tuple(compiled for _, compiled in found.values())


def _read(entry: Entry, timezone: str, faults: Faults) -> CompiledSchedule | None:
    rules = [rule for rule in RULES if rule in entry.value]
    values = read_keys(entry, SCHEDULE, faults)
    if not rules and values.keys() == entry.value.keys():
        first = next(iter(entry.value), None)
        path = entry.path if first is None else (*entry.path, first)
        remedy = _WRITE_RULE
        if first == "name" and "schedules" not in entry.path:
            remedy = f"a deployment has the name of its table; or, for its schedule, {_WRITE_RULE}"
        faults.add(entry.document, path, "there is no rule that says when", remedy, at_key=True)
    for rule in rules[1:]:
        problem = f'stands beside "{rules[0]}": a schedule has one rule'
        faults.add(entry.document, (*entry.path, rule), problem, "keep one, or write a list of schedules", at_key=True)
    if len(rules) != 1 or values.keys() != entry.value.keys():
        return None
    values.setdefault("timezone", timezone)
    try:
        return compile_schedule(Schedule(**values))
    except ScheduleError as error:
        # What is said of the whole, or of a key that is not there (the default zone), is told at the rule.
        field = error.field if error.field in entry.value else rules[0]
        faults.add(entry.document, (*entry.path, field), error.problem, error.remedy)
    except OverflowError:
        faults.add(entry.document, (*entry.path, rules[0]), "reaches beyond the calendar", "choose nearer dates")
    return None
