"""Artifacts: versions by key, equality of content, and how many are kept."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from store_making import IDS, T0, at, opened

from tidemill.core.runs import Artifact
from tidemill.store import artifacts


def document(key: str | None, text: str, **more: Any) -> Artifact:
    return Artifact(
        **({"id": IDS.new(T0), "key": key, "version": 0, "type": "json", "text": text, "created": T0} | more)
    )


async def test_a_document_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    full = document(
        "activity",
        '{"a":[1,2.5,"ä"]}',
        description="what to do",
        run_id="r" * 36,
        task_run_id="t" * 36,
        deployment="daily",
    )
    async with opened(tmp_path) as store:
        stored = await store.write(artifacts.ARTIFACTS, full)
        assert stored == replace(full, version=1)
        for found in (
            await store.read(lambda connection: artifacts.latest(connection, "activity")),
            await store.read(lambda connection: artifacts.version(connection, "activity", 1)),
            await store.read(lambda connection: artifacts.get(connection, full.id)),
        ):
            assert found == stored
        assert await store.read(lambda connection: artifacts.latest(connection, "none")) is None
        assert await store.read(lambda connection: artifacts.version(connection, "activity", 2)) is None
        of_run = await store.read(lambda connection: artifacts.of_run(connection, "r" * 36))
        assert of_run == [replace(stored, text="null")]


# What comes after the document {"a":1}, and the version it then is.
FOLLOWERS = [
    pytest.param({"text": '{"a":1}'}, 1, id="equal"),
    pytest.param({"text": '{"a":1}', "description": "another"}, 1, id="equal-but-described-otherwise"),
    pytest.param({"text": '{"a":2}'}, 2, id="different"),
    pytest.param({"text": '{"a":1.0}'}, 2, id="another-number"),
    pytest.param({"text": '{"a":1}', "type": "table"}, 2, id="another-type"),
    pytest.param({"text": '{"a":1}', "new_version": True}, 2, id="equal-but-asked-for"),
    pytest.param({"text": '{"a":1}', "key": "other"}, 1, id="another-key"),
    pytest.param({"text": ""}, 2, id="no-json-at-all"),
]


@pytest.mark.parametrize(("follower", "version"), FOLLOWERS)
@pytest.mark.parametrize("together", [True, False])
async def test_equal_content_makes_no_new_version_unless_asked(
    tmp_path: Path, follower: dict[str, Any], version: int, together: bool
) -> None:
    """Also where both come in one group."""
    first = document("activity", '{"a":1}', run_id="a" * 36)
    second = document(**({"key": "activity", "created": at(5), "run_id": "b" * 36} | follower))
    async with opened(tmp_path) as store:
        one = store.submit(artifacts.ARTIFACTS, first)
        if not together:
            await one
        stored = await store.submit(artifacts.ARTIFACTS, second)
        assert stored.version == version
        made_anew = version == 2 or second.key != first.key
        assert stored == replace(second if made_anew else first, version=version)
        latest = await store.read(lambda connection: artifacts.latest(connection, second.key or ""))
        assert latest is not None and (latest.version, latest.id) == (version, stored.id)


async def test_content_that_comes_back_is_a_new_version(tmp_path: Path) -> None:
    """Equal to the present one is what counts, not to one before."""
    async with opened(tmp_path) as store:
        futures = [store.submit(artifacts.ARTIFACTS, document("k", text)) for text in ("1", "2", "1", "1", "2")]
        assert [(await future).version for future in futures] == [1, 2, 3, 3, 4]


async def test_documents_without_a_key_are_never_versions_of_each_other(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        stored = [await store.write(artifacts.ARTIFACTS, document(None, "1")) for _ in range(2)]
        assert [each.version for each in stored] == [1, 1]
        assert len(await store.read(artifacts.newest_first)) == 2


@pytest.mark.parametrize(("keep", "kept"), [(1, [7]), (3, [7, 6, 5]), (None, [7, 6, 5, 4, 3]), (0, [7])])
@pytest.mark.parametrize("together", [True, False])
async def test_the_newest_versions_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keep: int | None, kept: list[int], together: bool
) -> None:
    monkeypatch.setattr(artifacts, "KEEP_VERSIONS", 5)
    async with opened(tmp_path) as store:
        await store.write(artifacts.ARTIFACTS, document("other", "1"))
        for number in range(1, 8):
            future = store.submit(artifacts.ARTIFACTS, document("k", str(number), keep_versions=keep))
            if not together:
                await future
        await store.flush()
        listed = await store.read(lambda connection: artifacts.versions(connection, "k", text=True))
        assert [each.version for each in listed] == kept
        assert [each.text for each in listed] == [str(number) for number in kept]
        assert await store.read(lambda connection: artifacts.latest(connection, "other")) is not None


async def test_keys_are_listed_with_their_latest_version(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        for key, text in itertools.product(("b", "a", "c"), ("1", "2")):
            await store.write(artifacts.ARTIFACTS, document(key, text))
        await store.write(artifacts.ARTIFACTS, document(None, "1"))

        async def keys(**page: Any) -> list[tuple[str | None, int, str]]:
            found = await store.read(lambda connection: artifacts.collections(connection, **page))
            return [(each.key, each.version, each.text) for each in found]

        assert await keys() == [("a", 2, "null"), ("b", 2, "null"), ("c", 2, "null")]
        assert await keys(text=True, limit=1, offset=1) == [("b", 2, "2")]
        assert await keys(start="b", limit=1) == [("b", 2, "null")]
        assert await keys(start="d") == []


async def test_lists_are_cut_at_two_hundred(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        for number in range(205):
            store.post(artifacts.ARTIFACTS, document(f"k{number}", "1", run_id="r" * 36))
        await store.flush()
        for read in (
            artifacts.newest_first,
            artifacts.collections,
            lambda connection: artifacts.of_run(connection, "r" * 36, limit=1000),
        ):
            assert len(await store.read(read)) == 200
