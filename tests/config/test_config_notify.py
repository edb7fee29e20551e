"""Who is told: what the file may say of channels and pings, and what is said of what it may not."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tidemill.config import Loaded
from tidemill.config.notify import untold
from tidemill.core.channels import Channel, ChannelType, Encryption
from tidemill.core.deployments import Ping, SecretRef
from tidemill.core.notices import NoticeKind

Load = Callable[..., Loaded]
ENV = {"TZ": "UTC", "PASSWORD": "c4n4ry-passw0rd", "HOOK": "https://hooks.example.org/c4n4ry-p4th"}
MAIL = ChannelType.MAIL
JOB = '[deployments.job]\ncommand = "true"\n'

# What stands under [notify] -> the channel it is.
SHORT = {
    '"mailto:me@example.org"': Channel(name="default", type=MAIL, to=("me@example.org",)),
    '"mailto:me@example.org, root"': Channel(name="default", type=MAIL, to=("me@example.org", "root")),
    '"https://example.org/hook"': Channel(name="default", type=ChannelType.WEBHOOK, url="https://example.org/hook"),
    '"ntfy://ntfy.sh/topic"': Channel(name="default", type=ChannelType.APPRISE, url="ntfy://ntfy.sh/topic"),
}


@pytest.mark.parametrize(("written", "channel"), SHORT.items())
def test_a_channel_in_one_text(written: str, channel: Channel, load_text: Load) -> None:
    loaded = load_text(f"[notify]\ndefault = {written}\n")
    assert dict(loaded.settings.notify) == {"default": channel}
    assert loaded.warnings == ()


def server(host: str, port: int, encryption: Encryption) -> Channel:
    return Channel(name="c", type=MAIL, to=("a@b.c",), server=host, port=port, encryption=encryption)


# What stands in [notify.c] -> the channel it is.
LONG = {
    'to = "a@b.c"': Channel(name="c", type=MAIL, to=("a@b.c",)),
    'to = ["a@b.c", "root"]\nfrom = "t@b.c"\nsendmail = "/usr/sbin/sendmail"': Channel(
        name="c", type=MAIL, to=("a@b.c", "root"), sender="t@b.c", sendmail="/usr/sbin/sendmail"
    ),
    # The port goes with the encryption, and the encryption with the port.
    'to = "a@b.c"\nserver = "m.b.c"': server("m.b.c", 587, Encryption.STARTTLS),
    'to = "a@b.c"\nserver = "m.b.c:465"': server("m.b.c", 465, Encryption.TLS),
    'to = "a@b.c"\nserver = "m.b.c"\nencryption = "tls"': server("m.b.c", 465, Encryption.TLS),
    'to = "a@b.c"\nserver = "m.b.c:2525"\nencryption = "none"': server("m.b.c", 2525, Encryption.NONE),
    'to = "a@b.c"\nserver = "localhost"': server("localhost", 25, Encryption.NONE),
    'to = "a@b.c"\nserver = "[::1]:2525"': server("::1", 2525, Encryption.NONE),
    'type = "webhook"\nurl = { env = "HOOK" }\nmethod = "put"\n'
    'headers = { A = "b", K = { env = "PASSWORD" } }': Channel(
        name="c",
        type=ChannelType.WEBHOOK,
        url=SecretRef(env="HOOK"),
        method="PUT",
        headers={"A": "b", "K": SecretRef(env="PASSWORD")},
    ),
    'url = "https://a.b/c"\nsigning_secret = { env = "PASSWORD" }\n'
    'template = { t = "{subject} {{x}}", n = [1] }': Channel(
        name="c",
        type=ChannelType.WEBHOOK,
        url="https://a.b/c",
        signing_secret=SecretRef(env="PASSWORD"),
        template={"t": "{subject} {{x}}", "n": [1]},
    ),
    'type = "apprise"\nurl = { env = "HOOK" }\nhears = "crashed"\ndescription = "d"': Channel(
        name="c", type=ChannelType.APPRISE, url=SecretRef(env="HOOK"), hears=frozenset({NoticeKind.CRASHED})
    ),
}


@pytest.mark.parametrize(("lines", "channel"), LONG.items())
def test_a_channel_in_a_table(lines: str, channel: Channel, load_text: Load) -> None:
    loaded = load_text(f"[notify.c]\n{lines}\n", ENV)
    assert dict(loaded.settings.notify) == {"c": channel}
    assert loaded.warnings == ()


# What is wrong -> the line that is said.
WRONG = {
    '[notify]\ndefault = "me@example.org"\n': '2:11 notify.default: "me@example.org" is no notify channel; '
    'write "mailto:me@example.org"',
    "[notify]\ndefault = 3\n": "2:11 notify.default: 3 is no notify channel; ",
    '[notify]\ndefault = "mailto:a b"\n': '2:11 notify.default: "a b" is no mail address; ',
    '[notify]\ndefault = "mailto:-oQ/tmp@x"\n': '"-oQ/tmp@x" is no mail address',
    '[notify.c]\ntype = "mial"\n': '2:8 notify.c.type: "mial" is no type of channel; did you mean "mail"?',
    '[notify.c]\nhears = "failed"\n': '1:9 notify.c: does not say how people are told; add type = "mail", ',
    '[notify.c]\ntype = "mail"\n': "1:9 notify.c: a mail channel needs to; ",
    '[notify.c]\nto = "a@b.c"\nurl = "https://a.b"\n': "3:1 notify.c.url: is no key of this table",
    '[notify.c]\nto = "a@b.c"\nhears = ["faild"]\n': '3:10 notify.c.hears[0]: "faild" is nothing that can be heard; '
    'did you mean "failed"?',
    '[notify.c]\nto = "a@b.c"\nhears = []\n': "3:9 notify.c.hears: is empty",
    '[notify.c]\nto = "a@b.c"\nhears = ["test"]\n': '"test" is nothing that can be heard',
    '[notify.c]\nto = "a@b.c"\nserver = "m:0"\n': '3:10 notify.c.server: "m:0" is no host of a mail server',
    '[notify.c]\nto = "a@b.c"\npassword = "hunter2"\n': "3:12 notify.c.password: a secret is named, never written",
    '[notify.c]\nto = "a@b.c"\nserver = "m.b.c"\nusername = "me"\n': "4:1 notify.c.username: is there without password",
    '[notify.c]\nto = "a@b.c"\nserver = "m.b.c:25"\nencryption = "none"\nusername = "m"\n'
    'password = { env = "PASSWORD" }\n': ("6:1 notify.c.password: would go over a connection that anybody can read"),
    '[notify.c]\nto = "a@b.c"\nserver = "m.b.c"\nsendmail = "/x"\n': '4:1 notify.c.sendmail: stands beside "server"',
    '[notify.c]\nurl = { env = "NOT_THERE" }\n': "2:7 notify.c.url: environment variable NOT_THERE is not set",
    '[notify.c]\nurl = "https://a.b"\ntemplate = { a = "{sbject}" }\n': "{sbject} is no place of a template; "
    'did you mean "subject"?',
    '[notify.c]\nurl = "https://a.b"\ntemplate = { a = ["{subject.__class__}"] }\n': (
        '3:19 notify.c.template.a[0]: "{subject.__class__}" holds more than the name of a place'
    ),
    '[notify.c]\nurl = "https://a.b"\ntemplate = { a = "{" }\n': "write a { that is meant as it is as {{",
    f'{JOB}notify = "pager"\n[notify]\npaper = "mailto:a@b.c"\n': '3:10 deployments.job.notify: "pager" is no channel '
    'of [notify]; did you mean "paper"?',
    f'{JOB}notify = ["default"]\n': '3:11 deployments.job.notify[0]: "default" is no channel of [notify]; '
    'write default = "mailto:…" under [notify]',
    f"{JOB}notify = true\n": "deployments.job.notify: true names nobody; write false, ",
    f'{JOB}ping = "hc-ping.com/x"\n': '3:8 deployments.job.ping: "hc-ping.com/x" is not the URL of a web address',
    '[daemon]\nping = { start = "https://a.b" }\n': (
        '2:18 daemon.ping.start: "start" is nothing that it tells; write a URL, to which /fail is added: '
        '"https://hc-ping.com/…"; or each: { success = "…", fail = "…" }'
    ),
    '[notify]\ndefault = "me@@example.org"\n': '2:11 notify.default: "me@@example.org" is no notify channel; '
    'write "mailto:me@example.org"',
    f'{JOB}ping = {{ sucess = "https://a.b" }}\n': '"sucess" is nothing that it tells; did you mean "success"?',
    f'{JOB}ping = {{ env = "NOT_THERE" }}\n': "environment variable NOT_THERE is not set",
    '[daemon]\nping_interval = "1s"\n': '2:17 daemon.ping_interval: "1s" is shorter than 10 s',
}


@pytest.mark.parametrize(("text", "said"), WRONG.items())
def test_what_is_wrong_is_said_with_what_would_be_right(
    text: str, said: str, faults_of: Callable[..., list[str]]
) -> None:
    (fault,) = faults_of(text, ENV)
    assert said in fault
    assert "hunter2" not in fault


# What is doubtful -> the warning.
WARNED = {
    '[notify.c]\nto = "a@b.c"\nusername = "me"\n': "has no effect without server",
    '[notify]\ndefault = "https://hooks.slack.com/services/T0/B0/x"\n': "looks like a secret in plain text",
    '[notify.c]\nurl = "https://me:pass@a.b/c"\n': "looks like a secret in plain text",
    '[notify.c]\nurl = "https://a.b"\nheaders = { Authorization = "Bearer x" }\n': "looks like a secret in plain text",
}


@pytest.mark.parametrize(("text", "said"), WARNED.items())
def test_what_is_doubtful_is_a_warning(text: str, said: str, load_text: Load) -> None:
    (warning,) = load_text(text, ENV).warnings
    assert warning.problem == said


def test_names_of_channels_are_alike_in_dashes(load_text: Load) -> None:
    loaded = load_text(f'[notify]\non-call = "mailto:a@b.c"\n{JOB}notify = "on_call"\n')
    assert loaded.settings.deployments["job"].notify == ("on-call",)


def test_a_ping_keeps_its_reference(load_text: Load) -> None:
    loaded = load_text(f'[daemon]\nping = {{ env = "HOOK" }}\n{JOB}ping = {{ fail = {{ env = "HOOK" }} }}\n', ENV)
    assert loaded.settings.daemon.ping == Ping(base=SecretRef(env="HOOK"))
    assert loaded.settings.deployments["job"].ping == Ping(fail=SecretRef(env="HOOK"))


# What the file says -> who is not heard.
UNTOLD = {
    JOB: "nobody is told when something fails",
    f'{JOB}[notify]\npager = "mailto:a@b.c"\n': "nobody is told when job fails",
    f'{JOB}notify = "pager"\n[notify]\npager = "mailto:a@b.c"\n': None,
    f'{JOB}notify = false\n[notify]\npager = "mailto:a@b.c"\n': None,  # as was asked for
    f'{JOB}[notify]\ndefault = "mailto:a@b.c"\n': None,
}


@pytest.mark.parametrize(("text", "said"), UNTOLD.items())
def test_that_nobody_is_told_is_said(text: str, said: str | None, load_text: Load) -> None:
    found = untold(load_text(text).settings)
    assert found is None if said is None else found is not None and found.startswith(said)
