"""What `monsal bench` measures: how long the disk takes to flush, and how a server does under a load.

The server is `monsal run` with an application of a few lines, in a process of its own; the mails come from threads of
this one, one after the other on each connection.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any, Final

import msgspec

from monsal.cli.reach import control_client, read_ready
from monsal.errors import MonsalError
from monsal.store.engine.chronicle import Asked, Marks
from monsal.store.inspect import Inspector

__all__ = ["Load", "Pace", "Times", "measure_flush", "measure_server"]

#: So many correspondents write in turn: a turn need seldom wait for another one of the same correspondent.
_CORRESPONDENTS: Final = 500
#: Seconds that a server may take to be ready, or to end, and between two looks at it.
_PATIENCE: Final = 60.0
_LOOK_AGAIN: Final = 0.05
_BLOCK: Final = bytes(4096)
_ALL: Final = 10_000_000
_APP: Final = """\
from monsal import App

app = App("handlers", ingress=["smtp://127.0.0.1:0"], store={store!r}, relay={relay!r}, max_replies_per_hour=None)
"""
_HANDLERS: Final = """\
from monsal import reply, route


@route("bench@example.com")
def START(message):
    reply("Thank you.")
    return MORE


@route("bench@example.com")
def MORE(message):
    reply("Thank you once more.")
