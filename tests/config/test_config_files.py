"""Which files are read, in which order, and what is said of those that cannot be."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tidemill.config import Loaded, load
from tidemill.errors import ConfigError

ENV = {"TZ": "UTC"}
MAIN = Path("tidemill.toml")
JOB = '[deployments.{}]\ncommand = "{}"\n'


def write(path: str, text: str) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(text)


def faults(made_dir: Path | None = None) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(MAIN, made_dir=made_dir, environ=ENV)
    return str(caught.value).splitlines()


def read(made_dir: Path | None = None) -> Loaded:
    return load(MAIN, made_dir=made_dir, environ=ENV)


pytestmark = pytest.mark.usefixtures("folder")


# What is done to the place of the file -> what is said of it.
UNREADABLE: dict[str, tuple[Callable[[], object], str]] = {
    "missing": (lambda: None, "is missing; make one: tidemill init"),
    "a folder": (MAIN.mkdir, "is a folder; name the file in it"),
    "a dangling symlink": (
        lambda: MAIN.symlink_to("gone.toml"),
        "is a symlink to gone.toml, which is missing; restore that file, or mend the link",
    ),
    "a symlink to itself": (lambda: MAIN.symlink_to(MAIN), "is a symlink that leads to itself; mend the link"),
    "a pipe": (lambda: os.mkfifo(MAIN), "is no regular file; name a file"),
    "a device": (lambda: MAIN.symlink_to("/dev/zero"), "is no regular file; name a file"),
    "empty": (
        lambda: MAIN.write_text(""),
        "is empty; a file that is meant to say nothing holds a comment: # nothing here",
    ),
    "blank": (
        lambda: MAIN.write_text(" \n\t\n"),
        "is empty; a file that is meant to say nothing holds a comment: # nothing here",
    ),
}


@pytest.mark.parametrize("state", UNREADABLE)
def test_a_file_that_cannot_be_read_is_never_no_deployments(state: str) -> None:
    """P8."""
    make, problem = UNREADABLE[state]
    make()
    assert faults() == [f"tidemill.toml: {problem}"]


@pytest.fixture
def nobody() -> Iterator[None]:
    """Be a user whom file modes bind."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_file_that_may_not_be_read_says_so(folder: Path, nobody: None) -> None:
    with pytest.raises(ConfigError) as caught:
        if os.geteuid() == 65534:
            load(folder / MAIN, environ=ENV)  # the test's folder is root's
        else:
            MAIN.write_text("# a")
            MAIN.chmod(0)
            load(folder / MAIN, environ=ENV)
    assert str(caught.value) == (
        f"{folder}/tidemill.toml: may not be read by this user; give the daemon's user the right to read it"
    )


def test_a_name_that_is_no_text_is_shown_as_far_as_it_is(folder: Path) -> None:
    path = folder / os.fsdecode(b"caf\xe9.toml")
    path.write_text("[x]")
    with pytest.raises(ConfigError) as caught:
        load(path, environ=ENV)
    assert str(caught.value) == f"{folder}/caf\ufffd.toml:1:2 x: is no table of this file"


def test_crlf_and_a_byte_order_mark_are_taken() -> None:
    MAIN.write_bytes(b"\xef\xbb\xbf[daemon]\r\nupcoming = 7\r\n[deployments.a]\r\ncommand = '''a\r\nb'''\r\n")
    settings = read().settings
    assert settings.daemon.upcoming == 7
    assert settings.deployments["a"].parameters == {"command": "a\nb"}


def test_includes_are_beside_the_file_and_in_name_order() -> None:
    write("conf/tidemill.toml", '[daemon]\ninclude = ["d/*.toml", "one.toml"]\n' + JOB.format("main", 0))
    write("conf/d/b.toml", JOB.format("b", 1))
    write("conf/d/a.toml", JOB.format("a", 2))
    write("conf/d/.a.toml.swp", "[[[")  # what editors leave
    write("conf/d/.hidden.toml", "[[[")
    write("conf/d/c.toml~", "[[[")
    write("conf/one.toml", JOB.format("one", 3) + "[variables]\nv = 1\n[log]\nlevel = 'debug'\n")
    loaded = load(Path("conf/tidemill.toml"), environ=ENV)
    assert list(loaded.settings.deployments) == ["main", "a", "b", "one"]
    assert loaded.settings.variables == {"v": 1}
    assert loaded.settings.log.level == "debug"
    assert loaded.locate("deployments.b.command") == ("conf/d/b.toml", 2, 11)
    assert loaded.files == tuple(
        Path.cwd() / "conf" / name for name in ("tidemill.toml", "d/a.toml", "d/b.toml", "one.toml")
    )


def test_relative_folders_start_from_the_file_that_names_them() -> None:
    write("tidemill.toml", '[daemon]\ninclude = ["d/*.toml"]\n')
    write("d/a.toml", "[deployments.a]\nurl = 'http://h/'\nauth = { bearer = { file = 'token' } }\n")
    write("d/token", "s3cret")
    assert read().settings.deployments["a"].parameters["auth"] == {"bearer": {"file": f"{Path.cwd()}/d/token"}}


def test_a_pattern_may_match_nothing_and_a_name_may_not() -> None:
    write("tidemill.toml", '[daemon]\ninclude = ["d/*.toml", "one.toml"]\n')
    assert faults() == [
        'tidemill.toml:2:24 daemon.include[1]: "one.toml" is no file beside this one; mend the name, or write a '
        "pattern: *.toml"
    ]


