"""Durable accept: mails are sent as fast as they are taken, and each 250 is a promise that the server has the mail.

The tables: kept connections, a connection for each mail, mails of 10 kB, a disk whose flushes are slow, small mails
beside large ones, and how long one mail takes alone. `../receivers.py` has the servers, `../load.py` and two probes
the load.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from bench.document import Column, Picture
from bench.harness import Contest, Failed, Goal, Measure, Sample, Suite, Table, TimesBetter, TimesOf, in_turn
from bench.processes import ROOT, family_cpu, our_environment, probe_module
from bench.receivers import ACCEPT, POSTFIX, STORED, receiver
from bench.servers import FLUSH

__all__ = ["SUITE", "quantile"]

_EACH = "accept-each"
_ALL = (ACCEPT, STORED, POSTFIX, "aiosmtpd", "salmon", "smtp-sink")
#: Of mails of 10 kB: who keeps them, and C that does not.
_KEEPERS = (ACCEPT, STORED, POSTFIX, "smtp-sink")


@dataclass(frozen=True)
class Traffic:
    """Some connections that send mails, each connection one after the other or with `per_connection` mails."""

    title: str
    connections: int
    per_connection: int = 0
    size: int = 1024


_SESSIONS = {1: "1 session", 10: "10 sessions", 50: "50 sessions"}
KEPT = {number: Traffic(f"{words}, kept", number) for number, words in _SESSIONS.items()}
ANEW = {number: Traffic(f"{words}, a connection per mail", number, 1) for number, words in _SESSIONS.items()}
LARGER = (
    Traffic("10 kB, 10 sessions, kept", 10, 0, 10_240),
    Traffic("10 kB, 10 sessions, a connection per mail", 10, 1, 10_240),
)
SLOW = tuple(Traffic(f"{FLUSH * 1000:g} ms slower, {_SESSIONS[number]}", number) for number in (10, 50))

_RATE = Column(key="rate", heading="mails/s", spread=True, more_is_better=True)
_CPU = Column(key="cpu_us", heading="CPU us a mail")
_COLUMNS = (
    _RATE,
    _CPU,
    Column(key="client_us", heading="of the load"),
    Column(key="p50", heading="p50 ms", digits=2),
    Column(key="p99", heading="p99 ms", digits=2),
)
_IS = "accept is"
_RATIO = TimesBetter(_IS, ACCEPT, _RATE)
_TIMES = Column(key="times", heading="times", digits=2)
_P50 = Column(key="content_p50", heading="DATA to 250, p50 ms", digits=2)
_P99 = Column(key="content_p99", heading="p99 ms", digits=2)
_BY_P50, _BY_P99 = "p50 by that of Postfix", "p99 by that of Postfix"


def quantile(values: Sequence[float], part: float) -> float:
    """The value that this part of the values is not above; of a few values the greatest."""
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * part), len(ordered) - 1)]


@contextmanager
def _serving(name: str) -> Iterator[tuple[int, int]]:
    with (
        tempfile.TemporaryDirectory(prefix="monsal-bench-") as directory,
        receiver(name, Path(directory)) as (port, pid),
    ):
        yield port, pid


def _load(port: int, traffic: Traffic, seconds: float, seed: int) -> dict[str, Any]:
    command = [
        *(sys.executable, "-m", "bench.load", "--port", str(port), "--recipient", "help@example.com"),
        *("--correspondents", "500", "--connections", str(traffic.connections), "--seconds", str(seconds)),
        *("--per-connection", str(traffic.per_connection), "--size", str(traffic.size), "--seed", str(seed)),
        *("--grace", "1"),
    ]
    done = subprocess.run(command, cwd=ROOT, env=our_environment(), capture_output=True, text=True, check=False)
    if done.returncode:
        raise Failed(f"the load ended with {done.returncode}: {done.stderr.strip().splitlines()[-1:]}")
    found: dict[str, Any] = json.loads(done.stderr.splitlines()[-1])
    if not found["acknowledged"]:
        raise Failed(f"no mail was taken: {found['troubles']}")
    return found


def _measure(server: str, traffic: Traffic, seconds: float, turn: int) -> Sample:
    with _serving(server) as (port, pid):
        _load(port, traffic, min(seconds / 4, 0.5), turn + 1000)  # warm
        before = family_cpu(pid)
        found = _load(port, traffic, seconds, turn)
        cpu = 1e6 * (family_cpu(pid) - before) / found["acknowledged"]
    # A connection that was never let in is waited for at the end, when nothing is sent any more.
    return {
        "rate": found["acknowledged"] / max(seconds, found["last_s"]),
        "cpu_us": cpu,
        "client_us": found["client_cpu_us"],
        "p50": found["p50_ms"],
        "p99": found["p99_ms"],
    }


def _beside(server: str, seconds: float, turn: int) -> Sample:
    """Small mails quiet, and beside ten sessions with mails of 20 MB."""
    with _serving(server) as (port, _):
        found = probe_module("large", port, 3 * seconds, 10, 20)
    quiet, beside = quantile(found["quiet"], 0.99), quantile(found["beside"], 0.99)
    return {
        "quiet_p50": quantile(found["quiet"], 0.5),
        "quiet_p99": quiet,
        "beside_p50": quantile(found["beside"], 0.5),
        "beside_p99": beside,
        "times": beside / quiet,
        "large": found["large"],
    }


def _light(server: str, connections: str, seconds: float, turn: int) -> Sample:
    """One mail at a time, 20 ms after the last."""
    with _serving(server) as (port, _):
        found = probe_module("light", port, max(20, int(100 * seconds)), 0.02, connections)
    kinds = ("content", "mail", *(["all"] if connections == "anew" else []))
    return {
        f"{kind}_{name}": quantile(found[kind], part) for kind in kinds for name, part in (("p50", 0.5), ("p99", 0.99))
    }


def _rates(traffic: Traffic, names: Sequence[str], seconds: float, servers: Mapping[str, str] | None = None) -> Contest:
    measures: dict[str, Measure] = {
        name: partial(_measure, (servers or {}).get(name, name), traffic, seconds) for name in names
    }
    return Contest(traffic.title, in_turn(measures))


def _goal(traffic: Traffic, peer: str, times: float) -> Goal:
    return Goal(contest=traffic.title, contestant=peer, of=_IS, at_least=times)


def _tables(seconds: float, peers: bool) -> Sequence[Table]:
    def present(names: Sequence[str]) -> Sequence[str]:
        return names if peers else [ACCEPT]

    return [
        _kept(present(_ALL), seconds),
        _anew(present(_ALL), seconds),
        _larger(present(_KEEPERS), seconds),
        _slower(seconds),
        _with_large(present((ACCEPT, STORED)), seconds),
        _alone(present((ACCEPT, POSTFIX)), seconds),
    ]


def _kept(names: Sequence[str], seconds: float) -> Table:
    return Table(
        name="accept",
        title="Mails of 1 kB over kept connections",
        text="`accept` is the product's ingress, spool and store; 250 is said after the flush (P1). `aiosmtpd-store` "
        "is aiosmtpd\nbefore the same spool and store; `Postfix HOLD` is Postfix that accepts only: each mail is a "
        "synced file in its queue,\nand stays there. `aiosmtpd`, `salmon` (a stateless handler that does nothing) and "
        "`smtp-sink` (C) store nothing.\nCPU is that of all processes of a server: for Postfix its master, all below "
        "it, and those that ended meanwhile (their\nparent's account of children). Milliseconds are from MAIL to 250; "
        "the load has the same CPUs.",
        contestant="server",
        columns=_COLUMNS,
        contests=[_rates(traffic, names, seconds) for traffic in KEPT.values()],
        ratios=(_RATIO,),
        goals=(
            Goal(contest=KEPT[10].title, contestant=ACCEPT, of=_CPU.key, at_most=160.0),
            _goal(KEPT[1], POSTFIX, 1.5),
            _goal(KEPT[10], STORED, 3.5),
            _goal(KEPT[10], POSTFIX, 2.2),
            _goal(KEPT[50], STORED, 4.0),
            _goal(KEPT[50], POSTFIX, 4.0),
            _goal(KEPT[50], "smtp-sink", 0.35),
        ),
        pictures=[Picture(column="rate", ratio=_IS, ours=ACCEPT), Picture(column="cpu_us", ours=ACCEPT)],
    )


def _anew(names: Sequence[str], seconds: float) -> Table:
    return Table(
        name="anew",
        title="Mails of 1 kB, a connection for each",
        text="The same servers; each session connects, says EHLO, sends one mail and leaves. salmon writes its answer "
        "to EHLO in\nfive pieces, which the kernel keeps back for 40 ms; and it lets five connections wait at most.",
        contestant="server",
        columns=_COLUMNS,
        contests=[_rates(traffic, names, seconds) for traffic in ANEW.values()],
        ratios=(_RATIO,),
        goals=[_goal(ANEW[10], STORED, 3.0)],
        pictures=[Picture(column="rate", ratio=_IS, ours=ACCEPT)],
    )


def _larger(names: Sequence[str], seconds: float) -> Table:
    return Table(
        name="10kB",
        title="Mails of 10 kB",
        text="As before, with larger mails.",
        contestant="server",
        columns=_COLUMNS,
        contests=[_rates(traffic, names, seconds) for traffic in LARGER],
        ratios=(_RATIO,),
        pictures=[Picture(column="rate", ratio=_IS, ours=ACCEPT)],
    )


def _slower(seconds: float) -> Table:
    servers = {ACCEPT: "slow", _EACH: "slow-each"}
    return Table(
        name="slow",
        title="A disk whose flushes are slow",
        text=f"Each flush takes {FLUSH * 1000:g} ms more: SQLite's xSync sleeps so long before it syncs. `{_EACH}` is "
        "the same server with\nthe same store, whose groups have one mail each: a commit per mail.",
        contestant="server",
        columns=_COLUMNS,
        contests=[_rates(traffic, list(servers), seconds, servers) for traffic in SLOW],
        ratios=(_RATIO,),
        goals=[_goal(SLOW[1], _EACH, 12.0)],
        pictures=[Picture(column="rate", ratio=_IS, ours=ACCEPT)],
    )


def _with_large(names: Sequence[str], seconds: float) -> Table:
    contest = "beside ten sessions of 20 MB"
    return Table(
        name="large",
        title="Ten 20 MB mails beside small ones",
        text="Mails of 1 kB, one at a time 10 ms apart, alone, and while ten other sessions send 20 MB again and "
        "again. Milliseconds\nfrom MAIL to 250; `times` is the p99 beside them by the p99 alone.",
        contestant="server",
        columns=(
            Column(key="quiet_p50", heading="alone p50 ms", digits=2),
            Column(key="quiet_p99", heading="alone p99 ms", digits=2),
            Column(key="beside_p50", heading="beside p50 ms", digits=2),
            Column(key="beside_p99", heading="beside p99 ms", digits=2),
            _TIMES,
            Column(key="large", heading="20 MB mails/s", digits=1, more_is_better=True),
        ),
        contests=[Contest(contest, in_turn({name: partial(_beside, name, seconds) for name in names}))],
        goals=[Goal(contest=contest, contestant=ACCEPT, of="times", at_most=3.0)],
        pictures=[Picture(column="beside_p99", ours=ACCEPT)],
    )


def _alone(names: Sequence[str], seconds: float) -> Table:
    titles = {"kept": "a kept connection", "anew": "a connection per mail"}
    return Table(
        name="light",
        title="How long one mail takes",
        text="One mail of 1 kB at a time, the next one 20 ms after the last was taken. DATA to 250 is from the writing "
        "of the content\nto the reading of the 250; the others are from MAIL, and from the connecting.",
        contestant="server",
        columns=(
            _P50,
            _P99,
            Column(key="mail_p50", heading="MAIL to 250, p50 ms", digits=2),
            Column(key="mail_p99", heading="p99 ms", digits=2),
            Column(key="all_p50", heading="connecting to 250, p50 ms", digits=2),
            Column(key="all_p99", heading="p99 ms", digits=2),
        ),
        contests=[
            Contest(title, in_turn({name: partial(_light, name, kind, seconds) for name in names}))
            for kind, title in titles.items()
        ],
        ratios=(TimesOf(_BY_P50, POSTFIX, _P50), TimesOf(_BY_P99, POSTFIX, _P99)),
        goals=[
            Goal(contest=title, contestant=ACCEPT, of=heading, at_most=1.0)
            for title in titles.values()
            for heading in (_BY_P50, _BY_P99)
        ],
        pictures=[Picture(column="content_p50", ours=ACCEPT), Picture(column="content_p99", ours=ACCEPT)],
    )


SUITE = Suite(
    title="Durable accept",
    about="mails a second taken and stored, against aiosmtpd, Postfix, salmon and smtp-sink; slow disks; latency",
    seconds=1.0,
    rounds=3,
    tables=_tables,
)
