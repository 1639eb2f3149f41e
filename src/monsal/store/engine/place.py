"""Where a store lives: a file with its lock, its bodies and its settings, or this process's memory."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import apsw
import msgspec

from monsal.errors import StoreUnavailable
from monsal.ids import new_secret
from monsal.store.engine.bodies import BodyFiles
from monsal.store.engine.database import Guard, check_layout, configure, foreign_error, migrate, select
from monsal.store.engine.lock import OwnerLock

__all__ = ["EngineSettings", "FilePlace", "MemoryPlace", "Place"]

#: A file up to this size is checked as a whole when it is opened; that takes about 2 ms a megabyte.
_CHECKED_SIZE = 16 * 1024 * 1024


#: Uses of other statements after which SQLite's binding throws one out: the five of each commit of a group must outlast
#: the thousand of its two hundred turns (with 256 they were parsed anew each time).
_STATEMENTS = 4096


class EngineSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How the engine works. The defaults are right; tests turn some of them.

    `body_limit`: bytes above which a body becomes a file (DESIGN 4). `window`: seconds that applied turns may wait
    for others before they are flushed. `group_limit`: operations in a group. `inline_below`: seconds that a flush
    may take to be made on the loop's own thread. `duplicates_for`: seconds in which a mail can be a duplicate.
    `timers_at_once`: timers that one claim makes rows of. `checkpoint_pages`: new pages in the WAL that are moved into
    the database in the background; `checkpoint_limit`: pages at which the writer stops for the rest of them; both up to
    a quarter of the former later, to find a moment in which nobody waits for the disk.
    `fresh_bytes`: memory for bodies that were just accepted, and as much for those of answers that wait to leave.
    `cached_states`: states kept in memory. `sweep_after`: seconds for which a large body may wait for its mail; 0 where
    no other process writes bodies. `vfs`: of SQLite, None for its own. `narrow`: queues with work up
    to which operations are applied while a group is being flushed. `soft_limit` failures that are not hard, within
    `soft_window` seconds, suppress an address for `soft_for`.
    """

    body_limit: int = 128 * 1024
    window: float = 0.002
    group_limit: int = 200
    inline_below: float = 0.001
    duplicates_for: float = 3 * 86400.0
    timers_at_once: int = 1000
    checkpoint_pages: int = 1000
    checkpoint_limit: int = 8000
    fresh_bytes: int = 4 * 1024 * 1024
    cached_states: int = 20_000
    sweep_after: float = 0.0
    vfs: str | None = None
    narrow: int = 2
    soft_limit: int = 5
    soft_window: float = 7 * 86400.0
    soft_for: float = 14 * 86400.0


class Place(Protocol):
    """What the core opens, and opens again after an error."""

    name: str
    bodies: BodyFiles | None
    guard: Guard

    def take(self) -> None:
        """Take it into possession. Raises StoreLocked, StoreUnavailable."""
        ...

    def give_back(self) -> None: ...

    def connect(self) -> apsw.Connection:
        """A writing connection to an up-to-date layout. Raises StoreError."""
        ...

    def connect_beside(self) -> apsw.Connection | None:
        """A second connection, for checkpoints, or None if there is nothing to move."""
        ...

    def connect_reading(self, guard: Guard) -> apsw.Connection:
        """A connection that cannot write, for statements that `guard` judges. Raises apsw.Error."""
        ...

    def disconnect(self, db: apsw.Connection) -> None:
        """Leave a connection; what is not committed is undone."""
        ...


class FilePlace:
    """A database file, the lock and the folder `bodies` beside it."""

    def __init__(self, path: Path, tables: Sequence[str], settings: EngineSettings) -> None:
        self.path = path
        self.name = str(path)
        self.bodies: BodyFiles | None = BodyFiles(path.parent / "bodies")
        self.guard = Guard()
        self._tables = tables
        self._settings = settings
        self._lock = OwnerLock(path.parent / "store.lock")

    def take(self) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreUnavailable(f"{self.path.parent}: {error.strerror}") from error
        self._lock.take()

    def give_back(self) -> None:
        self._lock.give_back()

    def connect(self) -> apsw.Connection:
        try:
            # Mail is nobody else's business: the file is made by us, with a mode, before SQLite finds it (P8).
            # SQLite gives its other files the mode of this one.
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            db = apsw.Connection(self.name, vfs=self._settings.vfs, statementcachesize=_STATEMENTS)
        except (OSError, apsw.Error) as error:
            raise foreign_error(error, self.path) from error
        try:
            self._check(db)
            check_layout(db, self.path)
            configure(db, writer=True)
            migrate(db, secret=new_secret())
            _make_tables(db, self.guard, self._tables)
            self.guard.install(db)
        except BaseException as error:
            db.close(True)
            if isinstance(error, apsw.Error | OSError):
                raise foreign_error(error, self.path) from error
            raise
        return db

    def connect_beside(self) -> apsw.Connection | None:
        try:
            db = apsw.Connection(self.name, flags=apsw.SQLITE_OPEN_READWRITE, vfs=self._settings.vfs)
        except apsw.Error as error:
            raise foreign_error(error, self.path) from error
        configure(db, writer=True)
        return db

    def connect_reading(self, guard: Guard) -> apsw.Connection:
        db = apsw.Connection(self.name, flags=apsw.SQLITE_OPEN_READONLY, vfs=self._settings.vfs)
        configure(db, writer=False)
        db.execute("PRAGMA query_only = ON").fetchall()
        guard.install(db)
        return db

    def disconnect(self, db: apsw.Connection) -> None:
        # After an error of the disk even closing may fail; the next connection reads what is there.
        with contextlib.suppress(apsw.Error):
            db.close(True)

    def _check(self, db: apsw.Connection) -> None:
        if self.path.stat().st_size > _CHECKED_SIZE:
            return
        verdict = select(db, "PRAGMA quick_check(1)")[0][0]
        if verdict != "ok":
            raise foreign_error(apsw.CorruptError(str(verdict)), self.path)


class MemoryPlace:
    """A database in memory: nothing outlives `give_back`."""

    def __init__(self, tables: Sequence[str]) -> None:
        self.name = "the store in memory"
        self.bodies: BodyFiles | None = None
        self.guard = Guard()
        self._tables = tables
        self._db: apsw.Connection | None = None

    def take(self) -> None:
        """Nothing to lock: nobody else can reach it."""

    def give_back(self) -> None:
        if self._db is not None:
            self._db.close(True)
            self._db = None

    def connect(self) -> apsw.Connection:
        if self._db is None:
            self._db = apsw.Connection(":memory:", statementcachesize=_STATEMENTS)
            self._db.execute("PRAGMA foreign_keys = ON").fetchall()
            migrate(self._db, secret=new_secret())
            _make_tables(self._db, self.guard, self._tables)
            self.guard.install(self._db)
        return self._db

    def connect_beside(self) -> apsw.Connection | None:
        return None

    def connect_reading(self, guard: Guard) -> apsw.Connection:
        raise apsw.CantOpenError("a database in memory has one connection")

    def disconnect(self, db: apsw.Connection) -> None:
        if db.in_transaction:
            db.execute("ROLLBACK")


def _make_tables(db: apsw.Connection, guard: Guard, tables: Sequence[str]) -> None:
    """Run the application's own statements (`App(tables=...)`). Raises StatementError."""
    if not tables:
        return
    guard.install(db)
    db.execute("BEGIN IMMEDIATE")
    try:
        for sql in tables:
            guard.script(db, sql)
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise
