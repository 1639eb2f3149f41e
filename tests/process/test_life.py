"""The life of a real server: started, asked, drained, renewed and ended, with real signals and kills."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import pwd
import signal
import smtplib
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from harness import Server, make_application, monsal_command, wait_until

ADDRESS = "desk@example.com"
QUIET = 'from monsal import route, reply\n@route("desk@(host)")\ndef START(message):\n    reply("one")\n'
HANGING = (
    "import threading\nfrom pathlib import Path\nfrom monsal import route\n"
    '@route("desk@(host)")\ndef START(message):\n'
    '    Path(__file__).with_name("begun").touch()\n    threading.Event().wait()\n'
)
#: A statement that is run when the store is opened, and takes minutes.
LONG_OPENING = (
    "with recursive n(i) as (select 1 union all select i + 1 from n where i < 4000000000) select max(i) from n"
)


def monsal(*arguments: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*monsal_command(), *map(str, arguments)], capture_output=True, text=True, timeout=120, check=False, **options
    )


def write(server: Server, subject: str = "hello", sender: str = "ann@example.net") -> None:
    with smtplib.SMTP("127.0.0.1", server.port, timeout=60) as client:
        client.sendmail(sender, [ADDRESS], f"From: {sender}\r\nSubject: {subject}\r\n\r\nHi\r\n")


def status(server: Server) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(monsal("status", "--json", "--dir", server.directory).stdout)
    return found


def units(server: Server) -> dict[str, str]:
    return {unit["name"]: unit["phase"] for unit in status(server).get("units", ())}


def control(server: Server, method: str) -> Any:
    """Ask without a command, which would take longer than what is to be seen."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(60)
        client.connect(str(server.directory / "run" / "control.sock"))
        client.sendall(json.dumps({"jsonrpc": "2.0", "id": 1, "method": method}).encode() + b"\n")
        return json.loads(client.makefile().readline())["result"]


def why(server: Server) -> str:
    """What it waits for; nothing as long as nobody listens yet: a socket is there before it does."""
    try:
        return "\n".join(control(server, "server.why"))
    except (FileNotFoundError, ConnectionRefusedError):
        return ""


def hang_up(server: Server) -> None:
    """SIGHUP once the start is over: ready.json is written by its last step, and a start is not reloaded."""
    assert server.process is not None
    wait_until(lambda: control(server, "server.status")["phase"] == "started", "the end of the start")
    server.process.send_signal(signal.SIGHUP)


@pytest.mark.rule("bus.B8", "bus.B17")
def test_what_a_server_says_of_its_units(home: Path) -> None:
    make_application(home, QUIET)
    with Server(home) as server:
        server.start()
        found = wait_until(lambda: facts if (facts := status(server))["phase"] == "started" else None, "a start")
        assert {unit["phase"] for unit in found["units"]} == {"started"}
        assert [unit["name"] for unit in found["units"]] == ["control", "store", "outbox", "workers", "ingress", "api"]
        assert "waits for nothing" in monsal("why", "--dir", home).stdout
        start = json.loads(monsal("blame", "--json", "--dir", home).stdout)["start"]
        assert {"control", "store", "outbox", "workers", "ingress"} <= {step["name"] for step in start["steps"]}
        assert "store" in start["chain"]
        assert server.stop() == 0
        noted = json.loads((home / "run" / "last-stop.json").read_bytes())
        assert noted["drain"]["waiting"] == 0
        assert "ingress" in {step["name"] for step in noted["blame"]["stop"]["steps"]}
        assert "stop: " in monsal("blame", "--dir", home).stdout


@pytest.mark.rule("bus.B17")
def test_what_a_start_took_is_told_from_the_beginning_of_the_process(home: Path) -> None:
    make_application(home, QUIET)
    with Server(home) as server:
        before = time.time()
        server.spawn()
        begun = time.time()
        server.wait_ready()
        ready = server.ready_file.stat().st_mtime
        start, after = start_of(server)
        # The system counts in hundredths of a second.
        assert ready - begun - 0.02 <= start["seconds"] <= after - before + 0.02

        before = time.time()
        assert monsal("restart", "--dir", home).returncode == 0
        assert status(server)["generation"] == 2
        start, after = start_of(server)
        assert start["seconds"] <= after - before


