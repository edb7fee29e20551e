"""What a person reads when the file is wrong: file, line, column, key, the fact and the remedy."""

# ruff: noqa: RUF001 - ranges are written with dashes

from __future__ import annotations

from collections.abc import Callable

import pytest

HTTP = '[deployments.a]\nurl = "http://h/"\n'
PYTHON = '[deployments.a]\nflow = "reports.py:daily"\n'
SHELL = '[deployments.a]\ncommand = "date"\n'

# One row a kind of fault: what the file says -> the line a user sees, behind the file's name and a colon.
FAULTS = {
    # tables
    "unknown table": (
        "[deployment.a]",
        '1:2 deployment: is no table of this file; did you mean "deployments"?',
    ),
    "a key outside of tables": (
        'timezone = "UTC"',
        "1:1 timezone: is no table of this file; a key stands in a [table]",
    ),
    "a table that is a value": ("api = 1", "1:1 api: 1 is a whole number, not a table; write [api]"),
    "a named table that is a value": (
        "[deployments]\na = 5",
        "2:5 deployments.a: 5 is a whole number, not a table; write it as a table: [deployments.a]",
    ),
    "a list of tables": (
        "[[daemon]]\nflows = 'x'",
        "1:3 daemon: […] is a list, not a table; write [daemon]",
    ),
    # keys
    "unknown key": (
        '[daemon]\ntimezoen = "UTC"',
        '2:1 daemon.timezoen: is no key of this table; did you mean "timezone"?',
    ),
    "unknown key, spelt with the other dash": (
        '[daemon]\ngrace-period = "1s"',
        '2:1 daemon.grace-period: is no key of this table; did you mean "grace_period"?',
    ),
    "unknown key like no other": (
        "[log]\nxyzzy = 1",
        "2:1 log.xyzzy: is no key of this table; its keys are format, level, run_output, max_lines_per_second",
    ),
    "unknown key of a deployment": (
        HTTP + "retrys = 1",
        '3:1 deployments.a.retrys: is no key of a deployment; did you mean "retries"?',
    ),
    "a parameter beside a Python flow": (
        PYTHON + "region = 'fi'",
        '3:1 deployments.a.region: is no key of a deployment; a parameter of the flow stands under "parameters"',
    ),
    "a parameter of another built-in flow": (
        SHELL + "headers = { a = '1' }",
        "3:1 deployments.a.headers: is a parameter of http_request, and this runs shell; delete it",
    ),
    "a parameter beside the long form": (
        '[deployments.a]\nflow = "shell"\numask = "077"',
        '3:1 deployments.a.umask: is a parameter of shell; put it under "parameters": { umask = … }',
    ),
    "a built-in's parameter beside a Python flow": (
        PYTHON + "json = 1",
        "3:1 deployments.a.json: is a parameter of http_request, and this runs reports.py:daily; put it under "
        '"parameters": { json = … }, if it is one of the flow',
    ),
    "unknown parameter of a built-in flow": (
        '[deployments.a]\nflow = "http_request"\nparameters = { url = "http://h/", methode = "GET" }',
        '3:35 deployments.a.parameters.methode: is no parameter of http_request; did you mean "method"?',
    ),
    "a parameter in both places": (
        HTTP + 'method = "GET"\nparameters = { method = "PUT" }',
        '3:1 deployments.a.method: stands here and under "parameters"; keep one',
    ),
    # types
    "text for a number": (
        HTTP + 'retries = "three"',
        '3:11 deployments.a.retries: "three" is text, not a whole number; write a whole number from 0 to 1000',
    ),
    "true for a number": (
        HTTP + "retries = true",
        "3:11 deployments.a.retries: true is true or false, not a whole number; write a whole number from 0 to 1000",
    ),
    "a fraction for a number": (
        HTTP + "retries = 1.5",
        "3:11 deployments.a.retries: 1.5 is a fraction, not a whole number; write a whole number from 0 to 1000",
    ),
    "a number for a text": (
        HTTP + "description = 5",
        '3:15 deployments.a.description: 5 is a whole number, not text; write it in quotes: "…"',
    ),
    "a number for a flag": (
        HTTP + "paused = 1",
        "3:10 deployments.a.paused: 1 is a whole number, not true or false; write true or false",
    ),
    "a text for a table": (
        HTTP + 'parameters = "x"',
        '3:14 deployments.a.parameters: "x" is text, not a table; write a table: { region = "fi" }',
    ),
    "a number in a list of texts": (
        HTTP + 'tags = ["a", 5]',
        '3:14 deployments.a.tags[1]: 5 is a whole number, not text; write a list of texts: ["api"]',
    ),
    "a word that is none of the choices": (
        HTTP + 'catch_up = "latets"',
        '3:12 deployments.a.catch_up: "latets" is not one of its words; did you mean "latest"?',
    ),
    "a word like none of the choices": (
        HTTP + 'on_crash = "x"',
        '3:12 deployments.a.on_crash: "x" is not one of its words; write "fail" or "retry"',
    ),
    # bounds
    "a number out of bounds": (
        "[work_queues.q]\npriority = 0",
        "2:12 work_queues.q.priority: 0 is not in 1–1000000; write a whole number from 1 to 1000000",
    ),
    "a huge number": (
        HTTP + "retries = 0x" + "f" * 5000,
        "3:11 deployments.a.retries: a huge number is not in 0–1000; write a whole number from 0 to 1000",
    ),
    "NaN": (
        HTTP + "retry_backoff = nan",
        "3:17 deployments.a.retry_backoff: nan is not in 1–100; write a number from 1 to 100",
    ),
    "infinity": (
        HTTP + "retry_jitter = inf",
        "3:16 deployments.a.retry_jitter: inf is not in 0–10; write a number from 0 to 10",
    ),
    "NaN in a parameter": (
        PYTHON + "parameters = { a = [1, nan] }",
        "3:24 deployments.a.parameters.a[1]: nan is no JSON number; leave it out, or write it as text",
    ),
    "a number no JSON reader takes": (
        "[variables]\nx = 9223372036854775808",
        "2:5 variables.x: 9223372036854775808 has more than 64 bits; write it as text",
    ),
    "text with NUL": (
        '[deployments.a]\nflow = "a\\u0000.py:f"',
        "2:8 deployments.a.flow: holds a control character; remove it",
    ),
    "empty text": (
        '[deployments.a]\nflow = ""',
        '2:8 deployments.a.flow: is empty; write "reports.py:daily", "package.module:flow", "http_request" or "shell"',
    ),
    # durations and sizes
    "a duration of an unknown unit": (
        HTTP + 'timeout = "5 parsecs"',
        '3:11 deployments.a.timeout: "5 parsecs" is not a duration: write it as "90s", "1h30m", "1.5h", "2d", "1w" or '
        '"250ms"',
    ),
    "a duration of a wrong type": (
        HTTP + "timeout = true",
        "3:11 deployments.a.timeout: true is true or false, not a duration; write a duration such as "
        '"90s", "1h30m" or "2d"; a bare number means seconds',
    ),
    "no time at all": (
        HTTP + "timeout = 0",
        "3:11 deployments.a.timeout: 0 is no time at all; write a duration such as "
        '"90s", "1h30m" or "2d"; a bare number means seconds',
    ),
    "a negative duration": (
        HTTP + "late_after = -5",
        "3:14 deployments.a.late_after: -5 is not a duration: it is a number of seconds, zero or more",
    ),
    "an infinite duration": (
        HTTP + "late_after = inf",
        "3:14 deployments.a.late_after: inf is no duration; write a duration such as "
        '"90s", "1h30m" or "2d"; a bare number means seconds',
    ),
    "one wrong duration of a list": (
        HTTP + 'retries = 1\nretry_delay = ["1s", "1q"]',
        '4:22 deployments.a.retry_delay[1]: "1q": there is no unit "q"; units are w, d, h, m, s, ms and us',
    ),
    "a size without a unit that says which": (
        '[retention]\nmax_database_size = "2G"',
        '2:21 retention.max_database_size: "2G": there is no unit "G"; say which: "2GiB" or "2GB"',
    ),
    # names
    "a name with a capital": (
        '[deployments.Daily]\ncommand = "date"',
        '1:14 deployments.Daily: "Daily" is no name; write small letters, digits and _ . - (64 at most), the first a '
        "letter or digit",
    ),
    "a name that is a path": (
        '[deployments."../x"]\ncommand = "date"',
        '1:14 deployments."../x": "../x" is no name; write small letters, digits and _ . - (64 at most), the first a '
        "letter or digit",
    ),
    "the same table twice": (
        SHELL + '\n[deployments.a]\ncommand = "true"',
        "4:14 deployments.a: stands twice, first in line 1; keep one of them",
    ),
    "the same key twice": (
        SHELL + 'cron = "@daily"\ncron = "@hourly"',
        "4:1 deployments.a.cron: stands twice, first in line 3; keep one of them",
    ),
    "names that differ by a dash": (
        '[deployments.a-b]\ncommand = "date"\n[deployments.a_b]\ncommand = "date"',
        '3:14 deployments.a_b: stands twice, first in tidemill.toml:1:14 as "a-b" (_ and - are alike); rename one',
    ),
    # what to run
    "nothing to run": (
        '[deployments.a]\ncron = "@daily"',
        '1:14 deployments.a: does not say what to run; add url = "https://…", command = "…", argv = ["…"] or '
        'flow = "reports.py:daily"',
    ),
    "two things to run": (
        HTTP + 'command = "date"',
        '3:1 deployments.a.command: stands beside "url": a deployment runs one thing; keep one',
    ),
    "a flow beside its short form": (
        '[deployments.a]\nflow = "http_request"\nurl = "http://h/"',
        '3:1 deployments.a.url: stands beside "flow": a deployment runs one thing; leave out flow: url says it '
        'already; or put url under "parameters"',
    ),
    "an entrypoint without a function": (
        '[deployments.a]\nflow = "reports.py"',
        '2:8 deployments.a.flow: "reports.py" is no entrypoint; name the function: "reports.py:daily"',
    ),
    "an entrypoint that is nearly a built-in flow": (
        '[deployments.a]\nflow = "http-requests"',
        '2:8 deployments.a.flow: "http-requests" is no entrypoint; did you mean "http_request"?',
    ),
    "an entrypoint of no form": (
        '[deployments.a]\nflow = "reports:daily()"',
        '2:8 deployments.a.flow: "reports:daily()" is no entrypoint; write "reports.py:daily", "package.module:flow", '
        '"http_request" or "shell"',
    ),
    "an entrypoint outside": (
        '[deployments.a]\nflow = "../x.py:f"',
        '2:8 deployments.a.flow: "../x.py:f" leads out of the flows folder; name the file from there, or set [daemon] '
        "flows",
    ),
    # overridable
    "an overridable that is no parameter": (
        HTTP + 'overridable = ["parms"]',
        '3:16 deployments.a.overridable[0]: "parms" is no parameter of http_request; did you mean "params"?',
    ),
    "an overridable that decides what runs": (
        SHELL + 'overridable = ["stdin", "command"]',
        '3:25 deployments.a.overridable[1]: "command" may be set by the file only: who may start a run must not '
        "choose what runs; take it off the list, or write a Python flow",
    ),
    # schedules
    "a bad cron in the short form": (
        SHELL + 'cron = "0 25 * * *"',
        '3:8 deployments.a.cron: "0 25 * * *": hour 25 is not in 0–23',
    ),
    "a bad cron in a list": (
        SHELL + '[[deployments.a.schedules]]\ncron = "0 9 * * *"\n[[deployments.a.schedules]]\n  cron = "0 25 * * *"',
        '6:10 deployments.a.schedules[1].cron: "0 25 * * *": hour 25 is not in 0–23',
    ),
    "a bad cron in an inline table": (
        SHELL + 'schedules = [{ cron = "0 9 * * *" }, { cron = "0 25 * * *" }]',
        '3:47 deployments.a.schedules[1].cron: "0 25 * * *": hour 25 is not in 0–23',
    ),
    "a bad rrule": (
        SHELL + 'rrule = "FREQ=NEVER"',
        "3:9 deployments.a.rrule:",
    ),
    "two rules": (
        SHELL + 'cron = "@daily"\ninterval = "1h"',
        '4:1 deployments.a.interval: stands beside "cron": a schedule has one rule; keep one, or write a list of '
        "schedules",
    ),
    "no rule": (
        SHELL + 'timezone = "UTC"',
        '3:1 deployments.a.timezone: there is no rule that says when; add cron = "0 9 * * *", interval = "15m", '
        'rrule = "…" or at = 2030-01-01T00:00:00',
    ),
    "a name for the deployment": (
        SHELL + 'name = "daily"',
        "3:1 deployments.a.name: there is no rule that says when; a deployment has the name of its table; or, for its "
        'schedule, add cron = "0 9 * * *"',
    ),
    "a rule beside a list": (
        SHELL + 'cron = "@daily"\nschedules = []',
        "3:1 deployments.a.cron: stands beside a list of schedules; put it into one of them",
    ),
    "schedules with one bracket": (
        SHELL + '[deployments.a.schedules]\ncron = "@daily"',
        "3:1 deployments.a.schedules: {…} is a table, not a list of tables; write [[deployments.a.schedules]] with two "
        "brackets",
    ),
    "a schedule that is no table": (
        SHELL + 'schedules = ["@daily"]',
        '3:14 deployments.a.schedules[0]: "@daily" is text, not a table; write { cron = … }',
    ),
    "more schedules than anybody reads": (
        SHELL + "schedules = [" + '{ cron = "@daily" }, ' * 101 + "]",
        "3:13 deployments.a.schedules: holds 101 schedules, more than 100; use an rrule",
    ),
    "more dates than anybody reads": (
        SHELL + 'cron = "@daily"\nexclude = [' + "2026-12-24, " * 1001 + "]",
        "4:11 deployments.a.exclude: holds 1001 dates, more than 1000; shorten the list",
    ),
    "more tags than anybody reads": (
        SHELL + "tags = [" + '"x", ' * 101 + "]",
        "3:8 deployments.a.tags: holds 101 texts, more than 100; shorten the list",
    ),
    "more addresses than a daemon needs": (
        "[api]\nlisten = [" + '"localhost:1", ' * 17 + "]",
        "2:10 api.listen: holds 17 addresses, more than 16; shorten the list",
    ),
    "a list without a delay": (
        SHELL + "retries = 1\nretry_delay = []",
        "4:15 deployments.a.retry_delay: holds 0 durations, not 1–100; write a duration such as",
    ),
    "a text longer than a page": (
        SHELL + f'description = "{"x" * 65537}"',
        "3:15 deployments.a.description: is longer than 65536 characters; shorten it",
    ),
    "a size of a wrong type": (
        "[retention]\nmax_database_size = true",
        "2:21 retention.max_database_size: true is true or false, not a size; write a size such as",
    ),
    "a size too small for a database": (
        '[retention]\nmax_database_size = "5kB"',
        '2:21 retention.max_database_size: "5kB" is less than 1MiB; write a size such as',
    ),
    "the same schedule twice": (
        SHELL + 'schedules = [{ cron = "@daily" }, { cron = "@daily" }]',
        "3:35 deployments.a.schedules[1]: says the same as schedules[0]; keep one of them, or give each its own name",
    ),
    "two schedules of one name": (
        SHELL + 'schedules = [{ name = "x", cron = "@daily" }, { name = "x", cron = "@hourly" }]',
        "3:47 deployments.a.schedules[1]: has the name of schedules[0]; keep one of them, or give each its own name",
    ),
    "an unknown key of a schedule": (
        SHELL + 'schedules = [{ corn = "@daily" }]',
        '3:16 deployments.a.schedules[0].corn: is no key of this table; did you mean "cron"?',
    ),
    "an unknown zone": (
        SHELL + 'cron = "@daily"\ntimezone = "Europe/Helsinky"',
        '4:12 deployments.a.timezone: "Europe/Helsinky" is not a time zone; did you mean "Europe/Helsinki"',
    ),
    "a zone in small letters": (
        '[daemon]\ntimezone = "europe/helsinki"',
        '2:12 daemon.timezone: "europe/helsinki" is not a time zone; did you mean "Europe/Helsinki"?',
    ),
    "a zone that is a path": (
        '[daemon]\ntimezone = "../../etc/passwd"',
        '2:12 daemon.timezone: "../../etc/passwd" is not a time zone; write it as in "Europe/Helsinki" or "UTC"',
    ),
    "an end before the start": (
        SHELL + 'cron = "@daily"\nstart = 2026-01-02T00:00:00\nend = 2026-01-01T00:00:00',
        "5:7 deployments.a.end: end is not later than start; no fire is between them",
    ),
    "a date that is none": (
        SHELL + 'at = "tomorrow"',
        '3:6 deployments.a.at: "tomorrow" is no date with time; write 2026-03-29T02:30:00 (in the schedule\'s zone) or '
        "2026-03-29T02:30:00+02:00",
    ),
    "a time of day for a date": (
        SHELL + "at = 07:30:00",
        "3:6 deployments.a.at: 07:30:00 is a time of day, not a date with time; write 2026-03-29T02:30:00",
    ),
    "an excluded date that is none": (
        SHELL + 'cron = "@daily"\nexclude = [2026-12-24, "Xmas"]',
        '4:24 deployments.a.exclude[1]: "Xmas" is no date; write a list of dates: [2026-12-24, 2026-12-25]',
    ),
    "a date at the end of the calendar": (
        SHELL + 'at = 0001-01-01T00:00:00\ntimezone = "Asia/Tokyo"',
        "3:6 deployments.a.at: reaches beyond the calendar; choose nearer dates",
    ),
    # pools and queues
    "an unknown pool": (
        SHELL + 'work_pool = "defualt"',
        '3:13 deployments.a.work_pool: there is no work pool "defualt"; did you mean "default"?',
    ),
    "an unknown pool like none": (
        SHELL + 'work_pool = "etl"',
        '3:13 deployments.a.work_pool: there is no work pool "etl"; add [work_pools.etl], or use "default"',
    ),
    "a queue of another pool": (
        "[work_pools.etl]\n[work_queues.q]\n" + SHELL + 'work_pool = "etl"\nwork_queue = "q"',
        '5:13 deployments.a.work_pool: work queue "q" stands in front of work pool "default", not "etl"; write '
        '"default", or name another queue',
    ),
    "a pool's own queue elsewhere": (
        '[work_pools.etl]\n[work_queues.etl]\nwork_pool = "default"',
        '3:13 work_queues.etl.work_pool: a queue of the name of work pool "etl" stands in front of that one; write '
        '"etl", or rename the queue',
    ),
    "an unknown type of pool": (
        '[work_pools.etl]\ntype = "inlin"',
        '2:8 work_pools.etl.type: "inlin" is not one of its words; did you mean "inline"?',
    ),
    "two interpreters": (
        '[work_pools.etl]\ntype = "process"\npython = "/bin/python3"\nproject = "/srv"',
        '4:1 work_pools.etl.project: stands beside "python"; keep one',
    ),
    "an interpreter in nobody's home": (
        '[work_pools.etl]\ntype = "process"\npython = "~/bin/python3"',
        '3:10 work_pools.etl.python: "~/bin/python3": ~ is not expanded, a daemon may have no home; write',
    ),
    "hardly any memory": (
        '[work_pools.etl]\ntype = "process"\nmemory_limit = "1MiB"',
        '3:16 work_pools.etl.memory_limit: "1MiB" is less than 16MiB; write a size such as "512MiB"',
    ),
    "an environment that is no text": (
        '[work_pools.etl]\ntype = "process"\nenv = { A = 1 }',
        "3:13 work_pools.etl.env.A: 1 is a whole number, not text; write a table of texts",
    ),
    "a variable that cannot be": (
        '[work_pools.etl]\ntype = "process"\nenv = { "A=B" = "1" }',
        '3:17 work_pools.etl.env."A=B": "A=B" is no name of an environment variable; write a table of texts',
    ),
    # addresses
    "an address without a port": (
        '[api]\nlisten = "127.0.0.1"',
        '2:10 api.listen: "127.0.0.1" is no address; write "127.0.0.1:4200", "[::1]:4200", "localhost:4200" or '
        '"unix:/path/to.sock"',
    ),
    "a port out of bounds": (
        '[api]\nlisten = ["127.0.0.1:4200", "127.0.0.1:70000"]',
        '2:29 api.listen[1]: "127.0.0.1:70000": port 70000 is not in 0–65535; write "127.0.0.1:4200"',
    ),
    "an IP address that is none": (
        '[api]\nlisten = "127.0.0.256:4200"',
        '2:10 api.listen: "127.0.0.256:4200": "127.0.0.256" is no IP address; write "127.0.0.1:4200"',
    ),
    "a socket beside the file": (
        '[api]\nlisten = "unix:api.sock"',
        '2:10 api.listen: "unix:api.sock" names no absolute path; write "127.0.0.1:4200"',
    ),
    "a socket's path longer than the kernel takes": (
        '[api]\nlisten = "unix:/' + "x" * 107 + '"',
        '2:10 api.listen: "unix:/' + "x" * 54 + "…\": a socket's path has at most 107 bytes; choose a shorter one",
    ),
    "an address twice": (
        '[api]\nlisten = ["localhost:1", "localhost:1"]',
        '2:26 api.listen[1]: "localhost:1" stands twice; keep one of them',
    ),
    "a host with a port": (
        '[api]\nallowed_hosts = ["example.org:80"]',
        '2:18 api.allowed_hosts[0]: "example.org:80" is no host name; write host names as a browser sends them',
    ),
    # folders
    "a folder in a home": (
        '[daemon]\nflows = "~/flows"',
        '2:9 daemon.flows: "~/flows": ~ is not expanded, a daemon may have no home; write the whole path',
    ),
    # the text itself
    "text without quotes": (
        "[daemon]\ntimezone = Europe",
        "2:12: invalid value; text stands in quotes; true and false are lower case; a date is 2026-03-29",
    ),
    "no equal sign": (
        "[daemon]\ntimezone 'UTC'",
        "2:10: expected '=' after a key in a key/value pair; write key = value",
    ),
    "an inline table over lines": (
        "[variables]\nx = { a = 1,\n  b = 2 }",
        "2:13: invalid initial character for a key part",
    ),
    "a text that does not end": ('[api]\nlisten = "x\n', "2:12: "),
    "an array that does not end": ("[api]\nlisten = [", "2:11: "),
    "a table within a value": (
        "[daemon]\nflows = 'x'\n[daemon.flows]",
        "3:9 daemon.flows: stands twice, first in line 2; keep one of them",
    ),
    "a number of 5,000 digits": (
        "[variables]\na = 123\nx = 9_" + "9" * 5000,
        "3:5: a number of more than 4300 digits; shorten it",
    ),
    "not UTF-8": (b"[daemon]\nflows = 'K\xe4se'", "2:11: byte 0xe4 is not UTF-8; save the file as UTF-8"),
    "a NUL byte": (b"[daemon]\n\0", "2:1: invalid statement"),
}


