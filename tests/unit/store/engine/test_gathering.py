"""How long a group stays open, as values: no store, no clock."""

from __future__ import annotations

import pytest

from monsal.store.coming import Rhythm
from monsal.store.engine.gathering import Gathering
from monsal.store.engine.place import EngineSettings

SETTINGS = EngineSettings(window=0.002, group_limit=5, inline_below=0.001)


@pytest.fixture
def group() -> Gathering:
    """One whose last flush was a moment ago."""
    group = Gathering(SETTINGS)
    group.seal()
    group.flushed(0.0001, 9.9995)
    return group


@pytest.mark.rule("state.B11")
def test_it_is_open_as_long_as_each_turn_of_the_loop_brings_more(group: Gathering) -> None:
    group.add(10.0)
    assert group.goes_on(10.0)
    group.add(10.0)
    assert group.goes_on(10.0)
    assert not group.goes_on(10.0)


@pytest.mark.rule("state.B11")
def test_after_a_pause_nothing_waits(group: Gathering) -> None:
    group.add(20.0)
    assert not group.goes_on(20.0)
    group.start(0.0001)
    group.add(20.0)
    assert not group.goes_on(20.0)


def test_a_single_operation_waits_for_one_turn(group: Gathering) -> None:
    group.add(10.0)
    assert [group.goes_on(10.0), group.goes_on(10.0)] == [True, False]


@pytest.mark.rule("state.B11")
def test_where_each_comes_alone_nothing_waits(group: Gathering) -> None:
    group.add(10.0)
    group.seal()
    group.flushed(0.0001, 10.0)
    group.add(10.0)
    assert not group.goes_on(10.0)
    group.add(10.0)
    assert group.goes_on(10.0)
    group.seal()
    group.flushed(0.0001, 10.0)
    group.add(10.0)
    assert group.goes_on(10.0)


@pytest.mark.rule("state.B11")
def test_it_never_gets_older_than_the_window_nor_larger_than_the_limit(group: Gathering) -> None:
    group.add(10.0)
    assert not group.goes_on(10.002)
    group.seal()
    group.flushed(0.0001, 11.0)
    assert [group.add(11.0) for _ in range(5)] == [True, True, True, True, False]
    assert not group.goes_on(11.0)


def test_each_group_counts_anew(group: Gathering) -> None:
    for now in (10.0, 10.001):
        group.add(now)
        group.add(now)
        assert group.goes_on(now)
        group.seal()
        group.flushed(0.0001, now)
    assert (group.groups, group.largest, group.size) == (3, 2, 0)


def test_a_single_operation_is_flushed_on_the_loop_if_the_disk_is_quick(group: Gathering) -> None:
    group.start(0.0001)
    group.add(10.0)
    assert group.goes_here(1, 10.0, is_busy=True)
    group.add(10.0)
    assert not group.goes_here(1, 10.0, is_busy=True)
    group.seal()
    group.flushed(1.0, 10.0)
    group.add(10.0)
    assert not group.goes_here(1, 10.0, is_busy=True)


def test_a_group_is_flushed_on_the_loop_if_nothing_else_is_to_be_done(group: Gathering) -> None:
    group.start(0.0001)
    group.add(10.0)
    group.add(10.0)
    assert group.goes_here(2, 10.0, is_busy=False)
    assert not group.goes_here(1, 10.0, is_busy=False)  # a turn is in it, which nobody waits for
    assert not group.goes_here(2, 10.0, is_busy=True)
    sender = announced(group, 10.0)
    assert not group.goes_here(2, 10.0, is_busy=False)
    sender.left()
    assert group.goes_here(2, 10.0, is_busy=False)
    group.start(0.001)
    group.add(10.0)
    assert not group.goes_here(1, 10.0, is_busy=False)


def test_applied_turns_wait_as_long_as_a_flush_takes_but_not_for_ever(group: Gathering) -> None:
    group.start(0.005)
    group.seal()
    group.flushed(0.005, 10.0)
    assert group.rest(10.0) == pytest.approx(0.005)
    group.start(5.0)
    group.seal()
    group.flushed(5.0, 10.0)
    assert group.rest(10.0) == pytest.approx(0.02)


@pytest.mark.rule("state.B11")
def test_it_waits_for_mails_that_were_announced_and_never_longer_than_the_window(group: Gathering) -> None:
    group.add(10.0)
    assert group.waits(10.0) == 0.0
    sender = announced(group, 10.0)
    assert group.waits(10.0005) == pytest.approx(0.0015)
    sender.came(10.001)
    assert group.waits(10.001) == 0.0
    for number in range(100):  # somebody new all the time
        now = 10.0 + number * 0.0001
        announced(group, now)
        assert group.waits(now) <= 0.002 - (now - 10.0) + 1e-9 or group.waits(now) == 0.0
    assert group.waits(10.002) == 0.0


@pytest.mark.rule("state.B11")
def test_a_full_one_waits_for_nobody(group: Gathering) -> None:
    for _ in range(5):
        group.add(10.0)
    announced(group, 10.0)
    assert group.waits(10.0) == 0.0


def test_the_rest_of_a_window_that_no_timer_can_measure_is_not_waited_for(group: Gathering) -> None:
    group.add(10.0)
    announced(group, 10.0)
    assert group.waits(10.0014) > 0.0
    assert group.waits(10.0017) == 0.0


def announced(group: Gathering, now: float) -> Rhythm:
    """A sender whose mail the group may wait for."""
    sender = Rhythm(group.coming)
    sender.began(now)
    sender.came(now)
    sender.began(now)
    return sender
