"""A disk that fails: who was promised nothing is told so, nothing is half-done, and the store comes back by itself."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import apsw
import pytest

from monsal.errors import StoreUnavailable
from monsal.store import SqliteStore
from monsal.store.contract import Applied, Fenced
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


def statistics(lab: Lab) -> Any:
    assert isinstance(lab.store, SqliteStore)
    return lab.store.statistics()


async def until_up(lab: Lab) -> None:
    """Return when the store answers again."""
    while True:
        with contextlib.suppress(StoreUnavailable):
            await lab.store.ledger()
            return
        await asyncio.sleep(0.01)


def is_wal(path: str) -> bool:
    return path.endswith("-wal")


@pytest.mark.rule("state.B11")
@pytest.mark.parametrize("callers", [1, 30])
def test_a_sync_that_fails_is_never_a_yes(make_lab: MakeLab, disk: Any, callers: int) -> None:
    async def body(lab: Lab) -> None:
        kept = await asyncio.gather(*(lab.accept(f"k{number}@x") for number in range(5)))
        disk.sync_fails = is_wal
        answers = await asyncio.gather(
            *(lab.accept(f"l{number}@x") for number in range(callers)), return_exceptions=True
        )
        assert all(isinstance(answer, StoreUnavailable) for answer in answers)
        with pytest.raises(StoreUnavailable, match="does not sync"):
            await lab.claim()
        disk.sync_fails = lambda path: False
        await until_up(lab)
        assert {row.id for row in await lab.claim(100)} == {receipt.ids[0] for receipt in kept}
        assert (await lab.balanced())["accepted"] == 5
        assert (await lab.accept("after@x")).ids[0] > max(receipt.ids[0] for receipt in kept)

    run(make_lab(vfs="faulty"), body)


def test_turns_of_a_lost_group_are_undone_with_their_leases(make_lab: MakeLab, disk: Any) -> None:
    async def body(lab: Lab) -> None:
        await lab.converse("A")
        version = (await lab.state("machine")).version
        await lab.accept()
        row = await lab.claim_one()
        disk.sync_fails = is_wal
        turn = await lab.turn(row, to="B", mails=[lab.outgoing()], timers=[lab.timer(5.0)])
        assert isinstance(await lab.store.commit(turn), Applied)
        assert (await lab.state("machine")).state == "B"
        with pytest.raises(StoreUnavailable):
            await lab.accept("bob@x")
        disk.sync_fails = lambda path: False
        await until_up(lab)
        assert (await lab.state("machine")).state == "A"
        assert isinstance(await lab.store.commit(turn), Fenced)
        again = await lab.claim_one()
        assert again.id == row.id
        assert again.fence.epoch > row.fence.epoch
        await lab.done(again, to="C")
        # A version of the group that was undone means nothing else afterwards.
        assert (await lab.state("machine")).version > version + 1
        lab.now += 100.0
        assert await lab.claim() == []
        await lab.durable()
        assert await lab.store.take_outgoing(10, lab.now) == []
        await lab.counts(done=2)

    run(make_lab(vfs="faulty"), body)


def test_a_commit_that_failed_but_is_on_the_disk_is_a_yes(make_lab: MakeLab) -> None:
    """After an error only what is read back counts: here COMMIT succeeded and its answer was lost."""

    async def body(lab: Lab) -> None:
        assert isinstance(lab.store, SqliteStore)
        data = lab.store._core.data
        assert data is not None
        flush = data.writer.commit

        def flush_and_lose_the_answer() -> None:
            flush()
            raise apsw.IOError("the answer was lost")

        data.writer.commit = flush_and_lose_the_answer  # type: ignore[method-assign]  # the fault that is injected
        receipts = await asyncio.gather(*(lab.accept(f"c{number}@x") for number in range(3)))
        await until_up(lab)
        assert {row.id for row in await lab.claim()} == {receipt.ids[0] for receipt in receipts}
        assert lab.store.statistics().recoveries == 1

    run(make_lab(), body)


@pytest.mark.rule("state.B11")
@pytest.mark.parametrize("callers", [1, 20])
def test_a_full_disk_refuses_and_goes_on_when_there_is_room(make_lab: MakeLab, disk: Any, callers: int) -> None:
    async def body(lab: Lab) -> None:
        first = await lab.accept()
        disk.write_fails = lambda path: True
        answers = await asyncio.gather(
            *(lab.accept(f"l{number}@x") for number in range(callers)), return_exceptions=True
        )
        assert all(isinstance(answer, StoreUnavailable) for answer in answers)
        for _ in range(3):
            with pytest.raises(StoreUnavailable, match="the disk is full"):
                await lab.accept("bob@x")
        disk.write_fails = lambda path: False
        await until_up(lab)
        assert [row.id for row in await lab.claim()] == list(first.ids)
        await lab.accept("bob@x")
        assert (await lab.balanced())["accepted"] == 2

    run(make_lab(vfs="faulty"), body)


def test_a_database_that_may_not_grow_refuses_and_keeps_what_it_has(make_lab: MakeLab) -> None:
    """SQLite's own SQLITE_FULL, in the middle of an operation's statements."""

    async def body(lab: Lab) -> None:
        assert isinstance(lab.store, SqliteStore)
        data = lab.store._core.data
        assert data is not None
        pages = data.select("PRAGMA page_count")[0][0]
        data.select(f"PRAGMA max_page_count = {pages + 20}")
        stored = 0

        async def write_until_it_fails() -> None:
            nonlocal stored
            for number in range(200):
                await lab.accept(f"c{number}@x", body=(b"x" * 3000,))
                stored += 1

        with pytest.raises(StoreUnavailable, match="the disk is full"):
            await write_until_it_fails()
        await until_up(lab)
        assert 0 < stored < 200
        assert (await lab.balanced())["accepted"] == stored
        assert len(await lab.claim(1000)) == stored

    run(make_lab(), body)


def test_while_it_is_down_every_call_is_refused_at_once(make_lab: MakeLab, disk: Any) -> None:
    async def body(lab: Lab) -> None:
        disk.sync_fails = is_wal
        with pytest.raises(StoreUnavailable):
            await lab.accept()
        calls: list[Awaitable[Any]] = [
            lab.accept(),
            lab.claim(),
            lab.state("machine"),
            lab.store.ledger(),
            lab.store.read("select 1"),
            lab.store.settle([]),
            lab.store.take_outgoing(1, lab.now),
            lab.store.accept(lab.mail(body=(b"x" * 300_000,))),
        ]
        for answer in await asyncio.gather(*calls, return_exceptions=True):
            assert isinstance(answer, StoreUnavailable)
        assert lab.store.next_work() is None
        assert lab.store.next_outgoing() is None

    run(make_lab(vfs="faulty"), body)


def test_a_store_that_is_down_can_be_closed(make_lab: MakeLab, disk: Any, tmp_path: Path) -> None:
    async def body() -> None:
        lab = make_lab(vfs="faulty")
        await lab.store.open()
        disk.sync_fails = is_wal
        with pytest.raises(StoreUnavailable):
            await lab.accept()
        await lab.store.close()
        disk.sync_fails = lambda path: False
        other = make_lab()
        await other.store.open()
        await other.store.close()

    asyncio.run(body())


def test_work_is_announced_when_the_store_is_back(make_lab: MakeLab, disk: Any) -> None:
    async def body(lab: Lab) -> None:
        await lab.accept()
        work, mail = asyncio.Event(), asyncio.Event()
        disk.sync_fails = is_wal
        with pytest.raises(StoreUnavailable):
            await lab.accept("bob@x")
        lab.store.on_work(work.set)
        lab.store.on_outgoing(mail.set)
        disk.sync_fails = lambda path: False
        await work.wait()
        await mail.wait()
        assert len(await lab.claim()) == 1

    run(make_lab(vfs="faulty"), body)


def test_a_large_body_whose_row_was_refused_is_removed(make_lab: MakeLab, disk: Any, tmp_path: Path) -> None:
    def files() -> list[Path]:
        return [path for path in (tmp_path / "bodies").rglob("*") if path.is_file()]

    async def body(lab: Lab) -> None:
        large = b"x" * 300_000
        disk.sync_fails = is_wal
        with pytest.raises(StoreUnavailable):
            await lab.accept(body=(large,))
        disk.sync_fails = lambda path: False
        await until_up(lab)
        mail = lab.mail(body=(large,))
        receipt = await lab.store.accept(mail)
        assert (await lab.store.accept(mail)).duplicates == (True,)
        row = await lab.claim_one()
        assert row.id == receipt.ids[0]
        assert isinstance(row.body, Path)
        lost = await lab.turn(row, to="A", mails=[lab.outgoing(body=large)], expected=[])
        lab.now += 100.0
        await lab.claim_one()
        assert isinstance(await lab.store.commit(lost), Fenced)

    run(make_lab(vfs="faulty"), body)
    # Closing waits for the threads that remove.
    assert len(files()) == 1


def test_a_large_body_in_doubt_is_there_when_its_row_turns_up(make_lab: MakeLab, disk: Any, tmp_path: Path) -> None:
    """The flush of a large mail fails, from then on the disk takes nothing, the process is killed: the next one finds
    the row in the WAL. The sender was refused and comes again, and is told that the mail is there (P1)."""
    place, left = tmp_path / "place", tmp_path / "left"
    place.mkdir()
    large = b"x" * 300_000
    lab = make_lab(vfs="faulty", place=place)
    mail = lab.mail(body=(large,))

    def dead(path: str) -> bool:
        disk.write_fails = is_wal
        return is_wal(path)

    async def dies() -> None:
        await lab.store.open()
        disk.sync_fails = dead
        with pytest.raises(StoreUnavailable):
            await lab.store.accept(mail)
        assert isinstance(lab.store, SqliteStore)
        assert lab.store._writers is not None
        await asyncio.to_thread(lab.store._writers.stop)
        # What a killed process leaves.
        shutil.copytree(place, left)
        with contextlib.suppress(StoreUnavailable):
            await lab.store.close()

    async def comes_back(lab: Lab) -> None:
        receipt = await lab.store.accept(mail)
        assert receipt.duplicates == (True,), "its row was not in the WAL: this test shows nothing"
        row = await lab.claim_one()
        assert isinstance(row.body, Path)
        assert row.body.read_bytes() == large

    asyncio.run(dies())
    run(make_lab(place=left), comes_back)


def test_a_large_body_in_doubt_is_removed_when_its_row_does_not_turn_up(
    make_lab: MakeLab, disk: Any, tmp_path: Path
) -> None:
    def files() -> list[Path]:
        return [path for path in (tmp_path / "bodies").rglob("*") if path.is_file()]

    async def body(lab: Lab) -> None:
        disk.sync_fails = is_wal
        disk.write_fails = is_wal
        with pytest.raises(StoreUnavailable):
            await lab.accept(body=(b"x" * 300_000,))
        disk.sync_fails = disk.write_fails = lambda path: False
        await until_up(lab)
        assert await lab.claim() == []

    run(make_lab(vfs="faulty"), body)
    assert files() == []


@pytest.mark.parametrize("error", [apsw.CorruptError("malformed"), apsw.IOError("read"), MemoryError()])
def test_any_error_of_the_file_in_an_operation_is_answered_by_opening_anew(make_lab: MakeLab, error: Exception) -> None:
    async def body(lab: Lab) -> None:
        assert isinstance(lab.store, SqliteStore)
        await lab.accept()
        data = lab.store._core.data
        assert data is not None

        def fail(*_: Any) -> None:
            raise error

        data.write = fail  # type: ignore[assignment]  # the fault that is injected
        with pytest.raises(StoreUnavailable):
            await lab.accept("bob@x")
        await until_up(lab)
        assert (await lab.balanced())["accepted"] == 1
        await lab.accept("cid@x")
        assert statistics(lab).recoveries == 1

    run(make_lab(), body)


def test_the_window_of_a_lost_group_does_not_end_any_more(make_lab: MakeLab, disk: Any) -> None:
    """It would forget when the recovery is tried next, and a close would leave that going."""

    async def body(lab: Lab) -> None:
        assert isinstance(lab.store, SqliteStore)
        core = lab.store._core
        await asyncio.gather(lab.accept("ann@x"), lab.accept("bob@x"))
        await lab.done((await lab.claim(2))[0], to="A")
        await asyncio.sleep(0)
        window = core._timer
        assert window is not None
        disk.sync_fails = is_wal
        with pytest.raises(StoreUnavailable):
            await lab.accept("carl@x")
        assert window.cancelled()
        disk.sync_fails = lambda path: False
        await until_up(lab)

    run(make_lab(vfs="faulty", window=1000.0), body)


def test_a_store_that_is_abandoned_while_it_recovers_stays_closed(make_lab: MakeLab, disk: Any, tmp_path: Path) -> None:
    """Its connection is closed, and everybody is told, whatever step the recovery has reached."""

    async def body() -> None:
        for turns in range(60):
            lab = make_lab(vfs="faulty", inline_below=0.0)
            assert isinstance(lab.store, SqliteStore)
            await lab.store.open()
            disk.sync_fails = is_wal
            told = asyncio.create_task(lab.accept("ann@x"))
            while lab.store.core.data is not None:
                await asyncio.sleep(0)
            disk.sync_fails = lambda path: False
            for _ in range(turns):
                await asyncio.sleep(0)
            was_up = lab.store.core.data is not None
            await lab.store.abandon()
            for _ in range(5):
                await asyncio.sleep(0)
            assert lab.store.core.data is None, f"open again after {turns} turns of the loop"
            assert told.done()
            assert isinstance(told.exception(), StoreUnavailable)
            # Nobody is left who has the file open.
            assert not (tmp_path / "monsal.db-wal").exists(), f"not closed, {turns=} {was_up=}"

    asyncio.run(body())