def test_a_file_is_read_once_however_often_it_is_matched() -> None:
    """Also the file itself, and by symlinks that lead in a circle."""
    write("tidemill.toml", '[daemon]\ninclude = ["*.toml", "a.toml", "loop/*.toml"]\n')
    write("a.toml", JOB.format("a", 1))
    Path("b.toml").symlink_to("a.toml")
    Path("loop").symlink_to(".")
    loaded = read()
    assert list(loaded.settings.deployments) == ["a"]
    assert len(loaded.files) == 2


def test_an_included_file_includes_no_others() -> None:
    write("tidemill.toml", '[daemon]\ninclude = ["a.toml"]\n')
    write("a.toml", '[daemon]\ninclude = ["tidemill.toml"]\n')
    assert faults() == [
        "a.toml:1:2 daemon: stands twice, first in tidemill.toml:1:2; keep one",
        "a.toml:2:11 daemon.include: an included file includes no others; put it into tidemill.toml",
    ]


def test_a_table_in_two_files_is_an_error_that_names_both_places() -> None:
    write("tidemill.toml", '[daemon]\ninclude = ["*.toml"]\n\n' + JOB.format("a-x", 1) + "[variables]\nv = 1\n")
    write("b.toml", "# b\n" + JOB.format("a_x", 2) + "[variables]\nv = 1\n[log]\n[tag_limits]\nt = 1")
    write("c.toml", "[log]\n[tag_limits]\nT = 1\nt = 2")
    assert faults() == [
        'b.toml:2:14 deployments.a_x: stands twice, first in tidemill.toml:4:14 as "a-x" (_ and - are alike); '
        "rename one",
        "b.toml:5:1 variables.v: stands twice, first in tidemill.toml:7:1; rename one",
        "c.toml:1:2 log: stands twice, first in b.toml:6:2; keep one",
        "c.toml:4:1 tag_limits.t: stands twice, first in b.toml:8:1; rename one",
    ]


def test_the_faults_of_all_files_are_told_at_once() -> None:
    write("tidemill.toml", '[daemon]\ninclude = ["d/*.toml"]\n[deployments.a]\ncommand = "x"\nretries = -1\n')
    write("d/1.toml", "[x")
    write("d/2.toml", "[log]\nlevel = 5\n")
    write("d/3.toml", "")
    Path("d/4.toml").symlink_to("gone")
    said = faults()
    assert {fault.partition(":")[0] for fault in said} == {f"d/{n}.toml" for n in (1, 2, 3, 4)} | {"tidemill.toml"}


def test_names_that_a_broken_file_might_hold_are_not_called_unknown() -> None:
    write("tidemill.toml", '[daemon]\ninclude = ["pools.toml"]\n[deployments.a]\ncommand = "x"\nwork_pool = "etl"\n')
    write("pools.toml", "[work_pools.etl]\nthreads = \n")
    (fault,) = faults()
    assert fault.startswith("pools.toml:2:")


def test_all_files_together_are_bounded() -> None:
    """P13."""
    write("tidemill.toml", '[daemon]\ninclude = ["d/*.toml"]\n')
    for number in range(5):
        write(f"d/{number}.toml", "#" * (1024 * 1024 - 10))
    assert faults() == ["d/4.toml: with this file all files together are larger than 4 MiB; say less"]


def test_a_folder_of_includes_that_cannot_be_listed_is_not_an_empty_one(folder: Path) -> None:
    write("tidemill.toml", '[daemon]\ninclude = ["d/*.toml"]\n')
    Path("d").symlink_to("d")
    Path("e").write_text("")
    assert read().settings.deployments == {}  # no such folder: nothing is included
    Path("tidemill.toml").write_text('[daemon]\ninclude = ["e/*.toml"]\n')
    assert faults() == [
        'tidemill.toml:2:12 daemon.include[0]: the folder of "e/*.toml" is missing: a part of its path is no folder; '
        "mend the path"
    ]


def test_made_files_come_after_and_a_persons_file_wins() -> None:
    write("tidemill.toml", '[daemon]\ninclude = ["a.toml"]\n')
    write("a.toml", JOB.format("a-b", "person"))
    write("state/made.d/x.toml", JOB.format("a_b", "made") + JOB.format("c", "made") + "[variables]\nv = 1\n")
    loaded = read(Path("state/made.d"))
    assert {name: found.parameters["command"] for name, found in loaded.settings.deployments.items()} == {
        "a-b": "person",
        "c": "made",
    }
    assert [str(warning) for warning in loaded.warnings] == [
        "state/made.d/x.toml:1:14 deployments.a_b: is shadowed by a.toml:1:14, which wins; delete one of them"
    ]
    assert loaded.settings.variables == {"v": 1}


def test_no_folder_of_made_files_is_no_fault() -> None:
    write("tidemill.toml", "# nothing")
    assert read(Path("made.d")).files == (Path.cwd() / "tidemill.toml",)


def test_a_folder_of_made_files_that_cannot_be_listed_is_a_fault() -> None:
    write("tidemill.toml", "# nothing")
    Path("made.d").write_text("")
    assert faults(Path("made.d")) == ["made.d: is missing: a part of its path is no folder; mend the path"]


def test_made_files_are_checked_as_others_and_hold_no_settings_of_the_daemon() -> None:
    """P15: what the API writes cannot open the API."""
    write("tidemill.toml", "# nothing")
    write("made.d/a.toml", '[api]\nlisten = "0.0.0.0:80"\n' + JOB.format("a", 1))
    write("made.d/b.toml", JOB.format("a", 1) + "retrys = 1\n")
    assert faults(Path("made.d")) == [
        "made.d/a.toml:1:2 api: does not belong into a file made by the daemon; delete it",
        "made.d/b.toml:1:14 deployments.a: stands twice, first in made.d/a.toml:3:14; rename one",
    ]
