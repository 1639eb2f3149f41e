"""Start, stop, exit, restart, graceful: the order of effects, and what may be asked for when."""

from __future__ import annotations

import contextlib
import gc
import threading
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from monsal.bus import Bus, ChannelFailures, Phase, SimplePlugin, TransitionError, states

from .conftest import PATIENCE, LoggedBus

Run = Callable[[Callable[[], object]], threading.Thread]

STARTED = ["Bus STARTING", "Bus STARTED"]
STOPPED = ["Bus STOPPING", "Bus STOPPED"]
EXITED = ["Bus EXITING", "Bus EXITED"]


def watch(bus: LoggedBus) -> list[str]:
    """Every log line and listener call in order, each with the state in which it came."""
    seen: list[str] = []
    bus.subscribe("log", lambda msg, level: seen.append(f"{bus.state.name}: {msg}"))
    for channel in ("start", "stop", "exit", "graceful"):
        bus.subscribe(channel, lambda channel=channel: seen.append(f"{bus.state.name}: <{channel}>"))
    return seen


@pytest.mark.rule("bus.R9", "bus.R10")
def test_start_sets_the_state_then_logs_then_publishes(bus: LoggedBus) -> None:
    seen = watch(bus)
    bus.start()
    assert seen == ["STARTING: Bus STARTING", "STARTING: <start>", "STARTED: Bus STARTED"]
    assert bus.phase is Phase.STARTED


@pytest.mark.rule("bus.R9", "bus.R12")
def test_stop_sets_the_state_then_logs_then_publishes(bus: LoggedBus) -> None:
    bus.start()
    seen = watch(bus)
    bus.stop()
    assert seen == ["STOPPING: Bus STOPPING", "STOPPING: <stop>", "STOPPED: Bus STOPPED"]


@pytest.mark.rule("bus.R9", "bus.R13")
def test_exit_stops_first(bus: LoggedBus) -> None:
    bus.start()
    seen = watch(bus)
    bus.exit()
    assert seen == [
        "STOPPING: Bus STOPPING",
        "STOPPING: <stop>",
        "STOPPED: Bus STOPPED",
        "EXITING: Bus EXITING",
        "EXITING: <exit>",
        "EXITING: Bus EXITED",
    ]
    assert bus.phase is Phase.EXITED


@pytest.mark.rule("bus.R13")
def test_exit_of_a_bus_that_never_started_runs_the_stop_listeners_too(bus: LoggedBus) -> None:
    seen = watch(bus)
    bus.exit()
    assert [line for line in seen if "<" in line] == ["STOPPING: <stop>", "EXITING: <exit>"]


@pytest.mark.rule("bus.R15")
def test_graceful_logs_publishes_and_leaves_the_state(bus: LoggedBus) -> None:
    bus.start()
    seen = watch(bus)
    phases: list[Phase] = []
    bus.subscribe("graceful", lambda: phases.append(bus.phase))
    bus.graceful()
    assert seen == ["STARTED: Bus graceful", "STARTED: <graceful>"]
    assert phases == [Phase.RELOADING]
    assert bus.phase is Phase.STARTED


@pytest.mark.rule("bus.B1")
def test_graceful_does_nothing_while_the_bus_stops(bus: LoggedBus) -> None:
    seen = watch(bus)
    bus.start()
    bus.subscribe("stop", bus.graceful)
    bus.stop()
    assert not any("<graceful>" in line for line in seen)
    assert "Bus graceful: not while stopping" in bus.said


@pytest.mark.rule("bus.R16")
def test_start_and_stop_may_be_repeated_and_exit_is_the_end(bus: LoggedBus) -> None:
    for _ in range(3):
        bus.start()
        bus.stop()
    bus.start()
    bus.exit()
    assert bus.said == (STARTED + STOPPED) * 4 + EXITED
    with pytest.raises(TransitionError, match="start"):
        bus.start()
    assert bus.state is states.EXITING


@pytest.mark.rule("bus.B1")
def test_what_is_reached_already_is_not_done_again(bus: LoggedBus) -> None:
    bus.start()
    bus.start()
    bus.stop()
    bus.stop()
    bus.exit()
    bus.exit()
    bus.stop()
    assert bus.said == STARTED + STOPPED + EXITED


