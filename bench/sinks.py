"""Where mail ends in a measurement: smtp-sink (C) where it is installed, else a sink of ours; both count.

    with counting_sink() as sink:
        ...                                  # somebody relays to 127.0.0.1, sink.port
            count, moment = sink.wait(1000)      # when the thousandth had arrived, on the clock of time.monotonic

smtp-sink is taken for rates, since it costs the least of the CPUs that all share; it tells its counter on standard
output (`-c`), which is read every few milliseconds. A `SinkSession` is for those who need the moment of each mail in
their own process. `python -m bench.sinks PORT` is the one of ours, as a program that counts in the same way.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import cast

from bench.harness import Failed
from bench.processes import ROOT, our_environment

__all__ = ["CountingSink", "SinkSession", "counting_sink", "free_port", "last_count", "main", "smtp_sink"]

#: Seconds between two looks at the counter, and so what a moment is exact to.
_STEP = 0.004
_COUNT = re.compile(rb"mesg=(\d+)[ \r\n]")


def smtp_sink() -> str | None:
    """The path of Postfix's smtp-sink; None if it is not installed."""
    return shutil.which("smtp-sink", path=os.environ["PATH"] + ":/usr/sbin")


def free_port() -> int:
    """A port that was free just now, for programs that cannot choose one and say which."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def last_count(said: bytes) -> tuple[int | None, bytes]:
    """The last counter in what a sink said, if there is one, and the rest that may be the beginning of another."""
    found = None
    end = 0
    for match in _COUNT.finditer(said):
        found, end = int(match[1]), match.end()
    return found, said[end:]


class CountingSink:
    """A sink in a process of its own; a thread here follows its counter."""

    def __init__(self, port: int, process: subprocess.Popen[bytes]) -> None:
        self.port = port
        self.process = process
        self._count = 0
        self._seen = time.monotonic()
        self._news = threading.Condition()
        self._over = threading.Event()
        self._reader = threading.Thread(target=self._follow, name="sink", daemon=True)
        self._reader.start()

    def wait(self, count: int, patience: float = 30.0) -> tuple[int, float]:
        """Until that many have arrived; how many had, and when. Raises Failed if none comes for `patience` seconds."""
        with self._news:
            while self._count < count:
                before = self._count
                if not self._news.wait(patience) and self._count == before:
                    raise Failed(f"only {before} of {count} mails arrived at the sink")
            return self._count, self._seen

    def close(self) -> None:
        """Stop following."""
        self._over.set()
        self._reader.join()

    def _follow(self) -> None:
        assert self.process.stdout is not None
        descriptor = self.process.stdout.fileno()
        os.set_blocking(descriptor, False)
        rest = b""
        while not self._over.wait(_STEP):
            try:
                said = os.read(descriptor, 1 << 16)
            except BlockingIOError:
                continue
            if not said:
                return
            found, rest = last_count(rest + said)
            if found is not None:
                with self._news:
                    self._count, self._seen = found, time.monotonic()
                    self._news.notify_all()


@contextmanager
def counting_sink() -> Iterator[CountingSink]:
    """A sink of one of the two kinds, ready to be connected to."""
    port = free_port()
    program = smtp_sink()
    if program is not None:
        command = [program, *(["-u", "nobody"] if os.geteuid() == 0 else []), "-c", f"127.0.0.1:{port}", "1000"]
    else:
        command = [sys.executable, "-m", "bench.sinks", str(port)]
    process = subprocess.Popen(command, cwd=ROOT, env=our_environment(), stdout=subprocess.PIPE)
    sink = CountingSink(port, process)
    try:
        wait_for_port(port, process)
        yield sink
    finally:
        process.terminate()
        process.wait(10)
        sink.close()
        assert process.stdout is not None
        process.stdout.close()


def wait_for_port(port: int, process: subprocess.Popen[bytes], patience: float = 30.0) -> None:
    """Until something listens there. Raises Failed if the process ends before, or if that takes too long."""
    end = time.monotonic() + patience
    while True:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        if process.poll() is not None:
            raise Failed(f"did not start (exit code {process.returncode})")
        if time.monotonic() > end:
            raise Failed(f"does not listen after {patience:g} s")
        time.sleep(0.01)


class SinkSession(asyncio.Protocol):
    """One connection to a sink of ours: takes everything, keeps nothing, calls `taken` at each final dot.

    It knows just enough SMTP, with PIPELINING (RFC 2920), to be quick.
    """

    def __init__(self, taken: Callable[[], object]) -> None:
        self._taken = taken
        self._buffer = b""
        self._in_data = False
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # A cast, not an assertion: uvloop's transports are no subclass of asyncio's.
        self._transport = cast(asyncio.Transport, transport)
        self._transport.write(b"220 sink ESMTP\r\n")

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        answers = []
        while (answer := self._next()) is not None:
            answers.append(answer)
        if answers and self._transport is not None:
            self._transport.write(b"".join(answers))
            if answers[-1].startswith(b"221"):
                self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None

    def _next(self) -> bytes | None:
        """The answer to the next line or the end of a mail; None if more has to come first."""
        if self._in_data:
            end = self._buffer.find(b"\r\n.\r\n")
            if end < 0:
                return None
            self._buffer = self._buffer[end + 5 :]
            self._in_data = False
            self._taken()
            return b"250 2.0.0 taken\r\n"
        end = self._buffer.find(b"\r\n")
        if end < 0:
            return None
        word = self._buffer[:4].upper()
        if word == b"DATA":
            # Its own end of line stays: a mail without any line begins with the dot.
            self._buffer = self._buffer[end:]
            self._in_data = True
            return b"354 go on\r\n"
        self._buffer = self._buffer[end + 2 :]
        if word == b"EHLO":
            return b"250-sink\r\n250-PIPELINING\r\n250 8BITMIME\r\n"
        return b"221 2.0.0 bye\r\n" if word == b"QUIT" else b"250 2.0.0 ok\r\n"


async def _serve(port: int) -> None:
    loop = asyncio.get_running_loop()
    over = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, over.set)
    count = 0

    def taken() -> None:
        nonlocal count
        count += 1

    server = await loop.create_server(lambda: SinkSession(taken), "127.0.0.1", port, backlog=1000)
    told = 0
    while not over.is_set():
        if count != told:
            told = count
            print(f"mesg={told}", flush=True)
        await asyncio.sleep(_STEP)
    server.close()


def main(arguments: list[str]) -> int:
    """Be a sink on that port until SIGTERM."""
    import uvloop

    uvloop.run(_serve(int(arguments[0])))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
