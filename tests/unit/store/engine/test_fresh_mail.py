"""Mails that turns sent lately: the same from memory and from the disk, and no more of them than allowed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from monsal.store import SqliteStore
from monsal.store.contract import Outgoing, Settled
from monsal.store.engine.data import Data
from monsal.store.engine.fresh import FreshMail
from monsal.testing.kit.lab import NOW, Lab

MakeLab = Callable[..., Lab]


def data_of(lab: Lab) -> Data:
    assert isinstance(lab.store, SqliteStore)
    data = lab.store.core.data
    assert data is not None
    return data


def row_of(number: int, body: bytes) -> Outgoing:
    return Outgoing(
        id=number, mail=number, sender="s@x", recipient="r@x", message_id="<m@x>", attempts=0, created=NOW, body=body
    )


def test_what_there_is_no_room_for_is_not_kept() -> None:
    mails = FreshMail(2500)
    assert mails.put(row_of(1, b"x" * 500), NOW)
    assert not mails.put(row_of(2, b"x"), NOW)
    assert [each.row.id for each in mails] == [1]
    assert mails.pop(2) is None
    found = mails.pop(1)
    assert found is not None
    assert (found.row.body, found.due) == (b"x" * 500, NOW)
    assert mails.put(row_of(3, b"x" * 1500), NOW)
    assert mails.pop(1) is None
    assert len(mails) == 1


def test_what_should_leave_before_others_is_not_kept_behind_them() -> None:
    mails = FreshMail(100_000)
    assert mails.put(row_of(1, b""), NOW)
    assert not mails.put(row_of(2, b""), NOW - 1.0)
    assert mails.put(row_of(3, b""), NOW)
    assert [each.row.id for each in mails] == [1, 3]


@pytest.mark.parametrize("room", [0, 3000, 100_000])
def test_mails_are_the_same_from_memory_and_from_the_disk(make_lab: MakeLab, room: int) -> None:
    async def body() -> None:
        lab = make_lab(fresh_bytes=room)
        await lab.store.open()
        for number in range(4):
            mails = [lab.outgoing(f"a{number}@x", f"b{number}@x", body=b"first %d" % number)]
            mails.append(lab.outgoing(f"c{number}@x", body=b"second %d" % number))
            await lab.converse("A", mails=mails)
        await lab.durable()
        expected = {f"{who}{number}@x": b"first %d" % number for number in range(4) for who in "ab"}
        expected |= {f"c{number}@x": b"second %d" % number for number in range(4)}
        rows = await lab.store.take_outgoing(100, lab.now)
        assert {row.recipient: row.body for row in rows} == expected
        assert await lab.store.take_outgoing(100, lab.now) == []
        await lab.restart()
        assert await lab.store.take_outgoing(100, lab.now) == rows
        await lab.store.close()

    asyncio.run(body())


def test_who_is_erased_is_not_in_memory_either(make_lab: MakeLab) -> None:
    async def body() -> None:
        lab = make_lab()
        await lab.store.open()
        await lab.accept("ann@x")
        await lab.done(await lab.claim_one(), to="A", mails=[lab.outgoing("ann@x", body=b"for Ann")])
        await lab.durable()
        data = data_of(lab)
        assert len(data.fresh_mail) == 1
        assert isinstance(lab.store, SqliteStore)
        assert (await lab.store.erase("ann@x", NOW)).unsent == 1
        assert len(data.fresh_mail) == 0
        assert await lab.store.take_outgoing(100, lab.now) == []
        await lab.store.close()

    asyncio.run(body())


def test_what_an_operator_cancels_is_not_taken_from_memory(make_lab: MakeLab) -> None:
    async def body() -> None:
        lab = make_lab()
        await lab.store.open()
        await lab.converse("A", mails=[lab.outgoing("a@x", "b@x"), lab.outgoing("c@x")])
        await lab.durable()
        assert await lab.store.cancel_outgoing(2, lab.now)
        assert [row.recipient for row in await lab.store.take_outgoing(100, lab.now)] == ["a@x", "c@x"]
        await lab.store.close()

    asyncio.run(body())


def test_a_row_is_due_at_its_time_though_the_clock_is_set_back(make_lab: MakeLab) -> None:
    async def body() -> None:
        lab = make_lab()
        await lab.store.open()
        await lab.converse("A", mails=[lab.outgoing("a@x")])
        await lab.durable()
        assert lab.store.next_outgoing() == lab.now
        assert await lab.store.take_outgoing(100, lab.now - 60.0) == []
        assert lab.store.next_outgoing() == lab.now
        assert [row.recipient for row in await lab.store.take_outgoing(100, lab.now)] == ["a@x"]
        assert lab.store.next_outgoing() is None
        await lab.store.close()

    asyncio.run(body())


def test_older_rows_that_were_put_off_leave_before_those_in_memory(make_lab: MakeLab) -> None:
    async def body() -> None:
        lab = make_lab()
        await lab.store.open()
        await lab.converse("A", mails=[lab.outgoing("old@x")])
        await lab.durable()
        (old,) = await lab.store.take_outgoing(100, lab.now)
        await lab.store.settle([Settled(id=old.id, status="deferred", due=lab.now + 5.0)])
        lab.now += 10.0
        await lab.converse("A", mails=[lab.outgoing("new@x")])
        await lab.durable()
        assert [row.recipient for row in await lab.store.take_outgoing(1, lab.now)] == ["old@x"]
        assert [row.recipient for row in await lab.store.take_outgoing(1, lab.now)] == ["new@x"]
        assert await lab.store.take_outgoing(1, lab.now) == []
        await lab.store.close()

    asyncio.run(body())


@pytest.mark.parametrize("room", [0, 100_000])
def test_nothing_is_taken_before_the_disk_has_it(make_lab: MakeLab, room: int) -> None:
    async def body() -> None:
        lab = make_lab(fresh_bytes=room, window=60.0)
        await lab.store.open()
        await lab.accept("ann@x")
        await lab.accept("bob@x")
        for row in await lab.claim(2):
            await lab.done(row, to="A", mails=[lab.outgoing(row.correspondent)])
        assert data_of(lab).has_undurable_mail
        assert await lab.store.take_outgoing(100, lab.now) == []
        await lab.durable()
        assert len(await lab.store.take_outgoing(100, lab.now)) == 2
        await lab.store.close()

    asyncio.run(body())
