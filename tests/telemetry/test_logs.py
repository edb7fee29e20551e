"""The daemon's log: one line an event, in every form, without secrets (P14), never in the way (P13)."""

from __future__ import annotations

import io
import json
import logging
import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakes import FakeClock
from tidemill.core.events import ArtifactStored, FiresSkipped, RunChanged, RunDeleted
from tidemill.core.runs import Artifact, FlowRun, LogRow, SkippedFire
from tidemill.core.states import NAMES, State, StateType
from tidemill.telemetry import formats, logs
from tidemill.telemetry.entries import LONGEST_TEXT, Entry
from tidemill.telemetry.logs import EventLog
from tidemill.telemetry.redaction import MASK, Redactor
from tidemill.telemetry.sentences import LEVEL_OF_NAME, LEVEL_OF_TYPE, entries_of
from tidemill.telemetry.sink import StreamSink

NOW = datetime(2026, 11, 21, 7, 0, 0, 200_000, tzinfo=UTC)
HELSINKI = ZoneInfo("Europe/Helsinki")
SECRET = "hunter22-and-more"


def state(kind: StateType, name: str | None = None, message: str | None = None) -> State:
    return State(type=kind, name=name or NAMES[kind][0], timestamp=NOW, message=message)


RUN = FlowRun(
    seq=1,
    id="0193-aaaa",
    name="brisk-otter",
    flow="http_request",
    deployment="bored-daily",
    expected_start=NOW,
    state=state(StateType.RUNNING),
    attempt=1,
    run_time_s=0.2,
    created=NOW,
)


def entered(*states: State, before: State | None = None, **changes: object) -> RunChanged:
    run = msgspec.structs.replace(RUN, state=states[-1], **changes)
    return RunChanged(run, states, before or state(StateType.SCHEDULED))


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@contextmanager
def log_to(stream: io.StringIO, **settings: object) -> Iterator[EventLog]:
    """The log as the daemon sets it up, taken down afterwards."""
    settings = {"redactor": Redactor([SECRET]), "clock": FakeClock(NOW), "environ": {}, "zone": HELSINKI} | settings
    log = logs.setup(stream=stream, **settings)
    try:
        yield log
    finally:
        log.close()


def test_a_file_s_lines_are_aligned_with_date_and_offset() -> None:
    out = io.StringIO()
    with log_to(out) as log:
        pending, running = state(StateType.PENDING), state(StateType.RUNNING)
        log.write([entered(pending, running), entered(state(StateType.COMPLETED))])
        logging.getLogger("tidemill.scheduler").warning("the clock went back by %s", "2 h")
    assert out.getvalue().splitlines() == [
        "2026-11-21 09:00:00+02:00 INFO  bored-daily brisk-otter      Running",
        "2026-11-21 09:00:00+02:00 INFO  bored-daily brisk-otter      Completed in 0.2 s",
        "2026-11-21 09:00:00+02:00 WARN  scheduler                    the clock went back by 2 h",
    ]


def test_a_terminal_is_told_the_day_and_the_offset_once() -> None:
    out, clock = Terminal(), FakeClock(NOW)
    with log_to(out, clock=clock, environ={"NO_COLOR": "1"}):
        logger = logging.getLogger("tidemill.scheduler")
        logger.info("one")
        logger.info("two")
        clock.advance(86_400)
        logger.info("three")
    assert out.getvalue().splitlines() == [
        "Saturday 2026-11-21, UTC+02:00",
        "09:00:00 INFO  scheduler                    one",
        "09:00:00 INFO  scheduler                    two",
        "Sunday 2026-11-22, UTC+02:00",
        "09:00:00 INFO  scheduler                    three",
    ]


def test_the_day_s_line_stays_where_its_first_line_held_a_secret() -> None:
    out = Terminal()
    with log_to(out, environ={"TERM": "dumb"}):
        logging.getLogger("tidemill.x").info("said %s", SECRET)
    assert out.getvalue().splitlines() == [
        "Saturday 2026-11-21, UTC+02:00",
        f"09:00:00 INFO  x                            said {MASK}",
    ]


