"""Secrets by reference: where they may stand in the file, and fetching one at the moment it is needed.

The settings hold the reference only. A value read here goes to the caller and nowhere else: no message quotes it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from tidemill import systemd
from tidemill.config.faults import Wrong, show
from tidemill.config.positions import KeyPath
from tidemill.core.builtins import BUILTIN_SECRETS
from tidemill.core.deployments import SecretRef
from tidemill.errors import EXIT_CONFIG, TidemillError

MAX_SECRET_BYTES = 64 * 1024
SOURCES = ("env", "credential", "file")
# These hold values by name at their first level, so {env = "x"} there is a value named env.
_MAPS = frozenset({"params", "headers", "form", "env"})
_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SECRET_WORD = re.compile(
    r"(?i)(?:password|passwd|passphrase|secret"
    r"|(?:^|[_.-])(?:pass|token|bearer|api[_-]?key|private[_-]?key|authorization|cookie))s?$"
)
_WRITE = 'write { env = "NAME" }, { credential = "name" } or { file = "/path" }'


class SecretError(TidemillError):
    """A secret is not where its reference says. The text names the place and how to fill it, never the value."""

    exit_code = EXIT_CONFIG

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(f"{problem}; {remedy}")
        self.problem = problem
        self.remedy = remedy


class Secrets(NamedTuple):
    """Where secrets are looked up, and whether a missing one is a fault or (``lenient``) a warning."""

    environ: Mapping[str, str]
    lenient: bool

    @property
    def credentials_dir(self) -> Path | None:
        folder = self.environ.get("CREDENTIALS_DIRECTORY")
        return Path(folder) if folder else None

    def forgives(self, ref: SecretRef) -> bool:
        """Say whether it is a warning, and no fault, that a secret is missing.

        A credential is there for the service alone: a person who checks the file has none, and nothing is wrong.
        """
        elsewhere = self.credentials_dir is None and not systemd.under_systemd(self.environ)
        return self.lenient or (ref.credential is not None and elsewhere)


def resolve_secret(ref: SecretRef, environ: Mapping[str, str], credentials_dir: Path | None) -> str:
    """Return the secret's value, without the line end that editors put after it.

    Raises :class:`SecretError` where it is missing, empty, too large or no text.
    """
    if ref.env is not None:
        value = environ.get(ref.env, "")
        if not value:
            state = "is empty" if ref.env in environ else "is not set"
            raise SecretError(
                f"environment variable {ref.env} {state}", f"set it: Environment={ref.env}=… or export it"
            )
        return value
    if ref.credential is not None:
        load = f"add LoadCredential={ref.credential}:/path/to/it to the unit"
        if credentials_dir is None:
            problem = f'credential "{ref.credential}" is not to be had here: there is no $CREDENTIALS_DIRECTORY'
            raise SecretError(problem, f"a service has one: {load}")
        return _read(credentials_dir / ref.credential, f'credential "{ref.credential}"', load)
    path = Path(ref.file or "")
    return _read(path, f"secret file {path}")


def _read(path: Path, what: str, remedy: str | None = None) -> str:
    """Return the text of a file that holds a secret. ``remedy`` is what helps in any case; None: the case tells."""
    try:
        if not path.exists():
            raise SecretError(f"{what} is missing", remedy or "write the secret into it, for the daemon's user alone")
        if not path.is_file():
            raise SecretError(f"{what} is no file", remedy or "name the file that holds the secret")
        with path.open("rb") as file:
            raw = file.read(MAX_SECRET_BYTES + 1)
    except OSError as error:
        allow = f"make it readable for the daemon's user alone: chmod 600 {path}"
        raise SecretError(f"{what} cannot be read: {error.strerror}", remedy or allow) from None
    if len(raw) > MAX_SECRET_BYTES:
        raise SecretError(f"{what} is larger than {MAX_SECRET_BYTES} bytes", "is it the right file?")
    try:
        value = raw.decode()
    except UnicodeDecodeError:
        raise SecretError(f"{what} is not text", "write it as UTF-8") from None
    value = value.removesuffix("\n").removesuffix("\r")
    if not value:
        raise SecretError(f"{what} is empty", remedy or "write the secret into it")
    return value


def take_references(
    flow: str, parameters: dict[str, Any], folder: Path, wrong: list[Wrong]
) -> tuple[dict[str, Any], list[tuple[KeyPath, SecretRef]]]:
    """Return a built-in flow's parameters with the paths of secret files made absolute, and every reference in them.

    A table that looks like a reference and is none is appended to ``wrong``.
    """
    return take_references_in(BUILTIN_SECRETS.get(flow, frozenset()), parameters, folder, wrong)


def take_references_in(
    places: frozenset[str], parameters: dict[str, Any], folder: Path, wrong: list[Wrong]
) -> tuple[dict[str, Any], list[tuple[KeyPath, SecretRef]]]:
    """As :func:`take_references`, of values of which only those named by ``places`` may hold references."""
    found: list[tuple[KeyPath, SecretRef]] = []
    taken = {}
    for name, value in parameters.items():
        at: KeyPath = (name,)
        if name not in places:
            taken[name] = value
        elif name in _MAPS and isinstance(value, dict):
            taken[name] = {key: _take(item, folder, (name, key), found, wrong) for key, item in value.items()}
        else:
            taken[name] = _take(value, folder, at, found, wrong)
    return taken, found


def _take(value: Any, folder: Path, at: KeyPath, found: list[tuple[KeyPath, SecretRef]], wrong: list[Wrong]) -> Any:
    if isinstance(value, list):
        return [_take(item, folder, (*at, number), found, wrong) for number, item in enumerate(value)]
    if not isinstance(value, dict):
        return value
    if not value or not set(value) <= set(SOURCES):
        return {key: _take(item, folder, (*at, key), found, wrong) for key, item in value.items()}
    try:
        ref = _reference(value, folder)
    except Wrong as error:
        wrong.append(Wrong(error.problem, error.remedy, (*at, *error.at)))
        return value
    found.append((at, ref))
    return {key: place for key in value if (place := getattr(ref, key)) is not None}


def _reference(value: dict[str, Any], folder: Path) -> SecretRef:
    if len(value) != 1:
        raise Wrong("names more than one place for a secret", _WRITE)
    (source, place), *_ = value.items()
    if not isinstance(place, str) or not place or "\0" in place:
        raise Wrong(f"{show(place)} names no place of a secret", _WRITE, (source,))
    if source == "env":
        if not _ENV_NAME.fullmatch(place):
            raise Wrong(
                f"{show(place)} is no name of an environment variable", 'write { env = "API_TOKEN" }', (source,)
            )
        return SecretRef(env=place)
    if source == "credential":
        if "/" in place or place in {".", ".."}:
            remedy = 'write the name that LoadCredential= gives it: { credential = "api-token" }'
            raise Wrong(f"{show(place)} is no name of a credential", remedy, (source,))
        return SecretRef(credential=place)
    if place.startswith("~"):
        raise Wrong(f"{show(place)}: ~ is not expanded, a daemon may have no home", "write the whole path", (source,))
    return SecretRef(file=str(folder / place))


def plain_secrets(flow: str, parameters: Mapping[str, Any]) -> Iterator[KeyPath]:
    """Yield where a built-in flow's parameters look as if they held a secret in plain text."""
    for name in sorted(BUILTIN_SECRETS.get(flow, frozenset()) & parameters.keys()):
        value = parameters[name]
        if name == "url":
            if isinstance(value, str) and looks_like_password(value):
                yield (name,)
        else:
            yield from plain_values(value, (name,))


def plain_values(value: Any, at: KeyPath) -> Iterator[KeyPath]:
    """Yield the places below ``at`` where a text stands under a key that is a word for a secret."""
    if isinstance(value, dict) and not (len(value) == 1 and set(value) <= set(SOURCES)):
        for key, item in value.items():
            if isinstance(item, str) and item and _SECRET_WORD.search(key):
                yield (*at, key)
            else:
                yield from plain_values(item, (*at, key))


def is_secret_word(key: str) -> bool:
    """Say whether a key's name says that its value is a secret: ``api_key``, ``DB_PASSWORD``, ``Authorization``."""
    return _SECRET_WORD.search(key) is not None


def looks_like_password(url: str) -> bool:
    """Say whether a URL has a password in it."""
    try:
        return "@" in url and bool(urlsplit(url).password)
    except ValueError:
        return False
