"""Drop-ins that commands write: whole, private, undone on request, and below a person's own files."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidemill.config import load, made
from tidemill.errors import NotFoundError, TidemillError

JOB = {"command": "true", "cron": "0 9 * * *"}


def test_what_is_put_is_read_and_what_is_removed_is_gone(tmp_path: Path) -> None:
    folder = tmp_path / "made.d"
    made.put(folder, "deployments", "job", JOB)
    made.put(folder, "deployments", "other", {"url": "https://example.org"})
    made.put(folder, "variables", "region", "fi")
    assert made.everything(folder) == {
        "deployments": {"job": JOB, "other": {"url": "https://example.org"}},
        "variables": {"region": "fi"},
    }
    made.put(folder, "deployments", "job", {"command": "false"})
    assert made.of_table(folder, "deployments")["job"] == {"command": "false"}
    made.remove(folder, "deployments", "job")
    made.remove(folder, "deployments", "other")
    assert [path.name for path in folder.iterdir()] == ["variables.toml"], "an empty file is none"


def test_a_change_can_be_undone(tmp_path: Path) -> None:
    folder = tmp_path / "made.d"
    undo = made.put(folder, "deployments", "job", JOB)
    written = (folder / "deployments.toml").read_bytes()
    made.put(folder, "deployments", "other", JOB)()
    assert (folder / "deployments.toml").read_bytes() == written
    made.remove(folder, "deployments", "job")()
    assert (folder / "deployments.toml").read_bytes() == written
    undo()
    assert not (folder / "deployments.toml").exists()


def test_they_are_for_the_daemons_user_alone(tmp_path: Path) -> None:
    folder = tmp_path / "made.d"
    made.put(folder, "deployments", "job", JOB)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / "deployments.toml").stat().st_mode) == 0o600


REFUSED = [
    # table, name, value, and what is said
    ("api", "listen", [], "not made by commands"),
    ("deployments", "../../etc/passwd", JOB, "deployment"),
    ("deployments", "Job", JOB, "deployment"),
    ("deployments", "job", {"command": None}, "null is no value of TOML"),
    ("variables", "x", None, "null is no value of TOML"),
]


@pytest.mark.parametrize(("table", "name", "value", "words"), REFUSED)
def test_what_no_file_could_say_is_refused(tmp_path: Path, table: str, name: str, value: Any, words: str) -> None:
    with pytest.raises(TidemillError, match=words):
        made.put(tmp_path / "made.d", table, name, value)
    assert not list((tmp_path / "made.d").glob("*")) if (tmp_path / "made.d").exists() else True


def test_nothing_is_removed_that_was_not_made(tmp_path: Path) -> None:
    with pytest.raises(TidemillError, match="no work queue line was made here"):
        made.remove(tmp_path / "made.d", "work_queues", "line")
    assert not issubclass(TidemillError, NotFoundError)


def test_a_file_that_somebody_broke_is_not_written_over(tmp_path: Path) -> None:
    folder = tmp_path / "made.d"
    folder.mkdir()
    (folder / "deployments.toml").write_text("[deployments.job\n")
    with pytest.raises(TidemillError, match="cannot be read"):
        made.put(folder, "deployments", "other", JOB)
    assert (folder / "deployments.toml").read_text() == "[deployments.job\n"


def test_a_persons_file_wins_and_what_it_shadows_is_a_warning(tmp_path: Path) -> None:
    file, folder = tmp_path / "tidemill.toml", tmp_path / "made.d"
    file.write_text('[deployments.job]\ncommand = "mine"\n')
    made.put(folder, "deployments", "job", JOB)
    made.put(folder, "deployments", "other", JOB)
    loaded = load(file, made_dir=folder, environ={})
    assert loaded.settings.deployments["job"].parameters == {"command": "mine"}
    assert set(loaded.settings.deployments) == {"job", "other"}
    (warning,) = loaded.warnings
    assert "is shadowed by" in warning.problem
    stated = loaded.stated_in("deployments", "job")
    assert stated is not None
    assert stated.path == file
    assert loaded.stated_in("deployments", "none") is None


KEYS = st.text("abc é\"'\\.", min_size=1, max_size=6)
TEXTS = st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=20)
JSON = st.recursive(
    st.booleans() | st.integers(-(2**53), 2**53) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=8,
)


@given(value=JSON)
def test_any_json_value_comes_back_as_it_was(tmp_path_factory: pytest.TempPathFactory, value: Any) -> None:
    folder = tmp_path_factory.mktemp("made")
    made.put(folder, "variables", "x", value)
    assert made.of_table(folder, "variables") == {"x": value}
