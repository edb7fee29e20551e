"""Telling by mail: handed to this machine's own mail program, or to an SMTP server. It blocks: a thread's work."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Mapping
from email.message import EmailMessage
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec.structs import replace

from tidemill.core.channels import Channel, Encryption, UndeliveredError
from tidemill.core.notices import Message

if TYPE_CHECKING:
    import smtplib

TRY_S = 45.0  # below the outbox's own limit, so that the reason is told
CONNECT_S = 15.0
SENDMAIL = ("/usr/sbin/sendmail", "/usr/lib/sendmail")
LOCAL_PORT = 25
_KEPT = ("PATH", "HOME", "USER", "LOGNAME", "LANG", "TZ")


def send_mail(
    channel: Channel, message: Message, *, host: str, password: str | None, environ: Mapping[str, str]
) -> None:
    """Hand a message over; raises UndeliveredError."""
    mail = written(channel, message, host)
    if channel.server is not None:
        _by_server(channel, mail, host, password)
    elif channel.sendmail is not None:
        _by_program(channel.sendmail, channel, mail, environ)
    else:
        _by_this_machine(channel, mail, host, environ)


def written(channel: Channel, message: Message, host: str) -> EmailMessage:
    """Return a message as mail."""
    mail = EmailMessage()
    address = channel.sender or f"tidemill@{host}"
    mail["From"] = f'"tidemill on {_plain(host)}" <{address}>'
    mail["To"] = ", ".join(channel.to)
    mail["Subject"] = message.subject
    mail["Date"] = message.at
    mail["Message-ID"] = f"<{message.id}@{_plain(host)}>"  # the same when it is sent again
    mail["Auto-Submitted"] = "auto-generated"  # RFC 3834: nobody's holiday answers this
    mail["X-Tidemill-Kind"] = str(message.document.get("kind", ""))
    mail.set_content(message.text)
    return mail


def _plain(text: str) -> str:
    return "".join(each for each in text if each.isalnum() or each in ".-") or "localhost"


def _by_this_machine(channel: Channel, mail: EmailMessage, host: str, environ: Mapping[str, str]) -> None:
    """Use the mail program, and the SMTP server of this machine where the program is not there or cannot work.

    Postfix and Exim need a setgid or setuid program to take mail, which a service with NoNewPrivileges= cannot use:
    there the server is asked first.
    """
    program = next((each for each in SENDMAIL if os.access(each, os.X_OK)), None) or shutil.which(
        "sendmail", path=environ.get("PATH")
    )
    local = replace(channel, server="localhost", port=LOCAL_PORT, encryption=Encryption.NONE)
    if program is not None and not _privileges_dropped():
        _by_program(program, channel, mail, environ)
        return
    try:
        _by_server(local, mail, host, None)
    except UndeliveredError as error:
        if program is None:
            raise UndeliveredError(
                f"there is no sendmail program here, and {error}; set server in [notify.{channel.name}]"
            ) from None
        _by_program(program, channel, mail, environ)


def _privileges_dropped() -> bool:
    try:
        return "\nNoNewPrivs:\t1" in Path("/proc/self/status").read_text()
    except OSError:
        return False


def _by_program(program: str, channel: Channel, mail: EmailMessage, environ: Mapping[str, str]) -> None:
    words = [program, "-i", *(("-f", channel.sender) if channel.sender else ()), *channel.to]
    kept = {name: environ[name] for name in _KEPT if name in environ}
    try:
        done = subprocess.run(
            words,
            input=mail.as_bytes(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=kept,
            timeout=TRY_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise UndeliveredError(f"{program} did not end within {TRY_S:.0f} s") from None
    except OSError as error:
        raise UndeliveredError(f"{program} cannot be run: {error.strerror}") from None
    if done.returncode:
        said = " ".join(done.stdout.decode(errors="replace").split())[:300]
        raise UndeliveredError(f"{program} ended with {done.returncode}" + (f": {said}" if said else ""))


def _by_server(channel: Channel, mail: EmailMessage, host: str, password: str | None) -> None:
    import smtplib

    server = f"{channel.server}:{channel.port or smtplib.SMTP_PORT}"
    try:
        with contextlib.closing(_connected(channel, host)) as link:
            if channel.username is not None and password is not None:
                link.login(channel.username, password)
            refused = link.send_message(mail, from_addr=channel.sender, to_addrs=list(channel.to))
            with contextlib.suppress(smtplib.SMTPException, OSError):
                link.quit()
    except smtplib.SMTPRecipientsRefused as error:
        raise UndeliveredError(f"{server} refused every recipient: {_refusals(error.recipients)}") from None
    except smtplib.SMTPAuthenticationError as error:
        raise UndeliveredError(f"{server} refused the login of {channel.username}: {_said(error)}") from None
    except smtplib.SMTPResponseException as error:
        raise UndeliveredError(f"{server}: {_said(error)}") from None
    except (smtplib.SMTPException, OSError) as error:
        raise UndeliveredError(f"{server}: {_why(error)}") from None
    if refused:
        # The others have it: sending it again would tell them twice.
        raise PartlyRefusedError(f"{server} refused {_refusals(refused)}")


class PartlyRefusedError(Exception):
    """Some recipients have the message, others were refused."""


def _connected(channel: Channel, host: str) -> smtplib.SMTP:
    import smtplib
    import ssl

    at = (channel.server or "localhost", channel.port or smtplib.SMTP_PORT)
    if channel.encryption == Encryption.TLS:
        context = ssl.create_default_context()
        return smtplib.SMTP_SSL(*at, local_hostname=host, timeout=CONNECT_S, context=context)
    link = smtplib.SMTP(*at, local_hostname=host, timeout=CONNECT_S)
    if channel.encryption == Encryption.STARTTLS:
        try:
            link.starttls(context=ssl.create_default_context())
        except BaseException:
            link.close()
            raise
    return link


def _why(error: Exception) -> str:
    if isinstance(error, TimeoutError) or isinstance(error.__context__, TimeoutError):
        return f"no answer within {CONNECT_S:.0f} s"
    return getattr(error, "strerror", None) or str(error)


def _said(error: smtplib.SMTPResponseException) -> str:
    text = error.smtp_error.decode(errors="replace") if isinstance(error.smtp_error, bytes) else str(error.smtp_error)
    return f"{error.smtp_code} {' '.join(text.split())}"[:300]


def _refusals(refused: Mapping[str, tuple[int, bytes]]) -> str:
    return "; ".join(
        f"{who} ({code} {' '.join(said.decode(errors='replace').split())[:100]})"
        for who, (code, said) in list(refused.items())[:5]
    )
