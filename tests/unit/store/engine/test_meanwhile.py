"""While a group is being flushed the next one begins in memory; nobody is told more than the disk has, and nothing that
needs the connection touches it."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import apsw
import pytest

from monsal.errors import StoreUnavailable
from monsal.store import SqliteStore
from monsal.store.contract import Applied, Claimed, Fenced, Settled, StateKey, Statement, TurnCommit
from monsal.store.engine.data import Data
from monsal.store.engine.operation import InDoubt
from monsal.store.engine.writer import Locked
from monsal.testing.kit.lab import Lab

MakeLab = Callable[..., Lab]


class Brake:
    """A disk that holds the next sync of the WAL, when it is told to, and lets it go or fail."""

    def __init__(self, disk: Any) -> None:
        self.fails = False
        self._is_on = False
        self._reached = threading.Event()
        self._go = threading.Event()
        disk.sync_fails = self._sync

    def _sync(self, path: str) -> bool:
        if not path.endswith("-wal"):
            return False
        if self._is_on:
            self._is_on = False
            self._reached.set()
            assert self._go.wait(15), "the test has forgotten a flush"
        return self.fails

    def set(self) -> None:
        """Hold the next one."""
        self._reached.clear()
        self._go.clear()
        self._is_on = True

    async def reached(self) -> None:
        """Return when it is held."""
        while not self._reached.is_set():
            await asyncio.sleep(0.001)

    def release(self, *, fails: bool = False) -> None:
        """Let it go on."""
        self.fails = fails
        self._go.set()


@pytest.fixture
def brake(disk: Any) -> Iterator[Brake]:
    brake = Brake(disk)
    yield brake
    brake.release()


def make(make_lab: MakeLab, **settings: Any) -> Lab:
    """A lab whose flushes are all made by the thread, and whose turns are flushed with the next mail only."""
    return make_lab(vfs="faulty", **{"inline_below": 0.0, "window": 1000.0, **settings})


def run(lab: Lab, body: Callable[[Lab], Awaitable[None]], brake: Brake) -> None:
    async def whole() -> None:
        await lab.store.open()
        try:
            async with asyncio.timeout(10):
                await body(lab)
        finally:
            brake.release()
            await lab.store.close()

    asyncio.run(whole())


def data_of(lab: Lab) -> Data:
    assert isinstance(lab.store, SqliteStore)
    data = lab.store.core.data
    assert data is not None
    return data


async def turns_of_the_loop() -> None:
    """Let all that can go on without waiting go on."""
    for _ in range(20):
        await asyncio.sleep(0)


async def until_up(lab: Lab) -> None:
    while True:
        with contextlib.suppress(StoreUnavailable):
            await lab.store.ledger()
            return
        await asyncio.sleep(0.001)


def on_disk(path: Path, sql: str) -> list[Any]:
    """What another process would see: flushed, and nothing else."""
    db = apsw.Connection(str(path / "monsal.db"), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        return db.execute(sql).fetchall()
    finally:
        db.close()


async def flushing(lab: Lab, brake: Brake, sender: str = "first@x") -> asyncio.Task[Any]:
    """A mail whose group is being flushed when this returns."""
    brake.set()
    task = asyncio.create_task(lab.accept(sender))
    await brake.reached()
    return task


@pytest.mark.rule("state.B11")
def test_the_hot_operations_are_applied_and_each_is_told_after_its_own_flush(
    make_lab: MakeLab, brake: Brake, tmp_path: Path
) -> None:
    async def body(lab: Lab) -> None:
        await asyncio.gather(lab.accept("ann@x"), lab.accept("bob@x"))
        (ann,) = await lab.claim(1)
        turn = await lab.turn(ann, to="A", mails=[lab.outgoing("ann@x")])
        first = await flushing(lab, brake)
        (bob,) = await lab.claim()
        assert bob.sender == "bob@x", "a mail of which its sender was not told yet"
        assert isinstance(await lab.store.commit(turn), Applied)
        assert (await lab.state("machine", "ann@x")).state == "A"
        assert await lab.store.extend([(bob.lease_key, bob.fence)], lab.now + 100.0) == [True]
        second = asyncio.create_task(lab.accept("second@x"))
        await turns_of_the_loop()
        assert await lab.claim() == [], "a mail of the open group, of which nobody was told yet"
        assert await lab.store.take_outgoing(10, lab.now) == []
        assert (first.done(), second.done()) == (False, False)
        brake.release()
        await first
        assert on_disk(tmp_path, "select sender from v_messages where sender like '%d@x'") == []
        brake.set()
        await brake.reached()
        # The first group is on the disk, as it was when it was sealed, and nobody of the second was told.
        assert not second.done()
        assert on_disk(tmp_path, "select sender from v_messages order by id") == [("ann@x",), ("bob@x",), ("first@x",)]
        assert on_disk(tmp_path, "select accepted, done, waiting from v_ledger where source = 'mail'") == [(3, 0, 3)]
        assert on_disk(tmp_path, "select * from v_states") == []
        brake.release()
        await second
        assert on_disk(tmp_path, "select accepted, done, waiting from v_ledger where source = 'mail'") == [(4, 1, 3)]
        assert {row.sender for row in await lab.claim()} == {"first@x", "second@x"}
        await lab.balanced()

    run(make(make_lab), body, brake)


@pytest.mark.rule("state.B11")
def test_a_duplicate_of_a_mail_that_is_being_flushed_is_told_after_that(make_lab: MakeLab, brake: Brake) -> None:
    async def body(lab: Lab) -> None:
        mail = lab.mail("ann@x")
        brake.set()
        first = asyncio.create_task(lab.store.accept(mail))
        await brake.reached()
        again = asyncio.create_task(lab.store.accept(mail))
        await turns_of_the_loop()
        assert not again.done()
        brake.release()
        assert (await again).duplicates == (True,)
        assert first.done()
        assert (await again).ids == (await first).ids
        await lab.balanced()

    run(make(make_lab), body, brake)


@pytest.mark.rule("state.B11")
def test_what_changes_nothing_waits_for_the_flush_that_is_under_way(make_lab: MakeLab, brake: Brake) -> None:
    """Its caller may rely on what is being flushed: it was told "durable"."""

    async def body(lab: Lab) -> None:
        await lab.accept("before@x")
        first = await flushing(lab, brake)
        nothing = asyncio.create_task(lab.store.settle([]))
        await turns_of_the_loop()
        assert not nothing.done()
        brake.release()
        await nothing
        await first

    run(make(make_lab), body, brake)


def test_mail_leaves_when_the_disk_has_its_row_and_not_with_the_flush_before(make_lab: MakeLab, brake: Brake) -> None:
    async def body(lab: Lab) -> None:
        await asyncio.gather(lab.accept("ann@x"), lab.accept("bob@x"), lab.accept("cid@x"))
        rows = {row.sender: row for row in await lab.claim(3)}
        ann = await lab.turn(rows["ann@x"], to="A", mails=[lab.outgoing("ann@x")])
        bob = await lab.turn(rows["bob@x"], to="A", mails=[lab.outgoing("bob@x")])
        # Not kept in memory, because it should have left before the other.
        cid = await lab.turn(rows["cid@x"], to="A", mails=[lab.outgoing("cid@x", due=lab.now - 5.0)])
        await lab.store.commit(ann)
        first = await flushing(lab, brake)
        await lab.store.commit(bob)
        await lab.store.commit(cid)
        brake.release()
        await first
        assert data_of(lab).dirty, "the turns were flushed: this shows nothing"
        assert [mail.recipient for mail in await lab.store.take_outgoing(10, lab.now)] == ["ann@x"]
        assert lab.store.next_outgoing() is None
        await lab.accept("last@x")
        assert {mail.recipient for mail in await lab.store.take_outgoing(10, lab.now)} == {"bob@x", "cid@x"}

    run(make(make_lab), body, brake)


@pytest.mark.rule("state.B11")
@pytest.mark.parametrize("is_there", [False, True])
def test_when_the_flush_fails_what_was_applied_meanwhile_is_gone_with_it(
    make_lab: MakeLab, brake: Brake, is_there: bool
) -> None:
    """Those of the group are told what is on the disk; those of the next one that theirs is not there."""

    async def body(lab: Lab) -> None:
        await lab.accept("ann@x")
        (ann,) = await lab.claim()
        turn = await lab.turn(ann, to="A", mails=[lab.outgoing("ann@x")])
        if is_there:
            commit = data_of(lab).writer.commit

            def lose_the_answer() -> None:
                commit()
                raise apsw.IOError("the answer was lost")

            data_of(lab).writer.commit = lose_the_answer  # type: ignore[method-assign]  # the fault that is injected
        first = await flushing(lab, brake)
        assert isinstance(await lab.store.commit(turn), Applied)
        second = asyncio.create_task(lab.accept("second@x"))
        queued = asyncio.create_task(lab.store.set_state(StateKey("machine", "ann@x"), "B", lab.now))
        behind = asyncio.create_task(lab.accept("behind@x"))
        await turns_of_the_loop()
        brake.release(fails=not is_there)
        answers = await asyncio.gather(first, second, queued, behind, return_exceptions=True)
        brake.release()
        assert [isinstance(answer, StoreUnavailable) for answer in answers] == [not is_there, True, True, True]
        assert not any(isinstance(answer, InDoubt) for answer in answers[1:])
        await until_up(lab)
        assert isinstance(await lab.store.commit(turn), Fenced)
        assert (await lab.state("machine", "ann@x")).state == "START"
        assert {row.sender for row in await lab.claim()} == {"ann@x", *(["first@x"] if is_there else [])}
        assert await lab.store.take_outgoing(10, lab.now) == []
        assert (await lab.accept("after@x")).ids[0] > ann.id + 2, "an id that was given out meanwhile was given again"
        await lab.balanced()

    run(make(make_lab), body, brake)


def test_an_operation_that_breaks_the_store_meanwhile_takes_nothing_from_the_group_before(
    make_lab: MakeLab, brake: Brake
) -> None:
    async def body(lab: Lab) -> None:
        first = await flushing(lab, brake)
        second = asyncio.create_task(lab.accept("second@x"))
        await turns_of_the_loop()
        arrive = data_of(lab).let_arrive

        def fail(arrival: Any) -> None:
            arrive(arrival)
            raise MemoryError

        data_of(lab).let_arrive = fail  # type: ignore[method-assign]  # the fault that is injected
        with pytest.raises(StoreUnavailable):
            await lab.accept("third@x")
        assert not first.done()
        brake.release()
        assert len((await first).ids) == 1
        with pytest.raises(StoreUnavailable):
            await second
        await until_up(lab)
        assert [row.sender for row in await lab.claim()] == ["first@x"]
        await lab.counts(running=1)

    run(make(make_lab), body, brake)


def test_closing_flushes_what_was_applied_meanwhile(make_lab: MakeLab, brake: Brake, tmp_path: Path) -> None:
    async def body() -> None:
        lab = make(make_lab)
        await lab.store.open()
        await lab.accept("ann@x")
        (ann,) = await lab.claim()
        turn = await lab.turn(ann, to="A")
        first = await flushing(lab, brake)
        await lab.store.commit(turn)
        second = asyncio.create_task(lab.accept("second@x"))
        await turns_of_the_loop()
        closing = asyncio.create_task(lab.store.close())
        await turns_of_the_loop()
        assert not closing.done()
        third = asyncio.create_task(lab.accept("third@x"))
        await turns_of_the_loop()
        brake.release()
        await closing
        answers = await asyncio.gather(first, second, third, return_exceptions=True)
        stored = on_disk(tmp_path, "select sender from v_messages order by id")
        told = [not isinstance(answer, StoreUnavailable) for answer in answers]
        assert told[:2] == [True, True]
        assert stored == [("ann@x",), ("first@x",), ("second@x",), *([("third@x",)] if told[2] else [])]
        assert on_disk(tmp_path, "select state from v_states") == [("A",)]

    asyncio.run(body())


def test_a_process_that_is_killed_meanwhile_has_told_nobody_a_false_yes(
    make_lab: MakeLab, brake: Brake, tmp_path: Path
) -> None:
    async def body() -> None:
        lab = make(make_lab)
        await lab.store.open()
        first = await flushing(lab, brake)
        second = asyncio.create_task(lab.accept("second@x"))
        await turns_of_the_loop()
        ending = asyncio.create_task(lab.store.abandon())
        await turns_of_the_loop()
        brake.release()
        await ending
        for told in await asyncio.gather(first, second, return_exceptions=True):
            assert isinstance(told, StoreUnavailable)
        assert on_disk(tmp_path, "select sender from v_messages where sender <> 'first@x'") == []
        await lab.store.open()
        await lab.accept("after@x")
        await lab.balanced()
        await lab.store.close()

    asyncio.run(body())


CONNECTED: dict[str, Callable[[Lab], Awaitable[Any]]] = {
    "a state that is not in memory": lambda lab: lab.state("machine", "stranger@x"),
    "an operator's act": lambda lab: lab.store.set_state(StateKey("machine", "ann@x"), "Z", lab.now),
    "a release": lambda lab: lab.store.release("ann@x", lab.now),
    "a look at length": lambda lab: lab.store.rows("queue"),
    "the ledger": lambda lab: lab.store.ledger(),
    "an application's read": lambda lab: lab.store.read("select 1"),
}


@pytest.mark.parametrize("name", CONNECTED)
def test_what_needs_the_connection_waits_and_nothing_overtakes_it(make_lab: MakeLab, brake: Brake, name: str) -> None:
    async def body(lab: Lab) -> None:
        await lab.accept("ann@x")
        (ann,) = await lab.claim()
        turn = await lab.turn(ann, to="A")
        first = await flushing(lab, brake)
        data = data_of(lab)
        apply, order = data.run, []

        def noted(function: Callable[..., Any], *arguments: Any) -> Any:
            value = apply(function, *arguments)
            order.append(function.__name__)
            return value

        data.run = noted  # type: ignore[method-assign]  # to see in which order they are applied
        connected = asyncio.ensure_future(CONNECTED[name](lab))
        await turns_of_the_loop()
        turn_is_committed = asyncio.ensure_future(lab.store.commit(turn))
        await turns_of_the_loop()
        assert order == []
        assert not data.dirty
        brake.release()
        await asyncio.gather(first, connected, turn_is_committed)
        assert len(order) == 2
        assert order[1] == "commit"
        await lab.balanced()

    run(make(make_lab, window=0.001), body, brake)


def test_turns_that_need_the_connection_wait_and_are_done_once(make_lab: MakeLab, brake: Brake) -> None:
    async def body(lab: Lab) -> None:
        senders = [f"c{number}@x" for number in range(6)]
        await lab.store.read("select 1")
        await asyncio.gather(*(lab.accept(who) for who in senders), lab.accept("two@x"), lab.accept("two@x"))
        rows = {row.sender: row for row in await lab.claim(20)}
        turns = [
            await lab.turn(rows[senders[0]], to="A", statements=[Statement("create table own(x)")]),
            await lab.turn(rows[senders[1]], "defer", to="A", due=lab.now + 100.0),
            await lab.turn(rows[senders[2]], "again", handler=None),
            await lab.turn(rows[senders[3]], "hold", to="A", reason="r", detail="d"),
            await lab.turn(rows[senders[4]], to="A", timers=[lab.timer(50.0)]),
            await lab.turn(rows[senders[5]], "dead", handler=None, reason="r", detail="d"),
        ]
        for turn in turns:
            first = await flushing(lab, brake, f"first{turn.message}@x")
            task = asyncio.create_task(lab.store.commit(turn))
            await turns_of_the_loop()
            brake.release()
            assert isinstance(await task, Applied)
            await first
            await lab.balanced()
        await lab.counts(done=2, dead=1, held=1, running=1, waiting=9)
        done = await lab.store.read("select message from v_turns order by id")
        assert sorted(done) == sorted((turn.message,) for turn in turns if turn.turn is not None)

    run(make(make_lab, window=0.001), body, brake)


def test_mails_of_one_correspondent_are_handled_in_order_during_flushes(make_lab: MakeLab, brake: Brake) -> None:
    async def body(lab: Lab) -> None:
        ids = [(await lab.accept("ann@x")).ids[0] for _ in range(4)]
        # Their state is in memory from here on.
        await lab.state("machine", "ann@x")
        first = await flushing(lab, brake, "ann@x")
        seen = []
        for _ in range(4):
            (row,) = await lab.claim(1)
            seen.append(row.id)
            assert isinstance(await lab.commit(row, to="A" if len(seen) % 2 else "B"), Applied)
        assert seen == ids
        assert not first.done()
        brake.release()
        await first
        await lab.counts(done=4, waiting=1)

    run(make(make_lab), body, brake)


def test_rows_that_are_not_in_memory_are_claimed_after_the_flush(make_lab: MakeLab, brake: Brake) -> None:
    async def body(lab: Lab) -> None:
        await lab.accept("ann@x")
        await lab.restart()
        first = await flushing(lab, brake)
        claim = asyncio.create_task(lab.claim())
        await turns_of_the_loop()
        assert not claim.done()
        brake.release()
        assert "ann@x" in {row.sender for row in await claim}
        await first

    run(make(make_lab), body, brake)


def test_who_waits_for_work_hears_of_mail_that_came_meanwhile(make_lab: MakeLab, brake: Brake) -> None:
    async def body(lab: Lab) -> None:
        first = await flushing(lab, brake)
        second = asyncio.create_task(lab.accept("second@x"))
        await turns_of_the_loop()
        assert await lab.claim() == []
        # Whoever is told a time that has come asks again and again.
        assert lab.store.next_work() is None
        rung = asyncio.Event()
        lab.store.on_work(rung.set)
        brake.release()
        await rung.wait()
        await asyncio.gather(first, second)
        assert [row.sender for row in await lab.claim()] == ["first@x", "second@x"]

    run(make(make_lab), body, brake)


@pytest.mark.rule("state.B11")
def test_what_is_applied_meanwhile_is_bounded(make_lab: MakeLab, brake: Brake) -> None:
    async def body(lab: Lab) -> None:
        first = await flushing(lab, brake)
        mails = [asyncio.create_task(lab.accept(f"c{number}@x")) for number in range(12)]
        await turns_of_the_loop()
        assert len(data_of(lab).arrivals) == 5
        brake.release()
        assert len({receipt.ids for receipt in await asyncio.gather(first, *mails)}) == 13
        brake.set()
        large = [asyncio.create_task(lab.accept(f"l{number}@x", body=(b"x" * 100_000,))) for number in range(40)]
        await brake.reached()
        await turns_of_the_loop()
        assert sum(len(arrival.raw or b"") for arrival in data_of(lab).arrivals) < 1_200_000
        brake.release()
        await asyncio.gather(*large)
        await lab.counts(waiting=53)

    run(make(make_lab, group_limit=5), body, brake)


@pytest.mark.parametrize(("waiting", "applied"), [(1, 1), (2, 0)])
def test_where_many_queues_have_work_it_is_done_together_after_the_flush(
    make_lab: MakeLab, brake: Brake, waiting: int, applied: int
) -> None:
    async def body(lab: Lab) -> None:
        await asyncio.gather(*(lab.accept(f"c{number}@x") for number in range(waiting)))
        await lab.claim(1)
        first = await flushing(lab, brake)
        second = asyncio.create_task(lab.accept("second@x"))
        await turns_of_the_loop()
        # With that of the mail that is being flushed, one queue more than `waiting` has work.
        assert len(data_of(lab).arrivals) == applied
        brake.release()
        await asyncio.gather(first, second)
        await lab.counts(waiting=waiting + 1, running=1)

    run(make(make_lab, narrow=2), body, brake)


def test_large_mails_that_come_meanwhile_are_bounded_by_their_octets(make_lab: MakeLab, brake: Brake) -> None:
    async def body(lab: Lab) -> None:
        first = await flushing(lab, brake)
        large = [asyncio.create_task(lab.accept(f"l{number}@x", body=(b"x" * 100_000,))) for number in range(40)]
        await turns_of_the_loop()
        pending = sum(len(arrival.raw or b"") for arrival in data_of(lab).arrivals)
        assert 1_000_000 < pending < 1_300_000
        brake.release()
        await asyncio.gather(first, *large)
        await lab.counts(waiting=41)

    run(make(make_lab), body, brake)


def test_what_left_is_settled_once_and_not_taken_again(make_lab: MakeLab, brake: Brake) -> None:
    async def body(lab: Lab) -> None:
        await lab.converse("A", "ann@x", mails=[lab.outgoing("a@x"), lab.outgoing("b@x"), lab.outgoing("c@x")])
        await lab.durable()
        taken = await lab.store.take_outgoing(2, lab.now)
        assert len(taken) == 2
        first = await flushing(lab, brake)
        results = [
            Settled(id=taken[0].id, status="sent"),
            Settled(id=taken[1].id, status="deferred", due=lab.now - 1.0, reason="later"),
        ]
        settled = asyncio.create_task(lab.store.settle(results))
        await turns_of_the_loop()
        assert (await lab.store.outbox_counts())["sent"] == 1
        assert not settled.done()
        brake.release()
        await first
        more = await lab.store.take_outgoing(10, lab.now)
        assert {mail.id for mail in more} == {taken[1].id, taken[1].id + 1}
        await settled
        assert await lab.store.take_outgoing(10, lab.now) == []
        assert (await lab.store.outbox_counts())["sent"] == 1

    run(make(make_lab), body, brake)


@pytest.mark.rule("state.B16")
@pytest.mark.parametrize("gives_up", [False, True])
def test_another_program_that_has_the_database_when_the_group_is_begun(
    make_lab: MakeLab, brake: Brake, gives_up: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thread waits for it, the loop goes on; if that takes too long, the group is undone."""
    monkeypatch.setattr("monsal.store.engine.hand.PATIENCE", 100)

    async def body(lab: Lab) -> None:
        first = await flushing(lab, brake)
        second = asyncio.create_task(lab.accept("second@x"))
        await turns_of_the_loop()
        writer = data_of(lab).writer
        begin, refused = writer.begin, []

        def locked() -> None:
            refused.append(threading.current_thread().name)
            if gives_up or len(refused) == 1:
                raise Locked("another program holds the database locked")
            begin()

        writer.begin = locked  # type: ignore[method-assign]  # the fault that is injected
        brake.release()
        assert len((await first).ids) == 1
        answer = (await asyncio.gather(second, return_exceptions=True))[0]
        assert isinstance(answer, StoreUnavailable) == gives_up
        assert refused[:2] == ["MainThread", "monsal-store"]
        await until_up(lab)
        assert isinstance(lab.store, SqliteStore)
        assert lab.store.statistics().recoveries == int(gives_up)
        await lab.counts(waiting=1 if gives_up else 2)
        await lab.accept("after@x")

    run(make(make_lab), body, brake)


