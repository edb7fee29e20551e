"""What a person reads: one failure, a storm, a recovery, fires that were missed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from msgspec.structs import replace

from tidemill.core.catchup import catch_up, is_lost
from tidemill.core.deployments import CatchUp
from tidemill.core.messages import (
    LISTED,
    SUBJECT_LENGTH,
    Place,
    Told,
    compose,
    document,
    latest,
    missed_notice,
    ordinal,
    span,
)
from tidemill.core.notices import Notice, NoticeKind
from tidemill.core.runs import FlowRun, SkippedFire
from tidemill.core.states import State, StateType
from tidemill.core.zones import zone

NOW = datetime(2026, 11, 21, 0, 31, tzinfo=UTC)
PLACE = Place(host="web1", zone=zone("Europe/Helsinki"), now=NOW)
RUN = FlowRun(
    seq=1,
    id="0196f1c2-0000-7000-8000-00008a49247b",
    name="quiet-otter",
    flow="shell",
    deployment="nightly-backup",
    expected_start=NOW,
    state=State(type=StateType.FAILED, name="Failed", timestamp=NOW, message="exit code 2"),
    attempt=3,
    created=NOW,
    run_time_s=12.3,
)
FAILED = Notice(
    kind=NoticeKind.FAILED,
    subject="nightly-backup failed (3rd in a row): exit code 2",
    deployment="nightly-backup",
    run=RUN.id,
    at=NOW - timedelta(seconds=19),
    reason="exit code 2",
    state="Failed",
    failures=3,
    since=NOW - timedelta(days=2),
    lines=("While it goes on failing you hear of it again in 20h at the earliest, and once when it is well.",),
)
TOLD = Told(
    notice=FAILED,
    run=RUN,
    lines=("pg_dump: connection refused",),
    last_success=NOW - timedelta(days=3),
    next_due=NOW + timedelta(days=1),
)


def test_a_message_has_everything_that_one_needs_at_three_in_the_morning() -> None:
    found = compose([TOLD], PLACE)
    assert found.subject == "nightly-backup failed (3rd in a row): exit code 2"
    assert (
        found.text
        == """\
nightly-backup failed on web1, Sat 2026-11-21 02:30:41 +02:00: exit code 2

Run           quiet-otter (0196f1c2-0000-7000-8000-00008a49247b), attempt 3, ran 12 s
Repeated      3rd failure, since Thu 2026-11-19 02:31:00 +02:00
Last success  Wed 2026-11-18 02:31:00 +02:00 (3 d 0 h ago)
Next due      Sun 2026-11-22 02:31:00 +02:00 (in 24 h)

Its output, 1 line:
  | pg_dump: connection refused

Look  tidemill flow-run logs 8a49247b
      tidemill flow-run retry 8a49247b

