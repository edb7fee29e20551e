"""Crontabs as they are written, and what people write into them because cron cannot do it."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tidemill.core.crontab_commands import Clause, clauses, depends_on_test, joined, look, name_of
from tidemill.core.crontabs import CronLine, read, split_percent


def lines(text: str, *, with_users: bool = False) -> list[CronLine]:
    found, left = read(text, with_users=with_users)
    assert left == []
    return found


# -- lines -----------------------------------------------------------------------------------------------------------


def test_a_line_is_a_time_and_a_command() -> None:
    (line,) = lines("  30 2\t* * mon-fri   /usr/bin/backup  --all   \n")
    assert (line.number, line.schedule, line.user, line.command) == (
        1,
        "30 2 * * mon-fri",
        None,
        "/usr/bin/backup  --all",
    )


def test_a_line_of_the_system_s_crontab_names_a_user() -> None:
    first, second = lines("17 * * * * root cd / && x\n@daily www-data y\n", with_users=True)
    assert (first.user, first.command) == ("root", "cd / && x")
    assert (second.schedule, second.user, second.command) == ("@daily", "www-data", "y")


def test_settings_hold_for_the_lines_below_them() -> None:
    text = "0 1 * * * a\nMAILTO = me@x\nQUOTED=' with blanks '\n0 2 * * * b\nMAILTO=\"\"\n0 3 * * * c\n"
    assert [dict(line.settings) for line in lines(text)] == [
        {},
        {"MAILTO": "me@x", "QUOTED": " with blanks "},
        {"MAILTO": "", "QUOTED": " with blanks "},
    ]


def test_a_variable_before_a_command_is_no_setting() -> None:
    (line,) = lines("@daily FOO=1 x")
    assert line.command == "FOO=1 x"


def test_comments_right_above_a_line_go_with_it() -> None:
    first, second = lines("# of the file\n\n# the backup\n# of the night\n0 1 * * * a\n0 2 * * * b\n")
    assert first.comments == ("# the backup", "# of the night")
    assert second.comments == ()


@pytest.mark.parametrize(
    ("written", "command", "stdin"),
    [
        ("x", "x", None),
        ("date +\\%F", "date +%F", None),
        ("mail me%Dear me,%%bye", "mail me", "Dear me,\n\nbye\n"),
        ("mail me%one%", "mail me", "one\n"),
        ("cat%50\\% off", "cat", "50% off\n"),
    ],
)
def test_percent_signs_are_newlines_and_the_first_begins_the_input(
    written: str, command: str, stdin: str | None
) -> None:
    assert split_percent(written) == (command, stdin)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("0 25 * * * x", "hour 25 is not in"),
        ("0 9 * * monday x", 'did you mean "mon"?'),
        ("@every_minute x", "cron has no @every"),
        ("@dayly x", 'did you mean "@daily"?'),
        ("0 9 * * *", "it has no command"),
        ("hello", "it is neither a setting nor a time with a command"),
        ("0 0 30 2 * x", "there is no 30 Feb"),
        ("0 9 * * * " + "x" * 10_001, "too long"),
    ],
)
def test_a_line_that_is_none_is_left_out_with_the_reason(text: str, reason: str) -> None:
    found, (left,) = read(f"0 1 * * * fine\n{text}\n", with_users=False)
    assert [line.command for line in found] == ["fine"]
    assert left.number == 2
    assert reason in left.reason


# -- commands --------------------------------------------------------------------------------------------------------

LOCKS = {
    "flock -n /l/x run": ("/l/x", False, "run"),
    "/usr/bin/flock -xn /l/x run --all >> log 2>&1": ("/l/x", False, "run --all >> log 2>&1"),
    "flock --nonblock -E 0 '/l/a b' run": ("/l/a b", False, "run"),
    "flock /l/x run": ("/l/x", True, "run"),
    "flock -n /l/x -c 'a && b'": ("/l/x", False, "a && b"),
    "cd /srv && flock -n $HOME/x ./run": ("$HOME/x", False, "cd /srv && ./run"),
}


@pytest.mark.parametrize("command", LOCKS)
def test_flock_is_a_limit_of_one(command: str) -> None:
    found = look(command)
    assert (found.lock, found.lock_waits, found.command) == LOCKS[command]


TIMEOUTS = {
    "timeout 300 run": (timedelta(minutes=5), "run"),
    "timeout -k 10 1.5h run a b": (timedelta(minutes=90), "run a b"),
    "timeout --signal=TERM --preserve-status 10m run": (timedelta(minutes=10), "run"),
    "timeout -s SIGTERM 2d run": (timedelta(days=2), "run"),
    "cd /x; timeout 30s ./run": (timedelta(seconds=30), "cd /x; ./run"),
}


@pytest.mark.parametrize("command", TIMEOUTS)
def test_timeout_is_a_timeout(command: str) -> None:
    found = look(command)
    assert (found.timeout, found.command) == TIMEOUTS[command]


JITTERS = {
    "sleep $((RANDOM % 300)) && run": (timedelta(minutes=5), "run"),
    "sleep $(( $RANDOM % 60 ))m; run": (timedelta(hours=1), "run"),
    "sleep $[RANDOM%30] ; run | log": (timedelta(seconds=30), "run | log"),
    "sleep $(shuf -i 0-900 -n 1) && run": (timedelta(minutes=15), "run"),
    "sleep `shuf -i 1-10 -n 1`m && run": (timedelta(minutes=10), "run"),
    "test -x /c -a \\! -d /run/systemd && perl -e 'sleep int(rand(43200))' && c -q renew": (
        timedelta(hours=12),
        "test -x /c -a \\! -d /run/systemd && c -q renew",
    ),
    "python3 -c 'import random; import time; time.sleep(random.random() * 3600)' && c": (timedelta(hours=1), "c"),
}


@pytest.mark.parametrize("command", JITTERS)
def test_a_random_sleep_is_jitter(command: str) -> None:
    found = look(command)
    assert (found.jitter, found.command) == JITTERS[command]


def test_all_of_them_are_found_around_one_command() -> None:
    found = look("sleep $((RANDOM % 60)); flock -n /l/x timeout 5m run '%'")
    assert (found.command, found.lock, found.timeout, found.jitter) == (
        "run '%'",
        "/l/x",
        timedelta(minutes=5),
        timedelta(minutes=1),
    )
    assert look("timeout 5m flock -n /l/x run").command == "run"


@pytest.mark.parametrize(
    "command",
    [
        "flock -s /l/x run",  # a shared lock
        "flock -w 10 /l/x run",  # waits for a while
        "flock -n 9",  # an open file's number
        "flock -n /l/x a; b",  # b runs all the same
        "flock -n $(mktemp) run",
        "timeout -s KILL 5m run",
        "a && timeout 5m b",  # a is not meant
        "timeout 5m a || b",
        "timeout 0 run",
        "sleep 30 && run",
        "sleep $((RANDOM % 300))",
        "a || sleep $((RANDOM % 300)) && run",
        "(flock -n /l/x run)",
        "echo 'flock -n /l/x run'",
        "timeout",
        "flock",
        "flock -n /l/x",
        "",
    ],
)
def test_what_is_not_understood_stays_as_it_is(command: str) -> None:
    found = look(command)
    assert found.command == command
    assert (found.lock, found.timeout, found.jitter) == (None, None, None)


@pytest.mark.parametrize(
    "command",
    [
        "a && b || c; d | e & f",
        "echo 'a && b; c' && x",
        'echo "a; $(b; c)" ; d',
        "( a; b ) && c",
        "a $(b && c) | d",
        "a > /dev/null 2>&1 && b &> log",
        "a 'unclosed ; b",
        "x `a; b`; c",
        "a;",
    ],
)
def test_a_command_that_is_cut_is_put_together_as_it_was(command: str) -> None:
    again = joined(clauses(command))
    assert again.replace(" ", "").rstrip(";") == command.replace(" ", "").rstrip(";")


def test_operators_inside_of_quotes_and_brackets_cut_nothing() -> None:
    assert clauses("echo 'a; b' && (c; d) | e 2>&1") == [
        Clause("echo 'a; b'", "&&"),
        Clause("(c; d)", "|"),
        Clause("e 2>&1", ""),
    ]


@pytest.mark.parametrize(
    ("command", "name"),
    [
        ("/usr/local/bin/backup.sh --full", "backup"),
        ("cd /srv/app && php artisan schedule:run", "artisan"),
        ("/usr/bin/python3 /opt/Report Daily.py", "report"),
        ("nice -n 19 ionice -c 3 /x/rsync -a", "rsync"),
        ("cd / && run-parts --report /etc/cron.hourly", "cron-hourly"),
        ("FOO=1 BAR=2 ./x", "x"),
        ("sudo -u postgres vacuumdb --all", "vacuumdb"),
        ("[ -x /a ] && if [ ! -d /b ]; then /a/clean; fi", "clean"),
        ("command -v sa1 > /dev/null && sa1 1 1", "sa1"),
        ("python3 -m", "python3"),
        ("$CMD", "job"),
        ("", "job"),
        ("/x/" + "n" * 100, "n" * 48),
    ],
)
def test_a_job_is_called_after_what_it_runs(command: str, name: str) -> None:
    assert name_of(command) == name


def test_a_test_that_guards_a_command_is_seen() -> None:
    assert depends_on_test("[ -x /a ] && /a")
    assert depends_on_test("command -v a > /dev/null && a")
    assert not depends_on_test("[ -x /a ] && /a || true")
    assert not depends_on_test("/a && /b")
    assert not depends_on_test("test -x /a")
