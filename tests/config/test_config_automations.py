"""Automations in the file: what is taken, and what is said of what is not."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from tidemill.config import Loaded
from tidemill.config.automation_keys import ACTIONS, CONDITIONS, THEN, WHEN
from tidemill.config.keys import MADE_TABLES
from tidemill.core.automations import (
    Action,
    AllCompleted,
    ArtifactChanges,
    Automation,
    Cancel,
    Condition,
    EntersState,
    InARow,
    IsLate,
    Kind,
    NoneWithin,
    Of,
    Pause,
    Resume,
    Run,
    Tell,
)

Load = Callable[..., Loaded]
FaultsOf = Callable[..., list[str]]

REST = """
[notify]
default = "mailto:me@example.org"
pager = "mailto:pager@example.org"
[deployments.report_a]
url = "https://example.org/a"
artifact = "prices"
[deployments.clean-up]
command = "true"
work_queue = "night"
[deployments.python]
flow = "reports.py:daily"
"""


def written(when: str, then: str = '{ notify = "default" }', more: str = "") -> str:
    return f"[automations.x]\nwhen = {when}\nthen = {then}\n{more}{REST}"


def one(loaded: Loaded) -> Automation:
    return loaded.settings.automations["x"]


# --- what is taken --------------------------------------------------------------------------------------------------

A = Of(deployments=("report_a",))
WHENS: dict[str, Condition] = {
    '{ state = "Failed" }': EntersState(states=("Failed",)),
    '{ state = ["Failed", "Crashed"], deployment = "report_a" }': EntersState(states=("Failed", "Crashed"), of=A),
    '{ state = "Running", for = "2h", tags = "api" }': EntersState(
        states=("Running",), of=Of(tags=("api",)), stays=timedelta(hours=2)
    ),
    '{ late = "10m", deployment = "report-a" }': IsLate(by=timedelta(minutes=10), of=A),  # _ and - are alike
    '{ deployment = "report_a", no = "Completed", within = "25h" }': NoneWithin(
        states=("Completed",), deployments=("report_a",), within=timedelta(hours=25)
    ),
    '{ deployment = ["clean_up", "python"], no = ["Completed", "Skipped"], within = "1d", repeat = "1h" }': NoneWithin(
        states=("Completed", "Skipped"),
        deployments=("clean-up", "python"),
        within=timedelta(days=1),
        repeat=timedelta(hours=1),
    ),
    "{ failures = 3 }": InARow(count=3),
    '{ artifact = ["prices", "made by Python"], deployment = "report_a" }': ArtifactChanges(
        keys=("prices", "made by Python"), deployments=("report_a",)
    ),
    '{ after = ["report_a", "clean_up"], within = "6h" }': AllCompleted(
        deployments=("report_a", "clean-up"), within=timedelta(hours=6)
    ),
}


@pytest.mark.parametrize(("when", "meant"), WHENS.items(), ids=WHENS)
def test_a_condition_is_taken(when: str, meant: Condition, load_text: Load) -> None:
    assert one(load_text(written(when))).when == meant


THENS: dict[str, tuple[Action, ...]] = {
    '{ notify = ["default", "pager"], message = "{reason}!" }': (
        Tell(channel="default", message="{reason}!"),
        Tell(channel="pager", message="{reason}!"),
    ),
    '[{ run = "clean_up", tags = "auto" }, { run = "python", parameters = { key = "{artifact}", n = 3 } }]': (
        Run(deployment="clean-up", tags=("auto",)),
        Run(deployment="python", parameters={"key": "{artifact}", "n": 3}),
    ),
    '[{ cancel = "{run}" }, { cancel = "report-a" }]': (Cancel(what="{run}"), Cancel(what="report_a")),
    '[{ pause = "{deployment}" }, { resume = "clean_up" }]': (
        Pause(kind=Kind.DEPLOYMENT, name="{deployment}"),
        Resume(kind=Kind.DEPLOYMENT, name="clean-up"),
    ),
    '[{ pause_work_queue = "night" }, { resume_work_pool = "process" }]': (
        Pause(kind=Kind.WORK_QUEUE, name="night"),
        Resume(kind=Kind.WORK_POOL, name="process"),
    ),
}


@pytest.mark.parametrize(("then", "meant"), THENS.items(), ids=THENS)
def test_actions_are_taken_in_their_order(then: str, meant: tuple[Action, ...], load_text: Load) -> None:
    assert one(load_text(written('{ state = "Failed", deployment = "report_a" }', then))).then == meant


def test_every_condition_and_every_action_is_tried_here() -> None:
    assert all(any(f"{key} = " in when for when in WHENS) for key in WHEN)
    tried = " ".join([*THENS, "pause_work_pool = resume_work_queue = "])
    assert all(f"{key} = " in tried for key in THEN)
    assert CONDITIONS.keys() <= WHEN.keys()
    assert ACTIONS.keys() <= THEN.keys()


def test_the_rest_of_the_table_is_taken(load_text: Load) -> None:
    more = 'description = "d"\npaused = true\nmax_fires = 2\nper = "1h"\nrounds = 9\n'
    found = one(load_text(written('{ state = "Failed" }', more=more)))
    assert (found.description, found.paused, found.max_fires, found.per, found.rounds) == (
        "d", True, 2, timedelta(hours=1), 9,
    )  # fmt: skip


def test_actions_may_be_tables_of_their_own(load_text: Load) -> None:
    text = '[automations.x.when]\nstate = "Failed"\n'
    text += '[[automations.x.then]]\nnotify = "pager"\n[[automations.x.then]]\nrun = "python"\n'
    assert one(load_text(text + REST)).then == (Tell(channel="pager"), Run(deployment="python"))


# --- what is refused ------------------------------------------------------------------------------------------------

# The condition, the action -> the faults, without the file's name.
FAULTS: dict[str, tuple[str, str, list[str]]] = {
    "no condition": ("{ tags = 'a' }", "", ["2:8 automations.x.when: says no condition; add one of "]),
    "two conditions": (
        '{ state = "Failed", late = "1m" }',
        "",
        ['2:28 automations.x.when.late: stands beside "state"; write two automations'],
    ),
    "a key of another condition": (
        '{ late = "1m", within = "1h" }',
        "",
        ['2:23 automations.x.when.within: does not go with "late"; it goes with "no" or "after"'],
    ),
    "an unknown key": (
        '{ state = "Failed", deploymnt = "report_a" }',
        "",
        ['2:28 automations.x.when.deploymnt: is no key of this table; did you mean "deployment"?'],
    ),
    "an unknown state": (
        '{ state = ["Failed", "complete"] }',
        "",
        ['2:29 automations.x.when.state[1]: "complete" is no state; did you mean "Completed"?'],
    ),
    "an unknown deployment": (
        '{ failures = 2, deployment = ["report_a", "reprot_a"] }',
        "",
        ['2:50 automations.x.when.deployment[1]: there is no deployment "reprot_a"; did you mean "report_a"?'],
    ),
    "a state that stays": (
        '{ state = "Completed", for = "1h" }',
        "",
        ["2:31 automations.x.when.for: a run that is Completed stays so; leave out for, or name a state that"],
    ),
    "a silence of nothing that ends": (
        '{ deployment = "report_a", no = "Running", within = "1h" }',
        "",
        ['2:40 automations.x.when.no: "Running" is no state that a run ends in; write one of Completed, '],
    ),
    "a silence for no time": (
        '{ deployment = "report_a", no = "Completed" }',
        "",
        ['2:35 automations.x.when.no: does not say for how long; add within = "25h"'],
    ),
    "a silence of nobody": (
        '{ no = "Completed", within = "1h" }',
        "",
        ["2:10 automations.x.when.no: does not say whose; add deployment = "],
    ),
    "an empty list": ("{ after = [] }", "", ["2:18 automations.x.when.after: is an empty list; write a deployment's"]),
    "no table": ('"Failed"', "", ['2:8 automations.x.when: "Failed" is text, not a table; write when = { ']),
    "no action": ("", "{ message = 'x' }", ["3:8 automations.x.then: says nothing to do; add one of notify, run, "]),
    "no actions at all": ("", "[]", ["3:8 automations.x.then: is empty; write then = "]),
    "two actions in one": (
        "",
        '[{ run = "python", notify = "default" }]',
        ['3:11 automations.x.then[0].run: stands beside "notify"; write two tables, one for each'],
    ),
    "a key of another action": (
        "",
        '{ notify = "default", parameters = {} }',
        ['3:30 automations.x.then.parameters: does not go with "notify"; it goes with "run"'],
    ),
    "an unknown channel": (
        "",
        '[{ notify = ["default", "pagr"] }]',
        ['3:32 automations.x.then[0].notify[1]: there is no channel "pagr"; did you mean "pager"?'],
    ),
    "an unknown queue": (
        "",
        '{ pause_work_queue = "nigth" }',
        ['3:29 automations.x.then.pause_work_queue: there is no work queue "nigth"; did you mean "night"?'],
    ),
    "an unknown pool": (
        "",
        '{ resume_work_pool = "etl" }',
        ['3:29 automations.x.then.resume_work_pool: there is no work pool "etl"; add it to [work_pools]'],
    ),
    "a placeholder for a queue": (
        "",
        '{ pause_work_queue = "{deployment}" }',
        ['3:29 automations.x.then.pause_work_queue: there is no work queue "{deployment}"; add it to [work_queues]'],
    ),
    "an unknown placeholder": (
        "",
        '{ notify = "default", message = "{reson}" }',
        ['3:40 automations.x.then.message: nothing is called {reson} here; did you mean "reason"?'],
    ),
    "a placeholder deep inside": (
        "",
        '{ run = "python", parameters = { a = [{ b = "{" }] } }',
        ['3:52 automations.x.then.parameters.a[0].b: "{" stands alone; write {{ and }} for braces, or one of '],
    ),
    "a parameter that says what is done": (
        "",
        '{ run = "clean-up", parameters = { command = "rm -r /" } }',
        ["3:53 automations.x.then.parameters.command: is what the deployment does: only its own table says that; "],
    ),
    "an unknown parameter": (
        "",
        '{ run = "clean-up", parameters = { umsk = "022" } }',
        ['3:43 automations.x.then.parameters.umsk: is no parameter of shell; did you mean "umask"?'],
    ),
    "a run where there is none": (
        '{ deployment = "report_a", no = "Completed", within = "1h" }',
        '{ cancel = "{run}" }',
        ["3:19 automations.x.then.cancel: there is no run that it is about; name a deployment"],
    ),
}


@pytest.mark.parametrize(("when", "then", "faults"), FAULTS.values(), ids=FAULTS)
def test_a_fault_is_told_where_it_stands(when: str, then: str, faults: list[str], faults_of: FaultsOf) -> None:
    found = faults_of(written(when or '{ state = "Failed", deployment = "report_a" }', then or '{ run = "python" }'))
    assert len(found) == len(faults)
    for line, start in zip(found, faults, strict=True):
        assert line.startswith(f"tidemill.toml:{start}"), line


def test_what_is_left_out_is_asked_for(faults_of: FaultsOf) -> None:
    assert faults_of("[automations.x]\n" + REST) == [
        'tidemill.toml:1:14 automations.x: does not say when; write when = { deployment = "report", state = "Failed" }',
        'tidemill.toml:1:14 automations.x: does not say then; write then = [{ notify = "default" }]',
    ]


def test_without_a_channel_nobody_can_be_told(faults_of: FaultsOf) -> None:
    (fault,) = faults_of('[automations.x]\nwhen = { state = "Failed" }\nthen = { notify = "default" }\n')
    assert fault.endswith('automations.x.then.notify: there is no channel "default"; add it to [notify]')


def test_a_faulty_deployment_is_there_all_the_same(faults_of: FaultsOf) -> None:
    """One fault is told once, and not again by everybody who names the deployment."""
    (fault,) = faults_of(written('{ state = "Failed", deployment = "bad" }') + "[deployments.bad]\nretries = 1\n")
    assert "does not say what to run" in fault


# --- what is warned of ----------------------------------------------------------------------------------------------

WARNINGS: dict[str, tuple[str, str, str, list[str]]] = {
    "late sooner than it is called so": (
        '{ late = "5s", deployment = "report_a" }',
        "",
        "",
        ["2:17 automations.x.when.late: report_a is called late after 15s only, and this is heard then; write at"],
    ),
    "an artifact that is nearly that": (
        '{ artifact = "price" }',
        "",
        "",
        ['2:21 automations.x.when.artifact: no deployment of this file is known to make an artifact "price"; did you'],
    ),
    "an artifact that Python may make": ('{ artifact = "something-else" }', "", "", []),
    "a circle": (
        '{ state = "Completed" }',
        '{ run = "clean-up" }',
        "",
        ["1:14 automations.x: may set itself off, by a run of clean-up; it stops after 3 rounds; say whose runs in"],
    ),
    "a circle by an artifact": (
        '{ artifact = "prices" }',
        '{ run = "report_a" }',
        "",
        ["1:14 automations.x: may set itself off, by a run of report_a; it stops after 3 rounds"],
    ),
    "a circle that is meant": ('{ state = "Completed" }', '{ run = "clean-up" }', "rounds = 2\n", []),
}  # fmt: skip


@pytest.mark.parametrize(("when", "then", "more", "warnings"), WARNINGS.values(), ids=WARNINGS)
def test_what_is_probably_not_meant_is_warned_of(
    when: str, then: str, more: str, warnings: list[str], load_text: Load
) -> None:
    found = [str(each) for each in load_text(written(when, then or '{ notify = "pager" }', more)).warnings]
    assert len(found) == len(warnings)
    for line, start in zip(found, warnings, strict=True):
        assert line.startswith(f"tidemill.toml:{start}"), line


def test_an_artifact_that_nobody_makes_is_warned_of_where_all_is_known(load_text: Load) -> None:
    text = '[automations.x]\nwhen = { artifact = "unlike" }\nthen = { run = "a" }\n[deployments.a]\ncommand = "true"\n'
    (warning,) = load_text(text).warnings
    assert "no deployment of this file is known to make an artifact" in warning.problem


def test_nobody_makes_an_automation_but_a_person() -> None:
    """P15: what the API and the command line have written holds none."""
    assert "automations" not in MADE_TABLES


PAGE = Path(__file__).parents[2] / "docs" / "automations.md"


def test_the_examples_of_the_page_are_taken(load_text: Load) -> None:
    blocks = re.findall(r"(?ms)^ *```toml\n(.*?)^ *```$", PAGE.read_text())
    assert len(blocks) == 2
    named = ("bored-daily", "extract-a", "extract-b", "load", "report")
    deployments = "".join(f'[deployments.{name}]\ncommand = "true"\n' for name in named)
    loaded = load_text("\n".join(textwrap.dedent(block) for block in blocks) + deployments)
    assert set(loaded.settings.automations) == {"bored-must-succeed", "after-both", "three-strikes", "again"}
    assert loaded.warnings == ()
