"""systemd's own programs: the one that passes listening sockets, and the one that checks units."""

from __future__ import annotations

import signal
import smtplib
import socket
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from fake_manager import FakeManager
from harness import Server, background, make_application, monsal_command, wait_until

pytestmark = pytest.mark.interop

PATIENCE = 60.0

#: Answers on each socket with its name, where it found it, and how often this process has begun.
PROGRAM = """
import os, select, sys, threading
from pathlib import Path

from monsal.bus import Bus, Notifier, SignalHandler, listen_fds

begun = Path(__file__).with_name("begun")
with begun.open("a") as file:
    file.write("x")

bus = Bus()
bus.subscribe("log", lambda text, level=20: print(text, file=sys.stderr, flush=True))
SignalHandler(bus).subscribe()
Notifier(bus).subscribe()
sockets = listen_fds()
woken, wake = os.pipe()


def serves():
    names = {one: name for name, several in sockets.items() for one in several}
    while True:
        ready, _, _ = select.select([*names, woken], [], [])
        if woken in ready:
            return
        for one in ready:
            with one.accept()[0] as connection:
                said = f"{names[one]} {one.fileno()} {len(begun.read_text())}"
                connection.sendall(said.encode())


serving = threading.Thread(target=serves)


def stops():
    os.write(wake, b"x")
    serving.join()
    bus.keep_for_restart(sockets)


bus.subscribe("start", serving.start)
bus.subscribe("stop", stops)
bus.subscribe("SIGUSR2", bus.restart)
signals = SignalHandler(bus)
signals.set_handler("SIGUSR2")
bus.start()
bus.block()
"""


def ask(address: Any) -> list[str]:
    """What the program answers at a port of this machine, or at a path."""
    family = socket.AF_INET if isinstance(address, tuple) else socket.AF_UNIX
    with socket.socket(family) as client:
        client.settimeout(PATIENCE)
        client.connect(address)
        return client.recv(100).decode().split()


def listens(port: int) -> bool:
    """Whether somebody listens at a port, without connecting: the first connection starts the program."""
    wanted = f"0100007F:{port:04X} 00000000:0000 0A"
    return wanted in Path("/proc/net/tcp").read_text()


@pytest.fixture
def activate(home: Path, program: Callable[[str], str]) -> Iterator[Callable[..., Any]]:
    """Have systemd-socket-activate listen; it becomes `PROGRAM` at the first connection, of a pid that stays."""
    (home / "program.py").write_text(PROGRAM, encoding="utf-8")
    with ExitStack() as stack:
        manager = stack.enter_context(FakeManager(f"{home}/notify"))
        log = stack.enter_context((home / "log").open("wb"))

        def run(port: int, *options: str) -> tuple[subprocess.Popen[bytes], FakeManager]:
            command = [
                program("systemd-socket-activate"),
                f"--setenv=NOTIFY_SOCKET={manager.address}",
                f"--listen=127.0.0.1:{port}",
                *options,
                sys.executable,
                home / "program.py",
            ]
            process = stack.enter_context(background(command, stderr=log))
            wait_until(lambda: listens(port), "systemd-socket-activate")
            return process, manager

        yield run


@pytest.mark.rule("bus.B13")
def test_sockets_come_by_name(home: Path, activate: Callable[..., Any], free_port: int) -> None:
    process, manager = activate(free_port, f"--listen={home}/lmtp.sock", "--fdname=smtp:lmtp")
    assert ask(("127.0.0.1", free_port)) == ["smtp", "3", "1"]
    assert ask(f"{home}/lmtp.sock") == ["lmtp", "4", "1"]
    manager.until("READY=1")
    process.send_signal(signal.SIGTERM)
    manager.until("STOPPING=1")
    assert process.wait(PATIENCE) == 0


@pytest.mark.rule("bus.B13")
def test_a_socket_without_a_name_is_unknown(activate: Callable[..., Any], free_port: int) -> None:
    process, _ = activate(free_port)
    assert ask(("127.0.0.1", free_port)) == ["unknown", "3", "1"]
    process.send_signal(signal.SIGTERM)
    assert process.wait(PATIENCE) == 0


