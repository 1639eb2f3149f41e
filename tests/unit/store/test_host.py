"""One store, several workers: who gets what, what a death gives back, and what the store process' own end leaves."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace
from store_links import join, setup_of

from monsal.errors import StatementError, StoreError, StoreUnavailable
from monsal.store import SqliteStore
from monsal.store.contract import Applied, Claimed, Fenced, Settled, StateKey
from monsal.store.engine.place import EngineSettings
from monsal.store.host import StoreHost
from monsal.store.remote import RemoteStore
from monsal.testing.kit.lab import NOW, Lab
from monsal.transport import Link, link_pair


class Worker:
    """A worker's store, with short words to speak to it; `link` is its end of the link."""

    def __init__(self, name: str, place: Path) -> None:
        self.name = name
        self.store = RemoteStore(patience=1.0)
        self.lab = Lab(lambda _: self.store, place, None)
        # So that two workers' mails are not each other's duplicates.
        self.lab._count = 1000 * (1 + sum(name.encode()))
        self.link: Link
        self.other: Link
        self.rung = 0
        self.store.on_work(self._note)

    def _note(self) -> None:
        self.rung += 1

    async def claim(self, limit: int = 10, lease: float = 60.0) -> list[Claimed]:
        return await self.lab.claim(limit, lease)


class House:
    """A store process and its workers, all in this process. `pages` has what each worker's turn page would say."""

    def __init__(self, place: Path, **settings: Any) -> None:
        self.place = place
        self.settings = EngineSettings(**settings)
        self.pages: dict[str, list[int]] = {}
        self.workers: dict[str, Worker] = {}
        self.host = self._host()

    def _host(self, **options: Any) -> StoreHost:
        store = SqliteStore(self.place / "monsal.db", settings=self.settings)
        return StoreHost(store, running=lambda name: self.pages.pop(name, []), now=lambda: NOW, **options)

    async def worker(self, name: str) -> Worker:
        worker = self.workers[name] = Worker(name, self.place)
        await self.connect(worker)
        await worker.store.open()
        return worker

    async def connect(self, worker: Worker) -> None:
        worker.link, worker.other = await join(worker.store, self.host, worker.name)

    async def kill(self, name: str, *running: Claimed) -> None:
        """The worker's process is killed while handlers ran for these rows."""
        worker = self.workers.pop(name)
        self.pages[name] = [row.id for row in running]
        worker.link.abort()
        await worker.other.wait_closed()

    async def crash(self) -> None:
        """The store process is killed."""
        await self.host.store.abandon()
        for worker in self.workers.values():
            worker.other.abort()
            await worker.link.wait_closed()

    async def come_back(self, **options: Any) -> None:
        """A new store process, which nobody has a link to yet."""
        self.host = self._host(**options)
        await self.host.open()


@asynccontextmanager
async def open_house(place: Path, **settings: Any) -> Any:
    house = House(place, **settings)
    await house.host.open()
    try:
        async with asyncio.timeout(30):
            yield house
    finally:
        await house.host.close()


async def settled(turns: int = 10) -> None:
    """Until what was said over links in memory has arrived, been answered and been heard."""
    for _ in range(turns):
        await asyncio.sleep(0)


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., None]:
    """Run `body(house)` in an open house at the test's own place."""

    def runner(body: Callable[[House], Coroutine[Any, Any, None]], **settings: Any) -> None:
        async def whole() -> None:
            async with open_house(tmp_path, **settings) as house:
                await body(house)

        asyncio.run(whole())

    return runner


Run = Callable[..., None]


# -- several at once --------------------------------------------------------------------------------------------


def test_a_row_is_given_to_one_worker_and_all_share_states(run: Run) -> None:
    async def body(house: House) -> None:
        one, two = await house.worker("one"), await house.worker("two")
        for number in range(20):
            await one.lab.accept(f"c{number}@x")
        seen: list[int] = []

        async def work(worker: Worker) -> None:
            while rows := await worker.claim(3):
                for row in rows:
                    seen.append(row.id)
                    await worker.lab.done(row, to="A")

        await asyncio.gather(work(one), work(two), work(one), work(two))
        assert sorted(seen) == sorted(set(seen))
        assert len(seen) == 20
        for number in range(20):
            assert (await two.lab.state("machine", f"c{number}@x")).state == "A"
        assert await two.lab.balanced() == await one.lab.balanced()
        assert house.host.statistics().leases == 0

    run(body)


