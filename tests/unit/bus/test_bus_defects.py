"""Defects that were found in earlier buses of this design, each of which must not come back.

The ids are those of the notes: C for the one most in use, M for its successor. Those that only show in a process of
their own are in tests/process/.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable, Iterator
from queue import SimpleQueue
from typing import Any

import pytest

from monsal.bus import Bus, ChannelFailures, Phase, TransitionError, states

from .conftest import PATIENCE, LoggedBus, short

Run = Callable[[Callable[[], object]], threading.Thread]


def failing(error: BaseException) -> Callable[..., None]:
    def fails(*args: Any) -> None:
        raise error

    return fails


@pytest.mark.rule("bus.R11", "bus.B4")
def test_c1_the_error_of_a_start_listener_is_raised_and_the_process_lives(bus: LoggedBus) -> None:
    """(C1) It was never raised again, because the exit before it ended the process with 70."""
    error = OSError("no disk")
    bus.subscribe("start", failing(error))
    with pytest.raises(ChannelFailures) as caught:
        bus.start()
    assert caught.value.exceptions == (error,)
    with pytest.raises(OSError, match="no disk"):
        raise caught.value.exceptions[0]


@pytest.mark.rule("bus.B10", "bus.R13")
def test_c2_an_exit_during_start_is_a_clean_stop(bus: LoggedBus, in_thread: Run) -> None:
    """(C2) An exit while starting ended the process with 70."""
    done: list[str] = []
    bus.subscribe("start", lambda: in_thread(bus.exit).join(PATIENCE))
    bus.subscribe("stop", lambda: done.append("stop"))
    bus.subscribe("exit", lambda: done.append("exit"))
    bus.start()
    bus.block()
    assert done == ["stop", "exit"]


@pytest.mark.rule("bus.B4", "bus.R7")
@pytest.mark.parametrize("step", ["start", "stop", "exit", "graceful"])
def test_c3_a_failing_log_listener_aborts_no_step(bus: LoggedBus, step: str) -> None:
    """(C3) It raised out of log, and the state was stuck in the middle."""
    done: list[str] = []
    bus.subscribe("log", failing(ValueError("disk full")), 1)
    bus.subscribe(step, lambda: done.append(step))
    bus.start()
    bus.graceful()
    bus.stop()
    bus.exit()
    assert done == [step]
    assert bus.phase is Phase.EXITED


@pytest.mark.rule("bus.B4")
def test_c4_a_failing_main_listener_stops_nothing(bus: LoggedBus) -> None:
    """(C4) It escaped from block, and nothing was stopped."""
    ticks: list[int] = []
    done: list[str] = []

    def tick() -> None:
        ticks.append(1)
        if len(ticks) == 2:
            bus.exit()
        raise ValueError("main is broken")

    bus.subscribe("main", tick)
    bus.subscribe("stop", lambda: done.append("stop"))
    bus.start()
    bus.block(0.001)
    assert (len(ticks), done) == (2, ["stop"])


@pytest.mark.rule("bus.B1")
def test_c5_exit_twice_calls_each_listener_once_also_at_the_end_of_the_interpreter(bus: LoggedBus) -> None:
    """(C5) The second exit ran all of them again, and the check at the end once more."""
    done: list[str] = []
    for channel in ("stop", "exit"):
        bus.subscribe(channel, lambda channel=channel: done.append(channel))
    bus.start()
    bus.exit()
    bus.exit()
    bus._clean_exit()
    assert done == ["stop", "exit"]


@pytest.mark.rule("bus.B1", "bus.R16")
def test_c6_a_bus_that_has_exited_does_not_start(bus: LoggedBus) -> None:
    """(C6) It was started again."""
    done: list[str] = []
    bus.subscribe("start", lambda: done.append("start"))
    bus.exit()
    with pytest.raises(TransitionError, match=r"start.*exited"):
        bus.start()
    assert (done, bus.state) == ([], states.EXITING)


@pytest.mark.rule("bus.B7", "bus.R20")
def test_c7_who_waits_hears_of_a_state_that_lasts_no_time(bus: LoggedBus, in_thread: Run) -> None:
    """(C7) The state was looked at ten times a second, and a short one missed."""
    heard: SimpleQueue[str] = SimpleQueue()

    def waits() -> None:
        bus.wait(states.STARTING)
        heard.put("starting")

    in_thread(waits)
    while not bus._lobby._waiters:
        threading.Event().wait(0.001)
    bus.start()
    bus.stop()
    assert heard.get(timeout=PATIENCE) == "starting"


@pytest.mark.rule("bus.B2")
def test_c8_equal_priorities_keep_the_order_of_subscription_also_after_a_removal(bus: LoggedBus) -> None:
    """(C8) They ran in the order of a set. The listeners here cannot be compared either, which was an error once."""
    done: list[int] = []
    listeners = [lambda number=number: done.append(number) for number in range(10)]
    for listener in listeners:
        bus.subscribe("any", listener)
    bus.unsubscribe("any", listeners[3])
    bus.subscribe("any", listeners[3])
    bus.publish("any")
    assert done == [0, 1, 2, 4, 5, 6, 7, 8, 9, 3]


@pytest.fixture
def _busy_switching() -> Iterator[None]:
    former = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(former)


@pytest.mark.rule("bus.B2", "bus.B1")
@pytest.mark.usefixtures("_busy_switching")
def test_c9_eight_threads_publish_while_others_come_and_go(bus: LoggedBus) -> None:
    """(C9) KeyError and "Set changed size during iteration", thousands in a second."""
    ended = threading.Event()
    errors: list[BaseException] = []
    counts = [0] * 8

    def publishes(number: int) -> None:
        try:
            for _ in range(300):
                results = bus.publish("any")
                assert results[0] == "first"
                assert results[-1] == "last"
                counts[number] += 1
        except BaseException as error:  # noqa: BLE001 - the test shows whatever it is
            errors.append(error)

    def comes_and_goes() -> None:
        def mine() -> str:
            return "between"

        while not ended.is_set():
            bus.subscribe("any", mine)
            bus.unsubscribe("any", mine)

    bus.subscribe("any", lambda: "first", 0)
    bus.subscribe("any", lambda: "last", 100)
    publishers = [threading.Thread(target=publishes, args=(number,)) for number in range(8)]
    others = [threading.Thread(target=comes_and_goes) for _ in range(2)]
    for thread in (*publishers, *others):
        thread.start()
    for thread in publishers:
        thread.join()
    ended.set()
    for thread in others:
        thread.join()
    assert errors == []
    assert counts == [300] * 8
    assert len(bus.listeners["any"]) == 2


@pytest.mark.rule("bus.B2")
def test_c10_a_publishing_works_on_a_snapshot(bus: LoggedBus) -> None:
    """(C10) What a change meant for the publishing under way was left open; now it always counts from the next."""
    done: list[str] = []

    def gone() -> None:
        done.append("gone")

    bus.subscribe("any", lambda: bus.unsubscribe("any", gone), 1)
    bus.subscribe("any", lambda: bus.subscribe("any", late), 2)
    bus.subscribe("any", gone, 3)

    def late() -> None:
        done.append("late")

    bus.publish("any")
    assert done == ["gone"]
    bus.publish("any")
    assert done == ["gone", "late"]


@pytest.mark.rule("bus.B6")
@pytest.mark.parametrize("channel", ["drain", "stop", "exit"])
def test_c11_a_listener_that_hangs_does_not_hang_the_exit(bus: LoggedBus, gate: threading.Event, channel: str) -> None:
    """(C11) One that hung kept the process for ever."""
    done: list[str] = []

    @short
    def hangs() -> None:
        gate.wait(PATIENCE)

    bus.subscribe(channel, hangs, 10)
    for name in ("stop", "exit"):
        bus.subscribe(name, lambda name=name: done.append(name), 20)
    bus.start()
    with pytest.raises(ChannelFailures) as caught:
        bus.exit()
    assert "hangs on" in str(caught.value)
    assert done == ["stop", "exit"]
    assert bus.phase is Phase.EXITED


@pytest.mark.rule("bus.B16", "bus.R19")
def test_c17_the_callbacks_thread_ends_if_the_start_fails(bus: LoggedBus) -> None:
    """(C17) It waited for ever, and block for it."""
    bus.subscribe("start", failing(ValueError("start is broken")))
    before = set(threading.enumerate())
    with pytest.raises(ChannelFailures):
        bus.start_with_callback(lambda: None)
    for thread in set(threading.enumerate()) - before:
        thread.join(PATIENCE)
        assert not thread.is_alive()
    bus.block()


@pytest.mark.rule("bus.B4", "bus.R13")
def test_c18_exit_listeners_run_although_a_stop_listener_failed(bus: LoggedBus) -> None:
    """(C18) They did not, and the pid file was left behind."""
    done: list[str] = []
    bus.subscribe("stop", failing(ValueError("stop is broken")))
    bus.subscribe("exit", lambda: done.append("pid file removed"))
    bus.start()
    with pytest.raises(ChannelFailures):
        bus.exit()
    assert done == ["pid file removed"]


@pytest.mark.rule("bus.B3")
@pytest.mark.parametrize("arguments", [(), (1,), (1, 2)])
def test_c20_the_results_of_the_others_come_with_the_failures(bus: LoggedBus, arguments: tuple[int, ...]) -> None:
    """(C20) They were lost."""
    bus.subscribe("any", lambda *args: ("before", args))
    bus.subscribe("any", failing(ValueError("broken")))
    bus.subscribe("any", lambda *args: ("after", args))
    with pytest.raises(ChannelFailures) as caught:
        bus.publish("any", *arguments)
    assert caught.value.results == [("before", arguments), ("after", arguments)]


@pytest.mark.rule("bus.B5")
@pytest.mark.parametrize("arguments", [(), (1,), (1, 2)])
def test_c21_async_listeners_are_awaited(bus: LoggedBus, arguments: tuple[int, ...]) -> None:
    """(C21) Their coroutines were made and thrown away."""

    async def listener(*args: int) -> tuple[int, ...]:
        await asyncio.sleep(0)
        return args

    bus.subscribe("any", listener)
    assert bus.publish("any", *arguments) == [arguments]


@pytest.mark.rule("bus.R4", "bus.R5")
def test_m1_an_error_of_any_kind_is_reported_as_itself(bus: LoggedBus) -> None:
    """(M1) Any error of a listener became an AttributeError of the bus."""

    class Odd(Exception):
        def __init__(self, one: str, two: str) -> None:
            super().__init__(one)
            self.two = two

    error = Odd("one", "two")
    bus.subscribe("any", failing(error))
    with pytest.raises(ChannelFailures) as caught:
        bus.publish("any")
    assert caught.value.get_instances() == [error]


@pytest.mark.rule("bus.R11", "bus.R12", "bus.B4")
@pytest.mark.parametrize("channel", ["start", "stop", "exit"])
def test_m4_no_step_returns_as_if_nothing_had_failed(bus: LoggedBus, channel: str) -> None:
    """(M4) Errors of start and stop were swallowed, and the process ended with code 0."""
    bus.subscribe(channel, failing(ValueError("broken")))

    def run() -> None:
        bus.start()
        bus.stop()
        bus.exit()

    with pytest.raises(ChannelFailures) as caught:
        run()
    assert str(caught.value) == "ValueError('broken')"


@pytest.mark.rule("bus.B1")
def test_m5_what_cannot_be_reached_is_an_error(bus: LoggedBus) -> None:
    """(M5) A transition without a way did nothing and said nothing."""
    bus.exit()
    with pytest.raises(TransitionError):
        bus.start()
    with pytest.raises(TransitionError):
        bus.start_with_callback(lambda: None)
    with pytest.raises(TransitionError):
        bus.wait(states.STARTED)
    assert issubclass(TransitionError, RuntimeError)


@pytest.mark.rule("bus.R14", "bus.R18")
def test_m6_only_block_on_the_main_thread_becomes_the_new_process(
    bus: LoggedBus, monkeypatch: pytest.MonkeyPatch, in_thread: Run
) -> None:
    """(M6) A restart from another thread replaced the process in whichever thread came first."""
    where: list[threading.Thread] = []
    monkeypatch.setattr("os.execv", lambda path, argv: where.append(threading.current_thread()))
    monkeypatch.setattr("os.execve", lambda path, argv, env: where.append(threading.current_thread()))
    bus.start()
    in_thread(bus.restart).join(PATIENCE)
    assert bus.phase is Phase.EXITED
    assert where == []
    bus.block()
    assert where == [threading.main_thread()]


def test_a_bus_is_no_singleton() -> None:
    one, two = Bus(), Bus()
    one.subscribe("any", lambda: 1)
    assert two.publish("any") == []
