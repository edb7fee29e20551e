"""Secrets are named in the file, looked for at load, and told nowhere (P14)."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from tidemill.config import Loaded, SecretError, load_last_good, resolve_secret, save_last_good
from tidemill.core.deployments import SecretRef
from tidemill.errors import ConfigError

CANARY = "c4n4ry-v4lue"
HTTP = '[deployments.a]\nurl = "http://h/"\n'
SHELL = '[deployments.a]\ncommand = "date"\n'


@pytest.fixture
def credentials(folder: Path) -> Path:
    path = folder / "credentials"
    path.mkdir()
    (path / "token").write_text(CANARY + "\n")
    (path / "empty").write_text("\n")
    (path / "binary").write_bytes(b"\xff\xfe\x00")
    (path / "large").write_bytes(b"x" * 65537)
    (path / "folder").mkdir()
    return path


def test_a_secret_is_found_in_each_of_its_places(credentials: Path) -> None:
    environ = {"TOKEN": CANARY}
    for ref in (
        SecretRef(env="TOKEN"),
        SecretRef(credential="token"),
        SecretRef(file=str(credentials / "token")),
    ):
        assert resolve_secret(ref, environ, credentials) == CANARY


@pytest.mark.parametrize(("raw", "value"), [("a\n", "a"), ("a\r\n", "a"), ("a\n\n", "a\n"), (" a ", " a ")])
def test_only_the_last_line_end_is_taken_off(raw: str, value: str, folder: Path) -> None:
    (folder / "s").write_bytes(raw.encode())
    assert resolve_secret(SecretRef(file=str(folder / "s")), {}, None) == value


# A reference to nothing -> what is said of it.
MISSING = {
    '{ env = "NOT_SET" }': ("environment variable NOT_SET is not set; set it: Environment=NOT_SET=… or export it"),
    '{ env = "EMPTY" }': "environment variable EMPTY is empty; set it: Environment=EMPTY=… or export it",
    '{ credential = "gone" }': ('credential "gone" is missing; add LoadCredential=gone:/path/to/it to the unit'),
    '{ credential = "empty" }': 'credential "empty" is empty; add LoadCredential=empty:/path/to/it to the unit',
    '{ credential = "binary" }': 'credential "binary" is not text; write it as UTF-8',
    '{ credential = "large" }': 'credential "large" is larger than 65536 bytes; is it the right file?',
    '{ credential = "folder" }': 'credential "folder" is no file; add LoadCredential=folder:/path/to/it to the unit',
    '{ file = "/nowhere/x" }': (
        "secret file /nowhere/x is missing; write the secret into it, for the daemon's user alone"
    ),
    # Whoever follows "chmod 600 /dev" has more to mend than a secret.
    '{ file = "/dev" }': "secret file /dev is no file; name the file that holds the secret",
    '{ file = "/dev/null" }': "secret file /dev/null is no file; name the file that holds the secret",
}


@pytest.mark.parametrize("reference", MISSING)
def test_a_missing_secret_is_a_fault_that_says_how_to_provide_it(
    reference: str, credentials: Path, faults_of: Callable[..., list[str]]
) -> None:
    environ = {"TZ": "UTC", "EMPTY": "", "CREDENTIALS_DIRECTORY": str(credentials)}
    assert faults_of(HTTP + f"auth = {{ bearer = {reference} }}", environ) == [
        f"tidemill.toml:3:19 deployments.a.auth.bearer: {MISSING[reference]}"
    ]


def test_a_service_without_credentials_is_a_fault(faults_of: Callable[..., list[str]]) -> None:
    environ = {"TZ": "UTC", "SYSTEMD_EXEC_PID": str(os.getpid())}
    (fault,) = faults_of(HTTP + 'auth = { bearer = { credential = "x" } }', environ)
    assert fault.endswith(
        'credential "x" is not to be had here: there is no $CREDENTIALS_DIRECTORY;'
        " a service has one: add LoadCredential=x:/path/to/it to the unit"
    )


@pytest.mark.parametrize("environ", [{}, {"SYSTEMD_EXEC_PID": "1"}], ids=["a shell", "a shell of a service"])
def test_who_checks_a_service_s_file_has_no_credentials_and_is_warned(
    load_text: Callable[..., Loaded], environ: dict[str, str]
) -> None:
    loaded = load_text(HTTP + 'auth = { bearer = { credential = "x" } }\n', {"TZ": "UTC"} | environ)
    assert any('credential "x" is not to be had here' in str(warning) for warning in loaded.warnings)


# Where a table is a reference: all of these are looked up, and found missing.
PLACES = {
    'url = { env = "X" }': "url",
    'headers = { a = { env = "X" } }': "headers.a",
    'headers = { env = { env = "X" } }': "headers.env",
    'params = { a = { env = "X" } }': "params.a",
    'form = { a = { env = "X" } }': "form.a",
    'auth = { basic = { username = "u", password = { env = "X" } } }': "auth.basic.password",
}
# Where it is data.
DATA = [
    HTTP + 'json = { env = "X" }',
    HTTP + 'json = { a = [{ file = "X" }] }',
    HTTP + 'headers = { env = "X" }',  # a header of the name env
    HTTP + 'params = { file = "X", credential = "Y" }',
    SHELL + 'env = { env = "X" }',  # a variable of the name env
    '[deployments.a]\nflow = "a.py:f"\nparameters = { auth = { env = "X" } }',
]


@pytest.mark.parametrize("lines", PLACES)
def test_a_reference_counts_where_a_secret_may_stand(lines: str, faults_of: Callable[..., list[str]]) -> None:
    text = f"[deployments.a]\n{lines}" if lines.startswith("url") else HTTP + lines
    (fault,) = faults_of(text)
    assert f" deployments.a.{PLACES[lines]}: environment variable X is not set" in fault


@pytest.mark.parametrize("text", DATA)
def test_elsewhere_such_a_table_is_data(text: str, load_text: Callable[..., Loaded]) -> None:
    assert load_text(text).warnings == ()


# What looks like a reference and is none -> what is said.
BROKEN = {
    '{ env = "A", file = "/b" }': "19 deployments.a.auth.bearer: names more than one place for a secret; write { env",
    "{ env = 5 }": "27 deployments.a.auth.bearer.env: 5 names no place of a secret; write { env",
    '{ env = "A B" }': '27 deployments.a.auth.bearer.env: "A B" is no name of an environment variable; write { env',
    '{ credential = "../x" }': '34 deployments.a.auth.bearer.credential: "../x" is no name of a credential; write the',
    '{ file = "~/x" }': '28 deployments.a.auth.bearer.file: "~/x": ~ is not expanded, a daemon may have no home; write',
}


@pytest.mark.parametrize("reference", BROKEN)
def test_a_broken_reference_is_a_fault(reference: str, faults_of: Callable[..., list[str]]) -> None:
    (fault,) = faults_of(HTTP + f"auth = {{ bearer = {reference} }}")
    assert fault.startswith(f"tidemill.toml:3:{BROKEN[reference]}"), fault


# A literal that looks like a secret -> where.
PLAIN = {
    HTTP + f'auth = {{ bearer = "{CANARY}" }}': "3:19 deployments.a.auth.bearer",
    HTTP
    + f'auth = {{ basic = {{ username = "u", password = "{CANARY}" }} }}': "3:47 deployments.a.auth.basic.password",
    HTTP + f'headers = {{ X-Api-Key = "{CANARY}" }}': "3:25 deployments.a.headers.X-Api-Key",
    HTTP + f'headers = {{ authorization = "{CANARY}" }}': "3:29 deployments.a.headers.authorization",
    HTTP + f'params = {{ token = "{CANARY}" }}': "3:20 deployments.a.params.token",
    f'[deployments.a]\nurl = "http://u:{CANARY}@h/"': "2:7 deployments.a.url",
}


@pytest.mark.parametrize("text", PLAIN)
def test_a_secret_in_plain_text_is_a_warning_that_does_not_tell_it(text: str, load_text: Callable[..., Loaded]) -> None:
    (warning,) = load_text(text).warnings
    assert str(warning) == (
        f"tidemill.toml:{PLAIN[text]}: looks like a secret in plain text; keep it out of the file: "
        '{ credential = "name" }, { env = "NAME" } or { file = "/path" }'
    )
    assert CANARY not in str(warning)


def test_variables_of_a_command_are_looked_at_too(load_text: Callable[..., Loaded]) -> None:
    warnings = load_text(SHELL + 'env = { PGPASSWORD = "x", DB_PASSWORD = "y", PATH = "/bin", MONKEY = "z" }').warnings
    assert [warning.key for warning in warnings] == [
        "deployments.a.env.PGPASSWORD",
        "deployments.a.env.DB_PASSWORD",
    ]


@pytest.mark.parametrize(
    "text", [HTTP + 'headers = { accept = "x", x-token-count = "5" }', HTTP + 'params = { q = "" }']
)
def test_what_does_not_look_like_a_secret_is_let_be(text: str, load_text: Callable[..., Loaded]) -> None:
    assert load_text(text).warnings == ()


def test_a_secrets_value_is_nowhere_in_what_is_loaded(load_text: Callable[..., Loaded], folder: Path) -> None:
    (folder / "token").write_text(CANARY)
    loaded = load_text(
        HTTP + 'auth = { bearer = { env = "TOKEN" } }\nheaders = { a = { file = "token" } }',
        {"TZ": "UTC", "TOKEN": CANARY},
    )
    assert loaded.settings.deployments["a"].parameters == {
        "url": "http://h/",
        "auth": {"bearer": {"env": "TOKEN"}},
        "headers": {"a": {"file": str(folder / "token")}},
    }
    save_last_good(loaded, folder)
    kept = (folder / "last-good.json").read_text()
    told = (repr(loaded.settings), str(vars(loaded)), kept, msgspec.json.encode(loaded.warnings).decode())
    assert all(CANARY not in text for text in told)


def test_an_error_does_not_carry_the_value_along(folder: Path) -> None:
    (folder / "token").write_bytes(CANARY.encode() + b"\xff")
    with pytest.raises(SecretError) as caught:
        resolve_secret(SecretRef(file=str(folder / "token")), {}, None)
    assert caught.value.__suppress_context__
    assert CANARY not in str(caught.value)


def test_a_secret_that_is_gone_does_not_keep_the_last_good_set_from_running(
    load_text: Callable[..., Loaded], folder: Path
) -> None:
    """P8: degraded, with a warning; the runs that need it will fail and say so."""
    loaded = load_text(HTTP + 'auth = { bearer = { env = "TOKEN" } }', {"TZ": "UTC", "TOKEN": CANARY})
    save_last_good(loaded, folder)
    again = load_last_good(folder, environ={"TZ": "UTC"})
    assert again is not None
    (warning,) = again.warnings
    assert "TOKEN is not set" in str(warning)
    with pytest.raises(ConfigError):
        load_text(HTTP + 'auth = { bearer = { env = "TOKEN" } }')
