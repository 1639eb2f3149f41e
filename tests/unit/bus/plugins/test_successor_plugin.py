"""When a successor is launched, and what becomes of a launch that cannot be; under load: tests/process."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_manager import FakeManager

from monsal.bus import ChannelFailures, LaunchFailed, Notifier, Phase, Successor, TransitionError

PATIENCE = 60.0

READY = "import signal; from monsal.bus import notify; notify('READY=1'); signal.pause()"


def command(code: str) -> list[str]:
    return [sys.executable, "-c", code]


@pytest.fixture
def successor(bus: Any) -> Iterator[Callable[..., Successor]]:
    """Make a successor that runs some code; the process is ended with the test."""
    made: list[Successor] = []

    def make(code: str, **options: Any) -> Successor:
        made.append(Successor(bus, options.pop("sockets", {}), command(code), **{"limit": PATIENCE, **options}))
        return made[-1]

    yield make
    for one in made:
        one.unsubscribe()


def end(pid: int) -> None:
    os.kill(pid, 9)
    os.waitpid(pid, 0)


@pytest.mark.rule("bus.B11")
def test_when_the_successor_is_ready_the_bus_exits(bus: Any, successor: Callable[..., Successor]) -> None:
    one = successor(READY)
    bus.start()
    launched = one.succeed()
    try:
        bus.wait(Phase.EXITED)
        assert os.waitpid(launched.pid, os.WNOHANG) == (0, 0)
        assert any(text.startswith(f"Succeeded by process {launched.pid}") for text in bus.said)
    finally:
        end(launched.pid)


@pytest.mark.rule("bus.B11")
def test_a_failed_launch_changes_nothing_and_raises_what_was_said(
    bus: Any, successor: Callable[..., Successor]
) -> None:
    one = successor("raise OSError('no such disk')")
    bus.start()
    for _ in range(2):
        with pytest.raises(LaunchFailed, match="OSError: no such disk") as failed:
            one.succeed()
        assert failed.value.code == 1
    assert bus.phase is Phase.STARTED


@pytest.mark.rule("bus.B11", "bus.R15")
def test_graceful_is_a_reload_by_a_successor(bus: Any, successor: Callable[..., Successor]) -> None:
    one = successor("raise OSError('no such disk')")
    one.subscribe()
    bus.graceful()
    bus.start()
    with pytest.raises(ChannelFailures) as failures:
        bus.graceful()
    [failure] = failures.value.get_instances()
    assert isinstance(failure, LaunchFailed)
    assert "OSError: no such disk" in bus.text_of("Error in 'graceful' listener")
    assert bus.phase is Phase.STARTED


def test_only_a_bus_that_runs_has_a_successor(bus: Any, successor: Callable[..., Successor]) -> None:
    one = successor(READY)
    with pytest.raises(TransitionError, match="no successor can take over while the bus is new"):
        one.succeed()
    bus.start()
    bus.exit()
    with pytest.raises(TransitionError, match="no successor can take over while the bus is exited"):
        one.succeed()


def test_there_is_one_successor_at_a_time(
    bus: Any, successor: Callable[..., Successor], gate: threading.Event, in_thread: Callable[..., threading.Thread]
) -> None:
    began, errors = threading.Event(), []

    def check() -> None:
        began.set()
        gate.wait(PATIENCE)
        raise OSError("no such disk")

    def succeeds() -> None:
        try:
            one.succeed()
        except OSError as error:
            errors.append(error)

    one = successor(READY, check=check)
    bus.start()
    first = in_thread(succeeds)
    assert began.wait(PATIENCE)
    with pytest.raises(TransitionError, match="a successor is being launched, or serves already"):
        one.succeed()
    gate.set()
    first.join(PATIENCE)
    assert len(errors) == 1


@pytest.mark.rule("bus.B11")
def test_what_a_check_finds_prevents_the_launch(bus: Any, successor: Callable[..., Successor], tmp_path: Path) -> None:
    def check() -> None:
        raise ValueError("the routes do not fit")

    one = successor(f"open({str(tmp_path / 'launched')!r}, 'w')", check=check)
    bus.start()
    with pytest.raises(ValueError, match="the routes do not fit"):
        one.succeed()
    assert not (tmp_path / "launched").exists()
    assert bus.phase is Phase.STARTED


def test_the_first_process_of_a_container_cannot_have_one(
    bus: Any, successor: Callable[..., Successor], monkeypatch: pytest.MonkeyPatch
) -> None:
    one = successor(READY)
    bus.start()
    monkeypatch.setattr("os.getpid", lambda: 1)
    with pytest.raises(LaunchFailed, match="takes all others with it"):
        one.succeed()


@pytest.mark.rule("bus.B11")
@pytest.mark.parametrize("ends", ["stop", "exit"])
def test_a_bus_that_stops_meanwhile_gives_the_launch_up(
    bus: Any, successor: Callable[..., Successor], in_thread: Callable[..., threading.Thread], ends: str
) -> None:
    pids: list[int] = []
    said = threading.Event()

    def hears(text: str, level: int) -> None:
        if text.startswith("The successor says: "):
            pids.append(int(text.rpartition(" ")[2]))
            said.set()

    def succeeds() -> None:
        try:
            one.succeed()
        except LaunchFailed as error:
            errors.append(str(error))

    errors: list[str] = []
    one = successor("import os, signal; from monsal.bus import notify; notify(f'STATUS={os.getpid()}'); signal.pause()")
    one.subscribe()
    bus.subscribe("log", hears)
    bus.start()
    thread = in_thread(succeeds)
    assert said.wait(PATIENCE)
    getattr(bus, ends)()
    thread.join(PATIENCE)
    assert "was given up before it was ready" in errors[0]
    with pytest.raises(ProcessLookupError):
        os.kill(pids[0], 0)


@pytest.mark.rule("bus.B11")
def test_a_bus_that_stops_in_the_last_moment_takes_the_successor_with_it(
    bus: Any, successor: Callable[..., Successor]
) -> None:
    pids: list[int] = []

    def hears(text: str, level: int) -> None:
        # READY=1 lies in the same socket already, behind the status.
        if text.startswith("The successor says: "):
            pids.append(int(text.rpartition(" ")[2]))
            bus.stop()

    one = successor(READY.replace("notify('READY=1')", "import os; notify(f'STATUS={os.getpid()}', 'READY=1')"))
    bus.subscribe("log", hears)
    bus.start()
    with pytest.raises(TransitionError, match="while the bus is stopped"):
        one.succeed()
    assert os.waitpid(pids[0], 0)[1] == 15


@pytest.mark.rule("bus.B11", "bus.B13")
def test_the_service_manager_hears_of_it(bus: Any, successor: Callable[..., Successor], home: Path) -> None:
    with FakeManager(f"{home}/notify") as manager:
        notifier = Notifier(bus, environ=dict(manager.environ))
        notifier.subscribe()
        bus.start()
        with pytest.raises(LaunchFailed):
            successor("raise OSError('no such disk')", notifier=notifier).succeed()
        with manager.listening():
            launched = successor(READY, notifier=notifier).succeed()
        bus.wait(Phase.EXITED)
        end(launched.pid)
        order = [line.partition("=")[0] for line in manager.lines("READY", "RELOADING", "MAINPID", "STOPPING")]
        assert order == ["READY", "RELOADING", "READY", "RELOADING", "MAINPID", "READY"]
        notifier.unsubscribe()


def test_sockets_may_be_asked_for_when_they_are_needed(bus: Any, successor: Callable[..., Successor]) -> None:
    asked: list[int] = []

    def sockets() -> dict[str, list[Any]]:
        asked.append(1)
        return {}

    one = successor("raise OSError", sockets=sockets)
    assert asked == []
    bus.start()
    with pytest.raises(LaunchFailed):
        one.succeed()
    assert asked == [1]
