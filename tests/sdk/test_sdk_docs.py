"""The reference pages are complete, and what they say is there is there."""

from __future__ import annotations

import importlib
import inspect
import json
import pkgutil
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import tidemill
from tidemill.sdk.definitions import FlowDefinition, TaskDefinition
from tidemill.sdk.flows import _OPTIONS as FLOW_OPTIONS
from tidemill.sdk.flows import Flow, flow
from tidemill.sdk.runtime import DEPLOYMENT, FLOW_RUN, TASK_RUN
from tidemill.sdk.states import State
from tidemill.sdk.tasks import _OPTIONS as TASK_OPTIONS
from tidemill.sdk.tasks import Task, task

ROOT = Path(__file__).parents[2]
SDK = (ROOT / "docs" / "sdk.md").read_text()
PREFECT = (ROOT / "docs" / "prefect.md").read_text()
NAMES: dict[str, list[str]] = json.loads((Path(__file__).parent / "tutorials" / "prefect_names.json").read_text())
ROOMS = (
    "artifacts blocks cache_policies concurrency context deployments events exceptions flow_runs flows futures logging "
    "runtime states task_runners tasks transactions utilities variables"
).split()


def modules() -> list[ModuleType]:
    """Every module that flow code imports, the built-in flows aside."""
    found = []
    for room in ROOMS:
        module = importlib.import_module(f"tidemill.{room}")
        found.append(module)
        if hasattr(module, "__path__") and room != "flows":
            found += [
                importlib.import_module(f"{module.__name__}.{each.name}")
                for each in pkgutil.iter_modules(module.__path__)
            ]
    return found


def told(name: str, page: str) -> bool:
    return re.search(rf"`[^`]*\b{re.escape(name)}\b[^`]*`", page) is not None


def options(definition: type) -> list[str]:
    return [name for name in inspect.signature(definition.__init__).parameters if name not in ("self", "fn")]


@pytest.mark.parametrize(
    ("definition", "decorator", "taken"), [(FlowDefinition, flow, FLOW_OPTIONS), (TaskDefinition, task, TASK_OPTIONS)]
)
def test_every_option_is_told_on_the_page_and_in_the_docstring(definition: type, decorator: Any, taken: Any) -> None:
    listed = options(definition)
    assert [name for name in listed if not told(name, SDK)] == []
    assert [name for name in listed if not re.search(rf"\b{name}\b", decorator.__doc__)] == []
    assert sorted(taken) == sorted(listed)  # what with_options takes


@pytest.mark.parametrize("module", modules(), ids=lambda module: module.__name__)
def test_every_public_name_of_a_room_is_on_the_page_and_has_a_docstring(module: ModuleType) -> None:
    names = getattr(module, "__all__", [])
    assert [name for name in names if not told(name, SDK)] == []
    assert module.__doc__
    for name in names:
        value = getattr(module, name)
        if inspect.isfunction(value) or inspect.isclass(value):
            assert value.__doc__, name


def test_the_top_level_is_on_the_page_and_loads() -> None:
    for name in tidemill.__all__:
        if name != "__version__":
            assert told(name, SDK), name
            assert getattr(tidemill, name) is not None
    with pytest.raises(AttributeError, match="nonesuch"):
        tidemill.nonesuch  # noqa: B018


def test_the_stub_names_what_the_package_has() -> None:
    """Type checkers read the stub, as the names are loaded when first used."""
    stub = Path(tidemill.__file__).with_suffix(".pyi").read_text()
    found = set(re.findall(r" as (\w+)$", stub, re.MULTILINE)) | {"__version__"}
    assert found == set(tidemill.__all__)


def test_runtime_attributes_and_questions_about_states_are_on_the_page() -> None:
    for name in (*FLOW_RUN, *TASK_RUN, *DEPLOYMENT):
        assert told(name, SDK), name
    assert [
        name for name in vars(State) if name.startswith("is_") and name != "is_of_a_run" and f"{name}()" not in SDK
    ] == []


def test_every_name_in_the_rooms_table_is_there() -> None:
    for line in SDK.splitlines():
        found = re.match(r"\| `(tidemill[\w.]*)`", line)
        if found is None:
            continue
        module = importlib.import_module(found.group(1))
        for name in re.findall(r"`(\w+)[`(]", line.partition("|")[2].partition("|")[2]):
            assert hasattr(module, name) or name in ("load", "aload"), f"{module.__name__}.{name}"


# The table of Prefect's names


def rows() -> dict[tuple[str, str], tuple[str, str]]:
    found: dict[tuple[str, str], tuple[str, str]] = {}
    room = None
    for line in PREFECT.partition("## Every public name")[2].splitlines():
        heading = re.match(r"### `prefect\.?([\w.]*)`", line)
        row = re.match(r"\| `(\w+)` \| ([\w ]+) \| (.*) \|$", line)
        if heading:
            room = heading.group(1)
        elif line.startswith("### "):
            room = None
        elif row and room is not None:
            found[room, row.group(1)] = (row.group(2), row.group(3))
    return found


ROWS = rows()


def test_the_table_has_every_public_name_of_prefect_s_and_no_other() -> None:
    assert set(ROWS) == {(room, name) for room, names in NAMES.items() for name in names}


def test_what_works_or_differs_is_there_under_the_same_path() -> None:
    absent = []
    for (room, name), (status, _) in ROWS.items():
        if status in ("works", "differs"):
            module = importlib.import_module(f"tidemill.{room}" if room else "tidemill")
            try:
                getattr(module, name)
            except AttributeError:
                absent.append(f"{room}.{name}")
    assert absent == []


def test_what_is_not_here_says_what_to_use_and_is_indeed_not_here() -> None:
    for (room, name), (status, note) in ROWS.items():
        assert status in ("works", "differs", "not here")
        if status != "works":
            assert note, f"{room}.{name}"
        if status != "not here":
            continue
        try:
            module = importlib.import_module(f"tidemill.{room}" if room else "tidemill")
        except ModuleNotFoundError:
            continue
        assert name not in getattr(module, "__all__", [])


def test_the_decorated_things_say_what_they_are() -> None:
    assert (repr(Flow(lambda: None)), repr(Task(len))) == ("Flow('unknown-lambda')", "Task('len')")
