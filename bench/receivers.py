"""Servers that take mail, each in a process of its own: monsal's door and its peers.

    with receiver("accept", directory) as (port, pid):
        ...                                  # it listens there; its processes are `pid` and those below it

Each is started in an empty directory and ended by its own process id. One that is not there raises `Absent`.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from bench.harness import Absent
from bench.mailers import peer_python
from bench.postfix import HOLD, postfix
from bench.processes import ROOT, Child, our_environment, plain_environment
from bench.servers import SERVERS
from bench.sinks import free_port, smtp_sink, wait_for_port

__all__ = ["ACCEPT", "POSTFIX", "STORED", "receiver"]

#: Ours; the same store behind aiosmtpd; and Postfix that accepts only.
ACCEPT, STORED, POSTFIX = "accept", "aiosmtpd-store", "Postfix HOLD"


def receiver(name: str, directory: Path) -> AbstractContextManager[tuple[int, int]]:
    """One of the servers of `bench.servers`, or one of the peers `Postfix HOLD`, `salmon` and `smtp-sink`."""
    if name in SERVERS:
        return _ours(name, directory)
    return {POSTFIX: _held, "salmon": _salmon, "smtp-sink": _sink}[name](directory)


@contextmanager
def _ours(name: str, directory: Path) -> Iterator[tuple[int, int]]:
    command = [sys.executable, "-m", "bench.servers", name, str(directory)]
    environ = our_environment(PYTHONPATH=f"{ROOT / 'src'}:{ROOT}")
    with Child(command, environ, mark=b"") as child:
        port = int(child.wait_line(b""))
        yield port, child.pid
        child.end()


@contextmanager
def _salmon(directory: Path) -> Iterator[tuple[int, int]]:
    port = free_port()
    command = [peer_python("salmon"), str(ROOT / "bench" / "probes" / "salmon_accept.py"), str(port)]
    with Child(command, {**plain_environment(), "PYTHONDONTWRITEBYTECODE": "1"}, mark=b"listening") as child:
        child.wait_ready()
        yield port, child.pid
        child.end()


@contextmanager
def _sink(directory: Path) -> Iterator[tuple[int, int]]:
    found = smtp_sink()
    if found is None:
        raise Absent("not installed")
    port = free_port()
    user = ["-u", "nobody"] if os.geteuid() == 0 else []
    process = subprocess.Popen([found, *user, f"127.0.0.1:{port}", "100"], cwd=directory, stdin=subprocess.DEVNULL)
    try:
        wait_for_port(port, process)
        yield port, process.pid
    finally:
        process.terminate()
        process.wait(10)


def _held(directory: Path) -> AbstractContextManager[tuple[int, int]]:
    return postfix(directory, HOLD)
