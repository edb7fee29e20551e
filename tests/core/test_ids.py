"""Identifiers: ordered by time, repeatable from a seed, stable over restarts."""

from __future__ import annotations

import random
import uuid
from datetime import UTC, datetime, timedelta

from tidemill.ids import Ids, stable_id

NOW = datetime(2026, 3, 29, 1, 0, tzinfo=UTC)


def test_an_id_is_a_uuid_of_version_7_that_holds_its_millisecond() -> None:
    text = Ids(random.Random(1)).new(NOW)
    made = uuid.UUID(text)
    assert str(made) == text
    assert made.version == 7
    assert made.variant == uuid.RFC_4122
    assert made.int >> 80 == round(NOW.timestamp() * 1000)


def test_ids_of_later_milliseconds_sort_later() -> None:
    ids = Ids(random.Random(2))
    made = [ids.new(NOW + timedelta(milliseconds=n)) for n in range(500)]
    assert made == sorted(made)


def test_ids_of_one_instant_differ() -> None:
    ids = Ids(random.Random(3))
    assert len({ids.new(NOW) for _ in range(5000)}) == 5000


def test_the_same_seed_gives_the_same_ids_and_names() -> None:
    one, other = Ids(random.Random(4)), Ids(random.Random(4))
    assert [(one.new(NOW), one.name()) for _ in range(20)] == [(other.new(NOW), other.name()) for _ in range(20)]


def test_without_a_seed_ids_are_not_repeated() -> None:
    assert Ids().new(NOW) != Ids().new(NOW)


def test_a_name_is_two_words_and_names_spread() -> None:
    ids = Ids(random.Random(5))
    names = [ids.name() for _ in range(2000)]
    assert all(len(name.split("-")) == 2 and name.isascii() and name.islower() for name in names)
    assert len(set(names)) > 1200  # of some 6,000: drawn evenly, 2,000 draws repeat about 300 times


def test_a_configured_thing_keeps_its_id_and_differs_by_instance_kind_and_name() -> None:
    here, there = str(uuid.UUID(int=1)), str(uuid.UUID(int=2))
    assert stable_id(here, "deployment", "daily") == stable_id(here, "deployment", "daily")
    ids = {stable_id(place, kind, name) for place in (here, there) for kind in ("deployment", "flow") for name in "ab"}
    assert len(ids) == 8
