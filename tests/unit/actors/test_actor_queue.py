"""The mailbox: bounded, serial per key, urgent messages first."""

from __future__ import annotations

from typing import Any

import pytest

from monsal.actors import Bounds, MessageQueue, Priority, Put


def filled(*entries: tuple[str, str | None], **options: Any) -> MessageQueue[str]:
    queue: MessageQueue[str] = MessageQueue(**options)
    for item, key in entries:
        assert queue.put(item, 1, key=key) is Put.ACCEPTED
    return queue


def take_all(queue: MessageQueue[str]) -> dict[str, int]:
    """What may run now: the items with their tickets."""
    taken = {}
    while (one := queue.take()) is not None:
        taken[one.item] = one.ticket
    return taken


@pytest.mark.rule("mailbox.B7")
class TestTurns:
    def test_one_at_a_time_of_each_key_and_different_keys_beside_one_another(self) -> None:
        queue = filled(("a1", "a"), ("a2", "a"), ("b1", "b"))
        taken = take_all(queue)
        assert list(taken) == ["a1", "b1"]
        assert queue.is_busy("a")
        queue.done(taken["b1"])
        assert take_all(queue) == {}
        queue.done(taken["a1"])
        assert list(take_all(queue)) == ["a2"]

    def test_a_message_that_comes_while_its_key_is_busy_waits(self) -> None:
        queue = filled(("a1", "a"))
        taken = take_all(queue)
        queue.put("a2", 1, key="a")
        assert queue.take() is None
        queue.done(taken["a1"])
        assert list(take_all(queue)) == ["a2"]

    def test_keys_take_turns(self) -> None:
        queue = filled(("a1", "a"), ("a2", "a"), ("b1", "b"), parallel=1)
        order = []
        while (one := queue.take()) is not None:
            order.append(one.item)
            assert queue.take() is None, "one at a time"
            queue.done(one.ticket)
        assert order == ["a1", "b1", "a2"]

    def test_messages_without_a_key_are_turns_of_one_unless_they_stand_alone(self) -> None:
        assert list(take_all(filled(("1", None), ("2", None)))) == ["1"]
        assert list(take_all(filled(("1", None), ("2", None), ("a1", "a"), serial=False))) == ["1", "2", "a1"]

    def test_done_twice_is_an_error(self) -> None:
        queue = filled(("a1", "a"))
        ticket = take_all(queue)["a1"]
        queue.done(ticket)
        with pytest.raises(KeyError):
            queue.done(ticket)

    def test_parallel_is_at_least_one(self) -> None:
        with pytest.raises(ValueError, match="at least one"):
            MessageQueue(parallel=0)


@pytest.mark.rule("mailbox.B8")
class TestBounds:
    def test_full_by_number_refuses_or_lets_wait(self) -> None:
        for policy, answer in (("refuse", Put.REFUSED), ("wait", Put.WAIT)):
            queue = filled(("a1", "a"), ("a2", "a"), bounds=Bounds(count=2, policy=policy))
            assert not queue.has_room()
            assert queue.put("a3", 1, key="a") is answer
            assert len(queue) == 2
            queue.take()
            assert queue.has_room()
            assert queue.put("a3", 1, key="a") is Put.ACCEPTED

    def test_full_by_octets(self) -> None:
        queue: MessageQueue[str] = MessageQueue(Bounds(octets=100))
        assert queue.put("great", 5000) is Put.ACCEPTED, "nothing else waits, so it fits at no other time"
        assert queue.put("small", 1) is Put.REFUSED
        queue.take()
        assert queue.put("small", 1) is Put.ACCEPTED

    def test_each_priority_has_its_own_room(self) -> None:
        queue = filled(("a1", "a"), bounds=Bounds(count=1))
        assert queue.put("a2", 1) is Put.REFUSED
        assert queue.put("stop", 1, priority=Priority.SYSTEM) is Put.ACCEPTED
        assert queue.put("ping", 1, priority=Priority.CONTROL) is Put.ACCEPTED
        assert queue.put("ping", 1, priority=Priority.CONTROL) is Put.REFUSED

    def test_system_overtakes_control_overtakes_users_and_neither_waits_for_a_turn(self) -> None:
        queue = filled(("a1", "a"), parallel=1)
        running = queue.take()
        assert running is not None
        queue.put("a2", 1, key="a")
        queue.put("ping", 1, key="a", priority=Priority.CONTROL)
        queue.put("stop", 1, priority=Priority.SYSTEM)
        taken = take_all(queue)
        assert list(taken) == ["stop", "ping"]
        for ticket in taken.values():
            queue.done(ticket)
        assert queue.take() is None
        queue.done(running.ticket)
        assert list(take_all(queue)) == ["a2"]

    @pytest.mark.parametrize("wrong", [{"count": 0}, {"octets": 0}, {"policy": "drop"}])
    def test_bounds_that_cannot_be(self, wrong: dict[str, Any]) -> None:
        with pytest.raises(ValueError, match="mailbox"):
            Bounds(**wrong)


@pytest.mark.rule("mailbox.B13")
def test_what_waits_can_be_given_back() -> None:
    queue = filled(("a1", "a"), ("b1", "b"), ("a2", "a"), ("n1", None))
    running = queue.take()
    assert running is not None
    queue.put("ping", 1, priority=Priority.CONTROL)
    assert queue.drain() == ["ping", "b1", "a2", "n1"]
    assert (len(queue), queue.take()) == (0, None)
    queue.done(running.ticket)
    assert queue.put("a3", 1, key="a") is Put.ACCEPTED


@pytest.mark.rule("mailbox.B16")
def test_statistics() -> None:
    queue = filled(("a1", "a"), ("a2", "a"), ("b1", "b"), bounds=Bounds(count=3))
    queue.put("c1", 1)
    queue.take()
    seen = queue.statistics()
    assert (seen.waiting, seen.octets, seen.running, seen.keys) == (2, 2, 1, 2)
    assert (seen.accepted, seen.refused) == (3, 1)
