"""Artifacts that flow code makes."""

from tidemill.sdk.artifacts import (
    ArtifactId,
    create_image_artifact,
    create_json_artifact,
    create_link_artifact,
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)

__all__ = [
    "ArtifactId",
    "create_image_artifact",
    "create_json_artifact",
    "create_link_artifact",
    "create_markdown_artifact",
    "create_progress_artifact",
    "create_table_artifact",
    "update_progress_artifact",
]
