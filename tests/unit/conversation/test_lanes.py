"""How many rows are under way in each lane."""

from __future__ import annotations

from monsal.conversation.lanes import Lanes


def test_each_lane_has_its_room() -> None:
    lanes = Lanes(total=10, each=2)
    assert [lanes.admit("x", 100.0) for _ in range(4)] == [0.0, 0.0, 101.0, 101.02]
    assert lanes.admit("y", 100.0) == 0.0
    assert lanes.room == 7
    lanes.leave("x", 1)
    assert lanes.admit("x", 100.0) == 0.0
    lanes.leave("x", 2)
    lanes.leave("y", 1)
    assert lanes.room == 10
    # Nothing is left of a lane that is done.
    assert [lanes.admit("x", 200.0) for _ in range(3)] == [0.0, 0.0, 201.0]


def test_a_clock_that_was_set_back_puts_off_nothing_for_long() -> None:
    lanes = Lanes(total=10, each=1)
    assert [lanes.admit("x", 1_000_000.0) for _ in range(2)] == [0.0, 1_000_001.0]
    assert lanes.admit("x", 100.0) == 101.0
