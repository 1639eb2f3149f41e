"""The file: who may open it, what is refused, and that others can read it."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import apsw
import pytest

from monsal.errors import StatementError, StoreCorrupt, StoreError, StoreLocked, StoreNewer, StoreUnavailable
from monsal.store import SqliteStore
from monsal.store.engine.operation import ASIDE
from monsal.store.inspect import Inspector
from monsal.testing.kit.lab import Lab

MakeLab = Callable[..., Lab]


def open_and_close(path: Path) -> None:
    async def body() -> None:
        store = SqliteStore(path)
        await store.open()
        await store.close()

    asyncio.run(body())


def fill(make_lab: MakeLab, turns: int = 30) -> None:
    """A store at the test's place with some history."""

    async def body() -> None:
        lab = make_lab()
        await lab.store.open()
        for number in range(turns):
            await lab.converse("A", f"c{number}@x", mails=[lab.outgoing()])
        await lab.store.close()

    asyncio.run(body())


@pytest.mark.rule("state.B16")
def test_it_is_opened_as_the_rule_says(make_lab: MakeLab) -> None:
    async def body() -> None:
        lab = make_lab()
        await lab.store.open()
        assert isinstance(lab.store, SqliteStore)
        data = lab.store._core.data
        assert data is not None
        found = {name: data.select(f"PRAGMA {name}")[0][0] for name in ("journal_mode", "synchronous", "busy_timeout")}
        # On the loop it does not wait for who locks the database; on the thread it does (test_locked.py).
        assert found == {"journal_mode": "wal", "synchronous": 2, "busy_timeout": 0}
        assert await lab.store.core.run(ASIDE, lambda data: data.select("PRAGMA busy_timeout")) == [(30_000,)]
        strict = data.select("select count(*) from pragma_table_list where name like 'monsal_%' and not strict")
        views = data.select("select count(*) from pragma_table_list where name like 'monsal_%' and type <> 'table'")
        assert strict == [(0,)]
        assert views == [(0,)]
        await lab.store.close()

    asyncio.run(body())


def test_sqlite_has_no_wal_reset_fault() -> None:
    assert tuple(map(int, apsw.sqlite_lib_version().split("."))) >= (3, 51, 3)


def test_nobody_else_may_read_the_files(tmp_path: Path) -> None:
    async def body() -> None:
        old = os.umask(0)
        try:
            store = SqliteStore(tmp_path / "deep" / "er" / "monsal.db")
            await store.open()
            lab = Lab(lambda place: store, tmp_path, None)
            await lab.accept(body=(b"x" * 300_000,))
            modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "deep" / "er").rglob("*")}
            await store.close()
        finally:
            os.umask(old)
        assert modes.pop("bodies") == 0o700
        assert {mode for name, mode in modes.items() if name.startswith("monsal") or len(name) > 2} == {0o600}

    asyncio.run(body())


def test_a_second_opener_is_told_who_holds_it(tmp_path: Path) -> None:
    async def body() -> None:
        store = SqliteStore(tmp_path / "monsal.db")
        await store.open()
        with pytest.raises(StoreLocked, match=f"process {os.getpid()} "):
            await SqliteStore(tmp_path / "monsal.db").open()
        code = (
            "import asyncio, sys; from pathlib import Path; from monsal.store import SqliteStore\n"
            "asyncio.run(SqliteStore(Path(sys.argv[1])).open())"
        )
        other = subprocess.run(
            [sys.executable, "-c", code, str(store.path)], capture_output=True, text=True, check=False
        )
        assert "StoreLocked" in other.stderr
        assert f"process {os.getpid()} " in other.stderr
        await store.close()
        await store.open()
        await store.close()

    asyncio.run(body())


def test_no_database_is_named_with_the_remedy_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "monsal.db"
    path.write_bytes(b"this is no database" * 1000)
    before = path.read_bytes()
    with pytest.raises(StoreCorrupt, match=r"file is not a database.*backup"):
        open_and_close(path)
    assert path.read_bytes() == before


def test_the_database_of_another_program_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "monsal.db"
    db = apsw.Connection(str(path))
    db.execute("create table theirs(x)")
    db.close()
    before = path.read_bytes()
    with pytest.raises(StoreCorrupt, match="another program"):
        open_and_close(path)
    assert path.read_bytes() == before


def test_a_store_of_a_later_version_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "monsal.db"
    open_and_close(path)
    db = apsw.Connection(str(path))
    db.execute("pragma user_version = 9999")
    db.close()
    before = path.read_bytes()
    with pytest.raises(StoreNewer, match="newer"):
        open_and_close(path)
    assert path.read_bytes() == before


