"""Queues, leases and turns of taking, without a database."""

from __future__ import annotations

from monsal.store.engine.schedule import FOLLOWING, Head, Queue, Schedule


def keys(queues: list[Queue]) -> list[str]:
    return [queue.key for queue in queues]


def lease_all(schedule: Schedule, now: float, *, until: float, first: int = 1) -> list[Queue]:
    taken = schedule.take(100, now)
    for counter, queue in enumerate(taken, first):
        schedule.lease(queue, counter, 0, until)
    return taken


def test_a_new_queue_is_ready_and_a_second_row_of_it_is_not_news() -> None:
    schedule = Schedule()
    assert schedule.add("a", 1)
    assert not schedule.add("a", 2)
    assert schedule.next_time() == 0.0
    assert keys(schedule.take(10, 0.0)) == ["a"]
    assert schedule.queues["a"].count == 2


def test_ready_queues_take_turns() -> None:
    schedule = Schedule()
    for number in range(3):
        schedule.add("busy", number)
    schedule.add("quiet", 10)
    (busy,) = schedule.take(1, 0.0)
    schedule.lease(busy, 1, 0, 100.0)
    schedule.settle(busy, removed=1, head=Head(1, 0.0, False))
    assert keys(schedule.take(1, 0.0)) == ["quiet"]


def test_a_head_in_the_future_is_not_given_before_its_time() -> None:
    schedule = Schedule()
    schedule.restore("a", 1, Head(1, 50.0, False))
    assert schedule.next_time() == 50.0
    assert schedule.take(1, 49.9) == []
    assert keys(schedule.take(1, 50.0)) == ["a"]


def test_a_held_head_is_given_after_its_release_only() -> None:
    schedule = Schedule()
    schedule.restore("a", 2, Head(1, 0.0, True))
    assert schedule.next_time() is None
    assert schedule.take(1, 1e9) == []
    assert schedule.rejoin("a", Head(1, 0.0, False), 0)
    assert keys(schedule.take(1, 0.0)) == ["a"]


def test_an_expired_lease_may_commit_until_another_takes_it() -> None:
    schedule = Schedule()
    schedule.add("a", 1)
    (queue,) = lease_all(schedule, 0.0, until=10.0)
    assert schedule.take(1, 9.9) == []
    assert schedule.next_time() == 10.0
    assert keys(schedule.take(1, 10.0)) == ["a"]
    assert schedule.holder("a", 1) is queue
    schedule.lease(queue, 2, 0, 20.0)
    assert schedule.holder("a", 1) is None
    assert schedule.running == [1, 0, 0, 0]


def test_a_settled_lapsed_queue_is_not_taken_by_the_entry_it_left_behind() -> None:
    schedule = Schedule()
    schedule.add("a", 1)
    (queue,) = lease_all(schedule, 0.0, until=10.0)
    schedule.add("b", 2)
    assert keys(schedule.take(1, 11.0)) == ["b"]
    # Its entry for READY stands; the late commit puts its next head far away.
    schedule.settle(queue, removed=0, head=Head(1, 1000.0, False))
    assert schedule.take(10, 12.0) == []


def test_extending_takes_an_expired_lease_back() -> None:
    schedule = Schedule()
    schedule.add("a", 1)
    lease_all(schedule, 0.0, until=10.0)
    schedule.add("b", 2)
    schedule.take(1, 11.0)
    assert schedule.extend("a", 1, 100.0)
    assert schedule.take(10, 50.0) == []
    assert keys(schedule.take(10, 100.0)) == ["a"]
    assert not schedule.extend("a", 2, 100.0)
    assert not schedule.extend("nobody", 1, 100.0)


def test_a_shorter_lease_ends_first() -> None:
    schedule = Schedule()
    schedule.add("a", 1)
    schedule.add("b", 2)
    lease_all(schedule, 0.0, until=100.0)
    assert schedule.extend("b", 2, 5.0)
    assert schedule.next_time() == 5.0
    assert keys(schedule.take(10, 6.0)) == ["b"]


def test_memory_is_one_entry_for_a_queue_however_many_rows() -> None:
    schedule = Schedule()
    for number in range(10_000):
        schedule.add("a", number)
    assert len(schedule.queues) == 1
    for number in range(1000):
        (queue,) = schedule.take(1, float(number))
        schedule.lease(queue, number + 1, 0, float(number) + 60.0)
        schedule.settle(queue, removed=1, head=Head(number + 1, 0.0, False))
    assert schedule.take(10, 1000.0) == [queue]
    assert schedule.take(10, 1e9) == []
    assert not schedule.leased


