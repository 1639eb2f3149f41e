"""A reload by a successor under load: new connections all the time, and none is refused, reset or left alone (B11)."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path

import pytest
from fake_manager import FakeManager
from harness import wait_until

from monsal.bus import hand_over

PATIENCE = 60.0

#: A small service: each connection is answered with the pid and the generation of the code, on a thread of its own.
SERVICE = """
import os, select, socket, sys, threading
from pathlib import Path

from monsal.bus import Bus, ChannelFailures, LaunchFailed, Notifier, SignalHandler, Successor, listen_fds

home = Path(__file__).parent
from code_of_it import GENERATION

bus = Bus()
bus.subscribe("log", lambda text, level=20: print(text, file=sys.stderr, flush=True))
SignalHandler(bus).subscribe()


class Echo:
    def __init__(self):
        self.sockets = []
        self.woken, self.wake = os.pipe()
        self.running = []

    def start(self):
        self.sockets = listen_fds()["echo"]
        # Two processes accept here: who comes second must not block.
        self.sockets[0].setblocking(False)
        self.thread = threading.Thread(target=self.accepts, daemon=True)
        self.thread.start()

    def accepts(self):
        while True:
            ready, _, _ = select.select([self.sockets[0], self.woken], [], [])
            if self.woken in ready:
                return
            try:
                connection, _ = self.sockets[0].accept()
            except BlockingIOError:
                continue
            connection.setblocking(True)
            self.running = [thread for thread in self.running if thread.is_alive()]
            self.running.append(threading.Thread(target=self.answers, args=[connection], daemon=True))
            self.running[-1].start()

    def answers(self, connection):
        with connection:
            connection.recv(100)
            connection.sendall(f"{os.getpid()} {GENERATION}".encode())

    def drain(self):
        os.write(self.wake, b"x")
        self.thread.join()
        for one in self.sockets:
            one.close()
        for thread in self.running:
            thread.join()


echo = Echo()
bus.subscribe("start", echo.start)
bus.subscribe("drain", echo.drain)
notifier = Notifier(bus, progress=lambda: [])
notifier.subscribe()
Successor(bus, lambda: {"echo": echo.sockets}, notifier=notifier).subscribe()
bus.start()
bus.block()
"""


class Load:
    """Four clients that connect anew for each question, until the test is over."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.answers: list[tuple[int, str]] = []
        #: When each of them was asked for: an answer may be put down long after it was given.
        self.asked: list[float] = []
        self.failures: list[str] = []
        self.gap = 0.0
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(4)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _ask(self) -> None:
        while not self._over.is_set():
            began = time.monotonic()
            try:
                with socket.create_connection(("127.0.0.1", self.port), PATIENCE) as connection:
                    connection.sendall(b"who are you?")
                    pid, generation = connection.recv(100).decode().split()
                    with self._lock:
                        self.answers.append((int(pid), generation))
                        self.asked.append(began)
            except (OSError, ValueError) as error:
                self.failures.append(repr(error))

    def more(self, count: int = 50) -> list[tuple[int, str]]:
        """Wait for so many more answers to what is asked from now on, and return them."""
        now = time.monotonic()

        def found() -> list[tuple[int, str]]:
            with self._lock:
                return [answer for answer, asked in zip(self.answers, self.asked, strict=True) if asked > now]

        wait_until(lambda: self.failures or len(found()) >= count, "answers")
        return found()

    def until(self, generation: str) -> int:
        """Wait for an answer of that generation; the pid of who gave it."""

        def found() -> int:
            return next((pid for pid, one in self.answers if one == generation), 0)

        wait_until(lambda: self.failures or found(), f"generation {generation}")
        return found()


class Service:
    """The service in its directory, under a service manager. Its processes are ended with the test."""

    def __init__(self, home: Path, manager: FakeManager) -> None:
        self.home = home
        self.manager = manager
        self.log = home / "log"
        (home / "service.py").write_text(SERVICE, encoding="utf-8")
        self.write("GENERATION = 'old'")
        with self.log.open("wb") as log, socket.create_server(("127.0.0.1", 0), backlog=512) as listening:
            self.port = listening.getsockname()[1]
            # Given to it, as a service manager does: a port that is only known may be somebody else's by then.
            given, passed = hand_over({"echo": [listening]})
            self.process = subprocess.Popen(
                [sys.executable, home / "service.py"],
                env={**os.environ, **manager.environ, **given, "PYTHONDONTWRITEBYTECODE": "1"},
                pass_fds=passed,
                stdin=subprocess.DEVNULL,
                stderr=log,
            )
        self.wait_for("READY=1")

    def write(self, code: str) -> None:
        """New code, which the next process imports."""
        (self.home / "code_of_it.py").write_text(textwrap.dedent(code), encoding="utf-8")

    def reload(self) -> None:
        self.process.send_signal(signal.SIGUSR1)

    def wait_for(self, line: str, count: int = 1) -> None:
        """Wait until the service manager has heard a line so many times."""
        name = line.partition("=")[0]
        wait_until(lambda: self.manager.lines(name).count(line) >= count, f"{count} times {line}:\n{self.said()}")

    def said(self) -> str:
        return self.log.read_text(encoding="utf-8")

    def end(self) -> None:
        for place in Path("/proc").glob("[0-9]*"):
            with suppress(FileNotFoundError, ProcessLookupError):
                # Its program is in a directory that is only ours.
                if str(self.home / "service.py") in (place / "cmdline").read_text():
                    os.kill(int(place.name), signal.SIGKILL)
                    wait_until(partial(_has_ended, int(place.name)), f"the end of {place.name}")
        self.process.wait()


