"""A listener that hangs costs its own time and nothing more (B6)."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable

import pytest

from monsal.bus import ChannelFailures, Limits, Phase, states

from .conftest import PATIENCE, LoggedBus, short

Run = Callable[[Callable[[], object]], threading.Thread]


def test_thirty_seconds_are_the_default() -> None:
    limits = Limits()
    assert (limits.start, limits.stop, limits.exit) == (30.0, 30.0, 30.0)


@pytest.mark.rule("bus.B6")
def test_a_hanging_stop_listener_is_named_and_the_rest_goes_on(bus: LoggedBus, gate: threading.Event) -> None:
    seen: list[str] = []

    def hangs() -> None:
        gate.wait(PATIENCE)

    # It is warned of when half of this is over, if whoever watches comes to run in the other half.
    hangs.limit = 2.0  # type: ignore[attr-defined] - functions take attributes
    bus.subscribe("stop", hangs, 10)
    bus.subscribe("stop", lambda: seen.append("stop"), 20)
    bus.subscribe("exit", lambda: seen.append("exit"))
    bus.start()
    with pytest.raises(ChannelFailures) as caught:
        bus.exit()
    assert seen == ["stop", "exit"]
    (error,) = caught.value.exceptions
    assert isinstance(error, TimeoutError)
    assert "hangs on 'stop' took more than 2.0 seconds" in str(error)
    assert bus.phase is Phase.EXITED
    warning = bus.text_of("Listener ")
    assert f"{hangs!r} of 'stop' has run for 1." in warning
    assert "gate.wait(PATIENCE)" in warning
    assert "gate.wait(PATIENCE)" in bus.text_of("Error in 'stop' listener")
    assert [level for level, text in bus.lines if text.startswith(("Listener", "Error"))] == [30, 40]


@pytest.mark.rule("bus.B6", "bus.B4")
def test_a_hanging_start_listener_keeps_its_thread_only(bus: LoggedBus, gate: threading.Event, in_thread: Run) -> None:
    seen: list[str] = []
    errors: list[BaseException] = []

    @short
    def hangs() -> None:
        gate.wait(PATIENCE)

    def starts() -> None:
        try:
            bus.start()
        except ChannelFailures as error:
            errors.append(error)

    bus.subscribe("start", lambda: seen.append("start"), 10)
    bus.subscribe("start", hangs, 20)
    bus.subscribe("start", lambda: seen.append("never"), 30)
    bus.subscribe("stop", lambda: seen.append("stop"))
    bus.subscribe("exit", lambda: seen.append("exit"))
    thread = in_thread(starts)
    bus.wait(Phase.EXITED)
    assert seen == ["start", "stop", "exit"]
    assert "gate.wait(PATIENCE)" in bus.text_of("Error in 'start' listener")
    assert "Shutting down due to error in start listener:" in bus.said
    assert thread.is_alive()
    gate.set()
    thread.join(PATIENCE)
    (error,) = errors
    assert isinstance(error, ChannelFailures)
    assert isinstance(error.exceptions[0], TimeoutError)


@pytest.mark.rule("bus.B6")
def test_a_listener_may_have_a_limit_of_its_own_and_extend_it(bus: LoggedBus) -> None:
    bus.limits = bus.limits._replace(stop=0.0)
    seen: list[str] = []

    def long() -> None:
        bus.extend(PATIENCE)
        threading.Event().wait(0.6)
        seen.append("long")

    def with_limit() -> None:
        seen.append("with limit")

    long.limit = 0.5  # type: ignore[attr-defined] - functions take attributes
    with_limit.limit = PATIENCE  # type: ignore[attr-defined] - functions take attributes
    bus.subscribe("stop", long, 10)
    bus.subscribe("stop", with_limit, 20)
    bus.start()
    bus.stop()
    assert seen == ["long", "with limit"]


def test_extend_is_for_listeners_under_a_deadline(bus: LoggedBus) -> None:
    with pytest.raises(RuntimeError):
        bus.extend(1)


@pytest.mark.rule("bus.B6")
def test_all_of_a_shutdown_has_a_limit_too(bus: LoggedBus, gate: threading.Event) -> None:
    bus.limits = Limits(stop=PATIENCE, exit=PATIENCE, whole=0.1, hurry=0.05)
    for priority in range(3):
        bus.subscribe("stop", lambda priority=priority: gate.wait(PATIENCE), priority)
    bus.start()
    with pytest.raises(ChannelFailures) as caught:
        bus.exit()
    assert len(caught.value.exceptions) == 3
    assert bus.phase is Phase.EXITED


@pytest.mark.rule("bus.R6", "bus.B6")
@pytest.mark.parametrize("channel", ["start", "stop"])
def test_system_exit_of_a_log_listener_that_hears_of_a_hanging_one_ends_the_step(
    bus: LoggedBus, gate: threading.Event, channel: str
) -> None:
    """Then it is raised by who watches, and neither the watch nor the exit is lost."""
    seen: list[str] = []

    @short
    def hangs() -> None:
        gate.wait(PATIENCE)

    def ends(text: str, level: int) -> None:
        if "took more than" in text:
            gate.set()
            raise SystemExit(5)

    def run() -> None:
        bus.start()
        bus.exit()

    bus.subscribe("log", ends)
    bus.subscribe(channel, hangs)
    bus.subscribe("exit", lambda: seen.append("exit"))
    with pytest.raises(SystemExit) as caught:
        run()
    assert caught.value.code == 5
    bus.exit()
    assert seen == ["exit"]
    assert bus.phase is Phase.EXITED


@pytest.mark.rule("bus.B6")
def test_an_exit_long_after_a_stop_has_its_own_time(bus: LoggedBus) -> None:
    bus.limits = Limits(whole=0.0, hurry=0.0)
    bus.start()
    bus.stop()
    bus.subscribe("exit", lambda: threading.Event().wait(0.3))
    bus.exit()
    assert bus.phase is Phase.EXITED


@pytest.mark.rule("bus.B9")
def test_hurry_leaves_a_running_listener_little_time(bus: LoggedBus, gate: threading.Event, in_thread: Run) -> None:
    bus.limits = bus.limits._replace(stop=math.inf, whole=math.inf, hurry=0.5)
    told: list[bool] = []

    def hangs() -> None:
        in_thread(hurries)
        gate.wait()

    def hurries() -> None:
        # Who watches sleeps by now, and must be woken.
        while not (bus._round is not None and bus._round.desk.attended):
            threading.Event().wait(0.001)
        bus.hurry.set()

    bus.subscribe("stop", hangs, 10)
    bus.subscribe("stop", lambda: told.append(bus.hurry.is_set()), 20)
    bus.start()
    with pytest.raises(ChannelFailures):
        bus.exit()
    assert told == [True]


@pytest.mark.rule("bus.B9")
def test_hurry_counts_from_the_first_time_it_was_asked_for(bus: LoggedBus) -> None:
    bus.hurry.set()
    first = bus.hurry.since
    bus.hurry.set()
    assert bus.hurry.since == first
    bus.hurry.clear()
    assert bus.hurry.since == math.inf


@pytest.mark.rule("bus.B1")
def test_a_stop_listener_may_wait_for_a_thread_that_exits(bus: LoggedBus, in_thread: Run) -> None:
    bus.limits = bus.limits._replace(stop=PATIENCE)
    bus.start()

    def server() -> None:
        bus.wait(states.STOPPING)
        bus.exit()

    thread = in_thread(server)
    bus.subscribe("stop", lambda: thread.join(PATIENCE))
    bus.stop()
    assert bus.phase is Phase.EXITED