def test_overwritten_pages_are_found_at_the_opening(make_lab: MakeLab, tmp_path: Path) -> None:
    """Seeded damage in the middle of the file: never a wrong answer, always a typed error with the remedy."""
    fill(make_lab)
    path = tmp_path / "monsal.db"
    sound = path.read_bytes()
    dice = random.Random(5)
    for _ in range(10):
        damaged = bytearray(sound)
        for _ in range(6):
            page = dice.randrange(1, len(sound) // 4096)
            damaged[page * 4096 : page * 4096 + 200] = dice.randbytes(200)
        path.write_bytes(damaged)
        with pytest.raises(StoreCorrupt, match=r"\.recover"):
            open_and_close(path)
    path.write_bytes(sound)
    open_and_close(path)


def test_a_place_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreUnavailable, match="file"):
        open_and_close(tmp_path / "file" / "monsal.db")
    (tmp_path / "dir.db").mkdir()
    with pytest.raises(StoreError, match=r"dir\.db"):
        open_and_close(tmp_path / "dir.db")
    # After each refusal the place is free again.
    open_and_close(tmp_path / "monsal.db")


def test_the_tables_of_the_application_are_made_at_each_opening(tmp_path: Path) -> None:
    async def body() -> None:
        tables = ["create table if not exists work(x)", "create index if not exists work_x on work(x)"]
        for _ in range(2):
            store = SqliteStore(tmp_path / "monsal.db", tables=tables)
            await store.open()
            assert await store.read("select count(*) from work") == [(0,)]
            await store.close()
        with pytest.raises(StatementError, match="nonsense"):
            await SqliteStore(tmp_path / "monsal.db", tables=["nonsense"]).open()

    asyncio.run(body())


def test_bodies_that_a_crash_left_are_swept(make_lab: MakeLab, tmp_path: Path) -> None:
    async def body() -> None:
        lab = make_lab()
        await lab.store.open()
        await lab.accept(body=(b"x" * 300_000,))
        await lab.store.close()
        folder = tmp_path / "bodies" / "aa"
        folder.mkdir(exist_ok=True)
        (folder / "aaaaaaaaaaaaaaaa").write_bytes(b"orphan")
        (folder / ".aaaaaaaaaaaaaaab").write_bytes(b"half an orphan")
        await lab.restart()
        row = await lab.claim_one()
        assert isinstance(row.body, Path)
        assert row.body.read_bytes() == b"x" * 300_000
        assert not any(folder.iterdir()) or row.body.parent == folder
        await lab.store.close()

    asyncio.run(body())


VIEWS = {
    "v_ledger": "source, accepted, done, waiting, running, held, dead, dropped, duplicates",
    "v_turns": "id, message, message_id, recipient, sender, handler, key, state_before, state_after, at",
    "v_states": "key, sender, state, version, since",
    "v_outbox": "id, turn, message_id, sender, recipient, status, attempts, due, reason",
    "v_messages": "id, message_id, sender, recipient, status, received",
}


def test_the_views_have_the_columns_of_the_interface(make_lab: MakeLab, tmp_path: Path) -> None:
    fill(make_lab, 1)
    db = apsw.Connection(str(tmp_path / "monsal.db"))
    for view, columns in VIEWS.items():
        cursor = db.execute(f"select * from {view}")
        assert ", ".join(name for name, *_ in cursor.get_description()) == columns, view
        cursor.fetchall()
    db.close()


def test_the_sqlite3_command_line_reads_a_running_store(make_lab: MakeLab, tmp_path: Path) -> None:
    program = shutil.which("sqlite3")
    command = [program, "-readonly"] if program else [sys.executable, "-c", _SQLITE3]

    def ask(sql: str) -> list[str]:
        done = subprocess.run([*command, str(tmp_path / "monsal.db"), sql], capture_output=True, text=True, check=True)
        return done.stdout.splitlines()

    async def body() -> None:
        lab = make_lab()
        await lab.store.open()
        await lab.converse("ASKED", mails=[lab.outgoing("ann@example.net")])
        await lab.accept("bob@x")
        await lab.durable()
        assert ask("select * from v_ledger where source = 'mail'") == ["mail|2|1|1|0|0|0|0|0"]
        turn = "select id, message, recipient, sender, handler, key, state_before, state_after from v_turns"
        assert ask(turn) == ["1|1|desk@example.com|ann@example.net|machine:START|machine|START|ASKED"]
        assert ask("select key, sender, state from v_states") == ["machine|ann@example.net|ASKED"]
        assert ask("select id, turn, recipient, status from v_outbox") == ["1|1|ann@example.net|waiting"]
        assert ask("select id, sender, status from v_messages") == ["1|ann@example.net|done", "2|bob@x|waiting"]
        assert ask("pragma integrity_check") == ["ok"]
        await lab.store.close()

    asyncio.run(body())


