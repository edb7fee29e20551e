"""What of configuration files must not be shown to others: secrets, where they lie, and what is as good as one.

References are no secrets, what they lead to is. Files are also written by people who have not read that secrets belong
elsewhere, so whatever looks like one counts: values under words for secrets, passwords and tokens in URLs, the paths of
webhooks and pings, which are all that who knows them needs.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from tidemill.config.secrets import SOURCES, SecretError, is_secret_word, resolve_secret
from tidemill.core.deployments import SecretRef

MASK = "********"
SHORTEST_PATH = 8  # of a webhook's path that is taken for a secret
# Tables and keys whose URLs are secrets: who knows them can send.
_SENDING = frozenset({"notify", "ping"})
# `key = "value"` in text that may be no TOML (any more).
_ASSIGNED = re.compile(
    r"""(?m)(?P<key>[A-Za-z0-9_."'-]+)(?P<is>\s*=\s*)(?P<quote>'''|\"\"\"|['"])(?P<value>.+?)(?P=quote)"""
)
_URL = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*://[^\s'\"<>]+")


def secrets_in(texts: Iterable[str], environ: Mapping[str, str], folder: Path) -> Iterator[str]:
    """Yield what must not be shown: of the files' texts, of what they refer to, and of the environment.

    ``folder`` is where relative paths of secret files start. A reference that leads nowhere yields nothing.
    """
    credentials = environ.get("CREDENTIALS_DIRECTORY")
    yield from (value for name, value in environ.items() if is_secret_word(name) and value)
    for text in texts:
        for match in _ASSIGNED.finditer(text):
            if is_secret_word(match["key"].strip("\"'")):
                yield from _value(match["value"])
        for url in _URL.findall(text):
            yield from _of_url(url)
        try:
            data = tomllib.loads(text)
        except (ValueError, RecursionError):
            continue
        yield from _walk(data, environ, Path(credentials) if credentials else None, folder)


def _walk(
    value: Any, environ: Mapping[str, str], credentials: Path | None, folder: Path, at: tuple[str, ...] = ()
) -> Iterator[str]:
    if isinstance(value, list):
        for item in value:
            yield from _walk(item, environ, credentials, folder, at)
    elif isinstance(value, dict):
        if len(value) == 1 and set(value) <= set(SOURCES):
            yield from _resolved(value, environ, credentials, folder)
        for key, item in value.items():
            yield from _walk(item, environ, credentials, folder, (*at, key))
    elif isinstance(value, str) and value:
        if at and is_secret_word(at[-1]):
            yield from _value(value)
        if _SENDING & set(at) or (at[-1:] == ("url",) and "blocks" in at):
            yield from _path(value)


def _value(value: str) -> Iterator[str]:
    """The whole, and of "Bearer abc" the part that counts."""
    yield value
    yield from value.split()[1:2]


def _of_url(url: str) -> Iterator[str]:
    try:
        parts = urlsplit(url)
        password = parts.password
    except ValueError:
        return
    if password:
        yield password
        yield unquote(password)
    if parts.scheme not in ("http", "https", "unix", "tcp", "tls", "mailto"):
        yield url.partition("://")[2]  # an Apprise URL: its parts are tokens
    yield from (value for name, value in parse_qsl(parts.query) if is_secret_word(name) and value)


def _path(url: str) -> Iterator[str]:
    try:
        parts = urlsplit(url)
    except ValueError:
        return
    path = parts.path.strip("/") + (f"?{parts.query}" if parts.query else "")
    if parts.scheme in ("http", "https") and len(path) >= SHORTEST_PATH:
        yield path
        yield parts.path.strip("/").rpartition("/")[2]  # where the part that counts stands by custom


def _resolved(
    value: dict[str, Any], environ: Mapping[str, str], credentials: Path | None, folder: Path
) -> Iterator[str]:
    ((source, place),) = value.items()
    if not isinstance(place, str) or not place or "\0" in place:
        return
    try:
        yield resolve_secret(
            SecretRef(**{source: str(folder / place) if source == "file" else place}), environ, credentials
        )
    except SecretError:
        return


def masked(text: str) -> str:
    """Return a file's text without the values that stand under words for secrets, however short they are."""

    def replaced(match: re.Match[str]) -> str:
        if not is_secret_word(match["key"].strip("\"'")):
            return match[0]
        return f"{match['key']}{match['is']}{match['quote']}{MASK}{match['quote']}"

    return _ASSIGNED.sub(replaced, text)
