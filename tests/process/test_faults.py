"""Faults of handlers, disks, relays and peers, at a real server: each hurts who caused it, and loses nothing."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import smtplib
import socket
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from harness import Server, make_application, monsal_command, wait_until

DESK = "desk@example.com"


def write(server: Server, text: str = "hi", *, to: str = DESK, sender: str = "ann@example.net", number: int = 0) -> int:
    """Send one mail as a peer would; the code of the final answer."""
    with smtplib.SMTP("127.0.0.1", server.port, timeout=60) as smtp:
        smtp.ehlo("peer.example.net")
        for command, argument in (("mail", f"FROM:<{sender}>"), ("rcpt", f"TO:<{to}>")):
            code, _ = smtp.docmd(command, argument)
            if code >= 400:
                return code
        code, _ = smtp.data(f"From: {sender}\r\nMessage-ID: <{number}.{sender}>\r\nSubject: {text}\r\n\r\n{text}\r\n")
        return code


def write_if_let_in(server: Server) -> int:
    """The same, but a full house is an answer too."""
    try:
        return write(server)
    except (smtplib.SMTPException, OSError):
        return 421


def turns(server: Server) -> list[tuple[str, str]]:
    return [
        (sender, handler.rpartition(":")[2]) for sender, handler in server.rows("select sender, handler from v_turns")
    ]


def command(server: Server, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*monsal_command(), *arguments, "--dir", str(server.directory)], capture_output=True, text=True, check=False
    )


def test_a_message_that_kills_its_process_three_times_is_a_dead_letter(home: Path) -> None:
    make_application(
        home,
        "import os, signal\nfrom monsal import reply, route\n"
        '@route("desk@(host)")\ndef START(message):\n'
        '    if message.subject == "poison":\n        os.kill(os.getpid(), signal.SIGKILL)\n    reply("fine")\n',
    )
    with Server(home) as server:
        server.start()
        assert write(server, "poison", sender="eve@example.net") == 250
        for _ in range(2):
            assert server.process is not None
            assert server.process.wait(60) == -signal.SIGKILL
            server.spawn()
        assert server.process is not None
        assert server.process.wait(60) == -signal.SIGKILL
        server.start()
        assert write(server, "good", sender="eve@example.net", number=2) == 250
        server.wait_idle()
        assert turns(server) == [("eve@example.net", "START")]
        assert server.ledger()["dead"] == 1
        shown = command(server, "dead", "list", "--json").stdout
        assert "killed its worker" in json.loads(shown)["reason"]
        assert server.stop() == 0


def test_a_key_generator_that_kills_its_process_is_no_endless_loop(home: Path) -> None:
    make_application(
        home,
        "import os, signal\nfrom monsal import reply, route, state_key_generator\n"
        "@state_key_generator\ndef key(module, message):\n"
        '    if message.subject == "poison":\n        os.kill(os.getpid(), signal.SIGKILL)\n    return module\n'
        '@route("desk@(host)")\ndef START(message):\n    reply("fine")\n',
    )
    with Server(home) as server:
        server.start()
        assert write(server, "poison", sender="eve@example.net") == 250
        for _ in range(3):
            assert server.process is not None
            assert server.process.wait(60) == -signal.SIGKILL
            server.spawn()
        server.wait_ready()
        assert write(server, "good", sender="eve@example.net", number=2) == 250
        server.wait_idle()
        assert turns(server) == [("eve@example.net", "START")]
        assert "killed its worker" in json.loads(command(server, "dead", "list", "--json").stdout)["reason"]
        assert server.stop() == 0


def test_a_hanging_handler_stops_neither_others_nor_the_intake(home: Path) -> None:
    make_application(
        home,
        "import threading\nfrom monsal import route\n"
        '@route("desk@(host)", deadline=2.0)\ndef START(message):\n'
        '    if message.subject == "hang":\n        threading.Event().wait()\n',
        drain=0.5,
    )
    with Server(home) as server:
        server.start()
        assert write(server, "hang", sender="eve@example.net") == 250
        for number in range(5):
            assert write(server, sender=f"p{number}@example.net") == 250
        wait_until(lambda: len(turns(server)) == 5, "the others' turns")
        wait_until(lambda: "past its deadline" in server.log(), "a line about the deadline")
        assert "threading.Event().wait()" in server.log()
        assert json.loads(command(server, "status", "--json").stdout)["ledger"]["running"] == 1
        assert server.stop() == 0
        assert server.ledger() | {"waiting": 1, "done": 5, "accepted": 6} == server.ledger()


def test_a_coroutine_that_blocks_its_loop_stops_neither_others_nor_the_intake(home: Path) -> None:
    make_application(
        home,
        "import threading\nfrom monsal import route\n"
        '@route("desk@(host)", deadline=2.0)\nasync def START(message):\n'
        '    if message.subject == "hang":\n        threading.Event().wait()\n',
        drain=0.5,
    )
    with Server(home) as server:
        server.start()
        assert write(server, "hang", sender="eve@example.net") == 250
        for number in range(5):
            assert write(server, sender=f"p{number}@example.net") == 250
        wait_until(lambda: len(turns(server)) == 5, "the others' turns")
        assert server.stop() == 0


def test_a_full_disk_gives_451_and_recovers(home: Path) -> None:
    make_application(home, 'from monsal import route\n@route("desk@(host)")\ndef START(message): ...\n')
    # A bound on the size of files fails writes as a full disk does, in the kernel.
    limit = (
        "import os, resource, signal, sys\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (600_000, 600_000))\n"
        "os.execv(sys.argv[1], sys.argv[1:])\n"
    )
    with Server(home, wrapper=[sys.executable, "-c", limit]) as server:
        server.start()
        codes = []
        for number in range(60):
            codes.append(write(server, "x" * 20_000, number=number))
            if codes.count(451) >= 3:
                break
        stored = codes.count(250)
        assert set(codes) == {250, 451}, (codes, server.log())
        server.stop()
    with Server(home) as server:
        server.start()
        assert write(server, number=1000) == 250
        server.wait_idle()
        assert server.rows("select count(*) from v_messages") == [(stored + 1,)]
        assert server.ledger()["done"] == stored + 1
        assert server.stop() == 0


def test_another_program_that_locks_the_database_stops_no_socket(home: Path) -> None:
    make_application(home, 'from monsal import route\n@route("desk@(host)")\ndef START(message): ...\n')
    with Server(home) as server:
        server.start()
        assert write(server, number=1) == 250
        server.wait_idle()
        with contextlib.closing(sqlite3.connect(server.database, isolation_level=None)) as other:
            other.execute("begin immediate")
            with smtplib.SMTP("127.0.0.1", server.port, timeout=25) as waits:
                waits.ehlo("peer.example.net")
                for line in (f"MAIL FROM:<a@b.cd>\r\nRCPT TO:<{DESK}>\r\nDATA\r\n", "Subject: x\r\n\r\nx\r\n.\r\n"):
                    waits.send(line)
                # While its mail waits for the database, others are served, and told how it is.
                with smtplib.SMTP("127.0.0.1", server.port, timeout=25) as guest:
                    assert guest.noop()[0] == 250
                shown = command(server, "status", "--json")
                assert shown.returncode == 1
                assert any(line.startswith("store:") for line in json.loads(shown.stdout)["health"])
                other.execute("rollback")
                assert [waits.getreply()[0] for _ in range(4)] == [250, 250, 354, 250]
        wait_until(lambda: command(server, "status").returncode == 0, "a server that is ready")
        server.wait_idle()
        assert server.ledger()["done"] == 2
        assert server.stop() == 0


def test_a_store_that_takes_nothing_is_not_ready_and_says_why(home: Path) -> None:
    make_application(home, 'from monsal import route\n@route("desk@(host)")\ndef START(message): ...\n')

    def status() -> tuple[int, dict[str, Any]]:
        shown = command(server, "status", "--json")
        return shown.returncode, json.loads(shown.stdout)

    with Server(home) as server:
        server.start()
        assert write(server, number=1) == 250
        server.wait_idle()
        assert status()[0] == 0
        # From here on the kernel lets this process write to no file.
        before = resource.prlimit(server.ready["pid"], resource.RLIMIT_FSIZE, (1, resource.RLIM_INFINITY))
        assert write(server, number=2) == 451
        code, facts = status()
        assert (code, facts["ready"]) == (1, False)
        assert any("monsal.db" in line for line in facts["health"])
        assert facts["ledger"]["done"] == 1
        assert "monsal.db" in command(server, "status").stdout
        resource.prlimit(server.ready["pid"], resource.RLIMIT_FSIZE, before)
        wait_until(lambda: write(server, number=2) == 250, "a store that takes mail again")
        wait_until(lambda: status()[0] == 0, "a server that is well")
        server.wait_idle()
        assert server.ledger()["done"] == 2
        assert server.stop() == 0


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda path: path.write_bytes(b"this is no database" * 1000), "not a database"),
        (lambda path: subprocess.run(["true"], check=True), None),
    ],
)
def test_a_damaged_store_is_named_and_left_alone(home: Path, damage, says) -> None:  # type: ignore[no-untyped-def]
    make_application(home, 'from monsal import route\n@route("desk@(host)")\ndef START(message): ...\n')
    (home / "run").mkdir()
    if says is None:
        with Server(home) as server:
            server.start()
            assert server.stop() == 0
        with contextlib.closing(sqlite3.connect(home / "run" / "monsal.db")) as database:
            database.execute("pragma user_version = 9999")
            database.commit()
        says = "newer"
    else:
        damage(home / "run" / "monsal.db")
    before = (home / "run" / "monsal.db").read_bytes()
    ended = subprocess.run([*monsal_command(), "run", "--dir", str(home)], capture_output=True, text=True, check=False)
    assert ended.returncode != 0
    assert says in ended.stderr
    assert "Traceback" not in ended.stderr
    assert (home / "run" / "monsal.db").read_bytes() == before


def test_a_second_server_says_who_holds_the_store(home: Path) -> None:
    make_application(home, 'from monsal import route\n@route("desk@(host)")\ndef START(message): ...\n')
    with Server(home) as server:
        server.start()
        second = subprocess.run(
            [*monsal_command(), "run", "--dir", str(home)], capture_output=True, text=True, check=False
        )
        assert second.returncode == 75
        assert str(server.ready["pid"]) in second.stderr
        assert write(server) == 250
        assert server.stop() == 0


def test_a_relay_that_is_down_keeps_mail_and_turns_health_red(home: Path) -> None:
    with socket.socket() as taken, Server(home) as server:
        # Bound, so that nobody else gets it meanwhile; but nobody listens.
        taken.bind(("127.0.0.1", 0))
        make_application(
            home,
            'from monsal import reply, route\n@route("desk@(host)")\ndef START(message):\n    reply("hello")\n',
            relay=f"smtp://127.0.0.1:{taken.getsockname()[1]}",
        )
        server.start()
        assert write(server) == 250
        wait_until(lambda: server.rows("select reason from v_outbox where status = 'deferred'"), "a deferred mail")
        assert server.stop() == 0
        assert server.rows("select status from v_outbox") == [("deferred",)]


def test_garbage_and_idle_connections_do_not_keep_mail_out(home: Path) -> None:
    make_application(home, 'from monsal import route\n@route("desk@(host)")\ndef START(message): ...\n')
    # The server keeps a thousand of them at most; the descriptors of all are this process's.
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 8192)), hard))
    with Server(home) as server, contextlib.ExitStack() as stack:
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        server.start()
        for _ in range(min(5000, hard - 500)):
            stack.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=60))
        rubbish = stack.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=60))
        with contextlib.suppress(ConnectionError):
            for _ in range(100):
                rubbish.sendall(os.urandom(65536))
        wait_until(lambda: write_if_let_in(server) == 250, "a place for a mail")
        server.wait_idle()
        assert server.stop() == 0


def test_term_lets_a_running_handler_end(home: Path) -> None:
    make_application(
        home,
        "import time, pathlib\nfrom monsal import reply, route\n"
        '@route("desk@(host)")\ndef START(message):\n'
        f'    pathlib.Path({str(home)!r}, "begun").touch()\n    time.sleep(1)\n    reply("done")\n',
    )
    with Server(home) as server:
        server.start()
        assert write(server) == 250
        wait_until((home / "begun").exists, "the handler")
        assert server.stop() == 0
        assert len(turns(server)) == 1
        assert not server.ready_file.exists()


def test_a_second_signal_leaves_a_running_handler_to_the_next_start(home: Path) -> None:
    make_application(
        home,
        "import threading, pathlib\nfrom monsal import route\n"
        '@route("desk@(host)")\ndef START(message):\n'
        f'    pathlib.Path({str(home)!r}, "begun").touch()\n    threading.Event().wait()\n',
    )
    with Server(home) as server:
        server.start()
        assert write(server) == 250
        wait_until((home / "begun").exists, "the handler")
        assert server.process is not None
        server.process.send_signal(signal.SIGINT)
        wait_until(lambda: "waiting up to 30 s for 1 message" in server.log(), "the drain")
        server.process.send_signal(signal.SIGINT)
        assert server.process.wait(60) == 0
        log = server.log()
        assert "Traceback" not in log
        assert server.ledger()["waiting"] == 1
        lines = [line for line in log.splitlines() if " message_id=" in line]
        named = [line.partition(" message_id=")[2].split()[0] for line in lines]
        assert [line.partition(" action=")[2].split()[0] for line in lines] == ["stored", "turn_abandoned"]
        assert [line.count(name) for line, name in zip(lines, named, strict=True)] == [1, 1]


def test_a_thread_that_a_handler_left_behind_does_not_keep_the_process(home: Path) -> None:
    make_application(
        home,
        "import asyncio, threading, pathlib\nfrom monsal import route\n"
        '@route("desk@(host)")\nasync def START(message):\n'
        f'    pathlib.Path({str(home)!r}, "begun").touch()\n    await asyncio.to_thread(threading.Event().wait)\n',
        drain=0.2,
    )
    with Server(home) as server:
        server.start()
        assert write(server) == 250
        wait_until((home / "begun").exists, "the handler")
        assert server.stop() == 0
        assert "still running" in server.log()
