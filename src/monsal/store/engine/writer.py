"""The one connection that writes, and whether the loop has it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import apsw

from monsal.errors import StoreUnavailable
from monsal.store.engine.pending import Values

__all__ = ["Locked", "Occupied", "Writer"]


class Locked(StoreUnavailable):
    """Another program writes into the database, so an operation could not begin; nothing of it was done."""


class Occupied(StoreUnavailable):
    """A group is being flushed, and an operation needs the connection meanwhile; nothing of it was done."""


class Writer:
    """The connection. From `hand_over` to `take_back` a thread has it, for `commit`; all else raises Occupied then."""

    def __init__(self, db: apsw.Connection) -> None:
        #: For whoever has it, on whatever thread.
        self.connection = db
        #: The group that is being flushed; 0 for none.
        self.flushing = 0
        # For statements that give no rows. One cursor for all: a new one each time takes a quarter of the time.
        self._cursor = db.cursor()

    @property
    def db(self) -> apsw.Connection:
        """The connection, for the loop. Raises Occupied."""
        if self.flushing:
            raise Occupied("a group is being flushed")
        return self.connection

    @property
    def cursor(self) -> apsw.Cursor:
        """Its cursor for statements that give no rows. Raises Occupied."""
        if self.flushing:
            raise Occupied("a group is being flushed")
        return self._cursor

    def write(self, sql: str, values: Values = ()) -> None:
        """Run a statement that gives no rows. Raises Occupied, and what the disk says."""
        self.cursor.execute(sql, values)

    def write_all(self, sql: str, values: Sequence[Values]) -> None:
        """The same for each of some values."""
        self.cursor.executemany(sql, values)

    def select(self, sql: str, params: tuple[Any, ...] = ()) -> list[Any]:
        """All rows of a statement, which does not see the rows that pend. Raises Occupied, and what the disk says."""
        return self.db.execute(sql, params).fetchall()

    def begin(self) -> None:
        """Begin a transaction. Raises Locked."""
        try:
            self.cursor.execute("BEGIN IMMEDIATE")
        except apsw.BusyError as error:
            raise Locked(f"another program holds the database locked ({error})") from error

    def hand_over(self, group: int) -> None:
        """The connection goes to whoever flushes this group."""
        self.flushing = group

    def commit(self) -> None:
        """Put the transaction on the disk. Blocks until the disk has it (P1)."""
        self._cursor.execute("COMMIT")

    def take_back(self) -> None:
        """The flush is over, and the connection is the loop's again."""
        self.flushing = 0
