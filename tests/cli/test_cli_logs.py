"""``tidemill logs`` and ``flow-run watch``: at a terminal, in a pipe, for programs, with a daemon and without one."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from edges import DEPLOYMENTS, Live, live
from tidemill.cli import logs
from tidemill.cli.main import main
from tidemill.core.daemon_log import DaemonLine
from tidemill.core.states import StateType
from tidemill.errors import DaemonUnreachableError
from tidemill.store import daemon_log

FIRST = DEPLOYMENTS[0].name


class Shell:
    """A person in front of one daemon."""

    def __init__(self, daemon: Live, capsys: pytest.CaptureFixture[str]) -> None:
        self.daemon, self.capsys, self.do, self.mill = daemon, capsys, daemon.do, daemon.mill

    def run(self, *argv: str) -> tuple[int, str, str]:
        self.capsys.readouterr()
        where = [*argv, "--state-dir", str(self.daemon.folder)]
        code = main(where, environ={"HOME": "/nonexistent"}, now=self.daemon.clock.now)
        return (code, *self.capsys.readouterr())

    def text(self, *argv: str, code: int = 0) -> str:
        found, out, err = self.run(*argv)
        assert found == code, err
        return out

    def objects(self, *argv: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.text(*argv, "--output", "json").splitlines()]


@pytest.fixture
def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Shell]:
    for name in ("COLUMNS", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    with live(tmp_path) as daemon:
        yield Shell(daemon, capsys)


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Called: what is printed from then on is printed on a terminal."""
    return lambda: monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)


def story(shell: Shell) -> Any:
    """A run with some output, a line of the daemon, and another deployment's run; return the first one."""
    mill, clock = shell.mill, shell.daemon.clock
    run = shell.do(mill.begin(shell.do(mill.add(name="brisk-otter"))))
    clock.advance(1)
    shell.do(mill.print(run, "hello", "two\nlines"))
    shell.do(mill.print(run, "careful \x1b[31m\x07", level=30))
    clock.advance(1)
    line = DaemonLine(
        at=clock.now(), level=20, event="config-reloaded", message="reloaded", fields={"added": ["x"]},
        logger="tidemill.reload",
    )  # fmt: skip
    shell.do(mill.store.write(daemon_log.NOTE, line))
    clock.advance(1)
    shell.do(mill.finish(run, StateType.FAILED, "exit code 3"))
    clock.advance(60)
    shell.do(mill.begin(shell.do(mill.add(DEPLOYMENTS[1], name="other"))))
    return run


def sentences(out: str) -> list[str]:
    return [line[61:] for line in out.splitlines()]


WHOLE = [
    "Scheduled by person",
    "Running",
    "> hello",
    r"> two\nlines",
    r"> careful \x1b[31m\x07",
    "reloaded",
    "Failed after 3.0 s: exit code 3",
    "Scheduled by person",
    "Running",
]


def test_everything_stands_in_one_log_in_the_order_of_time(shell: Shell) -> None:
    story(shell)
    out = shell.text("logs")
    assert sentences(out) == WHOLE
    assert out.splitlines()[6].startswith("2026-11-21 09:00:03+00:00 ERROR bored-daily brisk-otter ")
    assert "\x1b" not in out


@pytest.mark.parametrize(
    ("options", "kept"),
    [
        (("-n", "2"), slice(7, 9)),
        (("-n", "0"), slice(0, 0)),
        (("-n", "all"), slice(0, 9)),
        (("--level", "warning"), [4, 6]),
        (("--level", "error", "--deployment", FIRST), [6]),
        (("--deployment", DEPLOYMENTS[1].name), slice(7, 9)),
        (("--deployment", FIRST.replace("-", "_"), "--deployment", DEPLOYMENTS[1].name), [0, 1, 2, 3, 4, 6, 7, 8]),
        (("--run", "brisk-otter"), [0, 1, 2, 3, 4, 6]),
        (("--since", "61s"), slice(5, 9)),
        (("--since", "62s", "--until", "60s", "-n", "1"), [5]),
    ],
)
def test_options_narrow_it(shell: Shell, options: tuple[str, ...], kept: Any) -> None:
    """The same while the daemon answers and when it is down."""
    story(shell)
    wanted = WHOLE[kept] if isinstance(kept, slice) else [WHOLE[each] for each in kept]
    assert sentences(shell.text("logs", *options)) == wanted
    shell.daemon.stop()
    code, out, err = shell.run("logs", *options)
    assert (code, sentences(out)) == (0, wanted)
    assert "the daemon is down; reading " in err


