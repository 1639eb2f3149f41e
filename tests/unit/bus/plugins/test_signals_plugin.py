"""Signals in this process: which are taken, what they call, and that they are put back."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator

import pytest

from monsal.bus import Bus, Phase, SignalHandler, State, TransitionError

TAKEN = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


@pytest.fixture
def bus() -> Bus:
    made = Bus()
    made.said = []  # type: ignore[attr-defined] - free attributes are part of the contract
    made.subscribe("log", lambda msg, level: made.said.append(msg))  # type: ignore[attr-defined] - as above
    return made


@pytest.fixture
def handler(bus: Bus) -> Iterator[SignalHandler]:
    before = [signal.getsignal(number) for number in TAKEN]
    wakeup = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(wakeup)
    made = SignalHandler(bus)
    yield made
    made.unsubscribe()
    assert [signal.getsignal(number) for number in TAKEN] == before
    left = signal.set_wakeup_fd(wakeup)
    assert left == wakeup, "the descriptor of another who listens is put back"


def test_a_bus_alone_touches_no_signal(bus: Bus) -> None:
    before = {number: signal.getsignal(number) for number in signal.valid_signals()}
    bus.start()
    SignalHandler(bus)
    bus.exit()
    assert {number: signal.getsignal(number) for number in signal.valid_signals()} == before


def test_the_defaults_are_those_of_the_contract(bus: Bus, handler: SignalHandler) -> None:
    assert handler.handlers == {
        "SIGTERM": bus.exit,
        "SIGINT": bus.exit,
        "SIGHUP": handler.handle_SIGHUP,
        "SIGUSR1": bus.graceful,
    }
    handler.subscribe()
    assert list(bus.listeners["SIGTERM"]) == [bus.exit]
    handler.unsubscribe()
    assert not bus.listeners["SIGTERM"]


@pytest.mark.parametrize("wrong", ["SIGNOTHING", "TERM", 4711, "SIGKILL", signal.SIGSTOP])
def test_a_signal_that_is_none_or_cannot_be_caught_is_an_error(handler: SignalHandler, wrong: str | int) -> None:
    with pytest.raises(ValueError):
        handler.set_handler(wrong)


def test_a_default_that_this_system_does_not_know_is_left_out(bus: Bus, handler: SignalHandler) -> None:
    handler.handlers = {"SIGNOTHING": bus.exit, "SIGUSR1": bus.graceful}
    handler.subscribe()
    assert "This system has no SIGNOTHING." in bus.said  # type: ignore[attr-defined] - free attribute
    assert "SIGNOTHING" not in bus.listeners


def test_set_twice_the_first_handler_is_put_back(handler: SignalHandler) -> None:
    handler.set_handler("SIGUSR2", print)
    handler.set_handler(signal.SIGUSR2, repr)


@pytest.mark.rule("bus.B9")
def test_the_handler_only_enqueues_and_the_work_is_logged_and_published(bus: Bus, handler: SignalHandler) -> None:
    """(C16) The exit ran in the handler, and dead-locked on any lock that the interrupted code held."""
    lock = threading.Lock()
    where: list[threading.Thread] = []

    def listener() -> None:
        with lock:
            where.append(threading.current_thread())
        bus.exit()

    handler.set_handler("SIGUSR2", listener)
    bus.start()
    with lock:
        # The handler runs here, in the middle, and must not wait for the lock that is held.
        signal.raise_signal(signal.SIGUSR2)
    bus.block()
    assert len(where) == 1
    assert "Caught signal SIGUSR2." in bus.said  # type: ignore[attr-defined] - free attribute


@pytest.mark.rule("bus.B9")
def test_the_handler_may_interrupt_code_that_starts_a_thread(bus: Bus, handler: SignalHandler) -> None:
    """(C16) The work is done by a thread that the handler starts, in the middle of whatever the main thread does."""
    done = threading.Event()
    handler.set_handler("SIGUSR2", done.set)
    bus.start()
    with threading._active_limbo_lock:  # type: ignore[attr-defined] - what the module holds while it starts a thread
        signal.raise_signal(signal.SIGUSR2)
        # The new thread needs the lock, too, so its work begins when this code goes on.
    assert done.wait(60)
    bus.exit()


@pytest.mark.rule("bus.B9")
def test_a_failing_listener_of_a_signal_does_not_end_the_block(bus: Bus, handler: SignalHandler) -> None:
    def fails() -> None:
        raise ValueError("broken")

    handler.set_handler("SIGUSR2", fails)
    bus.subscribe("SIGUSR2", bus.exit, 90)
    bus.start()
    signal.raise_signal(signal.SIGUSR2)
    bus.block()
    assert bus.phase is Phase.EXITED


def test_a_second_signal_hurries(bus: Bus, handler: SignalHandler) -> None:
    told = threading.Event()
    handler.subscribe()

    def stops() -> None:
        # On another thread than the main one, which waits for this and gets the signal.
        os.kill(os.getpid(), signal.SIGINT)
        if bus.hurry.wait(60):
            told.set()

    bus.subscribe("stop", stops)
    bus.start()
    signal.raise_signal(signal.SIGTERM)
    bus.block()
    assert told.is_set()


@pytest.mark.rule("bus.B9")
def test_a_third_signal_ends_the_first_process_of_a_container_too(
    bus: Bus, handler: SignalHandler, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To that one a signal that it does not handle does nothing (man 7 pid_namespaces)."""
    ended: list[int] = []
    monkeypatch.setattr(signal, "raise_signal", ended.append)
    monkeypatch.setattr(os, "abort", lambda: ended.append(-1))
    handler.subscribe()
    for _ in range(3):
        assert ended == []
        handler._on_signal(signal.SIGTERM, None)
    assert ended == [signal.SIGTERM, -1]
    bus.wait(Phase.EXITED)


