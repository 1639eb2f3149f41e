"""Forgetting what is long done: rows, turns, bodies and their files go, counters stay."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from monsal.store import SqliteStore
from monsal.store.contract import Settled
from monsal.testing.kit.lab import NOW, Lab

DAY = 86400.0
MakeLab = Callable[..., Lab]


def store_of(lab: Lab) -> SqliteStore:
    assert isinstance(lab.store, SqliteStore)
    return lab.store


async def sizes(lab: Lab) -> dict[str, int]:
    tables = ("spool", "history", "failures", "outbox", "bodies")
    return {name: (await lab.store.read(f"select count(*) from monsal_{name}"))[0][0] for name in tables}


async def fill(lab: Lab) -> None:
    """Of each kind one: done (for two recipients, large, with a mail that was sent), dead, held, waiting, deferred."""
    await lab.store.accept(lab.mail("two@x", to=("a@y", "b@y"), body=(b"x" * 300_000,)))
    for _ in range(2):
        await lab.done(await lab.claim_one(), to="A", mails=[lab.outgoing("a@x", "b@x", body=b"y" * 300_000)])
    await lab.durable()
    mails = await lab.store.take_outgoing(10, lab.now)
    results = [
        Settled(id=mail.id, status="deferred" if number == 3 else "sent", due=1e12) for number, mail in enumerate(mails)
    ]
    await lab.store.settle(results)
    for kind in ("dead", "hold", "defer"):
        await lab.accept(f"{kind}@x")
        await lab.done(await lab.claim_one(), kind, handler=None, reason="r", detail="d", due=1e12)
    await lab.accept("waiting@x")


async def prune_all(lab: Lab, **more: Any) -> int:
    total = 0
    while step := await store_of(lab).prune(lab.now, **more):
        total += step
    return total


@pytest.mark.rule("state.B8")
def test_what_is_done_goes_and_what_is_open_stays(make_lab: MakeLab, tmp_path: Path) -> None:
    async def body() -> None:
        lab = make_lab()
        await lab.store.open()
        await fill(lab)
        before = await lab.balanced()
        counts = await lab.store.outbox_counts()
        lab.now = NOW + 10 * DAY
        assert await prune_all(lab, keep=7 * DAY, limit=1) == 5
        assert await lab.balanced() == before
        assert await lab.store.outbox_counts() == counts
        # dead, held, deferred and waiting rows; one deferred mail; their five bodies.
        assert await sizes(lab) == {"spool": 4, "history": 0, "failures": 2, "outbox": 1, "bodies": 5}
        assert (await lab.state("machine", "two@x")).state == "A"
        await lab.restart()
        assert await lab.balanced() == before
        (mail,) = await lab.store.take_outgoing(10, 2e12)
        assert isinstance(mail.body, Path)
        assert mail.body.read_bytes() == b"y" * 300_000
        await lab.store.close()
        assert [path for path in (tmp_path / "bodies").rglob("*") if path.is_file()] == [mail.body]

    asyncio.run(body())


def test_nothing_young_goes_for_the_sake_of_duplicates(make_lab: MakeLab) -> None:
    async def body() -> None:
        lab = make_lab()
        await lab.store.open()
        mail = lab.mail()
        await lab.store.accept(mail)
        await lab.done(await lab.claim_one())
        lab.now = NOW + 2.9 * DAY
        assert await prune_all(lab, keep=0.0) == 0
        assert (await lab.store.accept(mail)).duplicates == (True,)
        lab.now = NOW + 3.1 * DAY
        assert await prune_all(lab, keep=0.0) == 1
        await lab.store.close()

    asyncio.run(body())


def test_a_body_lives_as_long_as_a_timer_that_carries_it(make_lab: MakeLab) -> None:
    async def body() -> None:
        lab = make_lab()
        await lab.store.open()
        await lab.converse("A", timers=[lab.timer(100 * DAY)])
        lab.now = NOW + 50 * DAY
        assert await prune_all(lab, keep=DAY) == 1
        lab.now = NOW + 101 * DAY
        row = await lab.claim_one()
        assert row.body == b"Subject: 1\r\n\r\nHello\r\n"
        await lab.done(row)
        lab.now = NOW + 200 * DAY
        assert await prune_all(lab, keep=DAY) == 1
        assert await sizes(lab) == {"spool": 0, "history": 0, "failures": 0, "outbox": 0, "bodies": 0}
        # Ids are not given again.
        assert (await lab.accept()).ids[0] == 3
        await lab.restart()
        assert (await lab.accept("bob@x")).ids[0] == 4
        await lab.store.close()

    asyncio.run(body())
