"""Connections to SQLite: how they are opened, who may run which statement, and what their errors mean."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Literal

import apsw

from monsal.errors import StatementError, StoreCorrupt, StoreError, StoreNewer, StoreUnavailable

__all__ = [
    "APPLICATION_ID",
    "PATIENCE",
    "STATEMENT_SECONDS",
    "TURN_SECONDS",
    "Guard",
    "check_layout",
    "configure",
    "foreign_error",
    "has_wal_reset_fault",
    "is_own_fault",
    "migrate",
    "migrations",
    "select",
]

#: Marks the file as ours (`PRAGMA application_id`): "mnsl" in ASCII.
APPLICATION_ID: Final = 0x6D6E736C

#: The numbered scripts. By their path: `importlib.resources` loads what reads archives, which is half a megabyte.
_SCRIPTS: Final = Path(__file__).parents[1] / "sql"

#: Milliseconds that are waited for another program that has the database locked (rule state.B16).
PATIENCE: Final = 30_000

#: Errors of one statement: the transaction and the file are sound. All others are the store's trouble.
_STATEMENT_ERRORS = (
    apsw.SQLError,
    apsw.ConstraintError,
    apsw.MismatchError,
    apsw.TooBigError,
    apsw.RangeError,
    apsw.AuthError,
    apsw.BindingsError,
    apsw.IncompleteExecutionError,
)

_REMEDY = (
    "restore it from a backup, or save what can be read with "
    "`sqlite3 {path} .recover | sqlite3 recovered.db` and put recovered.db in its place"
)


def is_own_fault(error: Exception) -> bool:
    """Whether only the operation that raised it failed, and not the store."""
    if isinstance(error, apsw.Error):
        return isinstance(error, _STATEMENT_ERRORS)
    return not isinstance(error, OSError | MemoryError)


def foreign_error(error: BaseException, path: object) -> StoreError:
    """What an error of SQLite or of the file system means to those who called the store."""
    if isinstance(error, StoreError):
        return error
    if isinstance(error, apsw.CorruptError | apsw.NotADBError):
        return StoreCorrupt(f"{path} is damaged or is no store ({error}); {_REMEDY.format(path=path)}")
    if isinstance(error, apsw.FullError):
        return StoreUnavailable(f"{path}: the disk is full; make room, the store goes on by itself")
    if isinstance(error, apsw.BusyError):
        return StoreUnavailable(f"{path}: another program holds the database locked ({error})")
    return StoreUnavailable(f"{path}: {type(error).__name__}: {error}")


def select(db: apsw.Connection, sql: str, params: tuple[Any, ...] = ()) -> list[Any]:
    """All rows of a statement, as tuples."""
    return db.execute(sql, params).fetchall()


Mode = Literal["own", "turn", "read"]

_READING = {apsw.SQLITE_SELECT, apsw.SQLITE_READ, apsw.SQLITE_FUNCTION, apsw.SQLITE_RECURSIVE}
_NEVER_IN_A_TURN = {
    apsw.SQLITE_TRANSACTION,
    apsw.SQLITE_SAVEPOINT,
    apsw.SQLITE_ATTACH,
    apsw.SQLITE_DETACH,
    # A temporary table hides one of the same name, and lives as long as the one connection.
    apsw.SQLITE_CREATE_TEMP_INDEX,
    apsw.SQLITE_CREATE_TEMP_TABLE,
    apsw.SQLITE_CREATE_TEMP_TRIGGER,
    apsw.SQLITE_CREATE_TEMP_VIEW,
}
#: FTS5 asks for it on its own, to see whether another connection wrote.
_HARMLESS_PRAGMA = "data_version"
# What changes a table or hangs something on it, by the argument that names the table.
_ON_FIRST = {
    apsw.SQLITE_INSERT,
    apsw.SQLITE_UPDATE,
    apsw.SQLITE_DELETE,
    apsw.SQLITE_CREATE_TABLE,
    apsw.SQLITE_CREATE_VIEW,
    apsw.SQLITE_CREATE_VTABLE,
    apsw.SQLITE_DROP_TABLE,
    apsw.SQLITE_DROP_VIEW,
    apsw.SQLITE_DROP_VTABLE,
}
_ON_SECOND = {
    apsw.SQLITE_ALTER_TABLE,
    apsw.SQLITE_CREATE_INDEX,
    apsw.SQLITE_CREATE_TRIGGER,
    apsw.SQLITE_DROP_INDEX,
    apsw.SQLITE_DROP_TRIGGER,
}
_OUR_VIEWS = {"v_ledger", "v_turns", "v_states", "v_outbox", "v_messages"}


def _is_ours(name: str | None) -> bool:
    return name is not None and (name.lower().startswith("monsal_") or name.lower() in _OUR_VIEWS)


#: Seconds that a statement of a turn may take: all mail waits for it (P7).
TURN_SECONDS: Final = 2.0
#: Seconds that a reading one may take, for which other reads wait, and one that makes tables at the opening.
STATEMENT_SECONDS: Final = 20.0
#: Steps of SQLite's machine after which it asks whether to go on, a few milliseconds.
_STEPS: Final = 1_000_000


class Guard:
    """Decides what a statement may do: ours all, one of a turn its application's own tables, a reading one reads.

    SQLite asks when it prepares a statement. So a foreign one is always prepared, never taken from the cache of
    statements, where one of ours with the same text was judged as ours.
    """

    def __init__(self, *, turn: float = TURN_SECONDS, other: float = STATEMENT_SECONDS) -> None:
        self._mode: Mode = "own"
        self._turn = turn
        self._other = other
        self._end = 0.0
        #: Set from any thread: a foreign statement that runs is ended.
        self.is_stopped = False
        #: Messages with a turn one of whose statements was stopped. SQLite undoes the whole group with it.
        self.overdue: set[int] = set()

    def install(self, db: apsw.Connection) -> None:
        db.authorizer = self._decide
        db.set_progress_handler(self._is_over, _STEPS)

    @contextmanager
    def mode(self, mode: Mode, seconds: float) -> Iterator[None]:
        """Within it, statements are judged by `mode` and stopped after `seconds`."""
        self._mode = mode
        self._end = time.monotonic() + seconds
        try:
            yield
        except apsw.InterruptError as error:
            if self.is_stopped:
                raise StoreUnavailable("the store was closed while a statement ran") from error
            raise StatementError(f"a statement took longer than {seconds:g} s and was stopped") from error
        finally:
            self._mode = "own"

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Within it, foreign statements that run on another thread are ended, and no other one gets far."""
        self.is_stopped = True
        try:
            yield
        finally:
            self.is_stopped = False

    def _is_over(self) -> bool:
        return self._mode != "own" and (self.is_stopped or time.monotonic() > self._end)

    def turn(self, db: apsw.Connection, sql: str, params: Sequence[Any]) -> None:
        """Run one statement of a turn. Raises StatementError, whatever is wrong with what was given."""
        self._run("turn", self._turn, _one(db), (sql, params))

    def script(self, db: apsw.Connection, sql: str) -> None:
        """Run statements that make an application's tables, under the rules of a turn. Raises StatementError."""
        self._run("turn", self._other, db.cursor(), (sql, ()))

    def read(self, db: apsw.Connection, sql: str, params: Sequence[Any]) -> list[tuple[Any, ...]]:
        """Run one reading statement. Raises StatementError, whatever is wrong with what was given."""
        return self._run("read", self._other, _one(db), (sql, params))

    def _run(
        self, mode: Mode, seconds: float, cursor: apsw.Cursor, statement: tuple[str, Sequence[Any]]
    ) -> list[tuple[Any, ...]]:
        sql, params = statement
        with self.mode(mode, seconds):
            try:
                # OR ROLLBACK and RAISE(ROLLBACK) would undo the turns of others in the same group; SQLite asks nobody.
                if mode == "turn" and re.search(r"\brollback\b", sql, re.IGNORECASE):
                    raise StatementError("a turn cannot roll back by SQL, raise an error instead")
                rows = cursor.execute(sql, params, can_cache=False)
                if mode == "read":
                    return rows.fetchall()
                for _ in rows:
                    continue
            except Exception as error:
                raise _refused(error, sql) from error
            finally:
                cursor.close(True)
        return []

    def _decide(
        self, action: int, first: str | None, second: str | None, _database: str | None, _trigger: str | None
    ) -> int:
        mode = self._mode
        if mode == "own" or (action == apsw.SQLITE_PRAGMA and first == _HARMLESS_PRAGMA and second is None):
            return apsw.SQLITE_OK
        if mode == "read":
            return apsw.SQLITE_OK if action in _READING else apsw.SQLITE_DENY
        if action in _NEVER_IN_A_TURN or action == apsw.SQLITE_PRAGMA:
            return apsw.SQLITE_DENY
        if (action in _ON_FIRST and _is_ours(first)) or (action in _ON_SECOND and _is_ours(second)):
            return apsw.SQLITE_DENY
        return apsw.SQLITE_OK


