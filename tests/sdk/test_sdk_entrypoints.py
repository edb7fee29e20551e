"""An entrypoint is loaded once, or refused with the reason and what was probably meant."""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tidemill.core.deployments import FlowKind, FlowRef
from tidemill.errors import EntrypointError
from tidemill.sdk.entrypoints import load


def ref(entrypoint: str) -> FlowRef:
    kind = FlowKind.FILE if ".py:" in entrypoint else FlowKind.MODULE
    return FlowRef(kind=kind, entrypoint=entrypoint, name=entrypoint.rpartition(":")[2])


@pytest.fixture
def flows(tmp_path: Path) -> Iterator[Path]:
    """A folder of flows; what was imported from it is forgotten afterwards."""
    folder = tmp_path / "flows"
    folder.mkdir(mode=0o755)
    before, path = set(sys.modules), list(sys.path)
    yield folder
    for name in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]
    sys.path[:] = path


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_a_function_of_a_file_is_loaded(flows: Path) -> None:
    write(flows, "reports.py", "def daily():\n    return 'made'\n")
    assert load(ref("reports.py:daily"), flows)() == "made"


def test_only_what_a_deployment_may_run_is_proposed(flows: Path) -> None:
    text = """
from dataclasses import dataclass
from tidemill import flow, task
from tidemill.artifacts import create_json_artifact
class Order: ...
@task
def fetch(): ...
@flow
def daily(): ...
def plain(): ...
"""
    write(flows, "orders.py", text)
    with pytest.raises(EntrypointError, match=r"there are: daily, dataclass, plain$"):
        load(ref("orders.py:zzz"), flows)


def test_a_task_is_no_flow(flows: Path) -> None:
    """A deployment of one would run it without a flow run's ways: it is said before anything runs."""
    text = "from tidemill import flow, task\n@task\ndef fetch(): pass\n@flow\ndef fetch_all(): fetch()\n"
    write(flows, "tasks.py", text)
    with pytest.raises(EntrypointError) as refused:
        load(ref("tasks.py:fetch"), flows)
    assert str(refused.value).startswith('"tasks.py:fetch": "fetch" is a task, and a deployment runs a flow')
    assert "fetch_all" in str(refused.value)
    assert load(ref("tasks.py:fetch_all"), flows)


def test_a_file_is_executed_once_for_all_its_functions(flows: Path) -> None:
    write(flows, "once.py", "seen = []\ndef a(): return seen\ndef b(): return seen\n")
    assert load(ref("once.py:a"), flows)() is load(ref("once.py:b"), flows)()


def test_files_in_the_folder_may_import_each_other(flows: Path) -> None:
    write(flows, "sharedpart.py", "answer = 42\n")
    write(flows, "deep/uses.py", "import sharedpart\ndef flow(): return sharedpart.answer\n")
    assert load(ref("deep/uses.py:flow"), flows)() == 42


def test_a_flow_file_shadows_no_module_of_the_same_name(flows: Path) -> None:
    write(flows, "random.py", "def flow(): return 'mine'\n")
    assert load(ref("random.py:flow"), flows)() == "mine"
    assert sys.modules["random"] is random


def test_a_dataclass_with_annotations_works_at_import(flows: Path) -> None:
    """``dataclasses`` looks its class's module up while that is still being executed."""
    text = "from __future__ import annotations\nfrom dataclasses import dataclass\n@dataclass\nclass A:\n    x: int\n"
    write(flows, "shapes.py", text + "def flow(): return A(1).x\n")
    assert load(ref("shapes.py:flow"), flows)() == 1


def test_a_module_is_found_on_the_import_path(flows: Path) -> None:
    assert load(ref("os.path:join"), flows) is os.path.join


def test_a_module_inside_the_folder_is_found(flows: Path) -> None:
    write(flows, "packaged/__init__.py", "")
    write(flows, "packaged/jobs.py", "def flow(): return 'packaged'\n")
    assert load(ref("packaged.jobs:flow"), flows)() == "packaged"


