"""The mailbox under any order of coming, running and ending: nothing lost, nothing twice, in order per key, bounded."""

from __future__ import annotations

from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from monsal.actors import Bounds, HashRing, MessageQueue, Priority, Put

#: A busy machine draws slowly; that says nothing about a mailbox.
UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
KEYS = (None, "a", "b", "c")
STEPS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(KEYS), st.sampled_from([*Priority, *[Priority.USER] * 4]), st.integers(0, 60)),
        st.just("take"),
        st.just("take"),
        st.tuples(st.just("begin"), st.sampled_from(KEYS), st.sampled_from([*Priority, Priority.USER])),
        st.integers(0, 9),
    ),
    max_size=80,
)


class Running(NamedTuple):
    """A message that runs."""

    item: int
    priority: Priority
    ticket: int


@pytest.mark.rule("mailbox.B7", "mailbox.B8")
@UNHURRIED
@given(
    STEPS,
    st.builds(Bounds, count=st.integers(1, 5), octets=st.integers(1, 100), policy=st.sampled_from(["wait", "refuse"])),
    st.sampled_from([None, 1, 2]),
    st.booleans(),
)
def test_a_mailbox_keeps_its_word(steps: list[object], bounds: Bounds, parallel: int | None, serial: bool) -> None:
    queue: MessageQueue[int] = MessageQueue(bounds, parallel=parallel, serial=serial)
    waiting: dict[int, tuple[str | None, Priority, int]] = {}
    running: list[Running] = []

    def key_of(item: int) -> object:
        key = came[item][0]
        return key or ("" if serial else f"alone {item}")

    came: dict[int, tuple[str | None, Priority, int]] = {}

    def may_run() -> set[int]:
        """What may be the next one: the first urgent one, else the first one of each key that nobody of runs."""
        users = [one for one in running if one.priority is Priority.USER]
        busy = {key_of(one.item) for one in users}
        first: dict[object, int] = {}
        for item, (_, lane, _) in waiting.items():
            first.setdefault(key_of(item) if lane is Priority.USER else lane, item)
        for lane in (Priority.SYSTEM, Priority.CONTROL):
            if lane in first:
                return {first[lane]}
        if parallel is not None and len(users) >= parallel:
            return set()
        return {item for place, item in first.items() if place not in busy}

    for number, step in enumerate(steps):
        if isinstance(step, tuple) and step[0] == "begin":
            _, key, priority = step
            # An urgent message overtakes users that wait, whoever is first of them.
            first_now = may_run()
            nobody_before = not any(priority is Priority.USER or came[one][1] is not Priority.USER for one in first_now)
            came[number] = waiting[number] = (key, priority, 0)
            ticket = queue.begin(key, priority)
            assert bool(ticket) is (nobody_before and number in may_run())
            del waiting[number]
            if ticket:
                running.append(Running(number, priority, ticket))
        elif isinstance(step, tuple):
            key, priority, octets = step
            before = [size for _, lane, size in waiting.values() if lane is priority]
            has_room = len(before) < bounds.count and sum(before) < bounds.octets
            full = Put.WAIT if bounds.policy == "wait" else Put.REFUSED
            assert queue.has_room(priority) is has_room
            assert queue.put(number, octets, key=key, priority=priority) is (Put.ACCEPTED if has_room else full)
            if has_room:
                came[number] = waiting[number] = step
        elif step == "take":
            may = may_run()
            taken = queue.take()
            assert (taken is None) == (not may)
            if taken is not None:
                assert taken.item in may
                running.append(Running(taken.item, taken.priority, taken.ticket))
                del waiting[taken.item]
        elif running:
            assert isinstance(step, int)
            queue.done(running.pop(step % len(running)).ticket)
        seen = queue.statistics()
        assert (seen.waiting, seen.running, len(queue)) == (len(waiting), len(running), len(waiting))
        assert seen.octets == sum(size for _, _, size in waiting.values())
    assert sorted(queue.drain()) == sorted(waiting)


NAMES = st.text(min_size=1, max_size=8)


@UNHURRIED
@given(st.sets(NAMES, min_size=1, max_size=6), NAMES, st.lists(st.text(), max_size=30))
def test_joining_and_leaving_moves_no_key_between_others(members: set[str], other: str, keys: list[str]) -> None:
    ring = HashRing()
    for member in members - {other}:
        ring.join(member)
    if members == {other}:
        return
    before = {key: ring.find(key) for key in keys}
    ring.join(other)
    joined = {key: ring.find(key) for key in keys}
    assert all(joined[key] in (before[key], other) for key in keys)
    ring.leave(other)
    assert {key: ring.find(key) for key in keys} == before
