"""Whether anything was edited, told by how the files stand."""

from __future__ import annotations

from pathlib import Path

import pytest

from tidemill.config import footprint as module
from tidemill.config.footprint import Footprint, footprint
from tidemill.config.settings import DaemonSettings


def look(folder: Path, include: tuple[str, ...] = (), flows: str = "flows") -> Footprint:
    known = DaemonSettings(timezone="UTC", flows=folder / flows, include=include)
    return footprint(folder / "tidemill.toml", folder / "made.d", known)


def names(found: Footprint) -> list[str]:
    return [Path(seen[0]).name for seen in found.config]


def test_nothing_edited_is_nothing_seen(tmp_path: Path) -> None:
    (tmp_path / "tidemill.toml").write_text("# x\n")
    assert look(tmp_path) == look(tmp_path)


def test_what_is_missing_or_no_file_is_a_fact_like_any_other(tmp_path: Path) -> None:
    missing = look(tmp_path)
    (tmp_path / "tidemill.toml").symlink_to("tidemill.toml")
    loop = look(tmp_path)
    (tmp_path / "tidemill.toml").unlink()
    (tmp_path / "tidemill.toml").mkdir()
    assert len({missing.config, loop.config, look(tmp_path).config}) == 3


def test_a_folder_that_cannot_be_looked_into_is_a_fact_like_any_other(tmp_path: Path) -> None:
    """A name that is too long is refused for root, too, as a folder of mode 000 is for everybody else."""
    closed = tmp_path / ("x" * 300)
    found = look(closed)
    assert found == look(closed)
    assert {seen[1] for seen in found.config} == {-1}


NAMED = [
    # what the file says, and the drop-in that it names by it
    ('[daemon]\ninclude = ["more/*.toml"]\n', True),
    ('[daemon]\ninclude = "more/*.toml"\n', True),
    ('daemon.include = ["more/*.toml"]\n', True),
    ('[deployments.x]\nbroken = \n[daemon]  # here\ninclude = [\n  "more/*.toml",\n]\n', True),
    ('[daemon]\ninclude = ["more/*.toml"\n', False),
    ("[daemon]\ninclude = [3]\n", False),
    ('[daemon]\ninclude = ["\\u0000"]\n', False),
    ("\xff", False),
]


@pytest.mark.parametrize(("text", "seen"), NAMED)
def test_a_file_that_is_refused_names_its_drop_ins_all_the_same(tmp_path: Path, text: str, seen: bool) -> None:
    """Else nobody would look again when the one at fault is mended."""
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "x.toml").write_text("broken")
    (tmp_path / "tidemill.toml").write_bytes(text.encode("latin-1"))
    assert ("x.toml" in names(look(tmp_path))) == seen
    assert (tmp_path / "more" in look(tmp_path).folders) == seen


def test_what_is_in_force_is_looked_at_whatever_the_file_says_by_now(tmp_path: Path) -> None:
    (tmp_path / "tidemill.toml").write_text("broken =\n")
    (tmp_path / "a.toml").write_text("# x\n")
    assert names(look(tmp_path, include=("*.toml",))) == ["tidemill.toml", "a.toml"]


def test_a_links_target_is_watched_where_it_is(tmp_path: Path) -> None:
    target = tmp_path / "elsewhere" / "real.toml"
    target.parent.mkdir()
    target.write_text("# x\n")
    (tmp_path / "tidemill.toml").symlink_to(target)
    before = look(tmp_path)
    assert target.parent in before.folders
    target.write_text("# other\n")
    assert look(tmp_path).config != before.config


def test_code_is_python_and_not_what_is_installed_or_hidden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_CODE", 4)
    for name in ("a.py", "deep/b.py", ".venv/c.py", "lib/site-packages/d.py", "__pycache__/e.py", "data.json"):
        path = tmp_path / "flows" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
    found = look(tmp_path)
    assert [Path(seen[0]).name for seen in found.code] == ["a.py", "b.py"]
    for number in range(9):
        (tmp_path / "flows" / f"z{number}.py").write_text("x")
    assert len(look(tmp_path).code) == 4, "bounded"
