"""Cron expressions: what is read, what is refused and why, and when they match on naive local time."""

# ruff: noqa: RUF001 - ranges are written with dashes

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from debian_cron import Model
from hypothesis import assume, given
from hypothesis import strategies as st

from tidemill.core import cron
from tidemill.core.schedules import ScheduleError

MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)


def wall(text: str) -> datetime:
    return datetime.fromisoformat(text)


def after(expression: str, text: str, count: int = 1) -> list[str]:
    times = cron.parse(expression)
    assert times is not None
    found, here = [], wall(text)
    for _ in range(count):
        here = times.after(here) or here
        found.append(here.isoformat(timespec="minutes"))
    return found


@pytest.mark.parametrize(
    ("expression", "same"),
    [
        ("@hourly", "0 * * * *"),
        ("@daily", "0 0 * * *"),
        ("@midnight", "0 0 * * *"),
        ("@weekly", "0 0 * * 0"),
        ("@monthly", "0 0 1 * *"),
        ("@yearly", "0 0 1 1 *"),
        ("@annually", "0 0 1 1 *"),
        ("@Daily", "0 0 * * *"),
        ("  0\t9  * * * ", "0 9 * * *"),  # any blanks between fields
        ("0 9 * JAN-Mar,dec Mon", "0 9 * 1-3,12 1"),  # names in any case, in ranges and lists
        ("00 09 * * *", "0 9 * * *"),  # leading zeros
        ("0 0 * * 7", "0 0 * * 0"),  # Sunday has two numbers
        ("0 0 * * 5-7", "0 0 * * 5,6,0"),
        ("0 0 * * fri-sun", "0 0 * * 5,6,0"),  # Sunday ends a week too
        ("*/60 * * * *", "0 * * * *"),  # as long as the field: its first value
        ("0 0 1-31 * 5", "0 0 * * *"),  # every date or Friday: every day
        ("0 0 13 * 0-6", "0 0 * * *"),  # the 13th or any weekday: every day (croniter takes 0-6 for a star)
        ("0 0 13 * *", "0 0 13 * */1"),  # with a star in one field only the other counts
    ],
)
def test_two_ways_to_write_the_same(expression: str, same: str) -> None:
    assert after(expression, "2026-01-01T00:00", 40) == after(same, "2026-01-01T00:00", 40)


def test_reboot_is_no_matter_of_time() -> None:
    assert cron.parse("@reboot") is None
    assert cron.parse("@REBOOT") is None


