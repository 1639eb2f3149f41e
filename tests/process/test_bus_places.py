"""Real daemons, real PID files, real users: what the bus does about the place of its process (B14).

Each program writes what its bus says to a file, with its pid. So all processes of a test are known, and the fixture
ends those that are left, by their pids.
"""

from __future__ import annotations

import json
import os
import pwd
import select
import signal
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from harness import PATIENCE, wait_until

import monsal.bus
from monsal.bus import PIDLock

BEGINNING = """
import atexit, json, os, signal, sys, threading
from pathlib import Path
from monsal.bus import Bus, Daemonizer, DropPrivileges, PIDFile, SignalHandler

paper = os.open("log", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)

def say(text, level=20):
    os.write(paper, f"{os.getpid()} {text}\\n".encode())

say("here")
bus = Bus()
bus.subscribe("log", say)
SignalHandler(bus).subscribe()
atexit.register(say, "atexit")

def gate():
    # Opens when the test opens the other end.
    with open("gate", "rb") as pipe:
        pipe.read()
"""

END = """
bus.start()
bus.block()
"""


def end_of(pid: int, patience: float = PATIENCE) -> bool:
    """Wait for the end of any process; whether it came."""
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        poll = select.poll()
        poll.register(process, select.POLLIN)
        return bool(poll.poll(patience * 1000))
    finally:
        os.close(process)


