"""Tables and texts: they fit, nothing that is a name is cut, and nothing steers the terminal."""

from __future__ import annotations

import sys
from datetime import UTC, datetime

import pytest

from tidemill.cli import status, text, times
from tidemill.cli.text import Column

LONG = "a-deployment-with-a-name-as-long-as-names-may-be-which-is-sixty4"
COLUMNS = (Column("ID"), Column("NAME", below=True), Column("STATE"), Column("QUEUE", optional=True))


@pytest.fixture(autouse=True)
def in_a_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: False, raising=False)


def test_cells_stand_under_their_headings() -> None:
    found = text.table(COLUMNS, [("1", "brisk-otter", "Completed", "q"), ("22", "x", "Late", "energy")])
    assert found.splitlines() == [
        "ID  NAME         STATE      QUEUE",
        "1   brisk-otter  Completed  q",
        "22  x            Late       energy",
    ]


def test_in_a_pipe_a_line_is_as_long_as_it_is() -> None:
    found = text.table(COLUMNS, [("1", LONG * 2, "Completed", "q")])
    assert found.splitlines()[1] == f"1   {LONG * 2}  Completed  q"


def test_in_eighty_columns_what_may_go_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    found = text.table(COLUMNS, [("1", LONG, "Completed", "a-queue")]).splitlines()
    assert len(LONG) == 64
    assert found == ["ID  NAME" + " " * 62 + "STATE", f"1   {LONG}  Completed"]
    assert max(map(len, found)) <= 80


def test_in_eighty_columns_a_long_name_stands_whole_on_a_line_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    rows = [("01f3a2b4", LONG, "AwaitingConcurrencySlot", "q"), ("01f3a2b5", "short", "Late", "q")]
    found = text.table(COLUMNS, rows).splitlines()
    assert found == [
        "ID        STATE",
        "01f3a2b4  AwaitingConcurrencySlot",
        f"    name {LONG}",
        "01f3a2b5  Late",
        "    name short",
    ]
    assert max(map(len, found)) <= 80


def test_wide_characters_take_two_columns() -> None:
    found = text.table((Column("KEY"), Column("N")), [("潮車", "1"), ("ab", "2"), ("é", "3")]).splitlines()
    assert found == ["KEY   N", "潮車  1", "ab    2", "é     3"]


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("plain", "plain"),
        ("two\nlines", "two\\nlines"),
        ("\x1b[31mred\x1b[0m", "red"),  # colours of a job's own are dropped
        ("\x1b]0;title\x07", "\\x1b]0;title\\x07"),  # what could rename the window is shown
        ("back\x08space", "back\\x08space"),
        ("right\u202eleft", "right\\u202eleft"),
        ("a\u2028b", "a\\u2028b"),
        ("å ✓ 潮", "å ✓ 潮"),
    ],
)
def test_what_a_job_printed_does_not_steer_the_terminal(given: str, shown: str) -> None:
    assert text.clean(given) == shown


def test_a_state_is_coloured_on_a_terminal_only(monkeypatch: pytest.MonkeyPatch) -> None:
    row = [("1", "n", "Crashed", "q")]
    assert "\x1b" not in text.table(COLUMNS, row, states=["CRASHED"])
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert "\x1b[1;31mCrashed\x1b[0m" in text.table(COLUMNS, row, states=["CRASHED"])
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in text.table(COLUMNS, row, states=["CRASHED"])


def test_fields_without_a_value_are_left_out() -> None:
    assert text.fields([("Name", "x"), ("Message", None), ("Tags", []), ("Runs", 0)]) == "Name  x\nRuns  0"


def test_further_lines_of_a_field_stand_under_the_first() -> None:
    assert text.fields([("A", "one\ntwo"), ("Long", "x")]) == "A     one\n      two\nLong  x"


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (None, ""),
        (0, "0.00s"),
        (0.2449, "0.24s"),
        (12.4, "12s"),
        (59.7, "1m00s"),
        (185, "3m05s"),
        (3599.9, "1h00m"),
        (7800, "2h10m"),
        (86_399.9, "1d0h"),
        (273_600, "3d4h"),
    ],
)
def test_spans_are_rounded_for_reading(seconds: float | None, shown: str) -> None:
    assert times.span(seconds) == shown


NOW = datetime(2026, 11, 21, 9, tzinfo=UTC)


@pytest.mark.parametrize(
    ("instant", "shown"),
    [("2026-11-21T08:59:48Z", "12s ago"), ("2026-11-21T09:00:12Z", "in 12s"), (None, "")],
)
def test_instants_are_told_from_now(instant: str | None, shown: str) -> None:
    assert times.ago(instant, NOW) == shown


def test_an_instant_without_offset_is_refused() -> None:
    with pytest.raises(ValueError, match="has no offset"):
        times.parse("2026-03-29T01:00:00")
    with pytest.raises(ValueError, match='"23:00" is no date with time; write for example'):
        times.parse("23:00")


def test_a_queue_tells_what_holds_slots_without_running_yet() -> None:
    queue = {"name": "q", "paused": False, "concurrency_limit": None, "running": 0, "waiting": 2, "late": 0}
    assert status._queue(queue | {"starting": 14}) == "q: 0 running, 14 about to start, 2 waiting"
    assert status._queue(queue | {"starting": 0}) == "q: 0 running, 2 waiting"
