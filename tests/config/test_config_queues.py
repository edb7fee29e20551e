"""Which queue and pool a deployment waits in."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tidemill.config import Loaded
from tidemill.core.deployments import WorkPool, WorkQueue

Load = Callable[..., Loaded]

# Pools and queues of the file, keys of the deployment -> its pool and queue.
PLACES = {
    "nothing said": ("", "", ("default", "default")),
    "a queue made by its name": ("", 'work_queue = "q"', ("default", "q")),
    "a queue of a pool": ('[work_pools.etl]\n[work_queues.q]\nwork_pool = "etl"', 'work_queue = "q"', ("etl", "q")),
    "a pool's own queue": ("[work_pools.etl]", 'work_pool = "etl"', ("etl", "etl")),
    "a pool's own queue, described": (
        "[work_pools.etl]\n[work_queues.etl]\npriority = 3",
        'work_pool = "etl"',
        ("etl", "etl"),
    ),
    "a made queue in a pool": ("[work_pools.etl]", 'work_pool = "etl"\nwork_queue = "q"', ("etl", "q")),
    "both found alike": (
        '[work_pools.big-one]\n[work_queues.some_q]\nwork_pool = "big_one"',
        'work_pool = "big_one"\nwork_queue = "some-q"',
        ("big-one", "some_q"),
    ),
}


@pytest.mark.parametrize(("tables", "keys", "place"), PLACES.values(), ids=PLACES.keys())
def test_a_deployment_finds_its_place(tables: str, keys: str, place: tuple[str, str], load_text: Load) -> None:
    settings = load_text(f'{tables}\n[deployments.a]\ncommand = "x"\n{keys}').settings
    found = settings.deployments["a"]
    assert (found.work_pool, found.work_queue) == place
    assert settings.work_queues[found.work_queue].work_pool == found.work_pool
    assert found.work_pool in settings.work_pools


def test_two_pools_and_their_queues_are_always_there(load_text: Load) -> None:
    settings = load_text("# nothing").settings
    assert settings.work_pools == {
        "default": WorkPool(name="default"),
        "process": WorkPool(name="process", type="process"),
    }
    assert settings.work_queues == {
        "default": WorkQueue(name="default", automatic=True),
        "process": WorkQueue(name="process", work_pool="process", automatic=True),
    }


def test_described_queues_and_pools_are_as_described(load_text: Load) -> None:
    settings = load_text(
        '[work_pools.etl]\ntype = "inline"\nconcurrency_limit = 2\nthreads = 1\npaused = true\ndescription = "p"\n'
        '[work_queues.q]\nwork_pool = "etl"\npriority = 7\nconcurrency_limit = 3\npaused = true\ndescription = "q"'
    ).settings
    assert settings.work_pools["etl"] == WorkPool(
        name="etl", concurrency_limit=2, threads=1, paused=True, description="p"
    )
    assert settings.work_queues["q"] == WorkQueue(
        name="q", work_pool="etl", priority=7, concurrency_limit=3, paused=True, description="q"
    )
    assert settings.work_queues["etl"].automatic


@pytest.mark.parametrize("order", [1, -1])
def test_who_names_the_pool_decides_where_a_made_queue_stands(order: int, load_text: Load) -> None:
    tables = [
        '[deployments.a]\ncommand = "x"\nwork_queue = "q"\n',
        '[deployments.b]\ncommand = "x"\nwork_queue = "q"\nwork_pool = "etl"\n',
    ]
    settings = load_text("[work_pools.etl]\n" + "".join(tables[::order])).settings
    assert {found.work_pool for found in settings.deployments.values()} == {"etl"}
    assert list(settings.deployments) == ["a", "b"][::order]  # in the order of the file


def test_two_pools_for_one_made_queue_are_a_fault(faults_of: Callable[..., list[str]]) -> None:
    (fault,) = faults_of(
        "[work_pools.x]\n[work_pools.y]\n"
        '[deployments.a]\ncommand = "x"\nwork_queue = "q"\nwork_pool = "x"\n'
        '[deployments.b]\ncommand = "x"\nwork_queue = "q"\nwork_pool = "y"\n'
    )
    assert fault == (
        'tidemill.toml:10:13 deployments.b.work_pool: work queue "q" stands in front of work pool "x", not "y"; '
        'write "x", or name another queue'
    )