@pytest.mark.rule("bus.B1")
def test_start_while_stopping_is_refused(bus: LoggedBus) -> None:
    caught: list[TransitionError] = []

    def starts() -> None:
        try:
            bus.start()
        except TransitionError as error:
            caught.append(error)

    bus.start()
    bus.subscribe("stop", starts)
    bus.stop()
    assert len(caught) == 1
    assert bus.said == STARTED + STOPPED


@pytest.mark.rule("bus.B1")
def test_exit_from_many_threads_runs_every_listener_once(bus: LoggedBus, in_thread: Run) -> None:
    seen: list[str] = []
    together = threading.Barrier(8)
    bus.subscribe("stop", lambda: seen.append("stop"))
    bus.subscribe("exit", lambda: seen.append("exit"))
    bus.start()

    def leave() -> None:
        together.wait(PATIENCE)
        bus.exit()

    for _ in range(8):
        in_thread(leave)
    bus.wait(Phase.EXITED)
    assert seen == ["stop", "exit"]


@pytest.mark.rule("bus.B1", "bus.B10")
def test_exit_during_start_stops_what_was_started_and_start_returns(bus: LoggedBus) -> None:
    seen: list[str] = []
    bus.subscribe("start", lambda: seen.append("first"), 10)
    bus.subscribe("start", bus.exit, 20)
    bus.subscribe("start", lambda: seen.append("never"), 30)
    bus.subscribe("stop", lambda: seen.append("stop"))
    bus.subscribe("exit", lambda: seen.append("exit"))
    bus.start()
    assert seen == ["first", "stop", "exit"]
    assert bus.said == ["Bus STARTING", *STOPPED, *EXITED]
    bus.block()


@pytest.mark.rule("bus.B1")
def test_stop_during_start_leaves_a_bus_that_can_start_again(bus: LoggedBus) -> None:
    bus.subscribe("start", bus.stop)
    bus.start()
    assert bus.state is states.STOPPED
    bus.unsubscribe("start", bus.stop)
    bus.start()
    assert bus.state is states.STARTED


@pytest.mark.rule("bus.B1")
def test_exit_asked_for_by_another_thread_during_stop_is_done_next(bus: LoggedBus, in_thread: Run) -> None:
    bus.start()

    def another_exits() -> None:
        in_thread(bus.exit).join(PATIENCE)

    bus.subscribe("stop", another_exits)
    bus.stop()
    assert bus.said == STARTED + STOPPED + EXITED


@pytest.mark.rule("bus.R11", "bus.B4")
def test_a_failing_start_listener_shuts_down_and_its_error_is_raised(bus: LoggedBus) -> None:
    seen: list[str] = []
    error = ValueError("no disk")

    def fails() -> None:
        raise error

    bus.subscribe("start", lambda: seen.append("start first"), 10)
    bus.subscribe("start", fails, 20)
    bus.subscribe("start", lambda: seen.append("start never"), 30)
    bus.subscribe("stop", lambda: seen.append("stop"))
    bus.subscribe("exit", lambda: seen.append("exit"))
    with pytest.raises(ChannelFailures) as caught:
        bus.start()
    assert caught.value.get_instances() == [error]
    assert error.__traceback__ is not None
    assert seen == ["start first", "stop", "exit"]
    assert bus.phase is Phase.EXITED
    reason = "Shutting down due to error in start listener:"
    assert [line for line in bus.said if not line.startswith("Error in")] == ["Bus STARTING", reason, *STOPPED, *EXITED]
    assert (40, bus.text_of(reason)) in bus.lines
    assert "ValueError: no disk" in bus.text_of(reason)


class Part(SimplePlugin):
    """A plugin with a start, a mirrored stop, and a list of what was done."""

    def __init__(self, bus: LoggedBus, name: str, priority: int, done: list[str]) -> None:
        super().__init__(bus)
        self.name = name
        self.done = done
        bus.subscribe("start", self.start, priority)
        bus.subscribe("stop", self.stop, 100 - priority)

    def start(self) -> None:
        if self.name == "bad":
            raise ValueError(self.name)
        self.done.append(f"+{self.name}")

    def stop(self) -> None:
        self.done.append(f"-{self.name}")


