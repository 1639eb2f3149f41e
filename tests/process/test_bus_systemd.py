"""A real process under a service manager: a datagram socket that notes what it is told."""

from __future__ import annotations

import os
import signal
import socket
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from subprocess import PIPE, Popen

import pytest
from bus_programs import sleeps
from fake_manager import FakeManager
from harness import background

PATIENCE = 60.0

BEGINNING = """
import os, sys, threading
from monsal.bus import Bus, Limits, Notifier, SignalHandler, listen_fds

bus = Bus()
bus.subscribe("log", lambda text, level=20: print(text, file=sys.stderr, flush=True))
SignalHandler(bus).subscribe()
"""


@pytest.fixture
def manager(home: Path) -> Iterator[FakeManager]:
    with FakeManager(f"{home}/notify") as made:
        yield made


@pytest.fixture
def run(home: Path, manager: FakeManager) -> Iterator[Callable[..., Popen[bytes]]]:
    """Run a program that goes on after `BEGINNING`, under the manager; it is ended with the test."""
    with ExitStack() as stack:

        def runs(code: str, **environ: str) -> Popen[bytes]:
            script = home / "program.py"
            script.write_text(BEGINNING + textwrap.dedent(code), encoding="utf-8")
            environ = {**os.environ, **manager.environ, **environ}
            process = stack.enter_context(background([sys.executable, script], env=environ, stderr=PIPE))
            assert process.stderr is not None
            stack.callback(process.stderr.close)
            return process

        yield runs


def end(process: Popen[bytes]) -> tuple[int, str]:
    """Wait for the end; the exit code and what it said."""
    _, errors = process.communicate(timeout=PATIENCE)
    return process.returncode, errors.decode()


@pytest.mark.rule("bus.B13")
def test_the_order_of_a_life(run: Callable[..., Popen[bytes]], manager: FakeManager) -> None:
    process = run("""
        Notifier(bus).subscribe()
        bus.start()
        bus.block()
    """)
    manager.until("READY=1")
    process.send_signal(signal.SIGUSR1)
    manager.until("RELOADING=1")
    manager.until("READY=1")
    process.send_signal(signal.SIGTERM)
    manager.until("STOPPING=1")
    assert end(process)[0] == 0
    manager.drain()
    order = [line.partition("=")[0] for line in manager.lines("READY", "RELOADING", "MONOTONIC_USEC", "STOPPING")]
    assert order == ["READY", "RELOADING", "MONOTONIC_USEC", "READY", "STOPPING"]


@pytest.mark.rule("bus.B13", "bus.B11")
def test_a_restart_keeps_the_manager_and_the_pid(run: Callable[..., Popen[bytes]], manager: FakeManager) -> None:
    process = run(
        """
        from pathlib import Path

        mark = Path(os.environ["MARK"])
        again = mark.exists()
        mark.touch()
        Notifier(bus, status=lambda: f"again {again} in {os.getpid()}").subscribe()
        bus.start()
        if not again:
            bus.restart()
        bus.block()
        """,
        MARK=str(Path(manager.address).with_name("mark")),
    )
    assert f"STATUS=again False in {process.pid}" in manager.until("READY=1")
    manager.until("RELOADING=1")
    assert f"STATUS=again True in {process.pid}" in manager.until("READY=1")
    process.terminate()
    assert end(process)[0] == 0
    manager.drain()
    order = [line.partition("=")[0] for line in manager.lines("READY", "RELOADING", "STOPPING")]
    assert order == ["READY", "RELOADING", "READY", "STOPPING"]


@pytest.mark.rule("bus.B11", "bus.B13")
def test_connections_wait_in_the_socket_while_a_restart_goes_on(
    run: Callable[..., Popen[bytes]], manager: FakeManager
) -> None:
    process = run(
        """
        import select, socket

        found = listen_fds().get("echo")
        listening = found[0] if found else socket.create_server(("127.0.0.1", 0))

        def stops():
            if bus.execv:
                # A connection that comes now is not accepted by this image.
                select.select([listening], [], [])
            bus.keep_for_restart({"echo": [listening]})
            listening.close()

        def serves():
            with listening.accept()[0] as connection:
                connection.sendall(b"again" if found else b"first")

        bus.subscribe("stop", stops)
        Notifier(bus, status=lambda: str(listening.getsockname()[1])).subscribe()
        bus.start()
        if found:
            serves()
        else:
            bus.restart()
        bus.block()
        """
    )
    [status] = [line for line in manager.until("READY=1") if line.startswith("STATUS=")]
    port = int(status.partition("=")[2])
    manager.until("RELOADING=1")
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as connection:
        assert connection.recv(100) == b"again"
    process.terminate()
    assert end(process)[0] == 0


