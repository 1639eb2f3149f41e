"""The daemonizer in the process that stays: what it refuses, and what it leaves when a fork is refused.

Daemons themselves are in tests/process/test_bus_places.py.
"""

from __future__ import annotations

import errno
import gc
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from monsal.bus import Bus, ChannelFailures, Daemonizer, Phase
from monsal.bus.inner.daemon import is_daemon


@pytest.fixture
def bus() -> Bus:
    made = Bus()
    made.said = []  # type: ignore[attr-defined] - free attributes are part of the contract
    made.subscribe("log", lambda msg, level: made.said.append(msg))  # type: ignore[attr-defined] - as above
    return made


@pytest.fixture
def no_fork(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> int:
        raise BlockingIOError(errno.EAGAIN, "no more processes")

    monkeypatch.setattr(os, "fork", refuse)


def failure(bus: Bus) -> Exception:
    with pytest.raises(ChannelFailures) as caught:
        bus.start()
    assert bus.phase is Phase.EXITED
    return caught.value.exceptions[0]


def descriptors() -> set[str]:
    gc.collect()  # what earlier tests left open must not be closed between two looks
    return set(os.listdir("/proc/self/fd"))


@pytest.mark.rule("bus.B14", "bus.B19")
def test_it_is_the_first_of_the_start_listeners(bus: Bus) -> None:
    """(C15) Threads of others, of the default priority and above, begin in the daemon."""
    bus.subscribe("start", print, 1)
    plugin = Daemonizer(bus)
    plugin.subscribe()
    assert next(iter(bus.listeners["start"])) == plugin.start
    assert (plugin.stdin, plugin.stdout, plugin.stderr) == ("/dev/null",) * 3


@pytest.mark.usefixtures("no_fork")
def test_a_daemon_is_not_made_again(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MONSAL_DAEMON", str(os.getpid()))
    assert is_daemon()
    plugin = Daemonizer(bus)
    plugin.subscribe()
    bus.start()
    bus.exit()
    assert plugin.finalized
    assert "This is a daemon already." in bus.said  # type: ignore[attr-defined] - free attribute


def test_a_child_of_a_daemon_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MONSAL_DAEMON", str(os.getppid()))
    assert not is_daemon()


@pytest.mark.usefixtures("no_fork")
def test_elsewhere_than_on_the_main_thread_it_refuses(bus: Bus, in_thread: Callable[..., threading.Thread]) -> None:
    Daemonizer(bus).subscribe()
    errors: list[Exception] = []
    in_thread(lambda: errors.append(failure(bus))).join()
    assert str(errors[0]).startswith("only the main thread can become a daemon")


@pytest.mark.usefixtures("no_fork")
@pytest.mark.parametrize("stream", ["stdin", "stdout", "stderr"])
def test_a_stream_that_cannot_be_opened_is_told_before_the_fork(bus: Bus, tmp_path: Path, stream: str) -> None:
    before = descriptors()
    Daemonizer(bus, **{stream: str(tmp_path / "missing" / "file")}).subscribe()
    assert isinstance(failure(bus), FileNotFoundError)
    assert descriptors() <= before


@pytest.mark.usefixtures("no_fork")
def test_a_fork_that_is_refused_fails_the_start_and_leaves_all_as_it_was(bus: Bus) -> None:
    held = descriptors()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ()), signal.getsignal(signal.SIGCHLD)
    Daemonizer(bus).subscribe()
    error = failure(bus)
    assert (type(error), error.errno) == (BlockingIOError, errno.EAGAIN)  # type: ignore[attr-defined] - an OSError
    assert before == (signal.pthread_sigmask(signal.SIG_BLOCK, ()), signal.getsignal(signal.SIGCHLD))
    assert descriptors() <= held
    assert not is_daemon()


@pytest.mark.usefixtures("no_fork")
def test_threads_that_will_be_lost_are_named(bus: Bus) -> None:
    over = threading.Event()
    thread = threading.Thread(target=over.wait, name="too early")
    thread.start()
    Daemonizer(bus).subscribe()
    failure(bus)
    over.set()
    thread.join()
    lost = [text for text in bus.said if "do not survive" in text]  # type: ignore[attr-defined] - free attribute
    assert len(lost) == 1
    assert "too early" in lost[0]
    assert "monsal-bus" not in lost[0], "the bus has no thread of its own while one forks"


# What the bus does for it


@pytest.mark.rule("bus.B14")
def test_while_one_forks_nobody_watches_and_afterwards_somebody_does(bus: Bus) -> None:
    names: list[list[str]] = []

    def watchers() -> list[str]:
        return [thread.name for thread in threading.enumerate() if thread.name.startswith("monsal-bus")]

    def forks() -> None:
        with bus.forking():
            names.append(watchers())
        names.append(watchers())

    bus.subscribe("start", forks)
    bus.start()
    bus.exit()
    assert names == [[], ["monsal-bus-watch"]]


@pytest.mark.rule("bus.B6", "bus.B14")
def test_the_watch_that_begins_anew_gives_up_what_hangs(bus: Bus) -> None:
    over = threading.Event()

    def forks() -> None:
        with bus.forking():
            pass

    def hangs() -> None:
        over.wait()

    hangs.limit = 0.1  # type: ignore[attr-defined] - functions take attributes
    bus.subscribe("start", forks, 10)
    bus.subscribe("start", hangs, 20)
    # The one who gave it up shuts the bus down meanwhile.
    bus.subscribe("exit", over.set)
    assert isinstance(failure(bus), TimeoutError)


def test_a_loop_of_the_bus_is_closed_and_made_again(bus: Bus) -> None:
    loops: list[str] = []

    async def notes() -> None:
        loops.append(threading.current_thread().name)

    def forks() -> None:
        bus.publish("hello")
        with bus.forking():
            assert "monsal-bus-loop" not in [thread.name for thread in threading.enumerate()]
        bus.publish("hello")

    bus.subscribe("hello", notes)
    bus.subscribe("start", forks)
    bus.start()
    bus.exit()
    assert loops == ["monsal-bus-loop"] * 2


def test_it_is_refused_while_the_bus_stops_and_allowed_before_it_starts(bus: Bus) -> None:
    refused: list[str] = []

    def forks() -> None:
        try:
            with bus.forking():
                refused.append("not at all")
        except RuntimeError as error:
            refused.append(str(error))

    with bus.forking():
        bus.subscribe("stop", forks)
    bus.start()
    bus.exit()
    assert len(refused) == 1
    assert refused[0].startswith("only a start listener")
