"""What a fresh machine goes through: the choice of a Python, the locks, and what `make` runs."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
LOCKS = {name: (ROOT / name).read_text() for name in ("requirements.lock", "requirements-dev.lock")}


def pins(lock: str) -> dict[str, str]:
    """Every locked name with its version."""
    found = re.findall(r"^([A-Za-z0-9._-]+)(?:\[[^]]*\])?==([^ ;]+)", LOCKS[lock], re.MULTILINE)
    return {canonicalize_name(name): version for name, version in found}


def group(name: str) -> list[str]:
    wanted: list[str] = []
    for each in PROJECT["dependency-groups"][name]:
        wanted += [each] if isinstance(each, str) else group(each["include-group"])
    return wanted


WANTED = {
    "requirements.lock": [*PROJECT["project"]["dependencies"], *group("build"), *PROJECT["build-system"]["requires"]],
    "requirements-dev.lock": [*PROJECT["project"]["dependencies"], *group("dev")],
}


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_fits_what_the_project_asks_for(lock: str) -> None:
    """Also the build backend: the project is built without isolation, so that nothing unlocked is fetched."""
    locked = pins(lock)
    for text in WANTED[lock]:
        wanted = Requirement(text)
        assert wanted.specifier.contains(locked[canonicalize_name(wanted.name)]), f"{text}: run make lock"


@pytest.mark.parametrize("lock", LOCKS)
def test_every_locked_version_has_hashes(lock: str) -> None:
    blocks = re.split(r"^(?=[A-Za-z0-9])", LOCKS[lock], flags=re.MULTILINE)[1:]
    assert len(blocks) >= 20
    assert [block.splitlines()[0] for block in blocks if "--hash=sha256:" not in block] == []


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_names_no_registry_and_no_folder(lock: str) -> None:
    assert re.findall(r"^ *(?:-i|--index|--extra-index|--find-links|.*://|.*file:).*$", LOCKS[lock], re.MULTILINE) == []


def test_the_locks_agree() -> None:
    """Else `make run` after `make test` would run other versions than were tested."""
    assert pins("requirements.lock").items() <= pins("requirements-dev.lock").items()


def python(folder: Path, name: str, *, version: bool, venv: bool) -> str:
    """A stand-in for a Python that answers find-python's two questions."""
    path = folder / name
    answers = f'case "$2" in *version_info*) exit {int(not version)};; *ensurepip*) exit {int(not venv)};; esac\n'
    path.write_text(f"#!/bin/sh\n{answers}")
    path.chmod(0o755)
    return str(path)


def find_python(folder: Path, *names: str) -> subprocess.CompletedProcess[str]:
    environ = {"PATH": f"{folder}:/usr/bin:/bin", "HOME": ""}
    command = [str(ROOT / ".ci" / "find-python"), *names]
    return subprocess.run(command, env=environ, capture_output=True, text=True, check=False)


def test_the_first_python_that_will_do_is_taken(tmp_path: Path) -> None:
    python(tmp_path, "python-old", version=False, venv=True)
    python(tmp_path, "python-bare", version=True, venv=False)
    good = python(tmp_path, "python-good", version=True, venv=True)
    python(tmp_path, "python-later", version=True, venv=True)
    names = ("python-absent", "python-old", "python-bare", "python-good", "python-later")
    done = find_python(tmp_path, *names)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{good}\n", "")


def test_this_very_python_will_do(tmp_path: Path) -> None:
    done = find_python(tmp_path, getattr(sys, "_base_executable", sys.executable))
    assert done.returncode == 0, done.stderr


def test_a_python_without_venv_is_told_with_its_remedy(tmp_path: Path) -> None:
    bare = python(tmp_path, "python-bare", version=True, venv=False)
    done = find_python(tmp_path, "python-bare")
    assert done.returncode == 1
    assert bare in done.stderr
    assert "apt-get install python3-venv" in done.stderr


def test_no_python_is_told_with_what_was_looked_for(tmp_path: Path) -> None:
    python(tmp_path, "python-old", version=False, venv=True)
    done = find_python(tmp_path, "python-old", "python-absent")
    assert done.returncode == 1
    assert "3.11 or newer" in done.stderr
    assert "python-old python-absent" in done.stderr
    assert "make PYTHON=" in done.stderr


def make(*arguments: str) -> str:
    """What make prints, called as a person calls it."""
    if shutil.which("make") is None:
        pytest.skip("make is not installed")
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    command = ["make", "--no-print-directory", *arguments]
    return subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, check=True).stdout


def dry(*arguments: str) -> str:
    """What make would run where everything is installed."""
    stamps = [f"--assume-old=.venv/{name}" for name in ("made", "installed", "installed-dev")]
    return make("--dry-run", *stamps, *arguments)


def test_make_test_runs_everything_in_order() -> None:
    steps = ["ruff format --check", "ruff check", "mypy --strict", "lint-imports", "pytest "]
    lines = dry("test")
    places = [lines.index(step) for step in steps]
    assert places == sorted(places)
    assert "--cov-branch" in lines


def test_make_quick_leaves_out_what_needs_more() -> None:
    assert '-m "not slow and not thorough and not network and not root"' in dry("quick")


def test_make_run_starts_the_quickstart() -> None:
    assert "tidemill start config/quickstart.toml --strict" in dry("run", "ARGS=--strict")


def test_every_target_is_explained() -> None:
    explained = set(re.findall(r"make ([a-z]+)", make()))
    declared = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert declared is not None
    assert set(declared[1].split()) - {"help"} == explained


@pytest.mark.slow
def test_a_wheel_holds_the_units_and_an_editable_one_leaves_them_where_they_are(tmp_path: Path) -> None:
    """`tidemill systemd install` writes them, wherever tidemill was installed from."""
    units = {
        f"tidemill/systemd_units/{path.relative_to(ROOT / 'systemd')}" for path in ROOT.glob("systemd/**/*.service")
    }
    assert len(units) == 4
    build = "import hatchling.build as b, sys; print(getattr(b, sys.argv[1])(sys.argv[2]))"
    for kind, wanted in (("build_wheel", units), ("build_editable", set())):
        done = subprocess.run(
            [sys.executable, "-c", build, kind, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=True
        )
        with zipfile.ZipFile(tmp_path / done.stdout.split()[-1]) as wheel:
            names = set(wheel.namelist())
        assert {name for name in names if name.endswith(".service")} == wanted
        assert ("tidemill/daemon/__init__.py" in names) == bool(wanted)


@pytest.mark.parametrize("script", [".ci/run", ".ci/find-python"])
def test_a_script_is_well_formed_and_may_be_run(script: str) -> None:
    path = ROOT / script
    assert os.access(path, os.X_OK)
    shell = path.read_text().split("\n", 1)[0].rpartition("/")[2].rpartition(" ")[2]
    assert subprocess.run([shell, "-n", str(path)], check=False).returncode == 0


def test_ci_runs_what_a_person_runs() -> None:
    assert (ROOT / ".ci" / "run").read_text().rstrip().endswith("exec make test")
