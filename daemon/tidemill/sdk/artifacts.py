"""Artifacts: keyed documents that a run leaves behind, kept in versions.

A key that has the same content as before makes no new version, unless ``new_version`` asks for one. The calls return
the artifact's id at once (async code may await them all the same); it is durable when the run ends, at the latest.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Mapping, Sequence
from typing import Any

from tidemill.core.reports import ArtifactReport
from tidemill.sdk.context import current_scope, run_context
from tidemill.sdk.identity import new_id


class ArtifactId(str):
    """An artifact's id. Awaiting it gives it back: Prefect's calls are awaited in async code."""

    __slots__ = ()

    def __await__(self) -> Generator[Any, None, ArtifactId]:
        yield from ()
        return self


# Tidemill's own kind, whose keys are free.
_ANY_KEY = "json"
_PREFECTS_KEY = re.compile(r"[a-z0-9-]+")


def create_json_artifact(
    key: str | None,
    data: Any,
    description: str | None = None,
    *,
    keep_versions: int | None = None,
    new_version: bool = False,
) -> ArtifactId:
    """Keep any JSON value under ``key``; None keeps it with the run alone.

    ``keep_versions`` older versions stay (None: the daemon's default). Raises ``ValueError`` for what is not JSON
    (NaN and Infinity are not) or has more than 1 MiB of text, and ``NoRunError`` outside a run.

    >>> create_json_artifact("activity", {"type": "music"})  # doctest: +SKIP
    """
    return _report("json", key, data, description, keep_versions, new_version)


def create_table_artifact(
    table: Sequence[Mapping[str, Any]] | Sequence[Sequence[Any]] | Mapping[str, Sequence[Any]],
    key: str | None = None,
    description: str | None = None,
    *,
    keep_versions: int | None = None,
    new_version: bool = False,
) -> ArtifactId:
    """Keep a table: a list of rows (each a dict by column, or a list), or a dict of columns. Else as for JSON."""
    if isinstance(table, str | bytes) or not isinstance(table, Mapping | Sequence):
        raise ValueError(f"a table is a list of rows or a dict of columns, not {type(table).__name__}")
    return _report("table", key, table, description, keep_versions, new_version)


def create_markdown_artifact(
    markdown: str,
    key: str | None = None,
    description: str | None = None,
    *,
    keep_versions: int | None = None,
    new_version: bool = False,
) -> ArtifactId:
    """Keep a text in Markdown. Else as for JSON."""
    if not isinstance(markdown, str):
        raise ValueError(f"markdown is text, not {type(markdown).__name__}")
    return _report("markdown", key, markdown, description, keep_versions, new_version)


def create_link_artifact(
    link: str,
    link_text: str | None = None,
    key: str | None = None,
    description: str | None = None,
    *,
    keep_versions: int | None = None,
    new_version: bool = False,
) -> ArtifactId:
    """Keep a link (http, https or mailto), as ``{"link": …, "text": …}``. Else as for JSON."""
    _check_link(link, "a link", ("http://", "https://", "mailto:"))
    return _report("link", key, {"link": link, "text": link_text or link}, description, keep_versions, new_version)


def create_image_artifact(
    image_url: str,
    key: str | None = None,
    description: str | None = None,
    *,
    keep_versions: int | None = None,
    new_version: bool = False,
) -> ArtifactId:
    """Keep the address of an image (http or https). Else as for JSON."""
    _check_link(image_url, "an image's address", ("http://", "https://"))
    return _report("image", key, image_url, description, keep_versions, new_version)


def create_progress_artifact(
    progress: float,
    key: str | None = None,
    description: str | None = None,
    *,
    keep_versions: int | None = None,
) -> ArtifactId:
    """Keep how far something is, from 0 to 100; :func:`update_progress_artifact` changes it in place."""
    return _report("progress", key, _percent(progress), description, keep_versions, True)


def update_progress_artifact(artifact_id: str, progress: float, description: str | None = None) -> ArtifactId:
    """Change a progress artifact that this run made, and its description if one is given."""
    run_context().recorder.report(
        ArtifactReport(
            key=None,
            type="progress",
            data=_percent(progress),
            description=description,
            id=str(artifact_id),
            update=True,
        )
    )
    return ArtifactId(artifact_id)


def _percent(progress: object) -> float:
    if isinstance(progress, bool) or not isinstance(progress, int | float) or not 0 <= progress <= 100:
        raise ValueError(f"progress is a number from 0 to 100, not {progress!r}")
    return float(progress)


def _check_link(link: Any, what: str, begins: tuple[str, ...]) -> None:
    if not str(link).lower().startswith(begins):
        told = f"{', '.join(begins[:-1])} or {begins[-1]}"
        raise ValueError(f"{what} begins with {told}, unlike {str(link)[:80]!r}")


def _report(
    kind: str, key: str | None, data: Any, description: str | None, keep_versions: int | None, new_version: bool
) -> ArtifactId:
    if key is not None and not _is_text(key):
        raise ValueError(f"an artifact's key is a text with something in it, or None, not {key!r}")
    if key is not None and kind != _ANY_KEY and not _PREFECTS_KEY.fullmatch(key):
        raise ValueError(
            f"artifact key {key[:80]!r} has more than lower-case letters, digits and dashes; "
            "write it so, as Prefect does, or keep the document by create_json_artifact, which takes any key"
        )
    if keep_versions is not None and keep_versions < 1:
        raise ValueError(f"keep_versions is at least 1, not {keep_versions}: the latest version always stays")
    context = run_context()
    scope = current_scope.get()
    id_ = ArtifactId(new_id(context.clock.now()))
    context.recorder.report(
        ArtifactReport(
            key=key,
            type=kind,
            data=data,
            description=description,
            keep_versions=keep_versions,
            new_version=new_version,
            task_run_id=scope.task_run_id if scope is not None else None,
            id=str(id_),  # a plain text: what goes over a wire is no class of ours
        )
    )
    return id_


def _is_text(value: object) -> bool:
    """Whether a value is a text with something in it; from code without types, anything may come."""
    return isinstance(value, str) and bool(value.strip())


# Prefect's names for async code: the same calls, awaited.


async def acreate_table_artifact(table: Any, key: str | None = None, description: str | None = None) -> ArtifactId:
    """Do what :func:`create_table_artifact` does."""
    return create_table_artifact(table, key, description)


async def acreate_markdown_artifact(
    markdown: str, key: str | None = None, description: str | None = None
) -> ArtifactId:
    """Do what :func:`create_markdown_artifact` does."""
    return create_markdown_artifact(markdown, key, description)


async def acreate_link_artifact(
    link: str, link_text: str | None = None, key: str | None = None, description: str | None = None
) -> ArtifactId:
    """Do what :func:`create_link_artifact` does."""
    return create_link_artifact(link, link_text, key, description)


async def acreate_image_artifact(image_url: str, key: str | None = None, description: str | None = None) -> ArtifactId:
    """Do what :func:`create_image_artifact` does."""
    return create_image_artifact(image_url, key, description)


async def acreate_progress_artifact(
    progress: float, key: str | None = None, description: str | None = None
) -> ArtifactId:
    """Do what :func:`create_progress_artifact` does."""
    return create_progress_artifact(progress, key, description)


async def aupdate_progress_artifact(artifact_id: str, progress: float, description: str | None = None) -> ArtifactId:
    """Do what :func:`update_progress_artifact` does."""
    return update_progress_artifact(artifact_id, progress, description)
