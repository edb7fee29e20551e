"""The built-in flows by name and the parameters each takes: what the configuration needs without their code."""

from __future__ import annotations

from collections.abc import Mapping

# The order is the order in which the reference tells them.
HTTP_REQUEST_PARAMETERS = (
    "url",
    "method",
    "params",
    "headers",
    "json",
    "form",
    "text",
    "auth",
    "expected_status",
    "connect_timeout",
    "read_timeout",
    "total_timeout",
    "max_bytes",
    "follow_redirects",
    "max_redirects",
    "allowed_hosts",
    "idempotency_header",
    "retry_unsafe",
    "log_response",
    "artifact",
    "artifact_headers",
    "keep_versions",
    "new_version",
)
SHELL_PARAMETERS = (
    "command",
    "argv",
    "env",
    "cwd",
    "umask",
    "stdin",
    "expected_exit_codes",
)

BUILTIN_PARAMETERS: Mapping[str, frozenset[str]] = {
    "http_request": frozenset(HTTP_REQUEST_PARAMETERS),
    "shell": frozenset(SHELL_PARAMETERS),
}

# Where a parameter's value, or a value inside it, may be {env = …}, {credential = …} or {file = …}. Elsewhere such a
# table is data: {"file" = "x"} inside a JSON body is a JSON body.
BUILTIN_SECRETS: Mapping[str, frozenset[str]] = {
    "http_request": frozenset({"url", "params", "headers", "form", "auth"}),
    "shell": frozenset({"env"}),
}

# What marks a deployment without ``flow =`` as one of the built-in flows.
SHORT_FORMS: Mapping[str, str] = {"url": "http_request", "command": "shell", "argv": "shell"}
