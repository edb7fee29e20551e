"""A year of two hundred crontab lines, carried over into the configuration, against Debian's cron."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from debian_cron import MINUTE, Model

from tidemill.config import load
from tidemill.config.crontab_toml import Source, convert
from tidemill.core import zones
from tidemill.core.crontabs import read
from tidemill.core.schedules import fires

YEAR = datetime(2026, 1, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC)
NEAR = timedelta(hours=36)
COMMANDS = (
    "/usr/local/bin/backup.sh --full >> /var/log/backup.log 2>&1",
    "pg_dump app | gzip > /srv/backup/app-$(date +\\%F).sql.gz",
    "cd /srv/app && /usr/bin/php artisan schedule:run > /dev/null 2>&1",
    "flock -n /run/lock/sync.lock /usr/bin/rsync -a /srv/ backup:/srv/",
    "sleep $((RANDOM \\% 600)) && certbot -q renew",
    "timeout 20m /opt/etl/run.py --since yesterday",
    "test -x /usr/sbin/logrotate && /usr/sbin/logrotate /etc/logrotate.conf",
    'find /tmp -name "*.tmp" -mtime +7 -delete',
    "curl -fsS https://example.org/cron?key=1 > /dev/null",
    "nice -n 19 /usr/bin/updatedb",
    'mail -s "Numbers" boss@example.org%Dear boss,%here they are.',
)


def two_hundred() -> str:
    """Times as people write them: mostly nightly and weekly, some within the hour, a few odd ones."""
    source = random.Random("two hundred")

    def minute() -> str:
        return str(source.choice([0, 0, 0, 5, 15, 17, 30, 30, 42, 45, 59, source.randrange(60)]))

    def night() -> str:
        return str(source.choice([0, 1, 2, 2, 3, 3, 3, 4, 5, 6, 22, 23]))

    def weekday() -> str:
        return source.choice(["0", "7", "sun", "mon", "1-5", "mon-fri", "6,0", "Sat", "fri", "1,3,5", "5-7"])

    makers = [
        *[lambda: f"{minute()} {night()} * * *"] * 70,
        *[lambda: f"{minute()} {source.randrange(24)} * * {weekday()}"] * 45,
        *[lambda: f"{minute()} {night()} {source.choice(['1', '15', '1,15', '28-31', '*/2', '31', '29'])} * *"] * 20,
        *[lambda: f"{minute()} {night()} {source.choice(['1-7', '13', '8-14'])} * {weekday()}"] * 8,  # either of them
        *[lambda: f"{minute()} {night()} */2 * {weekday()}"] * 3,  # both of them
        *[lambda: f"{minute()} 4 1 {source.choice(['1', 'jan,jul', '*/3', 'mar-may', '2'])} *"] * 8,
        *[lambda: f"{minute()} * * * *"] * 14,
        *[lambda: f"{minute()} */{source.choice([2, 3, 4, 6, 12])} * * *"] * 8,
        *[lambda: f"{minute()} {source.choice(['8-18', '9-17/2', '0,6,12,18', '1-5'])} * * {weekday()}"] * 8,
        *[lambda: f"{source.choice(['0,30', '*/20', '5-55/10', '0-59/15'])} 1-4 * * *"] * 6,
        *[lambda: f"*/{source.choice([10, 15, 20])} * * * *"] * 5,
        lambda: "*/5 * * * *",
        lambda: "* 2-3 * * *",
        lambda: "*/7 * * * 1-5",
        *[lambda: source.choice(["@daily", "@weekly", "@monthly", "@hourly", "@yearly", "@midnight"])] * 2,
    ]
    text = "# m h dom mon dow command\nMAILTO=ops@example.org\nPATH=/usr/local/bin:/usr/bin:/bin\n"
    return text + "".join(f"{make()}\t{source.choice(COMMANDS)}\n" for make in makers)


@cache
def walls(key: str) -> list[list[tuple[datetime, datetime]]]:
    """Every minute around each change of the clocks, as (instant, wall), with one minute before."""
    info = ZoneInfo(key)
    found = []
    change = zones.next_change(YEAR[0], YEAR[1], info)
    while change is not None:
        steps = range(-1 - NEAR // MINUTE, NEAR // MINUTE)
        instants = [change + n * MINUTE for n in steps]
        found.append([(each, each.astimezone(info).replace(tzinfo=None, fold=0)) for each in instants])
        change = zones.next_change(change, YEAR[1], info)
    return found


def debian(schedule: str, key: str) -> list[datetime]:
    """When Debian's cron runs it: near a change of the clocks minute by minute; elsewhere the wall shows each minute
    of a day once, so it runs at those that match."""
    nicknames = {"@daily": "0 0 * * *", "@midnight": "0 0 * * *", "@hourly": "0 * * * *", "@weekly": "0 0 * * 0"}
    nicknames |= {"@monthly": "0 0 1 * *", "@yearly": "0 0 1 1 *"}
    model, info = Model(nicknames.get(schedule, schedule)), ZoneInfo(key)
    watched = [(block[0][0], block[-1][0]) for block in walls(key)]
    found = [fire for block in walls(key) for fire in model.walk(block)]
    for wall in matching(model):
        instant = wall.replace(tzinfo=info).astimezone(UTC)
        if YEAR[0] < instant < YEAR[1] and not any(first < instant <= last for first, last in watched):
            found.append(instant)
    return sorted(found)


def matching(model: Model) -> Iterator[datetime]:
    hours, minutes = sorted(model.hours), sorted(model.minutes)
    day = datetime(2025, 12, 31)  # noqa: DTZ001 - walls are local
    for _ in range(367):
        if model.on(day.replace(hour=hours[0], minute=minutes[0])):
            yield from (day.replace(hour=hour, minute=minute) for hour in hours for minute in minutes)
        day += timedelta(days=1)


@pytest.mark.slow
@pytest.mark.parametrize("key", ["Europe/Berlin", "America/New_York"])
def test_a_year_of_two_hundred_crontab_lines_is_that_of_debians_cron(tmp_path: Path, key: str) -> None:
    """P6."""
    text = two_hundred()
    lines, left = read(text, with_users=False)
    assert (len(lines), left) == (200, [])
    imported = convert([Source(label="crontab", text=text)], runs_as=None, homes={})
    file = tmp_path / "tidemill.toml"
    file.write_text(f'daemon.timezone = "{key}"\n{imported.toml}')
    loaded = load(file, environ={})
    total = 0
    for line, name in zip(lines, imported.deployments, strict=True):
        (compiled,) = loaded.compiled[name]
        expected = debian(line.schedule, key)
        assert list(fires(compiled, YEAR[0], until=YEAR[1] - MINUTE, limit=600_000)) == expected, line.text
        total += len(expected)
    assert total > 400_000
