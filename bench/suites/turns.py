"""Whole turns: a mail comes in by SMTP, is handled, and its answer arrives at a sink."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import uvloop

from bench.backlog import Stock, aside, drain, queue_while_waiting, rate_while_waiting
from bench.document import Column, Picture
from bench.ends import Ends, Latencies, rank
from bench.harness import Contest, Failed, Goal, Measure, Played, Sample, Suite, Table, TimesBetter, TimesOf, in_turn
from bench.mailers import RECIPIENT, Mailer, monsal, peer_python, postfix, salmon
from bench.processes import ROOT, family_cpu, our_environment, plain_environment, probe
from bench.sinks import counting_sink

__all__ = ["SUITE"]

OURS: Final = "monsal run"
_MEMORY: Final = "salmon, memory"
_SHELVE: Final = "salmon, shelve"
_POSTFIX: Final = "Postfix relay"
_IS: Final = "monsal run is"


@dataclass(frozen=True)
class Traffic:
    """So many kept connections, over which `correspondents` write 1 kB mails one after the other."""

    title: str
    connections: int
    correspondents: int = 500


TEN = Traffic("10 sessions", 10)
FIFTY = Traffic("50 sessions", 50)
SAME = Traffic("10 sessions, 1 correspondent", 10, 1)
ONE = Traffic("1 session", 1)

_RATE = Column(key="rate", heading="mails/s", spread=True, more_is_better=True)
_CPU = Column(key="cpu_us", heading="CPU us a mail", spread=True)


def _mailers(peers: bool) -> Mapping[str, Mailer]:
    ours = {OURS: monsal(), f"{OURS} --workers 2": monsal(2)}
    theirs = {_MEMORY: salmon("memory"), _SHELVE: salmon("shelve"), _POSTFIX: postfix()}
    return {**ours, **theirs} if peers else ours


def _load(port: int, traffic: Traffic, seconds: float, seed: int) -> dict[str, Any]:
    who = ["--sender", "customer@load.example"] if traffic.correspondents == 1 else []
    # A correspondent of the load writes over one connection; so one person who writes over ten is ten of them.
    many = max(traffic.correspondents, traffic.connections)
    command = [
        *(sys.executable, "-m", "bench.load", "--port", str(port), "--recipient", RECIPIENT, *who),
        *("--correspondents", str(many), "--connections", str(traffic.connections), "--seconds", str(seconds)),
        *("--seed", str(seed)),
    ]
    done = subprocess.run(command, cwd=ROOT, env=our_environment(), capture_output=True, text=True, check=False)
    if done.returncode:
        raise Failed(f"the load ended with {done.returncode}: {done.stderr.strip().splitlines()[-1:]}")
    found: dict[str, Any] = json.loads(done.stderr.splitlines()[-1])
    return found


def _overflows() -> int:
    """Connections that the kernel dropped because a listener was slow to accept (netstat's TcpExt)."""
    names, values = (
        line.split()[1:] for line in Path("/proc/net/netstat").read_text().splitlines() if line.startswith("TcpExt:")
    )
    return int(dict(zip(names, values, strict=True))["ListenOverflows"])


def _turns(start: Mailer, traffic: Traffic, seconds: float, turn: int) -> Sample:
    dropped = _overflows()
    with (
        tempfile.TemporaryDirectory(prefix="monsal-bench-") as place,
        counting_sink() as sink,
        start(Path(place), sink.port) as server,
    ):
        warm = _load(server.port, traffic, min(seconds, 0.5), turn + 1000)["acknowledged"]
        sink.wait(warm)
        before = family_cpu(server.pid)
        found = _load(server.port, traffic, seconds, turn)
        mails = found["acknowledged"]
        arrived, end = sink.wait(warm + mails)
        cpu = family_cpu(server.pid) - before
        if arrived > warm + mails:
            raise Failed(f"{arrived} answers to {warm + mails} mails")
    return {
        # Nothing may have been taken in time; the sink has no moment of it then.
        "rate": mails / (end - found["began"]) if mails else 0.0,
        "cpu_us": 1e6 * cpu / max(mails, 1),
        "dropped": float(_overflows() - dropped),
    }


def _goal(peer: str, times: float) -> Goal:
    return Goal(contest=TEN.title, contestant=peer, of=_IS, at_least=times)


def _whole(seconds: float, peers: bool) -> Table:
    mailers = _mailers(peers)
    return Table(
        name="turns",
        title="Whole turns into a sink",
        text="Mails of 1 kB over kept connections, as fast as they are taken; the rate ends with the arrival of the "
        "last answer at\nsmtp-sink. monsal stores each mail before its 250, moves a state on the disk and answers; "
        "salmon stores no mail, moves a\nstate in memory or on its shelf and answers before its 250; Postfix stores "
        "each mail and sends it on, without a handler.\nCPU is that of all processes of the server. `SYNs dropped` "
        "are connections that the kernel had to refuse for the moment\n(ListenOverflows); each costs its client a "
        "second or more.",
        contestant="server",
        columns=(_RATE, _CPU, Column(key="dropped", heading="SYNs dropped", spread=True)),
        contests=[
            Contest(
                traffic.title,
                in_turn({name: partial(_turns, start, traffic, seconds) for name, start in mailers.items()}),
            )
            for traffic in (TEN, FIFTY, SAME, ONE)
        ],
        ratios=(TimesBetter(_IS, OURS, _RATE),),
        # DESIGN 8.
        goals=(_goal(_MEMORY, 3.0), _goal(_SHELVE, 5.0), _goal(_POSTFIX, 3.0)),
        pictures=(Picture(column=_RATE.key, ratio=_IS, ours=OURS),),
    )


def _light(start: Mailer, mails: int, turn: int) -> Sample:
    async def body(home: Path) -> Latencies:
        async with Ends() as ends, aside(start(home, ends.port)) as server:
            await ends.one_by_one(server.port, max(mails // 10, 1), turn + 1000)  # warm
            return await ends.one_by_one(server.port, mails, turn)

    with (
        tempfile.TemporaryDirectory(prefix="monsal-bench-") as place,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        found = runner.run(body(Path(place)))
    whole = [one + other for one, other in zip(found.accepted, found.answered, strict=True)]
    measured = {"accept": found.accepted, "whole": whole}
    if any(found.answered):
        # Else it answers before its 250, and there is no way from there.
        measured["answer"] = found.answered
    return {f"{name}_{part}": rank(values, part) for name, values in measured.items() for part in (50, 99)}


def _latency(seconds: float, peers: bool) -> Table:
    ours = {OURS: monsal()}
    mailers = {**ours, _POSTFIX: postfix(), _MEMORY: salmon("memory")} if peers else ours
    columns = {
        key: Column(key=key, heading=f"{words} p{part} ms", digits=2)
        for name, words in (("accept", "DATA to 250"), ("answer", "250 to answer"), ("whole", "DATA to answer"))
        for part in (50, 99)
        for key in [f"{name}_{part}"]
    }
    # DESIGN 8; the two of the whole way are for the eye.
    bounds = {"accept_50": 1.0, "answer_50": 2.0, "answer_99": 1.2, "whole_50": None, "whole_99": None}
    ratios = [
        TimesOf(f"{columns[key].heading.removesuffix(' ms')} of {_POSTFIX}", _POSTFIX, columns[key]) for key in bounds
    ]
    title = "1 session, 20 ms after each answer"
    return Table(
        name="latency",
        title="Latency at light load",
        text="From DATA to its 250, from there to the final dot of the answer at the sink, and both together. salmon "
        "answers before\nits 250, so that there is no way from there. Client and sink are one process with one clock.",
        contestant="server",
        columns=tuple(columns.values()),
        contests=[
            Contest(
                title,
                in_turn({name: partial(_light, start, max(5, int(100 * seconds))) for name, start in mailers.items()}),
            )
        ],
        ratios=ratios,
        pictures=(Picture(column="whole_50", ours=OURS),),
        goals=[
            Goal(contest=title, contestant=OURS, of=ratio.heading, at_most=most)
            for ratio, most in zip(ratios, bounds.values(), strict=True)
            if most is not None
        ],
    )


def _backlog(seconds: float, peers: bool) -> Table:
    # A short look has less of everything.
    much = max(1000, min(100_000, int(100_000 * seconds)))
    few, many = "100 waiting", f"{much:,} waiting"
    apart = f"{many}, as many correspondents"

    def ours(rounds: int, seed: int) -> Played:
        with tempfile.TemporaryDirectory(prefix="monsal-bench-") as place:
            stock = Stock(Path(place))
            cases = {few: (100, 500), many: (much, 500), apart: (much, much)}
            measures = {name: partial(rate_while_waiting, stock, *case, seconds) for name, case in cases.items()}
            return in_turn(measures)(rounds, seed)

    queue = {
        few: partial(queue_while_waiting, 100, seconds),
        "1,000 waiting": partial(queue_while_waiting, 1000, seconds),
    }
    of_few = TimesOf(f"of {few}", few, _RATE)
    return Table(
        name="backlog",
        title="Turns while others wait",
        text="The rate of answers while so many mails wait for their turn: each answer that arrives lets one more mail "
        "in, so that as\nmany wait at the end. monsal takes them by SMTP over 10 sessions, salmon's QueueReceiver from "
        "its maildir.",
        contestant="backlog",
        columns=(_RATE, _CPU),
        contests=[Contest(OURS, ours), *([Contest("salmon, queue", in_turn(queue))] if peers else [])],
        ratios=(of_few,),
        goals=[Goal(contest=OURS, contestant=name, of=of_few.heading, at_least=0.8) for name in (many, apart)],
    )


def _send(name: str, connections: int, seconds: float, turn: int) -> Sample:
    python = sys.executable if name == "smtplib" else peer_python(name)
    with counting_sink() as sink:
        words = [name, str(connections), str(sink.port), str(seconds)]
        found = probe([python, str(ROOT / "bench" / "probes" / "senders.py"), *words], plain_environment())
    return {"rate": found["mails"] / found["seconds"], "cpu_us": 1e6 * found["cpu"] / found["mails"]}


def _outbox(seconds: float, peers: bool) -> Table:
    replies = max(200, int(5000 * seconds))

    def play(rounds: int, seed: int) -> Played:
        with tempfile.TemporaryDirectory(prefix="monsal-bench-") as place:
            contestants: dict[str, Measure] = {OURS: partial(drain, Stock(Path(place)), replies)}
            if peers:
                contestants |= {
                    f"{name} x{connections}": partial(_send, name, connections, seconds)
                    for name, connections in (("aiosmtplib", 10), ("smtplib", 1), ("smtplib", 10))
                }
            return in_turn(contestants)(rounds, seed)

    title = "1 kB, kept connections"
    return Table(
        name="outbox",
        title="From the outbox to a sink",
        text=f"{OURS} has a store with {replies:,} answers that wait to leave; it writes down what became of each. "
        "The others send the same\nmail from memory again and again, over as many connections as they say, and write "
        "down nothing; aiosmtplib on uvloop,\nsmtplib with a thread for each connection.",
        contestant="sender",
        columns=(_RATE, _CPU),
        contests=[Contest(title, play)],
        ratios=(TimesBetter(_IS, OURS, _RATE), TimesBetter(f"{_IS} (CPU)", OURS, _CPU)),
        goals=[Goal(contest=title, contestant="aiosmtplib x10", of=_IS, at_least=3.0)] if peers else [],
    )


def _tables(seconds: float, peers: bool) -> Sequence[Table]:
    return [part(seconds, peers) for part in (_whole, _latency, _backlog, _outbox)]


SUITE = Suite(
    title="The way of a message, from socket to socket",
    about="whole turns into a sink, their latency, with a backlog; the outbox alone; against salmon and Postfix",
    seconds=1.5,
    rounds=3,
    tables=_tables,
)