@pytest.mark.rule("bus.R18", "bus.B9")
def test_when_the_process_cannot_be_replaced_nothing_is_held_back_any_more(
    bus: Bus, handler: SignalHandler, monkeypatch: pytest.MonkeyPatch
) -> None:
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    held: list[int] = []

    def fails(command: list[str], environ: dict[str, str]) -> None:
        os.environ.update(environ)
        held.extend(signal.pthread_sigmask(signal.SIG_BLOCK, ()) - mask)
        # It waits, and comes when the mask is gone.
        signal.raise_signal(signal.SIGUSR1)
        raise OSError("no such interpreter")

    heard = threading.Event()
    monkeypatch.setattr("monsal.bus.core.execute_again", fails)
    handler.subscribe()
    bus.subscribe("SIGUSR1", heard.set)
    bus.start()
    bus.restart()
    with pytest.raises(OSError, match="no such interpreter"):
        bus.block()
    assert sorted(held) == sorted([signal.SIGHUP, signal.SIGINT, signal.SIGUSR1, signal.SIGTERM])
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == mask
    assert "MONSAL_SIGNALS" not in os.environ
    assert heard.wait(60)


@pytest.mark.rule("bus.B10")
@pytest.mark.parametrize("way", ["exit", "restart"])
def test_a_signal_before_the_start_is_a_clean_end(
    bus: Bus, handler: SignalHandler, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """The start raised TransitionError, so that the process ended with 1, if it came a moment too early."""
    replaced: list[bool] = []
    monkeypatch.setattr("monsal.bus.core.execute_again", lambda command, environ: replaced.append(True))
    handler.handlers["SIGTERM"] = getattr(bus, way)
    handler.subscribe()
    started: list[bool] = []
    bus.subscribe("start", lambda: started.append(True))
    signal.raise_signal(signal.SIGTERM)
    bus.wait(Phase.EXITED)
    bus.start()
    bus.block()
    assert (started, replaced) == ([], [True] * (way == "restart"))


def test_a_start_after_an_exit_that_no_signal_asked_for_is_an_error(bus: Bus, handler: SignalHandler) -> None:
    handler.subscribe()
    bus.exit()
    with pytest.raises(TransitionError):
        bus.start()


def test_elsewhere_than_on_the_main_thread_no_signal_is_touched(bus: Bus, handler: SignalHandler) -> None:
    before = [signal.getsignal(number) for number in TAKEN]
    thread = threading.Thread(target=handler.subscribe)
    thread.start()
    thread.join()
    assert [signal.getsignal(number) for number in TAKEN] == before


@pytest.mark.rule("bus.B15")
@pytest.mark.parametrize(
    ("daemonized", "on_terminal", "execv", "state"),
    [
        (True, False, True, State.EXITING),
        (False, True, False, State.EXITING),
        (False, False, False, State.STARTED),
    ],
)
def test_a_hangup_restarts_a_daemon_exits_on_a_terminal_and_reloads_elsewhere(
    bus: Bus, handler: SignalHandler, daemonized: bool, on_terminal: bool, execv: bool, state: State
) -> None:
    reloads: list[int] = []
    bus.subscribe("graceful", lambda: reloads.append(1))
    handler._made_in = os.getppid() if daemonized else os.getpid()
    handler._on_terminal = on_terminal
    bus.start()
    handler.handle_SIGHUP()
    assert (bus.execv, bus.state) == (execv, state)
    assert len(reloads) == (state is State.STARTED)
    bus.exit()


@pytest.mark.rule("bus.B9")
def test_a_storm_of_one_signal_is_no_storm_of_threads_and_none_is_forgotten(bus: Bus, handler: SignalHandler) -> None:
    """Each signal had a thread of its own while the listener was busy."""
    busy, go_on, told = threading.Event(), threading.Event(), threading.Semaphore(0)

    def listener() -> None:
        busy.set()
        go_on.wait(60)
        told.release()

    handler.set_handler("SIGUSR2", listener)
    bus.start()
    before = threading.active_count()
    signal.raise_signal(signal.SIGUSR2)
    assert busy.wait(60)
    for _ in range(100):
        signal.raise_signal(signal.SIGUSR2)
    # One whose listener is busy, and few that have just been started, or are just ending.
    assert threading.active_count() <= before + 10
    go_on.set()
    assert told.acquire(timeout=60), "the first one"
    assert told.acquire(timeout=60), "those that came meanwhile, as one"
    busy.clear()
    signal.raise_signal(signal.SIGUSR2)
    assert busy.wait(60), "one that comes later"
    bus.exit()


@pytest.mark.rule("bus.B9", "bus.R6")
def test_after_system_exit_of_its_listener_a_signal_is_heard_again(bus: Bus, handler: SignalHandler) -> None:
    heard = threading.Event()

    def listener() -> None:
        if not heard.is_set():
            heard.set()
            raise SystemExit(3)
        bus.exit()

    handler.set_handler("SIGUSR2", listener)
    bus.start()
    signal.raise_signal(signal.SIGUSR2)
    with pytest.raises(SystemExit):
        bus.wait(Phase.EXITED)
    signal.raise_signal(signal.SIGUSR2)
    bus.block()