"""
_TEXT: Final = "The quick brown fox jumps over the lazy dog.\r\n" * 16


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """How long mails are sent, in seconds, and on how many connections."""

    seconds: float
    connections: int


class Times(msgspec.Struct, frozen=True, kw_only=True):
    """How often something was done, how often a second, and how long it took: half, and 99 of 100, took no longer."""

    count: int
    per_second: float
    p50_ms: float
    p99_ms: float

    @classmethod
    def of(cls, taken: Sequence[float], seconds: float) -> Times:
        """The figures of the seconds that each took, all of them within `seconds`. Raises MonsalError if none was."""
        if not taken:
            raise MonsalError("nothing was done in that time; give it more with --seconds")
        ranked = sorted(taken)
        p50, p99 = (1000.0 * ranked[round(part * (len(ranked) - 1))] for part in (0.5, 0.99))
        rate = len(taken) / seconds if seconds > 0 else float(len(taken))
        return cls(count=len(taken), per_second=round(rate, 1), p50_ms=round(p50, 3), p99_ms=round(p99, 3))


class Pace(msgspec.Struct, frozen=True, kw_only=True):
    """What a server did: `accept` is from MAIL to the 250 (P1), `turn` from there to the commit of state and answer.

    `cpu_us` are microseconds of CPU for a mail with its turn and the answer that it files; None where it is not told.
    """

    accept: Times
    turn: Times
    cpu_us: float | None


def measure_flush(place: Path, seconds: float) -> Times:
    """How long it takes to write 4 KiB to a file in `place` and to have them on the disk."""
    flush: Callable[[int], None] = getattr(os, "fdatasync", os.fsync)
    taken: list[float] = []
    begin = time.perf_counter()
    with tempfile.TemporaryFile(dir=place, buffering=0) as file:
        while not taken or time.perf_counter() < begin + seconds:
            before = time.perf_counter()
            file.write(_BLOCK)
            flush(file.fileno())
            taken.append(time.perf_counter() - before)
    return Times.of(taken, time.perf_counter() - begin)


def measure_server(place: Path, load: Load) -> Pace:
    """A server of its own whose store is in the directory `place`, under a load. Raises MonsalError if it fails."""
    with _serving(place) as (home, pid, port):
        before = _cpu_seconds(pid)
        begin = time.perf_counter()
        accepted = _send(port, load)
        accept = Times.of(accepted, time.perf_counter() - begin)
        _wait_handled(home, _PATIENCE + 10 * load.seconds)
        after = _cpu_seconds(pid)
    with Inspector(place / "monsal.db") as store:
        events = store.events(Asked(limit=_ALL), Marks())
    stored = {event.row: event.at for event in events if event.action == "stored"}
    turns = [event for event in events if event.action == "turn"]
    # Seconds of the machine's clock, which may be set back meanwhile.
    waited = [max(0.0, event.at - stored[event.row]) for event in turns]
    turn = Times.of(waited, max((event.at for event in turns), default=0.0) - min(stored.values(), default=0.0))
    cpu = None if before is None or after is None else round(1e6 * (after - before) / len(turns), 1)
    return Pace(accept=accept, turn=turn, cpu_us=cpu)


@contextmanager
def _serving(place: Path) -> Iterator[tuple[Path, int, int]]:
    """A server: its directory, process and port. Only what it stores is in `place`: a socket's path must be short."""
    command = [sys.executable, "-m", "monsal.cli", "run", "--log-level", "warning", "--dir"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MONSAL_")}
    with tempfile.TemporaryDirectory(prefix="monsal-bench-") as made, tempfile.TemporaryFile() as said:
        home = Path(made)
        app = _APP.format(store=f"sqlite:///{place / 'monsal.db'}", relay=f"capture:{place / 'sent'}")
        (home / "app.py").write_text(app, encoding="utf-8")
        (home / "handlers.py").write_text(_HANDLERS, encoding="utf-8")
        with subprocess.Popen([*command, made], stdout=said, stderr=said, env=environment) as server:
            try:
                yield home, server.pid, _port(home, server, said)
            finally:
                server.terminate()
                try:
                    server.wait(_PATIENCE)
                except subprocess.TimeoutExpired:
                    server.kill()


def _port(home: Path, server: subprocess.Popen[bytes], said: Any) -> int:
    end = time.monotonic() + _PATIENCE
    pause = threading.Event()
    while (ready := read_ready(home)) is None:
        if server.poll() is not None or time.monotonic() > end:
            said.seek(0)
            words = said.read().decode("utf-8", "backslashreplace").strip()
            raise MonsalError(f"the server that was to be measured did not start: {words or 'it said nothing'}")
        pause.wait(_LOOK_AGAIN)
    return int(ready.smtp[0].rpartition(":")[2])


def _wait_handled(home: Path, patience: float) -> None:
    """Until every mail is handled and its answer filed."""
    end = time.monotonic() + patience
    pause = threading.Event()
    with control_client(home) as client:
        while True:
            status = client.call("server.status")
            left = sum(status["ledger"][name] for name in ("waiting", "running"))
            left += sum(status["outbox"][name] for name in ("waiting", "deferred", "sending"))
            if not left:
                return
            if time.monotonic() > end:
                raise MonsalError(f"the server still had {left} mails to handle or send after {patience:g} seconds")
            pause.wait(_LOOK_AGAIN)


def _cpu_seconds(pid: int) -> float | None:
    """User and system time of a process (proc(5)); None where there is no /proc."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except FileNotFoundError:
        return None
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


# -- the load ---------------------------------------------------------------------------------------------------


def _send(port: int, load: Load) -> list[float]:
    """Mails on all connections; the seconds from MAIL to the final reply of each. Raises MonsalError for a refusal."""
    numbers = count(1)
    end = time.perf_counter() + load.seconds
    with ThreadPoolExecutor(load.connections) as threads:
        sent = [threads.submit(_converse, port, end, numbers) for _ in range(load.connections)]
        return [taken for connection in sent for taken in connection.result()]


def _converse(port: int, end: float, numbers: Iterator[int]) -> list[float]:
    taken: list[float] = []
    with socket.create_connection(("127.0.0.1", port), timeout=_PATIENCE) as peer, peer.makefile("rb") as replies:
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        _expect(replies, b"220")
        peer.sendall(b"EHLO bench.example.net\r\n")
        _expect(replies, b"250")
        while not taken or time.perf_counter() < end:
            sender, message = _mail(next(numbers))
            before = time.perf_counter()
            peer.sendall(f"MAIL FROM:<{sender}>\r\nRCPT TO:<bench@example.com>\r\nDATA\r\n".encode())
            for code in (b"250", b"250", b"354"):
                _expect(replies, code)
            peer.sendall(message)
            _expect(replies, b"250")
            taken.append(time.perf_counter() - before)
    return taken


def _mail(number: int) -> tuple[str, bytes]:
    sender = f"c{number % _CORRESPONDENTS}@example.net"
    head = (
        f"From: {sender}\r\nTo: bench@example.com\r\nSubject: {number}\r\nMessage-ID: <{number}@bench.example.net>\r\n"
    )
    return sender, f"{head}\r\n{_TEXT}.\r\n".encode()


def _expect(replies: Any, code: bytes) -> None:
    line = replies.readline()
    while line[3:4] == b"-":
        line = replies.readline()
    if not line.startswith(code):
        raise MonsalError(f"the server answered {line.decode('utf-8', 'backslashreplace').strip() or 'nothing'}")