@pytest.mark.parametrize(
    ("entrypoint", "says"),
    [
        ("reports.py:dayly", 'reports.py has no "dayly"; did you mean "daily"?'),
        ("reports.py:zzz", 'reports.py has no "zzz"; there are: daily, rows'),
        ("report.py:daily", 'did you mean "reports.py"?'),
        ("../reports.py:daily", "flows are files inside"),
        ("/etc/reports.py:daily", "flows are files inside"),
        ("reports.py:VALUE", '"VALUE" is int, not a function'),
        ("reports.py:rows", "is a generator"),
        ("folder.py:flow", "is not a file"),
        ("broken.py:flow", "cannot be imported: ModuleNotFoundError: No module named 'nonesuch' (broken.py, line 2)"),
        ("syntax.py:flow", "(syntax.py, line 1)"),
        ("leaves.py:flow", "cannot be imported: it ended itself with exit status 3 (leaves.py, line 2)"),
        ("nonesuch.jobs:flow", 'there is no module "nonesuch" to import'),
        ("needs_more:flow", "needs_more cannot be imported: ModuleNotFoundError: No module named 'nonesuch'"),
        ("os.path:joint", 'os.path has no "joint"; did you mean "join"?'),
        ("os.path", 'write "file.py:function" or "package.module:function"'),
    ],
)
def test_what_cannot_be_loaded_is_named_with_the_reason(flows: Path, entrypoint: str, says: str) -> None:
    write(flows, "reports.py", "VALUE = 3\ndef daily(): ...\ndef rows():\n    yield 1\n")
    (flows / "folder.py").mkdir()
    write(flows, "broken.py", "def flow(): ...\nimport nonesuch\n")
    write(flows, "syntax.py", "def flow(:\n")
    write(flows, "leaves.py", "import sys\nsys.exit(3)\n")
    write(flows, "needs_more.py", "import nonesuch\n")
    with pytest.raises(EntrypointError) as refused:
        load(ref(entrypoint), flows)
    assert str(refused.value).startswith(f'"{entrypoint}": ')
    assert says in str(refused.value)


def test_a_symlink_that_leads_out_of_the_folder_is_refused(flows: Path, tmp_path: Path) -> None:
    outside = write(tmp_path, "outside.py", "def flow(): ...\n")
    (flows / "link.py").symlink_to(outside)
    with pytest.raises(EntrypointError, match="leads out of the flows folder"):
        load(ref("link.py:flow"), flows)


def test_a_symlink_to_nothing_is_named_as_one(flows: Path, tmp_path: Path) -> None:
    (flows / "link.py").symlink_to(tmp_path / "gone.py")
    with pytest.raises(EntrypointError, match=r"is a symlink to .*gone\.py, which is missing"):
        load(ref("link.py:flow"), flows)


def test_a_symlink_inside_the_folder_is_followed(flows: Path) -> None:
    (flows / "link.py").symlink_to(write(flows, "real.py", "def flow(): return 1\n"))
    assert load(ref("link.py:flow"), flows)() == 1


@pytest.mark.parametrize("writable", ["sub/open.py", "sub", "."])
def test_what_anybody_may_write_is_refused(flows: Path, writable: str) -> None:
    """Whoever may write the file or its folder would run code as the daemon's user."""
    write(flows, "sub/open.py", "def flow(): ...\n")
    place = flows / writable
    place.chmod(place.stat().st_mode | 0o002)
    with pytest.raises(EntrypointError, match="chmod o-w"):
        load(ref("sub/open.py:flow"), flows)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(EntrypointError, match=r"flows folder .* cannot be opened .*set \[daemon\] flows"):
        load(ref("a.py:flow"), tmp_path / "flows")


def test_a_file_that_failed_is_tried_again_the_next_time(flows: Path) -> None:
    path = write(flows, "mended.py", "raise OSError('not yet')\n")
    with pytest.raises(EntrypointError, match="not yet"):
        load(ref("mended.py:flow"), flows)
    path.write_text("def flow(): return 'now it works'\n# mended\n")
    assert load(ref("mended.py:flow"), flows)() == "now it works"