def start_of(server: Server) -> tuple[dict[str, Any], float]:
    """What `monsal blame` tells of a start that is over, and a time after it."""
    wait_until(lambda: status(server)["phase"] == "started", "the end of the start")
    after = time.time()
    start: dict[str, Any] = json.loads(monsal("blame", "--json", "--dir", server.directory).stdout)["start"]
    loading, first = start["steps"][:2]
    assert (loading["name"], loading["kind"], start["chain"][0]) == ("loading", "process", "loading")
    assert first["at"] >= loading["seconds"] > 0
    return start, after


@pytest.mark.rule("bus.B10", "bus.B6")
def test_a_signal_while_the_store_opens_is_a_clean_stop(home: Path) -> None:
    make_application(home, QUIET)
    (home / "app.py").write_text(
        (home / "app.py").read_text().replace('App("handlers",', f'App("handlers", tables={LONG_OPENING!r},')
    )
    with Server(home) as server:
        server.spawn()
        # The control socket answers before its own unit counts as started; the store opens after it.
        waiting = wait_until(
            lambda: said if "start of unit store" in (said := why(server)) else "", "the store as what it waits for"
        )
        assert "workers" in waiting
        found = status(server)
        assert (found["ready"], found["phase"]) == (False, "starting")
        refused = monsal("queue", "--dir", home)
        assert refused.returncode == 75
        assert "monsal why" in refused.stderr
        assert server.process is not None
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(60) == 0, server.log()
        assert "Traceback" not in server.log()
        assert not server.ready_file.exists()


@pytest.mark.rule("bus.B12", "bus.B6")
def test_a_drain_says_what_it_waits_for_and_what_is_left(home: Path) -> None:
    make_application(home, HANGING)
    with Server(home) as server:
        server.start()
        write(server)
        wait_until((home / "begun").exists, "the handler")
        write(server, "second")
        assert server.process is not None
        server.process.send_signal(signal.SIGTERM)
        wait_until(lambda: control(server, "server.status")["phase"] == "draining", "the drain")
        # The handler is named, and the line it is at.
        waiting = wait_until(
            lambda: [line for line in control(server, "server.why") if "handlers:START for ann@example.net" in line],
            "the handler that is waited for",
        )
        assert "threading.Event().wait()" in "\n".join(waiting)
        assert not server.ready_file.exists()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", server.port))
        stopped = monsal("stop", "--now", "--dir", home)
        assert stopped.returncode == 0, stopped.stderr
        assert "stored for the next start: 2 messages (1 of them ran and will be handled again)" in stopped.stdout
        assert server.process.wait(60) == 0
        assert server.ledger()["waiting"] == 2


@pytest.mark.rule("bus.B12")
def test_a_session_that_is_idle_is_told_421_when_the_drain_begins(home: Path) -> None:
    make_application(home, HANGING)
    with Server(home) as server:
        server.start()
        write(server)
        wait_until((home / "begun").exists, "the handler")
        with socket.create_connection(("127.0.0.1", server.port), 60) as idle:
            stream = idle.makefile("rb")
            assert stream.readline().startswith(b"220 ")
            assert server.process is not None
            server.process.send_signal(signal.SIGTERM)
            assert stream.readline().startswith(b"421 ")
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(60) == 0


@pytest.mark.rule("bus.B12")
def test_replies_of_the_last_turns_still_leave(home: Path) -> None:
    handlers = (
        "import threading\nfrom pathlib import Path\nfrom monsal import reply, route\n"
        "HERE = Path(__file__).parent\n"
        '@route("desk@(host)")\ndef START(message):\n'
        '    (HERE / "begun").touch()\n'
        '    while not (HERE / "go").exists():\n        threading.Event().wait(0.01)\n'
        '    reply("done")\n'
    )
    make_application(home, handlers)
    with Server(home) as server:
        server.start()
        write(server)
        wait_until((home / "begun").exists, "the handler")
        assert server.process is not None
        server.process.send_signal(signal.SIGTERM)
        wait_until(lambda: not server.ready_file.exists(), "the drain")
        (home / "go").touch()
        assert server.process.wait(60) == 0
        assert len(list((home / "run" / "sent" / "new").iterdir())) == 1
        assert "1 turn ended, 1 mail sent; nothing is left" in server.log()


