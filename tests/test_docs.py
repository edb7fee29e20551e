"""The pages say what the code does: held against the code itself."""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tidemill.cli.main import COMMANDS, build, main, shared_options
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


@pytest.mark.parametrize("command", [each for each, _ in commands(build(list(COMMANDS)))])
def test_every_command_says_in_its_help_what_it_does(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*command.split(), "--help"], environ={}) == 0
    _, about, *_ = capsys.readouterr().out.split("\n\n")
    assert about[0].isupper()
    assert about.endswith(".")


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


def blocks(kind: str) -> list[Any]:
    """Return every block of a kind on the pages: its text, called by its page and its place there."""
    fence = re.compile(rf"^ *```{kind}\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
    return [
        pytest.param(textwrap.dedent(block), id=f"{page.stem}-{number}")
        for page in PAGES
        for number, block in enumerate(fence.findall(page.read_text()), 1)
    ]


@pytest.mark.parametrize("block", blocks("toml"))
def test_every_piece_of_configuration_on_the_pages_is_in_order(
    block: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The deployments that a piece speaks of without making them are made for it."""
    file = tmp_path / "tidemill.toml"
    file.write_text(block)
    main(["check", "--no-import", str(file)], environ={})
    absent = sorted(set(re.findall(r'there is no deployment "(.+?)"', capsys.readouterr().out)))
    file.write_text("\n".join([block, *(f'[deployments.{name}]\ncommand = "true"' for name in absent)]))
    assert main(["check", "--no-import", str(file)], environ={}) == 0, capsys.readouterr().out


def test_the_first_example_runs_as_it_stands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The configuration and the flow of the README, pasted into files."""
    (tmp_path / "flows").mkdir()
    (tmp_path / "flows" / "reports.py").write_text(text("README.md").split("```python\n")[1].split("```")[0])
    (tmp_path / "tidemill.toml").write_text(text("README.md").split("```toml\n")[1].split("```")[0])
    assert main(["check", str(tmp_path / "tidemill.toml")], environ={}) == 0, capsys.readouterr().out


def test_the_flow_and_its_test_on_the_page_about_flows_hold(tmp_path: Path) -> None:
    flow, test = re.findall(r"```python\n(.*?)```", text("docs/sdk.md"), re.DOTALL)
    (tmp_path / "reports.py").write_text(flow)
    (tmp_path / "test_reports.py").write_text(test + "\n\ntest_the_report()\n")
    done = subprocess.run(
        [sys.executable, "test_reports.py"], cwd=tmp_path, capture_output=True, text=True, timeout=180
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