def _one(db: apsw.Connection) -> apsw.Cursor:
    """A cursor that runs one statement and refuses to begin another."""
    cursor = db.cursor()
    begun = 0

    def begin(cursor: apsw.Cursor, _sql: str, _params: Any) -> bool:
        nonlocal begun
        # A comment at the end is prepared like a statement, and is none.
        begun += cursor.has_vdbe
        if begun > 1:
            raise StatementError("only one statement at a time")
        return True

    cursor.exec_trace = begin
    return cursor


def _refused(error: Exception, sql: str) -> Exception:
    if isinstance(error, apsw.InterruptError) or not is_own_fault(error):
        return error
    return StatementError(f"{error}: {sql}")


def has_wal_reset_fault(version: str) -> bool:
    """Whether this SQLite can lose pages when a checkpoint and a writer meet (rule state.B16)."""
    number = tuple(int(part) for part in version.split(".")[:3])
    return (3, 7, 0) <= number < (3, 51, 3) and number not in {(3, 44, 6), (3, 50, 7)}


def configure(db: apsw.Connection, *, writer: bool) -> None:
    """Settings of a connection (rule state.B16)."""
    db.set_busy_timeout(PATIENCE)
    # Pages that nobody changes. With 500 correspondents a turn misses none of the 40 that it looks at, with 60,000
    # and as many turns stored one (with twice the memory 0.3), which is in the system's cache, 1 us away.
    db.execute("PRAGMA cache_size = -2048").fetchall()
    # Pages that a group has changed are kept beyond that until it is committed, up to 4 MB: those of 200 turns.
    db.execute("PRAGMA cache_spill = 1000").fetchall()
    db.execute("PRAGMA temp_store = MEMORY").fetchall()
    # Without it, a statement that can use an index of some rows only (all of those on the spool and the outbox) is
    # compiled anew each time it is run: SQLite would see whether the values given make another plan better.
    db.config(apsw.SQLITE_DBCONFIG_ENABLE_QPSG, 1)
    if not writer:
        return
    db.execute("PRAGMA foreign_keys = ON").fetchall()
    db.execute("PRAGMA journal_mode = WAL").fetchall()
    db.execute("PRAGMA synchronous = FULL").fetchall()
    # Without it, fsync on macOS does not reach the disk (fcntl F_FULLFSYNC).
    db.execute("PRAGMA fullfsync = ON").fetchall()
    db.execute("PRAGMA checkpoint_fullfsync = ON").fetchall()
    # Checkpoints are made when nobody waits (core.py), not within somebody's commit.
    db.execute("PRAGMA wal_autocheckpoint = 0").fetchall()
    # A WAL that once grew gives its room back when it is begun anew.
    db.execute("PRAGMA journal_size_limit = 67108864").fetchall()
    # What is deleted does not stay in pages that are written anyway; `monsal erase` asks for the rest.
    db.execute("PRAGMA secure_delete = FAST").fetchall()


