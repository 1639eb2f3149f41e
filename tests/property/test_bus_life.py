"""Whatever is asked for, from whatever thread, with listeners that fail or ask for more: a bus keeps its promises."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monsal.bus import WAYS, Bus, ChannelFailures, Phase, TransitionError

#: What a part does when it is started or stopped.
DEEDS = ("nothing", "fails", "asks stop", "asks exit", "asks restart", "asks start")
WISHES = ("start", "stop", "exit", "restart", "graceful")


class Part:
    """Something with a start and a mirrored stop, which notes what was done to it."""

    def __init__(self, bus: Bus, number: int, deeds: tuple[str, str], done: list[tuple[str, int]]) -> None:
        self.bus = bus
        self.number = number
        self.at_start, self.at_stop = deeds
        self.done = done
        bus.subscribe("start", self.start, number)
        bus.subscribe("stop", self.stop, 100 - number)
        bus.subscribe("exit", self.exit)

    def start(self) -> None:
        self.done.append(("start", self.number))
        self._do(self.at_start)

    def stop(self) -> None:
        self.done.append(("stop", self.number))
        self._do(self.at_stop)

    def exit(self) -> None:
        self.done.append(("exit", self.number))

    def _do(self, deed: str) -> None:
        if deed == "fails":
            raise ValueError(self.number)
        if deed.startswith("asks "):
            ask(self.bus, deed.removeprefix("asks "))


def ask(bus: Bus, wish: str) -> None:
    with contextlib.suppress(TransitionError, ChannelFailures):
        getattr(bus, wish)()


def build(deeds: Sequence[tuple[str, str]]) -> tuple[Bus, list[tuple[str, int]], list[Phase]]:
    """A bus of parts; what is done to them; the phases it goes through."""
    bus = Bus()
    done: list[tuple[str, int]] = []
    phases = [bus.phase]
    tell = bus._lobby.tell

    def note(phase: Phase) -> None:
        phases.append(phase)
        tell(phase)

    bus._lobby.tell = note  # type: ignore[method-assign] - the history keeps names only
    for number, pair in enumerate(deeds):
        Part(bus, number, pair, done)
    return bus, done, phases


def check(bus: Bus, done: Sequence[tuple[str, int]], phases: Sequence[Phase], parts: int) -> None:
    assert bus.phase is Phase.EXITED
    for before, after in pairwise(phases):
        assert after in WAYS[before]
    assert sorted(number for what, number in done if what == "exit") == list(range(parts))
    started: list[int] = []
    stopped: list[int] = []
    runs = [*done, ("start", 0)]
    for (what, number), (following, _) in pairwise(runs):
        if what == "start":
            started.append(number)
            assert started == list(range(len(started))), "started once each, in order"
        elif what == "stop":
            stopped.append(number)
        if what == "stop" and following != "stop" and started:
            # A stop that failed may be tried again: then the same parts come again.
            rounds = len(stopped) // len(started)
            assert stopped == started[::-1] * rounds, "what was started is stopped, in reverse"
            started, stopped = [], []
    assert not started, "what was started was stopped"


pairs = st.lists(st.tuples(st.sampled_from(DEEDS), st.sampled_from(DEEDS)), min_size=1, max_size=4)
wishes = st.lists(st.sampled_from(WISHES), max_size=6)


@pytest.mark.rule("bus.B1", "bus.B4")
@settings(deadline=None, max_examples=150)
@given(deeds=pairs, asked=wishes)
def test_what_was_started_is_stopped_in_reverse_and_the_end_is_reached(
    deeds: list[tuple[str, str]], asked: list[str]
) -> None:
    bus, done, phases = build(deeds)
    ask(bus, "start")
    for wish in (*asked, "exit"):
        ask(bus, wish)
    check(bus, done, phases, len(deeds))


@pytest.mark.rule("bus.B1")
@settings(deadline=None, max_examples=60)
@given(deeds=pairs, asked=st.lists(wishes, min_size=2, max_size=3))
def test_so_it_is_with_many_threads(deeds: list[tuple[str, str]], asked: list[list[str]]) -> None:
    bus, done, phases = build(deeds)
    together = threading.Barrier(len(asked) + 1)

    def wish(mine: list[str]) -> None:
        together.wait()
        for one in mine:
            ask(bus, one)

    threads = [threading.Thread(target=wish, args=(mine,)) for mine in asked]
    for thread in threads:
        thread.start()
    together.wait()
    ask(bus, "start")
    for thread in threads:
        thread.join()
    ask(bus, "exit")
    bus.wait(Phase.EXITED)
    check(bus, done, phases, len(deeds))