def test_one_mail_wakes_one_worker(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    # On a busy disk an accept takes longer than a worker that was woken has by itself; then the next is woken, too.
    monkeypatch.setattr("monsal.store.waking._PATIENCE", 60.0)

    async def body(house: House) -> None:
        workers = [await house.worker(name) for name in ("one", "two", "three")]
        await settled()
        for worker in workers:
            assert await worker.claim() == []
            worker.rung = 0
        for turn in range(6):
            await workers[0].lab.accept(f"c{turn}@x")
            await settled()
            assert [worker.rung for worker in workers] == [(turn + 3 - index) // 3 for index in range(3)]
            assert len(await workers[turn % 3].claim()) == 1

    run(body)


def test_accepts_of_several_workers_share_their_flushes(run: Run) -> None:
    async def body(house: House) -> None:
        workers = [await house.worker(name) for name in ("one", "two", "three")]
        before = house.host.store.statistics()
        await asyncio.gather(*(worker.lab.accept(f"{worker.name}{n}@x") for worker in workers for n in range(20)))
        after = house.host.store.statistics()
        assert after.operations - before.operations == 60
        assert after.groups - before.groups <= 6

    run(body)


def test_no_wake_up_is_lost_between_workers_that_ask_only_when_they_are_woken(run: Run) -> None:
    async def body(house: House) -> None:
        workers = [await house.worker(name) for name in ("one", "two", "three", "four")]
        done: set[int] = set()
        everything = asyncio.Event()

        async def work(worker: Worker, limit: int) -> None:
            wake = asyncio.Event()
            worker.store.on_work(wake.set)
            while True:
                wake.clear()
                rows = await worker.claim(limit)
                for row in rows:
                    await worker.lab.done(row)
                    done.add(row.id)
                    if len(done) == 400:
                        everything.set()
                if len(rows) < limit:
                    await wake.wait()

        tasks = [asyncio.create_task(work(worker, 1 + index % 3)) for index, worker in enumerate(workers)]
        for burst in range(40):
            await asyncio.gather(*(workers[burst % 4].lab.accept(f"c{burst % 7}.{n % 4}@x") for n in range(10)))
            await settled(burst % 5)
        await everything.wait()
        for task in tasks:
            task.cancel()
        await workers[0].lab.counts(done=400)

    run(body)


# -- a worker ends ----------------------------------------------------------------------------------------------


@pytest.mark.rule("state.B10")
def test_a_killed_worker_gives_its_rows_back_at_once_and_can_commit_nothing(run: Run) -> None:
    async def body(house: House) -> None:
        one, two = await house.worker("one"), await house.worker("two")
        for name in ("a@x", "b@x", "c@x"):
            await one.lab.accept(name)
        rows = await one.claim()
        assert await two.claim() == []
        two.rung = 0
        await house.kill("one", rows[0])
        await settled()
        assert two.rung == 1
        again = await two.claim()
        assert {row.id: row.kills for row in again} == {rows[0].id: 1, rows[1].id: 0, rows[2].id: 0}
        # The old process speaks once more, over another link.
        late = await house.worker("late")
        assert isinstance(await late.lab.commit(rows[0]), Fenced)
        await two.lab.counts(running=3)
        assert house.host.statistics().deaths == 1

    run(body)


def test_a_message_that_kills_three_workers_is_a_dead_letter_and_the_others_run(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    async def body(house: House) -> None:
        watcher = await house.worker("watcher")
        killer, bystander = [(await watcher.lab.accept(name)).ids[0] for name in ("a@x", "b@x")]
        for life in range(3):
            worker = await house.worker(f"w{life}")
            rows = {row.id: row for row in await worker.claim()}
            assert rows[killer].kills == life
            await house.kill(f"w{life}", *([rows[killer]] if life else rows.values()))
        (row,) = await watcher.claim()
        assert (row.id, row.kills) == (bystander, 1)
        (dead,) = await watcher.store.rows("dead")
        assert (dead["id"], dead["reason"]) == (killer, "killed its worker 3 times")
        await watcher.lab.counts(dead=1, running=1)

    with caplog.at_level(logging.ERROR):
        run(body)
    assert "third time" in caplog.text


def test_kills_are_counted_before_anybody_can_claim(run: Run) -> None:
    """A claim that is on its way at the moment of the death sees the row with its kill."""

    async def body(house: House) -> None:
        one, two = await house.worker("one"), await house.worker("two")
        await one.lab.accept()
        (row,) = await one.claim()
        claims = [asyncio.create_task(two.claim()) for _ in range(20)]
        await house.kill("one", row)
        claims += [asyncio.create_task(two.claim()) for _ in range(20)]
        found = [row for claim in claims for row in await claim]
        assert [(again.id, again.kills) for again in found] == [(row.id, 1)]

    run(body)


def test_a_row_that_another_worker_has_by_now_is_not_counted(run: Run) -> None:
    async def body(house: House) -> None:
        one, two = await house.worker("one"), await house.worker("two")
        await one.lab.accept()
        (slow,) = await one.claim(lease=5.0)
        two.lab.now += 6.0
        (row,) = await two.claim()
        assert row.id == slow.id
        await house.kill("one", slow)
        assert isinstance(await two.lab.commit(row), Applied)
        await two.lab.counts(done=1)

    run(body)


def test_goodbye_gives_everything_back_without_blame(run: Run) -> None:
    async def body(house: House) -> None:
        one, two = await house.worker("one"), await house.worker("two")
        await one.lab.converse("A", mails=[one.lab.outgoing()])
        await one.lab.durable()
        await one.lab.accept("b@x")
        (row,) = await one.claim()
        (mail,) = await one.store.take_outgoing(10, NOW)
        house.pages["one"] = [row.id]
        await one.store.close()
        (again,) = await two.claim()
        assert (again.id, again.kills) == (row.id, 0)
        (mail_again,) = await two.store.take_outgoing(10, NOW)
        assert mail_again.id == mail.id
        one.link.abort()
        await one.other.wait_closed()
        assert house.host.statistics().deaths == 0
        with pytest.raises(StoreUnavailable):
            await one.claim()

    run(body)


def test_mails_that_a_killed_worker_was_sending_are_sent_by_another(run: Run) -> None:
    async def body(house: House) -> None:
        one, two = await house.worker("one"), await house.worker("two")
        await one.lab.converse("A", mails=[one.lab.outgoing("a@x"), one.lab.outgoing("b@x")])
        await one.lab.durable()
        rows = await one.store.take_outgoing(10, NOW)
        await one.store.settle([Settled(id=rows[0].id, status="sent")])
        assert await two.store.take_outgoing(10, NOW) == []
        rung = asyncio.Event()
        two.store.on_outgoing(rung.set)
        await house.kill("one")
        await rung.wait()
        assert [row.id for row in await two.store.take_outgoing(10, NOW)] == [rows[1].id]
        counts = await two.store.outbox_counts()
        assert (counts["sending"], counts["sent"], counts["waiting"]) == (1, 1, 0)

    run(body)


def test_a_page_that_cannot_be_read_keeps_no_row_back(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    async def body(house: House) -> None:
        def unreadable(name: str) -> list[int]:
            raise OSError("no such page")

        house.host._running = unreadable
        one, two = await house.worker("one"), await house.worker("two")
        await one.lab.accept()
        (row,) = await one.claim()
        await house.kill("one")
        assert [again.id for again in await two.claim()] == [row.id]

    run(body)
    assert "no such page" in caplog.text


def test_answers_that_nobody_waits_for_any_more_are_given_back(run: Run) -> None:
    async def body(house: House) -> None:
        one, two = await house.worker("one"), await house.worker("two")
        await one.lab.converse("A", mails=[one.lab.outgoing()])
        await one.lab.durable()
        await one.lab.accept("b@x")
        for call in (one.claim(), one.store.take_outgoing(10, NOW)):
            task = asyncio.create_task(call)
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        await settled(20)
        assert len(await two.claim()) == 1
        assert len(await two.store.take_outgoing(10, NOW)) == 1

    run(body)


def test_what_a_worker_asked_for_and_did_not_live_to_get_is_given_back(run: Run) -> None:
    async def body(house: House) -> None:
        one, two = await house.worker("one"), await house.worker("two")
        for number in range(5):
            await one.lab.accept(f"c{number}@x")
        # Behind accepts that are being flushed, so that the claim is still waiting when its worker dies.
        others = [asyncio.create_task(two.lab.accept(f"d{number}@x")) for number in range(5)]
        claim = asyncio.create_task(one.claim())
        await settled(2)
        await house.kill("one")
        with pytest.raises(StoreUnavailable):
            await claim
        await asyncio.gather(*others)
        assert len(await two.claim()) == 10

    run(body)


# -- the store process ends -------------------------------------------------------------------------------------


def test_turns_that_outlived_the_store_process_keep_their_correspondents_to_themselves(run: Run) -> None:
    """P3: one correspondent, one turn at a time, also while the former turn's commit is lost already."""

    async def body(house: House) -> None:
        one, two = await house.worker("one"), await house.worker("two")
        await one.lab.accept("ann@x")
        await one.lab.accept("bob@x")
        ann, bob = await one.claim()
        await house.crash()
        await house.come_back(expect=["one", "two"])
        await house.connect(two)
        # The other one is not back yet: nobody knows what it runs.
        assert await two.claim() == []
        assert two.store.next_work() is None
        await house.connect(one)
        assert await two.claim() == []
        assert await one.claim() == []
        assert await one.store.extend([(ann.lease_key, ann.fence)], NOW + 500.0) == [False]
        two.rung = 0
        assert isinstance(await one.lab.commit(bob), Fenced)
        await settled()
        rows = await two.claim()
        assert [row.id for row in rows] == [bob.id]
        await two.lab.done(rows[0])
        two.lab.now += 400.0
        assert await two.claim() == [], "it was prolonged"
        two.lab.now += 101.0
        assert [row.id for row in await two.claim()] == [ann.id], "its lease time has passed"

    run(body)


def test_a_worker_that_dies_after_the_store_process_keeps_nothing(run: Run) -> None:
    async def body(house: House) -> None:
        one, two = await house.worker("one"), await house.worker("two")
        await one.lab.accept()
        (row,) = await one.claim()
        await house.crash()
        await house.come_back(expect=["one", "two"])
        await house.connect(two)
        await house.connect(one)
        assert await two.claim() == []
        await house.kill("one", row)
        assert [(again.id, again.kills) for again in await two.claim()] == [(row.id, 1)]

    run(body)


def test_a_worker_that_died_with_the_store_process_is_not_waited_for(run: Run) -> None:
    async def body(house: House) -> None:
        one, two = await house.worker("one"), await house.worker("two")
        await one.lab.accept()
        (row,) = await one.claim()
        await house.crash()
        await house.come_back(expect=["one", "two"])
        await house.connect(two)
        two.rung = 0
        assert await two.claim() == []
        house.pages["one"] = [row.id]
        house.host.died("one")
        await settled()
        assert two.rung == 1
        assert [(again.id, again.kills) for again in await two.claim()] == [(row.id, 1)]

    run(body)


def test_who_does_not_come_back_is_waited_for_no_longer_than_said(run: Run) -> None:
    async def body(house: House) -> None:
        one, two = await house.worker("one"), await house.worker("two")
        await one.lab.accept()
        await one.claim()
        await house.crash()
        await house.come_back(expect=["one"], patience=0.05)
        rung = asyncio.Event()
        two.store.on_work(rung.set)
        await house.connect(two)
        rung.clear()
        assert await two.claim() == []
        await rung.wait()
        assert len(await two.claim()) == 1

    run(body)


def test_mails_that_the_relay_has_are_not_sent_twice_because_the_store_process_ended(run: Run) -> None:
    async def body(house: House) -> None:
        one, two = await house.worker("one"), await house.worker("two")
        await one.lab.converse("A", mails=[one.lab.outgoing()])
        await one.lab.durable()
        (mail,) = await one.store.take_outgoing(10, NOW)
        await house.crash()
        await house.come_back()
        await house.connect(one)
        await house.connect(two)
        assert await two.store.take_outgoing(10, NOW) == []
        await one.store.settle([Settled(id=mail.id, status="sent", reason="250 ok")])
        assert (await two.store.outbox_counts())["sent"] == 1
        await house.kill("one")
        assert await two.store.take_outgoing(10, NOW) == []

    run(body)


def test_calls_wait_for_the_next_link_if_they_did_not_arrive(run: Run) -> None:
    async def body(house: House) -> None:
        one = await house.worker("one")
        await house.crash()
        accept = asyncio.create_task(one.lab.accept())
        await settled()
        await house.come_back()
        await house.connect(one)
        receipt = await accept
        assert [row.id for row in await one.claim()] == list(receipt.ids)
        await house.crash()
        with pytest.raises(StoreUnavailable, match="did not reach it"):
            await one.lab.accept()

    run(body)


@pytest.mark.rule("state.B11")
def test_an_accept_whose_answer_was_lost_is_no_yes(run: Run) -> None:
    async def body(house: House) -> None:
        one = await house.worker("one")
        accept = asyncio.create_task(one.lab.accept())
        before = house.host.store.statistics().operations
        while house.host.store.statistics().operations == before:
            await asyncio.sleep(0)
        one.other.abort()
        with pytest.raises(StoreUnavailable, match="not known"):
            await accept

    run(body)


def test_another_store_is_not_taken_for_the_former(run: Run, tmp_path: Path) -> None:
    async def body(house: House) -> None:
        one = await house.worker("one")
        await house.crash()
        house.place = tmp_path / "elsewhere"
        await house.come_back()
        with pytest.raises(StoreError, match="another store"):
            await house.connect(one)

    run(body)


def test_the_disk_fails_and_recovers_under_running_turns(run: Run, disk: Any) -> None:
    async def body(house: House) -> None:
        one, two = await house.worker("one"), await house.worker("two")
        await one.lab.accept("ann@x")
        await one.lab.converse("A", "bob@x", mails=[one.lab.outgoing()])
        await one.lab.durable()
        await one.store.take_outgoing(10, NOW)
        (ann,) = list(house.host.store.core.data.schedule.leased.values())  # type: ignore[union-attr]
        epoch = one.store.epoch
        disk.sync_fails = lambda path: path.endswith("-wal")
        with pytest.raises(StoreUnavailable):
            await two.lab.accept("new@x")
        with pytest.raises(StoreUnavailable):
            await two.claim()
        disk.sync_fails = lambda path: False
        while house.host.store.core.data is None:
            await asyncio.sleep(0.01)
        # Its former turn still runs in the one worker: the other is not given the row; nor the mail that is being sent.
        assert await two.claim() == []
        assert await two.store.take_outgoing(10, NOW) == []
        await settled()
        assert two.store.epoch > epoch
        await house.kill("one")
        assert [row.lease_key for row in await two.claim()] == [ann.key]
        assert len(await two.store.take_outgoing(10, NOW)) == 1

    run(body, vfs="faulty")


def test_a_kill_that_could_not_be_written_is_counted_when_the_disk_is_back(run: Run, disk: Any) -> None:
    async def body(house: House) -> None:
        one, two = await house.worker("one"), await house.worker("two")
        await one.lab.accept("ann@x")
        (row,) = await one.claim()
        disk.sync_fails = lambda path: path.endswith("-wal")
        with pytest.raises(StoreUnavailable):
            await two.lab.accept("new@x")
        await house.kill("one", row)
        disk.sync_fails = lambda path: False
        while house.host.store.core.data is None:
            await asyncio.sleep(0.01)
        assert [(again.id, again.kills) for again in await two.claim() if again.id == row.id] == [(row.id, 1)]

    run(body, vfs="faulty")


# -- bounds and errors ------------------------------------------------------------------------------------------


def test_a_bad_call_hurts_itself_and_a_bad_frame_its_link(run: Run) -> None:
    async def body(house: House) -> None:
        good = await house.worker("good")
        bad, other = link_pair(setup_of(RemoteStore()), setup_of(house.host), names=("bad", "store"))
        with pytest.raises(Exception, match="no hello"):
            await bad.call("claim", [1, 0.0, 0.0])
        for word, params in (("hello", [["x"]]), ("hello", [5]), ("nonsense", [])):
            with pytest.raises(Exception, match=r"hello|knows no|Expected"):
                await bad.call(word, params)
        await bad.call("hello", [])
        for word, params in (
            ("claim", ["many"]),
            ("commit", [1, 2]),
            ("accept", {"a": 1}),
            ("nonsense", []),
            ("wake", []),
        ):
            with pytest.raises(Exception, match=r"Expected|knows no"):
                await bad.call(word, params)
        mail = [*msgspec.structs.astuple(good.lab.mail())]
        with pytest.raises(Exception, match="matching regex"):
            await bad.call("accept_large", [mail, "../../etc/passwd", 1])
        bad.cast("claim", [1, 0.0, 0.0])
        bad.cast("give_back", [[1]])
        await good.lab.accept()
        assert other.is_open
        assert other._transport is not None
        bad._transport.write(b"\x00\x00\x00\x01\xc1" * 200)  # type: ignore[union-attr]
        await other.wait_closed()
        assert len(await good.claim()) == 1

    run(body)


def test_errors_keep_their_type_over_the_link(run: Run) -> None:
    async def body(house: House) -> None:
        one = await house.worker("one")
        with pytest.raises(StatementError, match="no such table"):
            await one.store.read("select * from nowhere")
        with pytest.raises(StatementError, match="a list"):
            await one.store.read("select 1", {"a": 1})  # type: ignore[arg-type]  # a handler may hand in anything
        with pytest.raises(StatementError, match="integer"):
            await one.store.read("select ?", (2**64,))
        with pytest.raises(StatementError, match="object"):
            await one.store.read("select ?", (object(),))
        with pytest.raises(ValueError, match="not a number"):
            await one.store.set_state(StateKey("m", "a"), "A", float("nan"))
        with pytest.raises(TypeError):
            await one.store.set_state(StateKey("m", "a"), 5, NOW)  # type: ignore[arg-type]  # the wrong type on purpose
        with pytest.raises(TypeError):
            await one.store.set_state(StateKey("m", "a"), object(), NOW)  # type: ignore[arg-type]  # the same

        # A failure of the store process itself is none of these, and nobody is left without an answer.
        async def broken() -> Any:
            raise KeyError("a fault of ours")

        house.host.store.ledger = broken  # type: ignore[method-assign]  # the fault that is injected
        with pytest.raises(StoreError, match="failed in the store process: KeyError"):
            await one.store.ledger()
        assert await one.store.read("select ?", ("zoë\ud800",)) == [("zoë\ud800",)]

    run(body)


def test_a_turn_that_is_too_large_is_refused_as_the_turns_own_fault(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    async def body(house: House) -> None:
        one = await house.worker("one")
        await one.lab.accept()
        (row,) = await one.claim()
        mails = [one.lab.outgoing(body=b"x" * 100_000) for _ in range(700)]
        with pytest.raises(StatementError, match="octets"):
            await one.lab.commit(row, mails=mails)
        await one.lab.done(row)

    run(body)


def test_a_claim_brings_no_more_than_a_frame_carries(run: Run) -> None:
    async def body(house: House) -> None:
        one = await house.worker("one")
        for number in range(170):
            await one.lab.accept(f"c{number}@x", body=(b"x" * 100_000,))
        rows = await one.claim(1000)
        assert 100 < len(rows) < 170
        assert one.store.next_work() == 0.0
        assert len(await one.claim(1000)) == 170 - len(rows)

    run(body)


# -- large bodies -----------------------------------------------------------------------------------------------


def files(place: Path) -> list[Path]:
    return [path for path in (place / "bodies").rglob("*") if path.is_file()]


def test_a_body_whose_mail_is_still_to_come_survives_an_opening(run: Run, tmp_path: Path) -> None:
    async def body(house: House) -> None:
        one = await house.worker("one")
        large = bytes(range(256)) * 1024
        # Written by a living worker; before it can tell the store of it, that one ends and comes back.
        await house.crash()
        accept = asyncio.create_task(one.lab.accept(body=(large,)))
        while not any(not path.name.startswith(".") for path in files(tmp_path)):
            await asyncio.sleep(0)
        await house.come_back()
        await house.connect(one)
        await accept
        (row,) = await one.claim()
        assert isinstance(row.body, Path)
        assert row.body.read_bytes() == large

    run(body, sweep_after=600.0)


def test_a_mail_whose_body_was_swept_is_refused(run: Run, tmp_path: Path) -> None:
    async def body(house: House) -> None:
        one = await house.worker("one")
        await house.crash()
        accept = asyncio.create_task(one.lab.accept(body=(b"x" * 300_000,)))
        while not any(not path.name.startswith(".") for path in files(tmp_path)):
            await asyncio.sleep(0)
        await house.come_back()
        assert files(tmp_path) == []
        await house.connect(one)
        with pytest.raises(StoreUnavailable, match="body of a large mail is gone"):
            await accept
        assert await one.claim() == []

    run(body)


def test_what_nobody_claims_is_swept_when_it_is_old_enough(run: Run, tmp_path: Path) -> None:
    async def body(house: House) -> None:
        one = await house.worker("one")
        bodies = house.host.store.bodies
        assert bodies is not None
        await one.lab.accept(body=(b"kept" * 100_000,))
        bodies.write((b"left behind",))
        await one.store.close()
        await house.host.close()
        assert len(files(tmp_path)) == 2
        await house.come_back()
        # The host does it by itself, a second after the youngest can have become old enough.
        while len(files(tmp_path)) == 2:
            await asyncio.sleep(0.05)
        assert [path.stat().st_size for path in files(tmp_path)] == [400_000]

    run(body, sweep_after=0.3)


def test_large_outgoing_bodies_are_written_by_the_worker_and_left_by_no_conflict(run: Run, tmp_path: Path) -> None:
    async def body(house: House) -> None:
        one = await house.worker("one")
        large = b"y" * 300_000
        await one.lab.accept()
        (row,) = await one.claim()
        stale = await one.lab.turn(row, to="A", mails=[one.lab.outgoing(body=large)], expected=())
        await one.lab.done(row, "continue", mails=[one.lab.outgoing(body=large), one.lab.outgoing(body=b"small")])
        assert isinstance(await one.store.commit(stale), Applied), "the same turn again"
        await one.lab.durable()
        mails = await one.store.take_outgoing(10, NOW)
        assert [mail.body if isinstance(mail.body, bytes) else mail.body.read_bytes() for mail in mails] == [
            large,
            b"small",
        ]
        while len(files(tmp_path)) != 1:
            await asyncio.sleep(0.01)

    run(body)


# -- replies ----------------------------------------------------------------------------------------------------


def test_replies_of_all_workers_are_counted_for_each(run: Run) -> None:
    async def body(house: House) -> None:
        one, two = await house.worker("one"), await house.worker("two")
        seen = []
        for number in range(6):
            worker = (one, two)[number % 2]
            await worker.lab.accept("ann@x")
            (row,) = await worker.claim()
            seen.append(row.replies)
            turn = await worker.lab.turn(row, mails=[worker.lab.outgoing("ann@x"), worker.lab.outgoing("bob@x")])
            fields = {name: getattr(turn, name) for name in turn.__struct_fields__}
            assert isinstance(await worker.store.commit(type(turn)(**{**fields, "replies": 1})), Applied)
        assert seen == [0, 1, 2, 3, 4, 5]
        await one.lab.accept("bob@x")
        assert (await one.claim())[0].replies == 0
        two.lab.now += 3601.0
        await two.lab.accept("ann@x")
        assert (await two.claim())[0].replies == 0

    run(body)


@pytest.mark.rule("state.B8")
def test_a_worker_tidies_up_and_erases_as_the_owner_would(run: Callable[..., None]) -> None:
    async def body(house: House) -> None:
        worker = await house.worker("w1")
        await worker.lab.accept()
        await worker.lab.done(await worker.lab.claim_one(), to="A", mails=[worker.lab.outgoing("ann@example.net")])
        later = NOW + 100 * 86400.0
        assert await worker.store.prune_bodies(later, 86400.0) == 1
        counted = await worker.store.erase("ann@example.net", NOW, True)
        assert (counted.messages, counted.states, counted.mails) == (1, 1, 1)
        assert await worker.store.erase("ann@example.net", NOW) == replace(counted, bodies=1)
        assert await worker.store.prune(later, 86400.0) == 0
        await worker.lab.balanced()

    run(body)