@pytest.mark.parametrize(
    ("stream", "environ", "coloured"),
    [
        (Terminal, {}, True),
        (Terminal, {"NO_COLOR": "1"}, False),
        (Terminal, {"NO_COLOR": ""}, True),  # https://no-color.org: present and not empty
        (Terminal, {"TERM": "dumb"}, False),
        (io.StringIO, {}, False),
    ],
)
def test_colours_are_for_terminals_that_want_them(stream, environ, coloured: bool) -> None:
    out = stream()
    with log_to(out, environ=environ) as log:
        log.write([entered(state(StateType.COMPLETED)), entered(state(StateType.FAILED))])
    assert ("\x1b[" in out.getvalue()) is coloured


def test_the_journal_gets_a_priority_on_every_line_and_no_time() -> None:
    out = io.StringIO()
    with log_to(out, under_journald=True, level="debug") as log:
        log.write([entered(state(StateType.PENDING), state(StateType.RUNNING)), entered(state(StateType.FAILED))])
        logging.getLogger("tidemill.x").warning("one\ntwo")
    assert out.getvalue().splitlines() == [
        "<7>DEBUG bored-daily brisk-otter      Pending",
        "<6>INFO  bored-daily brisk-otter      Running",
        "<3>ERROR bored-daily brisk-otter      Failed after 0.2 s",
        "<4>WARN  x                            one\\ntwo",
    ]


def test_the_journal_is_found_by_the_stream_s_inode(tmp_path: Path) -> None:
    with (tmp_path / "journal").open("w") as stream:
        of = os.fstat(stream.fileno())
        with log_to(stream, environ={"JOURNAL_STREAM": f"{of.st_dev}:{of.st_ino}"}):
            logging.getLogger("tidemill.x").info("here")
    assert (tmp_path / "journal").read_text() == "<6>INFO  x                            here\n"


def test_logfmt_is_one_line_of_pairs() -> None:
    out = io.StringIO()
    with log_to(out, format="logfmt") as log:
        log.write([entered(state(StateType.FAILED, message='HTTP 500: "no"\nreally'))])
        logging.getLogger("tidemill.x").info("a", extra={"fields": {"n": 1, "ok": True, "none": None, "time": NOW}})
    assert out.getvalue().splitlines() == [
        'time=2026-11-21T07:00:00.200000Z level=error subject="bored-daily brisk-otter" '
        'msg="Failed after 0.2 s: HTTP 500: \\"no\\"\\nreally" run=brisk-otter run_id=0193-aaaa state=Failed attempt=1 '
        "deployment=bored-daily seconds=0.2",
        "time=2026-11-21T07:00:00.200000Z level=info subject=x msg=a n=1 ok=true none=null "
        "time_=2026-11-21T07:00:00.200000Z",
    ]


def test_json_is_one_object_a_line() -> None:
    out = io.StringIO()
    with log_to(out, format="json") as log:
        log.write([entered(state(StateType.COMPLETED))])
        try:
            raise ValueError("no such city")
        except ValueError:
            logging.getLogger("tidemill.x").exception("a\nb", extra={"fields": {"level": 3, "at": NOW}})
    first, second = map(json.loads, out.getvalue().splitlines())
    assert first == {
        "time": "2026-11-21T07:00:00.200000Z",
        "level": "info",
        "subject": "bored-daily brisk-otter",
        "message": "Completed in 0.2 s",
        "run": "brisk-otter",
        "run_id": "0193-aaaa",
        "state": "Completed",
        "attempt": 1,
        "deployment": "bored-daily",
        "seconds": 0.2,
    }
    assert second["message"] == "a\nb"
    assert second["level_"] == 3
    assert second["error"].startswith("ValueError: no such city (test_logs.py:")
    assert second["traceback"].splitlines()[0] == "Traceback (most recent call last):"


def test_an_exception_is_one_line_with_its_places_and_its_cause() -> None:
    out = io.StringIO()

    def read() -> None:
        raise KeyError("city")

    with log_to(out):
        try:
            try:
                read()
            except KeyError as error:
                raise ValueError("no such\ncity") from error
        except ValueError:
            logging.getLogger("tidemill.x").exception("it failed")
    (line,) = out.getvalue().splitlines()
    assert "it failed: ValueError: no such\\ncity (test_logs.py:" in line
    assert ", caused by KeyError: 'city' (test_logs.py:" in line
    assert " read < test_logs.py:" in line


