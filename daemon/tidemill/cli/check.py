"""``tidemill check``: what is wrong with a configuration, and what it would run when."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tidemill.cli import configuration, plan, text
from tidemill.cli.schedules import fire_document, fire_lines
from tidemill.cli.session import Session
from tidemill.errors import EXIT_CONFIG, EXIT_OK, ConfigError, Fault

if TYPE_CHECKING:
    from tidemill.config import BrokenConfigError, Loaded
    from tidemill.core.deployments import Deployment
    from tidemill.core.schedules import Fire

FIRES = 5


def add(commands: Any, name: str, line: str, common: argparse.ArgumentParser) -> None:
    parser = commands.add_parser(name, help=line, parents=[common])
    parser.add_argument(
        "config", nargs="?", type=Path, metavar="CONFIG",
        help="the configuration (./tidemill.toml, ~/.config/tidemill/tidemill.toml, /etc/tidemill/tidemill.toml)",
    )  # fmt: skip
    parser.add_argument("--no-import", action="store_true", help="do not import flow code to see whether it loads")
    parser.set_defaults(run=check)


def check(session: Session) -> int:
    """Print every fault, or what would run when; exit 78 where there are faults."""
    from tidemill.config import BrokenConfigError, load

    path = configuration.find(session.args.config, session.environ)
    imports = not session.args.no_import
    daemon = plan.running(session, path)
    made_dir = _made_dir(session) if daemon is None else daemon.made_dir
    try:
        loaded = load(path, made_dir=made_dir, environ=session.environ)
    except BrokenConfigError as error:
        further = _further_faults(session, error, imports=imports)
        return _report(session, list(ConfigError([*error.faults, *further]).faults), [], [], [path])
    except ConfigError as error:
        return _report(session, list(error.faults), [], [], [path])
    warnings = list(loaded.warnings)
    warnings += _silence(loaded)
    faults = _code_faults(session, loaded, warnings, imports=imports)
    deployments = [_deployment(session, loaded, each) for each in loaded.settings.deployments.values()]
    planned = None if faults or daemon is None else plan.plan(daemon, loaded)
    return _report(session, faults, warnings, deployments, list(loaded.files), planned=planned)


def _silence(loaded: Loaded) -> list[Fault]:
    """Return a warning where nobody would hear of a failure."""
    from tidemill.config.notify import untold

    silence = untold(loaded.settings)
    if silence is None or not loaded.settings.deployments:
        return []
    problem, _, remedy = silence.partition("; ")
    return [Fault(str(loaded.files[0]), 0, 0, "notify", problem, remedy)]


def _made_dir(session: Session) -> Path | None:
    """Return the folder of drop-ins that the daemon wrote, so that what is checked is what it would run."""
    from tidemill.api import places

    folder = places.state_dir(session.environ, asked=getattr(session.args, "state_dir", None)) / "made.d"
    return folder if folder.is_dir() else None


def _further_faults(session: Session, error: BrokenConfigError, *, imports: bool) -> list[Fault]:
    """Return what else is wrong in what holds of a broken configuration."""
    from tidemill.flows.builtins import builtins
    from tidemill.services.fitness import further_faults

    faults = further_faults(error, builtins())
    return faults + (_import_faults(session, error.rest, []) if imports else [])


def _import_faults(session: Session, loaded: Loaded, warnings: list[Fault]) -> list[Fault]:
    from tidemill.services.fitness import entrypoint_fitness

    fitness = entrypoint_fitness(loaded, session.environ)
    warnings += fitness.warnings
    return [fault for found in fitness.faults.values() for fault in found]


def _code_faults(session: Session, loaded: Loaded, warnings: list[Fault], *, imports: bool) -> list[Fault]:
    """Return what is wrong with flows and their parameters, which the text alone does not show."""
    from tidemill.flows.builtins import builtins
    from tidemill.services.fitness import builtin_faults

    faults = builtin_faults(loaded, builtins())
    return faults + (_import_faults(session, loaded, warnings) if imports else [])


def _deployment(session: Session, loaded: Loaded, each: Deployment) -> dict[str, Any]:
    """Return what a deployment runs, where, and its next fires, of all its schedules together."""
    from tidemill.api.documents import schedule_text
    from tidemill.core.schedules import preview

    fires: list[Fire] = []
    remarks: list[str] = []
    for compiled in loaded.compiled[each.name]:
        remarks += compiled.remarks
        if compiled.is_reboot:
            remarks.append("@reboot: once at each start of the daemon")
        elif compiled.schedule.active:
            fires += preview(compiled, session.now(), FIRES)
    fires.sort(key=lambda fire: fire.utc)
    return {
        "name": each.name,
        "flow": each.flow.name,
        "entrypoint": each.flow.entrypoint,
        "work_pool_name": each.work_pool,
        "work_queue_name": each.work_queue,
        "paused": each.paused,
        "schedule_texts": [schedule_text(schedule) for schedule in each.schedules],
        "remarks": remarks,
        "fires": fires[:FIRES],
    }


def _report(
    session: Session,
    faults: list[Fault],
    warnings: list[Fault],
    deployments: list[dict[str, Any]],
    files: list[Path],
    *,
    planned: dict[str, Any] | None = None,
) -> int:
    code = EXIT_CONFIG if faults else EXIT_OK
    if session.json:
        session.show(
            {
                "ok": not faults,
                "files": [str(each) for each in files],
                "faults": [_fault_document(each) for each in faults],
                "warnings": [_fault_document(each) for each in warnings],
                "deployments": [
                    each | {"fires": [fire_document(fire) for fire in each["fires"]]} for each in deployments
                ],
                "plan": planned,
            }
        )
        return code
    for each in deployments:
        print(_text(each))
    for fault in warnings:
        print(f"warning: {text.clean(fault)}")
    if planned is not None:
        plan.show(planned, deployments)
    for fault in faults:
        print(text.clean(fault))
    if faults:
        session.note(f"{len(faults)} fault{'s' if len(faults) > 1 else ''} in the configuration")
    elif not deployments:
        print(f"{files[0]} is in order; it has no deployments yet.")
    else:
        number = len(deployments)
        print(f"{files[0]} is in order: {number} deployment{'s' if number > 1 else ''}.")
    return code


def _fault_document(fault: Fault) -> dict[str, Any]:
    fields = ("file", "line", "column", "key", "problem", "remedy")
    return {name: getattr(fault, name) for name in fields}


def _text(each: dict[str, Any]) -> str:
    lines = [f"{each['name']}: {each['entrypoint']} in pool {each['work_pool_name']}, queue {each['work_queue_name']}"]
    lines += [f"  {schedule}" for schedule in each["schedule_texts"]]
    lines += [f"  note: {text.clean(remark)}" for remark in each["remarks"]]
    if each["paused"]:
        lines.append("  paused: makes no runs until resumed")
    if each["fires"]:
        lines.append(fire_lines(each["fires"], indent="    "))
    elif not each["schedule_texts"]:
        lines.append("  no schedule: runs are made by hand")
    elif not each["remarks"]:
        lines.append("  does not fire any more")
    return "\n".join(lines) + "\n"