def _has_ended(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


@pytest.fixture
def service(home: Path) -> Iterator[Service]:
    with ExitStack() as stack:
        manager = stack.enter_context(FakeManager(f"{home}/notify"))
        stack.enter_context(manager.listening())
        made = Service(home, manager)
        stack.callback(made.end)
        yield made


def heard(service: Service, *names: str) -> None:
    """What the service manager hears of the life of the service: these messages, by name, and no others."""

    def found() -> list[str]:
        return [line.partition("=")[0] for line in service.manager.lines("READY", "RELOADING", "MAINPID", "STOPPING")]

    wait_until(lambda: len(found()) >= len(names), "all messages")
    assert found() == list(names)


@pytest.mark.rule("bus.B11", "bus.B12")
def test_quick_new_code_takes_over_and_nobody_is_lost(service: Service) -> None:
    with Load(service.port) as load:
        assert set(load.more()) == {(service.process.pid, "old")}
        service.write("GENERATION = 'new'")
        service.reload()
        pid = load.until("new")
        assert service.process.wait(PATIENCE) == 0
        assert set(load.more()) == {(pid, "new")}
    assert load.failures == []
    # Once the successor said ready, there was no answer but of these two.
    assert {one for one, _ in load.answers} == {service.process.pid, pid}
    assert f"Succeeded by process {pid}" in service.said()
    heard(service, "READY", "RELOADING", "MAINPID", "READY")
    assert service.manager.lines("MAINPID") == [f"MAINPID={pid}"]


@pytest.mark.rule("bus.B11")
def test_while_slow_new_code_is_imported_the_old_serves(service: Service, home: Path) -> None:
    os.mkfifo(home / "go")
    service.write("""
        from monsal.bus import notify
        from pathlib import Path

        notify("STATUS=importing")
        (Path(__file__).parent / "go").read_text()
        GENERATION = "slow"
    """)
    with Load(service.port) as load:
        load.more()
        service.reload()
        # Opened when the other side reads: the new code is being imported.
        with (home / "go").open("w"):
            assert set(load.more(200)) == {(service.process.pid, "old")}
        pid = load.until("slow")
        assert service.process.wait(PATIENCE) == 0
        assert set(load.more()) == {(pid, "slow")}
    assert load.failures == []
    assert "The successor says: importing" in service.said()


@pytest.mark.rule("bus.B11")
def test_broken_new_code_leaves_the_old_serving_and_is_shown(service: Service) -> None:
    with Load(service.port) as load:
        load.more()
        service.write("import no_such_module")
        service.reload()
        wait_until(lambda: "No module named" in service.said(), "the traceback of the new code")
        service.wait_for("READY=1", 2)
        assert set(load.more(200)) == {(service.process.pid, "old")}

        # when it is repaired the next reload works
        service.write("GENERATION = 'repaired'")
        service.reload()
        pid = load.until("repaired")
        assert service.process.wait(PATIENCE) == 0
        assert set(load.more()) == {(pid, "repaired")}
    assert load.failures == []
    said = service.said()
    assert "ended with code 1 before it was ready" in said
    assert "ModuleNotFoundError: No module named 'no_such_module'" in said
    heard(service, "READY", "RELOADING", "READY", "RELOADING", "MAINPID", "READY")
    assert any("the last reload failed: " in line for line in service.manager.lines("STATUS"))


@pytest.mark.rule("bus.B11")
def test_an_end_during_the_launch_ends_both(service: Service, home: Path) -> None:
    os.mkfifo(home / "go")
    service.write("""
        import os
        from pathlib import Path

        here = Path(__file__).parent
        (here / "pid").write_text(str(os.getpid()))
        (here / "go").read_text()
        GENERATION = "never"
    """)
    service.reload()
    with (home / "go").open("w"):
        service.process.send_signal(signal.SIGTERM)
        assert service.process.wait(PATIENCE) == 0
    assert "was given up before it was ready" in service.said()
    wait_until(partial(_has_ended, int((home / "pid").read_text())), "the end of the new one")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", service.port), PATIENCE)


@pytest.mark.rule("bus.B11")
def test_generations_follow_each_other(service: Service) -> None:
    pids = [service.process.pid]
    with Load(service.port) as load:
        for generation in ("second", "third"):
            load.more()
            service.write(f"GENERATION = {generation!r}")
            os.kill(pids[-1], signal.SIGUSR1)
            pids.append(load.until(generation))
            wait_until(lambda: _has_ended(pids[-2]), f"the end of {pids[-2]}")
    assert load.failures == []
    assert len(set(pids)) == 3
    heard(service, "READY", *["RELOADING", "MAINPID", "READY"] * 2)
    # The last one has its standard error where the first one had it.
    assert service.said().count("Succeeded by process") == 2