def test_a_replayed_older_row_comes_before_what_runs_next() -> None:
    schedule = Schedule()
    schedule.add("a", 5)
    (queue,) = lease_all(schedule, 0.0, until=10.0)
    assert not schedule.rejoin("a", Head(3, 0.0, False), 1)
    assert queue.row == 5
    assert schedule.settle(queue, removed=1, head=Head(3, 0.0, False))
    (queue,) = schedule.take(1, 0.0)
    assert (queue.head, queue.count) == (3, 1)


def test_the_rows_that_run_are_known() -> None:
    schedule = Schedule()
    schedule.add("a", 1)
    schedule.add("b", 2)
    lease_all(schedule, 0.0, until=10.0)
    assert schedule.running_rows() == {1, 2}
    schedule.settle(schedule.queues["a"], removed=1, head=None)
    assert schedule.running_rows() == {2}
    assert schedule.running == [1, 0, 0, 0]
    assert "a" not in schedule.queues


def followed(*rows: int) -> tuple[Schedule, Queue]:
    """A queue whose head runs, and what came after it."""
    schedule = Schedule()
    for row in rows:
        schedule.add("a", row)
    (queue,) = lease_all(schedule, 0.0, until=100.0)
    return schedule, queue


def test_rows_that_come_are_known_to_follow_the_head() -> None:
    schedule, queue = followed(1, 2, 3)
    assert queue.following == [2, 3]
    schedule.settle(queue, removed=1, head=Head(2, 0.0, False))
    schedule.add("a", 4)
    assert (queue.head, queue.count, queue.following) == (2, 3, [3, 4])


def test_a_head_that_stays_is_followed_by_the_same() -> None:
    schedule, queue = followed(1, 2, 3)
    schedule.settle(queue, removed=0, head=Head(1, 50.0, False))
    assert (queue.head, queue.following) == (1, [2, 3])


def test_rows_that_come_back_make_unknown_what_follows() -> None:
    schedule, queue = followed(2, 3, 4)
    schedule.rejoin("a", Head(1, 0.0, False), 1)
    assert (queue.count, queue.following) == (4, [])
    # Nothing that comes is known to be the next one then.
    schedule.add("a", 5)
    assert queue.following == []


def test_a_row_that_leaves_from_the_middle_makes_unknown_what_follows() -> None:
    schedule, queue = followed(1, 2, 3)
    schedule.settle(queue, removed=1, head=Head(1, 0.0, False))
    assert (queue.head, queue.count, queue.following) == (1, 2, [])


def test_a_head_that_nobody_expected_makes_unknown_what_follows() -> None:
    schedule, queue = followed(1, 2, 3, 4)
    schedule.settle(queue, removed=2, head=Head(3, 0.0, False))
    assert (queue.count, queue.following) == (2, [])


def test_no_more_than_some_rows_are_known_to_follow() -> None:
    schedule, queue = followed(*range(1, 3 * FOLLOWING))
    assert queue.following == [*range(2, 2 + FOLLOWING)]
    schedule.settle(queue, removed=1, head=Head(2, 0.0, False))
    # Others wait between these and what comes.
    schedule.add("a", 1000)
    assert queue.following == [*range(3, 2 + FOLLOWING)]


def test_what_was_read_is_known_up_to_the_first_that_does_not_just_wait() -> None:
    _, queue = followed(1)
    queue.follow([Head(2, 0.0, False), Head(3, 0.0, False), Head(4, 99.0, False), Head(5, 0.0, False)])
    assert queue.following == [2, 3]
    queue.follow([Head(2, 0.0, True), Head(3, 0.0, False)])
    assert queue.following == []


def test_heads_are_taken_up_to_the_first_that_does_not_fit() -> None:
    schedule = Schedule()
    for number, key in enumerate("abc"):
        schedule.add(key, number)
    assert keys(schedule.take(10, 0.0, lambda row: row != 1)) == ["a"]
    assert schedule.first == 1
    assert keys(schedule.take(10, 0.0, lambda row: row != 1)) == []
    assert keys(schedule.take(10, 0.0)) == ["b", "c"]
    assert schedule.first == 0
