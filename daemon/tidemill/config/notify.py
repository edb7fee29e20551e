"""Reading who is told: notify channels, which channels a deployment has, and pings. Secrets stay references."""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import msgspec

from tidemill.config.faults import Faults, Wrong, alike, did_you_mean, show
from tidemill.config.notify_keys import NOTIFY
from tidemill.config.notify_kinds import apprise_url, recipients
from tidemill.config.secrets import (
    SecretError,
    Secrets,
    looks_like_password,
    plain_values,
    resolve_secret,
    take_references_in,
)
from tidemill.config.settings import Settings
from tidemill.config.tables import Entry, read_keys
from tidemill.config.web_kinds import is_reference, url
from tidemill.core.channels import DEFAULT, Channel, ChannelType, Encryption
from tidemill.core.deployments import Deployment, Ping, SecretRef

_PLACES = frozenset({"password", "url", "headers", "signing_secret"})
_PING_PLACES = frozenset({"base", "start", "success", "fail"})
_SHORT = 'write "mailto:me@example.org", "https://…" or, with Apprise, a URL such as "ntfy://ntfy.sh/my-topic"'
_LOOPBACK = ("localhost", "127.", "::1")
SMTP_PORT, SUBMISSION_PORT, SMTPS_PORT = 25, 587, 465
_KEEP = 'keep it out of the file: { credential = "name" }, { env = "NAME" } or { file = "/path" }'


def read_channel(name: str, entry: Entry, secrets: Secrets, faults: Faults) -> Channel | None:
    """Return the channel in ``entry``, of the short or the long form; None where its kind is not clear."""
    if isinstance(entry.value, str):
        return _short(name, entry, faults)
    if not isinstance(entry.value, dict):
        faults.add(entry.document, entry.path, f"{show(entry.value)} is no notify channel", _SHORT)
        return None
    kind = _type(entry, faults)
    if kind is None:
        return None
    fields = read_keys(entry, NOTIFY[kind], faults)
    for key in NOTIFY[kind].values():
        if key.required and key.name not in entry.value:
            problem = f"a {kind} channel needs {key.name}"
            faults.add(entry.document, entry.path, problem, f"write {key.name} = {key.example}", at_key=True)
    fields = take_secrets(entry, fields, _PLACES, secrets, faults)
    if kind is ChannelType.MAIL:
        _settle_mail(entry, fields, faults)
    if kind is ChannelType.APPRISE:
        _need_apprise(entry, (*entry.path, "url"), faults)
    _warn_of_plain_secrets(entry, fields, faults)
    fields.pop("type", None)
    fields.pop("description", None)
    return Channel(name=name, type=kind, **fields)


def _short(name: str, entry: Entry, faults: Faults) -> Channel | None:
    text = entry.value
    try:
        if text.lower().startswith("mailto:"):
            listed = [each.strip() for each in text[7:].split(",")]
            return Channel(name=name, type=ChannelType.MAIL, to=recipients().convert(listed, entry.folder))
        if text.lower().startswith(("http://", "https://")):
            found = Channel(name=name, type=ChannelType.WEBHOOK, url=url().convert(text, entry.folder))
        elif "://" in text:
            found = Channel(name=name, type=ChannelType.APPRISE, url=apprise_url().convert(text, entry.folder))
            _need_apprise(entry, entry.path, faults)
        else:
            raise Wrong(f"{show(text)} is no notify channel", _as_mail(text, entry) or _SHORT)
    except Wrong as wrong:
        faults.add(entry.document, entry.path, wrong.problem, wrong.remedy)
        return None
    _warn_of_plain_secrets(entry, {"url": text}, faults)
    return found


def _as_mail(text: str, entry: Entry) -> str:
    """Return the remedy where ``text`` is a mail address without its scheme, else ""."""
    with contextlib.suppress(Wrong):
        if "@" in text and recipients().convert([text], entry.folder):
            return f'write "mailto:{text}"'
    return ""


def _type(entry: Entry, faults: Faults) -> ChannelType | None:
    types = [each.value for each in ChannelType]
    written = entry.value.get("type")
    if written is None:
        if "to" in entry.value:
            return ChannelType.MAIL
        if "url" in entry.value:
            return ChannelType.WEBHOOK
        remedy = f"add type = {', '.join(show(each) for each in types[:-1])} or {show(types[-1])}"
        faults.add(entry.document, entry.path, "does not say how people are told", remedy, at_key=True)
        return None
    if written not in types:
        remedy = (did_you_mean(written, types) if isinstance(written, str) else "") or f"there are {', '.join(types)}"
        faults.add(entry.document, (*entry.path, "type"), f"{show(written)} is no type of channel", remedy)
        return None
    return ChannelType(written)


