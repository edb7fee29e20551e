"""Cron in zones, row by row: when a job fires around each kind of change that the clocks on the wall can make.

Every row was worked out by hand from the zone's published rules; none was printed by the code it checks. Instants are
UTC. P6: a change of the clocks neither skips a fixed time nor runs it twice.
"""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from tidemill.core.schedules import Schedule, compile_schedule, fires

Row = tuple[str, str, list[str]]

# 2026-03-08 02:00 EST -> 03:00 EDT at 07:00Z; 2026-11-01 02:00 EDT -> 01:00 EST at 06:00Z.
NEW_YORK: list[Row] = [
    # a plain day: local time is kept, so the UTC hour moves with the season
    ("0 9 * * *", "2026-03-06T15:00", ["2026-03-07T14:00", "2026-03-08T13:00", "2026-03-09T13:00"]),
    # 02:30 is skipped: the first instant after the gap, and the next day as usual
    ("30 2 * * *", "2026-03-07T08:00", ["2026-03-08T07:00", "2026-03-09T06:30"]),
    # two fires in the gap collapse to one
    ("0,30 2 * * *", "2026-03-08T06:00", ["2026-03-08T07:00", "2026-03-09T06:00", "2026-03-09T06:30"]),
    # 02:00 is skipped and lands on 03:00, which is a fire of its own: one, not two
    ("0 2,3 * * *", "2026-03-08T06:00", ["2026-03-08T07:00", "2026-03-09T06:00", "2026-03-09T07:00"]),
    # 02:30 lands on 03:00; 03:30 stays where it is (croniter invents or loses one here)
    ("30 2,3 * * *", "2026-03-08T06:00", ["2026-03-08T07:00", "2026-03-08T07:30", "2026-03-09T06:30"]),
    # hour list with a step is fixed too: 0,2,4 does not begin with a star
    ("0 0-4/2 * * *", "2026-03-08T05:00", ["2026-03-08T07:00", "2026-03-08T08:00", "2026-03-09T04:00"]),
    # interval-like: 02:00-03:00 was never on the wall, so half hours follow each other in real time
    ("*/30 * * * *", "2026-03-08T06:15", ["2026-03-08T06:30", "2026-03-08T07:00", "2026-03-08T07:30"]),
    # interval-like inside the skipped hour only: nothing to catch up that day
    ("*/15 2 * * *", "2026-03-08T06:00", ["2026-03-09T06:00", "2026-03-09T06:15"]),
    # hourly by star: the hour that is not there is not run
    ("0 * * * *", "2026-03-08T05:30", ["2026-03-08T06:00", "2026-03-08T07:00", "2026-03-08T08:00"]),
    # every second hour by star: 02:00 is not there and is not made up for
    ("0 */2 * * *", "2026-03-08T05:00", ["2026-03-08T08:00", "2026-03-08T10:00"]),
    # 01:30 is there twice: the first pass only
    ("30 1 * * *", "2026-11-01T00:00", ["2026-11-01T05:30", "2026-11-02T06:30"]),
    # asked in the second pass: 01:30 has been run already
    ("30 1 * * *", "2026-11-01T06:15", ["2026-11-02T06:30"]),
    # asked at the very change
    ("0 1 * * *", "2026-11-01T06:00", ["2026-11-02T06:00"]),
    # a fixed list of minutes: the first pass only
    ("0-59/20 1 * * *", "2026-11-01T05:30", ["2026-11-01T05:40", "2026-11-02T06:00", "2026-11-02T06:20"]),
    # the hour after the repeated one comes once, an hour later in real time
    ("0 2 * * *", "2026-11-01T00:00", ["2026-11-01T07:00", "2026-11-02T07:00"]),
    # interval-like: both passes
    ("*/30 * * * *", "2026-11-01T05:15", ["2026-11-01T05:30", "2026-11-01T06:00", "2026-11-01T06:30"]),
    # one star is enough to be interval-like, in the hour ...
    ("30 * * * *", "2026-11-01T05:00", ["2026-11-01T05:30", "2026-11-01T06:30", "2026-11-01T07:30"]),
    # ... or in the minute
    ("*/20 1 * * *", "2026-11-01T05:30", ["2026-11-01T05:40", "2026-11-01T06:00", "2026-11-01T06:20"]),
    # weekday and date go by the wall: Sunday begins at 05:00Z before and ends at 05:00Z after
    ("30 23 * * sun", "2026-11-01T00:00", ["2026-11-02T04:30", "2026-11-09T04:30"]),
]

