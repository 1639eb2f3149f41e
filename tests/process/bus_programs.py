"""Programs that run a bus in a process of their own, for tests of real signals, real ends and real re-execution.

Nothing sleeps to wait for something: the test reads what the child says, line by line, and the child waits for its
standard input. A child that says nothing is ended by the time limit of the tests.
"""

from __future__ import annotations

import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

__all__ = ["BEGINNING", "END", "EXITED", "IDLE", "PATIENCE", "STOPPED", "Child", "programs", "sleeps", "switches"]

#: How long a child may take to end when it was told to.
PATIENCE = 60.0

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


def switches(pid: int) -> dict[str, str]:
    """How often each thread of a process went to sleep; empty if one has just ended."""
    try:
        return {
            task.name: (task / "status").read_text().partition("\nvoluntary_ctxt_switches:")[2].split()[0]
            for task in Path(f"/proc/{pid}/task").iterdir()
        }
    except (FileNotFoundError, ProcessLookupError):
        return {}


def sleeps(pid: int, threads: int | None = None, *, seconds: float = 2.0) -> bool:
    """Whether a process, of so many threads, is not woken for `seconds`; each of its threads, for all that time.

    What it still has to do after its start takes longer on a busy machine, and a page that is read from the disk is a
    sleep too: so it may take some looks until it is found asleep. Who is woken regularly never is.
    """
    for _ in range(20):
        before = switches(pid)
        if threads in (None, len(before)):
            time.sleep(seconds)
            if before and switches(pid) == before:
                return True
        else:
            time.sleep(0.1)
    return False


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
        while True:
            now = status.read_text()
            # On a busy machine who is ready to run may wait as long; that is no sleep.
            if "State:\tS" in now and now.partition("voluntary_ctxt_switches")[2] == before:
                return
            before = now.partition("voluntary_ctxt_switches")[2]
            time.sleep(0.1)

    def end(self) -> tuple[int, list[str], str]:
        """Wait for the end: exit code, the lines not read yet, standard error."""
        stdin, stdout, stderr = self.process.stdin, self.process.stdout, self.process.stderr
        if stdin is not None:
            stdin.close()
        assert stdout is not None
        # Not `communicate`, which does not know of the lines that came together with the last one that was read.
        lines = stdout.read().splitlines()
        errors = stderr.read() if stderr is not None else ""
        return self.process.wait(PATIENCE), lines, errors

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(PATIENCE)
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()


IDLE = """
    bus.start()
    bus.block()
    say("main is over")
"""


@contextmanager
def programs(directory: Path) -> Iterator[Callable[..., Child]]:
    """Run a program that goes on after `beginning`; all are ended with the context."""
    children: list[Child] = []

    def runs(code: str, *, beginning: str = BEGINNING, **options: Any) -> Child:
        script = directory / "program.py"
        script.write_text(beginning + textwrap.dedent(code), encoding="utf-8")
        children.append(Child([sys.executable, str(script)], directory, **options))
        return children[-1]

    try:
        yield runs
    finally:
        for child in children:
            child.close()