While it goes on failing you hear of it again in 20h at the earliest, and once when it is well.
"""
    )


# What is known -> the words for it.
FACTS = {
    "no success on record": (replace(TOLD, last_success=None), "Last success  none on record"),
    "paused": (replace(TOLD, next_due=None, paused=True), "Next due      never: it is paused"),
    "nothing planned": (replace(TOLD, next_due=None), "Next due      nothing is planned; run it by hand"),
    "no output": (replace(TOLD, lines=()), "\nIt wrote nothing.\n"),
    "more output": (replace(TOLD, lines=("a", "b"), cut=3), "Its last 2 lines:\n  | a\n  | b\n"),
    "a run that never began": (replace(TOLD, run=replace(RUN, attempt=0)), "8a49247b), never began\n"),
    "a run that retention took": (replace(TOLD, run=None), "tidemill flow-run logs 8a49247b"),
}


@pytest.mark.parametrize(("told", "words"), FACTS.values(), ids=FACTS.keys())
def test_what_is_not_known_is_said(told: Told, words: str) -> None:
    assert words in compose([told], PLACE).text


def failed(name: str, reason: str, *, second: int = 0, kind: NoticeKind = NoticeKind.FAILED) -> Told:
    notice = Notice(
        kind=kind,
        subject=f"{name} failed: {reason}",
        deployment=name,
        at=NOW + timedelta(seconds=second),
        reason=reason,
    )
    return Told(notice=notice, next_due=NOW + timedelta(hours=1))


def test_a_storm_is_one_message_that_lists_them_and_says_what_they_have_in_common() -> None:
    storm = [failed(f"job-{n}", f"GET https://api{n}.example.org: no address", second=n % 7) for n in range(12)]
    found = compose(storm, PLACE)
    assert found.subject == "12 deployments failed: job-0, job-1, job-2 and 9 more"
    assert "12 deployments failed. All of them say: no address" in found.text
    assert "  02:31:00  job-0   GET https://api0.example.org: no address; next due 03:31" in found.text
    assert all(f"job-{n} " in found.text for n in range(12))
    assert "tidemill flow-run ls --state Failed" in found.text


def test_a_storm_of_thousands_is_cut_and_says_so() -> None:
    found = compose([failed(f"job-{n}", "no luck") for n in range(1000)], PLACE)
    assert f"… and {1000 - LISTED} more" in found.text
    assert len(found.text) < 10_000


def test_a_few_failures_are_told_in_full() -> None:
    found = compose([TOLD, failed("other", "no luck")], PLACE)
    assert found.subject == "2 deployments failed: nightly-backup, other"
    assert "  | pg_dump: connection refused" in found.text
    assert "--- other failed: no luck" in found.text


def well(name: str) -> Told:
    return Told(notice=Notice(kind=NoticeKind.RECOVERED, subject=f"{name} is well again", deployment=name, at=NOW))


def daemons(subject: str, kind: NoticeKind = NoticeKind.TROUBLE) -> Told:
    """Something of the daemon itself."""
    return Told(notice=Notice(kind=kind, subject=subject, at=NOW))


# Notices in the order of their time -> which of them are told.
WORTH = {
    "it failed again": ([failed("job", "first"), failed("job", "second")], [1]),
    "it is well": ([failed("job", "x"), well("job")], [0, 1]),
    "it is well no more": ([failed("job", "x"), well("job"), failed("job", "x")], [2]),
    "another's": ([failed("job", "x"), well("other"), failed("third", "x")], [0, 1, 2]),
    "the daemon's own": ([daemons("disk", NoticeKind.RECOVERED), daemons("clock", NoticeKind.RECOVERED)], [0, 1]),
}


@pytest.mark.parametrize(("told", "worth"), WORTH.values(), ids=WORTH.keys())
def test_of_one_deployment_the_last_word_counts(told: list[Told], worth: list[int]) -> None:
    assert latest([each.notice for each in told]) == worth


def test_what_automations_tell_together_is_told_with_when_and_of_which_run() -> None:
    notice = Notice(kind=NoticeKind.AUTOMATION, subject="job is late", run=RUN.id, at=NOW)
    text = compose([Told(notice=notice), daemons("disk full")], PLACE).text
    assert "02:31:00  job is late\n  tidemill flow-run logs 8a49247b\n" in text


def test_output_that_nobody_looked_at_is_not_said_to_be_none() -> None:
    assert "It wrote nothing" not in compose([replace(TOLD, lines=None)], PLACE).text


def test_a_reason_without_end_does_not_bury_the_facts() -> None:
    told = replace(TOLD, notice=replace(FAILED, reason="x" * 2000))
    assert compose([told], PLACE).text.index("Run  ") < 700
    told = replace(TOLD, notice=replace(FAILED, reason="line\n" * 100))
    assert compose([told], PLACE).text.count("line\n") < 10


def test_colours_of_a_terminal_leave_no_trace() -> None:
    told = replace(TOLD, notice=replace(FAILED, reason="\x1b[1;31mred\x1b[0m \x1b]0;title\x07words"))
    assert "exit" not in compose([told], PLACE).text
    assert ": red words\n" in compose([told], PLACE).text


# What a message tells -> its subject.
SUBJECTS = {
    "all well": ([well("a"), well("b")], "2 deployments well again: a, b"),
    "it failed and is well": ([failed("a", "x"), well("a")], "1 deployment failed and is well again: a"),
    "all of a storm are well": (
        [failed("a", "x"), failed("b", "x"), well("a"), well("b")],
        "2 deployments failed and are well again: a, b",
    ),
    "some fail, some are well": ([failed("a", "x"), well("b"), well("c")], "1 deployment failed, 2 well again: a"),
    "the configuration, too": (
        [
            Told(notice=Notice(kind=NoticeKind.BROKEN_CONFIG, subject="configuration refused: x", at=NOW)),
            failed("a", "x"),
        ],
        "configuration refused: x; 1 deployment failed: a",
    ),
    "two troubles": (
        [
            daemons("nothing can be recorded"),
            daemons("configuration refused"),
        ],
        "nothing can be recorded and 1 more",
    ),
}


@pytest.mark.parametrize(("told", "subject"), SUBJECTS.values(), ids=SUBJECTS.keys())
def test_a_subject_says_how_much_of_what(told: list[Told], subject: str) -> None:
    found = compose(told, PLACE)
    assert found.subject == subject
    assert all(each.notice.subject in found.text for each in told)


def test_a_subject_is_one_line_whatever_a_reason_holds() -> None:
    """A header of a mail must not be ended by what a job printed."""
    told = failed("job", "one\r\nBcc: all@example.org\x1b[31m" + "x" * 500)
    found = compose([told], PLACE)
    assert "\n" not in found.subject
    assert "\r" not in found.subject
    assert "\x1b" not in found.subject
    assert len(found.subject) <= SUBJECT_LENGTH


def test_what_was_lost_is_said() -> None:
    assert "7 older notices are not here" in compose([TOLD], PLACE, lost=7).text


def skipped(count: int, reason: str) -> SkippedFire:
    first = NOW - timedelta(hours=3)
    return SkippedFire(deployment="job", schedule="s", first=first, last=NOW, count=count, reason=reason, at=NOW)


def test_missed_fires_are_told_with_when_and_why() -> None:
    reason = 'missed while the daemon was down; catch_up = "skip"'
    assert (
        missed_notice(skipped(1, reason), PLACE).subject == "job missed its fire of Fri 23:31 while the daemon was down"
    )
    several = missed_notice(skipped(3, reason), PLACE)
    assert several.subject == "job missed 3 fires, the first of Fri 23:31 while the daemon was down"
    text = compose([Told(notice=several)], PLACE).text
    assert "from Fri 2026-11-20 23:31:00 +02:00 to Sat 2026-11-21 02:31:00 +02:00" in text
    assert "tidemill why job" in text


# Policy, window in hours, how many hours of a fire each hour were missed -> how many of them people miss.
LOST = [
    (CatchUp.SKIP, 24, 3, 3),  # nothing makes up for them
    (CatchUp.LATEST, 24, 3, 0),  # the last one runs for all of them
    (CatchUp.LATEST, 1, 3, 1),  # one was too old even for that
    (CatchUp.ALL, 24, 3, 0),
    (CatchUp.ALL, 1, 3, 1),
]


@pytest.mark.parametrize(("policy", "window", "missed", "lost"), LOST)
def test_a_fire_that_another_makes_up_for_is_not_missed(policy: CatchUp, window: int, missed: int, lost: int) -> None:
    dues = [NOW - timedelta(hours=hour) for hour in range(missed)]
    _, dropped = catch_up(dues, policy, timedelta(hours=window), NOW)
    assert sum(is_lost(reason, policy) for _, reason in dropped) == lost


@pytest.mark.parametrize(
    "reason",
    ["the concurrency limit was reached", "missed x; deployment a is paused or no longer in the configuration"],
)
def test_what_nobody_wanted_is_not_missed(reason: str) -> None:
    assert not is_lost(reason, CatchUp.SKIP)


def test_a_document_for_programs_has_the_facts() -> None:
    found = document(TOLD)
    assert (found["kind"], found["deployment"], found["failures"]) == ("failed", "nightly-backup", 3)
    assert found["run"]["id"] == RUN.id
    assert found["next_due"] == "2026-11-22T00:31:00Z"


@pytest.mark.parametrize(
    ("number", "words"), [(1, "1st"), (2, "2nd"), (3, "3rd"), (4, "4th"), (11, "11th"), (112, "112th"), (21, "21st")]
)
def test_ordinals(number: int, words: str) -> None:
    assert ordinal(number) == words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.04, "0.0 s"),
        (59, "59 s"),
        (119, "119 s"),
        (120, "2 min"),
        (7200, "2 h"),
        (7500, "2 h 5 min"),
        (200_000, "2 d 7 h"),
    ],
)
def test_spans(seconds: float, words: str) -> None:
    assert span(seconds) == words
