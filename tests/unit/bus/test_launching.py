"""Fresh processes that are waited for: ready, failed, late, given up."""

from __future__ import annotations

import os
import socket
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from monsal.bus import Launched, LaunchFailed, launch
from monsal.bus.inner.launched import child_environ

#: How long a launch that is certain to succeed may take.
PATIENCE = 60.0

BEGINNING = """
import os, signal, socket, subprocess, sys
from monsal.bus import Bus, listen_fds, notify
from monsal.bus.inner.launched import settle_manager, settle_stderr

def say(text):
    print(text, file=sys.stderr, flush=True)

def ready():
    settle_stderr(os.environ)
    notify("READY=1")
    settle_manager(os.environ)
"""


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Callable[..., Launched]]:
    """Launch a program that goes on after `BEGINNING`; it is ended with the test."""
    with ExitStack() as stack:

        def runs(code: str, **options: Any) -> Launched:
            script = tmp_path / "program.py"
            script.write_text(BEGINNING + textwrap.dedent(code), encoding="utf-8")
            launched = launch([sys.executable, script], **{"limit": PATIENCE, **options})
            stack.callback(launched.process.wait)
            stack.callback(launched.process.kill)
            return launched

        yield runs


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ours, theirs = os.pipe()
    yield ours, theirs
    for end in (ours, theirs):
        os.close(end)


WAIT = "signal.pause()"


@pytest.mark.rule("bus.B11")
def test_a_launch_returns_when_the_process_is_ready(run: Callable[..., Launched]) -> None:
    heard: list[str] = []
    launched = run(
        f"""
        say("hello")
        notify("STATUS=one")
        notify("STATUS=two")
        ready()
        {WAIT}
        """,
        on_status=heard.append,
    )
    assert launched.process.poll() is None
    assert launched.pid == launched.process.pid
    assert (launched.status, launched.output, heard) == ("two", "hello\n", ["one", "two"])
    assert launched.seconds > 0


@pytest.mark.rule("bus.B11")
def test_a_process_that_fails_is_told_with_its_traceback_and_code(run: Callable[..., Launched]) -> None:
    with pytest.raises(LaunchFailed) as failed:
        run(
            """
            notify("STATUS=opening the store")
            raise OSError("no such disk")
            """
        )
    assert failed.value.code == 1
    assert "OSError: no such disk" in failed.value.output
    text = str(failed.value)
    assert "ended with code 1 before it was ready (its last status: opening the store)" in text
    assert "OSError: no such disk" in text


def test_a_syntax_error_is_told_as_well(run: Callable[..., Launched]) -> None:
    with pytest.raises(LaunchFailed, match="SyntaxError"):
        run("this is no python")


def test_a_program_that_is_not_there_is_an_error_of_the_system() -> None:
    with pytest.raises(FileNotFoundError):
        launch(["/no/such/program"])


def test_an_end_with_code_0_is_no_readiness(run: Callable[..., Launched]) -> None:
    with pytest.raises(LaunchFailed, match="ended with code 0 before it was ready"):
        run("")


def test_ready_and_dead_is_dead(run: Callable[..., Launched]) -> None:
    with pytest.raises(LaunchFailed, match="ended with code 3 before it was ready"):
        run(
            """
            notify(f"STATUS={os.getpid()}")
            ready()
            sys.exit(3)
            """,
            # The launcher looks again when the process has said so and has ended.
            on_status=lambda pid: os.waitid(os.P_PID, int(pid), os.WEXITED | os.WNOWAIT),
        )


def test_one_that_was_ready_and_ended_in_order_was_ready(run: Callable[..., Launched]) -> None:
    launched = run(
        """
        notify(f"STATUS={os.getpid()}")
        ready()
        """,
        on_status=lambda pid: os.waitid(os.P_PID, int(pid), os.WEXITED | os.WNOWAIT),
    )
    assert launched.process.returncode == 0


def test_a_check_is_waited_for_to_its_end(run: Callable[..., Launched]) -> None:
    done = run("say('all well')", until="end")
    assert (done.process.returncode, done.output) == (0, "all well\n")
    with pytest.raises(LaunchFailed) as failed:
        run("say('not well'); sys.exit(78)", until="end")
    assert (failed.value.code, failed.value.output) == (78, "not well\n")


@pytest.mark.rule("bus.B11")
def test_a_late_process_is_ended_and_waited_for(run: Callable[..., Launched]) -> None:
    with pytest.raises(LaunchFailed, match="was not ready in time") as failed:
        run(WAIT, limit=0.2)
    assert failed.value.code == -15


