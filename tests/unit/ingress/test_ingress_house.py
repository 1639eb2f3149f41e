"""Whose turn it is to read, against a loop and a clock that move when they are told."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from monsal.ingress.house import Turns

_PIECE = 256 * 1024


class FakeLoop:
    """Notes what it is asked to call, and when."""

    def __init__(self) -> None:
        self.soon: list[Callable[[], None]] = []
        self.later: list[tuple[float, Callable[[], None]]] = []

    def call_soon(self, callback: Callable[[], None]) -> None:
        self.soon.append(callback)

    def call_later(self, seconds: float, callback: Callable[[], None]) -> None:
        self.later.append((seconds, callback))

    def turn(self) -> None:
        """One turn of the loop."""
        soon, self.soon = self.soon, []
        for callback in soon:
            callback()

    def rest(self) -> float:
        """Let the one rest end; its seconds."""
        ((seconds, callback),) = self.later
        self.later.clear()
        callback()
        return seconds


class Sender:
    """A connection that brings the next large piece as soon as it may read."""

    def __init__(self, turns: Turns, name: str, read: list[str]) -> None:
        self._turns = turns
        self._name = name
        self._read = read

    def go_on(self) -> None:
        self._read.append(self._name)
        self._turns.wait(self, _PIECE)


def senders(*names: str, takes: float) -> tuple[FakeLoop, list[str], list[float]]:
    """Senders that all have brought a piece; each further look at the clock is so many seconds later."""
    loop, read, now = FakeLoop(), [], [0.0]

    def clock() -> float:
        now[0] += takes
        return now[0]

    turns = Turns(loop, clock)  # type: ignore[arg-type]  # all of a loop that it needs
    for name in names:
        Sender(turns, name, read).go_on()
    read.clear()
    return loop, read, now


def test_one_connection_reads_in_each_turn_of_the_loop() -> None:
    loop, read, _ = senders("a", "b", "c", takes=0.0)

    loop.turn()

    assert read == ["a"]
    assert len(loop.soon) == 1


def test_after_a_megabyte_all_rest_and_go_on_where_they_were() -> None:
    """P7: while they rest, the loop is there for others."""
    loop, read, _ = senders("a", "b", "c", takes=0.0)
    loop.turn()
    assert (read, loop.later) == (["a"], [])

    loop.turn()

    assert read == ["a"]
    assert (len(loop.soon), len(loop.later)) == (0, 1)
    loop.rest()
    for _ in range(3):
        loop.turn()
    assert read == ["a", "b", "c", "a", "b"]
    loop.turn()
    assert read == ["a", "b", "c", "a", "b"]
    assert len(loop.later) == 1


def test_a_rest_is_twice_as_long_as_what_came_before_it() -> None:
    # The clock is looked at twice: when the first piece comes, and when the rest begins.
    assert _rest_after(0.002) == 0.004


def test_a_rest_is_never_so_short_that_there_is_none() -> None:
    assert _rest_after(0.0) == 0.001


def test_a_rest_is_bounded_on_a_machine_that_does_much_else() -> None:
    assert _rest_after(3.0) == 0.005


def _rest_after(seconds: float) -> float:
    loop, _, _ = senders("a", "b", "c", "d", takes=seconds)
    loop.turn()
    return loop.rest()


def test_one_alone_rests_as_well() -> None:
    loop, read, _ = senders("a", takes=0.0)
    for _ in range(3):
        loop.turn()
    assert read == ["a", "a", "a"]

    loop.turn()

    assert (loop.soon, len(loop.later)) == ([], 1)


def test_who_brings_nothing_more_is_not_asked_again() -> None:
    loop = FakeLoop()
    asked: list[Any] = []

    class Last:
        def go_on(self) -> None:
            asked.append(self)

    turns = Turns(loop)  # type: ignore[arg-type]  # as above
    turns.wait(Last(), 20_000)
    loop.turn()

    assert (len(asked), loop.soon, loop.later) == (1, [], [])
    turns.wait(Last(), 20_000)
    loop.turn()
    assert len(asked) == 2


class Broken:
    """A connection whose transport does not let it go on."""

    def go_on(self) -> None:
        raise RuntimeError("the transport is closed")


def test_one_that_fails_keeps_nobody_else_resting() -> None:
    loop, read = FakeLoop(), list[str]()
    turns = Turns(loop, lambda: 0.0)  # type: ignore[arg-type]  # all of a loop that it needs
    turns.wait(Broken(), 1)
    turns.wait(Sender(turns, "a", read), 1)

    with pytest.raises(RuntimeError, match="closed"):
        loop.turn()
    loop.turn()
    assert read == ["a"]

    # The last of those that wait, too.
    loop, read = FakeLoop(), []
    turns = Turns(loop, lambda: 0.0)  # type: ignore[arg-type]  # all of a loop that it needs
    turns.wait(Broken(), 1)
    with pytest.raises(RuntimeError, match="closed"):
        loop.turn()
    turns.wait(Sender(turns, "b", read), 1)
    loop.turn()
    assert read == ["b"]
