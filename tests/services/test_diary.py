"""The diary: what the daemon says of itself is kept, without secrets, and in nobody's way."""

from __future__ import annotations

import asyncio
import logging
import random
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from stage import Disk

from fakes import FakeClock
from tidemill.core.daemon_log import DaemonLine
from tidemill.errors import StoreUnavailableError
from tidemill.ids import Ids
from tidemill.sdk.logging import RUN_LOGGER
from tidemill.services import diary as diaries
from tidemill.services.diary import Diary
from tidemill.store import Store, daemon_log
from tidemill.telemetry.redaction import MASK, Redactor

SECRET = "hunter22-and-more"
logger = logging.getLogger("tidemill.clock")


@asynccontextmanager
async def kept(folder: Path, disk: Disk | None = None) -> AsyncIterator[tuple[Store, Diary, FakeClock]]:
    clock = FakeClock()
    house = logging.getLogger("tidemill")
    house.setLevel(logging.INFO)
    house.propagate = False  # pytest's own handler is not as forgiving
    doors = (disk or Disk()).doors
    store = await Store.open(folder / "db", clock=clock, ids=Ids(random.Random(1)), doors=doors)
    diary = Diary(store=store, clock=clock, redactor=Redactor([SECRET]))
    diary.open()
    try:
        yield store, diary, clock
    finally:
        diary.close()
        house.setLevel(logging.NOTSET)
        house.propagate = True
        await store.aclose()


async def lines(store: Store) -> list[DaemonLine]:
    await asyncio.sleep(0)  # the hand-over is the loop's next turn
    await store.flush()
    return [each.line for each in await store.read(lambda connection: daemon_log.lines(connection, limit=1000))]


async def test_a_record_becomes_a_line_with_its_event_deployment_and_fields(tmp_path: Path) -> None:
    async with kept(tmp_path) as (store, _, clock):
        fields = {"event": "paused", "deployment": "nightly", "kind": "deployment", "until": clock.now()}
        logger.warning("%s is paused", "nightly", extra={"fields": fields})
        (line,) = await lines(store)
    assert line == DaemonLine(
        at=clock.now(),
        level=logging.WARNING,
        event="paused",
        deployment="nightly",
        message="nightly is paused",
        fields={"kind": "deployment", "until": "2026-11-21T09:00:00Z"},
        logger="tidemill.clock",
    )


async def test_only_what_the_daemon_says_itself_at_info_and_above_is_kept(tmp_path: Path) -> None:
    async with kept(tmp_path) as (store, _, _):
        logger.debug("too quiet")
        logging.getLogger("httpx").error("a library's")
        logging.getLogger(RUN_LOGGER).info("outside of any run, so the daemon's own")
        assert [line.message for line in await lines(store)] == ["outside of any run, so the daemon's own"]


async def test_secrets_are_masked_in_sentence_fields_and_error(tmp_path: Path) -> None:
    """P14."""
    async with kept(tmp_path) as (store, _, _):
        try:
            raise ValueError(f"cannot use {SECRET}")
        except ValueError:
            logger.exception("with %s", SECRET, extra={"fields": {"url": f"https://x/?k={SECRET}"}})
        (line,) = await lines(store)
    assert SECRET not in repr(line)
    assert line.message == f"with {MASK}"
    assert line.fields["error"].startswith(f"ValueError: cannot use {MASK}")
    assert "Traceback" in line.fields["traceback"]


async def test_a_record_that_fits_nothing_harms_nobody(tmp_path: Path) -> None:
    circle: dict[str, Any] = {}
    circle["self"] = circle

    class Unspeakable:
        def __str__(self) -> str:
            raise RuntimeError("no text")

    async with kept(tmp_path) as (store, _, _):
        logger.info("%d fields", "three")
        logger.info("half a pair: \ud83d", extra={"fields": {"half": "\ud83d", 1: object}})
        logger.info("a circle", extra={"fields": circle})
        logger.info("%s", Unspeakable())
        logger.info("much", extra={"fields": {f"f{n}": "x" * 10_000 for n in range(10)}})
        found = await lines(store)
    said = [line.message for line in found]
    assert said[0].startswith("a record of tidemill.clock could not be kept")
    assert said[1] == "half a pair: \\ud83d"
    assert len(said) == 5
    assert found[4].fields == {"cut": "100081 bytes of fields were too long to be kept"}


async def test_records_of_other_threads_arrive(tmp_path: Path) -> None:
    async with kept(tmp_path) as (store, _, _):
        thread = threading.Thread(target=logger.info, args=("from elsewhere",))
        thread.start()
        thread.join()
        assert [line.message for line in await lines(store)] == ["from elsewhere"]


async def test_what_is_said_last_is_kept(tmp_path: Path) -> None:
    async with kept(tmp_path) as (store, diary, _):
        logger.info("stopped")
        diary.close()
        await store.flush()
        assert [each.line.message for each in await store.read(daemon_log.lines)] == ["stopped"]


async def test_while_the_disk_is_full_the_last_lines_wait_until_it_is_not(tmp_path: Path) -> None:
    """P11: the diary writes nothing into a store that takes nothing, and tells of it afterwards."""
    disk = Disk()
    async with kept(tmp_path, disk) as (store, _, clock):
        disk.full()
        with pytest.raises(StoreUnavailableError):
            await store.write(daemon_log.NOTE, DaemonLine(at=clock.now(), level=20, message="lost"))
        for number in range(diaries.HELD + 50):
            logger.info("%d", number)
        await asyncio.sleep(0)
        disk.well()
        await clock.until_asleep()
        clock.advance(60)
        await store.flush()
        assert store.degraded is None
        logger.info("well again")
        found = [line.message for line in await lines(store)]
    assert found[-1] == "well again"
    assert str(diaries.HELD + 49) in found
    assert len(found) <= diaries.HELD + 2
    assert "lost" not in found


async def test_a_flood_is_cut_and_says_so(tmp_path: Path) -> None:
    """P13."""
    async with kept(tmp_path) as (store, _, clock):
        for number in range(diaries.BURST + 300):
            logger.info("%d", number)
        clock.advance(1)
        logger.info("after")
        found = await lines(store)
    assert len(found) == diaries.BURST + 2
    assert found[-2].fields == {"dropped": 300}
    assert found[-1].message == "after"
