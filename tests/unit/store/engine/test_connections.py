"""How connections to SQLite are set up: what they keep in memory, and that a layout is changed as a whole."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from monsal.store.engine import database
from monsal.store.engine.database import configure, migrate, migrations, select

MB = 1024 * 1024
SECRET = b"s" * 32


@pytest.fixture
def db(tmp_path: Path) -> Iterator[apsw.Connection]:
    connection = apsw.Connection(str(tmp_path / "kept.db"))
    configure(connection, writer=True)
    connection.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, x BLOB)")
    yield connection
    connection.close(True)


def kept(db: apsw.Connection) -> int:
    return db.status(apsw.SQLITE_DBSTATUS_CACHE_USED)[0]


def spilt(db: apsw.Connection) -> int:
    return db.status(apsw.SQLITE_DBSTATUS_CACHE_SPILL)[0]


def write(db: apsw.Connection, octets: int) -> None:
    """Change so many octets of pages in a transaction that stays open."""
    db.execute("BEGIN IMMEDIATE")
    for _ in range(octets // 1024):
        db.execute("INSERT INTO t (x) VALUES (zeroblob(1000))")


def test_a_group_of_three_megabytes_waits_in_memory_for_its_commit(db: apsw.Connection) -> None:
    write(db, 3 * MB)
    assert kept(db) > 3 * MB
    assert spilt(db) == 0


def test_after_it_half_of_what_a_group_may_use_is_kept(db: apsw.Connection) -> None:
    write(db, 3 * MB)
    db.execute("COMMIT")
    # Whoever reads on has the rest given back.
    db.execute("SELECT sum(length(x)) FROM t").fetchall()
    assert kept(db) < 2.25 * MB


def test_a_group_that_is_larger_is_bounded(db: apsw.Connection) -> None:
    write(db, 12 * MB)
    assert spilt(db) > 0
    assert kept(db) < 4.5 * MB
    db.execute("COMMIT")
    assert select(db, "SELECT count(*) FROM t") == [(12 * MB // 1024,)]


def test_a_layout_is_made_as_a_whole_or_not_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    # Given steps of which the last one fails
    db = apsw.Connection(":memory:")
    steps = [*migrations(), (9999, "CREATE TABLE monsal_more (x); NONSENSE")]
    monkeypatch.setattr(database, "migrations", lambda: steps)
    # When a new store is made, then nothing of it is there
    with pytest.raises(apsw.SQLError):
        migrate(db, secret=SECRET)
    assert select(db, "PRAGMA user_version") == [(0,)]
    assert select(db, "PRAGMA application_id") == [(0,)]
    assert select(db, "SELECT count(*) FROM sqlite_master") == [(0,)]
    # And the same steps without it make all of it
    steps.pop()
    migrate(db, secret=SECRET)
    assert select(db, "PRAGMA user_version") == [(steps[-1][0],)]
    assert select(db, "SELECT count(*) FROM monsal_meta") == [(1,)]


def test_what_is_made_already_stays_if_a_later_step_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    db = apsw.Connection(":memory:")
    migrate(db, secret=SECRET)
    layout = select(db, "SELECT sql FROM sqlite_master ORDER BY name")
    version = migrations()[-1][0]
    steps = [*migrations(), (9998, "CREATE TABLE monsal_more (x)"), (9999, "NONSENSE")]
    monkeypatch.setattr(database, "migrations", lambda: steps)
    with pytest.raises(apsw.SQLError):
        migrate(db, secret=SECRET)
    assert select(db, "PRAGMA user_version") == [(version,)]
    assert select(db, "SELECT sql FROM sqlite_master ORDER BY name") == layout
