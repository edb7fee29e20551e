"""The parameters of ``http_request``, their defaults, and which of them go together."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import msgspec

from tidemill.core.deployments import SecretRef
from tidemill.flows.http_hosts import AllowList
from tidemill.flows.parameters import ByteCount, Seconds, SecretText, read_parameters, shape_findings, sound_part
from tidemill.sdk.canonical import canonical
from tidemill.sdk.findings import Finding

# A second request with one of these does what one would (RFC 9110, 9.2.2); TRACE is left out, as it is refused.
IDEMPOTENT = frozenset({"GET", "HEAD", "PUT", "DELETE", "OPTIONS"})
LARGEST_BODY = 256 * 1024 * 1024  # bodies are held in memory

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, 5.6.2
_BREAKS = re.compile(r"[\r\n\0]")
_STATUS = re.compile(r"([1-5])xx|([1-5]\d\d)(?:-([1-5]\d\d))?", re.IGNORECASE)
_OURS = frozenset({"content-length", "transfer-encoding", "connection"})

Scalar = str | int | float | bool


class BasicAuth(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    username: SecretText
    password: SecretText


class Auth(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One of: ``bearer``, a token; ``basic``, a name and a password."""

    bearer: SecretText | None = None
    basic: BasicAuth | None = None


class HttpRequestParameters(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one request is, and which answer is a good one.

    A value that is a secret is given as ``{ env = "NAME" }``, ``{ credential = "name" }`` or ``{ file = "path" }``;
    ``url``, ``auth`` and the values inside ``params``, ``headers`` and ``form`` may be.
    """

    url: SecretText  # http or https; a secret one is shown without its path
    method: str = "GET"
    params: dict[str, Scalar | list[Scalar] | SecretRef] = {}  # added to the query of the url
    headers: dict[str, str | int | SecretRef] = {}
    json: Any = msgspec.UNSET  # at most one of json, form and text
    form: dict[str, Scalar | SecretRef] | None = None
    text: str | None = None
    auth: Auth | None = None
    expected_status: int | str | list[int | str] = "2xx"  # 200, "2xx", "200-204" or a list of such
    connect_timeout: Seconds = Seconds(10)
    read_timeout: Seconds = Seconds(30)  # between two pieces of the answer
    total_timeout: Seconds = Seconds(60)  # from the first look-up to the last byte, redirects included
    max_bytes: ByteCount = ByteCount(10 * 1024 * 1024)  # of the decoded body
    follow_redirects: bool = True
    max_redirects: int = 5
    allowed_hosts: list[str] | None = None  # None: any host
    idempotency_header: str | None = None  # "Idempotency-Key": carries the run's id, the same at every attempt
    retry_unsafe: bool = False  # retry POST and PATCH without such a header
    log_response: bool = True
    artifact: str | bool = True  # the key; true: the deployment's name; false: none
    artifact_headers: list[str] = msgspec.field(
        default_factory=lambda: ["content-type", "etag", "last-modified", "link", "retry-after"]
    )
    keep_versions: int | None = None  # None: the daemon's default
    new_version: bool = False  # also where the answer is the same as the last one

    @property
    def verb(self) -> str:
        return self.method.upper()

    @property
    def may_repeat(self) -> bool:
        """Whether a second request does no harm, so that a failure may be retried."""
        return self.verb in IDEMPOTENT or self.idempotency_header is not None or self.retry_unsafe

    def expects(self, status: int) -> bool:
        wanted = self.expected_status if isinstance(self.expected_status, list) else [self.expected_status]
        return any(status in _statuses(one) for one in wanted)


def read_http_parameters(parameters: Mapping[str, Any]) -> HttpRequestParameters:
    return read_parameters(HttpRequestParameters, parameters)


def http_findings(parameters: Mapping[str, Any]) -> list[Finding]:
    """Return every fault of the parameters of one request."""
    found = shape_findings(HttpRequestParameters, "http_request", parameters)
    wanted, _ = sound_part(HttpRequestParameters, parameters, found)
    if wanted is None:
        return found
    found += _url_findings(wanted)
    found += _header_findings(wanted)
    found += _body_findings(wanted)
    found += _bound_findings(wanted)
    if not _TOKEN.fullmatch(wanted.method) or wanted.verb in {"CONNECT", "TRACE"}:
        found.append(
            Finding("method", f'"{wanted.method}" cannot be sent', "use GET, POST, PUT, PATCH, DELETE or HEAD")
        )
    if wanted.auth is not None and (wanted.auth.bearer is None) == (wanted.auth.basic is None):
        found.append(Finding("auth", "needs exactly one of bearer and basic"))
    listed = wanted.expected_status if isinstance(wanted.expected_status, list) else [wanted.expected_status]
    for status in listed:
        if not _statuses(status):
            found.append(Finding("expected_status", f'"{status}" is not a status', 'write 200, "2xx" or "200-204"'))
    if not listed:
        found.append(Finding("expected_status", "is empty, so no answer would be good", 'leave it out for "2xx"'))
    return found


def _url_findings(wanted: HttpRequestParameters) -> list[Finding]:
    if isinstance(wanted.url, SecretRef):
        return _allow_list_findings(wanted, None, None)
    remedy = 'write it as "https://host/path"'
    try:
        url = urlsplit(wanted.url)
        port = url.port
    except ValueError as error:
        return [Finding("url", f"is not a URL: {error}", remedy)]
    if url.scheme.lower() not in {"http", "https"}:
        return [
            Finding(
                "url", f'begins with "{url.scheme}:", not http: or https:' if url.scheme else "has no scheme", remedy
            )
        ]
    if not url.hostname:
        return [Finding("url", "names no host", remedy)]
    if url.username is not None or url.password is not None:
        return [Finding("url", "holds a user name or password", "give them in auth = { basic = { … } }")]
    if re.search(r"[\s\x00-\x1f]", wanted.url):
        return [Finding("url", "holds a blank or a control character", "write a blank as %20")]
    return _allow_list_findings(wanted, url.hostname, port or (443 if url.scheme.lower() == "https" else 80))


def _allow_list_findings(wanted: HttpRequestParameters, host: str | None, port: int | None) -> list[Finding]:
    if wanted.allowed_hosts is None:
        return []
    try:
        allowed = AllowList(wanted.allowed_hosts)
    except ValueError as error:
        return [
            Finding(
                "allowed_hosts", str(error), 'write "api.example.org", "*.example.org", "host:8443" or "10.0.0.0/8"'
            )
        ]
    if host is not None and port is not None and not allowed.names(host, port):
        return [Finding("allowed_hosts", f"does not hold {host}, which url names", "add it")]
    return []


def _header_findings(wanted: HttpRequestParameters) -> list[Finding]:
    found = []
    for name, value in wanted.headers.items():
        path = f"headers.{name}"
        if not _TOKEN.fullmatch(name):
            found.append(Finding(path, "is not a header's name"))
        elif name.lower() in _OURS:
            found.append(Finding(path, "is set by the program itself", "leave it out"))
        elif isinstance(value, str) and (_BREAKS.search(value) or not value.isascii()):
            found.append(Finding(path, "has a value with a line break or letters beyond ASCII"))
        elif name.lower() == "authorization" and wanted.auth is not None:
            found.append(Finding(path, "stands beside auth, which sets the same header", "keep one of them"))
    if wanted.idempotency_header is not None and not _TOKEN.fullmatch(wanted.idempotency_header):
        found.append(Finding("idempotency_header", "is not a header's name", 'write "Idempotency-Key"'))
    return found


def _body_findings(wanted: HttpRequestParameters) -> list[Finding]:
    bodies = {
        "json": wanted.json is not msgspec.UNSET,
        "form": wanted.form is not None,
        "text": wanted.text is not None,
    }
    given = [name for name, there in bodies.items() if there]
    if len(given) > 1:
        return [Finding(given[1], f"stands beside {given[0]}", "a request has one body: keep one of them")]
    if bodies["json"]:
        try:
            canonical(wanted.json, limit=None)
        except ValueError as error:
            return [Finding("json", str(error))]
    return []


def _bound_findings(wanted: HttpRequestParameters) -> list[Finding]:
    found = [
        Finding(name, "is no time at all", "give it some, such as 30s")
        for name in ("connect_timeout", "read_timeout", "total_timeout")
        if getattr(wanted, name) <= 0
    ]
    if not 0 <= wanted.max_redirects <= 5:
        found.append(Finding("max_redirects", f"{wanted.max_redirects} is not in 0-5"))
    if not 0 < wanted.max_bytes <= LARGEST_BODY:
        found.append(Finding("max_bytes", "must be more than nothing and at most 256MiB: an answer is held in memory"))
    if wanted.keep_versions is not None and wanted.keep_versions < 1:
        found.append(Finding("keep_versions", "must be at least 1: the latest version always stays"))
    if isinstance(wanted.artifact, str) and not wanted.artifact.strip():
        found.append(Finding("artifact", "is an empty key", "write false to keep no artifact"))
    return found


def _statuses(wanted: int | str) -> range:
    """Return the statuses meant by 200, "200", "2xx" or "200-204"; an empty range for anything else."""
    match = _STATUS.fullmatch(str(wanted).strip())
    if match is None:
        return range(0)
    if match[1]:
        return range(int(match[1]) * 100, int(match[1]) * 100 + 100)
    return range(int(match[2]), int(match[3] or match[2]) + 1)
