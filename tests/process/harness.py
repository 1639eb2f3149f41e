"""Real servers for tests: started as an operator would, watched from outside, killed without mercy.

    server = Server(make_application(home, HANDLERS))
    server.start()                      # waits for run/ready.json
    server.kill()                       # kill -9
    server.start()
    assert server.stop() == 0           # SIGTERM

Nothing here imports monsal: a server is known by its files, its sockets and its exit code (docs/interface.md).
"""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, TypeVar

__all__ = ["ROOT", "Server", "background", "make_application", "monsal_command", "rows_of", "wait_until"]

ROOT = Path(__file__).resolve().parents[2]
T = TypeVar("T")

#: How long anything may take before the test fails; far above what it needs on a busy machine.
PATIENCE = 60.0
_STEP = 0.01


def wait_until(condition: Callable[[], T], what: str, *, patience: float = PATIENCE) -> T:
    """Ask again and again until the answer is true; returns that answer.

    For what other processes do, which give no sign but a file or a row. Fails with `what` when patience ends.
    """
    end = time.monotonic() + patience
    while True:
        answer = condition()
        if answer:
            return answer
        if time.monotonic() > end:
            raise AssertionError(f"waited {patience:.0f} s in vain for {what}")
        time.sleep(_STEP)


def monsal_command() -> list[str]:
    """The console script of this environment."""
    return [str(Path(sys.executable).with_name("monsal"))]


def make_application(directory: Path, handlers: str, **settings: Any) -> Path:
    """Write app.py and handlers.py into a directory; returns it. `settings` are those of App."""
    given = {
        "store": "sqlite:///run/monsal.db",
        "ingress": ["smtp://127.0.0.1:0"],
        "relay": "capture:run/sent",
        **settings,
    }
    (directory / "handlers.py").write_text(handlers, encoding="utf-8")
    (directory / "app.py").write_text(
        "from monsal import App, literal\n\n"
        'app = App("handlers", captures={"host": literal("example.com")}, '
        + ", ".join(f"{name}={value!r}" for name, value in given.items())
        + ")\n",
        encoding="utf-8",
    )
    return directory


@contextmanager
def background(command: Sequence[str | Path], **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    """A program that runs beside the test and is ended with it, by its own pid."""
    process = subprocess.Popen([str(part) for part in command], stdin=subprocess.DEVNULL, **options)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
        process.wait()


def rows_of(database: Path, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
    """Rows of a database, read from outside and read-only, whether a server has it open or not."""
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=PATIENCE)) as connection:
        return connection.execute(sql, parameters).fetchall()


class Server:
    """One server process after the other in one application directory. Use as a context manager: it is killed at
    the end if it still runs. `wrapper` is put before the command (strace)."""

    def __init__(
        self, directory: Path, *, wrapper: Sequence[str] = (), environ: Mapping[str, str] | None = None
    ) -> None:
        self.directory = directory
        self.ready_file = directory / "run" / "ready.json"
        self.database = directory / "run" / "monsal.db"
        self.log_file = directory / "server.log"
        self.ready: dict[str, Any] = {}
        self.process: subprocess.Popen[bytes] | None = None
        self._wrapper = list(wrapper)
        self._environ = {**os.environ, **(environ or {})}

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process is None:
            return
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        # Processes of its own end by themselves; who is left after that would write to a directory that is removed.
        wait_until(lambda: not self.left_behind(), f"the end of {self.left_behind()}")

    def spawn(self, *arguments: str) -> None:
        """Start a process and do not wait for anything."""
        command = [*self._wrapper, *monsal_command(), "run", "--dir", str(self.directory), *arguments]
        with self.log_file.open("ab") as log:
            # A session of its own: what it starts ends with it, and a signal for the tests is none for it.
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self._environ, start_new_session=True
            )

    def wait_ready(self) -> dict[str, Any]:
        """Wait for the ready.json of the process that was started last; what it says."""
        before = self.ready.get("pid")

        def announced() -> dict[str, Any] | None:
            process = self.process
            if process is None or process.poll() is not None:
                code = None if process is None else process.returncode
                raise AssertionError(f"the server ended with {code} before it was ready:\n{self.log()}")
            try:
                facts: dict[str, Any] = json.loads(self.ready_file.read_bytes())
            except FileNotFoundError:
                return None
            # A killed server leaves its file behind.
            fresh = facts["pid"] != before if self._wrapper else facts["pid"] == process.pid
            return facts if fresh else None

        self.ready = wait_until(announced, f"{self.ready_file}; the server says:\n{self.log()}")
        return self.ready

    def start(self, *arguments: str) -> dict[str, Any]:
        """Start a process and wait until it is ready; what its ready.json says."""
        self.spawn(*arguments)
        return self.wait_ready()

    @property
    def port(self) -> int:
        """The port of the first SMTP ingress."""
        return int(self.ready["smtp"][0].rpartition(":")[2])

    def kill(self) -> None:
        """kill -9, at this very moment."""
        assert self.process is not None
        self.process.kill()
        assert self.process.wait(PATIENCE) == -signal.SIGKILL, f"it had ended before:\n{self.log()}"

    def stop(self) -> int:
        """SIGTERM; the exit code after the drain."""
        assert self.process is not None
        # Not through a wrapper: strace would keep the signal for itself.
        os.kill(self.ready.get("pid", self.process.pid), signal.SIGTERM)
        return self.process.wait(PATIENCE)

    def log(self) -> str:
        """What all processes wrote to stdout and stderr so far."""
        return self.log_file.read_text(encoding="utf-8", errors="replace") if self.log_file.exists() else ""

    def rows(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Rows of the server's database, read from outside."""
        return rows_of(self.database, sql, parameters)

    def ledger(self, source: str = "mail") -> dict[str, int]:
        """The ledger of one source, from the view."""
        names = ("accepted", "done", "waiting", "running", "held", "dead", "dropped", "duplicates")
        found = self.rows(f"select {', '.join(names)} from v_ledger where source = ?", (source,))
        return dict(zip(names, found[0], strict=True)) if found else dict.fromkeys(names, 0)

    def workers(self) -> list[dict[str, Any]]:
        """The processes that serve, as `monsal workers` tells them."""
        command = [*monsal_command(), "workers", "--dir", str(self.directory), "--json"]
        told = subprocess.run(command, capture_output=True, text=True, env=self._environ, check=False)
        assert told.returncode == 0, f"monsal workers: {told.stderr}\n{self.log()}"
        return [json.loads(line) for line in told.stdout.splitlines()]

    def left_behind(self) -> list[int]:
        """The ids of all processes of the session that was started last, whatever their parents are."""
        found = []
        for path in Path("/proc").glob("[0-9]*/stat"):
            try:
                state, _, _, session = path.read_text(encoding="utf-8").rpartition(")")[2].split()[:4]
            except (FileNotFoundError, ProcessLookupError):
                continue
            if self.process is not None and int(session) == self.process.pid and state != "Z":
                found.append(int(path.parent.name))
        return found

    def wait_idle(self, *, patience: float = PATIENCE) -> None:
        """Wait until all that was accepted is settled and all that was written has left."""

        def idle() -> bool:
            open_rows = self.rows("select sum(waiting + running) from v_ledger")[0][0] or 0
            return open_rows == 0 and not self.rows("select 1 from v_outbox where status != 'sent' limit 1")

        wait_until(idle, f"an idle server; its ledger: {self.ledger()}", patience=patience)
