"""The values about who is told: recipients, servers, what a channel hears, templates, pings."""

from __future__ import annotations

import re
import string
from datetime import timedelta
from pathlib import Path
from typing import Any

from tidemill.config import kinds
from tidemill.config.faults import Wrong, did_you_mean, show
from tidemill.config.kinds import Kind, of_type
from tidemill.config.web_kinds import is_reference, url
from tidemill.core.notices import PLACES, NoticeKind

# A user of this machine, or an address; nothing that a mail program or a header could take for more than that.
_RECIPIENT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._%+=-]*(?:@[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?)?")
_SERVER = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9](?:[A-Za-z0-9.-]*))(?::(\d{1,5}))?")
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*://\S+", re.IGNORECASE)
# Tests and what automations say reach whoever is named for them.
HEARD = tuple(kind.value for kind in NoticeKind if kind not in (NoticeKind.TEST, NoticeKind.AUTOMATION))
LEAST_PING_INTERVAL = timedelta(seconds=10)
OF_A_RUN = ("start", "success", "fail")
OF_THE_DAEMON = ("success", "fail")


def _recipient(value: Any) -> str:
    write = 'write an address: "me@example.org"'
    found = of_type(value, str, "an address", write)
    if len(found) > 254 or not _RECIPIENT.fullmatch(found):
        raise Wrong(f"{show(found)} is no mail address", write)
    return found


def recipients() -> Kind:
    """Build the kind of a list of mail addresses; one alone stands for a list of one."""
    write = 'write an address, or a list of them: ["me@example.org", "root"]'

    def convert(value: Any, _: Path) -> tuple[str, ...]:
        if isinstance(value, str):
            return (_recipient(value),)
        items = of_type(value, list, "a list of addresses", write)
        if not 1 <= len(items) <= 50:
            raise Wrong(f"holds {len(items)} addresses, not 1–50", write)  # noqa: RUF001
        found = []
        for number, item in enumerate(items):
            try:
                found.append(_recipient(item))
            except Wrong as wrong:
                raise Wrong(wrong.problem, wrong.remedy, (number,)) from None
        return tuple(dict.fromkeys(found))

    return Kind("address or list of addresses", write, convert)


def recipient() -> Kind:
    return Kind("address", 'write an address: "tidemill@example.org"', lambda value, _: _recipient(value))


def mail_server() -> Kind:
    write = 'write "mail.example.org" or "mail.example.org:587"'

    def convert(value: Any, _: Path) -> tuple[str, int | None]:
        found = of_type(value, str, "a host", write)
        match = _SERVER.fullmatch(found) if len(found) <= 300 else None
        if match is None or (match[2] is not None and not 0 < int(match[2]) < 65536):
            raise Wrong(f"{show(found)} is no host of a mail server", write)
        return match[1].strip("[]"), int(match[2]) if match[2] is not None else None

    return Kind("host, with or without port", write, convert)


def heard() -> Kind:
    write = f"write a list of {', '.join(HEARD)}"

    def convert(value: Any, _: Path) -> frozenset[NoticeKind]:
        items = [value] if isinstance(value, str) else of_type(value, list, "a list of words", write)
        found = set()
        for number, item in enumerate(items):
            if not isinstance(item, str) or item not in HEARD:
                near = did_you_mean(item.replace("_", "-"), list(HEARD)) if isinstance(item, str) else ""
                raise Wrong(f"{show(item)} is nothing that can be heard", near or write, (number,))
            found.add(NoticeKind(item))
        if not found:
            raise Wrong("is empty", write)
        return frozenset(found)

    return Kind("list of words", write, convert)


