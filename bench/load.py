"""Put a mail server under load and write down what it promised: `python -m bench.load --help`.

Many correspondents write over a few connections. Each one sends its next mail only after the last one was
acknowledged, so its mails have an order that a server must keep; `X-Seq` numbers them from 1. When a connection is
lost, the mail on its way is sent again, the same to the byte: a server that has it already must not take it twice.

    python -m bench.load --port 8825 --recipient help@example.com --correspondents 300 --seconds 10 \\
        --out acknowledged.jsonl --json-sent sent.jsonl

Two records, each line written before anything else happens: `--json-sent` has a line before the first byte of a mail
leaves, `--out` a line for each recipient when its 250 is read. What is in `--out` must be on the server's disk; what is
on the server's disk must be in `--json-sent`. `--ready FILE` takes the address from a run/ready.json, anew at each
connection, so that the server may come back on another port.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.mails import SENDER, Mail, MailMaker
from bench.session import Answer, Session

__all__ = ["Load", "Options", "main", "run_load"]

#: Waits before another connection is tried, in seconds; the last one is repeated.
_BACKOFF = (0.02, 0.05, 0.1, 0.2, 0.4, 0.8)


@dataclass(frozen=True, kw_only=True)
class Options:
    """What to send, where to, and what to write down. Without `messages` and `seconds` it runs until stopped."""

    recipients: tuple[str, ...]
    sender: str = SENDER
    host: str = "127.0.0.1"
    port: int = 0
    unix: str | None = None
    ready: Path | None = None
    lmtp: bool = False
    correspondents: int = 10
    connections: int = 10
    messages: int | None = None
    seconds: float | None = None
    per_connection: int = 0
    rate: float = 0.0
    seed: int = 1
    size: int = 1024
    give_up: float = 60.0
    timeout: float = 60.0
    grace: float = 10.0
    out: Path | None = None
    sent: Path | None = None


@dataclass
class Tally:
    """What happened."""

    sent: int = 0
    acknowledged: int = 0
    resent: int = 0
    deferred: int = 0
    refused: int = 0
    connects: int = 0
    lost: int = 0
    #: The longest time without an acknowledgement, in seconds, once there was one.
    gap: float = 0.0
    latencies: list[float] = field(default_factory=list)
    troubles: dict[str, int] = field(default_factory=dict)

    def trouble(self, what: str) -> None:
        """Count a kind of trouble; a few kinds are enough to see what it was."""
        if what in self.troubles or len(self.troubles) < 20:
            self.troubles[what] = self.troubles.get(what, 0) + 1


class GaveUp(Exception):
    """The server took nothing for too long."""


class Record:
    """A file of JSON lines; each is handed to the system at once, so that it outlives this process."""

    def __init__(self, path: Path | None) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644) if path else -1

    def write(self, row: dict[str, Any]) -> None:
        """Add a line."""
        if self._fd >= 0:
            os.write(self._fd, json.dumps(row).encode() + b"\n")

    def close(self) -> None:
        """Close the file."""
        if self._fd >= 0:
            os.close(self._fd)


class Load:
    """One run. `run` ends when everything is acknowledged, when the time is over, or after `stop`."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.tally = Tally()
        self._maker = MailMaker(options.seed, options.recipients, options.size, options.sender)
        self._stopping = asyncio.Event()
        self._sessions: dict[int, Session] = {}
        self._start = self._last_good = 0.0
        self._slot = 0.0

    def stop(self) -> None:
        """Begin no further mail; those on their way are waited for."""
        self._stopping.set()

    async def run(self) -> dict[str, Any]:
        """Send it all; returns the summary. Raises GaveUp when the server takes nothing for too long."""
        loop = asyncio.get_running_loop()
        self._out, self._sent = Record(self.options.out), Record(self.options.sent)
        began = self._start = self._last_good = self._slot = loop.time()
        cpu, self._began = time.process_time(), time.monotonic()
        lanes = min(self.options.connections, self.options.correspondents)
        clock = asyncio.create_task(self._watch(loop))
        timer = loop.call_later(self.options.seconds, self.stop) if self.options.seconds else None
        try:
            async with asyncio.TaskGroup() as group:
                for lane in range(lanes):
                    group.create_task(self._drive(lane, lanes))
        except* GaveUp as group_of_one:
            raise group_of_one.exceptions[0] from None
        finally:
            if timer is not None:
                timer.cancel()
            clock.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await clock
            for session in self._sessions.values():
                session.abort()
            self._out.close()
            self._sent.close()
        return self._summary(loop.time() - began, time.process_time() - cpu)

    async def _drive(self, lane: int, lanes: int) -> None:
        """One connection: the mails of its correspondents, one at a time."""
        used = 0
        for correspondent, seq in self._numbers(lane, lanes):
            await self._pace()
            if self._stopping.is_set():
                break
            if self.options.per_connection and used >= self.options.per_connection:
                await self._sessions.pop(lane).quit()
                used = 0
            await self._deliver(lane, self._maker.make(correspondent, seq))
            used += 1
        if lane in self._sessions:
            await self._sessions.pop(lane).quit()

    def _numbers(self, lane: int, lanes: int) -> Iterator[tuple[int, int]]:
        """(correspondent, seq) in the order of this connection, each correspondent in turn."""
        total, many = self.options.messages, self.options.correspondents
        own = range(lane, many, lanes)
        for seq in itertools.count(1):
            now = own if total is None else [n for n in own if seq <= total // many + (n < total % many)]
            if not now:
                return
            for correspondent in now:
                yield correspondent, seq

    async def _pace(self) -> None:
        if self.options.rate:
            now = asyncio.get_running_loop().time()
            self._slot = max(self._slot + 1 / self.options.rate, now - 1.0)
            await self._pause(self._slot - now)

    async def _pause(self, seconds: float) -> None:
        """Wait, but not longer than until the load is stopped."""
        if seconds > 0:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), seconds)

    async def _deliver(self, lane: int, mail: Mail) -> None:
        """Send a mail until each recipient is answered for good, or the load is stopped between two tries."""
        self._note_sent(mail)
        loop = asyncio.get_running_loop()
        while mail.pending:
            session = await self._session(lane, loop)
            if session is None:
                return
            began = time.perf_counter()  # uvloop's own clock counts milliseconds only
            self.tally.resent += bool(mail.tries)
            mail.tries += 1
            try:
                answers = await session.transact(mail, list(mail.pending))
            except ConnectionError as error:
                self.tally.lost += 1
                self.tally.trouble(str(error))
                self._check_patience(loop, str(error))
                await self._pause(_BACKOFF[min(mail.tries, len(_BACKOFF)) - 1])
                continue
            self.tally.latencies.append(time.perf_counter() - began)
            self._take(mail, answers)
            if mail.pending:
                if self._stopping.is_set():
                    return
                self._check_patience(loop, answers[0][1].text)
                await self._pause(_BACKOFF[min(mail.tries, len(_BACKOFF)) - 1])

    def _take(self, mail: Mail, answers: Sequence[tuple[str, Answer]]) -> None:
        for recipient, answer in answers:
            if 200 <= answer.code < 300:
                now = asyncio.get_running_loop().time()
                if self.tally.acknowledged:
                    self.tally.gap = max(self.tally.gap, now - self._last_good)
                self.tally.acknowledged += 1
                self._last_good = now
                self._note_acknowledged(mail, recipient, answer)
                mail.pending.remove(recipient)
            elif answer.code >= 500:
                self.tally.refused += 1
                self.tally.trouble(f"{answer.code} {answer.text}")
                mail.pending.remove(recipient)
            else:
                self.tally.deferred += 1
                self.tally.trouble(f"{answer.code} {answer.text}")

    def _note_sent(self, mail: Mail) -> None:
        self.tally.sent += 1
        who = {"correspondent": mail.correspondent, "seq": mail.seq, "sender": mail.sender}
        self._sent.write({"message_id": mail.message_id, "recipients": mail.recipients, **who})

    def _note_acknowledged(self, mail: Mail, recipient: str, answer: Answer) -> None:
        row = {"message_id": mail.message_id, "recipient": recipient, "correspondent": mail.correspondent}
        self._out.write({**row, "seq": mail.seq, "reply": f"{answer.code} {answer.text}"})

    async def _session(self, lane: int, loop: asyncio.AbstractEventLoop) -> Session | None:
        """The connection of a lane, a new one if the last was lost; None once the load is stopped."""
        if lane in self._sessions and self._sessions[lane].alive:
            return self._sessions[lane]
        for attempt in itertools.count():
            if self._stopping.is_set():
                return None
            try:
                session = await self._connect(loop)
                self._sessions[lane] = session
                await session.greeted()
                self.tally.connects += 1
                return session
            except (OSError, LookupError, ValueError) as error:
                self.tally.trouble(f"connect: {error}")
                self._check_patience(loop, str(error))
                await self._pause(_BACKOFF[min(attempt, len(_BACKOFF) - 1)])
        return None

    async def _connect(self, loop: asyncio.AbstractEventLoop) -> Session:
        options = self.options

        def factory() -> Session:
            return Session(loop, lmtp=options.lmtp)

        host, port, path = options.host, options.port, options.unix
        if options.ready:
            host, port, path = _read_ready(options.ready, "lmtp" if options.lmtp else "smtp")
        if path:
            return (await loop.create_unix_connection(factory, path))[1]
        return (await loop.create_connection(factory, host, port))[1]

    def _check_patience(self, loop: asyncio.AbstractEventLoop, reason: str) -> None:
        if loop.time() - self._last_good > self.options.give_up:
            raise GaveUp(f"nothing was acknowledged for {self.options.give_up:.0f} s: {reason}")

    async def _watch(self, loop: asyncio.AbstractEventLoop) -> None:
        """Cut connections on which nothing has moved for too long, and all of them some time after a stop."""
        stopped = None
        while True:
            await asyncio.sleep(0.5)
            if self._stopping.is_set() and stopped is None:
                stopped = loop.time()
            over = stopped is not None and loop.time() - stopped > self.options.grace
            for session in self._sessions.values():
                if over or loop.time() - session.last_news > self.options.timeout:
                    session.abort()

    def _summary(self, seconds: float, cpu: float) -> dict[str, Any]:
        tally = self.tally
        latencies = sorted(tally.latencies) or [0.0]
        return {
            "sent": tally.sent,
            "acknowledged": tally.acknowledged,
            "resent": tally.resent,
            "deferred": tally.deferred,
            "refused": tally.refused,
            "connects": tally.connects,
            "lost": tally.lost,
            "began": self._began,
            "seconds": round(seconds, 3),
            "last_s": round(max(0.0, self._last_good - self._start), 3),
            "rate": round(tally.acknowledged / seconds, 1) if seconds else 0.0,
            "p50_ms": round(1000 * latencies[len(latencies) // 2], 3),
            "p99_ms": round(1000 * latencies[len(latencies) * 99 // 100], 3),
            "gap_ms": round(1000 * tally.gap, 3),
            "client_cpu_us": round(1e6 * cpu / max(tally.acknowledged, 1), 1),
            "troubles": tally.troubles,
        }


def _read_ready(path: Path, kind: str) -> tuple[str, int, str | None]:
    """Host and port, or the path of a unix socket, from a server's run/ready.json. Raises OSError, LookupError or
    ValueError while there is none."""
    address = json.loads(path.read_text(encoding="utf-8"))[kind][0]
    host, _, port = address.rpartition(":")
    if host and port.isdigit():
        return host.strip("[]"), int(port), None
    return "", 0, str(path.parent.parent / address.removeprefix("unix:"))


def run_load(options: Options) -> dict[str, Any]:
    """Run a load on a loop of its own; SIGTERM and SIGINT stop it cleanly. Returns the summary, or raises GaveUp."""

    async def body() -> dict[str, Any]:
        load = Load(options)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, load.stop)
        return await load.run()

    try:
        import uvloop
    except ImportError:
        return asyncio.run(body())
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(body())


def _parse(arguments: Sequence[str] | None) -> tuple[Options, Path | None]:
    parser = argparse.ArgumentParser(prog="python -m bench.load", description="Put a mail server under load.")
    where = parser.add_argument_group("where to")
    where.add_argument("--host", default="127.0.0.1")
    where.add_argument("--port", type=int, default=0)
    where.add_argument("--unix", metavar="PATH", help="a unix socket instead of host and port")
    where.add_argument("--ready", metavar="FILE", type=Path, help="a server's run/ready.json, read at each connection")
    where.add_argument("--lmtp", action="store_true", help="speak LMTP")
    what = parser.add_argument_group("what")
    what.add_argument("--recipient", dest="recipients", action="append", required=True, metavar="PATTERN",
                      help="{n} is the correspondent, {seq} the number of the mail; may be given again")  # fmt: skip
    what.add_argument("--sender", default=SENDER, metavar="PATTERN", help="who writes; without {n} all are one person")
    what.add_argument("--correspondents", type=int, default=10, metavar="M")
    what.add_argument("--connections", type=int, default=10, metavar="K")
    what.add_argument("--per-connection", type=int, default=0, metavar="N", help="mails a connection; 0: no limit")
    what.add_argument("--size", type=int, default=1024, metavar="BYTES")
    what.add_argument("--seed", type=int, default=1)
    long = parser.add_argument_group("how long")
    long.add_argument("--messages", type=int, metavar="N", help="mails in all")
    long.add_argument("--seconds", type=float, metavar="S")
    long.add_argument("--rate", type=float, default=0.0, help="mails a second; 0: as fast as it goes")
    long.add_argument("--give-up", type=float, default=60.0, metavar="S", help="exit 75 after so long without success")
    long.add_argument("--timeout", type=float, default=60.0, metavar="S", help="for one reply")
    long.add_argument("--grace", type=float, default=10.0, metavar="S", help="for what is on its way at the end")
    record = parser.add_argument_group("what to write down")
    record.add_argument("--out", type=Path, metavar="FILE", help="a JSON line for each acknowledged recipient")
    record.add_argument("--json-sent", dest="sent", type=Path, metavar="FILE", help="a JSON line for each mail begun")
    record.add_argument("--summary", type=Path, metavar="FILE", help="the summary; without it, on stderr")
    values = vars(parser.parse_args(arguments))
    summary = values.pop("summary")
    if not (values["port"] or values["unix"] or values["ready"]):
        parser.error("one of --port, --unix and --ready is needed")
    if min(values["correspondents"], values["connections"]) < 1:
        parser.error("--correspondents and --connections are at least 1")
    values["recipients"] = tuple(values["recipients"])
    return Options(**values), summary


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program; returns its exit code: 0 done or stopped, 75 gave up."""
    options, summary = _parse(arguments)
    try:
        result = run_load(options)
    except GaveUp as error:
        print(f"bench.load: {error}", file=sys.stderr)
        return os.EX_TEMPFAIL
    line = json.dumps(result)
    if summary:
        summary.write_text(line + "\n", encoding="utf-8")
    else:
        print(line, file=sys.stderr)
    return os.EX_OK


if __name__ == "__main__":
    sys.exit(main())
