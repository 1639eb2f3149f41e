"""Servers that take a mail, and send one on or answer it: monsal as a user runs it, and its peers.

    with monsal(workers=0)(directory, sink.port) as server:
        ...                                  # 127.0.0.1, server.port; its processes are those below server.pid

Each is started in an empty directory, relays to the port that it is given, and is ended by its own process id.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from tools.peers import environment

from bench.harness import Absent, Failed
from bench.postfix import postfix as debian_postfix
from bench.processes import ROOT, our_environment, plain_environment
from bench.sinks import free_port, wait_for_port

__all__ = ["RECIPIENT", "Mailer", "Running", "monsal", "peer_python", "postfix", "salmon", "write_application"]

#: To whom mail is written.
RECIPIENT = "help@example.com"
_PATIENCE = 60.0

_HANDLERS = """
from monsal import reply, route

@route("help@(host)")
def START(message):
    reply("What would you like?")
    return NEXT

@route("help@(host)")
def NEXT(message):
    reply("What else?")
    return START
"""
#: Nobody gets more than ten answers an hour, else.
_APP = """
from monsal import App, literal
app = App("handlers", captures={{"host": literal("example.com")}}, ingress=["smtp://127.0.0.1:0"],
          relay="smtp://127.0.0.1:{relay}", max_replies_per_hour=None)
"""


@dataclass(frozen=True)
class Running:
    """A server that takes mail; `port` is 0 for one that takes it from a maildir."""

    port: int
    pid: int


#: Starts a server in a directory that relays to a port.
Mailer = Callable[[Path, int], AbstractContextManager[Running]]


def write_application(home: Path, relay: int) -> None:
    """The application of the bench: one address, two states, an answer to each mail."""
    (home / "app.py").write_text(_APP.format(relay=relay), encoding="utf-8")
    (home / "handlers.py").write_text(_HANDLERS, encoding="utf-8")


def monsal(workers: int = 0) -> Mailer:
    """`monsal run`; a store that is already in `run` is taken up."""

    @contextmanager
    def run(home: Path, relay: int) -> Iterator[Running]:
        write_application(home, relay)
        command = [sys.executable, "-m", "monsal.cli", "run", "--dir", str(home), "--workers", str(workers)]
        with _process(command, our_environment(), home) as process:
            ready = home / "run" / "ready.json"
            end = time.monotonic() + _PATIENCE
            while not ready.exists():
                _check(process, home, end)
                time.sleep(0.01)
            address = json.loads(ready.read_text(encoding="utf-8"))["smtp"][0]
            yield Running(int(address.rpartition(":")[2]), process.pid)

    return run


def salmon(storage: str, *, queue: bool = False) -> Mailer:
    """salmon-mail with states in `memory` or on a `shelve`, behind its SMTPReceiver or its QueueReceiver."""

    @contextmanager
    def run(home: Path, relay: int) -> Iterator[Running]:
        port = 0 if queue else free_port()
        words = [storage, str(home), "queue" if queue else str(port), str(relay)]
        command = [peer_python("salmon"), str(ROOT / "bench" / "probes" / "salmon_desk.py"), *words]
        with _process(command, {**plain_environment(), "PYTHONDONTWRITEBYTECODE": "1"}, home) as process:
            if not queue:
                wait_for_port(port, process)
            yield Running(port, process.pid)

    return run


def postfix() -> Mailer:
    """Debian's Postfix with a configuration, queue and log of its own: takes mail, keeps it on the disk, relays it."""

    @contextmanager
    def run(home: Path, relay: int) -> Iterator[Running]:
        with debian_postfix(home, f"relayhost = [127.0.0.1]:{relay}") as (port, pid):
            yield Running(port, pid)

    return run


def peer_python(name: str) -> str:
    """The interpreter of a peer's environment. Raises Absent if it cannot be made."""
    try:
        return str(environment(name))
    except (OSError, RuntimeError, subprocess.CalledProcessError) as reason:
        raise Absent(f"not installed: {str(reason).splitlines()[0]}") from reason


@contextmanager
def _process(command: list[str], environ: dict[str, str], home: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process with its own session and log; ended by SIGTERM, and by SIGKILL if that is not enough."""
    with (home / "log").open("wb") as log:
        process = _spawn(command, environ, home, log)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _spawn(command: list[str], environ: dict[str, str], home: Path, log: IO[bytes]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        command, cwd=home, env=environ, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
    )


def _check(process: subprocess.Popen[bytes], home: Path, end: float) -> None:
    """Raises Failed if a server that is waited for has ended or takes too long."""
    ended = process.poll() is not None
    if ended or time.monotonic() > end:
        words = (home / "log").read_text(encoding="utf-8", errors="replace").strip().splitlines()
        what = f"ended with {process.returncode}" if ended else f"was not ready after {_PATIENCE:g} s"
        raise Failed(f"{what}: {words[-1] if words else 'nothing was said'}")
