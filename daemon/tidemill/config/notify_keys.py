"""The keys of a notify channel, by its type."""

from __future__ import annotations

from collections.abc import Mapping

from tidemill.config import kinds, notify_kinds, web_kinds
from tidemill.config.keys import Key, Keys
from tidemill.core.channels import ChannelType, Encryption

_HEARS = Key(
    name="hears",
    kind=notify_kinds.heard(),
    example='["failed", "crashed"]',
    help=f"absent: everything, which is {', '.join(notify_kinds.HEARD)}",
)
_DESCRIPTION = Key(name="description", kind=kinds.text(empty=True), example='"Who reads it"', help="for people")


def _type(kind: ChannelType, words: str) -> Key:
    return Key(name="type", kind=kinds.choice(ChannelType), example=f'"{kind}"', help=words)


def _keys(*keys: Key) -> Keys:
    return {key.name: key for key in (*keys, _HEARS, _DESCRIPTION)}


# The short form of a channel, in [notify] itself.
CHANNEL = Key(
    name="NAME",
    kind=kinds.text('write "mailto:me@example.org", "https://…" or an Apprise URL'),
    example='"mailto:me@example.org"',
    help="mailto: and addresses (this machine's own mail), https: (a webhook), or a URL that Apprise knows",
)

NOTIFY: Mapping[ChannelType, Keys] = {
    ChannelType.MAIL: _keys(
        _type(
            ChannelType.MAIL, "mail: one text message; absent: mail where there is a to, webhook where there is a url"
        ),
        Key(
            name="to",
            kind=notify_kinds.recipients(),
            example='["me@example.org"]',
            help="who gets it; a name alone is a user of this machine",
            required=True,
        ),
        Key(
            name="from",
            kind=notify_kinds.recipient(),
            example='"tidemill@example.org"',
            help="the sender; absent: tidemill at this machine's name",
        ),
        Key(
            name="server",
            kind=notify_kinds.mail_server(),
            example='"mail.example.org:587"',
            help="an SMTP server; absent: this machine's sendmail program, or its own SMTP server on port 25 where "
            "there is none or the service may not run it",
        ),
        Key(
            name="encryption",
            kind=kinds.choice(Encryption),
            example='"starttls"',
            help="of the connection to server: starttls, tls (from the first byte) or none; absent: tls on port 465, "
            "none to this machine itself, else starttls",
        ),
        Key(name="username", kind=kinds.text(), example='"me"', help="to log in at server with"),
        Key(
            name="password",
            kind=web_kinds.secret(),
            example='{ credential = "mail-password" }',
            help="to log in at server with; it goes over an encrypted connection only",
        ),
        Key(
            name="sendmail",
            kind=kinds.path("/usr/sbin/sendmail"),
            example='"/usr/sbin/sendmail"',
            help="the program that takes mail, instead of server; absent: where it usually is",
        ),
    ),
    ChannelType.WEBHOOK: _keys(
        _type(ChannelType.WEBHOOK, "webhook: a JSON document by HTTP"),
        Key(
            name="url",
            kind=web_kinds.url(or_secret=True),
            example='{ credential = "hook-url" }',
            help="where to; a text, or a secret's reference",
            required=True,
        ),
        Key(name="method", kind=web_kinds.method(), default='"POST"', help="GET, POST, PUT, PATCH or DELETE"),
        Key(
            name="headers",
            kind=web_kinds.headers(),
            default="{}",
            help="sent with every message; a value may be a secret's reference",
        ),
        Key(
            name="signing_secret",
            kind=web_kinds.secret(),
            example='{ credential = "hook-key" }',
            help="messages are signed with it as standardwebhooks.com says (HMAC-SHA256)",
        ),
        Key(
            name="template",
            kind=notify_kinds.template(),
            example='{ text = "{subject}\\n{text}" }',
            help="what is sent instead of the whole document; {subject}, {text}, {short} (1,500 characters of it), "
            "{kind}, {deployment}, {run}, {reason}, {host} and {at} are filled in",
        ),
    ),
    ChannelType.APPRISE: _keys(
        _type(ChannelType.APPRISE, 'apprise: what Apprise has a URL for; needs: pip install "tidemill[apprise]"'),
        Key(
            name="url",
            kind=notify_kinds.apprise_url(),
            example='"ntfy://ntfy.sh/my-topic"',
            help="an Apprise URL; one with a password or token in it as a secret's reference",
            required=True,
        ),
    ),
}
