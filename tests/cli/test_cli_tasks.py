"""Task runs, variables, blocks, limits and pauses on the command line, against a live daemon and one that is down."""
# ruff: noqa: F811 - the fixture and the argument that is it

from __future__ import annotations

import json
from typing import Any

import pytest
from msgspec.structs import replace
from test_cli_live import Shell, shell  # noqa: F401 - a fixture

from tidemill.core.runs import FlowRun
from tidemill.core.states import StateType
from tidemill.store import variables
from tidemill.store.runs import CREATE_RUNS


def running(shell: Shell) -> FlowRun:
    mill = shell.daemon.mill
    found: FlowRun = shell.do(mill.begin(shell.do(mill.add())))
    return found


def child_of(shell: Shell, parent: FlowRun) -> FlowRun:
    mill = shell.daemon.mill
    fields: dict[str, Any] = {"seq": mill.store.next_seq(), "id": mill.ids.new(shell.daemon.clock.now())}
    child = replace(parent, **fields, name="kid", flow="child", deployment=None, parent_run_id=parent.id)
    child = replace(child, state=replace(parent.state, type=StateType.PENDING, name="Pending"), state_number=1)
    shell.do(mill.store.write(CREATE_RUNS, child))
    return child


def test_task_runs_are_listed_with_the_flow_run_they_belong_to(shell: Shell) -> None:
    assert shell.text("task-run", "ls") == "No task runs yet: flows with @task make them.\n"
    run = running(shell)
    for name, kind in (("fetch", StateType.COMPLETED), ("store", StateType.FAILED)):
        shell.do(shell.daemon.mill.task(run, name, kind))
    head, store, fetch = shell.text("task-run", "ls").splitlines()
    assert head.split() == ["ID", "NAME", "STATE", "FLOW", "RUN", "START", "TOOK"]
    assert store.split()[1:4] == ["store", "Failed", run.id[-8:]]
    assert fetch.split()[1:3] == ["fetch", "Completed"]
    listed = shell.json("task-run", "ls", "--flow-run", run.name, "--state", "failed")
    assert [(each["name"], each["flow_run_id"]) for each in listed] == [("store", run.id)]
    assert shell.text("task-run", "ls", "--name", "nothing") == "No task runs match.\n"
    one = shell.text("task-run", "inspect", listed[0]["id"])
    assert f"Flow run  {run.id}" in one
    assert shell.json("task_run", "inspect", listed[0]["id"]) == listed[0]
    assert shell.run("task-run", "inspect", "nothing")[0] == 4


def test_a_table_of_task_runs_fits_80_columns_with_whole_names(
    shell: Shell,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    long = "a-task-with-a-name-of-its-own-that-is-longer-than-people-usually-think-of-" + "x" * 60
    shell.do(shell.daemon.mill.task(running(shell), long))
    text = shell.text("task-run", "ls")
    assert long in text
    assert all(len(line) <= 80 for line in text.splitlines() if long not in line)


def test_a_run_shows_its_parent_its_task_runs_and_what_it_began(shell: Shell) -> None:
    run = running(shell)
    shell.do(shell.daemon.mill.task(run, "fetch"))
    child = child_of(shell, run)
    text = shell.text("flow-run", "inspect", run.id)
    assert "Task runs (1)" in text
    assert "fetch" in text
    assert "\nBegan\n" in text
    assert "kid" in text
    assert f"Parent      {run.id}" in shell.text("flow-run", "inspect", child.id)
    assert "PARENT" in shell.text("flow-run", "ls").splitlines()[0]
    found = shell.json("flow-run", "inspect", run.id)
    assert [each["name"] for each in found["task_runs"]] == ["fetch"]
    assert [each["id"] for each in found["children"]] == [child.id]


def test_a_paused_run_is_resumed_with_an_input(shell: Shell) -> None:
    mill = shell.daemon.mill
    run = shell.do(mill.pause_run(running(shell)))
    code, _, error = shell.run("flow-run", "resume", run.id, "--input", "yes")
    assert (code, error) == (1, "tidemill: --input is not JSON; a text stands in two kinds of quotes: '\"yes\"'\n")
    text = shell.text("flow-run", "resume", run.id, "--input", '{"ok": true}')
    assert text == f"{run.name} ({run.id[-8:]}) is Running\n"
    assert mill.given == [{"ok": True}]
    code, _, error = shell.run("flow-run", "resume", run.id)
    assert code == 1
    assert "only a paused run is resumed" in error


def test_variables_say_what_holds_and_where_it_is_from(shell: Shell) -> None:
    assert "No variables" in shell.text("variable", "ls")
    mill, now = shell.daemon.mill, shell.daemon.clock.now()
    shell.do(mill.store.write(variables.STATE_VARIABLES, variables.Stated(values={"region": "fi", "size": 3}, at=now)))
    by_hand = variables.Variable(name="size", value={"n": 4}, created=now, updated=now)
    shell.do(mill.store.write(variables.SET_VARIABLE, by_hand))
    _, region, size = shell.text("variable", "ls").splitlines()
    assert region.split()[:3] == ["region", "fi", "file"]
    assert "set, over the file" in size
    assert shell.text("variable", "get", "region") == "fi\n"
    assert shell.text("variable", "get", "size") == '{"n": 4}\n'
    assert shell.json("variable", "get", "size") == {"n": 4}
    assert "In the file  3" in shell.text("variable", "inspect", "size")
    code, _, error = shell.run("variable", "get", "regio")
    assert (code, error) == (4, 'tidemill: no variable is called "regio"; did you mean region?\n')


def test_blocks_are_shown_without_their_secrets(shell: Shell) -> None:
    """P14"""
    _, api, settings = shell.text("block", "ls").splitlines()
    assert api.split() == ["orders-api", "http_api", "auth.bearer"]
    assert settings.split()[:3] == ["settings", "json", "none"]
    text = shell.text("block", "inspect", "orders-api")
    assert '{"bearer": "********"}' in text
    assert "TOKEN" not in text + json.dumps(shell.json("block", "ls"))


def test_concurrency_limits_show_what_is_taken(shell: Shell) -> None:
    shell.daemon.mill.live_limits = [{"name": "database", "active_slots": 2.5, "waiting": 1}]
    _, api, database = shell.text("concurrency-limit", "ls").splitlines()
    assert api.split() == ["api", "10", "0", "0", "2.5", "yes"]
    assert database.split() == ["database", "5", "2.5", "1", "yes"]
    assert "2.5 of 5 taken, 1 waiting" in shell.text("concurrency-limit", "inspect", "database")


def test_all_of_it_is_read_from_the_database_of_a_daemon_that_is_down(shell: Shell) -> None:
    run = running(shell)
    shell.do(shell.daemon.mill.task(run, "fetch"))
    shell.daemon.stop()
    assert [each["name"] for each in shell.json("task-run", "ls")] == ["fetch"]
    assert [each["name"] for each in shell.json("block", "ls")] == ["orders-api", "settings"]
    assert [each["active_slots"] for each in shell.json("concurrency-limit", "ls")] == [0, 0]
    assert shell.json("variable", "ls") == []
    assert shell.json("flow-run", "inspect", run.id)["task_runs"][0]["name"] == "fetch"
    assert shell.run("flow-run", "resume", run.id)[0] == 3, "changes need the daemon"
