"""Durable accept: mails are sent as fast as they are taken, and each 250 is a promise that the server has the mail."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from bench.document import Column
from bench.harness import Absent, Contest, Failed, Goal, Sample, Suite, Table, TimesBetter, in_turn
from bench.processes import ROOT, cpu_seconds, our_environment
from bench.servers import SERVERS

__all__ = ["SUITE"]


@dataclass(frozen=True)
class Traffic:
    """Some connections that send 1 kB mails, each connection one after the other or with `per_connection` mails."""

    title: str
    connections: int
    per_connection: int = 0


ONE = Traffic("1 session, kept", 1)
TEN = Traffic("10 sessions, kept", 10)
FIFTY = Traffic("50 sessions, kept", 50)
ANEW = Traffic("10 sessions, a connection per mail", 10, 1)

_RATE = Column(key="rate", heading="mails/s", spread=True, more_is_better=True)
_CPU = Column(key="cpu_us", heading="CPU us a mail")
_IS = "accept is"


def _goal(traffic: Traffic, peer: str, times: float) -> Goal:
    return Goal(contest=traffic.title, contestant=peer, of=_IS, at_least=times)


#: DESIGN 8.
_GOALS = (
    Goal(contest=TEN.title, contestant="accept", of=_CPU.key, at_most=160.0),
    _goal(TEN, "aiosmtpd-store", 3.5),
    _goal(FIFTY, "aiosmtpd-store", 4.0),
    _goal(FIFTY, "smtp-sink", 0.35),
    _goal(ANEW, "aiosmtpd-store", 3.0),
)


def _sink() -> str:
    found = shutil.which("smtp-sink", path=os.environ["PATH"] + ":/usr/sbin")
    if found is None:
        raise Absent("not installed")
    return found


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def _running(name: str, directory: Path) -> Iterator[tuple[int, int]]:
    """A server; its port and pid."""
    if name == "smtp-sink":
        port = _free_port()
        command = [_sink(), *(["-u", "nobody"] if os.geteuid() == 0 else []), f"127.0.0.1:{port}", "100"]
        process = subprocess.Popen(command)
    else:
        process = subprocess.Popen(
            [sys.executable, "-m", "bench.servers", name, str(directory)],
            cwd=ROOT,
            env=our_environment(),
            stdout=subprocess.PIPE,
        )
        assert process.stdout is not None
        port = int(process.stdout.readline() or b"0")
    try:
        if not port:
            raise Failed(f"did not start (exit code {process.wait(10)})")
        yield port, process.pid
    finally:
        process.terminate()
        process.wait(10)
        if process.stdout is not None:
            process.stdout.close()


def _load(port: int, traffic: Traffic, seconds: float, seed: int) -> dict[str, Any]:
    command = [
        *(sys.executable, "-m", "bench.load", "--port", str(port), "--recipient", "help@example.com"),
        *("--correspondents", "500", "--connections", str(traffic.connections), "--seconds", str(seconds)),
        *("--per-connection", str(traffic.per_connection), "--seed", str(seed)),
    ]
    done = subprocess.run(command, cwd=ROOT, env=our_environment(), capture_output=True, text=True, check=False)
    if done.returncode:
        raise Failed(f"the load ended with {done.returncode}: {done.stderr.strip().splitlines()[-1:]}")
    found: dict[str, Any] = json.loads(done.stderr.splitlines()[-1])
    return found


def _measure(name: str, traffic: Traffic, seconds: float, turn: int) -> Sample:
    with (
        tempfile.TemporaryDirectory(prefix="monsal-bench-") as directory,
        _running(name, Path(directory)) as (port, pid),
    ):
        _load(port, traffic, min(seconds, 0.5), turn + 1000)  # warm
        before = cpu_seconds(pid)
        found = _load(port, traffic, seconds, turn)
        cpu = 1e6 * (cpu_seconds(pid) - before) / max(found["acknowledged"], 1)
    return {"rate": found["rate"], "cpu_us": cpu, "p50": found["p50_ms"], "p99": found["p99_ms"]}


def _tables(seconds: float, peers: bool) -> Sequence[Table]:
    names = [*SERVERS, "smtp-sink"] if peers else ["accept"]
    return [
        Table(
            name="accept",
            title=SUITE.title,
            text="`accept` is the product's ingress, spool and store; 250 is said after the flush (P1). "
            "`aiosmtpd-store` is\naiosmtpd before the same spool and store; `aiosmtpd` and `smtp-sink` (C) store "
            "nothing. Milliseconds are from MAIL to 250.",
            contestant="server",
            columns=(
                _RATE,
                _CPU,
                Column(key="p50", heading="p50 ms", digits=2),
                Column(key="p99", heading="p99 ms", digits=2),
            ),
            contests=[
                Contest(traffic.title, in_turn({name: partial(_measure, name, traffic, seconds) for name in names}))
                for traffic in (ONE, TEN, FIFTY, ANEW)
            ],
            ratios=(TimesBetter(_IS, "accept", _RATE),),
            goals=_GOALS,
        )
    ]


SUITE = Suite(
    title="Durable accept, 1 kB mails",
    about="mails a second taken and stored, against aiosmtpd and smtp-sink",
    seconds=2.0,
    rounds=3,
    tables=_tables,
)
