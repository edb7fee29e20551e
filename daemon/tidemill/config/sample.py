"""The file that ``tidemill init`` writes."""

from __future__ import annotations

_TEXT = """\
# tidemill: what runs on this machine, and when. Try it out: tidemill check; run it: tidemill start
# Durations are "90s", "1h30m" or "2d", a bare number means seconds. What is not written here has its default.

[daemon]
timezone = "@ZONE@"        # of schedules that name none

# A job is three lines: fetch a JSON document once a day; the answer is kept as a versioned artifact.
[deployments.bored-daily]
url = "https://bored-api.appbrewery.com/random"
cron = "0 9 * * *"
artifact = "activity"      # see it: tidemill artifact inspect activity

# A command, by /bin/sh -ec; argv = ["pg_dump", "app"] would run without a shell.
# [deployments.nightly-backup]
# command = "pg_dump --compress=9 --file=/srv/backup/app.gz app"
# cron = "30 2 * * *"
# timeout = "1h"
# retries = 2
# retry_delay = ["1m", "10m"]

# A Python function: reports.py in the folder "flows" beside this file has def daily(region): …
# [deployments.report]
# flow = "reports.py:daily"
# parameters = { region = "fi" }
# [[deployments.report.schedules]]
# name = "mornings"
# cron = "0 8 * * mon-fri"

# Secrets stay out of this file: { env = "NAME" }, { file = "/path" }, or { credential = "name" } under systemd.
# [deployments.private-api]
# url = "https://api.example.org/v1/orders"
# auth = { bearer = { credential = "orders-token" } }
# interval = "15m"

# Who is told when something fails, and when it is well again; try it: tidemill notify test
# [notify]
# default = "mailto:me@example.org"

[retention]
keep = "90d"               # finished runs; the newest artifacts always stay

[api]
listen = "127.0.0.1:4200"  # [] = none; the command line talks to the daemon over its own socket
"""


def init_text(timezone: str) -> str:
    """Return a commented file with the zone written out. It loads without faults and without warnings."""
    return _TEXT.replace("@ZONE@", timezone)
