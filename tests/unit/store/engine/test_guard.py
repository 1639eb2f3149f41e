"""What a statement of a turn, or a reading one, may do: its application's own tables and nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from monsal.errors import StatementError
from monsal.store.engine.database import Guard, has_wal_reset_fault
from monsal.store.engine.place import MemoryPlace

ALLOWED = (
    "create table if not exists work(id integer primary key, word text)",
    "insert into work(word) values ('x')",
    "update work set word = 'y'",
    "create index work_word on work(word)",
    "create view words as select word from work",
    "create trigger work_all after insert on work begin update work set word = 'z'; end",
    "with recursive n(x) as (select 1 union all select x + 1 from n where x < 3) insert into work(word) select x"
    " from n",
    "insert into work(word) select handler from v_turns",
    "alter table work add column more text",
    "delete from work",
    "drop view words",
    "drop table work",
    "create virtual table found using fts5(words)",
    "insert into found values ('one two')",
    "insert into found(found) values ('optimize')",
    "delete from found where found match 'two'",
    "drop table found",
    "select 1 ; -- the end",
    "/* the end? */ select 1; /* yes",
)
DENIED = (
    "commit",
    "end",
    "rollback",
    "begin",
    "savepoint x",
    "release op",
    "insert or rollback into work values (1, 'x')",
    "pragma user_version = 5",
    "pragma synchronous = off",
    "attach ':memory:' as other",
    "detach other",
    "vacuum",
    "insert into monsal_spool values (1)",
    "delete from monsal_spool",
    "update monsal_meta set epoch = 1",
    "UPDATE MONSAL_META SET epoch = 1",
    "drop table monsal_history",
    "drop index monsal_spool_queue",
    "drop view v_turns",
    "create index mine on monsal_spool(sender)",
    "create trigger t after insert on monsal_spool begin delete from work; end",
    "create temp trigger t after insert on monsal_spool begin delete from work; end",
    "alter table monsal_spool add column x",
    "create table monsal_mine(x)",
    "create virtual table monsal_mine using fts5(x)",
    "create virtual table monsal using fts5(x)",
    "create temp table monsal_spool(x)",
    "create temp table mine(x)",
    "create temp view monsal_states as select 1",
    "create temp trigger t after insert on work begin delete from work; end",
    "create table temp.monsal_spool(x)",
    "pragma data_version = 1",
    "create view v_turns as select 1",
    "delete from sqlite_master",
    "insert into work values (1, 'x'); commit",
    "select 1;COMMIT",
    "select 1;/**/COMMIT",
    "select 1; select 2",
    "select 1; commit /* */",
    "no sql",
)


@pytest.fixture
def place() -> MemoryPlace:
    return MemoryPlace(["create table work(id integer primary key, word text)"])


def test_a_turn_may_do_what_it_likes_with_its_own_tables(place: MemoryPlace) -> None:
    db = place.connect()
    db.execute("drop table work")
    for sql in ALLOWED:
        place.guard.turn(db, sql, ())
    place.give_back()


@pytest.mark.parametrize("sql", DENIED)
def test_a_turn_may_not_touch_the_store_nor_the_transaction(place: MemoryPlace, sql: str) -> None:
    db = place.connect()
    before = db.execute("select sql from sqlite_master").fetchall()
    for ours in ("BEGIN", "COMMIT"):  # as the engine does: now they are prepared
        db.execute(ours)
    db.execute("begin immediate")
    db.execute("savepoint op")
    for _ in range(2):  # the second time it might be found prepared
        with pytest.raises(StatementError):
            place.guard.turn(db, sql, ())
    assert db.in_transaction
    db.execute("rollback to op")
    db.execute("commit")
    assert db.execute("select sql from sqlite_master").fetchall() == before
    place.give_back()


def test_the_same_words_are_allowed_to_the_engine(place: MemoryPlace) -> None:
    db = place.connect()
    for sql in ("begin", "commit"):
        db.execute(sql)
        with pytest.raises(StatementError):
            place.guard.turn(db, sql, ())
    ours = "DELETE FROM monsal_failures"
    db.execute(ours)
    with pytest.raises(StatementError, match="not authorized"):
        place.guard.turn(db, ours, ())
    db.execute("SELECT secret FROM monsal_meta").fetchall()
    place.give_back()


def test_reading_reads(place: MemoryPlace) -> None:
    db = place.connect()
    place.guard.turn(db, "insert into work values (?, ?)", (7, "x"))
    assert place.guard.read(db, "select id, word from work where id = ?", (7,)) == [(7, "x")]
    for sql in (
        "delete from work",
        "insert into work values (8, 'y')",
        "pragma user_version",
        "commit",
        "drop table work",
        "select 1; select 2",
        "select 1;COMMIT",
    ):
        with pytest.raises(StatementError):
            place.guard.read(db, sql, ())
    with pytest.raises(StatementError, match="Incorrect number of bindings"):
        place.guard.read(db, "select ?, ?", (1,))
    assert place.guard.read(db, "select count(*) from work", ()) == [(1,)]
    place.give_back()


@pytest.mark.parametrize("sql", [None, 7, b"select 1", "select \ud800", "select \0"])
def test_what_is_no_sql_is_an_error_of_the_statement(place: MemoryPlace, sql: Any) -> None:
    db = place.connect()
    with pytest.raises(StatementError):
        place.guard.turn(db, sql, ())
    with pytest.raises(StatementError):
        place.guard.read(db, sql, ())
    place.give_back()


@pytest.mark.parametrize("params", [None, 7, (object(),), [b"x", "y"]])
def test_wrong_parameters_are_an_error_of_the_statement(place: MemoryPlace, params: Any) -> None:
    db = place.connect()
    with pytest.raises(StatementError):
        place.guard.turn(db, "insert into work(id) values (?)", params)
    with pytest.raises(StatementError):
        place.guard.read(db, "select ?", params)
    place.give_back()


def test_full_text_search_of_the_application_works_in_a_turn_and_in_reading(place: MemoryPlace) -> None:
    db = place.connect()
    db.execute("begin")
    place.guard.turn(db, "create virtual table found using fts5(words)", ())
    place.guard.turn(db, "insert into found values (?)", ("one two",))
    db.execute("commit")
    assert place.guard.read(db, "select words from found where found match ?", ("two",)) == [("one two",)]
    place.give_back()


def test_a_script_of_tables_may_have_several_statements_none_of_which_is_ours(place: MemoryPlace) -> None:
    db = place.connect()
    place.guard.script(db, "create table a(x); create table b(x);")
    for sql in ("create table c(x); drop table monsal_spool", "create table d(x); COMMIT"):
        with pytest.raises(StatementError):
            place.guard.script(db, sql)
    place.give_back()


def test_a_statement_without_end_is_stopped() -> None:
    place = MemoryPlace(["create table work(x)"])
    place.guard = Guard(turn=0.05, other=0.05)
    db = place.connect()
    endless = "with recursive n(x) as (select 1 union all select x + 1 from n) "
    with pytest.raises(StatementError, match=r"longer than 0\.05 s"):
        place.guard.read(db, endless + "select count(*) from n", ())
    with pytest.raises(StatementError, match=r"longer than 0\.05 s"):
        place.guard.turn(db, endless + "insert into work select count(*) from n", ())
    assert place.guard.read(db, "select count(*) from work", ()) == [(0,)]
    place.give_back()


@pytest.mark.rule("state.B16")
@pytest.mark.parametrize(
    ("version", "is_faulty"),
    [
        ("3.6.23", False),
        ("3.7.0", True),
        ("3.40.1", True),
        ("3.44.6", False),
        ("3.50.6", True),
        ("3.50.7", False),
        ("3.51.2", True),
        ("3.51.3", False),
        ("3.54.1", False),
    ],
)
def test_an_sqlite_with_the_wal_reset_fault_is_known(version: str, is_faulty: bool) -> None:
    assert has_wal_reset_fault(version) == is_faulty


def test_a_table_that_cannot_be_made_names_itself(place: MemoryPlace) -> None:
    broken = MemoryPlace(["create table fine(x)", "create tabel typo(x)"])
    with pytest.raises(StatementError, match="typo"):
        broken.connect()
    broken.give_back()
