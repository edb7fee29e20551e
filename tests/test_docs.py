"""The pages say what the code does: held against the code itself."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tidemill.cli.main import COMMANDS, build, shared_options
from tidemill.config import keys, reference
from tidemill.config.automation_keys import AUTOMATION, THEN, WHEN
from tidemill.core.builtins import BUILTIN_PARAMETERS
from tidemill.core.deployments import CatchUp, CollisionStrategy
from tidemill.core.placeholders import PLACEHOLDERS
from tidemill.services.metrics import METRICS

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]


def text(name: str) -> str:
    return (ROOT / name).read_text()


def commands(parser: argparse.ArgumentParser, words: tuple[str, ...] = ()) -> Iterator[tuple[str, set[str]]]:
    """Yield every command that does something, with its own options."""
    below = [each for each in parser._actions if isinstance(each, argparse._SubParsersAction)]
    if below:
        for name, each in below[0].choices.items():
            yield from commands(each, (*words, name))
        return
    shared = {option for each in shared_options()._actions for option in each.option_strings} | {"-h", "--help"}
    own = [each for each in parser._actions if each.option_strings and not shared & set(each.option_strings)]
    yield " ".join(words), {max(each.option_strings, key=len) for each in own}


@pytest.mark.parametrize(
    ("command", "options"), [pytest.param(*each, id=each[0]) for each in commands(build(list(COMMANDS)))]
)
def test_every_command_and_option_is_on_the_commands_page(command: str, options: set[str]) -> None:
    rows = [line for line in text("docs/commands.md").splitlines() if re.match(rf"\| `{command}[ `]", line)]
    assert len(rows) == 1
    assert set(re.findall(r"--[a-z-]+", rows[0])) == options


def test_the_commands_page_names_no_command_that_is_not_there() -> None:
    rows = re.findall(r"^\| `([a-z][a-z -]*[a-z])(?: [\[A-Z].*?)?` \|", text("docs/commands.md"), re.MULTILINE)
    assert set(rows) == {command for command, _ in commands(build(list(COMMANDS)))}


def test_the_configuration_page_is_the_one_that_make_docs_writes() -> None:
    assert text("docs/configuration.md") == reference.page(), "the keys have changed since: run `make docs`"


def test_the_configuration_page_has_every_table_and_every_list_of_keys() -> None:
    """A new table goes into config/reference.py, or it is told of nowhere."""
    headers = "\n".join(section.header for section in reference.SECTIONS)
    assert not {name for name in keys.TABLES if not re.search(rf"\[{name}[.\]]", headers)}
    told = {key for section in reference.SECTIONS for key in section.keys.values()}
    listed = {
        key
        for name, table in vars(keys).items()
        if isinstance(table, dict) and not name.startswith("_")
        for key in table.values()
        if isinstance(key, keys.Key)
    }
    assert {key.name for key in listed - told} == set()


def test_every_metric_is_on_its_page_as_it_is_told() -> None:
    rows = re.findall(r"^\| `(tidemill_\w+)` \| (\w+) \| (.*?) \| (.*?) \|$", text("docs/metrics.md"), re.MULTILINE)
    assert rows == [
        (metric.name, metric.kind, ", ".join(f"`{label}`" for label in metric.labels), metric.help)
        for metric in METRICS
    ]


@pytest.mark.parametrize("flow", sorted(BUILTIN_PARAMETERS))
def test_every_parameter_of_a_built_in_flow_is_on_its_page(flow: str) -> None:
    section = text("docs/built-in-flows.md").split(f"## `{flow}`")[1].split("\n## ")[0]
    missing = {name for name in BUILTIN_PARAMETERS[flow] if f"`{name}`" not in section}
    assert not missing


@pytest.mark.parametrize("word", [*CatchUp, *CollisionStrategy])
def test_every_policy_is_on_the_page_about_time(word: str) -> None:
    assert f'"{word}"' in text("docs/time.md")


@pytest.mark.parametrize("word", [*WHEN, *AUTOMATION, *THEN, *(f"{{{each}}}" for each in PLACEHOLDERS)])
def test_every_key_and_placeholder_is_on_the_page_about_automations(word: str) -> None:
    page = text("docs/automations.md")
    assert f"`{word}`" in page or f"{word} = " in page


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