def test_a_command_waits_for_a_server_that_is_being_replaced(home: Path) -> None:
    handlers = (
        "import threading\nfrom pathlib import Path\nfrom monsal import route, reply\n"
        "HERE = Path(__file__).parent\n"
        '@route("desk@(host)")\ndef START(message):\n'
        '    if message.subject == "slow":\n'
        '        (HERE / "begun").touch()\n'
        '        while not (HERE / "go").exists():\n            threading.Event().wait(0.01)\n'
        '    reply("here you are")\n'
    )
    make_application(home, handlers)
    with Server(home) as server:
        server.start()
        write(server, "slow")
        wait_until((home / "begun").exists, "the slow handler")
        assert server.process is not None
        hang_up(server)
        wait_until(lambda: not server.ready_file.exists(), "the drain before the restart")
        command = [*monsal_command(), "say", ADDRESS, "--dir", str(home), "--from", "bob@example.net", "Hello"]
        command += ["--wait", "60"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as saying:
            assert saying.stderr is not None
            assert "waiting for it" in saying.stderr.readline()
            (home / "go").touch()
            assert "here you are" in saying.communicate(timeout=60)[0]
            assert saying.returncode == 0
        assert _generation(server) == 2
        assert server.stop() == 0


@pytest.mark.rule("bus.B15")
def test_a_hangup_without_a_terminal_takes_up_new_code(home: Path) -> None:
    make_application(home, QUIET)
    with Server(home) as server:
        server.start()
        (home / "handlers.py").write_text(QUIET.replace("one", "number two"))
        assert server.process is not None
        hang_up(server)
        wait_until(lambda: _generation(server) == 2, "the new generation")
        write(server)
        server.wait_idle()
        [mail] = (home / "run" / "sent" / "new").iterdir()
        assert b"number two" in mail.read_bytes()
        assert server.stop() == 0


def _generation(server: Server) -> int:
    try:
        return int(json.loads(server.ready_file.read_bytes())["generation"])
    except FileNotFoundError:
        return 0


@pytest.mark.rule("bus.B15")
def test_a_hangup_of_the_terminal_ends_the_server(home: Path) -> None:
    make_application(home, QUIET)
    ours, theirs = pty.openpty()
    with Server(home) as server:
        server.process = subprocess.Popen(
            [*monsal_command(), "run", "--dir", str(home)],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)
        server.wait_ready()
        hang_up(server)
        assert server.process.wait(60) == 0
    os.close(ours)


@pytest.mark.rule("bus.B11")
def test_code_that_does_not_load_leaves_the_old_one_serving(home: Path) -> None:
    make_application(home, QUIET)
    with Server(home) as server:
        pid = server.start()["pid"]
        (home / "handlers.py").write_text("from monsal import route\nraise RuntimeError('half written')\n")
        failed = monsal("reload", "--dir", home)
        assert failed.returncode == 1
        assert "RuntimeError: half written" in failed.stderr
        assert "goes on with the old one" in failed.stderr
        write(server)
        server.wait_idle()
        assert _generation(server) == 1
        (home / "handlers.py").write_text(QUIET)
        renewed = monsal("restart", "--dir", home)
        assert (renewed.returncode, renewed.stderr) == (0, "")
        assert "generation 2 serves" in renewed.stdout
        assert json.loads(server.ready_file.read_bytes())["pid"] == pid
        assert server.stop() == 0
    assert monsal("reload", "--dir", home).returncode == 75


@pytest.mark.rule("bus.B11")
def test_settings_that_cannot_be_had_leave_the_old_ones_in_force(home: Path) -> None:
    make_application(home, QUIET)
    with Server(home) as server, socket.create_server(("127.0.0.1", 0)) as taken:
        server.start()
        (home / "monsal.toml").write_text(f'ingress = ["smtp://127.0.0.1:{taken.getsockname()[1]}"]\n')
        failed = monsal("reload", "--dir", home)
        assert failed.returncode == 1
        assert f"cannot listen on smtp://127.0.0.1:{taken.getsockname()[1]}" in failed.stderr
        (home / "monsal.toml").write_text('ingress = ["smtp://127.0.0.1:0", "lmtp:run/lmtp.sock"]\n')
        assert monsal("reload", "--dir", home).returncode == 0
        before = server.port
        server.ready = json.loads(server.ready_file.read_bytes())
        assert (server.port, server.ready["lmtp"]) == (before, ["run/lmtp.sock"])
        write(server)
        server.wait_idle()
        assert server.stop() == 0


def test_a_server_waits_for_a_command_that_has_the_store(home: Path) -> None:
    make_application(home, QUIET)
    (home / "run").mkdir()
    with Server(home) as server, (home / "run" / "store.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        server.spawn()
        wait_until(lambda: "start of unit store" in why(server), "a reason to wait")
        fcntl.flock(lock, fcntl.LOCK_UN)
        server.wait_ready()
        assert server.stop() == 0


@pytest.mark.rule("bus.B11")
def test_who_connects_during_a_restart_waits_and_is_not_refused(home: Path) -> None:
    make_application(home, QUIET, ingress=["smtp://127.0.0.1:0", "lmtp:run/lmtp.sock"])
    with Server(home) as server:
        server.start()
        ended = threading.Event()
        errors: list[BaseException] = []
        told: list[int] = []

        def load(connect: Callable[[], smtplib.SMTP], number: int) -> None:
            count = 0
            while not ended.is_set():
                sender = f"p{number}.{count}@example.net"
                try:
                    with connect() as client:
                        client.sendmail(sender, [ADDRESS], f"From: {sender}\r\n\r\nHi\r\n")
                except (smtplib.SMTPServerDisconnected, smtplib.SMTPResponseException) as error:
                    # 421 to a session that was open when the drain began: it comes back, as mail programs do.
                    if isinstance(error, smtplib.SMTPResponseException) and error.smtp_code != 421:
                        errors.append(error)
                except OSError as error:
                    errors.append(error)
                else:
                    told.append(1)
                count += 1

        ways: list[Callable[[], smtplib.SMTP]] = [
            lambda: smtplib.SMTP("127.0.0.1", server.port, timeout=60),
            lambda: smtplib.LMTP(str(home / "run" / "lmtp.sock"), timeout=60),
        ]
        threads = [threading.Thread(target=load, args=(way, number)) for number, way in enumerate(ways * 2)]
        for thread in threads:
            thread.start()
        for generation in (2, 3):
            before = len(told)
            assert monsal("restart", "--dir", home).returncode == 0
            wait_until(lambda: len(told) > before + 10, "mails after the restart")  # noqa: B023 - called at once
            assert _generation(server) == generation
        ended.set()
        for thread in threads:
            thread.join(120)
            assert not thread.is_alive()
        assert not errors
        server.wait_idle()
        assert server.ledger()["accepted"] >= len(told)
        assert server.ledger()["done"] == server.ledger()["accepted"]
        assert server.stop() == 0


def test_a_daemon(home: Path) -> None:
    make_application(home, QUIET)
    pid_file = home / "desk.pid"
    started = monsal("run", "--dir", home, "--daemon", "--pid", pid_file)
    assert started.returncode == 0, started.stderr
    server = Server(home)
    server.ready = json.loads((home / "run" / "ready.json").read_bytes())
    pid = server.ready["pid"]
    try:
        assert int(pid_file.read_text()) == pid
        assert f"process {pid}" in started.stdout
        assert os.getsid(pid) == pid, "in a session of its own, without a terminal"
        write(server)
        log = home / "run" / "monsal.log"
        wait_until(lambda: "START -> " in log.read_text(), "the log of a turn")
        # Logs are rotated by moving the file and asking for a reload.
        log.rename(home / "run" / "old.log")
        assert monsal("reload", "--dir", home).returncode == 0
        assert int(pid_file.read_text()) == pid
        wait_until(lambda: "action=ready" in log.read_text(), "the word of the new image in the new log")
        second = monsal("run", "--dir", home, "--daemon")
        assert second.returncode == 75
        assert str(pid) in second.stderr
        assert monsal("stop", "--dir", home).returncode == 0
        assert not pid_file.exists()
    finally:
        _kill(pid)


def test_a_daemon_that_cannot_start_says_why_to_who_started_it(home: Path) -> None:
    make_application(home, "from monsal import route\nraise RuntimeError('not today')\n")
    failed = monsal("run", "--dir", home, "--daemon")
    assert failed.returncode == 64
    assert "RuntimeError: not today" in failed.stderr
    make_application(home, QUIET)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        url = f"smtp://127.0.0.1:{taken.getsockname()[1]}"
        failed = monsal("run", "--dir", home, "--daemon", env={**os.environ, "MONSAL_INGRESS": url})
    assert failed.returncode == 69
    assert "is in use" in failed.stderr


@pytest.mark.rule("bus.B14")
def test_a_killed_daemon_leaves_nothing_that_hinders_the_next_one(home: Path) -> None:
    make_application(home, QUIET)
    pids = []
    try:
        for _ in range(2):
            started = monsal("run", "--dir", home, "--daemon", "--pid", home / "desk.pid")
            assert started.returncode == 0, started.stderr
            pids.append(json.loads((home / "run" / "ready.json").read_bytes())["pid"])
            os.kill(pids[-1], signal.SIGKILL)
            wait_until(lambda: not _lives(pids[-1]), "its end")
            wait_until(lambda: not _processes_with(str(home)), "that no process is left behind")
    finally:
        for pid in pids:
            _kill(pid)


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _processes_with(text: str) -> list[str]:
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            line = (place / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
        except OSError:
            continue
        if text in line and _lives(int(place.name)):
            found.append(line)
    return found


def _kill(pid: int) -> None:
    if _lives(pid):
        os.kill(pid, signal.SIGKILL)


@pytest.mark.rule("bus.B14")
def test_another_user_serves_what_root_opened(home: Path) -> None:
    make_application(home, QUIET)
    with Server(home) as server:
        if os.geteuid():
            server.spawn("--user", "root")
            assert server.process is not None
            assert server.process.wait(60) == 69
            assert "root" in server.log()
            return
        home.chmod(0o755)
        for place in home.iterdir():
            place.chmod(0o644)
        nobody = pwd.getpwnam("nobody")
        reads = ["import os, sys", "os.setuid(int(sys.argv[1]))", "sys.exit(not os.access(os.__file__, os.R_OK))"]
        if subprocess.run([sys.executable, "-c", "\n".join(reads), str(nobody.pw_uid)], check=False).returncode:
            # As where root has its Python to itself: then a lazy import would fail at any time later.
            server.spawn("--user", "nobody")
            assert server.process is not None
            assert server.process.wait(60) == 64
            assert f"the user nobody may not read {os.__file__}" in server.log()
            return
        server.start("--user", "nobody", "--umask", "027")
        assert os.stat(f"/proc/{server.ready['pid']}").st_uid == nobody.pw_uid
        write(server)
        server.wait_idle()
        assert (home / "run" / "monsal.db").stat().st_uid == nobody.pw_uid
        assert (home / "run" / "monsal.db").stat().st_mode & 0o777 == 0o640
        assert monsal("restart", "--dir", home).returncode == 0, server.log()
        write(server, "again")
        server.wait_idle()
        assert server.stop() == 0


def test_an_unknown_user_is_a_usage_error(home: Path) -> None:
    make_application(home, QUIET)
    failed = monsal("run", "--dir", home, "--user", "no-such-user")
    assert failed.returncode == 64
    assert "no-such-user" in failed.stderr


def test_check_says_whether_an_application_is_fit(home: Path) -> None:
    make_application(home, QUIET)
    assert "can be served, with 1 route: " in monsal("run", "--check", "--dir", home).stdout
    assert not (home / "run").exists()
    (home / "handlers.py").write_text("from monsal import route\n@route('x@(nope)')\ndef START(m): ...\n")
    assert monsal("run", "--check", "--dir", home).returncode == 64


def test_a_unit_that_breaks_ends_the_server_with_code_1(home: Path) -> None:
    """Taking mail that nobody handles would be a false yes."""
    handlers = (
        "import asyncio, gc, threading\nfrom monsal import route\nfrom monsal.conversation import Worker\n"
        '@route("desk@(host)")\ndef START(message):\n'
        "    [worker] = [each for each in gc.get_objects() if isinstance(each, Worker)]\n"
        "    worker._store = None\n"
    )
    make_application(home, handlers)
    with Server(home) as server:
        server.start()
        write(server)
        assert server.process is not None
        assert server.process.wait(60) == 1, server.log()
        assert "Unit 'workers' broke" in server.log()


def test_dev_takes_up_changed_code_and_survives_broken_code(home: Path) -> None:
    make_application(home, QUIET, relay="smtp://127.0.0.1:1")
    with Server(home) as server, server.log_file.open("ab") as log:
        server.process = subprocess.Popen(
            [*monsal_command(), "dev", "--dir", str(home)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        server.wait_ready()
        (home / "handlers.py").write_text("raise RuntimeError('half written')\n")
        wait_until(lambda: "RuntimeError: half written" in server.log(), "the traceback")
        assert _generation(server) == 1
        (home / "handlers.py").write_text(QUIET.replace("one", "three"))
        wait_until(lambda: _generation(server) == 2, "the new code")
        write(server)
        wait_until(lambda: list((home / "run" / "sent" / "new").glob("*")), "the reply, filed here")
        [mail] = (home / "run" / "sent" / "new").iterdir()
        assert b"three" in mail.read_bytes()
        assert server.stop() == 0
