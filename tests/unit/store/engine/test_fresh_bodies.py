"""Bodies of mails that turns sent lately: the same from memory and from the disk, and no more of them than allowed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from monsal.store import SqliteStore
from monsal.store.engine.data import Data, FreshBodies
from monsal.testing.kit.lab import NOW, Lab

MakeLab = Callable[..., Lab]


def data_of(lab: Lab) -> Data:
    assert isinstance(lab.store, SqliteStore)
    data = lab.store.core.data
    assert data is not None
    return data


def test_the_oldest_is_forgotten_first() -> None:
    bodies = FreshBodies(10)
    for mail in (1, 2, 3):
        bodies.put(mail, b"four")
    assert [bodies.pop(mail) for mail in (1, 2, 3, 3)] == [None, b"four", b"four", None]
    bodies.put(4, b"more than there is room for")
    assert bodies.pop(4) is None
    bodies.put(5, b"0123456789")
    assert bodies.pop(5) == b"0123456789"


@pytest.mark.parametrize("room", [0, 25, 1000])
def test_mails_have_the_same_bodies_from_memory_and_from_the_disk(make_lab: MakeLab, room: int) -> None:
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
        await lab.restart()
        rows = await lab.store.take_outgoing(100, lab.now)
        assert {row.recipient: row.body for row in rows} == expected
        await lab.store.close()

    asyncio.run(body())


def test_who_is_erased_is_not_in_memory_either(make_lab: MakeLab) -> None:
    async def body() -> None:
        lab = make_lab()
        await lab.store.open()
        await lab.accept("ann@x")
        await lab.done(await lab.claim_one(), to="A", mails=[lab.outgoing("ann@x", body=b"for Ann")])
        await lab.durable()
        (number,) = [row[0] for row in await lab.store.read("select mail from monsal_outbox")]
        fresh = data_of(lab).fresh_bodies
        assert fresh.pop(number) == b"for Ann"
        fresh.put(number, b"for Ann")
        assert isinstance(lab.store, SqliteStore)
        assert (await lab.store.erase("ann@x", NOW)).unsent == 1
        assert fresh.pop(number) is None
        await lab.store.close()

    asyncio.run(body())
