"""Reading statements of an application beside the writer: they see all that is applied, and stop nobody."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from monsal.errors import StatementError, StoreUnavailable
from monsal.store.contract import Statement
from monsal.store.engine import place, reading
from monsal.store.engine.database import Guard
from monsal.testing.kit.lab import Lab

MakeLab = Callable[..., Lab]

ENDLESS = "with recursive n(x) as (select 1 union all select x + 1 from n) select count(*) from n"


def run(lab: Lab, body: Callable[[Lab], Awaitable[None]]) -> None:
    async def whole() -> None:
        await lab.store.open()
        try:
            async with asyncio.timeout(60):
                await body(lab)
        finally:
            await lab.store.close()

    asyncio.run(whole())


def test_a_read_sees_the_turn_that_was_applied_last(make_lab: MakeLab) -> None:
    async def body(lab: Lab) -> None:
        await lab.accept()
        row = await lab.claim_one()
        await lab.done(row, to="A", statements=[Statement("create table work(x)")])
        for number in range(1, 20):
            await lab.accept()
            row = await lab.claim_one()
            await lab.done(row, to="A", statements=[Statement("insert into work values (1)")])
            assert await lab.store.read("select count(*) from work") == [(number,)]
            assert await lab.store.read("select done from v_ledger where source = 'mail'") == [(number + 1,)]

    run(make_lab(window=5.0), body)


def test_mail_goes_on_while_a_read_takes_for_ever(make_lab: MakeLab) -> None:
    async def body(lab: Lab) -> None:
        slow = asyncio.create_task(lab.store.read(ENDLESS))
        for number in range(20):
            await lab.converse("A", f"c{number}@x")
            await lab.durable()
        assert not slow.done()
        # When the store is closed meanwhile
        await lab.store.close()
        # Then the read ends, and the store can be opened again
        with pytest.raises(StoreUnavailable):
            await slow
        await lab.store.open()
        assert await lab.store.read("select count(*) from monsal_spool") == [(20,)]

    run(make_lab(), body)


def test_a_read_without_end_is_stopped_and_the_next_one_runs(make_lab: MakeLab, monkeypatch: Any) -> None:
    monkeypatch.setattr(reading, "Guard", lambda: Guard(other=0.05))

    async def body(lab: Lab) -> None:
        with pytest.raises(StatementError, match=r"longer than 0\.05 s"):
            await lab.store.read(ENDLESS)
        assert await lab.store.read("select 1") == [(1,)]

    run(make_lab(), body)


def test_a_read_cannot_write_and_wrong_ones_are_errors_of_the_statement(make_lab: MakeLab) -> None:
    wrong: list[tuple[Any, Any]] = [
        ("create table x(y)", ()),
        ("delete from monsal_spool", ()),
        ("pragma query_only = off", ()),
        ("select 1; select 2", ()),
        ("select", ()),
        (None, ()),
        ("select ?", 7),
        ("select ?", None),
        ("select ?", (object(),)),
    ]

    async def body(lab: Lab) -> None:
        for sql, params in wrong:
            with pytest.raises(StatementError):
                await lab.store.read(sql, params)
        assert await lab.store.read("select ?", ["\ud800"]) == [("\ud800",)]

    run(make_lab(), body)


def test_more_reads_than_can_wait_are_refused(make_lab: MakeLab) -> None:
    async def body(lab: Lab) -> None:
        reads = [asyncio.create_task(lab.store.read("select 1")) for _ in range(100)]
        results = await asyncio.gather(*reads, return_exceptions=True)
        assert results.count([(1,)]) == 64
        assert sum(isinstance(result, StoreUnavailable) for result in results) == 36
        # And when callers went away, their places are free again
        reads = [asyncio.create_task(lab.store.read("select 1")) for _ in range(64)]
        await asyncio.sleep(0)
        for read in reads:
            read.cancel()
        await asyncio.gather(*reads, return_exceptions=True)
        result: Any = None
        while result != [(1,)]:
            await asyncio.sleep(0)
            with contextlib.suppress(StoreUnavailable):
                result = await lab.store.read("select 1")

    run(make_lab(), body)


def test_without_reads_there_is_no_thread_for_them(make_lab: MakeLab) -> None:
    async def body(lab: Lab) -> None:
        assert "monsal-read" not in {thread.name for thread in threading.enumerate()}
        await lab.store.read("select 1")
        assert "monsal-read" in {thread.name for thread in threading.enumerate()}

    run(make_lab(), body)
    assert "monsal-read" not in {thread.name for thread in threading.enumerate()}


def test_a_turn_whose_statement_has_no_end_fails_by_itself_when_it_comes_again(
    make_lab: MakeLab, monkeypatch: Any
) -> None:
    monkeypatch.setattr(place, "Guard", lambda: Guard(turn=0.05))
    endless = (
        "with recursive n(x) as (select 1 union all select x + 1 from n) insert into work select x from n where x=0"
    )

    async def body(lab: Lab) -> None:
        await lab.converse("A", statements=[Statement("create table work(x)")])
        await lab.durable()
        await lab.accept()
        row = await lab.claim_one()
        # The first time SQLite undoes the whole group, and the store opens anew
        with pytest.raises(StoreUnavailable):
            await lab.done(row, to="B", statements=[Statement(endless)])
        rows: list[Any] = []
        while not rows:
            await asyncio.sleep(0)
            with contextlib.suppress(StoreUnavailable):
                rows = await lab.claim()
        # The next time it is an error of this turn, which counts as a failure of its message
        with pytest.raises(StatementError, match="took too long"):
            await lab.done(rows[0], to="B", statements=[Statement(endless)])
        await lab.done(rows[0], "dead", handler=None)
        await lab.balanced()

    run(make_lab(), body)