@pytest.mark.rule("bus.B11", "bus.B13")
def test_a_restart_keeps_the_sockets_and_their_names(home: Path, activate: Callable[..., Any], free_port: int) -> None:
    process, manager = activate(free_port, f"--listen={home}/lmtp.sock", "--fdname=smtp:lmtp")
    for begun in ("1", "2", "3"):
        assert ask(("127.0.0.1", free_port)) == ["smtp", "3", begun]
        assert ask(f"{home}/lmtp.sock") == ["lmtp", "4", begun]
        manager.until("READY=1")
        if begun != "3":
            process.send_signal(signal.SIGUSR2)
            manager.until("RELOADING=1")
            wait_until(lambda begun=begun: len((home / "begun").read_text()) > int(begun), "the next image")
    process.send_signal(signal.SIGTERM)
    assert process.wait(PATIENCE) == 0


SERVICE = """
[Unit]
Description=A program on the process bus
After=network.target
Requires=program.socket

[Service]
Type=notify
NotifyAccess=main
ExecStart={python} {program}
ExecReload=/bin/kill -USR1 $MAINPID
WatchdogSec=30
TimeoutStopSec=90
Restart=on-failure

[Install]
WantedBy=multi-user.target
"""

SOCKET = """
[Socket]
ListenStream=127.0.0.1:2525
FileDescriptorName=smtp

[Install]
WantedBy=sockets.target
"""


def verify(program: Callable[[str], str], *units: Path) -> str:
    """What systemd finds wrong with units; it may end with code 0 and still have found something."""
    done = subprocess.run(
        [program("systemd-analyze"), "verify", *units], capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    # Units that they name, of the machine itself, are checked as well.
    names = [unit.name for unit in units]
    return "\n".join(line for line in done.stderr.splitlines() if any(name in line for name in names))


@pytest.mark.rule("bus.B13")
def test_a_unit_for_the_bus_is_as_systemd_wants_it(home: Path, program: Callable[[str], str]) -> None:
    (home / "program.py").write_text(PROGRAM, encoding="utf-8")
    service, listening = home / "program.service", home / "program.socket"
    service.write_text(textwrap.dedent(SERVICE).format(python=sys.executable, program=home / "program.py"))
    listening.write_text(SOCKET)
    assert verify(program, service, listening) == ""
    # It would say so otherwise.
    service.write_text(service.read_text().replace("WatchdogSec", "WatchDogSec"))
    assert "Unknown key" in verify(program, service, listening)


@pytest.mark.rule("bus.B13")
def test_the_units_of_a_server_are_as_systemd_wants_them(home: Path, program: Callable[[str], str]) -> None:
    make_application(home, "from monsal import route\n@route('desk@(host)')\ndef START(message): ...\n")
    (home / "monsal.toml").write_text('ingress = ["smtp://127.0.0.1:25", "lmtp:run/lmtp.sock"]\n')
    subprocess.run(
        [
            *monsal_command(),
            "systemd",
            "--dir",
            home,
            "--user",
            "mail",
            "--name",
            "desk",
            "--socket",
            "--write",
            home,
        ],
        check=True,
        timeout=PATIENCE,
    )
    units = [home / "desk.service", *home.glob("*.socket")]
    assert len(units) == 3
    assert verify(program, *units) == ""
    security = subprocess.run(
        [program("systemd-analyze"), "security", "--offline=true", "--no-pager", units[0]],
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )
    exposure = float(security.stdout.splitlines()[-1].split(":")[1].split()[0])
    assert exposure < 3.0, security.stdout


@pytest.mark.rule("bus.B13")
def test_a_server_that_a_connection_starts(home: Path, program: Callable[[str], str], free_port: int) -> None:
    make_application(home, "from monsal import route\n@route('desk@(host)')\ndef START(message): ...\n")
    with ExitStack() as stack:
        server = stack.enter_context(Server(home))
        log = stack.enter_context((home / "server.log").open("ab"))
        command = [program("systemd-socket-activate"), f"--listen=127.0.0.1:{free_port}", "--fdname=smtp"]
        server.process = stack.enter_context(
            background([*command, *monsal_command(), "run", "--dir", home], stdout=log, stderr=log)
        )
        wait_until(lambda: listens(free_port), "systemd-socket-activate")
        with smtplib.SMTP("127.0.0.1", free_port, timeout=PATIENCE) as client:
            client.sendmail("ann@example.net", ["desk@example.com"], "From: ann@example.net\r\n\r\nHi\r\n")
        server.wait_ready()
        assert server.ready["smtp"] == [f"127.0.0.1:{free_port}"]
        server.wait_idle()
        assert server.ledger()["done"] == 1
        assert server.stop() == 0
