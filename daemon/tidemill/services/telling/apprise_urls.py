"""Telling by Apprise, which knows some hundred services by URL. It blocks: a thread's work; loading it takes 124 ms."""

from __future__ import annotations

import logging
from typing import Any

from tidemill.core.channels import UndeliveredError
from tidemill.core.notices import Message


def send_by_apprise(url: str, message: Message) -> None:
    """Hand a message to the service behind an Apprise URL; raises UndeliveredError."""
    try:
        import apprise
    except ImportError:
        raise UndeliveredError('Apprise is not installed; run: pip install "tidemill[apprise]"') from None
    capture: Any = apprise.LogCapture  # it has no types
    with capture(level=logging.WARNING, fmt="%(message)s", name=apprise.logger.name) as said:
        sender = apprise.Apprise()
        if not sender.add(url):
            raise UndeliveredError("Apprise does not know such a URL, or something in it is wrong")
        if sender.notify(title=message.subject, body=message.text, body_format=apprise.NotifyFormat.TEXT):
            return
        lines = said.getvalue().split("\n")
    reason = next((line for line in reversed(lines) if line.strip()), "")
    raise UndeliveredError(f"Apprise could not tell it{f': {reason[:300]}' if reason else ''}")