@pytest.mark.parametrize(
    ("expression", "problem", "remedy"),
    [
        ("0 25 * * *", "hour 25 is not in 0–23", ""),
        ("60 * * * *", "minute 60 is not in 0–59", ""),
        ("0 0 0 * *", "day of month 0 is not in 1–31", ""),
        ("0 0 32 * *", "day of month 32 is not in 1–31", ""),
        ("0 0 * 13 *", "month 13 is not in 1–12", ""),
        ("0 0 * * 8", "day of week 8 is not in 0–7", ""),
        ("0 9-25 * * *", "hour 25 is not in 0–23", ""),
        ("0 0 * * 99999", 'day of week "99999" is neither a number nor a name', "names are sun"),
        ("-5 * * * *", "a range with an end missing", 'write it as "0-59"'),
        ("5- * * * *", "a range with an end missing", 'write it as "0-59"'),
        ("1-2-3 * * * *", 'minute "2-3" is not a number', "0–59"),
        ("1,,2 * * * *", "minute has an empty item in its list", "comma"),
        ("0 0 * * 5-1", "day of week range 5-1 is reversed", 'write "5-7,0-1"'),
        ("0 22-6 * * *", "hour range 22-6 is reversed", 'write "22-23,0-6"'),
        ("*/0 * * * *", "a step of 0 never moves on", "*/5"),
        ("*/x * * * *", 'step "x" is not a number', "*/5"),
        ("*/ * * * *", 'step "" is not a number', "*/5"),
        ("*/90 * * * *", "step 90 is longer than the field's 60 values", 'interval = "90m"'),
        ("0 */36 * * *", "step 36 is longer", 'interval = "36h"'),
        ("5/15 * * * *", "a step needs a range", '"5-59/15"'),
        ("*5 * * * *", 'minute "*5" is not a number', ""),
        ("+5 * * * *", 'minute "+5" is not a number', ""),
        ("٥ * * * *", 'minute "٥" is not a number', ""),  # an Arabic five
        ("0 9 * * monday", '"monday" is not a name cron knows', 'did you mean "mon"?'),
        ("0 9 * * tus", '"tus" is neither a number nor a name', 'did you mean "tue"?'),
        ("0 9 * sept *", '"sept" is not a name', 'did you mean "sep"?'),
        ("0 mon * * *", 'hour "mon" is not a number', ""),
        # other programs' words
        ("R R * * *", '"R" (a random value) is not cron\'s', "jitter"),
        ("H H * * *", '"H" (a hashed value) is not cron\'s', "jitter"),
        ("H(0-29)/10 * * * *", '"H" (a hashed value)', "jitter"),
        ("0~30 * * * *", '"~" (a random value)', "jitter"),
        ("0 0 L * *", '"L" (the last day) is not cron\'s', "BYMONTHDAY=-1"),
        ("0 0 * * 5L", '"L" (the last day)', "rrule"),
        ("0 0 * * friL", '"L" (the last day)', "rrule"),
        ("0 0 15W * *", '"W" (the nearest weekday)', "rrule"),
        ("0 0 LW * *", '"L" (the last day)', "rrule"),
        ("0 0 * * tue#2", '"#" (the nth weekday)', "BYDAY=2TU"),
        ("0 0 ? * *", '"?" is not cron\'s', 'write "*"'),
        ("@every 5m", "cron has no @every", 'interval = "5m"'),
        ("@dayly", "no such nickname", 'did you mean "@daily"?'),
        ("@", "no such nickname", "@hourly"),
        # the number of fields
        ("", "the expression is empty", "five fields"),
        ("   ", "the expression is empty", "five fields"),
        ("0 9 * *", "4 fields instead of five", "minute, hour, day of month, month and day of week"),
        ("0", "1 field instead of five", "minute, hour"),
        ("*/10 * * * * *", "6 fields instead of five", 'interval = "10s"'),
        ("0 0 1 1 * 0 2027", "7 fields instead of five", "start and end"),
        # days that are in no year
        ("0 0 30 2 *", "there is no 30 Feb", "never fire"),
        ("0 0 31 4,6,nov *", "there is no 31 Apr or Jun or Nov", "never fire"),
        ("0 0 30 2 */2", "there is no 30 Feb", "never fire"),  # a star: both must match
        ("1,2,3,4,5,6,7,8,9," * 20 + "0 * * * *", "characters are more than 200", "split"),
    ],
)
def test_what_cron_does_not_say_is_refused_with_the_field_and_a_remedy(
    expression: str, problem: str, remedy: str
) -> None:
    with pytest.raises(ScheduleError) as refused:
        cron.parse(expression)
    assert refused.value.field == "cron"
    assert problem in refused.value.problem
    assert remedy in refused.value.remedy
    assert refused.value.problem.startswith(f'"{" ".join(expression.split())[:40]}')  # it names the thing


def test_a_refusal_reads_as_a_sentence() -> None:
    with pytest.raises(ScheduleError) as refused:
        cron.parse("0 25 * * *")
    assert str(refused.value) == '"0 25 * * *": hour 25 is not in 0–23'


@pytest.mark.parametrize(
    ("expression", "found"),
    [
        # the 13th, and every Friday
        ("0 0 13 2 fri", ["2026-02-06T00:00", "2026-02-13T00:00", "2026-02-20T00:00", "2026-02-27T00:00"]),
        # 0-6 is no star: every day of February
        ("0 0 13 2 0-6", ["2026-02-01T00:00", "2026-02-02T00:00", "2026-02-03T00:00", "2026-02-04T00:00"]),
        # */2 begins with a star: odd dates that are Sunday, Tuesday, Thursday or Saturday
        ("0 0 */2 2 */2", ["2026-02-01T00:00", "2026-02-03T00:00", "2026-02-05T00:00", "2026-02-07T00:00"]),
        ("0 0 */2 2 mon", ["2026-02-09T00:00", "2026-02-23T00:00", "2027-02-01T00:00", "2027-02-15T00:00"]),
        ("0 0 13 2 */5", ["2026-02-13T00:00", "2028-02-13T00:00", "2032-02-13T00:00", "2033-02-13T00:00"]),
        # 30 February is never, but Mondays are
        ("0 0 30 2 mon", ["2026-02-02T00:00", "2026-02-09T00:00", "2026-02-16T00:00", "2026-02-23T00:00"]),
        # a Sunday that is 29 February: 28 years apart
        ("0 0 29 2 */7", ["2032-02-29T00:00", "2060-02-29T00:00", "2088-02-29T00:00", "2128-02-29T00:00"]),
    ],
)
def test_both_day_fields_mean_either_unless_one_begins_with_a_star(expression: str, found: list[str]) -> None:
    """crontab(5); Debian's cron goes by the first character of the field."""
    assert after(expression, "2026-01-15T00:00", 4) == found


