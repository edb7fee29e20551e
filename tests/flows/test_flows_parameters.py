"""Parameters of built-in flows: the names that the configuration knows, and every fault told at once."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from tidemill.core.builtins import BUILTIN_PARAMETERS, BUILTIN_SECRETS, SHORT_FORMS
from tidemill.flows.builtins import builtins

FLOWS = builtins(environ={})
URL = "https://api.test/v1"


def test_the_configuration_knows_exactly_the_parameters_there_are() -> None:
    assert {name: frozenset(flow.parameters.__struct_fields__) for name, flow in FLOWS.items()} == BUILTIN_PARAMETERS


def test_short_forms_and_secrets_name_parameters_there_are() -> None:
    assert all(key in BUILTIN_PARAMETERS[flow] for key, flow in SHORT_FORMS.items())
    assert all(names <= BUILTIN_PARAMETERS[flow] for flow, names in BUILTIN_SECRETS.items())


SECRET = {"env": "TOKEN"}


@pytest.mark.parametrize(
    ("parameters", "refused"),
    [
        # A reference to a secret where BUILTIN_SECRETS allows it is no fault; elsewhere it is data or a wrong type.
        ({"url": SECRET}, False),
        ({"url": URL, "params": {"key": SECRET}}, False),
        ({"url": URL, "headers": {"x-key": SECRET}}, False),
        ({"url": URL, "form": {"key": SECRET}}, False),
        ({"url": URL, "auth": {"bearer": SECRET}}, False),
        ({"url": URL, "json": {"file": "x"}}, False),
        ({"url": URL, "text": SECRET}, True),
        ({"url": URL, "method": SECRET}, True),
    ],
)
def test_a_secret_stands_only_where_it_may(parameters: dict[str, Any], refused: bool) -> None:
    assert bool(FLOWS["http_request"].check(parameters)) is refused


@pytest.mark.parametrize(
    ("parameters", "findings"),
    [
        ({"url": URL}, []),
        ({}, ["url: http_request needs it"]),
        ({"url": URL, "metod": "GET"}, ['metod: http_request has no such parameter; did you mean "method"?']),
        (
            {"url": 3, "params": [], "read_timeout": "soon"},  # all of them at once
            [
                "url: expected text or table, got whole number",
                "params: expected table, got list",
                'read_timeout: "soon" is not a duration: write it as "90s", "1h30m", "1.5h", "2d", "1w" or "250ms"',
            ],
        ),
        (
            {"url": "ftp://api.test", "params": [], "metod": "GET", "max_redirects": 6},  # whatever sort they are of
            ["metod: http_request has no", "params: expected table", 'url: begins with "ftp:"', "max_redirects: 6 is"],
        ),
        ({"url": 3, "max_redirects": 6}, ["url: expected text or table"]),  # without a url there is no request
        ({"url": "api.test"}, ['url: has no scheme; write it as "https://host/path"']),
        ({"url": "ftp://api.test"}, ['url: begins with "ftp:", not http: or https:; write it as "https://host/path"']),
        ({"url": "https:///path"}, ['url: names no host; write it as "https://host/path"']),
        ({"url": "https://a.test:99999"}, ["url: is not a URL: Port out of range 0-65535; "]),
        (
            {"url": "https://me:pw@a.test"},
            ["url: holds a user name or password; give them in auth"],
        ),
        ({"url": "https://a.test/a b"}, ["url: holds a blank or a control character"]),
        ({"url": URL, "method": "GE T"}, ['method: "GE T" cannot be sent']),
        ({"url": URL, "method": "trace"}, ['method: "trace" cannot be sent']),
        ({"url": URL, "json": {}, "text": ""}, ["text: stands beside json; a request has one body: keep one of them"]),
        ({"url": URL, "json": {"x": float("nan")}}, ["json: not JSON: $.x is NaN; use null or a text"]),
        ({"url": URL, "auth": {}}, ["auth: needs exactly one of bearer and basic"]),
        ({"url": URL, "auth": {"bearer": {}}}, ["auth.bearer: names no one place of a secret; write { env = … }"]),
        ({"url": URL, "auth": {"bearer": {"envv": "X"}}}, ['auth.bearer: "envv" is no key of it']),
        ({"url": URL, "auth": {"basic": {"username": "a"}}}, ['auth.basic: lacks "password"']),
        ({"url": URL, "headers": {"a b": "x"}}, ["headers.a b: is not a header's name"]),
        ({"url": URL, "headers": {"x": "a\r\nb: c"}}, ["headers.x: has a value with a line break"]),
        ({"url": URL, "headers": {"Content-Length": 3}}, ["headers.Content-Length: is set by the program itself"]),
        (
            {"url": URL, "headers": {"Authorization": "x"}, "auth": {"bearer": "y"}},
            ["headers.Authorization: stands beside auth, which sets the same header; keep one of them"],
        ),
        ({"url": URL, "idempotency_header": "a:b"}, ["idempotency_header: is not a header's name"]),
        ({"url": URL, "expected_status": [200, "2x"]}, ['expected_status: "2x" is not a status']),
        ({"url": URL, "expected_status": []}, ["expected_status: is empty, so no answer would be good"]),
        ({"url": URL, "expected_status": "204-200"}, ['expected_status: "204-200" is not a status']),
        ({"url": URL, "total_timeout": 0}, ["total_timeout: is no time at all"]),
        ({"url": URL, "max_redirects": 6}, ["max_redirects: 6 is not in 0-5"]),
        ({"url": URL, "max_bytes": "1GiB"}, ["max_bytes: must be more than nothing and at most 256MiB"]),
        ({"url": URL, "max_bytes": 0}, ["max_bytes: must be more than nothing"]),
        ({"url": URL, "keep_versions": 0}, ["keep_versions: must be at least 1"]),
        ({"url": URL, "artifact": " "}, ["artifact: is an empty key; write false to keep no artifact"]),
        ({"url": URL, "allowed_hosts": ["a/b/c"]}, ['allowed_hosts: "a/b/c" is neither a host, nor an address']),
        ({"url": URL, "allowed_hosts": ["b.test"]}, ["allowed_hosts: does not hold api.test, which url names; add it"]),
        ({"url": URL, "allowed_hosts": ["api.test:8443"]}, ["allowed_hosts: does not hold api.test"]),
        ({"url": URL, "allowed_hosts": ["*.test"], "expected_status": ["2xx", 404, "500-503"]}, []),
        ({"url": URL, "max_bytes": "1MiB", "connect_timeout": 1.5, "artifact": False}, []),
    ],
)
def test_every_fault_of_a_request_is_told(parameters: dict[str, Any], findings: list[str]) -> None:
    told = [str(finding) for finding in FLOWS["http_request"].check(parameters)]
    assert len(told) == len(findings)
    for said, expected in zip(told, findings, strict=True):
        assert said.startswith(expected)


@pytest.mark.parametrize(
    ("parameters", "findings"),
    [
        ({"command": "true"}, []),
        ({"argv": ["true"]}, []),
        ({}, ["command: needs exactly one of command and argv"]),
        ({"command": "true", "argv": ["true"]}, ["command: needs exactly one of command and argv"]),
        ({"command": " "}, ["command: is empty"]),
        ({"command": "a\0b"}, ["command: holds a zero byte"]),
        ({"argv": []}, ["argv: names no program"]),
        ({"argv": ["--help"]}, ['argv[0]: "--help" begins with "-": it is an option, not a program']),
        ({"argv": ["a", 3]}, ["argv[1]: expected text, got whole number"]),
        ({"argv": ["a", SECRET]}, ["argv[1]: expected text, got table"]),  # the process list is for everybody (P14)
        ({"command": "true", "env": {"A B": "x"}}, ["env.A B: is not a variable's name; use letters, digits and _"]),
        ({"command": "true", "env": {"TIDEMILL_RUN_ID": "x"}}, ["env.TIDEMILL_RUN_ID: is set by the program itself"]),
        ({"command": "true", "env": {"X": SECRET, "Y": "plain"}}, []),
        ({"command": "true", "env": {"X": {"env": "A", "file": "b"}}}, ["env.X: names no one place of a secret"]),
        ({"command": "true", "cwd": "work"}, ['cwd: "work" is relative']),
        ({"command": "true", "umask": "9"}, ['umask: "9" is not a mask; write it as in the shell: "022"']),
        ({"command": "true", "umask": 22}, ["umask: expected text, got whole number"]),  # 22 or 0o22? nobody knows
        ({"argv": "ls", "umask": "9"}, ["argv: expected list, got text", 'umask: "9" is not a mask']),
        ({"command": "true", "expected_exit_codes": [0, 256]}, ["expected_exit_codes: 256 is not in 0-255"]),
        ({"command": "true", "expected_exit_codes": []}, ["expected_exit_codes: is empty, so no end would be good"]),
    ],
)
def test_every_fault_of_a_command_is_told(parameters: dict[str, Any], findings: list[str]) -> None:
    told = [str(finding) for finding in FLOWS["shell"].check(parameters)]
    assert len(told) == len(findings)
    for said, expected in zip(told, findings, strict=True):
        assert said.startswith(expected)


def test_every_default_passes_the_check_it_would_face_if_written() -> None:
    for flow, given in ((FLOWS["http_request"], {"url": URL}), (FLOWS["shell"], {"command": "true"})):
        fields = msgspec.structs.fields(flow.parameters)
        defaults = {
            field.name: field.default_factory() if field.default is msgspec.NODEFAULT else field.default
            for field in fields
            if not field.required
        }
        written = {name: value for name, value in defaults.items() if value is not None and value is not msgspec.UNSET}
        assert flow.check(written | given) == []