@pytest.mark.rule("bus.B13")
def test_the_watchdog_is_fed_by_progress_and_by_nothing_else(
    run: Callable[..., Popen[bytes]], manager: FakeManager
) -> None:
    process = run(
        """
        moving = threading.Event()
        moving.set()

        def switch():
            moving.clear() if moving.is_set() else moving.set()

        signals = SignalHandler(bus)
        signals.set_handler("SIGUSR2", switch)
        Notifier(bus, progress=lambda: [] if moving.is_set() else ["the loop has not turned"]).subscribe()
        bus.start()
        bus.block()
        """,
        WATCHDOG_USEC="1000000",
    )
    manager.until("READY=1")
    assert "WATCHDOG=1" in manager.until("WATCHDOG=")
    process.send_signal(signal.SIGUSR2)
    manager.until("STATUS=stalled: the loop has not turned")
    assert [manager.next() for _ in range(3)] == [["STATUS=stalled: the loop has not turned"]] * 3
    process.send_signal(signal.SIGUSR2)
    assert manager.until("WATCHDOG=1") == ["WATCHDOG=1", "STATUS=ready"]
    process.send_signal(signal.SIGTERM)
    code, log = end(process)
    assert code == 0
    assert log.count("The watchdog is not fed, because nothing moves: the loop has not turned") == 1
    assert "Thread MainThread:" in log


@pytest.mark.rule("bus.B13")
def test_the_child_of_a_fork_goes_on_telling(run: Callable[..., Popen[bytes]], manager: FakeManager) -> None:
    run(
        """
        def daemonizes():
            with bus.forking() as fork:
                if fork():
                    os._exit(0)

        bus.subscribe("start", daemonizes)
        Notifier(bus, progress=lambda: [], status=lambda: str(os.getpid())).subscribe()
        bus.start()
        bus.block()
        """,
        WATCHDOG_USEC="200000",
    )
    [status] = [line for line in manager.until("READY=1") if line.startswith("STATUS=")]
    pid = int(status.partition("=")[2])
    try:
        assert manager.until("WATCHDOG=1") == ["WATCHDOG=1", status]
    finally:
        os.kill(pid, signal.SIGTERM)
    manager.until("STOPPING=1")


@pytest.mark.rule("bus.B13")
def test_a_process_whose_interpreter_is_stuck_is_not_fed(
    run: Callable[..., Popen[bytes]], manager: FakeManager
) -> None:
    process = run(
        """
        import re

        Notifier(bus, progress=lambda: []).subscribe()
        bus.subscribe("graceful", lambda: re.match(r"(a+)+$", "a" * 64 + "b"))
        bus.start()
        bus.block()
        """,
        WATCHDOG_USEC="200000",
    )
    manager.until("WATCHDOG=1")
    process.send_signal(signal.SIGUSR1)
    manager.until("RELOADING=1")
    # A match of regular expressions keeps all threads from running, for years.
    manager.socket.settimeout(1.0)
    with pytest.raises(TimeoutError):
        manager.until("a message that never comes")
    process.kill()
    assert end(process)[0] == -signal.SIGKILL


@pytest.mark.rule("bus.B13", "bus.B12")
def test_a_long_drain_is_announced(run: Callable[..., Popen[bytes]], manager: FakeManager) -> None:
    process = run("""
        bus.limits = Limits(drain=600, whole=1000, exit=1, hurry=1)
        bus.subscribe("drain", lambda: None)
        Notifier(bus).subscribe()
        bus.start()
        bus.block()
    """)
    manager.until("READY=1")
    process.send_signal(signal.SIGTERM)
    manager.until("STOPPING=1")
    assert manager.until("EXTEND_TIMEOUT_USEC") == ["EXTEND_TIMEOUT_USEC=1002000000"]
    assert end(process)[0] == 0


@pytest.mark.quiet
@pytest.mark.rule("bus.B13", "bus.B7")
def test_an_idle_process_without_a_watchdog_is_never_woken(
    run: Callable[..., Popen[bytes]], manager: FakeManager
) -> None:
    process = run("""
        Notifier(bus, progress=lambda: [], status=lambda: "idle").subscribe()
        bus.start()
        bus.block()
    """)
    manager.until("READY=1")
    process.send_signal(signal.SIGUSR1)
    manager.until("RELOADING=1")
    manager.until("READY=1")
    assert sleeps(process.pid)
    process.send_signal(signal.SIGTERM)
    assert end(process)[0] == 0