@pytest.mark.parametrize(
    ("expression", "word"),
    [("0 0 13 * fri", "either of them"), ("0 0 */2 * */2", "match both"), ("0 0 1 * */2", "match both")],
)
def test_a_person_is_told_how_two_day_fields_go_together(expression: str, word: str) -> None:
    times = cron.parse(expression)
    assert times is not None
    assert times.remark is not None
    assert word in times.remark


@pytest.mark.parametrize("expression", ["0 0 13 * *", "0 0 * * fri", "* * * * *", "@weekly"])
def test_one_day_field_needs_no_remark(expression: str) -> None:
    times = cron.parse(expression)
    assert times is not None
    assert times.remark is None


@pytest.mark.parametrize(
    ("expression", "fixed"),
    [
        ("30 2 * * *", True),
        ("0-59 2 * * *", True),  # all minutes, but no star
        ("0,30 0-23 * * *", True),
        ("@daily", True),
        ("* 2 * * *", False),
        ("30 * * * *", False),
        ("*/5 2 * * *", False),
        ("30 */2 * * *", False),
        ("*,5 2 * * *", False),  # begins with a star
        ("5,* 2 * * *", True),  # does not
        ("@hourly", False),
    ],
)
def test_a_job_is_fixed_where_neither_minute_nor_hour_begins_with_a_star(expression: str, fixed: bool) -> None:
    times = cron.parse(expression)
    assert times is not None
    assert times.fixed is fixed


def test_seconds_of_the_asking_time_do_not_matter() -> None:
    assert after("0 9 * * *", "2026-01-01T08:59:59.999999") == ["2026-01-01T09:00"]
    assert after("0 9 * * *", "2026-01-01T09:00:00.000001") == ["2026-01-02T09:00"]
    assert after("0 9 * * *", "2026-01-01T09:00") == ["2026-01-02T09:00"]


def test_one_expression_is_read_once() -> None:
    assert cron.parse("7 7 * * *") is cron.parse("7 7 * * *")


def _fields(low: int, high: int) -> st.SearchStrategy[str]:
    numbers = st.integers(low, high)
    ranges = st.tuples(numbers, numbers, st.integers(1, high)).map(
        lambda ends: f"{min(ends[:2])}-{max(ends[:2])}/{min(ends[2], high - low)}"
    )
    items = st.lists(numbers.map(str) | ranges, min_size=1, max_size=3).map(",".join)
    return st.just("*") | st.integers(1, high - low).map(lambda step: f"*/{step}") | items


expressions = st.tuples(_fields(0, 59), _fields(0, 23), _fields(1, 31), _fields(1, 12), _fields(0, 7)).map(" ".join)
walls = st.datetimes(datetime.fromisoformat("1995-01-01"), datetime.fromisoformat("2070-01-01"))


@given(expression=expressions, here=walls)
def test_the_next_match_is_the_first_one_later(expression: str, here: datetime) -> None:
    """Against the model: it matches, and nothing in between does (day by day; minute by minute on both end days)."""
    try:
        times = cron.parse(expression)
    except ScheduleError as refused:
        assert "would never fire" in refused.remedy
        return
    assert times is not None
    found = times.after(here)
    assume(found is not None and found - here < timedelta(days=800))
    assert found is not None
    model = Model(expression)
    assert found > here
    assert model.on(found)
    minute = here.replace(second=0, microsecond=0) + MINUTE
    while minute < found:
        if minute.date() != here.date() and minute.date() != found.date():
            assert not model.on(minute.replace(hour=min(model.hours), minute=min(model.minutes)))
            minute = datetime.combine(minute.date() + DAY, datetime.min.time())
            continue
        assert not model.on(minute)
        minute += MINUTE


@given(st.text(alphabet="0123456789*/-,LWRH#?@~ monjanweekdily", max_size=30))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        times = cron.parse(text)
    except ScheduleError as refused:
        assert refused.problem
    else:
        assert times is None or times.after(wall("2026-01-01T00:00")) is not None
