"""Crontabs as TOML: that it loads, and says what the crontab said."""

from __future__ import annotations

import tomllib
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidemill.config import Loaded, load
from tidemill.config.crontab_toml import Imported, Source, convert
from tidemill.core.deployments import CollisionStrategy
from tidemill.errors import ConfigError


def imported(text: str, *, runs_as: str | None = None, with_users: bool = False, **more: Any) -> Imported:
    source = Source(label="crontab", text=text, with_users=with_users, owner=None if with_users else runs_as)
    return convert([source], runs_as=runs_as, homes={"www-data": "/var/www"}, **more)


def loaded(found: Imported, folder: Path) -> Loaded:
    file = folder / "tidemill.toml"
    file.write_text(f'daemon.timezone = "UTC"\n{found.toml}')
    return load(file, environ={})


def test_every_feature_arrives_where_it_belongs(tmp_path: Path) -> None:
    text = """\
MAILTO=ops@example.org
A=1
30 2 * * * pg_dump app | gzip > /b/app-$(date +\\%F).gz
*/5 * * * * flock -n /l/sync sync.sh
0 */12 * * * sleep $((RANDOM \\% 3600)) && certbot renew
15 3 * * * timeout 30m report.py
MAILTO=""
0 9 1 * * mail boss%Dear boss
MAILTO=dev@example.org,root
CRON_TZ=America/New_York
SHELL=/bin/bash
HOME=/srv
@reboot start.sh
0 6 * * * a; b
"""
    found = loaded(imported(text), tmp_path).settings
    each = found.deployments
    assert list(each) == ["pg_dump", "sync", "certbot", "report", "mail", "start", "a"]
    assert each["pg_dump"].parameters["command"] == "pg_dump app | gzip > /b/app-$(date +%F).gz"
    assert each["pg_dump"].parameters["env"] == {"A": "1"}
    assert each["pg_dump"].parameters["umask"] == "022"
    assert (each["sync"].concurrency_limit, each["sync"].collision_strategy) == (1, CollisionStrategy.CANCEL_NEW)
    assert each["certbot"].schedules[0].jitter == timedelta(hours=1)
    assert each["report"].timeout == timedelta(minutes=30)
    assert each["mail"].parameters["stdin"] == "Dear boss\n"
    assert each["start"].schedules[0].cron == "@reboot"
    assert each["a"].schedules[0].timezone == "America/New_York"
    assert each["a"].parameters["argv"] == ["/bin/bash", "-c", "a; b"]
    assert each["a"].parameters["cwd"] == "/srv"
    assert {name: channel.to for name, channel in found.notify.items()} == {
        "default": ("ops@example.org",),
        "mail-dev": ("dev@example.org", "root"),
    }
    assert [each[name].notify for name in ("pg_dump", "mail", "a")] == [None, (), ("mail-dev",)]


def test_a_lock_that_several_lines_wait_for_is_a_tag_s_limit(tmp_path: Path) -> None:
    found = loaded(imported("0 1 * * * flock /l/db a\n0 2 * * * flock /l/db b\n"), tmp_path).settings
    assert {each.tags for each in found.deployments.values()} == {("lock-db",)}
    assert found.tag_limits == {"lock-db": 1}


def test_a_lock_that_only_some_wait_for_stays_a_lock(tmp_path: Path) -> None:
    made = imported("0 1 * * * flock /l/db a\n0 2 * * * flock -n /l/db b\n")
    found = loaded(made, tmp_path).settings
    assert [each.parameters["command"] for each in found.deployments.values()] == ["flock /l/db a", "flock -n /l/db b"]
    assert "flock stays: other lines take /l/db" in made.toml


def test_one_command_is_run_as_a_command_and_a_list_by_its_shell(tmp_path: Path) -> None:
    """`command` ends at the first failure, which changes a list."""
    found = loaded(imported("0 1 * * * a && b || c\n0 2 * * * d; e\n0 3 * * * f &\n"), tmp_path).settings
    first, second, third = found.deployments.values()
    assert first.parameters["command"] == "a && b || c"
    assert second.parameters["argv"] == ["/bin/sh", "-c", "d; e"]
    assert third.parameters["argv"] == ["/bin/sh", "-c", "f &"]


