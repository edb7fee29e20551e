"""The support report: what is in it, and what never is."""

from __future__ import annotations

import base64
import json
import stat
import tarfile
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

import pytest

from edges import Live, live
from tidemill.cli.main import main
from tidemill.config.disclosure import masked, secrets_in
from tidemill.core.daemon_log import DaemonLine
from tidemill.core.states import StateType
from tidemill.store.daemon_log import NOTE

# With what changes when it is quoted for an address, for JSON and for a shell.
CANARIES = {
    "env": 'can/ary+"one"&x',
    "credential": "canäry two%\\x",
    "file": "canary-three==/?#",
    "header": "plain-header-99",
    "token": "token-in-query-7",
    "hook": "T0000/B0000/hooksecret",
    "ping": "a1b2c3d4-ping-uuid",
    "environ": "of-another-program-1",
    "apprise": "bottoken/chatid",
}


def forms(secret: str) -> Iterator[bytes]:
    """Every spelling in which a secret could get out."""
    raw = secret.encode()
    yield raw
    yield urllib.parse.quote(secret, safe="").encode()
    yield urllib.parse.quote_plus(secret).encode()
    yield json.dumps(secret)[1:-1].encode()
    yield base64.b64encode(raw)


def config(folder: Path) -> str:
    return f"""
        [deployments.a]
        url = "https://h/x?token={CANARIES["token"]}&page=2"
        auth = {{ bearer = {{ env = "CANARY" }} }}
        headers = {{ X-Api-Key = "{CANARIES["header"]}", Accept = "text/plain" }}
        ping = "https://hc-ping.com/{CANARIES["ping"]}"
        [deployments.b]
        command = "true"
        env = {{ ONE = {{ credential = "canary" }}, TWO = {{ file = "{folder}/secret" }} }}
        [notify]
        default = "tgram://{CANARIES["apprise"]}"
        [blocks.hook]
        type = "webhook"
        url = "https://hooks.slack.com/services/{CANARIES["hook"]}"
        """


def contents(path: Path) -> dict[str, bytes]:
    with tarfile.open(path) as archive:
        return {
            member.name.partition("/")[2]: file.read()
            for member in archive.getmembers()
            if (file := archive.extractfile(member)) is not None
        }


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Live]:
    folder = tmp_path / "state"
    folder.mkdir()
    with live(folder) as found:
        yield found


def report(daemon: Live, file: Path, *argv: str, environ: dict[str, str] | None = None) -> int:
    where = ["--state-dir", str(daemon.folder), str(file), *argv]
    return main(["report", *where], environ={"HOME": "/nonexistent"} | (environ or {}), now=daemon.clock.now)


def test_no_secret_is_in_it_in_any_spelling(daemon: Live, tmp_path: Path) -> None:
    """P14. What the daemon kept is masked once more: a secret may have come to be one later."""
    (tmp_path / "credentials").mkdir()
    (tmp_path / "credentials" / "canary").write_text(CANARIES["credential"] + "\n")
    (tmp_path / "secret").write_text(CANARIES["file"] + "\n")
    file = tmp_path / "tidemill.toml"
    file.write_text(config(tmp_path))
    run = daemon.do(daemon.mill.begin(daemon.do(daemon.mill.add())))
    said = [form.decode() for secret in CANARIES.values() for form in forms(secret)]
    daemon.do(daemon.mill.print(run, *said, level=40))
    daemon.do(daemon.mill.finish(run, StateType.FAILED, f"it said {' '.join(said)}"))

    async def note() -> None:
        line = DaemonLine(at=daemon.clock.now(), level=30, message=" ".join(said), fields={"said": said})
        daemon.mill.store.post(NOTE, line)
        await daemon.mill.store.flush()

    daemon.do(note())
    daemon.stop()
    target = tmp_path / "report.tar.gz"
    environ = {
        "CANARY": CANARIES["env"],
        "CREDENTIALS_DIRECTORY": str(tmp_path / "credentials"),
        "OTHER_PASSWORD": CANARIES["environ"],
    }
    assert report(daemon, target, "--config", str(file), "--with-output", environ=environ) == 0
    parts = contents(target)
    assert b"********" in parts["failures.json"]
    assert b"********" in parts["daemon-log.jsonl"]
    assert b"page=2" in parts["configuration/tidemill.toml"]
    for name, raw in parts.items():
        for kind, secret in CANARIES.items():
            assert not [form for form in forms(secret) if form in raw], (name, kind)


