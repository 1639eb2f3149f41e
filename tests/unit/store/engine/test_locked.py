"""Another program holds the database locked: the loop goes on, who waits is told, and nothing is thrown away."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import apsw
import pytest

from monsal.errors import StoreUnavailable
from monsal.store import SqliteStore
from monsal.store.contract import Applied
from monsal.testing.kit.lab import Lab

MakeLab = Callable[..., Lab]


def run(lab: Lab, body: Callable[[Lab], Awaitable[None]]) -> None:
    async def whole() -> None:
        await lab.store.open()
        try:
            async with asyncio.timeout(60):
                await body(lab)
        finally:
            await lab.store.close()

    asyncio.run(whole())


@contextmanager
def locked(place: Path) -> Iterator[None]:
    """Another program is in the middle of a transaction. With the SQLite of the store: locks of files belong to
    processes, and two copies of SQLite in one do not see those of each other."""
    other = apsw.Connection(str(place / "monsal.db"))
    other.execute("begin immediate")
    try:
        yield
    finally:
        other.execute("rollback")
        other.close()


async def turns_of_the_loop() -> None:
    """Let all that can go on without waiting go on."""
    for _ in range(20):
        await asyncio.sleep(0)


@pytest.mark.rule("state.B16")
def test_the_loop_does_not_wait_for_another_program(make_lab: MakeLab, tmp_path: Path) -> None:
    async def body(lab: Lab) -> None:
        row = await lab.accept("before@x")
        claimed = await lab.claim_one()
        with locked(tmp_path):
            before = asyncio.get_running_loop().time()
            mails = [asyncio.create_task(lab.accept(f"l{number}@x")) for number in range(3)]
            turn = asyncio.create_task(lab.done(claimed, to="A", expected=[]))
            await turns_of_the_loop()
            # It would have waited half a minute.
            assert asyncio.get_running_loop().time() - before < 10
            assert [task for task in (*mails, turn) if task.done()] == []
        receipts = await asyncio.gather(*mails)
        await turn
        assert len({receipt.ids for receipt in (row, *receipts)}) == 4
        assert isinstance(lab.store, SqliteStore)
        assert lab.store.statistics().recoveries == 0
        await lab.counts(accepted=4, done=1, waiting=3)

    run(make_lab(), body)


def test_who_has_waited_long_enough_is_told_and_so_are_those_behind(
    make_lab: MakeLab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("monsal.store.engine.hand.PATIENCE", 200)

    async def body(lab: Lab) -> None:
        await lab.accept("before@x")
        claimed = await lab.claim_one()
        turn = await lab.turn(claimed, to="A", expected=[])
        with locked(tmp_path):
            answers = await asyncio.gather(
                *(lab.accept(f"l{number}@x") for number in range(20)), lab.store.commit(turn), return_exceptions=True
            )
            assert all(isinstance(answer, StoreUnavailable) for answer in answers)
            assert "another program" in str(answers[0])
        # Nothing was undone by it: the lease holds, and the turn can be committed now.
        assert isinstance(await lab.store.commit(turn), Applied)
        await lab.accept("after@x")
        assert isinstance(lab.store, SqliteStore)
        assert lab.store.statistics().recoveries == 0
        await lab.counts(accepted=2, done=1, waiting=1)

    run(make_lab(), body)


def test_who_waited_is_not_told_yes_when_the_group_that_it_filled_cannot_be_sealed(
    make_lab: MakeLab, tmp_path: Path
) -> None:
    async def body(lab: Lab) -> None:
        assert isinstance(lab.store, SqliteStore)
        data = lab.store._core.data
        assert data is not None

        def refuse() -> None:
            raise apsw.FullError("database or disk is full")

        data.seal = refuse  # type: ignore[method-assign]  # the fault that is injected
        with locked(tmp_path):
            mail = asyncio.create_task(lab.accept("late@x"))
            await turns_of_the_loop()
            assert not mail.done()
        with pytest.raises(StoreUnavailable):
            await mail
        while lab.store._core.data is None:
            await asyncio.sleep(0.01)
        await lab.counts(accepted=0)

    run(make_lab(group_limit=1), body)
