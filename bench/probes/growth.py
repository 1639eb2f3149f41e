"""What a mail costs as work grows: `python -m bench.probes.growth WHAT SECONDS ROUNDS SIZE...`.

    conversations    known in the store, each with a state and its last mail, handled
    backlog          mails that wait, of 500 correspondents
    later            timers that are not due
    routes           in the table
    due              timers that are due

Each size has a store of its own, filled by SQL; batches of all sizes take turns, so that what moves on the machine
moves all of them. The last line is a JSON object: by size, for each round CPU microseconds of accept and turn.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import tempfile
import time
import types
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import apsw
import uvloop

from bench.probes.store import _BODY, _cpu, _turn
from monsal.clock import SystemClock
from monsal.conversation import Spool
from monsal.mail import Envelope
from monsal.routing import Router, literal, route
from monsal.store import SqliteStore

__all__ = ["ANYBODY", "WHAT", "main"]

#: Mails of a batch: each is accepted, and then has its turn.
BATCH = 100
_HOT = 500
_NUMBERS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?1)"
_KNOWN = "printf('known%07d@example.net', i)"
_STATES = (
    f"{_NUMBERS} INSERT INTO monsal_states SELECT 'desk', {_KNOWN}, 'A', i, i, 0.0, 'START', '', i FROM n WHERE i <= ?1"
)
_SPOOL = (
    "INSERT INTO monsal_spool(id, lease_key, source, status, sender, correspondent, recipient, message_id, body,"
    " received, due, attempts, kills, turns, dedup, envelope)"
)
#: So many mails more were accepted, and are done (place 1) or wait (place 2).
_COUNT = (
    "UPDATE monsal_meta SET ledger = json_set(ledger, '$[0][0]', ledger ->> '$[0][0]' + ?1, '$[0][{place}]',"
    " ledger ->> '$[0][{place}]' + ?1)"
)
_FILL: Mapping[str, Sequence[str]] = {
    "conversations": (
        _STATES,
        f"{_NUMBERS} {_SPOOL} SELECT i, {_KNOWN}, 0, 2, {_KNOWN}, {_KNOWN}, 'desk@example.com',"
        f" printf('<%d@known>', i), 0, ?2, ?2, 1, 0, 1, randomblob(32), x'7b7d' FROM n WHERE i <= ?1",
        f"{_NUMBERS} INSERT INTO monsal_history SELECT i, i, 'desk:TURN', 1, 'desk', {_KNOWN}, 'START', 'A', '', ?2, 1,"
        " i FROM n WHERE i <= ?1",
        _COUNT.format(place=1),
        "UPDATE monsal_meta SET last_row = ?1, last_turn = ?1, version = ?1",
    ),
    "backlog": (
        f"{_NUMBERS} INSERT INTO monsal_bodies(id, size, raw) SELECT i, 1000, zeroblob(1000) FROM n WHERE i <= ?1",
        f"{_NUMBERS} {_SPOOL} SELECT i, printf('w%d@example.net', i % {_HOT}), 0, 0, 'w@example.net',"
        f" printf('w%d@example.net', i % {_HOT}), 'desk@example.com', NULL, i, ?2, 0.0, 0, 0, 0, NULL, x'7b7d'"
        " FROM n WHERE i <= ?1",
        _COUNT.format(place=2),
        "UPDATE monsal_meta SET last_row = ?1, last_body = ?1",
    ),
    "routes": (),
}
_TIMERS = (
    _STATES,
    "INSERT INTO monsal_bodies(id, size, raw) VALUES (1, 1000, zeroblob(1000))",
    f"{_NUMBERS} INSERT INTO monsal_timers SELECT 'desk', {_KNOWN}, 'desk:REMIND', ?2, i, 'desk@example.com', {_KNOWN},"
    f" {_KNOWN}, '', NULL, 1, x'7b7d' FROM n WHERE i <= ?1",
    "UPDATE monsal_meta SET last_body = 1, version = ?1",
)
_DAY = 86_400.0
#: Timers that are drained in a round, if there are as many.
_DRAINED = 5_000
#: Turns of conversations that have not been spoken in for long.
ANYBODY = "turn, of anybody"


def _fill(path: Path, statements: Sequence[str], size: int, at: float) -> None:
    if not size:
        return
    db = apsw.Connection(str(path))
    db.execute("PRAGMA synchronous = OFF")
    with db:
        for sql in statements:
            # Those with one number take no time.
            db.execute(sql, (size, at) if "?2" in sql else (size,) if "?1" in sql else ())
    db.close()


async def _filled(place: Path, what: str, size: int) -> SqliteStore:
    path = place / f"{size}" / "monsal.db"
    path.parent.mkdir()
    store = SqliteStore(path)
    await store.open()
    await store.close()
    now = time.time()
    if what in ("later", "due"):
        _fill(path, _TIMERS, size, now + _DAY if what == "later" else now - 1)
    else:
        _fill(path, _FILL[what], size, now)
    store = SqliteStore(path)
    await store.open()
    return store


def _router(size: int) -> Router:
    """A table of so many routes; one of them at least."""
    module = types.ModuleType("grown")
    for number in range(max(size, 1)):

        def HANDLER(message: Any) -> None:
            """What a route calls."""

        HANDLER.__module__, HANDLER.__name__, HANDLER.__qualname__ = "grown", f"H{number}", f"H{number}"
        setattr(module, f"H{number}", route(f"user-{number}@(host)")(HANDLER))
    router = Router()
    router.defaults(host=literal("example.com"))
    router.load([module])
    return router


class _Grown:
    """A store of some size, and a way in to it."""

    def __init__(self, store: SqliteStore, routes: int, known: int) -> None:
        self.store = store
        self._spool = Spool(store, _router(routes), SystemClock())
        self._routes, self._known = max(routes, 1), known
        self._dice = random.Random(1)
        self._number = 0
        self.samples: dict[str, list[float]] = {}

    def prepare(self) -> None:
        """Have each route's pattern compiled, which the first address that reaches it does."""
        for number in range(self._routes):
            self._spool.accepts(f"user-{number}@example.com")

    async def batch(self) -> None:
        """Mails of those who write often, and their turns; then turns of anybody who is known."""
        await self._mails("turn", lambda: f"c{self._number % _HOT}@example.net")
        if self._known:
            await self._mails(ANYBODY, lambda: f"known{self._dice.randint(1, self._known):07d}@example.net")

    async def _mails(self, turn: str, who: Callable[[], str]) -> None:
        mails = [self._mail(who()) for _ in range(BATCH)]
        began = _cpu()
        await asyncio.gather(*(self._take(*mail) for mail in mails))
        if turn == "turn":
            self._note("accept", _cpu() - began, BATCH)
        began, turns = _cpu(), 0
        # As many as came, however many waited before: the backlog stays as long as it is.
        while turns < BATCH:
            rows = await self.store.claim(BATCH - turns, time.time(), 60.0)
            await asyncio.gather(*(_turn(self.store, row) for row in rows))
            turns += len(rows)
        self._note(turn, _cpu() - began, turns)

    def _mail(self, who: str) -> tuple[Envelope, bytes]:
        self._number += 1
        recipient = f"user-{self._number * 7919 % self._routes}@example.com"
        head = f"From: <{who}>\r\nTo: {recipient}\r\nMessage-ID: <{self._number}@growth>\r\n\r\n".encode()
        return Envelope(sender=who, recipients=(recipient,)), head + _BODY

    async def _take(self, envelope: Envelope, raw: bytes) -> None:
        refused = self._spool.accepts(envelope.recipients[0])
        if refused is not None:
            raise RuntimeError(f"{envelope.recipients[0]} is refused: {refused}")
        await self._spool.accept(envelope, (raw,))

    def _note(self, name: str, seconds: float, number: int) -> None:
        self.samples.setdefault(name, []).append(1e6 * seconds / number)

    def taken(self) -> dict[str, float]:
        """The median of each since the last call."""
        found = {name: median(values) for name, values in self.samples.items()}
        self.samples.clear()
        return found


