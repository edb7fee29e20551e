"""Troubles: what is wrong with the daemon itself, as people are told of it."""

from __future__ import annotations

import msgspec

from tidemill.core.notices import NoticeKind

CODE_OF = "the code of "  # and a deployment's name: a subject


class Trouble(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is wrong now. ``subject`` is a line that stands alone, ``lines`` what that means and what to do.

    ``deployment`` is the one it is about, whose people are told; None: the daemon's.
    """

    kind: NoticeKind
    subject: str
    lines: tuple[str, ...] = ()
    deployment: str | None = None
