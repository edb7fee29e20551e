"""Who may start next."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidemill.core.admission import Limit, Limits, Lineup, limits_of
from tidemill.core.runs import FlowRun
from tidemill.core.states import State, StateType

T0 = datetime(2026, 3, 1, 9, 0, tzinfo=UTC)


def run(
    seq: int,
    *,
    deployment: str | None = "d",
    queue: str = "default",
    pool: str = "default",
    tags: tuple[str, ...] = (),
    at: int = 0,
    attempt: int = 0,
) -> FlowRun:
    return FlowRun(
        seq=seq,
        id=f"run-{seq}",
        name=f"run-{seq}",
        flow="f",
        deployment=deployment,
        work_pool=pool,
        work_queue=queue,
        tags=tags,
        expected_start=T0 + timedelta(seconds=at),
        state=State(type=StateType.SCHEDULED, name="Scheduled", timestamp=T0),
        created=T0,
        attempt=attempt,
    )


def limits(
    *,
    deployment: dict[str, int] | None = None,
    queue: dict[str, int] | None = None,
    pool: int = 100,
    tags: dict[str, int] | None = None,
    priorities: dict[str, int] | None = None,
    paused: tuple[Limit, ...] = (),
) -> Limits:
    return Limits(
        slots={
            Limit("pool", "default"): pool,
            **{Limit("deployment", name): count for name, count in (deployment or {}).items()},
            **{Limit("queue", name): count for name, count in (queue or {}).items()},
            **{Limit("tag", name): count for name, count in (tags or {}).items()},
        },
        paused=frozenset(paused),
        priorities=priorities or {},
    )


def taken(lineup: Lineup, pool: str = "default") -> list[int]:
    found = []
    while (each := lineup.take(pool)) is not None:
        found.append(each.seq)
    return found


def test_the_oldest_due_run_goes_first_across_deployments() -> None:
    lineup = Lineup(limits())
    for seq, deployment, at in [(1, "a", 5), (2, "b", 1), (3, "a", 3), (4, "b", 4)]:
        lineup.offer(run(seq, deployment=deployment, at=at))
    assert taken(lineup) == [2, 3, 4, 1]


def test_a_queue_of_a_lower_priority_number_goes_first() -> None:
    lineup = Lineup(limits(priorities={"urgent": 1, "later": 2}))
    lineup.offer(run(1, queue="later", at=0))
    lineup.offer(run(2, queue="urgent", at=9))
    assert taken(lineup) == [2, 1]


@pytest.mark.parametrize(
    ("bound", "offered"),
    [
        (limits(deployment={"d": 1}), [run(1), run(2)]),
        (limits(queue={"default": 1}), [run(1, deployment="a"), run(2, deployment="b")]),
        (limits(tags={"h": 1}), [run(1, deployment="a", tags=("h",)), run(2, deployment="b", tags=("h", "x"))]),
        (limits(pool=1), [run(1, deployment="a"), run(2, deployment="b")]),
    ],
    ids=["deployment", "queue", "tag", "pool"],
)
def test_a_slot_given_back_lets_the_next_one_start(bound: Limits, offered: list[FlowRun]) -> None:
    lineup = Lineup(bound)
    for each in offered:
        lineup.offer(each)
    assert taken(lineup) == [1]
    assert "full: 1 of 1 slots held" in lineup.reason(offered[1])
    lineup.release(offered[0])
    assert taken(lineup) == [2]


def test_a_full_deployment_does_not_hold_up_the_others() -> None:
    lineup = Lineup(limits(deployment={"slow": 1}))
    for seq in range(1, 6):
        lineup.offer(run(seq, deployment="slow"))
    lineup.offer(run(6, deployment="quick", at=30))
    assert taken(lineup) == [1, 6]


def test_a_paused_queue_hands_out_nothing_until_it_is_resumed() -> None:
    queue = Limit("queue", "default")
    lineup = Lineup(limits(paused=(queue,)))
    lineup.offer(run(1))
    assert taken(lineup) == []
    assert lineup.reason(run(1)) == "work queue default is paused"
    lineup.set_limits(limits())
    assert taken(lineup) == [1]


def test_a_paused_pool_hands_out_nothing_until_it_is_resumed() -> None:
    lineup = Lineup(limits(paused=(Limit("pool", "default"),)))
    lineup.offer(run(1))
    assert taken(lineup) == []
    lineup.set_limits(limits())
    assert taken(lineup) == [1]


def test_a_pool_out_of_reach_hands_out_nothing_and_says_why_until_it_is_within_reach() -> None:
    line = Lineup(limits())
    line.offer(run(1))
    line.offer(run(2, pool="cluster", queue="cluster"))
    line.hold_back("cluster", "the scheduler is away")
    assert line.take("cluster") is None
    assert line.reason(run(2, pool="cluster", queue="cluster")) == "the scheduler is away"
    assert (taken := line.take("default")) is not None and taken.seq == 1
    line.hold_back("cluster", None)
    assert (taken := line.take("cluster")) is not None and taken.seq == 2


def test_a_withdrawn_run_is_not_handed_out() -> None:
    lineup = Lineup(limits())
    lineup.offer(run(1))
    lineup.offer(run(2, at=1))
    assert lineup.withdraw("run-1")
    assert not lineup.withdraw("run-1")
    assert taken(lineup) == [2]
    assert lineup.waiting_of("d") == 0


def test_a_run_offered_anew_stands_where_its_new_time_says() -> None:
    lineup = Lineup(limits())
    lineup.offer(run(1, at=0))
    lineup.offer(run(2, at=5))
    lineup.offer(run(1, at=9))
    assert taken(lineup) == [2, 1]


def test_slots_belong_to_an_attempt_so_an_early_retry_keeps_its_own() -> None:
    lineup = Lineup(limits(pool=2))
    first, second = run(1), run(1, attempt=1)
    lineup.offer(first)
    assert taken(lineup) == [1]
    lineup.offer(second)  # the retry is due before the first attempt's worker has let go
    assert taken(lineup) == [1]
    lineup.release(first)
    assert lineup.used(Limit("pool", "default")) == 1
    lineup.release(first)  # twice changes nothing
    assert lineup.used(Limit("pool", "default")) == 1


def test_a_thousand_lines_parked_under_one_limit_drain_one_by_one_in_order() -> None:
    lineup = Lineup(limits(queue={"default": 2}, pool=10_000))
    runs = [run(seq, deployment=f"d{seq}", at=seq) for seq in range(1, 1001)]
    for each in reversed(runs):
        lineup.offer(each)
    order = taken(lineup)
    assert order == [1, 2]
    while order[-1] != 1000:
        lineup.release(runs[order[len(order) - 2] - 1])
        order += taken(lineup)
    assert order == list(range(1, 1001))


def test_room_left_by_a_withdrawn_run_goes_to_the_next_line_that_waits_for_it() -> None:
    """Two lines wait for one slot; the first is given it and then cancelled before it is taken."""
    lineup = Lineup(limits(deployment={"a": 1}))
    first, second, third = (run(seq, deployment="a", queue=queue) for seq, queue in enumerate("pqr", start=1))
    for each in (first, second, third):
        lineup.offer(each)
    assert lineup.take("default") is first
    assert lineup.take("default") is None
    lineup.release(first)
    assert lineup.withdraw(second.id)
    assert lineup.take("default") is third


def test_a_later_head_does_not_keep_the_room_its_line_was_woken_for() -> None:
    """What was withdrawn stood first; behind it is less than another line has waiting."""
    lineup = Lineup(limits(tags={"t": 1}))
    first = run(1, deployment="a", tags=("t",))
    withdrawn, behind = run(2, deployment="b", tags=("t",)), run(4, deployment="b", tags=("t",), at=9)
    next_one = run(3, deployment="a", tags=("t",), at=5)
    for each in (first, withdrawn, behind, next_one):
        lineup.offer(each)
    assert lineup.take("default") is first
    assert lineup.take("default") is None
    lineup.release(first)
    lineup.withdraw(withdrawn.id)
    assert lineup.take("default") is next_one


names = st.sampled_from(["a", "b", "c"])


@settings(max_examples=300)
@given(
    st.lists(
        st.tuples(names, st.sampled_from(["q", "r"]), st.sets(st.sampled_from(["t", "u"])), st.integers(0, 5)),
        max_size=25,
    ),
    st.dictionaries(names, st.integers(1, 2)),
    st.dictionaries(st.sampled_from(["q", "r"]), st.integers(1, 3)),
    st.dictionaries(st.sampled_from(["t", "u"]), st.integers(1, 2)),
    st.integers(1, 6),
    st.lists(st.integers(0, 30), max_size=60),
)
def test_the_lineup_equals_a_search_through_everything(
    offers: list[tuple[str, str, set[str], int]],
    of_deployment: dict[str, int],
    of_queue: dict[str, int],
    of_tag: dict[str, int],
    pool: int,
    steps: list[int],
) -> None:
    """The same runs in the same order as the plain rule: the first of all waiting runs whose limits all have room."""
    bound = limits_of(
        deployments=of_deployment,
        queues={name: (1 if name == "q" else 2, of_queue.get(name), False) for name in ("q", "r")},
        pools={"default": (pool, False)},
        tags=of_tag,
    )
    lineup = Lineup(bound)
    runs = {
        number: run(number, deployment=deployment, queue=queue, tags=tuple(sorted(tags)), at=at)
        for number, (deployment, queue, tags, at) in enumerate(offers, start=1)
    }
    for each in runs.values():
        lineup.offer(each)
    waiting, running = dict(runs), {}

    def own(each: FlowRun) -> list[Limit]:
        return [
            Limit("pool", "default"),
            Limit("queue", each.work_queue),
            Limit("deployment", each.deployment or ""),
            *(Limit("tag", tag) for tag in each.tags),
        ]

    def plain() -> int | None:
        held = [limit for each in running.values() for limit in own(each)]
        for each in sorted(waiting.values(), key=lambda r: (bound.priorities[r.work_queue], r.expected_start, r.seq)):
            if all(held.count(limit) < bound.slots.get(limit, 10**9) for limit in own(each)):
                return each.seq
        return None

    for step in steps:
        if step % 3 == 0 and running:
            gone = sorted(running)[step % len(running)]
            lineup.release(running.pop(gone))
        elif step % 7 == 1 and waiting:
            gone = sorted(waiting)[step % len(waiting)]
            del waiting[gone]
            assert lineup.withdraw(f"run-{gone}")
        else:
            expected = plain()
            got = lineup.take("default")
            assert (got.seq if got else None) == expected
            if got is not None:
                running[got.seq] = waiting.pop(got.seq)
        assert len(lineup) == len(waiting)
