"""Statements of the store are compiled once, not each time they are run."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import apsw

from monsal.store import SqliteStore
from monsal.store.contract import Settled
from monsal.testing.kit.lab import Lab

MakeLab = Callable[..., Lab]


def test_nothing_is_compiled_anew_for_new_values(make_lab: MakeLab) -> None:
    """SQLite does that for each value which might make a partial index the better one, and it takes longer than to
    read the row. What it compiles, it asks the authorizer about."""

    async def body() -> None:
        lab = make_lab(fresh_bytes=0)
        await lab.store.open()
        await _play(lab)
        assert isinstance(lab.store, SqliteStore)
        data = lab.store.core.data
        assert data is not None
        asked: list[str] = []

        def authorizer(*about: object) -> int:
            asked.append(" ".join(map(str, about)))
            return apsw.SQLITE_OK

        data.writer.db.authorizer = authorizer
        await _play(lab)  # setting it has all statements compiled once more
        asked.clear()
        await _play(lab)
        compiled = {each for each in asked if "monsal_" in each}
        assert compiled == set()
        await lab.store.close()

    asyncio.run(body())


async def _play(lab: Lab) -> None:
    """Two mails of one correspondent, from their claim to the settling of their answers."""
    for _ in range(2):
        await lab.accept("ann@x")
    for _ in range(2):
        await lab.done(await lab.claim_one(), to="A", mails=[lab.outgoing("ann@x")])
    await lab.durable()
    for row in await lab.store.take_outgoing(10, lab.now):
        await lab.store.settle([Settled(id=row.id, status="sent")])