def template() -> Kind:
    write = 'write a table whose texts hold places: { text = "{subject}\\n{text}" }'
    plain = kinds.json_table()

    def check(value: Any, at: tuple[str | int, ...]) -> None:
        if isinstance(value, dict):
            for key, item in value.items():
                check(item, (*at, key))
        elif isinstance(value, list):
            for number, item in enumerate(value):
                check(item, (*at, number))
        elif isinstance(value, str):
            for name in _places(value, at):
                if name not in PLACES:
                    near = did_you_mean(name, list(PLACES)) or f"there are {', '.join(PLACES)}"
                    raise Wrong(f"{{{name}}} is no place of a template", near, at)

    def convert(value: Any, base: Path) -> Any:
        found = plain.convert(value, base)
        if not found:
            raise Wrong("is empty", write)
        check(found, ())
        return found

    return Kind("table", write, convert)


def _places(text: str, at: tuple[str | int, ...]) -> list[str]:
    try:
        parsed = list(string.Formatter().parse(text))
    except ValueError as error:
        raise Wrong(f"{show(text)}: {error}", "write a { that is meant as it is as {{, and a } as }}", at) from None
    for _, name, spec, conversion in parsed:
        if name is not None and (spec or conversion or not name.isidentifier()):
            raise Wrong(f"{show(text)} holds more than the name of a place", "write {subject}, or {{ for a brace", at)
    return [name for _, name, _, _ in parsed if name is not None]


def apprise_url() -> Kind:
    write = 'write an Apprise URL: "ntfy://ntfy.sh/my-topic", or where it stands: { credential = "chat-url" }'

    def convert(value: Any, base: Path) -> Any:
        if is_reference(value):
            return value
        found = str(kinds.text(write).convert(value, base))
        if not _SCHEME.fullmatch(found):
            raise Wrong(f"{show(found)} is no Apprise URL", write)
        return found

    return Kind("Apprise URL or a secret's reference", write, convert)


def channels() -> Kind:
    """Build the kind of a deployment's ``notify``: names of channels; false is none."""
    write = 'write false, the name of a [notify] channel, or a list of them: ["default", "pager"]'
    named = kinds.name()

    def convert(value: Any, base: Path) -> tuple[str, ...]:
        if value is False:
            return ()
        if value is True:
            raise Wrong("true names nobody", write)
        if isinstance(value, str):
            return (str(named.convert(value, base)),)
        items = of_type(value, list, "a list of channels", write)
        found = []
        for number, item in enumerate(items):
            try:
                found.append(str(named.convert(item, base)))
            except Wrong as wrong:
                raise Wrong(wrong.problem, wrong.remedy, (number,)) from None
        return tuple(dict.fromkeys(found))

    return Kind("false, name or list of names", write, convert)


def ping_interval() -> Kind:
    plain = kinds.duration()

    def convert(value: Any, base: Path) -> Any:
        found = plain.convert(value, base)
        if found < LEAST_PING_INTERVAL:
            raise Wrong(f"{show(value)} is shorter than 10 s", plain.write)
        return found

    return Kind(plain.name, plain.write, convert)


def ping(tells: tuple[str, ...]) -> Kind:
    """Build the kind of a ping: one URL, to which a word for each thing it ``tells`` is added, or one for each."""
    added = " and ".join(f"/{word}" for word in tells if word != "success")
    each = ", ".join(f'{word} = "…"' for word in tells)
    write = (
        f'write a URL, to which {added} {"is" if len(tells) == 2 else "are"} added: "https://hc-ping.com/…"; '
        f"or each: {{ {each} }}"
    )
    one = url(or_secret=True)

    def convert(value: Any, base: Path) -> dict[str, Any]:
        if isinstance(value, str) or is_reference(value):
            return {"base": one.convert(value, base)}
        table = of_type(value, dict, "a URL", write)
        if not table:
            raise Wrong("is empty", write)
        found = {}
        for name, item in table.items():
            if name not in tells:
                raise Wrong(f"{show(name)} is nothing that it tells", did_you_mean(name, tells) or write, (name,))
            try:
                found[name] = one.convert(item, base)
            except Wrong as wrong:
                raise Wrong(wrong.problem, wrong.remedy, (name, *wrong.at)) from None
        return found

    return Kind("URL, a secret's reference, or a table of them", write, convert)