def _settle_mail(entry: Entry, fields: dict[str, Any], faults: Faults) -> None:
    """Bring the keys of a mail channel into the form of its fields, and see that they go together."""
    sender = fields.pop("from", None)
    if sender is not None:
        fields["sender"] = sender
    server = fields.pop("server", None)
    if server is None:
        for key in ("encryption", "username", "password"):
            if key in entry.value:
                problem = "has no effect without server"
                faults.warn(entry.document, (*entry.path, key), problem, "set server, or delete it", at_key=True)
        return
    if "sendmail" in fields:
        faults.add(entry.document, (*entry.path, "sendmail"), 'stands beside "server"', "keep one", at_key=True)
    host, port = server
    local = host.startswith(_LOOPBACK)
    usual = Encryption.TLS if port == SMTPS_PORT else Encryption.NONE if local else Encryption.STARTTLS
    encryption = fields.setdefault("encryption", usual)
    ports = {Encryption.TLS: SMTPS_PORT, Encryption.STARTTLS: SUBMISSION_PORT, Encryption.NONE: SMTP_PORT}
    fields["server"], fields["port"] = host, port or ports[encryption]
    if ("username" in fields) is not ("password" in fields):
        there, missing = ("username", "password") if "username" in fields else ("password", "username")
        faults.add(entry.document, (*entry.path, there), f"is there without {missing}", f"add {missing}", at_key=True)
    if "password" in fields and encryption == Encryption.NONE and not local:
        problem = "would go over a connection that anybody can read"
        remedy = 'set encryption = "starttls" or "tls"'
        faults.add(entry.document, (*entry.path, "password"), problem, remedy, at_key=True)


def _need_apprise(entry: Entry, path: tuple[str | int, ...], faults: Faults) -> None:
    if importlib.util.find_spec("apprise") is None:
        problem = "needs the package apprise, which is not installed"
        faults.add(entry.document, path, problem, 'run: pip install "tidemill[apprise]"')


def take_secrets(
    entry: Entry, fields: dict[str, Any], places: frozenset[str], secrets: Secrets, faults: Faults
) -> dict[str, Any]:
    """Return the fields with references made SecretRefs; each is looked for now, so that a missing one is a fault."""
    wrongs: list[Wrong] = []
    fields, references = take_references_in(places, fields, entry.folder, wrongs)
    for wrong in wrongs:
        faults.add(entry.document, (*entry.path, *wrong.at), wrong.problem, wrong.remedy)
    if wrongs:
        return {name: value for name, value in fields.items() if name not in {wrong.at[0] for wrong in wrongs}}
    for at, ref in references:
        try:
            resolve_secret(ref, secrets.environ, secrets.credentials_dir)
        except SecretError as error:
            tell = faults.warn if secrets.forgives(ref) else faults.add
            tell(entry.document, (*entry.path, *at), error.problem, error.remedy)
    return {name: _revealed(value) if name in places else value for name, value in fields.items()}


def _revealed(value: Any) -> Any:
    if is_reference(value):
        return msgspec.convert(value, SecretRef)
    return {key: _revealed(item) for key, item in value.items()} if isinstance(value, dict) else value


def _warn_of_plain_secrets(entry: Entry, fields: Mapping[str, Any], faults: Faults) -> None:
    written = fields.get("url")
    below = isinstance(entry.value, dict)
    if isinstance(written, str) and (looks_like_password(written) or _opens_a_chat(written)):
        path = (*entry.path, "url") if below else entry.path
        remedy = _KEEP if below else f'write [notify.{entry.path[-1]}] with url = {{ credential = "name" }}'
        faults.warn(entry.document, path, "looks like a secret in plain text", remedy)
    headers = fields.get("headers", {})
    plain = {name: value for name, value in headers.items() if isinstance(value, str)}
    for at in plain_values(plain, ("headers",)):
        faults.warn(entry.document, (*entry.path, *at), "looks like a secret in plain text", _KEEP)


def _opens_a_chat(written: str) -> bool:
    """Say whether a URL is one of those that let anybody who knows it write into a chat."""
    try:
        host = urlsplit(written).hostname or ""
    except ValueError:
        return False
    return host in ("hooks.slack.com", "discord.com", "discordapp.com") or host.endswith(".webhook.office.com")


def untold(settings: Settings) -> str | None:
    """Say who is not heard when something fails; None: somebody is told of everything."""
    if not settings.notify:
        return 'nobody is told when something fails; write default = "mailto:me@example.org" under [notify]'
    if DEFAULT in settings.notify:
        return None
    silent = [name for name, each in settings.deployments.items() if each.notify is None]
    if not silent:
        return None
    more = f" and {len(silent) - 3} more" if len(silent) > 3 else ""
    return f"nobody is told when {', '.join(silent[:3])}{more} fails; write a default under [notify], or notify = …"


def take_ping(entry: Entry, values: dict[str, Any], secrets: Secrets, faults: Faults) -> Ping | None:
    """Take ``ping`` out of a table's values and return it. A secret file's place is told at the table's key."""
    written = values.pop("ping", None)
    if written is None:
        return None
    below = entry._replace(path=(*entry.path, "ping"))
    if "base" in written:  # the short form stands at the key itself
        below = entry
        found = take_secrets(below, {"ping": written["base"]}, frozenset({"ping"}), secrets, faults)
        return Ping(base=found.get("ping"))
    return Ping(**take_secrets(below, written, _PING_PLACES, secrets, faults))


def settle_channels(entry: Entry, deployment: Deployment, channels: Mapping[str, Any], faults: Faults) -> Deployment:
    """Return the deployment with its channels as they are called; a name that is nobody's is a fault."""
    names = deployment.notify
    if not names:
        return deployment
    by_form = {alike(name): name for name in channels}
    found = []
    for number, name in enumerate(names):
        known = by_form.get(alike(name))
        if known is None:
            listed = isinstance(entry.value["notify"], list)
            path = (*entry.path, "notify", number) if listed else (*entry.path, "notify")
            remedy = did_you_mean(name, list(channels)) or f'write {name} = "mailto:…" under [notify]'
            faults.add(entry.document, path, f"{show(name)} is no channel of [notify]", remedy)
        else:
            found.append(known)
    return msgspec.structs.replace(deployment, notify=tuple(found))