# 2026-03-29 02:00 CET -> 03:00 CEST at 01:00Z; 2026-10-25 03:00 CEST -> 02:00 CET at 01:00Z.
BERLIN: list[Row] = [
    ("30 2 * * *", "2026-03-28T12:00", ["2026-03-29T01:00", "2026-03-30T00:30"]),
    # the first instant of the gap and the first after it
    ("0 2 * * *", "2026-03-28T12:00", ["2026-03-29T01:00", "2026-03-30T00:00"]),
    ("0 3 * * *", "2026-03-28T12:00", ["2026-03-29T01:00", "2026-03-30T01:00"]),
    # asked at the first instant after the gap, which has fired
    ("30 2 * * *", "2026-03-29T01:00", ["2026-03-30T00:30"]),
    # asked a moment before
    ("30 2 * * *", "2026-03-29T00:59:59.999999", ["2026-03-29T01:00"]),
    # once a year on the day of the change; in 2027 the change is on the 28th
    ("15 2 29 3 *", "2026-01-01T00:00", ["2026-03-29T01:00", "2027-03-29T00:15"]),
    # on Sundays, in autumn: first pass
    ("59 2 * * sun", "2026-10-24T00:00", ["2026-10-25T00:59", "2026-11-01T01:59"]),
    # every minute of the second pass, and on
    ("*/20 2 * * *", "2026-10-25T00:30", ["2026-10-25T00:40", "2026-10-25T01:00", "2026-10-25T01:20"]),
    # every seven minutes (Prefect loses the repeated hour here)
    ("*/7 2 * * *", "2026-10-25T00:50", ["2026-10-25T00:56", "2026-10-25T01:00", "2026-10-25T01:07"]),
    # monthly, seen from far away
    ("0 0 1 * *", "2026-02-10T00:00", ["2026-02-28T23:00", "2026-03-31T22:00", "2026-04-30T22:00"]),
    # a leap day, from a year that has none, interval-like and fixed
    ("0 */12 29 2 *", "2026-03-01T00:00", ["2028-02-28T23:00", "2028-02-29T11:00", "2032-02-28T23:00"]),
    ("0 12 29 2 *", "2026-03-01T00:00", ["2028-02-29T11:00", "2032-02-29T11:00"]),
]

# Half an hour: 2026-10-04 02:00 +10:30 -> 02:30 +11 at 2026-10-03 15:30Z; 2026-04-05 02:00 +11 -> 01:30 +10:30 at
# 2026-04-04 15:00Z.
LORD_HOWE: list[Row] = [
    ("15 2 * * *", "2026-10-03T00:00", ["2026-10-03T15:30", "2026-10-04T15:15"]),
    ("0,15,30,45 2 * * *", "2026-10-03T00:00", ["2026-10-03T15:30", "2026-10-03T15:45", "2026-10-04T15:00"]),
    # cronsim loses the fire at the change
    ("*/15 * * * *", "2026-10-03T15:00", ["2026-10-03T15:15", "2026-10-03T15:30", "2026-10-03T15:45"]),
    # hourly: 02:00 was never on the wall, 03:00 comes half an hour early
    ("0 * * * *", "2026-10-03T14:00", ["2026-10-03T14:30", "2026-10-03T16:00", "2026-10-03T17:00"]),
    ("45 1 * * *", "2026-04-04T00:00", ["2026-04-04T14:45", "2026-04-05T15:15"]),
    # 01:15 is there once
    ("15 1 * * *", "2026-04-04T00:00", ["2026-04-04T14:15", "2026-04-05T14:45"]),
    ("*/15 * * * *", "2026-04-04T14:45", ["2026-04-04T15:00", "2026-04-04T15:15", "2026-04-04T15:30"]),
    # hourly: the hour between 01:00 and 02:00 is an hour and a half
    ("0 * * * *", "2026-04-04T14:00", ["2026-04-04T15:30", "2026-04-04T16:30"]),
    # half past one is there twice
    ("30 * * * *", "2026-04-04T14:00", ["2026-04-04T14:30", "2026-04-04T15:00", "2026-04-04T16:00"]),
]

# The 30th of December 2011, a Friday, does not exist: 2011-12-29 24:00 -10 -> 2011-12-31 00:00 +14 at 12-30 10:00Z.
APIA: list[Row] = [
    # longer than three hours: what the gap swallows is not run
    ("0 9 * * *", "2011-12-29T00:00", ["2011-12-29T19:00", "2011-12-30T19:00", "2011-12-31T19:00"]),
    ("0 0 * * *", "2011-12-29T00:00", ["2011-12-29T10:00", "2011-12-30T10:00", "2011-12-31T10:00"]),
    ("0 9 * * fri", "2011-12-24T00:00", ["2012-01-05T19:00"]),
    ("0 0 30 12 *", "2011-01-01T00:00", ["2012-12-29T10:00"]),
    # interval-like goes straight on
    ("*/30 * * * *", "2011-12-30T09:15", ["2011-12-30T09:30", "2011-12-30T10:00", "2011-12-30T10:30"]),
    ("*/30 12 30 12 *", "2011-12-01T00:00", ["2012-12-29T22:00"]),
]

