"""Reading statements of an application, beside the writer: one that is slow stops no mail (P7).

They run on a connection that cannot write, on a thread of its own. It sees what is committed, so `core.read` has the
open group flushed first.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Any, Final

import apsw

from monsal.errors import StatementError, StoreUnavailable
from monsal.store.engine.data import Data
from monsal.store.engine.database import Guard, foreign_error
from monsal.store.engine.hand import Hand
from monsal.store.engine.place import Place
from monsal.store.engine.text import load_text, store_text

__all__ = ["Reader", "nothing", "read_here"]

#: Reads that may wait for each other. More are refused: each of them may take as long as a statement may.
_WAITING: Final = 64

Rows = list[tuple[Any, ...]]


def nothing(data: Data) -> None:
    """An operation to wait for: when it is durable, so is all before it."""


def read_here(data: Data, sql: str, params: Sequence[Any]) -> Rows:
    """Run a reading statement as an operation on the writer's connection."""
    if data.dirty:
        data.seal()  # with its rows and counters; more may come to the group
    return _read(data.guard, data.writer.db, sql, params)


def _read(guard: Guard, db: apsw.Connection, sql: str, params: Sequence[Any]) -> Rows:
    if not isinstance(params, Sequence):
        raise StatementError(f"the parameters of a statement are a list, not {type(params).__name__}: {sql}")
    stored = tuple(store_text(item) if isinstance(item, str) else item for item in params)
    found = guard.read(db, sql, stored)
    return [tuple(load_text(item) if isinstance(item, str) else item for item in row) for row in found]


class Reader:
    """Reads for one opening of the store. `read` and `refuse` are called on the loop; `stop` blocks."""

    def __init__(self, loop: asyncio.AbstractEventLoop, place: Place) -> None:
        self._loop = loop
        self._place = place
        self._guard = Guard()
        self._hand: Hand | None = None
        self._db: apsw.Connection | None = None
        self._waiting = 0

    async def read(self, sql: str, params: Sequence[Any]) -> Rows:
        """The rows of one statement. Raises StatementError, StoreUnavailable, StoreCorrupt."""
        if self._guard.is_stopped:
            raise StoreUnavailable(f"{self._place.name} is not available")
        if self._waiting >= _WAITING:
            raise StoreUnavailable(f"{self._place.name}: {_WAITING} reading statements wait already")
        if self._hand is None:
            self._hand = Hand(self._loop, "monsal-read")
        self._waiting += 1
        return await self._hand.ask(lambda: self._run(sql, params), done=self._one_less)

    def _one_less(self) -> None:
        self._waiting -= 1

    def refuse(self) -> None:
        """Take no more reads, and end the one that runs."""
        self._guard.is_stopped = True

    def stop(self) -> None:
        """End, and leave the database. After `refuse`."""
        if self._hand is not None:
            self._hand.stop()
        self._leave()

    def _run(self, sql: str, params: Sequence[Any]) -> Rows:
        try:
            if self._guard.is_stopped:
                raise StoreUnavailable(f"{self._place.name} is not available")
            if self._db is None:
                self._db = self._place.connect_reading(self._guard)
            return _read(self._guard, self._db, sql, params)
        except apsw.Error as error:
            self._leave()
            raise foreign_error(error, self._place.name) from error

    def _leave(self) -> None:
        db, self._db = self._db, None
        if db is not None:
            with contextlib.suppress(apsw.Error):
                db.close(True)