class Place:
    """A directory with a program, which every user can come to."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.started: list[subprocess.Popen[str]] = []
        os.mkfifo(directory / "gate", 0o666)
        (directory / "log").touch()
        (directory / "log").chmod(0o666)

    def start(
        self, code: str, python: str = sys.executable, arguments: tuple[str, ...] = (), **options: Any
    ) -> subprocess.Popen[str]:
        """Start a program that ends with start and block."""
        script = self.directory / "program.py"
        script.write_text(BEGINNING + textwrap.dedent(code) + END, encoding="utf-8")
        process = subprocess.Popen(
            [python, str(script), *arguments],
            cwd=self.directory,
            text=True,
            **{
                "stdin": subprocess.DEVNULL,
                "stdout": subprocess.PIPE,
                "stderr": subprocess.PIPE,
                "start_new_session": True,
                **options,
            },
        )
        self.started.append(process)
        return process

    def run(self, code: str, **options: Any) -> tuple[int, str, str]:
        """Start a program and wait for the end of the process that was started: exit code, output, errors."""
        process = self.start(code, **options)
        out, err = process.communicate(timeout=PATIENCE)
        return process.returncode, out, err

    def said(self, pid: int | None = None) -> list[str]:
        """What one process, or all, said; the first lines only."""
        lines = (self.directory / "log").read_text(encoding="utf-8").splitlines()
        found = [line.partition(" ") for line in lines if line.partition(" ")[0].isdigit()]
        return [text for number, _, text in found if pid is None or int(number) == pid]

    def pid_of(self, text: str) -> int:
        """The process that said this last; waits for it."""

        def find() -> int:
            lines = (self.directory / "log").read_text(encoding="utf-8").splitlines()
            return next((int(line.split()[0]) for line in reversed(lines) if line.partition(" ")[2] == text), 0)

        return wait_until(find, f"somebody who says {text!r}")

    def wait_said(self, text: str, times: int = 1) -> None:
        wait_until(lambda: sum(line.startswith(text) for line in self.said()) >= times, f"{text!r}: {self.said()}")

    def daemon(self) -> int:
        """The pid of the daemon, once there is one."""
        self.wait_said("Daemonized: ")
        text = next(line for line in self.said() if line.startswith("Daemonized: "))
        return int(text.split()[4])

    def open_gate(self) -> None:
        (self.directory / "gate").write_bytes(b"")

    def close(self) -> None:
        pids = {
            int(line.split()[0]) for line in (self.directory / "log").read_text().splitlines() if line[:1].isdigit()
        }
        for pid in pids:
            with suppress(FileNotFoundError, ProcessLookupError):
                # By its number, and only if that is not somebody else's by now.
                if str(self.directory / "program.py") in Path(f"/proc/{pid}/cmdline").read_text():
                    os.kill(pid, signal.SIGKILL)
                    end_of(pid)
        for process in self.started:
            process.kill()
            process.communicate()


@pytest.fixture
def place() -> Iterator[Place]:
    with tempfile.TemporaryDirectory(prefix="monsal-test-") as made:
        Path(made).chmod(0o755)
        place = Place(Path(made))
        yield place
        place.close()


# Daemons


@pytest.mark.rule("bus.B14")
def test_the_parent_stays_until_the_daemon_is_started_and_then_succeeds(place: Place) -> None:
    parent = place.start(
        """
        print("this text is written once", end="")
        Daemonizer(bus).subscribe()
        PIDFile(bus, "daemon.pid").subscribe()
        bus.subscribe("start", gate, 90)
        """
    )
    daemon = place.daemon()
    assert daemon != parent.pid
    place.wait_said("PID ")
    assert parent.poll() is None
    assert "Bus STARTED" not in place.said()
    place.open_gate()
    assert parent.communicate(timeout=PATIENCE) == ("this text is written once", "")
    assert parent.returncode == 0
    assert place.said(daemon)[-1] == "Bus STARTED"
    assert PIDLock(place.directory / "daemon.pid").read() == daemon
    assert "atexit" not in place.said(), "what is done at the end of the program is the daemon's to do"
    os.kill(daemon, signal.SIGTERM)
    assert end_of(daemon)
    assert place.said(daemon)[-1] == "atexit"
    assert place.said().count("atexit") == 1
    assert not (place.directory / "daemon.pid").exists()


@pytest.mark.rule("bus.B14")
def test_a_failed_start_is_code_1_with_the_text_and_the_exit_listeners_run_in_the_daemon(place: Place) -> None:
    code, out, err = place.run(
        """
        def fails():
            raise ValueError("the port is taken")
        Daemonizer(bus).subscribe()
        PIDFile(bus, "daemon.pid").subscribe()
        bus.subscribe("start", fails, 90)
        """
    )
    assert (code, out) == (1, "")
    assert err.count("ValueError: the port is taken") == 1
    assert "Shutting down due to error in start listener:" in err
    daemon = place.daemon()
    assert end_of(daemon)
    assert place.said().count("Bus EXITED") == place.said(daemon).count("Bus EXITED") == 1
    assert not (place.directory / "daemon.pid").exists()


@pytest.mark.rule("bus.B14")
@pytest.mark.parametrize(
    ("end", "code", "text"),
    [
        ("os._exit(7)", 7, ""),
        ("os.kill(os.getpid(), signal.SIGKILL)", 128 + signal.SIGKILL, ""),
        ("os._exit(0)", 1, ""),
        ("sys.exit(3)", 3, "The bus was stopped before it was STARTED: SystemExit(3)\n"),
        ("sys.exit('no such thing')", 1, "The bus was stopped before it was STARTED: SystemExit('no such thing')\n"),
        ("bus.exit()", 1, "The bus was stopped before it was STARTED\n"),
    ],
)
def test_a_daemon_that_ends_before_it_is_started_ends_the_parent_with_its_code(
    place: Place, end: str, code: int, text: str
) -> None:
    result = place.run(f"Daemonizer(bus).subscribe()\nbus.subscribe('start', lambda: {end})\n")
    assert result == (code, "", text)
    assert end_of(place.daemon())


@pytest.mark.rule("bus.B14")
def test_threads_watch_and_callbacks_live_in_the_daemon_and_the_umask_is_kept(place: Place) -> None:
    """(C15)"""
    (place.directory / "out").write_text("before\n")
    code, out, err = place.run(
        """
        os.umask(0o027)
        asked, facts = threading.Event(), {}

        def lives():
            asked.wait()
            mask = os.umask(0)
            print(json.dumps({**facts, "umask": mask, "sid": os.getsid(0), "cwd": os.getcwd()}), flush=True)
            print("an error", file=sys.stderr, flush=True)
            say("told")

        async def started():
            facts["async"] = True

        Daemonizer(bus, stdout="out", stderr="out").subscribe()
        bus.subscribe("start", threading.Thread(target=lives).start)
        bus.subscribe("start", started)
        bus.subscribe("graceful", asked.set)
        bus.start_with_callback(lambda: (facts.update(callback=os.getpid()), say("called back")))
        bus.block()
        """
    )
    daemon = place.daemon()
    assert (code, out, err) == (0, "", "")
    place.wait_said("called back")
    os.kill(daemon, signal.SIGUSR1)
    place.wait_said("told")
    before, facts, error = (place.directory / "out").read_text().splitlines()
    assert (before, error) == ("before", "an error")
    found = json.loads(facts)
    assert found.pop("sid") not in (daemon, os.getsid(0))
    assert found == {"async": True, "callback": daemon, "umask": 0o027, "cwd": str(place.directory)}
    links = [os.readlink(f"/proc/{daemon}/fd/{number}") for number in (0, 1, 2)]
    assert links == ["/dev/null", *[str(place.directory / "out")] * 2]
    assert not any("do not survive" in line for line in place.said())


@pytest.mark.rule("bus.B6", "bus.B14")
def test_a_start_listener_that_hangs_in_the_daemon_is_given_up(place: Place) -> None:
    code, _, err = place.run(
        """
        def hangs():
            gate()
        hangs.limit = 0.2
        Daemonizer(bus).subscribe()
        bus.subscribe("start", hangs)
        bus.subscribe("exit", lambda: os._exit(9), 99)
        """
    )
    assert code == 9
    assert "took more than 0.2 seconds" in err


@pytest.mark.rule("bus.B14")
def test_who_waits_for_the_daemon_may_take_longer_than_a_listener(place: Place) -> None:
    """The parent waits in a start listener of its own bus, where nobody may give it up."""
    parent = place.start(
        """
        from monsal.bus import Limits
        bus.limits = Limits(start=2.0, hurry=2.0)
        plugin = Daemonizer(bus)
        plugin.subscribe()
        def waits():
            gate()
        waits.limit = 30
        bus.subscribe("start", waits)
        """
    )
    daemon = place.daemon()
    wait_until(lambda: Path(f"/proc/{daemon}/stat").read_text().split()[2] == "S", "a daemon that waits")
    # Two limits later nobody has said anything.
    assert not end_of(parent.pid, 4.5)
    place.open_gate()
    assert parent.wait(PATIENCE) == 0
    wrong = ("has run for", "took more")
    assert not [line for line in place.said() if any(word in line for word in wrong) and "Daemonizer" in line]


@pytest.mark.rule("bus.B10", "bus.B14")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_start_can_be_broken_off_at_the_process_that_was_started(place: Place, number: signal.Signals) -> None:
    parent = place.start("Daemonizer(bus).subscribe()\nbus.subscribe('start', gate)\n")
    daemon = place.daemon()
    parent.send_signal(number)
    wait_until(lambda: f"Caught signal {number.name}." in place.said(daemon), "the signal at the daemon")
    place.open_gate()
    assert parent.communicate(timeout=PATIENCE) == ("", "The bus was stopped before it was STARTED\n")
    assert parent.returncode == 1
    assert end_of(daemon)
    assert "Bus EXITED" in place.said(daemon)


def test_a_hangup_of_the_terminal_does_not_break_the_start_off(place: Place) -> None:
    parent = place.start("Daemonizer(bus).subscribe()\nbus.subscribe('start', gate)\n")
    place.daemon()
    os.killpg(parent.pid, signal.SIGHUP)
    place.open_gate()
    assert parent.wait(PATIENCE) == 0
    assert not any("SIGHUP caught" in line for line in place.said())


def test_a_daemon_whose_parents_were_killed_goes_on(place: Place) -> None:
    parent = place.start("Daemonizer(bus).subscribe()\nbus.subscribe('start', gate)\n")
    daemon = place.daemon()
    between = int(Path(f"/proc/{daemon}/stat").read_text().rpartition(")")[2].split()[1])
    for pid in (parent.pid, between):
        os.kill(pid, signal.SIGKILL)
        assert end_of(pid)
    place.open_gate()
    place.wait_said("Bus STARTED")
    assert not any("Error" in line for line in place.said())


@pytest.mark.rule("bus.B14")
def test_streams_that_were_closed_are_no_reason_to_mix_up_files(place: Place) -> None:
    code, _, _ = place.run(
        """
        Daemonizer(bus, stdout="out", stderr="err").subscribe()
        for number in range(3):
            os.close(number)
        """
    )
    assert code == 0
    daemon = place.daemon()
    links = [os.readlink(f"/proc/{daemon}/fd/{number}") for number in (0, 1, 2)]
    assert links == ["/dev/null", str(place.directory / "out"), str(place.directory / "err")]


@pytest.mark.rule("bus.B14", "bus.B15")
def test_a_hangup_restarts_the_daemon_in_its_place_as_often_as_it_comes(place: Place) -> None:
    """(#1259: a daemon with a PID file)"""
    code, _, err = place.run("Daemonizer(bus).subscribe()\nPIDFile(bus, 'daemon.pid').subscribe()\n")
    assert (code, err) == (0, "")
    daemon = place.daemon()
    lock = PIDLock(place.directory / "daemon.pid")
    for times in (2, 3):
        os.kill(daemon, signal.SIGHUP)
        place.wait_said("Bus STARTED", times)
        assert lock.read() == daemon
    assert place.said(daemon).count("SIGHUP caught while daemonized. Restarting.") == 2
    assert place.said(daemon).count("This is a daemon already.") == 2
    assert not any("stale" in line for line in place.said())
    os.kill(daemon, signal.SIGTERM)
    assert end_of(daemon)
    assert lock.read() is None


# Other users


def nobody() -> pwd.struct_passwd:
    return pwd.getpwnam("nobody")


def another() -> str:
    """A user to become: nobody, or one who is refused to nobody."""
    return "root" if os.getuid() == nobody().pw_uid else "nobody"


#: Where the bus is, for an interpreter of the system.
ENVIRON = {**os.environ, "PYTHONPATH": str(Path(monsal.bus.__file__).parents[2])}


def interpreter_of_nobody() -> str | None:
    """An interpreter that user can run, with the bus: without one a restart after the drop cannot succeed."""
    user = nobody()
    options: dict[str, Any] = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": [user.pw_gid], "cwd": "/"}
    for python in (sys.executable, "/usr/bin/python3", "/usr/local/bin/python3"):
        with suppress(PermissionError, FileNotFoundError):
            command = [python, "-c", "import monsal.bus"]
            done = subprocess.run(command, check=False, capture_output=True, timeout=PATIENCE, env=ENVIRON, **options)
            if done.returncode == 0:
                return python
    return None


FACTS = """
def facts():
    back = []
    for call in (os.setuid, os.seteuid, os.setgid, os.setegid, lambda number: os.setgroups([number])):
        try:
            call(0)
            back.append(True)
        except PermissionError:
            back.append(False)
    mask = os.umask(0o027)
    os.write(early, b"written afterwards")
    say("facts " + json.dumps({
        "uids": os.getresuid(), "gids": os.getresgid(), "groups": sorted(os.getgroups()), "back": back,
        "umask": mask, "home": os.environ["HOME"], "user": os.environ["USER"],
        "threads": [line for line in (Path("/proc/self/task") / str(other[0]) / "status").read_text().splitlines()
                    if line.startswith("Uid")][0].split()[1:],
    }))
"""


@pytest.mark.rule("bus.B14")
def test_privileges_are_dropped_for_good_and_what_was_opened_before_stays_open(place: Place) -> None:
    extra = {"extra_groups": [0, 4, 27]} if os.getuid() == 0 else {}
    (place.directory / "root").mkdir(mode=0o700)
    program = (
        FACTS
        + """
early = os.open("root/early", os.O_WRONLY | os.O_CREAT, 0o600)
ready, over, other = threading.Event(), threading.Event(), []

def lives():
    other.append(threading.get_native_id())
    ready.set()
    over.wait()

threading.Thread(target=lives, daemon=True).start()
ready.wait()
DropPrivileges(bus, umask="027", uid=sys.argv[1]).subscribe()
PIDFile(bus, "root/server.pid").subscribe()
bus.subscribe("start", facts, 78)
bus.subscribe("start", lambda: bus.exit(), 90)
"""
    )
    code, _, err = place.run(program, arguments=(another(),), **extra)
    if os.getuid() != 0:
        assert code == 1
        assert "only root can become user" in err
        assert not any(line.startswith("facts") for line in place.said())
        return
    assert (code, err) == (0, "")
    user = nobody()
    facts = json.loads(next(line for line in place.said() if line.startswith("facts "))[6:])
    assert facts == {
        "uids": [user.pw_uid] * 3,
        "gids": [user.pw_gid] * 3,
        "groups": sorted(set(os.getgrouplist("nobody", user.pw_gid))),
        "back": [False] * 5,
        "umask": 0o027,
        "home": user.pw_dir,
        "user": "nobody",
        "threads": [str(user.pw_uid)] * 4,
    }
    assert (place.directory / "root" / "early").read_text() == "written afterwards"
    # Its directory is not writable any more; a PID that will be somebody else's is not left there.
    assert (place.directory / "root" / "server.pid").read_text() == ""
    assert any("server.pid emptied" in line for line in place.said())


@pytest.mark.rule("bus.B14")
def test_a_restart_after_the_drop_goes_on_as_that_user_with_the_pid_file_of_root(place: Place) -> None:
    """(#1211: the fresh process failed, because it could not drop again)"""
    (place.directory / "run").mkdir(mode=0o755)
    python = interpreter_of_nobody() if os.getuid() == 0 else None
    again = python is not None
    program = f"""
        DropPrivileges(bus, umask="022", uid="{another()}").subscribe()
        PIDFile(bus, "run/server.pid").subscribe()
        marker = Path("/proc/self/environ").read_bytes().count(b"ONCE=yes")
        os.environ["ONCE"] = "yes"
        if {again} and not marker:
            bus.subscribe("start", lambda: bus.restart(), 90)
        elif {again}:
            bus.subscribe("start", lambda: (say(Path("run/server.pid").read_text()), bus.exit()), 90)
        else:
            from monsal.bus import drop_privileges
            bus.subscribe("start", lambda: (drop_privileges(uid="nobody", log=say), bus.exit()), 90)
        """
    process = place.start(program, python or sys.executable, env=ENVIRON)
    out, err = process.communicate(timeout=PATIENCE)
    if os.getuid() != 0:
        assert process.returncode == 1
        assert "only root can become user" in err
        return
    assert (process.returncode, out, err) == (0, "", "")
    user = nobody()
    already = f"No privileges to drop: already uid {user.pw_uid}, gid {user.pw_gid}"
    assert sum(line.startswith(already) for line in place.said(process.pid)) == 1
    if again:
        assert str(process.pid) in place.said(process.pid)
        assert any("server.pid left" in line for line in place.said())
        lock = PIDLock(place.directory / "run" / "server.pid")
        assert lock.take() == process.pid, "free again, and stale"
        lock.give_back()


@pytest.mark.rule("bus.B14")
def test_daemon_pid_file_and_user_together(place: Place) -> None:
    """In this order: daemon, PID file with its pid, user."""
    uid = nobody().pw_uid if os.getuid() == 0 else os.getuid()
    gid = nobody().pw_gid if os.getuid() == 0 else os.getgid()
    code, _, err = place.run(
        f"""
        DropPrivileges(bus, uid={uid}, gid={gid}).subscribe()
        PIDFile(bus, "daemon.pid").subscribe()
        Daemonizer(bus).subscribe()
        """
    )
    daemon = place.daemon()
    assert (code, err) == (0, "")
    steps = [line.split(":")[0].split()[0] for line in place.said(daemon)]
    assert steps == ["Daemonized", "PID", *(["Privileges"] * 2 if os.getuid() == 0 else ["No"]), "Bus"]
    assert f"Uid:\t{uid}\t{uid}\t{uid}\t{uid}" in Path(f"/proc/{daemon}/status").read_text()
    assert PIDLock(place.directory / "daemon.pid").read() == daemon
    again, _, err = place.run("PIDFile(bus, 'daemon.pid').subscribe()\n")
    assert again == 1
    assert f"daemon.pid is held by process {daemon}" in err
    os.kill(daemon, signal.SIGTERM)
    assert end_of(daemon)
