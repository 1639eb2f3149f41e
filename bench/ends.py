"""Both ends of a mail server in one process and on one clock: a client, and the sink that it relays to.

async with Ends() as ends:
    ...                                      # somebody relays to 127.0.0.1, ends.port
    found = await ends.one_by_one(port, 200)     # latency at light load
    rate, cpu = await ends.steady(...)           # the rate while as much waits as waited before
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Self

from bench.harness import Failed
from bench.mailers import RECIPIENT
from bench.mails import MailMaker
from bench.session import Session
from bench.sinks import SinkSession

__all__ = ["Ends", "Latencies", "Steady", "into_maildir", "over_sessions", "rank"]

_PATIENCE = 60.0
#: Seconds between an answer and the next mail at light load.
_GAP = 0.02
#: Seconds from the first answer on, for what is new to a server that has just started.
_SETTLE = 0.5


@dataclass
class Latencies:
    """Milliseconds of each mail: from DATA to its 250, and from there to the final dot of its answer at the sink."""

    accepted: list[float] = field(default_factory=list)
    answered: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Steady:
    """Answers in so many seconds, and the CPU seconds of the server for them."""

    answers: int
    seconds: float
    cpu: float


#: Sends the next mail; returns when the server has taken it.
Feed = Callable[[], Awaitable[object]]


def rank(values: Sequence[float], part: int) -> float:
    """The value that `part` per cent of them do not exceed (nearest rank)."""
    return sorted(values)[max(0, -(-len(values) * part // 100) - 1)]


class Ends:
    """The sink, from `async with` on; and what is measured with it."""

    def __init__(self) -> None:
        self.port = 0
        self.arrived = 0
        self._last = 0.0
        self._news = asyncio.Event()
        self._room = asyncio.Semaphore(0)

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: SinkSession(self._taken), "127.0.0.1", 0, backlog=1000)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.close()

    def _taken(self) -> None:
        self._last = time.perf_counter()
        self.arrived += 1
        self._news.set()
        self._room.release()

    async def _wait_for(self, number: int) -> None:
        """Until so many have arrived. Raises Failed if nothing comes for too long."""
        while self.arrived < number:
            self._news.clear()
            try:
                await asyncio.wait_for(self._news.wait(), _PATIENCE)
            except TimeoutError as error:
                raise Failed(f"{self.arrived} of {number} answers arrived") from error

    async def one_by_one(self, port: int, mails: int, seed: int) -> Latencies:
        """Mails over one connection, each some time after the answer to the last had arrived. Nothing is pipelined,
        so that DATA begins at the same point with every server."""
        found = Latencies()
        maker = MailMaker(seed, (RECIPIENT,), 1024)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)

        async def ask(line: bytes) -> None:
            if line:
                writer.write(line)
            while (said := await reader.readline())[3:4] == b"-":
                pass
            if said[:1] not in (b"2", b"3"):
                raise Failed(f"{line[:20]!r} was answered {said!r}")

        await ask(b"")
        await ask(b"EHLO load.example\r\n")
        for number in range(mails):
            mail = maker.make(number % 50, number // 50 + 1)
            before = self.arrived
            await ask(f"MAIL FROM:<{mail.sender}>\r\n".encode())
            await ask(f"RCPT TO:<{RECIPIENT}>\r\n".encode())
            began = time.perf_counter()
            await ask(b"DATA\r\n")
            await ask(mail.data.replace(b"\r\n.", b"\r\n..") + b".\r\n")
            taken = time.perf_counter()
            await self._wait_for(before + 1)
            found.accepted.append(1000 * (taken - began))
            # A server that answers before its 250 has no way to go from there.
            found.answered.append(1000 * max(0.0, self._last - taken))
            await asyncio.sleep(_GAP)
        await ask(b"QUIT\r\n")
        writer.close()
        return found

    async def steady(self, feeds: list[Feed], seconds: float, cpu: Callable[[], float]) -> Steady:
        """The rate of answers while each one that arrives lets one more mail in: what waits stays as much as it is."""
        tasks = [asyncio.create_task(self._follow(feed)) for feed in feeds]
        try:
            await self._wait_for(self.arrived + 1)
            await asyncio.sleep(_SETTLE)
            before, began, used = self.arrived, time.perf_counter(), cpu()
            await asyncio.sleep(seconds)
            # One at least, however slow it is.
            await self._wait_for(before + 1)
            found = Steady(self.arrived - before, time.perf_counter() - began, cpu() - used)
            for task in tasks:
                if task.done():
                    task.result()
            return found
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _follow(self, feed: Feed) -> None:
        while True:
            await self._room.acquire()
            await feed()


@asynccontextmanager
async def over_sessions(port: int, sessions: int, seed: int) -> AsyncIterator[list[Feed]]:
    """Feeds that are as many kept SMTP connections, cut at the end; 500 correspondents write over them."""
    loop = asyncio.get_running_loop()
    maker = MailMaker(seed, (RECIPIENT,), 1024)
    numbers = count()

    def feed(session: Session) -> Feed:
        async def send() -> None:
            number = next(numbers)
            mail = maker.make(number % 500, number // 500 + 1)
            ((_, answer),) = await session.transact(mail, list(mail.recipients))
            if answer.code != 250:
                raise Failed(f"{answer.code} {answer.text}")

        return send

    opened: list[Session] = []
    try:
        for _ in range(sessions):
            _, session = await loop.create_connection(lambda: Session(loop), "127.0.0.1", port)
            opened.append(session)
            await session.greeted()
        yield [feed(session) for session in opened]
    finally:
        for session in opened:
            session.abort()


def into_maildir(place: Path, seed: int) -> Feed:
    """A feed that puts a file into a maildir, by renaming it as those do."""
    maker = MailMaker(seed, (RECIPIENT,), 1024)
    numbers = count()

    async def put() -> None:
        number = next(numbers)
        name = f"{1_760_000_000 + number}.M{number}P1.bench"
        (place / "tmp" / name).write_bytes(maker.make(number % 500, number // 500 + 1).data)
        (place / "tmp" / name).rename(place / "new" / name)

    return put
