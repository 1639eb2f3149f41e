"""A backup is the whole store as of one flush, taken while it is used; and it can be lived from."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import apsw
import pytest

from monsal.errors import StoreCorrupt, StoreUnavailable
from monsal.store import SqliteStore
from monsal.store import backup as backups
from monsal.store.backup import backup
from monsal.testing.kit.lab import NOW, Lab

MakeLab = Callable[..., Lab]
BIG = 300_000


def store_path(lab: Lab) -> Path:
    assert isinstance(lab.store, SqliteStore)
    return lab.store.path


def restored(target: Path) -> Lab:
    """A store over a backup that lies at its place."""
    return Lab(lambda place: SqliteStore(place / "monsal.db"), target, None)


def unpack(target: Path, place: Path) -> Path:
    place.mkdir()
    subprocess.run(["tar", "-xf", target, "-C", place], check=True)
    return place


@pytest.mark.rule("state.B8")
@pytest.mark.parametrize("form", ["directory", "tar"])
def test_a_backup_under_load_is_a_store_of_one_moment(make_lab: MakeLab, tmp_path: Path, form: str) -> None:
    """What was acknowledged before it began is in it; it balances, and goes on where it was."""

    async def body() -> None:
        lab = make_lab()
        await lab.store.open()
        await lab.accept("before@x", body=(b"b" * BIG,))
        await lab.converse("ASKED", sender="done@x", mails=[lab.outgoing("done@x", body=b"o" * BIG)])
        stop = asyncio.Event()
        begun = asyncio.Event()
        loop = asyncio.get_running_loop()

        async def load() -> None:
            number = 0
            while not stop.is_set():
                number += 1
                await lab.accept(f"load-{number}@x", body=(b"l" * (BIG if number % 3 == 0 else 50),))
                rows = await lab.claim()
                for row in rows:
                    if row.sender != "before@x":
                        await lab.done(row, to="A", mails=[lab.outgoing(row.sender)])
                if number == 5:
                    begun.set()

        loading = asyncio.create_task(load())
        await asyncio.wait_for(begun.wait(), 30)
        told: list[tuple[str, int, int]] = []
        steps = 0

        def progress(what: str, done: int, total: int) -> None:
            nonlocal steps
            told.append((what, done, total))
            # Mail is handled between the steps of the copy, and every copy of a step waits for that.
            asyncio.run_coroutine_threadsafe(lab.accept(f"meanwhile-{len(told)}@x"), loop).result(30)
            steps += 1

        target = tmp_path / ("kept.tar" if form == "tar" else "kept")
        made = await asyncio.to_thread(backup, store_path(lab), target, now=NOW, on_progress=progress)
        accepted_then = (await lab.balanced())["accepted"]
        stop.set()
        await loading
        await lab.balanced()
        await lab.store.close()
        assert {what for what, _, _ in told} >= {"bodies", "database"}
        assert steps > 2

        place = unpack(target, tmp_path / "new") if form == "tar" else target
        assert json.loads((place / "backup.json").read_text())["bodies"] == made.bodies
        again = restored(place)
        again.now = lab.now + 1000.0
        await again.store.open()
        totals = await again.balanced()
        assert 7 <= totals["accepted"] <= accepted_then
        assert (await again.state("machine", "done@x")).state == "ASKED"
        seen = {}
        while rows := await again.claim(100):
            for row in rows:
                seen[row.sender] = row.body.read_bytes() if isinstance(row.body, Path) else row.body
                await again.done(row, to="B")
        assert seen["before@x"] == b"b" * BIG
        mails = await again.store.take_outgoing(1000, again.now)
        assert any(isinstance(mail.body, Path) and mail.body.read_bytes() == b"o" * BIG for mail in mails)
        await again.balanced()
        known = {row[0] for row in await again.store.read("select file from monsal_bodies where file is not null")}
        assert {path.name for path in (place / "bodies").glob("*/*")} == known
        await again.store.close()

    asyncio.run(body())
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".kept")] == []


def test_it_is_private_and_one_file_for_the_database(make_lab: MakeLab, tmp_path: Path) -> None:
    async def body() -> None:
        lab = make_lab()
        await lab.store.open()
        await lab.accept(body=(b"x" * BIG,))
        backup(store_path(lab), tmp_path / "kept", now=NOW)
        backup(store_path(lab), tmp_path / "kept.tar", now=NOW)
        await lab.store.close()

    asyncio.run(body())
    kept = tmp_path / "kept"
    assert sorted(path.name for path in kept.iterdir()) == ["backup.json", "bodies", "monsal.db"]
    assert (kept.stat().st_mode & 0o777, (kept / "monsal.db").stat().st_mode & 0o777) == (0o700, 0o600)
    assert (tmp_path / "kept.tar").stat().st_mode & 0o777 == 0o600
    with tarfile.open(tmp_path / "kept.tar") as tar:
        assert {name.split("/")[0] for name in tar.getnames()} == {"backup.json", "bodies", "monsal.db"}
    # Any SQLite can read it.
    code = "import sqlite3, sys; print(*sqlite3.connect(sys.argv[1]).execute('select count(*) from v_messages'))"
    ended = subprocess.run([sys.executable, "-c", code, kept / "monsal.db"], capture_output=True, text=True, check=True)
    assert ended.stdout == "(1,)\n"


def test_a_body_that_retention_took_meanwhile_is_forgotten_in_the_copy_too(make_lab: MakeLab, tmp_path: Path) -> None:
    async def body() -> None:
        lab = make_lab()
        await lab.store.open()
        for name in ("old@x", "new@x"):
            await lab.accept(name, body=(b"x" * BIG,))
            if name == "old@x":
                await lab.done(await lab.claim_one())
        files = {row[0]: row[1] for row in await lab.store.read("select id, file from monsal_bodies")}
        path = store_path(lab)
        real = backups._all_bodies
        # Between the first look at the files and the copy of the database nothing was there to be copied; between that
        # and the second look the janitor took the old one.
        backups._all_bodies = lambda source, copy, progress: set()  # type: ignore[assignment]  # the moment before
        try:
            (path.parent / "bodies" / files[1][:2] / files[1]).unlink()
            made = backup(path, tmp_path / "kept", now=NOW)
            (path.parent / "bodies" / files[2][:2] / files[2]).unlink()
            with pytest.raises(StoreCorrupt, match="mail that is not handled needs it"):
                backup(path, tmp_path / "other", now=NOW)
        finally:
            backups._all_bodies = real
        assert made.bodies == 1
        assert not (tmp_path / "other").exists()
        await lab.store.close()

    asyncio.run(body())


def test_what_cannot_be_a_backup_is_none(make_lab: MakeLab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StoreUnavailable, match="no store"):
        backup(tmp_path / "nothing.db", tmp_path / "kept", now=NOW)

    async def body() -> None:
        lab = make_lab()
        await lab.store.open()
        await lab.accept()
        (tmp_path / "there").mkdir()
        with pytest.raises(FileExistsError):
            backup(store_path(lab), tmp_path / "there", now=NOW)
        copied = backups._copy_database

        def damaged(path: Path, target: Path, on_progress: Any) -> apsw.Connection:
            db = copied(path, target, on_progress)
            root = db.execute("select rootpage from sqlite_master where name = 'monsal_spool'").fetchall()[0][0]
            size = db.execute("pragma page_size").fetchall()[0][0]
            db.close()
            with open(target, "r+b") as file:
                file.seek((root - 1) * size)
                file.write(b"\xff" * 100)
            return apsw.Connection(str(target))

        monkeypatch.setattr(backups, "_copy_database", damaged)
        with pytest.raises(StoreCorrupt):
            backup(store_path(lab), tmp_path / "kept", now=NOW)
        await lab.store.close()

    asyncio.run(body())
    assert not (tmp_path / "kept").exists()
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".kept")] == []
