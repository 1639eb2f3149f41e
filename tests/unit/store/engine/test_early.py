"""The mail of a lone turn is offered while its flush is under way, and told of when that is over, either way (P2)."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest

from monsal.errors import StoreUnavailable
from monsal.store import SqliteStore
from monsal.store.contract import Applied, Outgoing, Settled
from monsal.store.early import EarlyStore, Told
from monsal.testing.kit.lab import Lab

MakeLab = Callable[..., Lab]


class Taker:
    """Takes what is offered, if it is to, and notes what it is told."""

    def __init__(self, lab: Lab) -> None:
        assert isinstance(lab.store, EarlyStore)
        lab.store.on_early(self.offered)
        self.wants = True
        self.rows: list[Outgoing] = []
        self.told: list[Exception | None] = []
        self.news = asyncio.Event()

    def offered(self, rows: Sequence[Outgoing]) -> Told | None:
        self.rows += rows
        return self._tell if self.wants else None

    def _tell(self, error: Exception | None) -> None:
        self.told.append(error)
        self.news.set()


def run(lab: Lab, body: Callable[[Lab, Taker], Awaitable[None]]) -> None:
    async def whole() -> None:
        await lab.store.open()
        try:
            async with asyncio.timeout(60):
                await body(lab, Taker(lab))
        finally:
            await lab.store.close()

    asyncio.run(whole())


async def lone_turn(lab: Lab, taker: Taker, *to: str) -> None:
    """A turn that answers, as they come where little comes: nothing else is applied beside it."""
    await lab.accept()
    row = await lab.claim_one()
    assert isinstance(await lab.commit(row, to="A", mails=[lab.outgoing(*to)]), Applied)
    while not taker.rows:
        await asyncio.sleep(0)


def test_what_was_offered_is_told_of_when_the_disk_has_it(make_lab: MakeLab, disk: Any) -> None:
    flushing, go_on = threading.Event(), threading.Event()

    def wait(path: str) -> bool:
        if path.endswith("-wal") and holding:
            flushing.set()
            assert go_on.wait(60)
        return False

    holding: list[bool] = []
    disk.sync_fails = wait

    async def body(lab: Lab, taker: Taker) -> None:
        await lab.accept()
        row = await lab.claim_one()
        holding.append(True)
        await lab.commit(row, to="A", mails=[lab.outgoing("b@x", "c@x")])
        while not flushing.is_set():
            await asyncio.sleep(0.001)
        assert [each.recipient for each in taker.rows] == ["b@x", "c@x"]
        assert {each.body for each in taker.rows} == {lab.outgoing().body}
        assert taker.told == []
        holding.clear()
        go_on.set()
        await taker.news.wait()
        assert taker.told == [None]
        assert await lab.store.take_outgoing(10, lab.now) == []
        assert (await lab.store.outbox_counts())["sending"] == 2
        await lab.store.settle([Settled(id=each.id, status="sent") for each in taker.rows])
        assert (await lab.store.outbox_counts())["sent"] == 2

    run(make_lab(vfs="faulty"), body)


def test_what_nobody_wants_is_taken_as_usual(make_lab: MakeLab) -> None:
    async def body(lab: Lab, taker: Taker) -> None:
        taker.wants = False
        await lone_turn(lab, taker, "b@x")
        await lab.durable()
        assert [each.recipient for each in taker.rows] == ["b@x"]
        assert (await lab.store.outbox_counts())["waiting"] == 1
        assert await lab.store.take_outgoing(10, lab.now) == taker.rows
        assert await lab.store.take_outgoing(10, lab.now) == []

    run(make_lab(), body)


@pytest.mark.parametrize("is_there", [False, True])
def test_after_a_flush_that_failed_nothing_was_sent_and_nothing_is_lost(
    make_lab: MakeLab, disk: Any, is_there: bool
) -> None:
    async def body(lab: Lab, taker: Taker) -> None:
        await lab.accept()
        row = await lab.claim_one()
        # A sync that fails may have reached the disk all the same, and then is found there.
        disk.sync_fails = lambda path: path.endswith("-wal")
        disk.write_fails = lambda path: not is_there and path.endswith("-wal")
        await lab.commit(row, to="A", mails=[lab.outgoing("b@x")])
        await taker.news.wait()
        (error,) = taker.told
        assert isinstance(error, StoreUnavailable)
        disk.sync_fails = disk.write_fails = lambda path: False
        while True:
            with contextlib.suppress(StoreUnavailable):
                await lab.store.ledger()
                break
            await asyncio.sleep(0.01)
        assert isinstance(lab.store, SqliteStore)
        taken = await lab.store.take_outgoing(10, lab.now)
        again = await lab.claim()
        # Either the turn is there with its mail, or its message is handled again; never both, never neither.
        assert (len(taken), len(again)) in ((1, 0), (0, 1))
        assert taker.told == [error]

    run(make_lab(vfs="faulty"), body)


def test_an_error_of_who_takes_it_hurts_nobody_else(make_lab: MakeLab, caplog: pytest.LogCaptureFixture) -> None:
    async def body(lab: Lab, taker: Taker) -> None:
        def fail(error: Exception | None) -> None:
            raise ValueError("no")

        assert isinstance(lab.store, EarlyStore)
        lab.store.on_early(lambda rows: taker.rows.extend(rows) or fail)
        await lone_turn(lab, taker, "b@x")
        await lab.durable()
        assert "cannot leave" in caplog.text
        assert (await lab.accept("bob@x")).ids

    run(make_lab(), body)


def test_turns_beside_others_are_not_offered(make_lab: MakeLab) -> None:
    async def body(lab: Lab, taker: Taker) -> None:
        for number in range(3):
            await lab.accept(f"c{number}@x")
        for row in await lab.claim():
            await lab.commit(row, to="A", mails=[lab.outgoing("b@x")])
        await lab.durable()
        assert taker.rows == []
        assert len(await lab.store.take_outgoing(10, lab.now)) == 3

    run(make_lab(), body)


def test_what_is_not_due_is_not_offered(make_lab: MakeLab) -> None:
    async def body(lab: Lab, taker: Taker) -> None:
        await lab.accept()
        await lab.commit(await lab.claim_one(), to="A", mails=[lab.outgoing("b@x", due=lab.now + 60.0)])
        await lab.durable()
        assert taker.rows == []
        assert lab.store.next_outgoing() == lab.now + 60.0

    run(make_lab(), body)


def test_a_store_that_closes_tells_before(make_lab: MakeLab) -> None:
    async def body(lab: Lab, taker: Taker) -> None:
        await lone_turn(lab, taker, "b@x")
        await lab.store.close()
        assert taker.told == [None]
        await lab.restart()
        # It was not settled, so it is sent again (P2, at least once).
        assert [each.recipient for each in await lab.store.take_outgoing(10, lab.now)] == ["b@x"]

    run(make_lab(), body)


def test_an_error_of_whom_it_is_offered_to_hurts_nobody(make_lab: MakeLab, caplog: pytest.LogCaptureFixture) -> None:
    async def body(lab: Lab, taker: Taker) -> None:
        def offered(rows: Sequence[Outgoing]) -> Told | None:
            taker.rows += rows
            raise ValueError("no")

        assert isinstance(lab.store, SqliteStore)
        lab.store.on_early(offered)
        await lone_turn(lab, taker, "b@x")
        await lab.durable()
        assert "cannot be prepared" in caplog.text
        assert lab.store.statistics().recoveries == 0
        # As if nobody had wanted it.
        assert await lab.store.take_outgoing(10, lab.now) == taker.rows

    run(make_lab(), body)
