"""Who gets the next slots: counted, decaying, in order, and never more than there are."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidemill.core.slots import Claim, SlotLimit, Slots, SlotsError


def limit(name: str, slots: int, decay: float = 0.0, *, active: bool = True) -> SlotLimit:
    return SlotLimit(name=name, limit=slots, slot_decay_per_second=decay, active=active)


def slots(*limits: SlotLimit) -> Slots:
    return Slots({each.name: each for each in limits})


def ask(found: Slots, key: str, *names: str, occupy: int = 1, **how: bool) -> None:
    found.claim(Claim(key=key, names=names, occupy=occupy), **how)


def granted(found: Slots, now: float = 0.0) -> list[str]:
    return [claim.key for claim in found.grant(now)]


def test_slots_are_given_in_order_until_there_are_no_more() -> None:
    found = slots(limit("a", 2))
    for key in "xyz":
        ask(found, key, "a")
    assert granted(found) == ["x", "y"]
    assert (found.taken("a", 0), found.waiting("a")) == (2, 1)
    assert found.release("x", 1.0)
    assert granted(found, 1.0) == ["z"]
    assert not found.release("x", 2.0), "given back once"


def test_nobody_overtakes_who_asks_for_more() -> None:
    """One who needs three slots would wait for ever behind a stream of those who need one."""
    found = slots(limit("a", 3))
    ask(found, "one", "a")
    assert granted(found) == ["one"]
    ask(found, "three", "a", occupy=3)
    ask(found, "small", "a")
    assert granted(found) == []
    found.release("one", 0)
    assert granted(found) == ["three"]
    found.release("three", 0)
    assert granted(found) == ["small"]


def test_slots_of_several_limits_are_given_at_once_or_not_at_all() -> None:
    """Holding one limit while waiting for another is how two runs wait for each other for ever."""
    found = slots(limit("a", 1), limit("b", 1))
    ask(found, "x", "a")
    assert granted(found) == ["x"]
    ask(found, "both", "a", "b")
    ask(found, "b-alone", "b")
    assert granted(found) == [], "first in the line of b, though b has room"
    assert found.taken("b", 0) == 0
    found.withdraw("both")
    assert granted(found) == ["b-alone"]


def test_a_chain_of_lines_moves_as_far_as_it_can() -> None:
    found = slots(limit("a", 1), limit("b", 1), limit("c", 1))
    for key, names in (("1", ("a",)), ("2", ("a", "b")), ("3", ("b", "c")), ("4", ("c",))):
        ask(found, key, *names)
    assert granted(found) == ["1"]
    found.release("1", 0)
    assert granted(found) == ["2"]
    found.release("2", 0)
    assert granted(found) == ["3"]
    found.release("3", 0)
    assert granted(found) == ["4"]


def test_decaying_slots_come_back_with_time_alone() -> None:
    """10 at once, then 2 a second: the n-th of a burst comes after (n - 10) / 2 seconds."""
    found = slots(limit("api", 10, 2.0))
    for number in range(14):
        ask(found, str(number), "api", rate=True)
    assert len(granted(found)) == 10
    assert found.next_in(0.0) == pytest.approx(0.5)
    assert granted(found, 0.25) == []
    assert found.next_in(0.25) == pytest.approx(0.25)
    assert granted(found, 0.5) == ["10"]
    assert granted(found, 1.5) == ["11", "12"]
    assert found.release("10", 1.5)
    assert granted(found, 1.6) == [], "giving back gives nothing: time does"
    assert granted(found, 2.0) == ["13"]
    assert found.taken("api", 100.0) == 0.0


# What cannot be -> what is said.
REFUSED: dict[str, tuple[tuple[str, ...], int, dict[str, bool], str]] = {
    "more than there are": (
        ("a",),
        4,
        {},
        "4 slots of a are asked for, and it has 3; ask for fewer, or raise its limit",
    ),
    "none": (("a",), 0, {}, "0 slots cannot be occupied; ask for 1 or more"),
    "a limit that is not there, strictly": (
        ("b",),
        1,
        {"strict": True},
        "there is no concurrency limit b; add [concurrency_limits.b] with its limit",
    ),
    "a tag's limit that is not there, strictly": (
        ("tag:x",),
        1,
        {"strict": True},
        "there is no concurrency limit tag:x; add x = 5 to [tag_limits]",
    ),
    "a rate of what does not decay": (
        ("a",),
        1,
        {"rate": True},
        "a is no rate limit: its slots do not come back by themselves; "
        "set slot_decay_per_second in [concurrency_limits.a]",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_can_never_be_given_is_an_error_that_says_so(case: str) -> None:
    names, occupy, how, text = REFUSED[case]
    with pytest.raises(SlotsError) as caught:
        ask(slots(limit("a", 3)), "x", *names, occupy=occupy, **how)
    assert str(caught.value) == text


def test_a_name_without_a_limit_is_free() -> None:
    found = slots(limit("a", 1), limit("off", 1, active=False))
    assert found.claim(Claim(key="x", names=("b", "off"))) is None
    standing = found.claim(Claim(key="y", names=("b", "a", "a")))
    assert standing is not None
    assert standing.names == ("a",)


def test_changed_limits_keep_what_is_held_and_let_go_who_waits_for_nothing() -> None:
    found = slots(limit("a", 1), limit("b", 5), limit("c", 1))
    for key, name in (("a1", "a"), ("a2", "a"), ("b1", "b"), ("b2", "b"), ("c1", "c"), ("c2", "c")):
        ask(found, key, name, occupy=4 if name == "b" else 1)
    assert granted(found) == ["a1", "b1", "c1"]
    left = found.set_limits({each.name: each for each in (limit("a", 2), limit("b", 3))}, 0)
    assert [claim.key for claim in left] == ["b2", "c2"], "too little, and gone"
    assert granted(found) == ["a2"]
    assert found.taken("b", 0) == 4, "more than there are now: nobody gets some until it is given back"
    assert found.release("c1", 0)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("ask"), st.sets(st.sampled_from("abc"), min_size=1), st.integers(1, 3)),
        st.tuples(st.just("release"), st.integers(0, 40), st.just(0)),
        st.tuples(st.just("withdraw"), st.integers(0, 40), st.just(0)),
        st.tuples(st.just("wait"), st.floats(0.0, 3.0), st.just(0)),
    ),
    max_size=60,
)


@given(STEPS)
def test_never_more_than_there_are_never_out_of_order_and_never_idle(steps: list[tuple[str, object, int]]) -> None:
    """Whatever is asked, given back and waited for, by any number of claims on any limits."""
    limits = {"a": limit("a", 3), "b": limit("b", 5), "c": limit("c", 4, 1.5)}
    found = Slots(limits)
    now, last = 0.0, 0
    waiting: dict[str, Claim] = {}
    held: dict[str, Claim] = {}
    given: list[tuple[float, int]] = []  # of c
    for kind, what, occupy in steps:
        if kind == "ask":
            last += 1
            standing = found.claim(Claim(key=str(last), names=tuple(sorted(what)), occupy=occupy))  # type: ignore[call-overload]
            assert standing is not None
            waiting[str(last)] = standing
        elif kind == "release":
            assert found.release(str(what), now) == (held.pop(str(what), None) is not None)
        elif kind == "withdraw":
            assert found.withdraw(str(what)) == (waiting.pop(str(what), None) is not None)
        else:
            now += float(what)  # type: ignore[arg-type]
        for claim in found.grant(now):
            earlier = [each for key, each in waiting.items() if int(key) < int(claim.key)]
            assert not [each for each in earlier if set(each.names) & set(claim.names)], "somebody was overtaken"
            held[claim.key] = waiting.pop(claim.key)
            if "c" in claim.names:
                given.append((now, claim.occupy))
        for name in ("a", "b"):
            taken = sum(each.occupy for each in held.values() if name in each.names)
            assert found.taken(name, now) == taken <= limits[name].limit
        # Of a rate limit, in any window no more is given than its slots and what came back meanwhile.
        for first in range(len(given)):
            total = sum(count for _, count in given[first:])
            assert total <= 4 + 1.5 * (now - given[first][0]) + 1e-6
        # Who is first everywhere waits only where there is no room.
        for claim in waiting.values():
            before = [each for key, each in waiting.items() if int(key) < int(claim.key)]
            if not [each for each in before if set(each.names) & set(claim.names)]:
                assert any(found.taken(name, now) + claim.occupy > limits[name].limit + 1e-9 for name in claim.names)
