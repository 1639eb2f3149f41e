"""Mails that are stored without a coroutine: what the waiter is told, and when."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import apsw
import pytest

from monsal.errors import StoreUnavailable
from monsal.store import MemoryStore, SqliteStore
from monsal.store.contract import Receipt
from monsal.store.waiter import Begins
from monsal.testing.kit.lab import Lab

MakeLab = Callable[..., Lab]


class Told:
    """A waiter that writes down what it is told, and then does what the test says."""

    def __init__(self, then: Callable[[], None] = lambda: None) -> None:
        self.answers: list[Any] = []
        self.is_gone = False
        self._then = then

    def done(self) -> bool:
        return self.is_gone or bool(self.answers)

    def set_result(self, value: Any) -> None:
        self.answers.append(value)
        self._then()

    def set_exception(self, error: Any) -> None:
        self.answers.append(error)
        self._then()


def run(lab: Lab, body: Callable[[Lab, SqliteStore], Awaitable[None]]) -> None:
    async def whole() -> None:
        assert isinstance(lab.store, SqliteStore)
        await lab.store.open()
        try:
            async with asyncio.timeout(60):
                await body(lab, lab.store)
        finally:
            await lab.store.close()

    asyncio.run(whole())


async def until(*told: Told) -> None:
    while not all(each.done() for each in told):
        await asyncio.sleep(0.001)


def stored(path: Path) -> int:
    """What another process would see: flushed, and nothing else."""
    db = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        return int(db.execute("select count(*) from v_messages").fetchall()[0][0])
    finally:
        db.close()


@pytest.mark.rule("state.B11")
def test_a_waiter_is_told_when_the_disk_has_its_mail_and_not_before(make_lab: MakeLab, tmp_path: Path) -> None:
    async def body(lab: Lab, store: SqliteStore) -> None:
        assert isinstance(store, Begins)
        seen: list[int] = []
        for number in range(20):
            told = Told(lambda: seen.append(stored(tmp_path / "monsal.db")))
            assert store.begin_accept(lab.mail(f"c{number}@x"), told) is told
            await until(told)
            assert isinstance(told.answers[0], Receipt)
        assert seen == list(range(1, 21))

    run(make_lab(), body)


def test_waiters_and_callers_share_a_group(make_lab: MakeLab) -> None:
    async def body(lab: Lab, store: SqliteStore) -> None:
        groups = store.statistics().groups
        told = [Told() for _ in range(50)]
        for number, each in enumerate(told):
            store.begin_accept(lab.mail(f"c{number}@x"), each)
        await lab.accept("other@x")
        await until(*told)
        assert store.statistics().groups == groups + 1
        assert len({each.answers[0].ids for each in told}) == 50

    run(make_lab(), body)


def test_what_is_known_at_once_is_given_at_once(make_lab: MakeLab) -> None:
    async def body() -> None:
        async with asyncio.timeout(60):
            memory = MemoryStore()
            await memory.open()
            told = Told()
            assert isinstance(memory.begin_accept(make_lab().mail(), told), Receipt)
            assert told.answers == []
            await memory.close()
            with pytest.raises(StoreUnavailable):
                memory.begin_accept(make_lab().mail(), told)

    asyncio.run(body())


def test_a_large_mail_is_not_begun(make_lab: MakeLab) -> None:
    async def body(lab: Lab, store: SqliteStore) -> None:
        assert store.begin_accept(lab.mail(body=(b"x" * 200_000,)), Told()) is None
        assert (await lab.balanced())["accepted"] == 0

    run(make_lab(), body)


def test_a_mail_whose_waiter_has_gone_before_it_was_begun_is_not_stored(make_lab: MakeLab) -> None:
    async def body(lab: Lab, store: SqliteStore) -> None:
        reading = asyncio.create_task(store.rows("queue"))
        await asyncio.sleep(0)
        gone, told = Told(), Told()
        store.begin_accept(lab.mail("gone@x"), gone)
        store.begin_accept(lab.mail("ann@x"), told)
        gone.is_gone = True
        await until(told)
        await reading
        assert gone.answers == []
        assert [row.sender for row in await lab.claim()] == ["ann@x"]

    run(make_lab(), body)


@pytest.mark.rule("state.B11")
@pytest.mark.parametrize("mails", [1, 30])
def test_a_sync_that_fails_is_never_a_yes(make_lab: MakeLab, disk: Any, mails: int) -> None:
    async def body(lab: Lab, store: SqliteStore) -> None:
        await lab.accept("before@x")
        disk.sync_fails = lambda path: path.endswith("-wal")
        told = [Told() for _ in range(mails)]
        for number, each in enumerate(told):
            store.begin_accept(lab.mail(f"l{number}@x"), each)
        await until(*told)
        assert all(isinstance(each.answers[0], StoreUnavailable) for each in told)
        disk.sync_fails = lambda path: False

    run(make_lab(vfs="faulty"), body)


def test_a_waiter_that_begins_its_next_mail_when_it_is_told(make_lab: MakeLab) -> None:
    """Also where each flush asks for a checkpoint, which no open transaction may meet."""

    async def body(lab: Lab, store: SqliteStore) -> None:
        left, over = [300], asyncio.Event()

        def next_one() -> None:
            if left[0] == 0:
                over.set()
                return
            left[0] -= 1
            store.begin_accept(lab.mail(f"c{left[0]}@x"), Told(next_one))

        for _ in range(3):
            next_one()
        await over.wait()
        await lab.durable()
        assert store.statistics().recoveries == 0
        assert (await lab.balanced())["accepted"] == 300

    run(make_lab(checkpoint_pages=1, checkpoint_limit=1), body)


def test_a_mail_that_an_answer_brings_and_that_breaks_the_store_hurts_no_other_answer(
    make_lab: MakeLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures: list[str] = []

    async def body(lab: Lab, store: SqliteStore) -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _loop, what: failures.append(str(what)))
        brought: list[Any] = []

        def breaks() -> None:
            data = store.core.data
            assert data is not None

            def broken(*_: Any) -> None:
                data.is_sound = False
                raise apsw.IOError("the disk is gone")

            monkeypatch.setattr(data, "run", broken)
            with pytest.raises(StoreUnavailable) as caught:
                store.begin_accept(lab.mail("next@x"), Told())
            brought.append(caught.value)

        told = [Told(), Told(breaks), Told(), Told()]
        for number, each in enumerate(told):
            store.begin_accept(lab.mail(f"c{number}@x"), each)
        await until(*told)
        assert len(brought) == 1
        assert [len(each.answers) for each in told] == [1] * 4
        # All of them were on the disk when the first was told.
        assert all(isinstance(each.answers[0], Receipt) for each in told)
        async with asyncio.timeout(30):
            while True:
                try:
                    await lab.accept("after@x")
                    break
                except StoreUnavailable:
                    await asyncio.sleep(0.01)
        assert store.statistics().recoveries == 1

    run(make_lab(), body)
    assert failures == []
