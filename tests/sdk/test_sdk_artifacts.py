"""What a flow keeps is reported to its run, and refused at once where it cannot be kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tidemill.artifacts import (
    create_image_artifact,
    create_json_artifact,
    create_link_artifact,
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from tidemill.core.reports import ArtifactReport
from tidemill.sdk import NoRunError, RunContext
from tidemill.sdk.context import current


@pytest.fixture
def run(new_run: Callable[[], RunContext]) -> Iterator[RunContext]:
    token = current.set(new_run())
    yield current.get()
    current.reset(token)


def test_an_artifact_is_reported_as_it_was_given(run: RunContext) -> None:
    id_ = create_json_artifact("activity", {"b": 1, "a": (1, 2)}, "what to do", keep_versions=3, new_version=True)
    assert run.recorder.artifacts == [
        ArtifactReport(
            key="activity",
            type="json",
            data={"a": [1, 2], "b": 1},
            description="what to do",
            keep_versions=3,
            new_version=True,
            id=id_,
        )
    ]


async def test_async_code_may_await_what_is_made_at_once(run: RunContext) -> None:
    id_ = await create_markdown_artifact("# Hi", "m")
    assert [made.id for made in run.recorder.artifacts] == [id_]


def test_a_progress_is_changed_in_place(run: RunContext) -> None:
    id_ = create_progress_artifact(0.0, "load")
    update_progress_artifact(id_, 50)
    assert [(made.type, made.data) for made in run.recorder.artifacts] == [("progress", 50.0)]


@pytest.mark.parametrize(
    ("create", "kind", "data"),
    [
        (lambda: create_table_artifact([{"a": 1}, {"a": 2}], "t"), "table", [{"a": 1}, {"a": 2}]),
        (lambda: create_table_artifact({"a": [1, 2]}, "t"), "table", {"a": [1, 2]}),
        (lambda: create_markdown_artifact("# Hi", "m"), "markdown", "# Hi"),
        (
            lambda: create_link_artifact("https://x.org", key="l"),
            "link",
            {"link": "https://x.org", "text": "https://x.org"},
        ),
        (lambda: create_link_artifact("https://x.org", "X", "l"), "link", {"link": "https://x.org", "text": "X"}),
        (lambda: create_image_artifact("https://x.org/a.png", "i"), "image", "https://x.org/a.png"),
    ],
)
def test_each_kind_has_its_shape(run: RunContext, create: Callable[[], None], kind: str, data: Any) -> None:
    create()
    assert [(made.type, made.data) for made in run.recorder.artifacts] == [(kind, data)]


@pytest.mark.parametrize(
    ("create", "says"),
    [
        (lambda: create_json_artifact("a", {"x": float("nan")}), r"\$\.x is NaN"),
        (lambda: create_json_artifact("a", "x" * 1024 * 1024), "too large"),
        (lambda: create_json_artifact("  ", 1), "key is a text with something in it"),
        (lambda: create_markdown_artifact("x", "Bad Key!"), "'Bad Key!' has more than lower-case letters, digits"),
        (lambda: create_progress_artifact(1, "rows_read"), "create_json_artifact, which takes any key"),
        (lambda: create_json_artifact(3, 1), "key is a text with something in it"),
        (lambda: create_json_artifact("a", 1, keep_versions=0), "keep_versions is at least 1"),
        (lambda: create_table_artifact("rows", "a"), "a list of rows or a dict of columns, not str"),
        (lambda: create_markdown_artifact(3, "a"), "markdown is text, not int"),
        (lambda: create_link_artifact("javascript:alert(1)", key="a"), "a link begins with http://"),
        (lambda: create_image_artifact("a.png", "a"), "an image's address begins with http://"),
        (lambda: create_progress_artifact(101, "a"), "from 0 to 100"),
        (lambda: update_progress_artifact("a", -1), "from 0 to 100"),
    ],
)
def test_what_cannot_be_kept_is_refused_at_once(run: RunContext, create: Callable[[], None], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        create()
    assert run.recorder.artifacts == []


def test_outside_a_run_there_is_nothing_to_keep_it_with() -> None:
    with pytest.raises(NoRunError, match="call it from a flow"):
        create_json_artifact("a", 1)