def migrations() -> list[tuple[int, str]]:
    """The numbered scripts that make and change the layout, in order."""
    found = [entry for entry in _SCRIPTS.iterdir() if re.match(r"\d{4}_.*\.sql$", entry.name)]
    return sorted((int(entry.name[:4]), entry.read_text(encoding="utf-8")) for entry in found)


def check_layout(db: apsw.Connection, path: object) -> None:
    """See whether the file is ours, before anything is changed in it. Raises StoreNewer, StoreCorrupt."""
    have, known = _number(db, "user_version"), migrations()[-1][0]
    if _number(db, "application_id") != APPLICATION_ID:
        if have or db.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchall():
            raise StoreCorrupt(f"{path} is a database of another program; name another file for the store")
    elif have > known:
        raise StoreNewer(
            f"{path} was written by a newer monsal (its layout is {have}, this one knows up to {known}): "
            "install that version, or restore the backup made before it"
        )


def migrate(db: apsw.Connection, *, secret: bytes) -> None:
    """Bring the layout up to date, as a whole or not at all; `secret` is the key of a store that is made new.

    All steps are one transaction: what is there is of one layout, and a new store costs one flush.
    """
    have = _number(db, "user_version")
    steps = [(number, script) for number, script in migrations() if number > have]
    if not steps:
        return
    db.execute("BEGIN IMMEDIATE")
    try:
        for number, script in steps:
            db.execute(script)
            if number == 1:
                db.execute("INSERT INTO monsal_meta VALUES (1, ?, 0, 0, 0, 0, 0, 0, 0)", (secret,))
        db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        db.execute(f"PRAGMA user_version = {steps[-1][0]}")
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


def _number(db: apsw.Connection, pragma: str) -> int:
    return int(select(db, f"PRAGMA {pragma}")[0][0])
