"""Measuring a server that has much to do already: mails that wait for their turn, answers that wait to leave.

with tempfile.TemporaryDirectory() as place:
    stock = Stock(Path(place))               # each filling is made once, and copied for each measurement
    rate_while_waiting(stock, 100_000, 500, 2.0, turn)
    drain(stock, 10_000, turn)
"""

from __future__ import annotations

import asyncio
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Coroutine
from contextlib import AbstractContextManager, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import uvloop

from bench.ends import Ends, Steady, into_maildir, over_sessions
from bench.harness import Sample
from bench.mailers import RECIPIENT, monsal, salmon, write_application
from bench.mails import MailMaker
from bench.processes import ROOT, family_cpu, our_environment, probe
from bench.sinks import counting_sink

__all__ = ["Stock", "aside", "drain", "queue_while_waiting", "rate_while_waiting"]

T = TypeVar("T")

_SESSIONS = 10


class Stock:
    """Stores that are filled already, below a directory."""

    def __init__(self, place: Path) -> None:
        self._place = place

    def put(self, home: Path, what: str, number: int, correspondents: int) -> None:
        """Give the application in `home` a store with so many `mails` or `replies` that wait."""
        made = self._place / f"{what}-{number}-{correspondents}"
        if not made.exists():
            made.mkdir()
            write_application(made, 1)
            words = [str(made), what, str(number), str(correspondents)]
            environment = our_environment(PYTHONPATH=f"{ROOT / 'src'}:{ROOT}", PYTHONDONTWRITEBYTECODE="1")
            probe([sys.executable, "-m", "bench.probes.waiting", *words], environment)
        shutil.copytree(made / "run", home / "run")


@asynccontextmanager
async def aside(manager: AbstractContextManager[T]) -> AsyncIterator[T]:
    """Enter and leave a context in a thread, so that the loop goes on meanwhile."""
    value = await asyncio.to_thread(manager.__enter__)
    try:
        yield value
    finally:
        await asyncio.to_thread(manager.__exit__, None, None, None)


def _sample(found: Steady) -> Sample:
    return {"rate": found.answers / found.seconds, "cpu_us": 1e6 * found.cpu / found.answers}


def rate_while_waiting(stock: Stock, waiting: int, correspondents: int, seconds: float, turn: int) -> Sample:
    """Whole turns of `monsal run`, while so many mails wait and each answer that arrives lets one more in."""

    async def body(home: Path) -> Steady:
        async with (
            Ends() as ends,
            aside(monsal()(home, ends.port)) as server,
            over_sessions(server.port, _SESSIONS, turn) as feeds,
        ):
            return await ends.steady(feeds, seconds, partial(family_cpu, server.pid))

    with tempfile.TemporaryDirectory(prefix="monsal-bench-") as place:
        stock.put(Path(place), "mails", waiting, correspondents)
        return _sample(_run(body(Path(place))))


def queue_while_waiting(waiting: int, seconds: float, turn: int) -> Sample:
    """The same of salmon's QueueReceiver and its maildir."""

    async def body(home: Path) -> Steady:
        async with Ends() as ends, aside(salmon("memory", queue=True)(home, ends.port)) as server:
            feed = into_maildir(home / "queue", turn)
            return await ends.steady([feed], seconds, partial(family_cpu, server.pid))

    with tempfile.TemporaryDirectory(prefix="monsal-bench-") as place:
        home = Path(place)
        for name in ("new", "cur", "tmp"):
            (home / "queue" / name).mkdir(parents=True)
        maker = MailMaker(999, (RECIPIENT,), 1024)
        for number in range(waiting):
            (home / "queue" / "new" / f"{number}.M{number}P0.bench").write_bytes(maker.make(number % 500, 1).data)
        return _sample(_run(body(home)))


def drain(stock: Stock, replies: int, turn: int) -> Sample:
    """`monsal run` on a store with answers that wait to leave, into a counting sink: the last nine tenths of them."""
    with tempfile.TemporaryDirectory(prefix="monsal-bench-") as place, counting_sink() as sink:
        home = Path(place)
        stock.put(home, "replies", replies, 500)
        with monsal()(home, sink.port) as server:
            first, began = sink.wait(max(1, replies // 10))
            used = family_cpu(server.pid)
            last, ended = sink.wait(replies)
            cpu = family_cpu(server.pid) - used
    # What had arrived when the first look was taken may be all, if it was a short one.
    mails, seconds = max(1, last - first), max(ended - began, 1e-3)
    return {"rate": mails / seconds, "cpu_us": 1e6 * cpu / mails}


def _run(body: Coroutine[Any, Any, Steady]) -> Steady:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(body)
