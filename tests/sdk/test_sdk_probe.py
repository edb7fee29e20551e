"""Importing user code cannot hurt who asks: a child does it, and the one entrypoint at fault is named (P10)."""

from __future__ import annotations

import os
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from tidemill.core.deployments import FlowKind, FlowRef
from tidemill.sdk.probe import probe

LONG = timedelta(seconds=30)


def ref(entrypoint: str) -> FlowRef:
    return FlowRef(kind=FlowKind.FILE, entrypoint=entrypoint, name=entrypoint.rpartition(":")[2])


def test_good_entrypoints_give_their_signatures_and_bad_ones_their_reason(tmp_path: Path) -> None:
    (tmp_path / "good.py").write_text("print('noise at import')\nasync def flow(day, limit=3): ...\ndef other(): ...\n")
    (tmp_path / "bad.py").write_text("import nonesuch\n")
    found = probe([ref("good.py:flow"), ref("bad.py:flow"), ref("good.py:other"), ref("good.py:flow")], tmp_path, LONG)
    signature = found["good.py:flow"].signature
    assert signature is not None
    assert (signature.names, signature.required, signature.is_async) == (("day", "limit"), ("day",), True)
    assert found["bad.py:flow"].error == (
        "\"bad.py:flow\": bad.py cannot be imported: ModuleNotFoundError: No module named 'nonesuch' (bad.py, line 1)"
    )
    assert found["good.py:other"].error is None
    assert len(found) == 3


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("import os; os._exit(3)", "its import ended its process with exit status 3"),
        ("import os; os.abort()", "its import killed its process by SIGABRT"),
        ("import ctypes; ctypes.string_at(0)", "its import killed its process by SIGSEGV"),
        ("import os\nprint('last words', flush=True)\nos._exit(1)", "it printed last: last words"),
    ],
)
def test_an_import_that_ends_the_process_is_named_and_the_rest_goes_on(tmp_path: Path, code: str, says: str) -> None:
    (tmp_path / "first.py").write_text("def flow(): ...\n")
    (tmp_path / "deadly.py").write_text(code + "\ndef flow(): ...\ndef also(): ...\n")
    (tmp_path / "last.py").write_text("def flow(): ...\n")
    refs = [ref("first.py:flow"), ref("deadly.py:flow"), ref("deadly.py:also"), ref("last.py:flow")]
    found = probe(refs, tmp_path, LONG)
    assert {name: probed.error is None for name, probed in found.items()} == {
        "first.py:flow": True,
        "deadly.py:flow": False,
        "deadly.py:also": False,
        "last.py:flow": True,
    }
    assert says in str(found["deadly.py:flow"].error)
    assert str(found["deadly.py:also"].error).startswith('"deadly.py:also": its import ')


@pytest.mark.slow
def test_an_import_that_hangs_is_named_and_nothing_of_it_stays(tmp_path: Path) -> None:
    pipe = tmp_path / "alive"
    os.mkfifo(pipe)
    # The child and its own child hold the pipe's writing end; it reports its end when both are gone.
    (tmp_path / "hangs.py").write_text(
        f"import os, threading\nos.open({str(pipe)!r}, os.O_WRONLY)\nos.fork()\nthreading.Event().wait()\n"
    )
    (tmp_path / "last.py").write_text("def flow(): ...\n")
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        found = probe([ref("hangs.py:flow"), ref("last.py:flow")], tmp_path, timedelta(seconds=3))
        os.set_blocking(reader, True)
        assert os.read(reader, 1) == b""
    finally:
        os.close(reader)
    assert found["hangs.py:flow"].error == '"hangs.py:flow": its import did not end within 3 s'
    assert found["last.py:flow"].error is None


@pytest.mark.parametrize(
    ("python", "says"),
    [
        ("/nonesuch/python", "/nonesuch/python cannot be started (No such file or directory)"),
        ("/bin/false", "could not be probed: ended its process with exit status 1"),
    ],
)
def test_an_interpreter_that_does_not_work_is_the_fault_of_all(tmp_path: Path, python: str, says: str) -> None:
    found = probe([ref("a.py:flow"), ref("b.py:flow")], tmp_path, LONG, python=python)
    assert len(found) == 2
    assert all(says in str(probed.error) for probed in found.values())


def test_nothing_to_probe_starts_nothing(tmp_path: Path) -> None:
    assert probe([], tmp_path, LONG, python="/nonesuch/python") == {}


def test_this_process_imports_nothing(tmp_path: Path) -> None:
    (tmp_path / "elsewhere.py").write_text("def flow(): ...\n")
    probe([ref("elsewhere.py:flow")], tmp_path, LONG)
    assert "tidemill_flows.elsewhere" not in sys.modules


def test_values_are_held_against_the_annotations_of_a_flow(tmp_path: Path) -> None:
    (tmp_path / "typed.py").write_text(
        "from tidemill import flow\n"
        "@flow\ndef checked(count: int, names: list[str] = []): ...\n"
        "@flow(validate_parameters=False)\ndef unchecked(count: int): ...\n"
        "def plain(count: int): ...\n"
    )
    given = {
        "typed.py:checked": [{"count": "7"}, {"count": "many", "names": 3}, {}],
        "typed.py:unchecked": [{"count": "many"}],
        "typed.py:plain": [{"count": "many"}],
    }
    found = probe([ref(name) for name in given], tmp_path, LONG, given=given)
    fits, misfits, nothing = found["typed.py:checked"].misfits
    assert (fits, nothing) == ((), ())
    assert [name for name, _ in misfits] == ["count", "names"]
    assert "integer" in misfits[0][1]
    assert found["typed.py:unchecked"].misfits == found["typed.py:plain"].misfits == ((),)