async def _drained(store: SqliteStore, limit: int) -> dict[str, float]:
    """Timers that are due, until about `limit` have had their turn or none is left.

    As many are claimed as one claim makes rows of, so that rows are made only of those that are counted.
    """
    before, began, turns = _cpu(), time.perf_counter(), 0
    while turns < limit and (rows := await store.claim(1000, time.time(), 60.0)):
        await asyncio.gather(*(_turn(store, row) for row in rows))
        turns += len(rows)
    return {"turn": 1e6 * (_cpu() - before) / turns, "rate": turns / (time.perf_counter() - began)}


async def _due(place: Path, rounds: int, sizes: Sequence[int]) -> dict[int, list[dict[str, float]]]:
    found: dict[int, list[dict[str, float]]] = {size: [] for size in sizes}
    for number in range(rounds):
        for size in sizes:
            (place / str(number)).mkdir(exist_ok=True)
            store = await _filled(place / str(number), "due", size)
            found[size].append(await _drained(store, _DRAINED))
            await store.close()
    return found


async def _measure(
    place: Path, what: str, seconds: float, rounds: int, sizes: Sequence[int]
) -> dict[int, list[dict[str, float]]]:
    if what == "due":
        return await _due(place, rounds, sizes)
    grown = {}
    for size in sizes:
        known = size if what == "conversations" else 0
        grown[size] = _Grown(await _filled(place, what, size), size if what == "routes" else 1, known)
    for one in grown.values():
        one.prepare()
        # Those who write often are known from here on.
        for _ in range(_HOT // BATCH):
            await one.batch()
        one.samples.clear()
    found: dict[int, list[dict[str, float]]] = {size: [] for size in sizes}
    for _ in range(rounds):
        until = time.monotonic() + seconds
        while True:
            for one in grown.values():
                await one.batch()
            if time.monotonic() > until:
                break
        for size, one in grown.items():
            found[size].append(one.taken())
    for one in grown.values():
        await one.store.close()
    return found


WHAT = ("conversations", "backlog", "later", "routes", "due")


def main(words: Sequence[str]) -> None:
    """Measure one kind of growth; its figures are the last line."""
    what, seconds, rounds, *sizes = words
    with tempfile.TemporaryDirectory(prefix="monsal-bench-") as place:
        found = uvloop.run(_measure(Path(place), what, float(seconds), int(rounds), [int(size) for size in sizes]))
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1:])
