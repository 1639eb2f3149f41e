"""Rows of the open group that are not in the database yet: their memory is bounded, and a failed turn takes along only
its own."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import apsw
import pytest

from monsal.errors import StatementError
from monsal.store import SqliteStore
from monsal.store.engine import spool
from monsal.store.engine.data import Data
from monsal.store.engine.database import migrations, select
from monsal.store.engine.looking import read_ledger, read_outbox_counts
from monsal.store.engine.operation import DURABLE
from monsal.store.engine.pending import Pending
from monsal.testing.kit.lab import Lab

MakeLab = Callable[..., Lab]

_INSERT = "INSERT INTO monsal_failures VALUES (?, 1, 3, 0.0, '', ?)"


def data_of(lab: Lab) -> Data:
    assert isinstance(lab.store, SqliteStore)
    data = lab.store.core.data
    assert data is not None
    return data


def test_bodies_that_pend_take_a_bounded_memory(make_lab: MakeLab) -> None:
    async def body() -> None:
        lab = make_lab(window=1e9)
        await lab.store.open()
        most = 0
        tasks = []
        for number in range(100):
            tasks.append(asyncio.create_task(lab.accept(f"c{number}@x", body=(b"x" * 100_000,))))
            await asyncio.sleep(0)
            pending = data_of(lab).pending
            most = max(most, pending.octets)
        assert 500_000 < most < 1_200_000
        await asyncio.gather(*tasks)
        assert len(await lab.claim(1000)) == 100
        await lab.balanced()
        await lab.store.close()

    asyncio.run(body())


def test_rows_that_pend_are_not_too_many_for_one_pause(make_lab: MakeLab) -> None:
    async def body() -> None:
        lab = make_lab(window=1e9)
        await lab.store.open()
        data = data_of(lab)
        most = 0
        tasks = []
        for _ in range(60):
            tasks.append(asyncio.create_task(lab.store.accept(lab.mail(to=[f"a{to}@y" for to in range(100)]))))
            await asyncio.sleep(0)
            most = max(most, sum(len(arrival.rows) for arrival in data.arrivals))
        assert 1_000 < most < 2_500
        await asyncio.gather(*tasks)
        row = await lab.claim_one()
        to = [f"b{number}@y" for number in range(100)]
        await lab.done(row, mails=[lab.outgoing(*to) for _ in range(60)])
        assert not data.pending.mails
        assert (await lab.store.outbox_counts())["waiting"] == 6_000
        await lab.balanced()
        await lab.store.close()

    asyncio.run(body())


def test_a_mail_of_the_open_group_is_work_and_can_be_claimed(make_lab: MakeLab) -> None:
    """Whoever is woken by it asks whether there is work, before the group is written."""

    async def body() -> None:
        lab = make_lab(window=1e9)
        await lab.store.open()
        assert isinstance(lab.store, SqliteStore)
        rung: list[float | None] = []
        lab.store.on_work(lambda: rung.append(lab.store.next_work()))
        core = lab.store.core
        core._planned = True  # the end of the turn, which would write the group, is far away
        answer = core.begin(DURABLE, spool.accept, lab.mail(), None)
        for _ in range(3):
            await asyncio.sleep(0)
        assert rung == [0.0]
        assert isinstance(answer, asyncio.Future)
        assert not answer.done()
        (row,) = await lab.claim()
        assert lab.store.next_work() != 0.0
        core._planned = False
        core._plan()
        assert (await answer).ids == (row.id,)
        await lab.store.close()

    asyncio.run(body())


def test_an_operation_that_fails_takes_along_no_row_but_its_own(make_lab: MakeLab) -> None:
    def others(data: Data, row: int) -> None:
        rows = Pending()
        rows.others.append((_INSERT, (row, "of another")))
        rows.waits = True
        data.let_pend(rows)

    def fails(data: Data) -> None:
        data.begin_with_care()
        others(data, 7)
        raise StatementError("too late")

    async def body() -> None:
        lab = make_lab(window=1e9)
        await lab.store.open()
        data = data_of(lab)
        data.run(others, 1)
        with pytest.raises(StatementError):
            data.run(fails)
        data.run(others, 2)
        assert data.select("SELECT id FROM monsal_failures ORDER BY id") == [(1,), (2,)]
        assert data.is_sound
        await lab.store.close()

    asyncio.run(body())


def test_counters_of_an_older_store_are_kept(make_lab: MakeLab, tmp_path: Path) -> None:
    """The layout 14 had a table for the ledger and one for the outbox."""
    path = tmp_path / "monsal.db"
    old = apsw.Connection(str(path))
    for number, script in migrations():
        if number < 15:
            old.execute(script)
            old.execute(f"PRAGMA user_version = {number}")
    old.execute("PRAGMA application_id = 0x6D6E736C")
    old.execute("INSERT INTO monsal_meta VALUES (1, zeroblob(32), 5, 0, 0, 0, 0, 0, 0)")
    old.execute("UPDATE monsal_ledger SET accepted = 21, done = 6, waiting = 5, held = 4, dead = 3, dropped = 3")
    old.execute("UPDATE monsal_ledger SET duplicates = 9 WHERE source = 2")
    old.execute("UPDATE monsal_outbox_counts SET rows = 10 + status")
    before = read_ledger(old), read_outbox_counts(old)
    old.close()

    async def body() -> None:
        lab = make_lab()
        await lab.store.open()
        ledger = await lab.store.ledger()
        assert (ledger["bounce"].duplicates, ledger["mail"].dead, ledger["call"].accepted) == (9, 3, 21)
        await lab.accept()
        await lab.store.close()

    asyncio.run(body())
    new = apsw.Connection(str(path))
    ledger, counts = read_ledger(new), read_outbox_counts(new)
    assert (ledger.pop("mail").accepted, before[0].pop("mail").accepted) == (22, 21)
    assert (ledger, counts) == before
    assert select(new, "SELECT outbox FROM monsal_meta") == [(json.dumps([10, 11, 12, 13], separators=(",", ":")),)]
    new.close()