def test_programs_get_an_object_a_line(shell: Shell) -> None:
    story(shell)
    found = shell.objects("logs")
    assert [each["kind"] for each in found] == [
        "state", "state", "output", "output", "output", "daemon", "state", "state", "state"
    ]  # fmt: skip
    failed = found[6]
    assert failed["time"] == "2026-11-21T09:00:03Z"
    assert (failed["level"], failed["deployment"], failed["state"], failed["seconds"]) == ("error", FIRST, "Failed", 3)
    assert found[3]["message"] == "> two\nlines"
    assert (found[5]["event"], found[5]["added"]) == ("config-reloaded", ["x"])


def test_at_a_terminal_there_are_colours_short_times_and_lines_as_they_were_printed(
    shell: Shell, terminal: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    story(shell)
    terminal()
    out = shell.text("logs")
    lines = out.splitlines()
    assert lines[0] == "\x1b[2mSaturday 2026-11-21, UTC+00:00\x1b[0m"
    assert "\x1b[31mFailed after 3.0 s: exit code 3\x1b[0m" in out
    (first,) = [number for number, line in enumerate(lines) if line.endswith("> two")]
    assert lines[first + 1] == " " * 44 + "lines"
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in shell.text("logs")


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (("--deployment", "bored-dayly"), 4, "did you mean bored-daily"),
        (("--run", "nobody"), 4, "no flow run has the id or name"),
        (("--since", "soon"), 2, '--since: "soon" is no moment'),
        (("--since", "1h", "--until", "2h"), 2, "is not before --until"),
        (
            ("--since", "2026-03-29T10:00:00Z", "--until", "2026-03-29T09:00:00Z"),
            2,
            "(2026-03-29 ",
        ),  # as people read it
        (("-f", "--until", "now"), 2, "do not go together"),
        (("-n", "many"), 2, "is not a number"),
        (("-n", "100001"), 2, '"all" for all'),
        (("--level", "loud"), 2, "invalid choice"),
        (("--level", "critical"), 0, "nothing in the log fits"),
    ],
)
def test_what_cannot_be_is_told(shell: Shell, options: tuple[str, ...], code: int, words: str) -> None:
    found, out, err = shell.run("logs", *options)
    assert (found, out) == (code, "")
    assert words in err


def test_no_lines_are_what_was_asked_for(shell: Shell) -> None:
    story(shell)
    assert shell.run("logs", "-n", "0") == (0, "", "")


def test_a_tab_moves_on_at_a_terminal_and_is_shown_in_a_pipe(shell: Shell, terminal: Callable[[], None]) -> None:
    run = shell.do(shell.mill.begin(shell.do(shell.mill.add(name="brisk-otter"))))
    shell.do(shell.mill.print(run, "a\tb"))
    assert r"> a\tb" in shell.text("logs")
    terminal()
    assert "> a     b" in shell.text("logs")


def test_an_empty_log_says_so(shell: Shell) -> None:
    assert "nothing has been logged yet" in shell.run("logs")[2]


def test_following_a_run_ends_with_it(shell: Shell) -> None:
    run = story(shell)
    other = shell.do(shell.mill.begin(shell.do(shell.mill.retry_run(run.id))))

    async def later() -> None:
        await shell.mill.events.until(1)
        shell.daemon.clock.advance(1)
        await shell.mill.print(other, "after")
        await shell.mill.finish(other)

    ending = shell.daemon.begin(later())
    out = shell.text("logs", "-f", "--run", "brisk-otter")
    ending.result(10)
    assert sentences(out)[-3:] == ["Retrying, attempt 2", "> after", "Completed in 4.0 s"]
    assert len(sentences(out)) == 10


class Link:
    """A daemon, or the database of one that is down, that says what it is told to say."""

    def __init__(self, *said: tuple[str, Any], live: bool = True, ends: Exception | None = None) -> None:
        self.live, self.said, self.ends = live, said, ends
        self.asked: dict[str, Any] = {}

    def stream(self, path: str, query: dict[str, Any]) -> Iterator[tuple[str, Any]]:
        self.asked = dict(query)
        yield from self.said
        if self.ends is not None:
            raise self.ends

    def close(self) -> None:
        pass


def line(second: int, message: str, number: int | None = None) -> tuple[str, Any]:
    state = {} if number is None else {"id": f"run:{number}", "kind": "state"}
    stamp = f"2026-11-21T09:00:{second:02}Z"
    return "line", {
        "kind": "output", "timestamp": stamp, "level": 20, "subject": "s", "message": message, "fields": {}
    } | state  # fmt: skip


