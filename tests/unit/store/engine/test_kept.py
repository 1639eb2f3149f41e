"""Keys that are kept from everybody (P3), and what the schedule makes of them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from monsal.store.engine.kept import Kept
from monsal.store.engine.schedule import Head, Schedule


def taken(schedule: Schedule, now: float) -> list[str]:
    """The keys of all queues that are ready; they are put back."""
    queues = schedule.take(100, now)
    for queue in queues:
        schedule.settle(queue, removed=0, head=Head(queue.head, 0.0, False))
    return [queue.key for queue in queues]


def test_a_kept_key_waits_for_all_who_keep_it() -> None:
    schedule = Schedule()
    assert schedule.add("a", 1)
    schedule.keep(1, "a", 100.0)
    schedule.keep(2, "a", 100.0)
    assert taken(schedule, 10.0) == []
    assert not schedule.let_go(1, ("a", "never heard of"))
    assert taken(schedule, 10.0) == []
    assert schedule.let_go(2)
    assert taken(schedule, 10.0) == ["a"]


def test_a_row_that_comes_later_waits_too() -> None:
    schedule = Schedule()
    schedule.keep(1, "a", 100.0)
    assert not schedule.add("a", 1)
    assert schedule.add("b", 2)
    assert taken(schedule, 10.0) == ["b"]
    assert schedule.let_go(1, ("a",))
    assert taken(schedule, 10.0) == ["b", "a"]


def test_it_is_kept_until_its_time_which_is_told() -> None:
    schedule = Schedule()
    schedule.keep(1, "a", 50.0)
    schedule.add("a", 1)
    schedule.keep(1, "a", 100.0)
    assert schedule.next_time() is not None
    assert taken(schedule, 99.0) == []
    assert schedule.next_time() == 100.0
    assert taken(schedule, 100.0) == ["a"]
    assert schedule.kept.first_end == float("inf")


def test_a_kept_row_that_was_put_off_still_waits_for_its_own_time() -> None:
    schedule = Schedule()
    schedule.restore("a", 1, Head(1, 70.0, False))
    schedule.keep(1, "a", 100.0)
    assert taken(schedule, 80.0) == []
    assert not schedule.let_go(1)
    assert schedule.next_time() == 70.0
    assert taken(schedule, 70.0) == ["a"]


def test_a_lease_that_expires_while_its_key_is_kept_gives_nothing() -> None:
    schedule = Schedule()
    schedule.add("a", 1)
    (queue,) = schedule.take(1, 0.0)
    schedule.lease(queue, 1, 0, 10.0)
    schedule.keep(7, "a", 100.0)
    assert taken(schedule, 20.0) == []
    assert schedule.let_go(7)
    assert taken(schedule, 20.0) == ["a"]


@given(
    st.lists(
        st.tuples(st.integers(0, 2), st.sampled_from("abc"), st.sampled_from(["keep", "go", "all", "time"])),
        max_size=40,
    )
)
def test_kept_is_a_set_of_pairs_with_ends(steps: list[tuple[int, str, str]]) -> None:
    kept, model, now = Kept(), dict[tuple[int, str], float](), 0.0
    for owner, key, act in steps:
        before = {pair[1] for pair in model}
        freed: list[str] = []
        if act == "keep":
            kept.keep(owner, key, now + 3.0)
            model[owner, key] = now + 3.0
        elif act == "go":
            freed = kept.let_go(owner, (key,))
            model.pop((owner, key), None)
        elif act == "all":
            freed = kept.let_go(owner)
            model = {pair: end for pair, end in model.items() if pair[0] != owner}
        else:
            now += 1.0
            freed = kept.expire(now)
            model = {pair: end for pair, end in model.items() if end > now}
        after = {pair[1] for pair in model}
        assert sorted(freed) == sorted(before - after)
        assert {name for name in "abc" if name in kept} == after
        assert kept.first_end <= min(model.values(), default=float("inf"))
