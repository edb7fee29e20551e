"""Blocks: named, typed configuration that flows use, stated in ``[blocks.NAME]``.

``load`` answers sync code at once and is awaited in async code. Secrets in a block are given out by asking alone, and
are redacted from everything that is kept of the run from then on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from tidemill.core.reports import BlockQuestion
from tidemill.errors import TidemillError
from tidemill.sdk.asking import answer
from tidemill.sdk.context import run_context
from tidemill.sdk.states import awaited

if TYPE_CHECKING:
    import httpx

T = TypeVar("T")


class Block:
    """A block as it was loaded. ``Block.load("type/name")`` gives the class of its type."""

    type: ClassVar[str | None] = None

    def __init__(self, name: str, **fields: Any) -> None:
        self.name = name
        self._fields = fields

    @classmethod
    def load(cls, name: str) -> Any:
        """Return the block of that name ("orders", or "secret/orders"). Raises a TidemillError where there is none."""
        return answer(cls._question(name), _loaded, awaited=awaited())

    @classmethod
    async def aload(cls, name: str) -> Any:
        """Return what :meth:`load` returns."""
        return _loaded(await run_context().ask(cls._question(name)))

    @classmethod
    def _question(cls, name: str) -> BlockQuestion:
        type_, slash, short = name.rpartition("/")
        told = type_.replace("-", "_") if slash else None
        if cls.type is not None and told not in (None, cls.type):
            raise TidemillError(f'"{name}" is no block of type {cls.type}')
        return BlockQuestion(name=short, type=cls.type or told)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r})"  # never the fields: there are secrets among them


class Secret(Block, Generic[T]):
    """A secret: ``Secret.load("token").get()``."""

    type = "secret"

    def get(self) -> Any:
        """Return the secret itself."""
        return self._fields["value"]


class JSON(Block):
    """A JSON value: ``JSON.load("settings").value``."""

    type = "json"

    @property
    def value(self) -> Any:
        return self._fields["value"]


class Webhook(Block):
    """An address to send to."""

    type = "webhook"

    def call(self, payload: Any = None) -> Any:
        """Send ``payload`` (a dict as JSON, else text) and return the ``httpx.Response``; awaited in async code."""
        if awaited():
            return self.acall(payload)
        import httpx

        with httpx.Client(timeout=30) as client:
            return client.request(**self._request(payload))

    async def acall(self, payload: Any = None) -> Any:
        """Do what :meth:`call` does."""
        import httpx

        async with httpx.AsyncClient(timeout=30) as client:
            return await client.request(**self._request(payload))

    def notify(self, body: str, subject: str | None = None) -> Any:
        """Send ``{"subject": …, "body": …, "text": …}``, which chat services take; awaited in async code.

        Raises ``httpx.HTTPStatusError`` for an answer of 400 and above.
        """
        if awaited():
            return self.anotify(body, subject)
        self.call(_notice(body, subject)).raise_for_status()
        return None

    async def anotify(self, body: str, subject: str | None = None) -> None:
        """Do what :meth:`notify` does."""
        (await self.acall(_notice(body, subject))).raise_for_status()

    def _request(self, payload: Any) -> dict[str, Any]:
        request: dict[str, Any] = {
            "method": self._fields.get("method", "POST"),
            "url": self._fields["url"],
            "headers": self._fields.get("headers") or {},
        }
        if isinstance(payload, str | bytes):
            request["content"] = payload
        elif payload is not None:
            request["json"] = payload
        return request


class HttpApi(Block):
    """An HTTP API: its base address, headers and credentials."""

    type = "http_api"

    @property
    def base_url(self) -> str:
        return str(self._fields["base_url"])

    def client(self, **options: Any) -> httpx.Client:
        """Return a new ``httpx.Client`` for the API, to be used in a ``with``; ``options`` are httpx's own."""
        import httpx

        return httpx.Client(**self._options(), **options)

    def aclient(self, **options: Any) -> httpx.AsyncClient:
        """Return a new ``httpx.AsyncClient`` for the API, to be used in an ``async with``."""
        import httpx

        return httpx.AsyncClient(**self._options(), **options)

    def _options(self) -> dict[str, Any]:
        headers = dict(self._fields.get("headers") or {})
        options: dict[str, Any] = {"base_url": self.base_url, "headers": headers}
        auth = self._fields.get("auth") or {}
        if "bearer" in auth:
            headers["Authorization"] = f"Bearer {auth['bearer']}"
        elif "basic" in auth:
            options["auth"] = (auth["basic"]["username"], auth["basic"]["password"])
        return options


_TYPES: dict[str, type[Block]] = {each.type: each for each in (Secret, JSON, Webhook, HttpApi) if each.type}


def _loaded(document: dict[str, Any]) -> Block:
    fields = dict(document)
    return _TYPES.get(str(fields.pop("type")), Block)(str(fields.pop("name")), **fields)


def _notice(body: str, subject: str | None) -> dict[str, Any]:
    text = f"{subject}\n{body}" if subject else body
    return {"body": body, "text": text} | ({"subject": subject} if subject else {})
