"""The house's rules about itself, read off its source: floors, clocks, ids, file sizes, where SQL stands.

The layer contract of import-linter says the floors too; this one also sees imports inside functions, under
TYPE_CHECKING and by name, which is where circles hide.
"""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "daemon" / "tidemill"

# docs/architecture.md, "The floors": an arrow points to a lower number only. Floor 0's modules may use each other
# (no circles); modules of one floor above it that are not one package may not.
FLOORS = {
    "cli": 7,
    "testing": 7,
    "__main__": 8,
    "daemon": 6.5,
    "api": 6,
    "services": 5,
    "runners": 4,
    "flows": 3,
    # What flow code imports, under Prefect's names: thin rooms over the sdk.
    **dict.fromkeys(
        "artifacts blocks cache_policies concurrency context deployments events exceptions flow_runs futures logging "
        "runtime states task_runners tasks transactions utilities variables".split(),
        2.5,
    ),
    "config": 2,
    "store": 2,
    "sdk": 2,
    "telemetry": 2,
    "core": 1,
    "errors": 0,
    "clock": 0,
    "durations": 0,
    "ids": 0,
    "systemd": 0,
    "": 0,  # the package itself: its version
}
LONGEST_FILE = 600


parsed = functools.cache(ast.parse)


@functools.cache
def sources() -> dict[str, str]:
    """Every module's text by its dotted name."""
    found = {}
    for path in sorted(SOURCE.rglob("*.py")):
        parts = ("tidemill", *path.relative_to(SOURCE).with_suffix("").parts)
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path.read_text()
    return found


def imports(module: str, text: str, modules: Iterable[str], *, package: bool = False) -> set[str]:
    """The project's modules that a module imports, wherever in it the import stands."""
    known, found = set(modules), set()
    for node in ast.walk(parsed(text)):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = module.split(".")[: None if package and node.level == 1 else (1 if package else 0) - node.level]
                base = ".".join([*above, *([base] if base else [])])
            names = [f"{base}.{alias.name}" if f"{base}.{alias.name}" in known else base for alias in node.names]
        elif isinstance(node, ast.Call) and _dotted(node.func).endswith(("import_module", "__import__")):
            names = [arg.value for arg in node.args if isinstance(arg, ast.Constant) and isinstance(arg.value, str)]
        found |= {name for name in names if name == "tidemill" or name.startswith("tidemill.")}
    return found - {module}


def graph(texts: Mapping[str, str]) -> dict[str, set[str]]:
    packages = {name.rpartition(".")[0] for name in texts}
    return {name: imports(name, text, texts, package=name in packages) for name, text in texts.items()}


def circle(edges: Mapping[str, set[str]]) -> list[str]:
    """One circle of imports, or nothing."""
    done: set[str] = set()

    def visit(module: str, path: list[str]) -> list[str]:
        if module in path:
            return [*path[path.index(module) :], module]
        if module in done:
            return []
        for target in sorted(edges.get(module, ())):
            if found := visit(target, [*path, module]):
                return found
        done.add(module)
        return []

    return next((found for module in sorted(edges) if (found := visit(module, []))), [])


def climbs(edges: Mapping[str, set[str]]) -> list[str]:
    """Every import that does not point down."""
    faults = []
    for module, targets in edges.items():
        for target in targets:
            here, there = _room(module), _room(target)
            if here not in FLOORS or there not in FLOORS:
                faults.append(f"{module} -> {target}: no floor is named for {here if here not in FLOORS else there!r}")
            elif here != there and not (FLOORS[here] > FLOORS[there] or FLOORS[here] == FLOORS[there] == 0):
                faults.append(f"{module} (floor {FLOORS[here]}) -> {target} (floor {FLOORS[there]})")
    return faults


def _room(module: str) -> str:
    return module.partition(".")[2].partition(".")[0]


def _dotted(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return f"{_dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


WALL_CLOCK = re.compile(
    r"(^|\.)(time\.(time|time_ns|ctime|localtime|gmtime|asctime)|datetime\.(now|utcnow|today)|date\.today)$"
)
CHANCE = re.compile(r"^(uuid\.uuid[14]|random\.(?!Random$)\w+|secrets\.\w+|os\.(urandom|getrandom))$")


def uses(text: str, forbidden: re.Pattern[str]) -> Iterator[str]:
    """Where a module names something that ``forbidden`` matches, under whatever name it was imported."""
    tree = parsed(text)
    imported: dict[str, str] = {}  # a variable called "secrets" is not the module
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for name in node.names:
                first = name.name.partition(".")[0]
                imported |= {name.asname: name.name} if name.asname else {first: first}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            imported |= {name.asname or name.name: f"{node.module}.{name.name}" for name in node.names}

    def real(expression: ast.expr) -> str:
        first, dot, rest = _dotted(expression).partition(".")
        return imported[first] + dot + rest if first in imported else ""

    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute | ast.Name) and forbidden.search(real(node)):
            yield f"line {node.lineno}: {real(node)}"
        unseeded = isinstance(node, ast.Call) and not node.args and real(node.func) == "random.Random"
        if forbidden is CHANCE and unseeded:
            yield f"line {node.lineno}: random.Random() without a seed"


_SQL = (
    r"SELECT\s.+\sFROM\s|INSERT\s+(OR\s+\w+\s+)?INTO\s|UPDATE\s+\w+\s+SET\s|DELETE\s+FROM\s|WITH\s+\w+.*\sAS\s*\(|"
    r"(CREATE|ALTER|DROP)\s+(TABLE|INDEX|VIEW|TRIGGER)\s"
)
# In capitals or in small letters: a sentence that begins with "Select" is prose.
SQL = re.compile(rf"^\s*({_SQL}|{re.sub('[A-Z]+', lambda word: word[0].lower(), _SQL)})", re.DOTALL)