@pytest.mark.parametrize(("text", "line"), FAULTS.values(), ids=FAULTS.keys())
def test_a_fault_names_its_place_the_fact_and_the_remedy(
    text: str | bytes, line: str, faults_of: Callable[..., list[str]]
) -> None:
    (fault,) = faults_of(text)
    assert fault.startswith(f"tidemill.toml:{line}"), fault


MANY = """\
[daemon]
timezone = "Mars/Olympus"
grace = "1s"

[deployments.a]
url = "http://h/"
cron = "0 25 * * *"
retries = "x"
work_pool = "nowhere"

[deployments.b]
flow = "reports"

[[deployments.b.schedules]]
interval = "never"

[work_queue.q]
"""


def test_all_faults_are_told_at_once_in_the_order_of_the_file(faults_of: Callable[..., list[str]]) -> None:
    places = [fault.split(" ")[0] + " " + fault.split(" ")[1] for fault in faults_of(MANY)]
    assert places == [
        "tidemill.toml:2:12 daemon.timezone:",
        "tidemill.toml:3:1 daemon.grace:",
        "tidemill.toml:7:8 deployments.a.cron:",
        "tidemill.toml:8:11 deployments.a.retries:",
        "tidemill.toml:9:13 deployments.a.work_pool:",
        "tidemill.toml:12:8 deployments.b.flow:",
        "tidemill.toml:15:12 deployments.b.schedules[0].interval:",
        "tidemill.toml:17:2 work_queue:",
    ]


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_places_are_right_whatever_the_line_ends(ending: str, faults_of: Callable[..., list[str]]) -> None:
    assert faults_of(MANY.replace("\n", ending).encode()) == faults_of(MANY)


def test_a_byte_order_mark_is_no_part_of_the_first_line(faults_of: Callable[..., list[str]]) -> None:
    assert faults_of(b"\xef\xbb\xbf" + MANY.encode()) == faults_of(MANY)


@pytest.mark.parametrize(
    "text",
    [
        '["\\u001b[31m"]',
        '[daemon]\n"\\u001b[31m" = 1',
        '[daemon]\ntimezone = "\\u001b[31m"',
        '[daemon]\ngrace_period = "\\u001b[31m"',
        '[retention]\nmax_database_size = "\\u001b[31m"',
        '[log]\nlevel = "\\u001b[31m"',
        '[api]\nlisten = "unix:\\u001b[31m"',
        SHELL + 'cron = "\\u001b[31m"',
        SHELL + 'rrule = "\\u001b[31m"',
        SHELL + 'at = "\\u001b[31m"',
        SHELL + 'work_pool = "\\u001b[31m"',
        '[deployments.a]\nflow = "\\u001b[31m"',
        "[daemon]\n\x1b[31m",
    ],
)
def test_a_fault_steers_no_terminal(text: str, faults_of: Callable[..., list[str]]) -> None:
    (fault,) = faults_of(text)
    assert "\x1b" not in fault