# -- users -----------------------------------------------------------------------------------------------------------

USERS = "0 1 * * * root a\n0 2 * * * www-data b\n"


def test_a_daemon_of_root_becomes_the_line_s_user(tmp_path: Path) -> None:
    found = loaded(imported(USERS, runs_as="root", with_users=True), tmp_path).settings.deployments
    assert found["a"].parameters["command"] == "a"
    assert found["b"].parameters["argv"] == ["runuser", "-u", "www-data", "--", "/bin/sh", "-c", "b"]
    assert found["b"].parameters["env"] == {"HOME": "/var/www", "LOGNAME": "www-data", "USER": "www-data"}
    assert found["b"].parameters["cwd"] == "/var/www"


def test_another_s_daemon_takes_only_its_own_lines() -> None:
    found = imported(USERS, runs_as="www-data", with_users=True)
    assert found.deployments == ("b",)
    assert '\ncommand = "b"\n' in found.toml
    ((label, left),) = found.left
    assert (label, left.number) == ("crontab", 1)
    assert "it runs as root, whom a daemon of www-data cannot become" in left.reason
    assert f"# crontab:1: not carried over: {left.reason}\n#   0 1 * * * root a\n" in found.toml


# -- anything --------------------------------------------------------------------------------------------------------


def test_what_is_left_out_stands_as_a_comment_in_its_place() -> None:
    found = imported("0 1 * * * a\n0 25 * * * b\n0 3 * * * c\n")
    places = [found.toml.index(text) for text in ("[deployments.a]", "#   0 25 * * * b", "[deployments.c]")]
    assert places == sorted(places)
    assert tomllib.loads(found.toml)["deployments"].keys() == {"a", "c"}


def test_an_unknown_zone_or_address_is_said(tmp_path: Path) -> None:
    found = imported("MAILTO=$USER\n0 1 * * * a\nCRON_TZ=Europe/Berlni\n0 2 * * * b\n")
    assert "# MAILTO=$USER: " in found.toml
    assert "Europe/Berlin" in found.left[0][1].reason
    assert loaded(found, tmp_path).settings.notify == {}


def test_names_that_would_be_the_same_are_told_apart(tmp_path: Path) -> None:
    found = imported("0 1 * * * /a/run-it\n0 2 * * * /b/run_it\n0 3 * * * /c/run-it.sh\n")
    assert found.deployments == ("run-it", "run_it-2", "run-it-3")
    loaded(found, tmp_path)


def test_with_shadow_nothing_runs_yet() -> None:
    assert tomllib.loads(imported("0 1 * * * a\n", shadow=True).toml)["deployments"]["a"]["mode"] == "shadow"


_WORDS = st.sampled_from(
    "flock -n /l/x timeout 5m sleep $((RANDOM % 30)) && || ; | & ' \" ` $( ) { } \\ % \\% a b=1 [ ] > 2>&1 -c cd # é"
    " = @ \x07".split(" ")
)
_TIMES = st.sampled_from(
    ["0 1 * * *", "*/5 * * * *", "@daily", "@reboot", "x", "0 25 * * *", "A=", "MAILTO=", "SHELL="]
)


@settings(deadline=None, max_examples=300)
@given(st.lists(st.tuples(_TIMES, st.lists(_WORDS, max_size=8)), max_size=6), st.booleans())
def test_whatever_a_crontab_says_what_comes_of_it_is_a_configuration(
    tmp_path_factory: pytest.TempPathFactory, lines: list[tuple[str, list[str]]], with_users: bool
) -> None:
    text = "\n".join(f"{time} {' '.join(words)}" for time, words in lines)
    found = imported(text, runs_as="root", with_users=with_users)
    try:
        settings_found = loaded(found, tmp_path_factory.mktemp("any")).settings
    except ConfigError as error:
        raise AssertionError(f"{text!r} became\n{found.toml}\n{error}") from error
    assert tuple(settings_found.deployments) == found.deployments
    written = [line for line in text.splitlines() if line.strip() and "=" not in line.split()[0]]
    assert len(found.deployments) + len(found.left) <= len(written) + text.count("\x07")