def statements(text: str) -> Iterator[str]:
    """Where a module has a string that is an SQL statement."""
    for node in ast.walk(parsed(text)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and SQL.match(node.value):
            yield f"line {node.lineno}: {' '.join(node.value.split())[:60]}"


def test_no_import_goes_in_a_circle() -> None:
    assert circle(graph(sources())) == []


def test_every_import_points_down() -> None:
    assert climbs(graph(sources())) == []


def test_only_the_clock_reads_the_wall_clock() -> None:
    texts = {name: text for name, text in sources().items() if name != "tidemill.clock"}
    assert {name: found for name, text in texts.items() if (found := list(uses(text, WALL_CLOCK)))} == {}


def test_only_ids_draws_ids_and_chance() -> None:
    """Everyone else is given a source, or makes ``random.Random(seed)`` from a seed."""
    texts = {name: text for name, text in sources().items() if name != "tidemill.ids"}
    assert {name: found for name, text in texts.items() if (found := list(uses(text, CHANCE)))} == {}


def test_sql_stands_in_sql_files() -> None:
    texts = {name: text for name, text in sources().items() if _room(name) != "store"}
    assert {name: found for name, text in texts.items() if (found := list(statements(text)))} == {}


def test_no_file_is_longer_than_a_noun() -> None:
    lengths = {name: text.count("\n") for name, text in sources().items()}
    assert {name: count for name, count in lengths.items() if count > LONGEST_FILE} == {}


# That the checks above can fail: what each has to see.

HIDDEN_IMPORTS = {
    "plain": "import tidemill.b",
    "from a package": "from tidemill import b",
    "of a name": "from tidemill.b import thing",
    "relative": "from . import b",
    "relative name": "from .b import thing",
    "inside a function": "def f():\n    from tidemill import b",
    "under TYPE_CHECKING": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import tidemill.b",
    "by its name": "import importlib\nimportlib.import_module('tidemill.b')",
}


@pytest.mark.parametrize("text", HIDDEN_IMPORTS.values(), ids=HIDDEN_IMPORTS)
def test_an_import_is_seen_wherever_it_stands(text: str) -> None:
    assert "tidemill.b" in imports("tidemill.a", text, {"tidemill", "tidemill.a", "tidemill.b"})


def test_a_package_s_relative_import_is_its_own_module() -> None:
    modules = {"tidemill", "tidemill.a", "tidemill.a.b", "tidemill.c"}
    assert imports("tidemill.a", "from . import b", modules, package=True) == {"tidemill.a.b"}
    assert imports("tidemill.a", "from .. import c", modules, package=True) == {"tidemill.c"}
    assert imports("tidemill.a.b", "from .. import c", modules) == {"tidemill.c"}


def test_a_circle_of_three_is_found() -> None:
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": set()}) == ["b", "c", "b"]


CLIMBING = [
    ("tidemill.core.x", "tidemill.store.y"),
    ("tidemill.store.x", "tidemill.config.y"),
    ("tidemill.new", "tidemill.core"),
]


@pytest.mark.parametrize(("module", "target"), CLIMBING)
def test_an_arrow_up_or_across_is_found(module: str, target: str) -> None:
    assert climbs({module: {target}})
    assert not climbs(
        {"tidemill.cli.main": {"tidemill.core.x", "tidemill.cli.tables"}, "tidemill.ids": {"tidemill.clock"}}
    )


FORBIDDEN = [
    ("import time\ntime.time()", WALL_CLOCK),
    ("from time import time\ntime()", WALL_CLOCK),
    ("import time as t\nt.time_ns()", WALL_CLOCK),
    ("import datetime\ndatetime.datetime.now()", WALL_CLOCK),
    ("from datetime import datetime\nnow = datetime.utcnow", WALL_CLOCK),
    ("from datetime import date\ndate.today()", WALL_CLOCK),
    ("import uuid\nuuid.uuid4()", CHANCE),
    ("from uuid import uuid4 as new\nnew()", CHANCE),
    ("import random\nrandom.choice([1])", CHANCE),
    ("import random\nrandom.Random()", CHANCE),
    ("from random import Random\nRandom()", CHANCE),
    ("import secrets\nsecrets.token_hex()", CHANCE),
]


@pytest.mark.parametrize(("text", "forbidden"), FORBIDDEN)
def test_a_clock_or_a_chance_is_seen_under_any_name(text: str, forbidden: re.Pattern[str]) -> None:
    assert list(uses(text, forbidden))


ALLOWED = [
    ("import time\ntime.monotonic()", WALL_CLOCK),
    ("import random\ndef f(source: random.Random): source.random()", CHANCE),
    ("import random\nrandom.Random(7).random()", CHANCE),
    ("import uuid\nuuid.UUID(text)", CHANCE),
    ("secrets = []\nsecrets.append(1)", CHANCE),
]


@pytest.mark.parametrize(("text", "forbidden"), ALLOWED)
def test_an_argument_is_no_chance_and_a_duration_no_clock(text: str, forbidden: re.Pattern[str]) -> None:
    assert not list(uses(text, forbidden))


@pytest.mark.parametrize(
    "text", ['x = "SELECT a FROM b "', 'x = f"insert into runs values ({y})"', 'x = """\nCREATE TABLE t (a)"""']
)
def test_a_statement_in_a_string_is_found(text: str) -> None:
    assert list(statements(text))
    assert not list(statements('"""Select what is due from the queue."""\nx = "Update the file"'))
