"""What others can make us log is bounded."""

from __future__ import annotations

import logging

import pytest

from monsal.rpc import ParseError, RemoteAPI
from monsal.rpc.throttle import Throttle


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_burst_passes_then_so_many_a_second_and_the_rest_is_counted() -> None:
    clock = Clock()
    throttle = Throttle(rate=2.0, burst=3, clock=clock)
    assert [throttle.left_out() for _ in range(5)] == [0, 0, 0, None, None]
    clock.now += 0.5
    assert [throttle.left_out() for _ in range(2)] == [2, None]
    clock.now += 1000.0
    assert [throttle.left_out() for _ in range(4)] == [1, 0, 0, None]


@pytest.mark.rule("rpc.R25", "rpc.B1")
def test_a_flood_of_garbage_is_no_flood_of_the_log(caplog: pytest.LogCaptureFixture) -> None:
    api = RemoteAPI()
    clock = Clock()
    api._throttle = Throttle(clock=clock)
    with caplog.at_level(logging.WARNING):
        for _ in range(10_000):
            api.message_error("somebody", ParseError("Parse error"))
        assert len(caplog.records) == 20
        clock.now += 1.0
        api.message_error("somebody", ParseError("Parse error"))
    assert caplog.messages[-1] == "from somebody: ParseError: Parse error (9980 more were not logged)"