class Clock:
    """A clock that jumps a thousand seconds at the first status."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return monotonic() + self.ahead

    def jump(self, status: str) -> None:
        self.ahead = 1000.0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr("monsal.bus.launching.monotonic", made)
    return made


def test_a_late_process_that_does_not_want_to_end_is_killed(
    run: Callable[..., Launched], clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("monsal.bus.launching.GRACE", 0.1)
    with pytest.raises(LaunchFailed, match="its last status: deaf") as failed:
        run(
            f"""
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            notify("STATUS=deaf")
            while True:
                {WAIT}
            """,
            on_status=clock.jump,
        )
    assert failed.value.code == -9


def test_more_time_is_granted_when_it_is_asked_for(run: Callable[..., Launched], clock: Clock) -> None:
    launched = run(
        f"""
        notify("EXTEND_TIMEOUT_USEC=3600000000", "STATUS=asked")
        ready()
        {WAIT}
        """,
        on_status=clock.jump,
    )
    assert launched.seconds > 1000


def test_a_launch_is_given_up_when_it_is_cancelled(run: Callable[..., Launched], pipe: tuple[int, int]) -> None:
    ours, theirs = pipe
    with pytest.raises(LaunchFailed, match="was given up before it was ready") as failed:
        run(
            f"""
            notify("STATUS=here")
            {WAIT}
            """,
            cancel=ours,
            on_status=lambda text: os.write(theirs, b"x"),
        )
    assert failed.value.code == -15


def test_the_process_is_ended_if_who_waits_is_interrupted(run: Callable[..., Launched]) -> None:
    def interrupts(text: str) -> None:
        pids.append(int(text))
        raise KeyboardInterrupt

    pids: list[int] = []
    with pytest.raises(KeyboardInterrupt):
        run(
            f"""
            notify(f"STATUS={{os.getpid()}}")
            {WAIT}
            """,
            on_status=interrupts,
        )
    with pytest.raises(ProcessLookupError):
        os.kill(pids[0], 0)


def test_standard_error_goes_where_it_belongs_once_the_process_is_ready(
    run: Callable[..., Launched], tmp_path: Path
) -> None:
    log = tmp_path / "log"
    with log.open("wb") as final:
        launched = run(
            f"""
            say("before")
            ready()
            say("after")
            signal.raise_signal(signal.SIGSTOP)
            {WAIT}
            """,
            stderr=final.fileno(),
        )
    os.waitid(os.P_PID, launched.pid, os.WSTOPPED | os.WNOWAIT)
    assert log.read_text() == "before\nafter\n"
    assert launched.output == "before\n"


def test_without_capture_standard_error_is_where_it_belongs_at_once(
    run: Callable[..., Launched], tmp_path: Path
) -> None:
    log = tmp_path / "log"
    with log.open("wb") as final, pytest.raises(LaunchFailed) as failed:
        run("raise OSError('no such disk')", stderr=final.fileno(), capture=False)
    assert failed.value.output == ""
    assert "no such disk" in log.read_text()


def test_of_a_lot_of_output_the_end_is_shown(run: Callable[..., Launched]) -> None:
    with pytest.raises(LaunchFailed) as failed:
        run("""
            for number in range(100_000):
                say(f"line {number}")
            raise OSError("no such disk")
        """)
    assert len(failed.value.output) <= 17_000
    assert failed.value.output.startswith("...\nline ")
    assert failed.value.output.endswith("OSError: no such disk\n")


def test_a_stranger_cannot_say_that_the_process_is_ready(run: Callable[..., Launched], monkeypatch: Any) -> None:
    def pretends(address: str) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as stranger:
            stranger.sendto(b"READY=1\nSTATUS=pretended", "\0" + address[1:])

    with pytest.raises(LaunchFailed, match="ended with code 5") as failed:
        run(
            """
            notify("STATUS=" + os.environ["NOTIFY_SOCKET"])
            signal.sigtimedwait([], 0.3)
            sys.exit(5)
            """,
            on_status=pretends,
        )
    assert "pretended" not in str(failed.value)


def test_who_is_started_by_the_process_may_speak_for_it(run: Callable[..., Launched]) -> None:
    launched = run(
        f"""
        child = subprocess.Popen([sys.executable, "-c", "from monsal.bus import notify; notify('READY=1')"
                                  "; import signal; signal.pause()"])
        signal.signal(signal.SIGTERM, lambda *_: (child.kill(), child.wait(), sys.exit()))
        {WAIT}
        """
    )
    assert launched.process.poll() is None
    launched.process.terminate()
    assert launched.process.wait(PATIENCE) == 0


@pytest.mark.rule("bus.B11")
def test_sockets_session_and_directory_are_as_asked_for(run: Callable[..., Launched], tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        launched = run(
            f"""
            [one] = listen_fds()["smtp"]
            say([one.getsockname()[1], os.getsid(0) == os.getpid(), os.getcwd(), sys.stdin.read()])
            ready()
            {WAIT}
            """,
            sockets={"smtp": [listening]},
            new_session=True,
            cwd=tmp_path,
        )
        assert launched.output == f"[{listening.getsockname()[1]}, True, {str(tmp_path)!r}, '']\n"


@pytest.mark.rule("bus.B13")
def test_an_heir_reports_to_the_service_manager_once_it_is_ready(run: Callable[..., Launched]) -> None:
    code = f"""
        names = ("NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC", "LISTEN_FDS")
        ready()
        sys.stdout.write(repr([os.environ.get(name) for name in names]))
        sys.stdout.flush()
        {WAIT}
    """
    ours = {**os.environ, "NOTIFY_SOCKET": "/nowhere", "WATCHDOG_USEC": "5", "WATCHDOG_PID": "1", "LISTEN_FDS": "1"}
    for heir, left in ((True, ["/nowhere", None, "5", None]), (False, [None, None, None, None])):
        out, into = os.pipe()
        with open(out, "rb") as reads:
            run(code, environ=ours, heir=heir, stdout=into)
            os.close(into)
            assert reads.read(len(repr(left))).decode() == repr(left)


def test_what_only_we_were_meant_to_get_is_not_passed_on() -> None:
    ours = {"LISTEN_PID": "1", "LISTEN_FDNAMES": "a", "MONSAL_LAUNCH_STDERR": "1:2:3", "PATH": "/bin"}
    assert child_environ(ours, address="@a", stderr=None, heir=False) == {
        "PATH": "/bin",
        "NOTIFY_SOCKET": "@a",
        "MONSAL_LAUNCH_MANAGER": "",
    }


def test_a_process_that_was_let_go_is_nobodys_concern(run: Callable[..., Launched]) -> None:
    launched = run(f"ready(); {WAIT}")
    launched.let_go()
    assert launched.process.returncode == 0
    os.kill(launched.pid, 9)
    os.waitpid(launched.pid, 0)