def test_the_wal_is_moved_before_the_group_that_came_meanwhile_is_begun(make_lab: MakeLab, brake: Brake) -> None:
    """It cannot be moved within a transaction."""

    async def body(lab: Lab) -> None:
        for number in range(20):
            first = await flushing(lab, brake, f"f{number}@x")
            second = asyncio.create_task(lab.accept(f"s{number}@x", body=(b"x" * 20_000,)))
            await turns_of_the_loop()
            brake.release()
            await asyncio.gather(first, second)
        assert isinstance(lab.store, SqliteStore)
        assert lab.store.statistics().recoveries == 0
        assert lab.store.statistics().wal_pages < 100
        await lab.counts(waiting=40)

    run(make(make_lab, checkpoint_pages=10, checkpoint_limit=20), body, brake)


CALLS: dict[str, Callable[[Lab, Claimed, TurnCommit], Awaitable[Any]]] = {
    **{name: lambda lab, row, turn, call=call: call(lab) for name, call in CONNECTED.items()},
    "claim": lambda lab, row, turn: lab.claim(),
    "commit": lambda lab, row, turn: lab.store.commit(turn),
    "commit again": lambda lab, row, turn: lab.store.commit(turn),
    "accept": lambda lab, row, turn: lab.accept("b@x"),
    "extend": lambda lab, row, turn: lab.store.extend([(row.lease_key, row.fence)], lab.now + 9.0),
    "killed": lambda lab, row, turn: lab.store.killed([row.id], lab.now),
    "replay": lambda lab, row, turn: lab.store.replay(row.id, lab.now),
    "drop": lambda lab, row, turn: lab.store.drop(row.id, lab.now),
    "take_outgoing": lambda lab, row, turn: lab.store.take_outgoing(9, lab.now),
    "settle": lambda lab, row, turn: lab.store.settle([Settled(id=1, status="sent")]),
    "settle again": lambda lab, row, turn: lab.store.settle([Settled(id=1, status="sent")]),
    "outbox_counts": lambda lab, row, turn: lab.store.outbox_counts(),
    "retry_outgoing": lambda lab, row, turn: lab.store.retry_outgoing(1, lab.now),
    "cancel_outgoing": lambda lab, row, turn: lab.store.cancel_outgoing(1, lab.now),
    "sent": lambda lab, row, turn: lab.store.sent("token"),
    "suppress": lambda lab, row, turn: lab.store.suppress("c@x", "r", lab.now),
    "unsuppress": lambda lab, row, turn: lab.store.unsuppress("c@x"),
    "set_all": lambda lab, row, turn: lab.store.set_all("ann@x", "B", lab.now),
    "clear_states": lambda lab, row, turn: lab.store.clear_states(),
    "erase": lambda lab, row, turn: lab.store.erase("d@x", lab.now),
    "prune": lambda lab, row, turn: lab.store.prune(lab.now, 1.0),
}


def test_no_operation_touches_the_connection_while_a_thread_has_it(make_lab: MakeLab, brake: Brake) -> None:
    async def body(lab: Lab) -> None:
        await lab.accept("ann@x")
        (row,) = await lab.claim()
        turn = await lab.turn(row, to="A", mails=[lab.outgoing("ann@x")])
        touched: list[str] = []

        def traced(event: dict[str, Any]) -> None:
            if threading.current_thread() is threading.main_thread() and data_of(lab).writer.flushing:
                touched.append(event["sql"])

        data_of(lab).writer.connection.trace_v2(apsw.SQLITE_TRACE_STMT, traced)
        for name, call in CALLS.items():
            first = await flushing(lab, brake, f"{name}@x")
            task = asyncio.ensure_future(call(lab, row, turn))
            await turns_of_the_loop()
            assert touched == [], name
            brake.release()
            await asyncio.gather(first, task)
        await lab.balanced()

    run(make(make_lab, window=0.001), body, brake)