_SQLITE3 = """
import sqlite3, sys
for row in sqlite3.connect(f"file:{sys.argv[1]}?mode=ro", uri=True).execute(sys.argv[2]):
    print("|".join(map(str, row)))
"""


def test_the_inspector_agrees_with_the_store_beside_it(make_lab: MakeLab, tmp_path: Path) -> None:
    async def body() -> None:
        lab = make_lab()
        await lab.store.open()
        await lab.converse("A", mails=[lab.outgoing()])
        await lab.accept("bob@x", body=(b"x" * 300_000,))
        await lab.accept("cid@x")
        for row in await lab.claim():
            if row.sender == "bob@x":
                await lab.done(row, "dead", handler=None, reason="no", detail="Traceback")
        await lab.durable()
        with Inspector(tmp_path / "monsal.db") as inspector:
            for what in ("dead", "states", "outbox"):
                assert inspector.rows(what) == await lab.store.rows(what)
            (queued,) = inspector.rows("queue")
            assert queued["state"] == "waiting"
            assert (await lab.store.rows("queue"))[0]["state"] == "running"
            assert inspector.outbox_counts() == await lab.store.outbox_counts()
            mail = inspector.ledger()["mail"]
            assert (mail.accepted, mail.done, mail.waiting, mail.dead) == (3, 1, 1, 1)
            dead = inspector.rows("dead")[0]["id"]
            detail = inspector.dead_detail(dead)
            assert detail == await lab.store.dead_detail(dead)
            assert detail is not None
            assert detail["raw"] == b"x" * 300_000
            assert inspector.dead_detail(999) is None
        await lab.store.close()
        with Inspector(tmp_path / "monsal.db") as inspector:
            assert inspector.ledger()["mail"].accepted == 3

    asyncio.run(body())


def test_the_inspector_names_what_is_no_store(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable, match="no store at"), Inspector(tmp_path / "none.db"):
        pass
    (tmp_path / "bad.db").write_bytes(b"no database" * 500)
    with pytest.raises(StoreCorrupt), Inspector(tmp_path / "bad.db"):
        pass
    with pytest.raises(StoreUnavailable, match="context manager"):
        Inspector(tmp_path / "none.db").rows("dead")


def test_the_inspector_says_what_a_user_who_may_only_read_has_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise apsw.ReadOnlyError("attempt to write a readonly database")

    open_and_close(tmp_path / "monsal.db")
    monkeypatch.setattr("monsal.store.inspect.check_layout", refuse)
    with pytest.raises(StoreUnavailable, match="ReadOnlyError"), Inspector(tmp_path / "monsal.db"):
        pass
    monkeypatch.setattr(os, "access", lambda *_: False)
    advice = r"may not write in .* call this as the user that the server runs as"
    with pytest.raises(StoreUnavailable, match=advice), Inspector(tmp_path / "monsal.db"):
        pass


ROW = {"id", "message_id", "sender", "recipient", "state", "attempts", "reason", "created", "due"}


def test_a_dead_letter_whose_content_is_gone_can_be_looked_at(make_lab: MakeLab) -> None:
    async def body() -> None:
        lab = make_lab()
        await lab.store.open()
        receipt = await lab.accept(body=(b"x" * 300_000,))
        row = await lab.claim_one()
        assert isinstance(row.body, Path)
        row.body.unlink()
        await lab.done(row, "dead", handler=None, reason="no route", detail="")
        detail = await lab.store.dead_detail(receipt.ids[0])
        assert detail is not None
        assert detail["raw"] == b""
        assert "cannot be read" in detail["detail"]
        await lab.store.close()

    asyncio.run(body())


def test_rows_have_the_columns_of_the_interface(make_lab: MakeLab) -> None:
    async def body() -> None:
        lab = make_lab()
        await lab.store.open()
        await lab.converse("A", mails=[lab.outgoing()])
        await lab.accept("bob@x")
        row = await lab.claim_one()
        await lab.done(row, "dead", handler=None, reason="no route", detail="Traceback")
        await lab.accept("cid@x")
        (queue,), (dead,), (out,) = [await lab.store.rows(what) for what in ("queue", "dead", "outbox")]
        assert set(queue) == set(dead) == set(out) == ROW
        assert (queue["state"], dead["state"], dead["reason"]) == ("waiting", "dead", "no route")
        assert queue["created"] == "2023-11-14T22:13:20.000Z"
        detail = await lab.store.dead_detail(dead["id"])
        assert detail is not None
        assert set(detail) == ROW | {"detail", "raw"}
        await lab.store.close()

    asyncio.run(body())
