"""A look into a store without owning it: for commands when no server runs, and beside one that does."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import quote

import apsw

from monsal.errors import StoreError, StoreUnavailable
from monsal.store.contract import Ledger, Source
from monsal.store.engine.bodies import BodyFiles
from monsal.store.engine.chronicle import Asked, Event, Marks, read_events, rows_of_message
from monsal.store.engine.database import check_layout, configure, foreign_error
from monsal.store.engine.looking import What, dead_detail, read_ledger, read_outbox_counts, rows

__all__ = ["Inspector"]

T = TypeVar("T")


class Inspector:
    """Reads the database `path`, read-only, as of the last flush. A context manager; synchronous.

    Rows that run or are being sent are shown as waiting: who runs them is known to the server alone.
    Raises StoreUnavailable if there is no store, StoreCorrupt, StoreNewer.
    """

    def __init__(self, path: Path) -> None:
        self._path = path.absolute()
        self._bodies = BodyFiles(self._path.parent / "bodies")
        self._db: apsw.Connection | None = None

    def __enter__(self) -> Self:
        if not self._path.is_file():
            raise StoreUnavailable(f"there is no store at {self._path}")
        try:
            db = apsw.Connection(
                f"file:{quote(str(self._path))}?mode=ro",
                flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI,
            )
            self._db = db
            configure(db, writer=False)
            check_layout(db, self._path)
        except Exception as error:
            self._leave()
            raise self._meaning(error) from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leave()

    def _leave(self) -> None:
        if self._db is not None:
            self._db.close(True)
            self._db = None

    def _open(self) -> apsw.Connection:
        if self._db is None:
            raise StoreUnavailable("use the inspector as a context manager: with Inspector(path) as store: ...")
        return self._db

    def ledger(self) -> dict[Source, Ledger]:
        """The ledger by source; nothing is running as far as the disk knows."""
        return self._read(read_ledger)

    def outbox_counts(self) -> dict[str, int]:
        """Outgoing rows by status."""
        return self._read(read_outbox_counts)

    def rows(self, what: What, limit: int = 1000) -> list[Mapping[str, Any]]:
        """Rows with the columns of INTERFACE, oldest first."""
        return self._read(lambda db: rows(db, what, limit))

    def dead_detail(self, row: int) -> Mapping[str, Any] | None:
        """All about one dead letter, or None."""
        return self._read(lambda db: dead_detail(db, row, self._bodies))

    def events(self, asked: Asked, marks: Marks) -> list[Event]:
        """What happened and was not read yet, oldest first; `marks` move on."""
        return self._read(lambda db: read_events(db, asked, marks))

    def rows_of_message(self, message_id: str) -> tuple[int, ...]:
        """The rows that a Message-ID is of: it came with them, or answers that they made have it."""
        return self._read(lambda db: rows_of_message(db, message_id))

    def _read(self, question: Callable[[apsw.Connection], T]) -> T:
        try:
            return question(self._open())
        except apsw.Error as error:
            raise self._meaning(error) from error

    def _meaning(self, error: Exception) -> StoreError:
        place = self._path.parent
        if isinstance(error, apsw.ReadOnlyError | apsw.CantOpenError) and not os.access(place, os.W_OK | os.X_OK):
            # Also who only reads a WAL writes: SQLite notes its readers in a file beside the database.
            return StoreUnavailable(
                f"{self._path} cannot be read: this user may not write in {place}, which SQLite needs for reading, "
                f"too; call this as the user that the server runs as"
            )
        return foreign_error(error, self._path)