# An hour back for Ramadan: 2026-02-15 03:00 +01 -> 02:00 +00 at 02:00Z; 2026-03-22 02:00 +00 -> 03:00 +01 at 02:00Z.
CASABLANCA: list[Row] = [
    ("0 9 * * *", "2026-02-13T12:00", ["2026-02-14T08:00", "2026-02-15T09:00", "2026-02-16T09:00"]),
    ("30 2 * * *", "2026-02-14T12:00", ["2026-02-15T01:30", "2026-02-16T02:30"]),
    ("*/30 2 * * *", "2026-02-15T01:15", ["2026-02-15T01:30", "2026-02-15T02:00", "2026-02-15T02:30"]),
    ("30 2 * * *", "2026-03-21T12:00", ["2026-03-22T02:00", "2026-03-23T01:30"]),
    ("*/30 * * * *", "2026-03-22T01:15", ["2026-03-22T01:30", "2026-03-22T02:00", "2026-03-22T02:30"]),
    # both changes between two fires of a monthly job
    ("0 9 31 * *", "2026-02-01T12:00", ["2026-03-31T08:00"]),
]

ELSEWHERE: list[tuple[str, *Row]] = [
    # a gap at midnight: 2026-03-29 00:00 +02 -> 01:00 +03 at 22:00Z
    ("Asia/Beirut", "0 0 * * *", "2026-03-28T12:00", ["2026-03-28T22:00", "2026-03-29T21:00"]),
    ("Asia/Beirut", "30 0 29 3 *", "2026-03-28T12:00", ["2026-03-28T22:00", "2027-03-28T21:30"]),
    ("Asia/Beirut", "*/30 0 * * *", "2026-03-28T12:00", ["2026-03-29T21:00"]),
    # the same in a zone where midnight is skipped in November: 2018-11-04 00:00 -03 -> 01:00 -02 at 03:00Z
    ("America/Sao_Paulo", "0 0 * * *", "2018-11-03T12:00", ["2018-11-04T03:00", "2018-11-05T02:00"]),
    # the hour before midnight repeated: 2019-02-17 00:00 -02 -> 2019-02-16 23:00 -03 at 02:00Z
    ("America/Sao_Paulo", "30 23 * * *", "2019-02-16T12:00", ["2019-02-17T01:30", "2019-02-18T02:30"]),
    ("America/Sao_Paulo", "0 0 * * *", "2019-02-16T12:00", ["2019-02-17T03:00", "2019-02-18T03:00"]),
    ("America/Sao_Paulo", "30 * * * sat", "2019-02-17T01:00", ["2019-02-17T01:30", "2019-02-17T02:30"]),
    # two hours at once: 2026-03-29 01:00 +00 -> 03:00 +02, 2026-10-25 03:00 +02 -> 01:00 +00, both at 01:00Z
    ("Antarctica/Troll", "15 1,2 * * *", "2026-03-28T12:00", ["2026-03-29T01:00", "2026-03-29T23:15"]),
    (
        "Antarctica/Troll",
        "15 1,2 * * *",
        "2026-10-24T12:00",
        ["2026-10-24T23:15", "2026-10-25T00:15", "2026-10-26T01:15"],
    ),
    # a quarter of an hour: 2015-08-15 00:00 +09 -> 2015-08-14 23:30 +08:30 at 15:00Z
    ("Asia/Pyongyang", "45 23 * * *", "2015-08-14T12:00", ["2015-08-14T14:45", "2015-08-15T15:15"]),
    # summer time that the database calls winter time the other way round: 2026-10-25 02:00 +01 -> 01:00 +00 at 01:00Z
    ("Europe/Dublin", "30 1 * * *", "2026-10-24T12:00", ["2026-10-25T00:30", "2026-10-26T01:30"]),
    # a zone of one offset, not of whole hours
    ("Asia/Kathmandu", "0 9 * * *", "2026-01-01T00:00", ["2026-01-01T03:15", "2026-01-02T03:15"]),
    ("UTC", "30 2 * * *", "2026-03-29T00:00", ["2026-03-29T02:30", "2026-03-30T02:30"]),
]


def _rows() -> list[tuple[str, str, str, list[str]]]:
    zones = {
        "America/New_York": NEW_YORK,
        "Europe/Berlin": BERLIN,
        "Australia/Lord_Howe": LORD_HOWE,
        "Pacific/Apia": APIA,
        "Africa/Casablanca": CASABLANCA,
    }
    return [(zone, *row) for zone, rows in zones.items() for row in rows] + ELSEWHERE


def _utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(("zone", "cron", "after", "expected"), _rows())
def test_cron_fires_when_the_table_says(zone: str, cron: str, after: str, expected: list[str]) -> None:
    """P6."""
    compiled = compile_schedule(Schedule(cron=cron, timezone=zone))
    assert list(fires(compiled, _utc(after), limit=len(expected))) == [_utc(text) for text in expected]
