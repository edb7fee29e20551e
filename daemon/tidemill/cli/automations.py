"""``tidemill automation``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from tidemill.cli import text, times
from tidemill.cli.session import Session, segment
from tidemill.errors import EXIT_FAILED, EXIT_OK

COLUMNS = (
    text.Column("NAME", below=False),
    text.Column("WHEN", below=True),
    text.Column("THEN", below=True),
    text.Column("FIRED", right=True, optional=True),
    text.Column("LAST"),
    text.Column("STATUS"),
)
SHOWN = 10  # fires that inspect shows
LAST = 3  # automations that status names


def add(commands: Any, name: str, line: str, common: argparse.ArgumentParser) -> None:
    noun = commands.add_parser(name, help=line, parents=[common])
    verbs = noun.add_subparsers(title="commands", metavar="COMMAND", required=True)
    verbs.add_parser("ls", help="list automations", parents=[common]).set_defaults(run=show_list)
    for verb, about, run in (
        ("inspect", "show one automation, how its condition stands and what it did", show_one),
        ("pause", "let it do nothing until resumed", pause_one),
        ("resume", "let it do again what it says; it counts from now", resume_one),
        ("test", "tell the people whom it tells, marked as a test, and nothing else", test_one),
    ):
        parser = verbs.add_parser(verb, help=about, parents=[common])
        parser.add_argument("automation", metavar="NAME", help="name or id")
        parser.set_defaults(run=run)
        if verb == "inspect":
            parser.add_argument(
                "--limit", type=int, default=SHOWN, metavar="N", help=f"how many of its last fires ({SHOWN})"
            )


def show_list(session: Session) -> None:
    """List the automations with what they wait for, what they do, and when they did it last."""
    found = session.post("/automations/filter", {})
    if session.json:
        session.show(found)
    elif found:
        print(text.table(COLUMNS, [_row(session, each) for each in found]))
    else:
        print("No automations. [automations.NAME] in the configuration states them.")


def _row(session: Session, each: dict[str, Any]) -> tuple[Any, ...]:
    last = each["last_fire"]
    return (
        each["name"],
        each["when"],
        ", ".join(each["then"]),
        each["fires"],
        "never" if last is None else times.ago(last["fired"], session.now()),
        _status(each),
    )


def _status(each: dict[str, Any]) -> str:
    if not each["enabled"]:
        return "paused"
    last = each["last_fire"]
    return "active" if last is None or last["state"] != "failed" else "failed"


def summary(found: Sequence[dict[str, Any]], now: datetime) -> str | None:
    """Return how the automations of a status document do, in a line or two."""
    if not found:
        return None
    paused = sum(each["paused"] for each in found)
    lines = [f"{len(found)}" + (f", {paused} paused" if paused else "")]
    fired = sorted((each for each in found if each["last_fired"]), key=lambda each: each["last_fired"], reverse=True)
    if fired:
        last = ", ".join(f"{each['name']} {times.ago(each['last_fired'], now)}" for each in fired[:LAST])
        lines.append(f"last fired: {last}" + (", …" if fired[LAST:] else ""))
    lines += [
        f"{each['name']} was held back {each['held_back']} times by its limit" for each in found if each["held_back"]
    ]
    return "\n".join(lines)


def _find(session: Session) -> dict[str, Any]:
    found: dict[str, Any] = session.get(f"/automations/{segment(session.args.automation)}")
    return found


def show_one(session: Session) -> None:
    """Show an automation, how its condition stands, and what it did the last times."""
    found = _find(session)
    fires = session.get(f"/automations/{found['id']}/fires", limit=max(0, session.args.limit))
    standing = session.get(f"/automations/{found['id']}/standing") if session.link.live else []
    if session.json:
        session.show({**found, "standing": standing, "last_fires": fires})
        return
    print(
        text.fields(
            [
                ("Automation", found["name"]),
                ("Id", found["id"]),
                ("Description", found["description"]),
                ("When", found["when"]),
                ("Then", "\n".join(found["then"])),
                (
                    "At most",
                    f"{found['max_fires']} in {_span(found['per'])}, {found['rounds']} rounds from its own doing",
                ),
                ("Status", _status(found)),
                ("Fired", found["fires"]),
            ]
        )
    )
    _section("Stands", [text.clean(line) for line in standing])
    _section("Last fires", [line for each in fires for line in _fire(each)])


def _span(seconds: float) -> str:
    from tidemill.durations import format_duration

    return format_duration(timedelta(seconds=seconds))


def _section(title: str, lines: Sequence[str]) -> None:
    if lines:
        print(f"\n{title}")
        for line in lines:
            print(f"  {line}")


def _fire(each: dict[str, Any]) -> list[str]:
    lines = [f"{times.local(each['fired'])}  {text.clean(each['reason'])}"]
    for step in each["steps"]:
        told = step["told"] or step["action"]
        if step["state"] != "done":
            again = "" if step["state"] == "failed" else " so far"
            told = f"could not {step['action']}{again}: {told}"
        lines.append(f"  {text.clean(told)}")
    return lines


def pause_one(session: Session) -> None:
    """Pause an automation: what happens meanwhile is no business of it."""
    _set_enabled(session, enabled=False)


def resume_one(session: Session) -> None:
    """Resume an automation: it counts from now."""
    _set_enabled(session, enabled=True)


def _set_enabled(session: Session, *, enabled: bool) -> None:
    found = _find(session)
    session.link.ask("PATCH", f"/automations/{found['id']}", {"enabled": enabled})
    if session.json:
        session.show(_find(session))
    else:
        print(f"{found['name']} is {'resumed: it counts from now' if enabled else 'paused: it does nothing'}")


def test_one(session: Session) -> int:
    """Tell the people whom an automation tells; exit 1 where it tells nobody."""
    found = _find(session)
    done = session.post(f"/automations/{found['id']}/test", {})
    if session.json:
        session.show(done)
    else:
        told = ", ".join(done["told"])
        print(f"{found['name']}: a test is on its way to {told}" if told else f"{found['name']} tells nobody")
        for each in done["not_done"]:
            print(f"  not done, as this is a test: {each}")
    return EXIT_OK if done["told"] else EXIT_FAILED