def test_what_is_followed_goes_on_over_a_restart_with_nothing_twice(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the daemon says while it stops is read from its database, twice: it may still be writing."""
    monkeypatch.setattr(logs, "LOOK_AGAIN_S", 0)
    cursor = ("cursor", {"at": 7, "numbers": {}})
    broken = DaemonUnreachableError("broke off")
    links = [
        Link(line(1, "one", 1), cursor, line(2, "two", 2), ends=broken),
        Link(line(2, "two", 2), line(3, "stopping"), cursor, live=False),
        Link(line(3, "stopped"), cursor, live=False),
        Link(line(9, "never read"), live=False),
        None,
        Link(line(4, "ready"), line(2, "two", 2), cursor, ends=KeyboardInterrupt()),  # type: ignore[arg-type]
    ]
    notes: list[str] = []
    coming = iter(links)

    def another() -> Any:
        found = next(coming)
        if found is None:
            raise broken
        return found

    session: Any = SimpleNamespace(
        link=another(), another_link=another, note=notes.append, json=False, now=lambda: SimpleNamespace(isoformat=str)
    )
    follower = logs.Follower(session, {"since": None, "tail": 5}, logs.Printer(session))
    with pytest.raises(KeyboardInterrupt):
        follower.run()
    assert sentences(capsys.readouterr().out) == ["one", "two", "stopping", "stopped", "ready"]
    assert notes == ["the daemon is down; waiting for it"]
    first, last = links[0], links[-1]
    assert first is not None
    assert last is not None
    assert first.asked == {"since": None, "tail": 5}
    assert last.asked["tail"] is None
    assert last.asked["since"] == "2026-11-21T09:00:01Z", "nothing older than what was told first"
    assert json.loads(last.asked["cursor"])["at"] == 7


def test_who_asks_in_vain_at_first_is_told_why(monkeypatch: pytest.MonkeyPatch) -> None:
    session: Any = SimpleNamespace(
        link=Link(ends=DaemonUnreachableError("stuck")), json=False, now=lambda: SimpleNamespace(isoformat=str)
    )
    with pytest.raises(DaemonUnreachableError, match="stuck"):
        logs.Follower(session, {"since": None}, logs.Printer(session)).run()


# -- watching a run --------------------------------------------------------------------------------------------------


def watched(shell: Shell, *, fails: bool = False) -> Any:
    """A run that goes on as soon as somebody watches."""
    mill = shell.mill
    run = shell.do(mill.begin(shell.do(mill.add(name="brisk-otter"))))
    shell.do(mill.keep("load", "5.0", run=run, type_="progress"))

    async def later() -> None:
        await mill.events.until(1)
        await mill.task(run, "first")
        await mill.task(run, "second", StateType.FAILED)
        await mill.print(run, "hello")
        await mill.finish(run, StateType.FAILED if fails else StateType.COMPLETED)

    return shell.daemon.begin(later())


@pytest.mark.parametrize("fails", [False, True])
def test_a_watched_run_tells_its_states_lines_and_progress(shell: Shell, fails: bool) -> None:
    ending = watched(shell, fails=fails)
    out = shell.text("flow-run", "watch", "brisk-otter", code=1 if fails else 0)
    ending.result(10)
    assert [row.partition(" ")[2] if row[2] == ":" else row for row in out.splitlines()] == [
        "Running", "load 5 %", "INFO     hello", "Failed" if fails else "Completed", "tasks: 1 Completed, 1 Failed",
    ]  # fmt: skip


def test_at_a_terminal_progress_stays_below_the_lines(shell: Shell, terminal: Callable[[], None]) -> None:
    ending = watched(shell)
    terminal()
    out = shell.text("flow-run", "watch", "brisk-otter")
    ending.result(10)
    assert "Running since 09:00:00 · load [#...................] 5 %" in out
    assert re.search(r"\r\x1b\[K\S+ INFO     hello\n", out), "it makes room for a line"
    assert out.endswith("tasks: 1 Completed, 1 Failed\n")


def test_on_a_narrow_terminal_the_per_cent_stay(
    shell: Shell, terminal: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    ending = watched(shell)
    terminal()
    monkeypatch.setenv("COLUMNS", "34")
    out = shell.text("flow-run", "watch", "brisk-otter")
    ending.result(10)
    assert "Running since 09:00:00 · load 5 %\r" in out


def test_a_program_that_watches_gets_the_run_when_it_has_ended(shell: Shell) -> None:
    ending = watched(shell)
    found = json.loads(shell.text("flow-run", "watch", "brisk-otter", "--output", "json"))
    ending.result(10)
    assert (found["name"], found["state_name"]) == ("brisk-otter", "Completed")


def test_without_a_daemon_a_run_that_has_ended_is_shown_and_another_one_is_not_waited_for(shell: Shell) -> None:
    story(shell)
    shell.daemon.stop()
    out = shell.text("flow-run", "watch", "brisk-otter", code=1)
    assert "hello" in out
    assert out.endswith("brisk-otter is Failed\n")
    code, _, err = shell.run("flow-run", "watch", "other")
    assert code == 3
    assert "other stays Running until it is back" in err
