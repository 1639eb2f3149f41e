"""Applied, then durable: groups, flushes, and callers that go away."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from time import monotonic
from typing import Any

import apsw
import pytest

from monsal.errors import StoreUnavailable
from monsal.store import MemoryStore, SqliteStore
from monsal.store.coming import Rhythm
from monsal.store.contract import Receipt, StateKey, Statement
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


def on_disk(path: Path, sql: str) -> list[Any]:
    """What another process would see: flushed, and nothing else."""
    db = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        return db.execute(sql).fetchall()
    finally:
        db.close()


def statistics(lab: Lab) -> Any:
    assert isinstance(lab.store, SqliteStore | MemoryStore)
    return lab.store.statistics()


@pytest.mark.rule("state.B11")
def test_accept_answers_when_the_disk_has_it_and_not_before(make_lab: MakeLab, tmp_path: Path) -> None:
    async def body(lab: Lab) -> None:
        seen: list[int] = []
        for number in range(20):
            await lab.accept(f"c{number}@x")
            seen.append(on_disk(tmp_path / "monsal.db", "select count(*) from v_messages")[0][0])
        assert seen == list(range(1, 21))

    run(make_lab(), body)


@pytest.mark.rule("state.B11")
def test_callers_of_one_moment_share_one_flush(make_lab: MakeLab) -> None:
    async def body(lab: Lab) -> None:
        await asyncio.gather(*(lab.accept(f"c{number}@x") for number in range(100)))
        assert statistics(lab).groups == 1
        assert statistics(lab).largest_group == 100

    run(make_lab(), body)


def test_a_group_has_an_end_even_if_the_loop_never_turns(make_lab: MakeLab) -> None:
    async def body(lab: Lab) -> None:
        await asyncio.gather(*(lab.accept(f"c{number}@x") for number in range(50)))
        rows = await lab.claim(50)
        groups = statistics(lab).groups
        for row in rows:
            await lab.done(row, to="A")
        assert statistics(lab).groups >= groups + 4
        assert statistics(lab).largest_group <= 50

    run(make_lab(group_limit=10), body)


def test_a_turn_is_applied_at_once_and_on_the_disk_soon(make_lab: MakeLab, tmp_path: Path) -> None:
    async def body(lab: Lab) -> None:
        await lab.accept()
        row = await lab.claim_one()
        flushed = asyncio.Event()
        lab.store.on_outgoing(flushed.set)
        await lab.done(row, to="A", mails=[lab.outgoing()])
        assert (await lab.state("machine")).state == "A"
        assert on_disk(tmp_path / "monsal.db", "select * from v_states") == []
        assert await lab.store.take_outgoing(10, lab.now) == []
        await flushed.wait()
        assert on_disk(tmp_path / "monsal.db", "select state from v_states") == [("A",)]
        assert len(await lab.store.take_outgoing(10, lab.now)) == 1

    run(make_lab(), body)


def test_outgoing_mail_of_an_open_group_is_neither_given_nor_expected(make_lab: MakeLab) -> None:
    async def body(lab: Lab) -> None:
        await lab.accept()
        row = await lab.claim_one()
        await lab.done(row, mails=[lab.outgoing()])
        # A pump that is told a time in the past would ask again and again.
        assert lab.store.next_outgoing() is None

    run(make_lab(window=10.0), body)


def test_a_lone_reply_waits_for_other_turns_only_while_there_are_some(make_lab: MakeLab) -> None:
    async def body(lab: Lab) -> None:
        await lab.accept("ann@x")
        row = await lab.claim_one()
        flushed = asyncio.Event()
        lab.store.on_outgoing(flushed.set)
        groups = statistics(lab).groups
        # The window is longer than the test may take.
        await lab.done(row, mails=[lab.outgoing()])
        await flushed.wait()
        assert statistics(lab).groups == groups + 1
        assert len(await lab.store.take_outgoing(10, lab.now)) == 1
        await asyncio.gather(lab.accept("ann@x"), lab.accept("bob@x"))
        await lab.accept("eve@x")
        rows = await lab.claim(3)
        groups = statistics(lab).groups
        await lab.done(rows[0], mails=[lab.outgoing()])
        for _ in range(10):
            await asyncio.sleep(0)
        assert statistics(lab).groups == groups

    run(make_lab(window=1000.0), body)


def test_what_changes_nothing_makes_no_flush(make_lab: MakeLab) -> None:
    async def body(lab: Lab) -> None:
        await lab.accept()
        groups = statistics(lab).groups
        (row,) = await lab.claim()
        await lab.claim()
        await lab.store.extend([(row.lease_key, row.fence)], lab.now + 100)
        await lab.store.read_states([StateKey("m", "a@x")])
        await lab.store.ledger()
        await lab.store.rows("queue")
        await lab.store.read("select 1")
        await lab.store.take_outgoing(10, lab.now)
        assert not await lab.store.replay(999, lab.now)
        await lab.done(row, "again", handler=None)
        await asyncio.sleep(0)
        assert statistics(lab).groups == groups

    run(make_lab(), body)


def test_known_states_are_read_without_the_thread(make_lab: MakeLab) -> None:
    async def body(lab: Lab) -> None:
        await lab.converse("A")
        operations = statistics(lab).operations
        assert (await lab.state("machine")).state == "A"
        assert statistics(lab).operations == operations

    run(make_lab(), body)


def test_a_reader_sees_the_open_group_with_its_counters(make_lab: MakeLab) -> None:
    async def body(lab: Lab) -> None:
        await lab.accept()
        row = await lab.claim_one()
        await lab.done(
            row, to="A", statements=[Statement("create table work(x)"), Statement("insert into work values (1)")]
        )
        assert await lab.store.read("select x from work") == [(1,)]
        assert await lab.store.read("select done, waiting from v_ledger where source = 'mail'") == [(1, 0)]
        assert await lab.store.read("select state_after, key from v_turns") == [("A", "machine")]

    run(make_lab(), body)


def test_an_operation_that_fails_fails_alone(make_lab: MakeLab) -> None:
    async def body(lab: Lab) -> None:
        wrong: Any = 5
        results = await asyncio.gather(
            lab.accept("a@x"),
            lab.store.accept(lab.mail("b@x", correspondent=wrong)),
            lab.store.accept(lab.mail("c@x", received=float("nan"))),
            lab.accept("d@x"),
            return_exceptions=True,
        )
        assert [isinstance(result, Exception) for result in results] == [False, True, True, False]
        assert {row.sender for row in await lab.claim()} == {"a@x", "d@x"}
        assert statistics(lab).recoveries == 0
        await lab.balanced()

    run(make_lab(), body)


def test_a_caller_that_goes_away_leaves_what_was_applied(make_lab: MakeLab) -> None:
    async def body(lab: Lab) -> None:
        task = asyncio.create_task(lab.accept())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await lab.accept("bob@x")
        await lab.balanced()
        assert len(await lab.claim()) in (1, 2)

    run(make_lab(), body)


def test_taken_mail_whose_taker_went_away_is_given_again(make_lab: MakeLab) -> None:
    async def body(lab: Lab) -> None:
        await lab.converse("A", mails=[lab.outgoing()])
        await lab.durable()
        others = [asyncio.create_task(lab.accept(f"c{number}@x")) for number in range(3)]
        await asyncio.sleep(0)
        reader = asyncio.create_task(lab.store.rows("queue"))
        await asyncio.sleep(0)
        task = asyncio.create_task(lab.store.take_outgoing(10, lab.now))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(*others, reader, return_exceptions=True)
        assert len(await lab.store.take_outgoing(10, lab.now)) == 1

    run(make_lab(), body)


@pytest.mark.rule("state.B11")
def test_what_had_to_queue_is_durable_all_the_same(make_lab: MakeLab, tmp_path: Path) -> None:
    async def body(lab: Lab) -> None:
        async def write(number: int) -> bool:
            receipt = await lab.accept(f"c{number}@x")
            return on_disk(tmp_path / "monsal.db", f"select 1 from v_messages where id = {receipt.ids[0]}") == [(1,)]

        reader = asyncio.create_task(lab.store.rows("queue"))
        await asyncio.sleep(0)
        assert await asyncio.gather(*(write(number) for number in range(5))) == [True] * 5
        await reader

    run(make_lab(), body)


def test_a_queued_claim_whose_caller_goes_away_leases_nothing(make_lab: MakeLab) -> None:
    async def body(lab: Lab) -> None:
        await lab.accept()
        reader = asyncio.create_task(lab.store.rows("queue"))
        await asyncio.sleep(0)
        claim = asyncio.create_task(lab.claim())
        await asyncio.sleep(0)
        claim.cancel()
        await reader
        assert len(await lab.claim()) == 1

    run(make_lab(), body)


def test_a_claim_whose_caller_goes_away_in_the_last_moment_gives_back(make_lab: MakeLab) -> None:
    async def body(lab: Lab) -> None:
        await lab.converse("A", "bob@x", mails=[lab.outgoing()])
        await lab.accept()
        await lab.durable()
        claims: list[asyncio.Task[Any]] = []

        async def reader() -> None:
            await lab.store.rows("queue")
            # What queues is done right after this, and this is done before its callers hear of it.
            for claim in claims:
                asyncio.get_running_loop().call_soon(claim.cancel)

        reading = asyncio.create_task(reader())
        await asyncio.sleep(0)
        claims.append(asyncio.create_task(lab.claim(lease=1e6)))
        claims.append(asyncio.create_task(lab.store.take_outgoing(10, lab.now)))
        await asyncio.gather(reading, *claims, return_exceptions=True)
        assert [claim.cancelled() for claim in claims] == [True, True]
        assert len(await lab.claim()) == 1
        assert len(await lab.store.take_outgoing(10, lab.now)) == 1
        await lab.balanced()

    run(make_lab(), body)


def test_a_claim_whose_caller_goes_away_while_timers_fire_gives_back(make_lab: MakeLab) -> None:
    async def body(lab: Lab) -> None:
        await lab.converse("A", timers=[lab.timer(5.0)])
        await lab.durable()
        lab.now += 10.0
        assert isinstance(lab.store, SqliteStore)
        gate = threading.Event()
        lab.store._core._hand.do(gate.wait, lambda *_: None)
        claim = asyncio.create_task(lab.claim(lease=1e6))
        for _ in range(3):  # until the thread has it, behind the gate
            await asyncio.sleep(0)
        claim.cancel()
        gate.set()
        await asyncio.gather(claim, return_exceptions=True)
        assert [row.source for row in await lab.claim()] == ["timer"]

    run(make_lab(), body)


def test_closing_flushes_what_is_applied_and_answers_who_waits(make_lab: MakeLab, tmp_path: Path) -> None:
    async def body() -> None:
        lab = make_lab(window=10.0)
        await lab.store.open()
        await lab.accept("ann@example.net")
        (row,) = await lab.claim()
        waiting = asyncio.create_task(lab.accept("bob@x"))
        await lab.done(row, to="A")
        await asyncio.sleep(0)
        await lab.store.close()
        assert not (tmp_path / "monsal.db-wal").exists()
        answers = await asyncio.gather(waiting, return_exceptions=True)
        stored = on_disk(tmp_path / "monsal.db", "select count(*) from v_messages where sender = 'bob@x'")[0][0]
        assert stored == (not isinstance(answers[0], StoreUnavailable))
        assert on_disk(tmp_path / "monsal.db", "select state from v_states") == [("A",)]
        await lab.store.close()

    asyncio.run(body())


def test_a_store_can_be_opened_again_after_it_was_closed(tmp_path: Path) -> None:
    async def body() -> None:
        store = SqliteStore(tmp_path / "monsal.db")
        await store.open()
        with pytest.raises(StoreUnavailable, match="open already"):
            await store.open()
        first = store.epoch
        await store.close()
        await store.open()
        assert store.epoch == first + 1
        await store.close()

    asyncio.run(body())


def test_the_wal_does_not_grow_without_end(make_lab: MakeLab, tmp_path: Path) -> None:
    async def body(lab: Lab) -> None:
        async def write(client: int) -> None:
            for number in range(60):
                await lab.accept(f"c{client}-{number}@x", body=(b"x" * 4000,))

        await asyncio.gather(*(write(client) for client in range(10)))
        wal = (tmp_path / "monsal.db-wal").stat().st_size
        assert wal < 4 * 2**20, f"600 mails of 4 kB made a WAL of {wal} bytes"

    run(make_lab(checkpoint_pages=50, checkpoint_limit=200), body)


def test_the_store_in_memory_does_everything_at_once() -> None:
    """No thread, no waiting: a coroutine that never has to wait ends with its first step."""

    async def body() -> None:
        store = MemoryStore()
        await store.open()
        lab = Lab(lambda place: store, Path(), None)
        for coroutine in (
            store.accept(lab.mail()),
            store.rows("queue"),
            store.read("select 1"),
            store.claim(1, lab.now, 9),
        ):
            with pytest.raises(StopIteration):
                coroutine.send(None)
        await store.close()

    asyncio.run(body())


def test_an_interrupt_in_the_middle_of_an_operation_leaves_nothing_half(make_lab: MakeLab) -> None:
    async def body(lab: Lab) -> None:
        assert isinstance(lab.store, SqliteStore)
        await lab.accept()
        data = lab.store._core.data
        assert data is not None

        def interrupt(*_: Any) -> None:
            raise KeyboardInterrupt

        data.let_arrive = interrupt  # type: ignore[method-assign]  # the fault that is injected
        with pytest.raises(KeyboardInterrupt):
            lab.store.accept(lab.mail("bob@x")).send(None)
        await lab.store.close()
        await lab.store.open()
        await lab.counts(waiting=1)
        assert await lab.store.read("select count(*) from monsal_spool") == [(1,)]

    run(make_lab(), body)


def test_a_store_on_a_new_loop_still_tells_who_waits(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "monsal.db")
    lab = Lab(lambda place: store, tmp_path, None)

    async def once(sender: str) -> None:
        rung = asyncio.Event()
        await store.open()
        store.on_work(rung.set)
        await lab.accept(sender)
        await asyncio.wait_for(rung.wait(), 5)
        await store.close()
        # Rung for nobody: the loop ends before it can call.
        store._core.work.ring(asyncio.get_running_loop())

    for sender in ("ann@x", "bob@x"):
        asyncio.run(once(sender))


def test_a_row_whose_body_is_gone_keeps_nobody_else_waiting(make_lab: MakeLab) -> None:
    async def body(lab: Lab) -> None:
        for name in ("ann", "bob"):
            await lab.accept(f"{name}@x")
        await lab.restart()
        assert isinstance(lab.store, SqliteStore)
        data = lab.store._core.data
        assert data is not None
        data.writer.db.execute("delete from monsal_bodies where id = 1")
        assert [row.sender for row in await lab.claim()] == ["bob@x"]
        (dead,) = await lab.store.rows("dead")
        assert (dead["sender"], dead["reason"]) == ("ann@x", "its body is missing from the store")
        await lab.counts(dead=1, running=1)

    run(make_lab(), body)


def test_statistics_tell_what_the_engine_does(make_lab: MakeLab) -> None:
    async def body(lab: Lab) -> None:
        await lab.accept()
        await lab.accept("bob@x")
        await lab.claim(1)
        found = statistics(lab)
        assert (found.groups, found.queues, found.leases, found.recoveries) == (2, 2, 1, 0)
        assert found.flush_seconds > 0.0
        assert found.wal_pages > 0

    run(make_lab(), body)


@pytest.mark.rule("state.B11")
def test_a_group_waits_for_mails_that_were_announced(make_lab: MakeLab) -> None:
    async def body(lab: Lab) -> None:
        sender = announced(lab)
        groups = statistics(lab).groups
        first = asyncio.create_task(lab.accept("ann@x"))
        for _ in range(20):
            await asyncio.sleep(0)
        assert (first.done(), statistics(lab).groups) == (False, groups)
        sender.left()
        await asyncio.gather(first, lab.accept("bob@x"))
        assert statistics(lab).groups == groups + 1

    run(make_lab(window=1000.0), body)


@pytest.mark.rule("state.B11")
def test_a_mail_that_was_announced_and_never_comes_is_not_waited_for_beyond_the_window(make_lab: MakeLab) -> None:
    async def body(lab: Lab) -> None:
        announced(lab)
        for number in range(3):
            await lab.accept(f"c{number}@x")
        assert statistics(lab).groups >= 3

    run(make_lab(window=0.002), body)


def test_a_store_that_is_closed_waits_for_nobody(make_lab: MakeLab, tmp_path: Path) -> None:
    async def body() -> None:
        lab = make_lab(window=1000.0)
        await lab.store.open()
        announced(lab)
        waiting = asyncio.create_task(lab.accept("ann@x"))
        for _ in range(20):
            await asyncio.sleep(0)
        await lab.store.close()
        assert len((await waiting).ids) == 1
        assert on_disk(tmp_path / "monsal.db", "select count(*) from v_messages") == [(1,)]

    asyncio.run(body())


class Bringing:
    """Is told that its mail is stored, and brings the next one at once, as a client does that sends ahead."""

    def __init__(self, lab: Lab, disk: Path, more: int) -> None:
        self.lab, self.disk, self.more = lab, disk, more
        self.seen: list[tuple[int, bool]] = []
        self.over = asyncio.Event()
        self._number = 0

    def begin(self) -> None:
        assert isinstance(self.lab.store, SqliteStore)
        self._number += 1
        found = self.lab.store.begin_accept(self.lab.mail(f"c{self._number}@x"), self)
        assert found is self

    def done(self) -> bool:
        return False

    def set_result(self, receipt: Receipt) -> None:
        rows = on_disk(self.disk, f"select 1 from v_messages where id = {receipt.ids[0]}")
        self.seen.append((self._number, bool(rows)))
        if self._number < self.more:
            self.begin()
        else:
            self.over.set()

    def set_exception(self, error: Exception) -> None:
        raise AssertionError from error


@pytest.mark.rule("state.B11")
def test_a_mail_that_is_brought_while_others_are_answered_waits_for_a_flush_of_its_own(
    make_lab: MakeLab, tmp_path: Path
) -> None:
    async def body(lab: Lab) -> None:
        bringing = Bringing(lab, tmp_path / "monsal.db", 5)
        others = [asyncio.create_task(lab.accept(f"o{number}@x")) for number in range(3)]
        await asyncio.sleep(0)
        bringing.begin()
        more = [asyncio.create_task(lab.accept(f"m{number}@x")) for number in range(3)]
        await bringing.over.wait()
        assert bringing.seen == [(number, True) for number in range(1, 6)]
        await asyncio.gather(*others, *more)
        assert statistics(lab).groups >= 5

    run(make_lab(), body)


def announced(lab: Lab) -> Rhythm:
    """A sender whose mail is about to come for as long as the test takes."""
    assert isinstance(lab.store, SqliteStore)
    sender = Rhythm(lab.store.coming)
    for _ in range(2):
        sender.began(monotonic() + 1e6)
        sender.came(monotonic() + 1e6)
    sender.began(monotonic() + 1e6)
    return sender