def test_people_are_shown_only_fields_that_the_sentence_does_not_say() -> None:
    out = io.StringIO()
    with log_to(out):
        fields = {"missed": 3, "schedule": "mornings", "place": "a b", "last_alive": None}
        logging.getLogger("tidemill.x").info("3 fires were missed", extra={"fields": fields})
    assert out.getvalue().endswith(' 3 fires were missed schedule=mornings place="a b"\n')


def test_the_sentence_of_a_named_event_says_all_that_people_want_to_know() -> None:
    out = io.StringIO()
    with log_to(out):
        fields = {"event": "config-reloaded", "taken_back": 27, "planned": 20}
        logging.getLogger("tidemill.x").info("reloaded", extra={"fields": fields})
    assert out.getvalue().endswith(" reloaded\n")


NASTY = st.text(st.characters(), max_size=30)


@given(message=NASTY, subject=NASTY, value=NASTY, key=NASTY)
def test_one_event_is_one_line_whatever_it_says(message: str, subject: str, value: str, key: str) -> None:
    """A run's output cannot forge a line of the log, nor steer a terminal."""
    entry = Entry(NOW, logging.INFO, subject, message, {key: value}, error=value, traceback=value)
    forms = [formats.HumanFormat(times="full", zone=UTC), formats.LogfmtFormat(), formats.JsonFormat()]
    for form in forms:
        line = form(entry)
        assert not set(line) & set("\n\r\v\f\x1b\x9b")
    assert isinstance(json.loads(forms[2](entry)), dict)


def test_fields_without_a_json_form_are_told_by_their_repr() -> None:
    form = formats.JsonFormat()
    circle: list[object] = []
    circle.append(circle)
    for value in (circle, "\ud800", float("nan"), {1, 2}, {(1, 2): 3}):
        assert "x" in json.loads(form(Entry(NOW, logging.INFO, "s", "m", {"x": value})))


# P14: no secret in a log line, wherever in the entry it is and whatever the form.
FORMS = ["human", "logfmt", "json"]


@pytest.mark.parametrize("form", FORMS)
def test_a_secret_is_in_no_part_of_a_line(form: str) -> None:
    secret, out = 'hunt"er\\22\nline-two', io.StringIO()
    with log_to(out, format=form, redactor=Redactor([secret])) as log:
        logger = logging.getLogger(f"tidemill.{secret}")
        try:
            raise ValueError(f"no {secret}")
        except ValueError:
            logger.exception("said %s", secret, extra={"fields": {"a": {"b": [secret]}, secret: 1, "c": "line-two"}})
        row = LogRow(run=1, run_id="x", at=NOW, level=logging.INFO, logger="print", message=f"out {secret}")
        log.output([(RUN, row)])
        log.write([entered(state(StateType.FAILED, message=f"got {secret}"))])
    text = out.getvalue()
    assert text.count("\n") == 3
    assert MASK in text
    for part in ('hunt"', "hunt\\", "er\\", "line-two"):
        assert part not in text


def test_a_short_secret_is_masked_where_it_is_a_whole_field() -> None:
    out = io.StringIO()
    with log_to(out, redactor=Redactor(["abc"])):
        logging.getLogger("tidemill.x").info("abcd", extra={"fields": {"pin": "abc"}})
    assert out.getvalue().endswith(f" abcd pin={MASK}\n")


def test_a_secret_at_the_cut_of_a_long_line_is_masked_before_the_cut() -> None:
    out = io.StringIO()
    with log_to(out):
        logging.getLogger("tidemill.x").info("x" * (LONGEST_TEXT - 5) + SECRET + "y" * 100)
    assert "hunt" not in out.getvalue()
    assert out.getvalue().rstrip().endswith(" characters cut]")
    assert len(out.getvalue()) < LONGEST_TEXT + 200


def test_a_record_whose_arguments_do_not_fit_is_told_without_its_secrets(capsys: pytest.CaptureFixture[str]) -> None:
    out = io.StringIO()
    record = logging.makeLogRecord({"name": "tidemill.x", "msg": "%d", "args": (SECRET,)})
    with log_to(out) as log:
        log.handler.emit(record)  # not through a logger: pytest's own handler would raise
    assert "a record of tidemill.x could not be written: TypeError" in out.getvalue()
    assert SECRET not in out.getvalue() + "".join(capsys.readouterr())


