"""Waiting by event: `wait`, `block`, `start_with_callback`, and work that signal handlers leave."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from typing import Any

import pytest

from monsal.bus import ChannelFailures, Phase, TransitionError, states
from monsal.bus.inner import waiting

from .conftest import PATIENCE, LoggedBus

Run = Callable[[Callable[[], object]], threading.Thread]


@pytest.mark.rule("bus.R20")
def test_wait_returns_at_once_if_the_bus_is_there(bus: LoggedBus) -> None:
    bus.wait(states.STOPPED)
    bus.wait([states.STARTED, states.STOPPED])
    bus.wait((states.STOPPED,), interval=5)


@pytest.mark.rule("bus.R20")
@pytest.mark.parametrize("wanted", [states.STARTED, [states.STARTED], (states.STARTING, states.STARTED)])
def test_wait_returns_when_another_thread_gets_the_bus_there(bus: LoggedBus, in_thread: Run, wanted: Any) -> None:
    in_thread(bus.start)
    bus.wait(wanted)
    assert bus.state in (states.STARTING, states.STARTED)


@pytest.mark.rule("bus.B7")
def test_wait_does_not_miss_a_short_state(bus: LoggedBus, in_thread: Run) -> None:
    seen: SimpleQueue[str] = SimpleQueue()
    waits = [threading.Event() for _ in range(3)]

    def wait_for(event: threading.Event, phase: Any) -> Callable[[], None]:
        def waits_for() -> None:
            event.set()
            bus.wait(phase)
            seen.put(phase.name)

        return waits_for

    for event, phase in zip(waits, (states.STARTING, states.STOPPING, Phase.RELOADING), strict=True):
        in_thread(wait_for(event, phase))
        assert event.wait(PATIENCE)
    _until_waiting(bus, 3)
    for step in (bus.start, bus.graceful, bus.stop):
        step()
    assert {seen.get(timeout=PATIENCE) for _ in range(3)} == {"STARTING", "STOPPING", "RELOADING"}


def _until_waiting(bus: LoggedBus, number: int) -> None:
    """Return when so many threads wait for the bus; what they do before that gives no other sign."""
    while len(bus._lobby._waiters) < number:
        threading.Event().wait(0.001)


@pytest.mark.rule("bus.B16")
def test_wait_ends_with_an_error_when_the_bus_has_exited(bus: LoggedBus, in_thread: Run) -> None:
    errors: SimpleQueue[BaseException] = SimpleQueue()

    def waits() -> None:
        try:
            bus.wait(states.STARTED)
        except TransitionError as error:
            errors.put(error)

    in_thread(waits)
    _until_waiting(bus, 1)
    bus.exit()
    assert isinstance(errors.get(timeout=PATIENCE), TransitionError)
    with pytest.raises(TransitionError):
        bus.wait(states.STOPPED)


@pytest.mark.rule("bus.R20", "bus.B7")
def test_wait_publishes_the_channel_at_each_interval_while_it_has_listeners(bus: LoggedBus) -> None:
    ticks: list[int] = []

    def tick() -> None:
        ticks.append(len(ticks))
        if len(ticks) == 3:
            bus.start()

    bus.subscribe("main", tick)
    bus.wait(states.STARTED, 0.001, "main")
    assert ticks == [0, 1, 2]


@pytest.mark.rule("bus.R20")
def test_what_is_late_does_not_add_up_and_what_takes_long_is_followed_by_a_pause(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = [0.0]
    ticks: list[float] = []
    lobby = waiting.Lobby()

    def waits_late(desk: Any, timeout: float, **_: Any) -> None:
        clock[0] += timeout + 0.25

    def tick() -> None:
        ticks.append(clock[0])
        if len(ticks) == 4:
            clock[0] += 10.0
        if len(ticks) == 6:
            lobby.tell(Phase.STARTED)

    monkeypatch.setattr(waiting, "monotonic", lambda: clock[0])
    monkeypatch.setattr(waiting.Desk, "wait", waits_late)
    lobby.wait([Phase.STARTED], 1.0, lambda: True, tick)
    assert ticks == [1.25, 2.25, 3.25, 4.25, 15.5, 16.5]


@pytest.mark.rule("bus.B7")
def test_a_main_listener_that_comes_while_the_bus_blocks_is_called(bus: LoggedBus, in_thread: Run) -> None:
    called: list[threading.Thread] = []

    def main() -> None:
        called.append(threading.current_thread())
        bus.exit()

    def comes_late() -> None:
        _until_waiting(bus, 1)
        bus.subscribe("main", main)

    in_thread(comes_late)
    bus.block(0.001)
    assert called[0] is threading.main_thread()


@pytest.mark.rule("bus.B4")
def test_a_failing_main_listener_does_not_stop_the_bus(bus: LoggedBus) -> None:
    called: list[int] = []

    def fails() -> None:
        called.append(1)
        if len(called) == 3:
            bus.exit()
        raise ValueError("main is broken")

    bus.subscribe("main", fails)
    bus.start()
    bus.block(0.001)
    assert len(called) == 3
    assert sum(line.startswith("Error in 'main'") for line in bus.said) == 3


@pytest.mark.rule("bus.R17")
def test_block_waits_for_exit_then_joins_the_other_threads(bus: LoggedBus, in_thread: Run) -> None:
    leave, end = threading.Event(), threading.Event()
    left = threading.Thread(target=end.wait, args=(PATIENCE,), name="left over")
    left.start()

    def say(msg: str, level: int) -> None:
        if msg.startswith("Waiting for thread"):
            end.set()

    bus.subscribe("log", say)
    bus.start()
    in_thread(lambda: leave.wait(PATIENCE) and bus.exit())
    bus.call_soon(leave.set)
    bus.block()
    assert bus.state is states.EXITING
    assert not left.is_alive()
    assert bus.said[-3:] == ["Bus EXITED", "Waiting for child threads to terminate...", "Waiting for thread left over."]


@pytest.mark.rule("bus.R17")
def test_block_does_not_wait_for_the_idle_workers_of_an_executor(bus: LoggedBus) -> None:
    """They are no daemons, and sleep until the interpreter ends."""
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(int, "1").result(PATIENCE) == 1
        bus.start()
        bus.exit()
        bus.block()
        assert pool.submit(int, "2").result(PATIENCE) == 2


@pytest.mark.rule("bus.R17")
def test_block_turns_an_interrupt_into_an_exit(bus: LoggedBus) -> None:
    def interrupts() -> None:
        raise KeyboardInterrupt

    bus.subscribe("main", interrupts)
    bus.start()
    bus.block(0.001)
    assert bus.said[2:] == [
        "Keyboard Interrupt: shutting down bus",
        "Bus STOPPING",
        "Bus STOPPED",
        "Bus EXITING",
        "Bus EXITED",
        "Waiting for child threads to terminate...",
    ]


@pytest.mark.rule("bus.R17")
def test_block_exits_on_system_exit_and_raises_it_again(bus: LoggedBus) -> None:
    def ends() -> None:
        raise SystemExit(3)

    bus.subscribe("main", ends)
    bus.start()
    with pytest.raises(SystemExit) as caught:
        bus.block(0.001)
    assert caught.value.code == 3
    assert bus.said[2] == "SystemExit raised: shutting down bus"
    assert bus.said[-1] == "Bus EXITED"


@pytest.mark.rule("bus.R17")
def test_block_raises_a_system_exit_only_when_the_exit_of_another_thread_is_over(
    bus: LoggedBus, in_thread: Run
) -> None:
    stopping, raised = threading.Event(), threading.Event()

    def stops() -> None:
        stopping.set()
        raised.wait(PATIENCE)

    def ends() -> None:
        if stopping.is_set():
            raise SystemExit(3)

    def hears(text: str, level: int) -> None:
        if text.startswith("SystemExit raised"):
            raised.set()

    bus.subscribe("stop", stops)
    bus.subscribe("exit", lambda: threading.Event().wait(0.2))
    bus.subscribe("main", ends)
    bus.subscribe("log", hears)
    bus.start()
    in_thread(bus.exit)
    with pytest.raises(SystemExit):
        bus.block(0.001)
    assert bus.phase is Phase.EXITED


@pytest.mark.rule("bus.R18")
def test_block_executes_the_program_again_after_a_restart(bus: LoggedBus, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[tuple[str, list[str], threading.Thread]] = []
    monkeypatch.setattr("os.execv", lambda path, argv: done.append((path, argv, threading.current_thread())))
    monkeypatch.setattr("sys.executable", "/usr/bin/python")
    monkeypatch.setattr("sys.orig_argv", ["python", "-O", "script.py", "a b"])
    bus.start()
    bus.call_soon(bus.restart)
    bus.block()
    assert done == [("/usr/bin/python", ["/usr/bin/python", "-O", "script.py", "a b"], threading.main_thread())]
    assert bus.said[-1] == "Re-spawning /usr/bin/python -O script.py a b"


@pytest.mark.rule("bus.R19")
def test_the_callback_runs_on_its_own_thread_when_the_bus_has_started(bus: LoggedBus) -> None:
    seen: list[Any] = []
    bus.subscribe("start", lambda: seen.append("start"))
    thread = bus.start_with_callback(
        lambda *args, **kwargs: seen.append((bus.state, args, kwargs)), (1, 3), {"foo": "bar"}
    )
    thread.join(PATIENCE)
    assert seen == ["start", (states.STARTED, (1, 3), {"foo": "bar"})]
    assert thread.name.startswith("Bus Callback ")


@pytest.mark.rule("bus.R19", "bus.B16")
@pytest.mark.parametrize("error", [ValueError("start is broken"), SystemExit(1), KeyboardInterrupt()])
def test_the_callbacks_thread_ends_if_the_start_fails(bus: LoggedBus, error: BaseException) -> None:
    called: list[int] = []

    def fails() -> None:
        raise error

    bus.subscribe("start", fails)
    before = set(threading.enumerate())
    with pytest.raises((ChannelFailures, SystemExit, KeyboardInterrupt)):
        bus.start_with_callback(called.append, (1,))
    for thread in set(threading.enumerate()) - before:
        thread.join(PATIENCE)
        assert not thread.is_alive()
    assert called == []


@pytest.mark.rule("bus.B9")
def test_work_is_done_by_the_main_thread_while_it_waits_in_the_bus(bus: LoggedBus, in_thread: Run) -> None:
    where: list[threading.Thread] = []

    def work() -> None:
        where.append(threading.current_thread())
        bus.exit()

    def leaves_work() -> None:
        while not bus._lobby._desk.attended:
            threading.Event().wait(0.001)
        bus.call_soon(work)

    bus.start()
    in_thread(leaves_work)
    bus.block()
    assert where == [threading.main_thread()]


@pytest.mark.rule("bus.B9")
def test_work_is_done_although_the_main_thread_is_elsewhere(bus: LoggedBus) -> None:
    where: SimpleQueue[threading.Thread] = SimpleQueue()
    bus.start()
    bus.call_soon(lambda: where.put(threading.current_thread()))
    assert where.get(timeout=PATIENCE) is not threading.main_thread()


@pytest.mark.rule("bus.R6")
def test_system_exit_of_work_done_elsewhere_ends_the_block_of_the_main_thread(bus: LoggedBus) -> None:
    begun = threading.Event()

    def ends() -> None:
        begun.set()
        raise SystemExit(4)

    bus.start()
    bus.call_soon(ends)
    assert begun.wait(PATIENCE)
    with pytest.raises(SystemExit) as caught:
        bus.block()
    assert caught.value.code == 4
