"""How long a group stays open, as values: no store, no clock."""

from __future__ import annotations

import pytest

from monsal.store.engine.gathering import Gathering
from monsal.store.engine.place import EngineSettings

SETTINGS = EngineSettings(window=0.002, group_limit=5, inline_below=0.001)


@pytest.fixture
def group() -> Gathering:
    """One whose last flush was a moment ago."""
    group = Gathering(SETTINGS)
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
    group.flushed(0.0001, 10.0)
    group.add(10.0)
    assert not group.goes_on(10.0)
    group.add(10.0)
    assert group.goes_on(10.0)
    group.flushed(0.0001, 10.0)
    group.add(10.0)
    assert group.goes_on(10.0)


@pytest.mark.rule("state.B11")
def test_it_never_gets_older_than_the_window_nor_larger_than_the_limit(group: Gathering) -> None:
    group.add(10.0)
    assert not group.goes_on(10.002)
    group.flushed(0.0001, 11.0)
    assert [group.add(11.0) for _ in range(5)] == [True, True, True, True, False]
    assert not group.goes_on(11.0)


def test_each_group_counts_anew(group: Gathering) -> None:
    for now in (10.0, 10.001):
        group.add(now)
        group.add(now)
        assert group.goes_on(now)
        group.flushed(0.0001, now)
    assert (group.groups, group.largest, group.size) == (3, 2, 0)


def test_a_single_operation_is_flushed_on_the_loop_if_the_disk_is_quick(group: Gathering) -> None:
    group.start(0.0001)
    group.add(10.0)
    assert group.is_quick
    group.add(10.0)
    assert not group.is_quick
    group.flushed(1.0, 10.0)
    group.add(10.0)
    assert not group.is_quick


def test_applied_turns_wait_as_long_as_a_flush_takes_but_not_for_ever(group: Gathering) -> None:
    group.start(0.005)
    group.flushed(0.005, 10.0)
    assert group.rest(10.0) == pytest.approx(0.005)
    group.start(5.0)
    group.flushed(5.0, 10.0)
    assert group.rest(10.0) == pytest.approx(0.02)