def test_it_tells_what_a_helper_has_to_know(daemon: Live, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mill = daemon.mill
    run = daemon.do(mill.begin(daemon.do(mill.add(name="brisk-otter", parameters={"customer": "Ms. Private"}))))
    daemon.do(mill.print(run, "what it printed"))
    daemon.do(mill.finish(run, StateType.FAILED, "exit code 3"))
    target = tmp_path / "report.tar.gz"
    assert report(daemon, target) == 0
    assert f"{target} (" in capsys.readouterr().out
    parts = contents(target)
    assert json.loads(parts["status.json"])["state"] == "ok"
    assert json.loads(parts["versions.json"])["packages"]["msgspec"]
    assert json.loads(parts["machine.json"])["memory"]["MemTotal"] > 0
    assert json.loads(parts["database.json"])["flow_runs"] == {"Failed": 1}
    assert b"tidemill_build_info" in parts["metrics.txt"]
    (failure,) = json.loads(parts["failures.json"])
    assert (failure["name"], failure["deployment"]) == ("brisk-otter", "bored-daily")
    assert failure["states"][-1]["message"] == "exit code 3"
    assert b"README" not in parts["README.txt"]
    everything = b"".join(parts.values())
    assert b"Ms. Private" not in everything, "parameters are a job's own affair"
    assert b"what it printed" not in everything, "and so is what it prints, unless asked for"
    assert report(daemon, tmp_path / "more.tar.gz", "--with-output") == 0
    assert b"what it printed" in contents(tmp_path / "more.tar.gz")["failures.json"]


def test_it_is_its_makers_alone_and_overwrites_nothing(
    daemon: Live, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "report.tar.gz"
    assert report(daemon, target) == 0
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    before = target.read_bytes()
    assert report(daemon, target) == 1
    assert "is there already" in capsys.readouterr().err
    assert target.read_bytes() == before


def test_where_everything_is_broken_it_says_what_could_not_be_had(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is made when things do not work: no daemon, no database, a file that is no TOML."""
    (tmp_path / "tidemill.toml").write_text('[deployments.a\npassword = "hunter2"\n')
    argv = ["report", str(tmp_path / "r.tar.gz"), "--state-dir", str(tmp_path), "--config", f"{tmp_path}/tidemill.toml"]
    assert main(argv, environ={"HOME": str(tmp_path)}) == 0
    parts = contents(tmp_path / "r.tar.gz")
    assert b"no daemon was found" in parts["status.json.error.txt"]
    assert b"no database was found" in parts["database.json.error.txt"]
    assert b"tidemill.toml:1:" in parts["check.txt"]
    assert b'password = "********"' in parts["configuration/tidemill.toml"]
    assert b"hunter2" not in b"".join(parts.values())


# -- what counts as a secret -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ('password = "hunter2"', "hunter2"),
        ("'api-key' = 'k-1'", "k-1"),
        ('Authorization = "Bearer tok-1"', "tok-1"),
        ('url = "https://me:pw%40x@h/"', "pw@x"),
        ('url = "https://h/?api_key=abc&x=1"', "abc"),
        ('x = { file = "own" }', "in the file"),
        ('[notify.team]\nurl = "https://h/a/long/path?x=1"', "a/long/path?x=1"),
        ('ping = { success = "https://h/1234-5678" }', "1234-5678"),
    ],
)
def test_what_looks_like_a_secret_is_one(tmp_path: Path, text: str, secret: str) -> None:
    (tmp_path / "own").write_text("in the file\n")
    assert secret in set(secrets_in([text], {}, tmp_path))


@pytest.mark.parametrize(
    "text",
    ['url = "https://h/reports/daily?page=1"', 'tokenizer = "fast"', 'x = { env = "HOME2" }', 'x = { file = "/none" }'],
)
def test_what_is_none_is_left_to_be_read(tmp_path: Path, text: str) -> None:
    assert list(secrets_in([text], {"HOME": "/home/me"}, tmp_path)) == []


def test_a_short_value_is_masked_in_its_place() -> None:
    """Too short to be looked for in every text, where it would hit ordinary words."""
    assert masked('pin = 1\npassword = "ab"\nname = "ab"') == 'pin = 1\npassword = "********"\nname = "ab"'
