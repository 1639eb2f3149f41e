"""A real server and what it tells a service manager, from its start to its end."""

from __future__ import annotations

import os
import signal
import smtplib
import socket
import subprocess
from contextlib import ExitStack
from pathlib import Path

import pytest
from fake_manager import FakeManager
from harness import Server, make_application, monsal_command

from monsal.bus import hand_over

QUIET = 'from monsal import route\n@route("desk@(host)")\ndef START(message): ...\n'


@pytest.mark.rule("bus.B13", "bus.B11")
def test_the_order_of_what_it_tells(home: Path) -> None:
    make_application(home, QUIET)
    with FakeManager(f"{home}/notify") as manager, Server(home, environ=manager.environ) as server:
        server.start()
        manager.until("READY=1")
        done = subprocess.run([*monsal_command(), "reload", "--dir", str(home)], check=False, timeout=60)
        assert done.returncode == 0
        manager.until("READY=1")
        assert "STATUS=generation 2 serves" in manager.messages[-1]
        server.ready = {}
        assert server.process is not None
        server.process.send_signal(signal.SIGTERM)
        with manager.listening():
            assert server.process.wait(60) == 0
        told = manager.lines("READY", "RELOADING", "STOPPING")
        assert told[0] == "READY=1"
        assert told[-2:] == ["READY=1", "STOPPING=1"]
        # The check of the new code and the restart with it may be told as one or as two.
        assert told[1] == "RELOADING=1"
        assert set(told[1:-2]) <= {"RELOADING=1", "READY=1"}
        extended = [int(line.partition("=")[2]) for line in manager.lines("EXTEND_TIMEOUT_USEC")]
        assert max(extended) >= 30e6, "a drain may take longer than systemd grants by default"


@pytest.mark.rule("bus.B13")
def test_ready_is_said_after_the_ready_file_is_there(home: Path) -> None:
    make_application(home, QUIET)
    with FakeManager(f"{home}/notify") as manager, Server(home, environ=manager.environ) as server:
        server.spawn()
        manager.until("READY=1")
        assert server.ready_file.exists()
        server.wait_ready()
        assert server.stop() == 0


@pytest.mark.rule("bus.B13")
def test_the_watchdog_is_fed_while_there_is_progress_and_not_when_the_loop_hangs(home: Path) -> None:
    handlers = (
        "import asyncio, threading\nfrom pathlib import Path\nfrom monsal import route\n"
        "HERE = Path(__file__).parent\n"
        "def hang():\n"
        '    while not (HERE / "go").exists():\n        threading.Event().wait(0.01)\n'
        '@route("desk@(host)")\ndef START(message):\n'
        "    import gc\n"
        "    from monsal.conversation import Worker\n"
        "    [worker] = [each for each in gc.get_objects() if isinstance(each, Worker)]\n"
        "    worker._loop.call_soon_threadsafe(hang)\n"
    )
    make_application(home, handlers)
    with FakeManager(f"{home}/notify") as manager:
        environ = {**manager.environ, "WATCHDOG_USEC": "400000"}
        with Server(home, environ=environ) as server:
            server.start()
            for _ in range(2):
                manager.until("WATCHDOG=1")
            with smtplib.SMTP("127.0.0.1", server.port, timeout=60) as client:
                client.sendmail("ann@example.net", ["desk@example.com"], "From: ann@example.net\r\n\r\nHi\r\n")
                told = manager.until("STATUS=stalled")
                assert "WATCHDOG=1" not in told
                manager.drain()
                fed = manager.lines("WATCHDOG")
                manager.until("STATUS=stalled")
                assert manager.lines("WATCHDOG") == fed, "not fed while it hangs"
                (home / "go").touch()
                manager.until("WATCHDOG=1")
            assert "The watchdog is not fed" in server.log()
            with manager.listening():
                assert server.stop() == 0


@pytest.mark.rule("bus.B13")
def test_sockets_that_were_passed_stand_for_the_settings(home: Path) -> None:
    make_application(home, QUIET)
    with ExitStack() as stack:
        given = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        environ, passed = hand_over({"smtp": [given]})
        log = stack.enter_context((home / "server.log").open("ab"))
        server = stack.enter_context(Server(home))
        server.process = subprocess.Popen(
            [*monsal_command(), "run", "--dir", str(home)],
            env={**os.environ, **environ},
            pass_fds=passed,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        server.wait_ready()
        assert server.ready["smtp"] == [f"127.0.0.1:{given.getsockname()[1]}"]
        with smtplib.SMTP("127.0.0.1", server.port, timeout=60) as client:
            client.sendmail("ann@example.net", ["desk@example.com"], "From: ann@example.net\r\n\r\nHi\r\n")
        server.wait_idle()
        assert server.stop() == 0


@pytest.mark.rule("bus.B12")
def test_a_hanging_relay_does_not_hold_up_the_end(home: Path) -> None:
    """The drain has a bound, and says what is left in the outbox."""
    handlers = 'from monsal import reply, route\n@route("desk@(host)")\ndef START(message):\n    reply("hello")\n'
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        make_application(home, handlers, relay=f"smtp://127.0.0.1:{port}", drain=0.5)
        with Server(home) as server:
            server.start()
            with smtplib.SMTP("127.0.0.1", server.port, timeout=60) as client:
                client.sendmail("ann@example.net", ["desk@example.com"], "From: ann@example.net\r\n\r\nHi\r\n")
            silent.settimeout(60)
            mute, _ = silent.accept()
            with mute:
                assert server.stop() == 0
            assert (
                "stored for the next start: 1 outgoing mail (1 of them had no answer yet and will be sent again)"
                in server.log()
            )
            assert [row[0] for row in server.rows("select status from v_outbox")] == ["waiting"]
