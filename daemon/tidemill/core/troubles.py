"""Troubles: what is wrong with the daemon itself, as people are told of it."""

from __future__ import annotations

import msgspec

from tidemill.core.notices import NoticeKind

CODE_OF = "the code of "  # and a deployment's name: a subject


CHANNEL = "notify channel "  # and its name: a subject, of which the other channels hear


class Trouble(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is wrong now: ``subject`` in a line that stands alone, ``lines`` what it means and what to do."""

    kind: NoticeKind
    subject: str
    lines: tuple[str, ...] = ()
