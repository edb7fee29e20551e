"""What flow code imports from the flows folder is held to the same rules as its entrypoint."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tidemill.core.deployments import FlowKind, FlowRef
from tidemill.errors import EntrypointError
from tidemill.sdk import import_guard
from tidemill.sdk.entrypoints import load

ENTRY = FlowRef(kind=FlowKind.FILE, entrypoint="entry.py:main", name="main")


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    found = tmp_path / "flows"
    found.mkdir(mode=0o755)
    modules, path, folders = set(sys.modules), list(sys.path), set(import_guard._guard.folders)
    yield found
    sys.path[:] = path
    import_guard._guard.folders = folders
    for name in set(sys.modules) - modules:
        del sys.modules[name]


def write(place: Path, text: str, mode: int = 0o644) -> Path:
    place.parent.mkdir(exist_ok=True, mode=0o755)
    place.write_text(text)
    place.chmod(mode)
    return place


def test_a_helper_of_the_folder_is_imported(folder: Path) -> None:
    write(folder / "helper_fine.py", "VALUE = 1")
    write(folder / "entry.py", "from helper_fine import VALUE\ndef main(): return VALUE")
    assert load(ENTRY, folder)() == 1


@pytest.mark.parametrize("name", ["helper_open", "package_open.inner"])
def test_a_helper_that_anybody_may_write_is_refused(folder: Path, name: str) -> None:
    file = write(folder / (name.replace(".", "/") + ".py"), "VALUE = 1", 0o666)
    write(folder / "entry.py", f"from {name} import VALUE\ndef main(): return VALUE")
    with pytest.raises(EntrypointError, match=f"anybody may write {file}; run: chmod o-w {file}"):
        load(ENTRY, folder)


def test_a_helper_that_is_a_link_out_of_the_folder_is_refused(folder: Path, tmp_path: Path) -> None:
    write(tmp_path / "outside.py", "VALUE = 1")
    (folder / "helper_linked.py").symlink_to(tmp_path / "outside.py")
    write(folder / "entry.py", "from helper_linked import VALUE\ndef main(): return VALUE")
    with pytest.raises(EntrypointError, match="leads out of the flows folder"):
        load(ENTRY, folder)


def test_a_file_named_like_a_module_of_pythons_own_stays_unasked(folder: Path) -> None:
    """The folder stands at the end of the import path: what is shadowed by others is nobody's danger."""
    write(folder / "colorsys.py", "raise RuntimeError('not this one')", 0o666)
    write(folder / "entry.py", "import colorsys\ndef main(): return colorsys.rgb_to_hsv(0, 0, 0)")
    assert load(ENTRY, folder)() == (0.0, 0.0, 0)