def test_a_flood_of_records_is_cut_and_counted() -> None:
    out, clock = io.StringIO(), FakeClock(NOW)
    with log_to(out, clock=clock, max_lines_per_second=10):
        logger = logging.getLogger("tidemill.x")
        for number in range(logs.BURST + 7):
            logger.info("line %d", number)
        clock.advance(1)
        logger.info("after")
        for number in range(10):
            logger.info("again %d", number)
    lines = [line[61:] for line in out.getvalue().splitlines()]
    assert lines[logs.BURST - 1 : logs.BURST + 2] == [f"line {logs.BURST - 1}", "7 lines dropped", "after"]
    assert lines[-2:] == ["again 8", "1 line dropped"]


def test_libraries_are_heard_from_warnings_on() -> None:
    out = io.StringIO()
    with log_to(out):
        logging.getLogger("httpx").info("HTTP Request: GET https://example.org/?token=x")
        logging.getLogger("uvicorn.error").info("noise")
        logging.getLogger("uvicorn.error").error("trouble")
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.warn("an old way", DeprecationWarning, stacklevel=1)
    lines = out.getvalue().splitlines()
    assert len(lines) == 2
    assert lines[0].endswith(" ERROR uvicorn.error                trouble")
    assert "an old way" in lines[1]


def test_levels_below_the_configured_one_are_not_written() -> None:
    out = io.StringIO()
    with log_to(out, level="error") as log:
        row = LogRow(run=1, run_id="x", at=NOW, level=logging.INFO, logger="print", message="quiet")
        log.output([(RUN, row)])
        log.write([entered(state(StateType.RUNNING)), entered(state(StateType.CRASHED)), ArtifactStored(ARTIFACT)])
        logging.getLogger("tidemill.x").warning("quiet too")
        log.write([])
    assert [line[26:] for line in out.getvalue().splitlines()] == [
        "ERROR bored-daily brisk-otter      Crashed after 0.2 s"
    ]


def test_stdlib_logging_is_left_as_it_was() -> None:
    before = list(logging.getLogger().handlers)
    with log_to(io.StringIO(), level="debug"):
        assert logging.getLogger().level == logging.INFO
    assert logging.getLogger().handlers == before
    assert logging.getLogger().level == logging.WARNING
    assert logging.getLogger("tidemill").level == logging.NOTSET


@pytest.mark.parametrize(("setting", "value"), [("format", "xml"), ("level", "loud")])
def test_a_setting_that_does_not_exist_is_refused(setting: str, value: str) -> None:
    with pytest.raises(ValueError, match="one of"):
        logs.setup(redactor=Redactor(), clock=FakeClock(), stream=io.StringIO(), **{setting: value})


def test_a_closed_stream_loses_lines_and_says_how_many() -> None:
    out = io.StringIO()
    with log_to(out) as log:
        out.close()
        log.write([entered(state(StateType.COMPLETED))])
        assert log.dropped == 1


