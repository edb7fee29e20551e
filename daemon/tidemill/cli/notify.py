"""``tidemill notify``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tidemill.cli import configuration, text, times
from tidemill.cli.session import Session, segment
from tidemill.errors import DaemonUnreachableError, NotFoundError, TidemillError

if TYPE_CHECKING:
    from tidemill.core.channels import Channel

COLUMNS = (
    text.Column("CHANNEL", below=False),
    text.Column("TYPE"),
    text.Column("HEARS", below=True),
    text.Column("WAITING", right=True),
    text.Column("LAST TOLD"),
    text.Column("STATUS", below=True),
)
NOBODY = """\
Nobody is told. Say who in the configuration, for example:
  [notify]
  default = "mailto:me@example.org"\
"""


def add(commands: Any, name: str, line: str, common: argparse.ArgumentParser) -> None:
    noun = commands.add_parser(name, help=line, parents=[common])
    verbs = noun.add_subparsers(title="commands", metavar="COMMAND", required=True)
    about = "list the channels, what each hears of, and how it went"
    verbs.add_parser("ls", help=about, parents=[common]).set_defaults(run=show_list)
    about = "send a test message now; exit 1 where it was not taken"
    test = verbs.add_parser("test", help=about, parents=[common])
    test.add_argument("channel", metavar="CHANNEL", nargs="?", help="a channel of [notify] (all of them)")
    test.add_argument(
        "--config", type=Path, metavar="FILE", help="send it from here by this configuration, not by the daemon"
    )
    test.set_defaults(run=test_them)


def show_list(session: Session) -> None:
    """List the channels."""
    found = session.get("/status").get("notify")
    if found is None:
        raise DaemonUnreachableError("the daemon is down, and it alone knows how its channels do; try: notify test")
    if session.json:
        session.show(found)
    elif found["channels"]:
        print(text.table(COLUMNS, [_row(session, each) for each in found["channels"]]))
    else:
        print(NOBODY)


def _row(session: Session, each: dict[str, Any]) -> tuple[Any, ...]:
    now = session.now()
    status = "works" if each["delivered"] else "not tried yet"
    if each["error"]:
        status = f"failing since {times.ago(each['failing_since'], now)}: {each['error']}"
    if each["waiting"] and each.get("next"):
        status += f"; {'tried again' if each['error'] else 'the next goes'} {times.ago(each['next'], now)}"
    return (
        each["name"],
        each["type"],
        ", ".join(each["hears"]) if each["hears"] is not None else "everything",
        each["waiting"],
        times.ago(each["delivered"], now) if each["delivered"] else "never",
        text.clean(status),
    )


def test_them(session: Session) -> int:
    """Send a test message by one channel, or by all at once; tell what became of each, in their order."""
    wanted: str | None = session.args.channel
    if session.args.config is None and (tried := _by_daemon(session, wanted)) is not None:
        return _report(session, tried)
    return _report(session, _from_here(session, wanted))


def _by_daemon(session: Session, wanted: str | None) -> list[dict[str, Any]] | None:
    """Let the daemon send: with its user, its sandbox and its secrets. None: there is none."""
    try:
        if not session.link.live:
            return None
    except DaemonUnreachableError:
        return None
    notify = session.get("/status").get("notify") or {"channels": []}
    names = [wanted] if wanted is not None else [each["name"] for each in notify["channels"]]
    if not names:
        raise NotFoundError(NOBODY)
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(len(names)) as threads:  # a channel that hangs keeps nobody but itself waiting
        return list(threads.map(lambda name: _tried(session, name), names))


def _tried(session: Session, name: str) -> dict[str, Any]:
    link = session.another_link()
    try:
        return {"channel": name, "error": None, **link.ask("POST", f"/notify/{segment(name)}/test", {})}
    except NotFoundError:
        raise
    except TidemillError as error:
        return {"channel": name, "subject": None, "error": str(error)}
    finally:
        link.close()


def _from_here(session: Session, wanted: str | None) -> list[dict[str, Any]]:
    from tidemill.api import places
    from tidemill.config import load

    path = configuration.find(session.args.config, session.environ)
    made = places.state_dir(session.environ, asked=getattr(session.args, "state_dir", None)) / "made.d"
    loaded = load(path, made_dir=made if made.is_dir() else None, environ=session.environ)
    channels = loaded.settings.notify
    if not channels:
        raise NotFoundError(f"{path}: {NOBODY}")
    if wanted is not None and wanted not in channels:
        raise NotFoundError(f"{path}: no notify channel is called {wanted}; there are: {', '.join(channels)}")
    session.note(f"sent from here, by {path}: the daemon's user and secrets may be others")
    chosen = list(channels.values()) if wanted is None else [channels[wanted]]
    return _send(session, chosen, loaded.settings.daemon.timezone)


def _send(session: Session, channels: list[Channel], timezone: str) -> list[dict[str, Any]]:
    import asyncio
    import socket
    from functools import partial

    from tidemill import systemd
    from tidemill.clock import SystemClock
    from tidemill.config import resolve_secret
    from tidemill.core.channels import UndeliveredError
    from tidemill.core.messages import Place
    from tidemill.core.zones import zone
    from tidemill.ids import Ids
    from tidemill.runners.threads import PoolThreads
    from tidemill.services.telling.carriers import Carriers
    from tidemill.services.telling.messages import test_message
    from tidemill.telemetry.redaction import Redactor

    redactor, host = Redactor(), socket.gethostname() or "localhost"
    resolve = partial(
        resolve_secret, environ=session.environ, credentials_dir=systemd.credentials_directory(session.environ)
    )

    def reveal(ref: Any) -> str:
        value = resolve(ref)
        redactor.add(value)
        return value

    async def send() -> list[dict[str, Any]]:
        carriers = Carriers(
            reveal=reveal,
            redact=redactor.value,
            threads=PoolThreads(len(channels)),
            clock=SystemClock(),
            host=host,
            environ=session.environ,
        )

        async def try_one(channel: Channel) -> dict[str, Any]:
            place = Place(host=host, zone=zone(timezone), now=session.now())
            message = test_message(channel, place, Ids().new(place.now), instance=None, redact=redactor.value)
            try:
                await carriers.carry(channel, message)
            except UndeliveredError as error:
                return {"channel": channel.name, "subject": None, "error": f"notify channel {channel.name}: {error}"}
            return {"channel": channel.name, "subject": message.subject, "error": None}

        try:
            return await asyncio.gather(*map(try_one, channels))
        finally:
            await carriers.aclose()

    return asyncio.run(send())


def _report(session: Session, tried: list[dict[str, Any]]) -> int:
    from tidemill.errors import EXIT_FAILED, EXIT_OK

    if session.json:
        session.show(tried)
    for each in tried:
        if each["error"] is not None:
            session.note(each["error"])
        elif not session.json:
            print(f'{each["channel"]} took it: "{text.clean(each["subject"])}"; see whether it arrives')
    return EXIT_FAILED if any(each["error"] is not None for each in tried) else EXIT_OK