@pytest.mark.rule("bus.B4")
def test_after_a_failed_start_the_parts_that_were_started_are_stopped_in_reverse(bus: LoggedBus) -> None:
    done: list[str] = []
    for name, priority in (("one", 10), ("two", 20), ("bad", 30), ("never", 40)):
        Part(bus, name, priority, done)
    with pytest.raises(ChannelFailures):
        bus.start()
    assert done == ["+one", "+two", "-bad", "-two", "-one"]


@pytest.mark.rule("bus.B10")
def test_after_a_start_that_was_cut_short_only_what_was_reached_is_stopped(bus: LoggedBus) -> None:
    done: list[str] = []
    Part(bus, "one", 10, done)
    bus.subscribe("start", bus.stop, 15)
    Part(bus, "two", 20, done)
    bus.start()
    assert done == ["+one", "-one"]
    bus.unsubscribe("start", bus.stop)
    bus.start()
    bus.stop()
    assert done[2:] == ["+one", "+two", "-two", "-one"]


@pytest.mark.rule("bus.B4")
def test_a_part_that_was_started_half_is_stopped(bus: LoggedBus) -> None:
    class Half(SimplePlugin):
        def first(self) -> None:
            done.append("first")

        def second(self) -> None:
            done.append("second")

        def stop(self) -> None:
            done.append("stop")

    done: list[str] = []
    half = Half(bus)
    bus.subscribe("start", half.first, 10)
    bus.subscribe("start", bus.stop, 20)
    bus.subscribe("start", half.second, 30)
    bus.subscribe("stop", half.stop)
    bus.start()
    assert done == ["first", "stop"]


@pytest.mark.rule("bus.R11")
def test_errors_of_the_shutdown_after_a_failed_start_are_swallowed(bus: LoggedBus) -> None:
    def fails(text: str) -> Callable[[], None]:
        def listener() -> None:
            raise ValueError(text)

        return listener

    bus.subscribe("start", fails("start"))
    bus.subscribe("stop", fails("stop"))
    bus.subscribe("exit", fails("exit"))
    with pytest.raises(ChannelFailures) as caught:
        bus.start()
    assert [str(error) for error in caught.value.exceptions] == ["start"]
    assert bus.phase is Phase.EXITED


