"""Artifacts: keyed documents that a run leaves behind, kept in versions.

A key that has the same content as before makes no new version, unless ``new_version`` asks for one. The calls return
at once; the artifact is durable when the run ends, at the latest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tidemill.core.reports import ArtifactReport
from tidemill.sdk.context import run_context


def create_json_artifact(
    key: str | None,
    data: Any,
    description: str | None = None,
    *,
    keep_versions: int | None = None,
    new_version: bool = False,
) -> None:
    """Keep any JSON value under ``key``; None keeps it with the run alone.

    ``keep_versions`` older versions stay (None: the daemon's default). Raises ``ValueError`` for what is not JSON
    (NaN and Infinity are not) or has more than 1 MiB of text, and ``NoRunError`` outside a run.

    >>> create_json_artifact("activity", {"type": "music"})  # doctest: +SKIP
    """
    _report(
        ArtifactReport(
            key=key,
            type="json",
            data=data,
            description=description,
            keep_versions=keep_versions,
            new_version=new_version,
        )
    )


def create_table_artifact(
    key: str | None,
    table: Sequence[Mapping[str, Any]] | Sequence[Sequence[Any]] | Mapping[str, Sequence[Any]],
    description: str | None = None,
    *,
    keep_versions: int | None = None,
    new_version: bool = False,
) -> None:
    """Keep a table: a list of rows (each a dict by column, or a list), or a dict of columns. Else as for JSON."""
    if isinstance(table, str | bytes) or not isinstance(table, Mapping | Sequence):
        raise ValueError(f"a table is a list of rows or a dict of columns, not {type(table).__name__}")
    _report(
        ArtifactReport(
            key=key,
            type="table",
            data=table,
            description=description,
            keep_versions=keep_versions,
            new_version=new_version,
        )
    )


def create_markdown_artifact(
    key: str | None,
    markdown: str,
    description: str | None = None,
    *,
    keep_versions: int | None = None,
    new_version: bool = False,
) -> None:
    """Keep a text in Markdown. Else as for JSON."""
    if not isinstance(markdown, str):
        raise ValueError(f"markdown is text, not {type(markdown).__name__}")
    _report(
        ArtifactReport(
            key=key,
            type="markdown",
            data=markdown,
            description=description,
            keep_versions=keep_versions,
            new_version=new_version,
        )
    )


def create_link_artifact(
    key: str | None,
    link: str,
    link_text: str | None = None,
    description: str | None = None,
    *,
    keep_versions: int | None = None,
    new_version: bool = False,
) -> None:
    """Keep a link (http, https or mailto), as ``{"link": …, "text": …}``. Else as for JSON."""
    if not str(link).lower().startswith(("http://", "https://", "mailto:")):
        raise ValueError(f"a link begins with http://, https:// or mailto:, unlike {str(link)[:80]!r}")
    _report(
        ArtifactReport(
            key=key,
            type="link",
            data={"link": link, "text": link_text or link},
            description=description,
            keep_versions=keep_versions,
            new_version=new_version,
        )
    )


def _report(report: ArtifactReport) -> None:
    key: Any = report.key  # from code without types, anything may come
    if key is not None and (not isinstance(key, str) or not key.strip()):
        raise ValueError(f"an artifact's key is a text with something in it, or None, not {key!r}")
    if report.keep_versions is not None and report.keep_versions < 1:
        raise ValueError(f"keep_versions is at least 1, not {report.keep_versions}: the latest version always stays")
    run_context().recorder.report(report)
