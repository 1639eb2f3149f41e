"""Processes that are measured: what they run in, what they use, how long they need to start and to end."""

from __future__ import annotations

import json
import os
import select
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from bench.harness import Failed

__all__ = [
    "ROOT",
    "Child",
    "cpu_seconds",
    "family",
    "family_cpu",
    "our_environment",
    "plain_environment",
    "probe",
    "probe_module",
    "switches",
    "thread_cpu",
    "ticks",
]

ROOT = Path(__file__).resolve().parent.parent
_TICK = os.sysconf("SC_CLK_TCK")
#: Seconds after which something that should have happened will not.
_PATIENCE = 30.0


def plain_environment() -> dict[str, str]:
    """The environment without what would change how Python or the product runs."""
    ours = ("PYTHON", "MONSAL_", "NOTIFY_SOCKET", "LISTEN_", "WATCHDOG_", "VIRTUAL_ENV")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)}


def our_environment(**more: str) -> dict[str, str]:
    """The same with the sources of this tree, whatever is installed."""
    return {**plain_environment(), "PYTHONPATH": str(ROOT / "src"), **more}


def cpu_seconds(pid: int) -> float:
    """Seconds of CPU that a process has used, ended threads included, in steps of a clock tick (proc(5))."""
    return ticks(Path(f"/proc/{pid}/stat").read_text())[0] / _TICK


def family(pid: int) -> list[int]:
    """A process and all below it that are alive."""
    found = [pid]
    for text in _of_threads(pid, "children"):
        for child in text.split():
            # It may have ended since.
            with suppress(Failed):
                found += family(int(child))
    return found


def family_cpu(pid: int) -> float:
    """Seconds of CPU of a process and all below it, those that have ended and were waited for included (proc(5))."""
    used = 0.0
    for member in family(pid):
        with suppress(Failed, FileNotFoundError, ProcessLookupError):
            own, waited = ticks(Path(f"/proc/{member}/stat").read_text())
            # A process of a hundred that each worked for less than a tick has no tick; but its threads have their time.
            used += max(own / _TICK, thread_cpu(member)) + waited / _TICK
    return used


def ticks(stat: str) -> tuple[int, int]:
    """Clock ticks that a process used, and those of its children that it has waited for, by its `stat` (proc(5))."""
    # Its name is in brackets, and may have spaces and brackets itself.
    fields = stat.rpartition(")")[2].split()
    user, system, waited_user, waited_system = (int(field) for field in fields[11:15])
    return user + system, waited_user + waited_system


def thread_cpu(pid: int) -> float:
    """Seconds of CPU that the living threads of a process have used, to the nanosecond."""
    return sum(int(text.split()[0]) for text in _of_threads(pid, "schedstat")) / 1e9


def switches(pid: int) -> int:
    """How often the living threads of a process gave up the CPU of their own accord: each is a wake-up before."""
    found = 0
    for text in _of_threads(pid, "status"):
        found += int(text.partition("\nvoluntary_ctxt_switches:")[2].split()[0])
    return found


def _of_threads(pid: int, name: str) -> list[str]:
    texts = []
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
    except FileNotFoundError as error:
        raise Failed("it ended by itself") from error
    for task in tasks:
        # A thread may end between the listing and the reading.
        with suppress(FileNotFoundError, ProcessLookupError):
            texts.append((task / name).read_text())
    return texts


def probe(command: Sequence[str], environment: Mapping[str, str]) -> dict[str, Any]:
    """Run a probe that prints a JSON object as its last line. Raises Failed with its last words."""
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Failed(f"exit code {done.returncode}: {_last(done.stderr)}")
    found: dict[str, Any] = json.loads(_last(done.stdout))
    return found


def probe_module(name: str, *words: object) -> dict[str, Any]:
    """Run the probe `bench.probes.<name>` with these words, and our interpreter. Raises Failed."""
    # It imports this package, too, and so do processes that it starts.
    environ = our_environment(PYTHONPATH=f"{ROOT / 'src'}:{ROOT}")
    return probe([sys.executable, "-m", f"bench.probes.{name}", *map(str, words)], environ)


def _last(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1] if lines else "nothing was said"


class Child:
    """A process that says when it is ready, by a line with `mark` on standard output or error.

    with Child(command, environment, mark=b"ready") as child:
        child.wait_ready()
        child.end()
    """

    def __init__(
        self, command: Sequence[str], environment: Mapping[str, str], *, mark: bytes, on_error: bool = False
    ) -> None:
        self._mark = mark
        # What it says elsewhere is kept for the case that it fails; a file takes it all, a pipe would fill.
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed in __exit__
        self._began = time.monotonic()
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": self._log}
        if on_error:
            pipes = {"stdout": self._log, "stderr": subprocess.PIPE}
        self.process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, **pipes)
        stream: IO[bytes] | None = self.process.stderr if on_error else self.process.stdout
        assert stream is not None
        self._stream = stream
        self._ended = False

    @property
    def pid(self) -> int:
        return self.process.pid

    def wait_ready(self, timeout: float = _PATIENCE) -> tuple[float, float]:
        """Seconds from its making until it was ready, and the CPU seconds it needed. Raises Failed."""
        self.wait_line(self._mark, timeout)
        return time.monotonic() - self._began, thread_cpu(self.pid)

    def wait_line(self, mark: bytes, timeout: float = _PATIENCE) -> bytes:
        """The first line with `mark` in it. Raises Failed if it ends before, or says nothing for too long."""
        said = b""
        with selectors.DefaultSelector() as selector:
            selector.register(self._stream, selectors.EVENT_READ)
            until = time.monotonic() + timeout
            while True:
                for line in said.splitlines(keepends=True):
                    if mark in line and line.endswith(b"\n"):
                        return line
                if not selector.select(max(0.0, until - time.monotonic())):
                    raise Failed(f"not ready within {timeout:g} s")
                more = os.read(self._stream.fileno(), 65536)
                if not more:
                    self._log.seek(0)
                    words = said.decode("utf-8", "replace") + self._log.read().decode("utf-8", "replace")
                    raise Failed(f"ended before it was ready: {_last(words)}")
                said += more

    def end(self) -> tuple[float, float]:
        """Send SIGTERM; seconds until the process has ended, and the CPU seconds from then on. Raises Failed."""
        before = thread_cpu(self.pid)
        asked = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        ended = os.pidfd_open(self.pid)
        try:
            if not select.select([ended], [], [], _PATIENCE)[0]:
                raise Failed(f"did not end within {_PATIENCE:g} s of SIGTERM")
        finally:
            os.close(ended)
        _, status, usage = os.wait4(self.pid, 0)
        passed = time.monotonic() - asked
        self._ended = True
        self.process.returncode = code = os.waitstatus_to_exitcode(status)
        if code:
            raise Failed(f"exit code {code} after SIGTERM")
        return passed, max(0.0, usage.ru_utime + usage.ru_stime - before)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if not self._ended:
            self.process.kill()
            self.process.wait()
        self._stream.close()
        self._log.close()