@pytest.mark.rule("bus.R11", "bus.R6")
@pytest.mark.parametrize("end", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_passes_out_of_start_and_exit_still_works(bus: LoggedBus, end: type[BaseException]) -> None:
    seen: list[str] = []

    def ends() -> None:
        raise end

    bus.subscribe("start", ends)
    bus.subscribe("stop", lambda: seen.append("stop"))
    with pytest.raises(end):
        bus.start()
    assert bus.state is states.STARTING
    assert bus.phase is Phase.INTERRUPTED
    assert bus.said == ["Bus STARTING"]
    bus.exit()
    assert seen == ["stop"]


@pytest.mark.rule("bus.R12")
def test_a_failing_stop_listener_leaves_the_state_stopping(bus: LoggedBus) -> None:
    seen: list[str] = []
    broken = [ValueError("busy")]

    def fails_once() -> None:
        if broken:
            raise broken.pop()

    bus.subscribe("stop", fails_once, 10)
    bus.subscribe("stop", lambda: seen.append("next"), 20)
    bus.start()
    with pytest.raises(ChannelFailures):
        bus.stop()
    assert bus.state is states.STOPPING
    assert bus.phase is Phase.FAILED
    assert seen == ["next"]
    assert bus.said[-1].startswith("Error in 'stop'")
    with pytest.raises(TransitionError):
        bus.start()
    bus.stop()
    assert bus.state is states.STOPPED


@pytest.mark.rule("bus.B4")
def test_a_failing_stop_listener_does_not_keep_the_exit_listeners_from_running(bus: LoggedBus) -> None:
    seen: list[str] = []

    def fails(error: Exception) -> Callable[[], Any]:
        def listener() -> None:
            raise error

        return listener

    errors = [ValueError("stop"), KeyError("exit")]
    bus.subscribe("stop", fails(errors[0]))
    bus.subscribe("exit", fails(errors[1]), 10)
    bus.subscribe("exit", lambda: seen.append("exit"), 20)
    bus.start()
    with pytest.raises(ChannelFailures) as caught:
        bus.exit()
    assert caught.value.get_instances() == errors
    assert seen == ["exit"]
    assert bus.phase is Phase.EXITED
    with pytest.raises(ChannelFailures) as at_the_end:
        bus.block()
    assert at_the_end.value.get_instances() == errors


@pytest.mark.rule("bus.R6")
def test_system_exit_of_a_stop_listener_ends_the_stop_at_once(bus: LoggedBus) -> None:
    seen: list[str] = []

    def ends() -> None:
        raise SystemExit(3)

    bus.subscribe("stop", ends, 10)
    bus.subscribe("stop", lambda: seen.append("stop"), 20)
    bus.start()
    with pytest.raises(SystemExit) as caught:
        bus.stop()
    assert caught.value.code == 3
    assert seen == []
    assert bus.phase is Phase.FAILED


@pytest.mark.rule("bus.R6", "bus.B4")
@pytest.mark.parametrize("channel", ["drain", "stop"])
@pytest.mark.parametrize("end", [SystemExit(3), KeyboardInterrupt()])
def test_an_exit_reaches_its_listeners_and_then_raises_what_ended_the_stop(
    bus: LoggedBus, channel: str, end: BaseException
) -> None:
    seen: list[str] = []

    def ends() -> None:
        raise end

    bus.subscribe(channel, ends, 10)
    bus.subscribe("stop", lambda: seen.append("stop"), 20)
    bus.subscribe("exit", lambda: seen.append("exit"))
    bus.start()
    with pytest.raises(type(end)) as caught:
        bus.exit()
    assert caught.value is end
    assert seen == ["exit"]
    assert bus.phase is Phase.EXITED


@pytest.mark.rule("bus.R6")
@pytest.mark.parametrize("code", [0, 3])
def test_the_exit_code_tells_of_a_failure_in_an_earlier_step(bus: LoggedBus, code: int) -> None:
    def fails() -> None:
        raise ValueError("earlier")

    def ends() -> None:
        raise SystemExit(code)

    bus.subscribe("stop", fails)
    bus.subscribe("exit", ends)
    bus.start()
    with pytest.raises(SystemExit) as caught:
        bus.exit()
    assert caught.value.code == (code or 1)


@pytest.mark.rule("bus.R6")
@pytest.mark.parametrize("channel", ["drain", "stop", "exit"])
def test_the_exit_code_tells_of_a_failure_earlier_in_the_step(bus: LoggedBus, channel: str) -> None:
    def fails() -> None:
        raise ValueError("earlier")

    def ends() -> None:
        raise SystemExit(0)

    bus.subscribe(channel, fails, 10)
    bus.subscribe(channel, ends, 20)
    bus.start()
    with pytest.raises(SystemExit) as caught:
        bus.exit()
    assert caught.value.code == 1


@pytest.mark.rule("bus.R6", "bus.R17")
def test_block_raises_the_system_exit_of_an_exit_on_another_thread(bus: LoggedBus, in_thread: Run) -> None:
    def ends() -> None:
        raise SystemExit(3)

    def restarts() -> None:
        # A thread that it ends says nothing of it.
        with contextlib.suppress(SystemExit):
            bus.restart()

    bus.subscribe("stop", ends)
    bus.start()
    in_thread(restarts)
    with pytest.raises(SystemExit) as caught:
        bus.block()
    assert caught.value.code == 3
    assert bus.said[-2:] == ["Bus EXITED", "Waiting for child threads to terminate..."]


@pytest.mark.rule("bus.B12")
def test_drain_listeners_run_before_those_of_stop_in_a_phase_of_their_own(bus: LoggedBus) -> None:
    seen: list[tuple[str, Phase]] = []
    bus.subscribe("stop", lambda: seen.append(("stop", bus.phase)), 1)
    bus.subscribe("drain", lambda: seen.append(("drain", bus.phase)))
    bus.start()
    bus.exit()
    assert seen == [("drain", Phase.DRAINING), ("stop", Phase.STOPPING)]
    assert bus.said == STARTED + STOPPED + EXITED


@pytest.mark.rule("bus.R14")
def test_restart_sets_execv_then_exits_on_any_thread(bus: LoggedBus, in_thread: Run) -> None:
    flags: list[bool] = []
    bus.subscribe("stop", lambda: flags.append(bus.execv))
    bus.start()
    in_thread(bus.restart)
    bus.wait(Phase.EXITED)
    assert flags == [True]
    assert bus.execv is True


@pytest.mark.rule("bus.B1")
def test_of_restart_and_exit_the_exit_wins(bus: LoggedBus) -> None:
    bus.start()
    bus.subscribe("stop", bus.exit)
    bus.restart()
    assert bus.execv is False
    bus.restart()
    assert bus.execv is False


@pytest.mark.rule("bus.R14", "bus.B1")
def test_two_restarts_at_the_same_time_are_one(bus: LoggedBus, monkeypatch: pytest.MonkeyPatch) -> None:
    leave = bus.exit

    def exits() -> None:
        # What another thread may do between the two steps of a restart.
        monkeypatch.setattr(bus, "exit", leave)
        bus.restart()
        leave()

    bus.start()
    monkeypatch.setattr(bus, "exit", exits)
    bus.restart()
    assert bus.phase is Phase.EXITED
    assert bus.execv is True


@pytest.mark.rule("bus.B1", "bus.B10")
def test_a_stop_asked_for_after_an_exit_does_not_take_its_place(bus: LoggedBus) -> None:
    def asks() -> None:
        bus.exit()
        bus.stop()

    bus.subscribe("start", asks)
    bus.start()
    assert bus.phase is Phase.EXITED


@pytest.mark.rule("bus.B1", "bus.B10")
def test_an_exit_asked_for_after_a_stop_comes_after_it(bus: LoggedBus) -> None:
    def asks() -> None:
        bus.stop()
        bus.exit()

    bus.subscribe("start", asks)
    bus.start()
    assert bus.phase is Phase.EXITED


@pytest.mark.rule("bus.R21")
def test_a_bus_that_has_exited_is_forgotten_by_the_interpreter() -> None:
    made = Bus()
    made.start()
    made.exit()
    alive = weakref.ref(made)
    del made
    gc.collect()
    assert alive() is None


@pytest.mark.rule("bus.R10", "bus.R21")
def test_the_check_at_the_end_of_the_interpreter_is_registered_once(
    bus: LoggedBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    registered: list[Any] = []
    monkeypatch.setattr("atexit.register", registered.append)
    for _ in range(3):
        bus.start()
        bus.stop()
    assert registered == [bus._clean_exit]


@pytest.mark.rule("bus.R21")
def test_a_bus_left_running_is_shut_down_with_a_warning_that_names_state_and_remedy(bus: LoggedBus) -> None:
    bus.start()
    with pytest.warns(RuntimeWarning, match=r"states\.STARTED.*block\(\).*exit\(\)"):
        bus._clean_exit()
    assert bus.phase is Phase.EXITED
    bus._clean_exit()


@pytest.mark.rule("bus.B17")
def test_every_transition_and_call_is_an_event_with_duration_and_cause(bus: LoggedBus) -> None:
    def opens() -> None:
        pass

    def fails() -> None:
        raise ValueError("busy")

    bus.subscribe("start", opens)
    bus.subscribe("stop", fails)
    bus.start()
    with pytest.raises(ChannelFailures):
        bus.stop()
    facts = bus.statistics()
    assert (facts.state, facts.phase) == ("STOPPING", "failed")
    assert facts.listeners["start"] == 1
    kinds = [(event.kind, event.name.rpartition(".")[2]) for event in facts.events]
    assert kinds == [
        ("phase", "new"),
        ("call", "opens"),
        ("phase", "starting"),
        ("phase", "started"),
        ("call", "fails"),
        ("phase", "stopping"),
    ]
    assert facts.events[4].cause == "ValueError('busy')"
    assert facts.events[0].cause.startswith("start by MainThread")
    assert all(event.seconds >= 0 for event in facts.events)


@pytest.mark.rule("bus.B19")
def test_attributes_are_free_and_the_bus_says_where_it_stands(bus: LoggedBus) -> None:
    bus.anything = 1  # type: ignore[attr-defined] - free attributes are part of the contract
    assert repr(bus) == "<LoggedBus new>"