ARTIFACT = Artifact(id="a", key="activity", version=3, type="json", text="{}", deployment="bored-daily", created=NOW)
PLANNED = state(StateType.SCHEDULED)
SENTENCES = [
    # made by a schedule: the horizon of upcoming runs is nobody's news
    (RunChanged(RUN, (PLANNED,), None), "DEBUG", "Scheduled"),
    (entered(PLANNED, created_by="person"), "INFO", "Scheduled by person"),
    (entered(state(StateType.SCHEDULED, message="the daemon ended")), "INFO", "Scheduled: the daemon ended"),
    (entered(state(StateType.SCHEDULED, "Late", "no slot")), "WARN", "Late: no slot"),
    (
        entered(state(StateType.SCHEDULED, "AwaitingRetry", "HTTP 500; retry 1 of 3 in 10.0 s")),
        "WARN",
        "Awaiting retry: HTTP 500; retry 1 of 3 in 10.0 s",
    ),
    (entered(state(StateType.SCHEDULED, "AwaitingConcurrencySlot")), "DEBUG", "Awaiting a concurrency slot"),
    (entered(state(StateType.RUNNING)), "INFO", "Running"),
    (entered(state(StateType.RUNNING, message="3.0 s late")), "INFO", "Running: 3.0 s late"),
    (entered(state(StateType.RUNNING, "Retrying"), attempt=2), "INFO", "Retrying, attempt 2"),
    (entered(state(StateType.PAUSED)), "INFO", "Paused"),
    (entered(state(StateType.CANCELLING, message="by hand")), "INFO", "Cancelling: by hand"),
    (entered(state(StateType.CANCELLED, message="by hand")), "INFO", "Cancelled: by hand"),
    (entered(state(StateType.CANCELLED, "Skipped", "catch_up")), "WARN", "Skipped: catch_up"),
    (entered(state(StateType.COMPLETED), run_time_s=0.004), "INFO", "Completed in 4 ms"),
    (entered(state(StateType.FAILED, "TimedOut"), run_time_s=192), "ERROR", "Timed out after 3 min 12 s"),
    (entered(state(StateType.FAILED), attempt=0), "ERROR", "Failed"),  # never started: no time to tell
    (entered(state(StateType.CRASHED, message="killed")), "ERROR", "Crashed after 0.2 s: killed"),
    (entered(state(StateType.CRASHED), run_time_s=0.0), "ERROR", "Crashed"),  # with its daemon: nobody knows when
    (ArtifactStored(ARTIFACT), "INFO", "Artifact activity version 3 (json, 2 characters)"),
]


@pytest.mark.parametrize(("event", "level", "sentence"), SENTENCES, ids=[sentence for *_, sentence in SENTENCES])
def test_what_happened_is_told_in_a_sentence(event, level: str, sentence: str) -> None:
    (entry,) = entries_of(event, logging.DEBUG)
    assert (formats._SHORT[formats.level_name(entry.level)], entry.message) == (level, sentence)


def test_an_artifact_is_told_with_the_run_that_made_it() -> None:
    (entry,) = entries_of(ArtifactStored(ARTIFACT, "brisk-otter"), logging.INFO)
    assert (entry.subject, entry.fields["run"]) == (f"{ARTIFACT.deployment} brisk-otter", "brisk-otter")


def test_skipped_fires_are_told_with_their_reason() -> None:
    first, last = NOW - timedelta(hours=2), NOW
    skipped = SkippedFire(
        deployment="d", schedule="s", first=first, last=last, count=3, reason="catch_up = skip", at=NOW
    )
    (entry,) = entries_of(FiresSkipped(skipped), logging.INFO)
    assert entry.message == "Skipped 3 fires, 2026-11-21 05:00:00Z to 2026-11-21 07:00:00Z: catch_up = skip"
    single = msgspec.structs.replace(skipped, count=1, last=first, exact=False)
    (entry,) = entries_of(FiresSkipped(single), logging.INFO)
    assert entry.message == "Skipped more than 1 fire, 2026-11-21 05:00:00Z: catch_up = skip"
    assert entries_of(FiresSkipped(skipped), logging.WARNING) == []
    assert entries_of(RunDeleted("id", 1, None), logging.DEBUG) == []


def test_every_state_has_a_level() -> None:
    assert set(LEVEL_OF_TYPE) == set(StateType)
    assert set(LEVEL_OF_NAME) <= {name for names in NAMES.values() for name in names}


def test_a_group_is_one_write_and_its_own_lines_stay_together() -> None:
    """Loop and threads write at once; a group's lines are never torn apart."""
    writes: list[str] = []

    class Out(io.StringIO):
        def write(self, text: str) -> int:
            writes.append(text)
            return len(text)

    redactor, clock = Redactor(), FakeClock(NOW)
    log = EventLog(StreamSink(Out()), formats.HumanFormat(times="none"), redactor=redactor, clock=clock)
    go = threading.Barrier(3)

    def work() -> None:
        go.wait()
        for _ in range(50):
            log.write([entered(state(StateType.RUNNING)), entered(state(StateType.COMPLETED))])

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(writes) == 150
    assert set(writes) == {
        "INFO  bored-daily brisk-otter      Running\nINFO  bored-daily brisk-otter      Completed in 0.2 s\n"
    }
