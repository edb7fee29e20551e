"""What another load of the files changes, told in the file's own words."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tidemill.config import Settings, load
from tidemill.config.changes import RESTART, Changes, between, compare, stated
from tidemill.config.keys import SINGLE

JOB = '[deployments.job]\nurl = "https://example.org/a"\ncron = "0 9 * * *"\ntimezone = "UTC"\n'
EVERY_7H = JOB.replace('cron = "0 9 * * *"', 'interval = "7h"')


def settings(folder: Path, text: str) -> Settings:
    path = folder / "tidemill.toml"
    path.write_text(text)
    return load(path, environ={}).settings


def changes(folder: Path, before: str, after: str) -> Changes:
    return between(settings(folder, before), settings(folder, after))


CHANGES = [
    # before, after, and what is told
    (JOB, JOB, []),
    (JOB, JOB + "# another comment\n", []),
    ("# nothing\n", JOB, ["+ deployment job: http_request, 0 9 * * * UTC"]),
    (JOB, "# nothing\n", ["- deployment job"]),
    (JOB, JOB.replace("0 9", "0 10"), ["~ deployment job: schedules 0 9 * * * UTC → 0 10 * * * UTC"]),
    (JOB, JOB.replace("0 9 * * *", "@reboot"), ["~ deployment job: schedules 0 9 * * * UTC → @reboot UTC"]),
    (JOB, JOB.replace('cron = "0 9 * * *"', 'interval = "90s"'), [
        "~ deployment job: schedules 0 9 * * * UTC → every 1m30s"
    ]),
    (EVERY_7H, EVERY_7H.replace("UTC", "Asia/Tokyo"), [
        "~ deployment job: schedules every 7h UTC → every 7h Asia/Tokyo"
    ]),
    (JOB, JOB + 'jitter = "1m"\n', ["~ deployment job: schedules 0 9 * * * UTC → 0 9 * * * UTC + up to 1m"]),
    (JOB, JOB + 'exclude = ["2030-12-24"]\nactive = false\n', [
        "~ deployment job: schedules 0 9 * * * UTC → 0 9 * * * UTC not on 2030-12-24 not active"
    ]),
    (JOB, JOB + 'retries = 3\nretry_delay = ["10s", "1m"]\n', [
        "~ deployment job: retries 0 → 3; retry_delay 0s → 10s, 1m"
    ]),
    (JOB, JOB + "retries = 0\n", ["~ deployment job: retry set, as by default"]),
    (JOB, JOB + 'timeout = "10m"\ntags = ["api"]\n', ["~ deployment job: tags none → api; timeout not set → 10m"]),
    (JOB, JOB.replace("/a", "/b"), ["~ deployment job: parameters (url)"]),
    (JOB, JOB + 'mode = "shadow"\n', ["~ deployment job: mode run → shadow"]),
    (JOB, JOB + 'work_queue = "line"\n', ["~ deployment job: work_queue default → line"]),
    (JOB, JOB + "[work_queues.line]\npriority = 2\n", ["+ work queue line"]),
    (JOB + 'work_queue = "line"\n', JOB + 'work_queue = "line"\n[work_queues.line]\npriority = 2\n', [
        "~ work queue line: priority 1 → 2"
    ]),
    (JOB, JOB + "[work_pools.default]\nconcurrency_limit = 5\n", ["~ work pool default: concurrency_limit 100 → 5"]),
    (JOB + "[variables]\nx = 1\n", JOB + "[variables]\nx = 2\ny = 3\n", [
        "~ variable x: another value", "+ variable y"
    ]),
    (JOB + "[tag_limits]\napi = 1\n", JOB + "[tag_limits]\napi = 2\n", ["~ tag limit api: 1 → 2"]),
    (JOB, JOB + '[daemon]\ngrace_period = "1m"\n', ["~ [daemon]: grace_period 30s → 1m"]),
    (JOB, JOB + "[api]\nlisten = []\n", ["~ [api]: listen 127.0.0.1:4200 → none"]),
]  # fmt: skip


@pytest.mark.parametrize(("before", "after", "wanted"), CHANGES)
def test_a_change_is_told_in_the_files_own_words(tmp_path: Path, before: str, after: str, wanted: list[str]) -> None:
    found = changes(tmp_path, before, after)
    assert [str(change) for change in found.all] == wanted
    assert bool(found) == bool(wanted)


@pytest.mark.parametrize(("before", "after", "wanted"), CHANGES)
def test_what_came_over_a_wire_is_compared_alike(tmp_path: Path, before: str, after: str, wanted: list[str]) -> None:
    """`tidemill check` has one of the two from the daemon, as JSON."""
    told = json.loads(json.dumps(stated(settings(tmp_path, before))))
    assert [str(change) for change in compare(told, stated(settings(tmp_path, after))).all] == wanted


def test_values_that_may_be_nobodys_business_are_not_told(tmp_path: Path) -> None:
    """P14: a file may hold a secret in plain text."""
    before = JOB + 'headers = { x-token = "hunter2-before" }\n[variables]\ntoken = "hunter2-before"\n'
    before += '[work_pools.process]\nenv = { TOKEN = "hunter2-before" }\n'
    found = changes(tmp_path, before, before.replace("before", "after"))
    assert len(found.all) == 3
    assert "hunter2" not in found.summary()


def test_deployments_come_first_and_what_is_too_much_for_a_line_is_counted(tmp_path: Path) -> None:
    after = "".join(f'[deployments.d{number}]\ncommand = "x"\n' for number in range(30)) + "[variables]\na = 1\n"
    found = changes(tmp_path, "[variables]\na = 0\n", after)
    assert found.names("added") == tuple(f"d{number}" for number in range(30))
    assert found.summary(2) == "+ deployment d0: shell, no schedule, + deployment d1: shell, no schedule, and 29 more"
    assert str(found.all[-1]) == "~ variable a: another value"


def test_keys_that_are_read_at_a_start_only_are_named(tmp_path: Path) -> None:
    found = changes(tmp_path, JOB, JOB + '[api]\nlisten = []\nsample = true\n[log]\nformat = "json"\nlevel = "debug"\n')
    assert set(found.restart) == {"api.listen", "log.format"}


def test_there_are_such_keys() -> None:
    for key in RESTART:
        table, _, name = key.partition(".")
        assert name in SINGLE[table]
