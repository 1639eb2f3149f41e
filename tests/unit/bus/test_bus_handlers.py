"""Signal handlers of the program itself, which call the bus in the middle of whatever the main thread does."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from monsal.bus import Phase

from .conftest import LoggedBus


@pytest.fixture
def on_signal() -> Iterator[Callable[[Callable[[], object]], None]]:
    """Have SIGUSR2 call something, in its handler."""
    former = signal.getsignal(signal.SIGUSR2)

    def listen(work: Callable[[], object]) -> None:
        signal.signal(signal.SIGUSR2, lambda number, frame: work())

    yield listen
    signal.signal(signal.SIGUSR2, former)


def when(bus: LoggedBus, phase: Phase, work: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> None:
    """Call `work` within the bus, where it enters the phase after that one: its state is half set, and locked."""
    add = type(bus.history).add
    done: list[int] = []

    def adds(history: Any, kind: Any, name: str, **facts: Any) -> Any:
        if (kind, name) == ("phase", phase.value) and not done:
            done.append(1)
            work()
        return add(history, kind, name, **facts)

    monkeypatch.setattr(type(bus.history), "add", adds)


@pytest.mark.rule("bus.B1", "bus.B19")
@pytest.mark.parametrize("phase", [Phase.NEW, Phase.STARTING, Phase.STOPPING, Phase.STOPPED, Phase.EXITING])
def test_a_handler_may_exit_in_the_middle_of_a_transition(
    bus: LoggedBus, on_signal: Any, monkeypatch: pytest.MonkeyPatch, phase: Phase
) -> None:
    """(C16) The original's own plugin calls `exit` in its handler, for example. That dead-locked on the bus's lock."""
    called: list[str] = []
    for channel in ("start", "stop", "exit"):
        bus.subscribe(channel, lambda channel=channel: called.append(channel))
    on_signal(bus.exit)
    when(bus, phase, lambda: signal.raise_signal(signal.SIGUSR2), monkeypatch)
    bus.start()
    if phase not in (Phase.NEW, Phase.STARTING):
        bus.exit()
    bus.block()
    assert called.count("stop") == called.count("exit") == 1
    assert bus.phase is Phase.EXITED


@pytest.mark.rule("bus.B1")
@pytest.mark.parametrize("name", ["stop", "restart", "graceful"])
def test_a_handler_may_ask_for_anything_while_another_waits_to_be_told(
    bus: LoggedBus, on_signal: Any, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    executed: list[bool] = []
    monkeypatch.setattr(bus, "_do_execv", lambda: executed.append(bus.execv))
    said = {"stop": "Bus STOPPED", "restart": "Bus EXITED", "graceful": "Bus graceful"}[name]
    if name != "restart":
        bus.subscribe("log", lambda msg, level: bus.call_soon(bus.exit) if msg == said else None)
    on_signal(getattr(bus, name))
    bus.start()
    with bus._lobby._lock:
        signal.raise_signal(signal.SIGUSR2)
    bus.block()
    assert said in bus.said
    assert executed == ([True] if name == "restart" else [])


@pytest.mark.rule("bus.B1")
def test_what_fails_in_an_exit_that_a_handler_asked_for_is_raised_at_the_end(bus: LoggedBus, on_signal: Any) -> None:
    bus.subscribe("stop", lambda: 1 / 0)
    on_signal(bus.exit)
    bus.start()
    with bus._lock:
        signal.raise_signal(signal.SIGUSR2)
    with pytest.raises(ExceptionGroup):
        bus.block()


@pytest.mark.rule("bus.B7", "bus.B9")
def test_a_signal_wakes_the_main_thread_however_it_comes(bus: LoggedBus, on_signal: Any, in_thread: Any) -> None:
    """One that comes when the thread just goes to sleep is heard by the byte that it writes, and by nothing else."""
    bells: list[int] = []

    def handler() -> None:
        bells.append(signal.set_wakeup_fd(-1))
        signal.set_wakeup_fd(bells[-1])
        bus.exit()

    def sends() -> None:
        while not bus._lobby.main_desk.attended:
            os.sched_yield()
        os.kill(os.getpid(), signal.SIGUSR2)

    on_signal(handler)
    bus.start()
    in_thread(sends)
    bus.block()
    assert bells == [bus.doorbell()]
    assert signal.set_wakeup_fd(-1) == -1, "it is given back"


@pytest.mark.rule("bus.B19")
def test_a_descriptor_for_signals_that_others_have_set_stays(bus: LoggedBus, in_thread: Any) -> None:
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing)
    try:
        in_thread(lambda: bus.call_soon(bus.exit))
        bus.block()
        assert signal.set_wakeup_fd(-1) == writing
    finally:
        signal.set_wakeup_fd(-1)
        os.close(reading)
        os.close(writing)


@pytest.mark.rule("bus.B7")
def test_without_a_descriptor_that_is_free_one_waits_all_the_same(
    bus: LoggedBus, in_thread: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses() -> tuple[int, int]:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(os, "pipe", refuses)
    in_thread(lambda: (bus.wait(Phase.STARTED), bus.exit()))
    bus.start()
    bus.wait(Phase.EXITED)
    assert bus.phase is Phase.EXITED
