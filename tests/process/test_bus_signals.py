"""The bus in real processes: real signals, real ends, real re-execution.

Nothing sleeps to wait for something: the test reads what the child says, line by line, and the child waits for its
standard input. A child that says nothing is ended by the time limit of the tests.
"""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

#: How long a child may take to end when it was told to.
PATIENCE = 30.0

BEGINNING = """
import atexit, os, sys, threading
from monsal.bus import Bus, Limits, SignalHandler

def say(text, level=20):
    print(text, flush=True)

bus = Bus()
bus.subscribe("log", say)
SignalHandler(bus).subscribe()
"""

STOPPED = ["Bus STOPPING", "Bus STOPPED"]
EXITED = ["Bus EXITING", "Bus EXITED"]
END = [*STOPPED, *EXITED, "Waiting for child threads to terminate..."]


class Child:
    """A program on its own, whose lines are read as they come."""

    def __init__(self, command: list[str], directory: Path, **options: Any) -> None:
        self.process = subprocess.Popen(
            command,
            cwd=directory,
            text=True,
            **{"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options},
        )

    def until(self, wanted: str) -> list[str]:
        """Read up to the first line that begins with `wanted`; all lines read."""
        lines = []
        assert self.process.stdout is not None
        for line in self.process.stdout:
            lines.append(line.rstrip("\n"))
            if line.startswith(wanted):
                return lines
        raise AssertionError(f"ended without {wanted!r}: {lines} {self.end()}")

    def tell(self) -> None:
        """Let the child go on that waits for a line."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def until_asleep(self) -> None:
        """Wait until the main thread has slept for a tenth of a second.

        A signal that comes while it is just about to sleep in a lock of the application runs no handler before it
        wakes; CPython has no cure for that, and nobody presses Ctrl-C twice within a millisecond.
        """
        status = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/status")
        before = ""
        while (now := status.read_text().partition("voluntary_ctxt_switches")[2]) != before:
            before = now
            time.sleep(0.1)

    def end(self) -> tuple[int, list[str], str]:
        """Wait for the end: exit code, the lines not read yet, standard error."""
        out, err = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, out.splitlines(), err or ""

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(PATIENCE)
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Callable[..., Child]]:
    """Run a program that goes on after `BEGINNING`; it is ended with the test."""
    children: list[Child] = []

    def runs(code: str, *, beginning: str = BEGINNING, **options: Any) -> Child:
        script = tmp_path / "program.py"
        script.write_text(beginning + textwrap.dedent(code), encoding="utf-8")
        children.append(Child([sys.executable, str(script)], tmp_path, **options))
        return children[-1]

    yield runs
    for child in children:
        child.close()


IDLE = """
    bus.start()
    bus.block()
    say("main is over")
"""


@pytest.mark.rule("bus.B9", "bus.R17")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_an_idle_process_cleanly(run: Callable[..., Child], number: signal.Signals) -> None:
    child = run(IDLE)
    child.until("Bus STARTED")
    child.signal(number)
    code, lines, errors = child.end()
    assert lines == [f"Caught signal {number.name}.", *END, "main is over"]
    assert (code, errors) == (0, "")


@pytest.mark.rule("bus.R17")
def test_an_interrupt_without_a_handler_of_ours_exits(run: Callable[..., Child]) -> None:
    child = run(
        """
        def main():
            bus.unsubscribe("main", main)
            say("blocking")

        bus.subscribe("main", main)
        bus.start()
        bus.block()
        say("main is over")
        """,
        beginning=BEGINNING.replace("SignalHandler(bus).subscribe()", ""),
    )
    child.until("blocking")
    child.signal(signal.SIGINT)
    code, lines, errors = child.end()
    assert lines == ["Keyboard Interrupt: shutting down bus", *END, "main is over"]
    assert (code, errors) == (0, "")


@pytest.mark.rule("bus.B10")
def test_a_signal_during_start_is_a_clean_stop(run: Callable[..., Child]) -> None:
    child = run("""
        def opens():
            say("opening")
            sys.stdin.readline()
            say("open")

        bus.subscribe("start", opens, 10)
        bus.subscribe("start", lambda: say("never"), 20)
        bus.subscribe("stop", lambda: say("closed"))
        bus.subscribe("SIGTERM", lambda: say("noted"), 90)
        bus.start()
        bus.block()
    """)
    child.until("opening")
    child.signal(signal.SIGTERM)
    assert child.until("noted") == ["Caught signal SIGTERM.", "noted"]
    child.tell()
    code, lines, errors = child.end()
    assert lines == ["open", "Bus STOPPING", "closed", "Bus STOPPED", *EXITED, END[-1]]
    assert (code, errors) == (0, "")


HANGS = """
    import signal, time

    def hangs():
        say("hanging")
        while True:
            time.sleep(1000)

    bus.limits = Limits(hurry=0.2)
    bus.subscribe("{channel}", hangs, 10)
    bus.subscribe("stop", lambda: say("stopped"), 20)
    bus.subscribe("exit", lambda: say("exited"))
    bus.start()
    bus.block()
"""


@pytest.mark.rule("bus.B9", "bus.B6")
def test_a_second_signal_gives_up_a_hanging_stop_listener(run: Callable[..., Child]) -> None:
    child = run(HANGS.format(channel="stop"))
    child.until("Bus STARTED")
    child.signal(signal.SIGTERM)
    child.until("hanging")
    child.signal(signal.SIGINT)
    code, lines, errors = child.end()
    assert lines[:2] == ["Caught signal SIGINT.", "Asked to exit again: the shutdown is hurried."]
    assert [line for line in lines if line in ("stopped", "exited", *EXITED)] == [
        "stopped",
        "Bus EXITING",
        "exited",
        "Bus EXITED",
    ]
    assert "time.sleep(1000)" in "".join(lines)
    assert code == 1
    assert "TimeoutError" in errors


@pytest.mark.rule("bus.B9")
@pytest.mark.parametrize("channel", ["start", "stop"])
def test_a_third_signal_ends_the_process_by_that_signal(run: Callable[..., Child], channel: str) -> None:
    child = run(HANGS.replace("hurry=0.2", "hurry=1000").format(channel=channel))
    if channel == "stop":
        child.until("Bus STARTED")
    else:
        child.until("hanging")
    child.signal(signal.SIGTERM)
    child.until("Caught signal SIGTERM." if channel == "start" else "hanging")
    child.until_asleep()
    child.signal(signal.SIGTERM)
    child.until("Asked to exit again")
    child.until_asleep()
    child.signal(signal.SIGTERM)
    code, _, _ = child.end()
    assert code == -signal.SIGTERM


@pytest.mark.rule("bus.B9")
def test_a_signal_is_not_lost_while_the_main_thread_is_elsewhere(run: Callable[..., Child]) -> None:
    child = run("""
        bus.start()
        sys.stdin.readline()
        say(bus.state)
    """)
    child.until("Bus STARTED")
    child.signal(signal.SIGTERM)
    assert child.until("Bus EXITED") == ["Caught signal SIGTERM.", *STOPPED, *EXITED]
    child.tell()
    assert child.end() == (0, ["states.EXITING"], "")


@pytest.mark.rule("bus.R15", "bus.B15")
@pytest.mark.parametrize(
    ("number", "lines"),
    [
        (signal.SIGUSR1, ["Caught signal SIGUSR1.", "Bus graceful"]),
        (signal.SIGHUP, ["Caught signal SIGHUP.", "SIGHUP caught without a terminal. Reloading.", "Bus graceful"]),
    ],
)
def test_a_signal_reloads_what_can_be_reloaded(
    run: Callable[..., Child], number: signal.Signals, lines: list[str]
) -> None:
    child = run(IDLE)
    child.until("Bus STARTED")
    child.signal(number)
    assert child.until("Bus graceful") == lines
    child.signal(signal.SIGTERM)
    assert child.end()[0] == 0


@pytest.mark.rule("bus.B15")
def test_a_hangup_on_a_terminal_exits(run: Callable[..., Child]) -> None:
    ours, theirs = pty.openpty()
    try:
        child = run(IDLE, stdin=theirs)
        child.until("Bus STARTED")
        child.signal(signal.SIGHUP)
        code, lines, _ = child.end()
    finally:
        os.close(ours)
        os.close(theirs)
    assert lines == ["Caught signal SIGHUP.", "SIGHUP caught on a terminal. Exiting.", *END, "main is over"]
    assert code == 0


@pytest.mark.rule("bus.R11", "bus.B4")
def test_a_failed_start_raises_its_error_and_the_interpreter_ends_properly(run: Callable[..., Child]) -> None:
    child = run("""
        def fails():
            raise OSError("no such disk")

        atexit.register(say, "at exit")
        bus.subscribe("start", fails)
        bus.subscribe("exit", lambda: say("exited"))
        sys.stdout.write("not flushed\\n")
        bus.start()
    """)
    code, lines, errors = child.end()
    assert code == 1
    assert "OSError: no such disk" in errors
    assert "in fails" in errors
    assert "not flushed" in lines
    assert lines[-3:] == ["exited", "Bus EXITED", "at exit"]


@pytest.mark.rule("bus.B4")
def test_a_failing_stop_listener_shows_in_the_exit_code_only(run: Callable[..., Child]) -> None:
    child = run("""
        def fails():
            raise OSError("no such disk")

        bus.subscribe("stop", fails)
        bus.subscribe("exit", lambda: say("exited"))
        bus.start()
        bus.block()
    """)
    child.until("Bus STARTED")
    child.signal(signal.SIGTERM)
    code, lines, errors = child.end()
    assert code == 1
    assert "exited" in lines
    assert "OSError: no such disk" in errors


@pytest.mark.rule("bus.R6", "bus.R17")
def test_system_exit_of_a_listener_is_the_exit_code(run: Callable[..., Child]) -> None:
    child = run("""
        bus.subscribe("SIGUSR2", lambda: sys.exit(7))
        bus.subscribe("exit", lambda: say("exited"))
        signals = SignalHandler(bus)
        signals.set_handler("SIGUSR2")
        bus.start()
        bus.block()
    """)
    child.until("Bus STARTED")
    child.signal(signal.SIGUSR2)
    code, lines, _ = child.end()
    assert code == 7
    assert "SystemExit raised: shutting down bus" in lines
    assert "exited" in lines


@pytest.mark.rule("bus.R21")
def test_a_bus_that_was_forgotten_is_shut_down_at_the_end_with_a_warning(run: Callable[..., Child]) -> None:
    child = run("""
        for channel in ("stop", "exit"):
            bus.subscribe(channel, lambda channel=channel: say(channel))
        bus.start()
        bus.stop()
        bus.start()
    """)
    code, lines, errors = child.end()
    assert code == 0
    assert lines[-6:] == ["Bus STOPPING", "stop", "Bus STOPPED", "Bus EXITING", "exit", "Bus EXITED"]
    assert lines.count("exit") == 1
    assert errors.count("RuntimeWarning") == 1
    assert "states.STARTED" in errors


@pytest.mark.rule("bus.B7")
def test_an_idle_process_is_never_woken(run: Callable[..., Child]) -> None:
    child = run(IDLE)
    child.until("Bus STARTED")

    def switches() -> int:
        tasks = Path(f"/proc/{child.process.pid}/task")
        lines = [line for task in tasks.iterdir() for line in (task / "status").read_text().splitlines()]
        return sum(int(line.split()[1]) for line in lines if line.startswith("voluntary_ctxt_switches"))

    # The first waiting is reached when a signal has been answered and the process sleeps again.
    child.signal(signal.SIGUSR1)
    child.until("Bus graceful")
    with pytest.raises(subprocess.TimeoutExpired):
        child.process.wait(0.2)
    before = switches()
    with pytest.raises(subprocess.TimeoutExpired):
        child.process.wait(2)
    assert switches() == before
    child.signal(signal.SIGTERM)
    assert child.end()[0] == 0


AGAIN = """
import os, sys
from monsal.bus import Bus

mark = os.environ["MARK"]
print(sys.argv[1:], sys.flags.optimize, sys.flags.dev_mode, sys.warnoptions, os.getcwd(), os.getpid(), flush=True)
if not os.path.exists(mark):
    open(mark, "w").close()
    bus = Bus()
    bus.subscribe("log", lambda msg, level: None)
    import threading
    os.chdir("/")
    bus.start()
    threading.Thread(target=bus.restart).start()
    bus.block()
"""


@pytest.mark.rule("bus.R18", "bus.R14", "bus.B11")
@pytest.mark.parametrize(
    "arguments",
    [
        ["script.py", "a b", "*"],
        ["-O", "-X", "dev", "-W", "error", "script.py"],
        ["-m", "package", "x"],
        ["-m", "package.inner"],
        ["package", "x"],
        ["-c", AGAIN, "a b"],
    ],
    ids=["script", "options", "package", "module", "directory", "code"],
)
def test_a_restart_runs_the_same_command_again_in_the_same_process(tmp_path: Path, arguments: list[str]) -> None:
    (tmp_path / "package").mkdir()
    for name in ("script.py", "package/__init__.py", "package/__main__.py", "package/inner.py"):
        (tmp_path / name).write_text("" if name.endswith("__init__.py") else AGAIN, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=tmp_path,
        env={**os.environ, "MARK": str(tmp_path / "mark")},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
    )
    first, second = done.stdout.splitlines()
    assert first == second
    assert str(tmp_path) in first


@pytest.mark.rule("bus.B11")
def test_an_exit_during_a_restart_wins(run: Callable[..., Child]) -> None:
    child = run("""
        def stops():
            say("stopping")
            sys.stdin.readline()

        bus.subscribe("stop", stops)
        bus.subscribe("SIGTERM", lambda: say("noted"), 90)
        bus.start()
        bus.restart()
        bus.block()
    """)
    child.until("stopping")
    child.signal(signal.SIGTERM)
    child.until("noted")
    child.tell()
    code, lines, _ = child.end()
    assert code == 0
    assert not any(line.startswith("Re-spawning") for line in lines)
