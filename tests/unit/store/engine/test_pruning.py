"""Forgetting what is long done, and one person: rows, turns, bodies and their files go, counters stay (P4)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from monsal.clock import ManualClock
from monsal.conversation import Janitor, Keeping
from monsal.store import SqliteStore
from monsal.store.bounced import Bounced
from monsal.store.contract import Accept, Recipient, Settled, StateKey
from monsal.store.engine import pruning
from monsal.store.engine.operation import ASIDE_DURABLE
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


async def no_pause() -> None:
    """The writer is free here."""
    await asyncio.sleep(0)


def files(tmp_path: Path) -> list[Path]:
    return [path for path in (tmp_path / "bodies").rglob("*") if path.is_file()]


@pytest.mark.rule("state.B8")
def test_content_goes_first_and_the_history_later(make_lab: MakeLab, tmp_path: Path) -> None:
    async def body() -> None:
        lab = make_lab()
        await lab.store.open()
        await fill(lab)
        before = await lab.balanced()
        keeping = Keeping(bodies=30 * DAY, history=365 * DAY)
        young = Janitor(lab.store, ManualClock(NOW + 29 * DAY), keeping, pause=no_pause)
        assert (await young.sweep()).bodies == 0
        swept = await Janitor(lab.store, ManualClock(NOW + 31 * DAY), keeping, pause=no_pause).sweep()
        # The incoming one and one of the outgoing ones; the other outgoing mail is deferred.
        assert (swept.bodies, swept.rows) == (2, 0)
        assert await sizes(lab) == {"spool": 6, "history": 2, "failures": 2, "outbox": 4, "bodies": 5}
        assert await lab.balanced() == before
        swept = await Janitor(lab.store, ManualClock(NOW + 366 * DAY), keeping, pause=no_pause).sweep()
        assert (swept.bodies, swept.rows) == (0, 5)
        assert await sizes(lab) == {"spool": 4, "history": 0, "failures": 2, "outbox": 1, "bodies": 5}
        assert await lab.balanced() == before
        await lab.store.close()
        assert len(files(tmp_path)) == 1

    asyncio.run(body())


def test_what_was_dropped_meanwhile_goes_with_the_next_sweep(make_lab: MakeLab) -> None:
    """A sweep passes by what is open, and does not forget to look again."""

    async def body() -> None:
        lab = make_lab()
        await lab.store.open()
        await lab.accept()
        row = await lab.claim_one()
        await lab.done(row, "dead", handler=None, reason="r")
        later = NOW + 400 * DAY
        for _ in range(2):
            assert await lab.store.prune_bodies(later, DAY) == 0
            assert await lab.store.prune(later, DAY) == 0
        await lab.store.drop(row.id, later)
        assert await lab.store.prune_bodies(later, DAY) == 1
        assert await lab.store.prune(later, DAY) == 1
        await lab.store.close()

    asyncio.run(body())


def test_a_long_row_of_what_stays_is_passed_in_steps(make_lab: MakeLab) -> None:
    async def body() -> None:
        lab = make_lab()
        await lab.store.open()
        for number in range(7):
            await lab.accept(f"{number}@x")
        for row in await lab.claim():
            await lab.done(row, "dead" if row.sender < "5" else "done", handler=None, reason="r")
        later = NOW + 400 * DAY
        assert await lab.store.prune(later, DAY, 2) == 1
        assert await lab.store.prune(later, DAY, 2) == 1
        assert await lab.store.prune(later, DAY, 2) == 0
        assert (await sizes(lab))["spool"] == 5
        await lab.store.close()

    asyncio.run(body())


def test_mail_whose_content_is_gone_is_not_sent_again(make_lab: MakeLab) -> None:
    async def body() -> None:
        lab = make_lab()
        await lab.store.open()
        await lab.converse("A", mails=[lab.outgoing("a@x")])
        await lab.durable()
        (mail,) = await lab.store.take_outgoing(1, lab.now)
        await lab.store.settle([Settled(id=mail.id, status="failed")])
        assert await lab.store.retry_outgoing(mail.id, lab.now)
        (mail,) = await lab.store.take_outgoing(1, lab.now)
        await lab.store.settle([Settled(id=mail.id, status="failed")])
        assert await lab.store.prune_bodies(lab.now + 31 * DAY, 30 * DAY) == 2
        assert not await lab.store.retry_outgoing(mail.id, lab.now)
        await lab.store.close()

    asyncio.run(body())


@pytest.mark.parametrize("durable", [True, False])
def test_a_kill_between_rows_and_files_leaves_neither_a_row_without_file_nor_a_file_for_ever(
    make_lab: MakeLab, tmp_path: Path, durable: bool
) -> None:
    """P1: files are removed after their rows; what a kill leaves in between is swept at the next start."""

    async def body() -> None:
        lab = make_lab()
        await lab.store.open()
        await lab.store.accept(lab.mail("big@x", body=(b"x" * 300_000,)))
        await lab.done(await lab.claim_one())
        (file,) = files(tmp_path)
        core = store_of(lab).core
        if durable:
            # The step is on the disk, and the process dies before it removes a file.
            await core.run(ASIDE_DURABLE, pruning.prune_bodies, NOW + 99 * DAY, 10)
        await store_of(lab).abandon()
        assert file.exists()
        lab = make_lab()
        await lab.store.open()
        assert file.exists() is not durable
        assert (await sizes(lab))["bodies"] == int(not durable)
        await lab.store.close()

    asyncio.run(body())


@pytest.mark.rule("state.B8")
def test_one_person_is_erased_and_all_others_stay(make_lab: MakeLab, tmp_path: Path) -> None:
    async def body() -> None:
        lab = make_lab()
        await lab.store.open()
        # Of Ann: one done with mails to her and to Bob, a large one dead, one held, two waiting behind it.
        await lab.store.accept(lab.mail("ann@x", body=(b"x" * 300_000,)))
        await lab.done(
            await lab.claim_one(),
            to="A",
            mails=[lab.outgoing("Ann@x", "bob@x"), lab.outgoing("ann@x", body=b"y" * 300_000)],
            timers=[lab.timer(DAY, sender="ann@x")],
        )
        await lab.accept("ann@x")
        await lab.done(await lab.claim_one(), "dead", handler=None, reason="r", detail="ann's secret")
        await lab.accept("bob@x")
        await lab.done(await lab.claim_one(), to="B", mails=[lab.outgoing("bob@x")])
        await lab.accept("ann@x")
        await lab.done(await lab.claim_one(), "hold", handler=None, reason="r", detail="d")
        for _ in range(2):
            await lab.accept("ann@x")
        counted = await lab.store.erase("ann@x", lab.now, True)
        assert (counted.messages, counted.unhandled, counted.turns) == (5, 4, 1)
        assert (counted.mails, counted.unsent, counted.states, counted.timers) == (2, 2, 1, 1)
        assert counted.elsewhere == 1
        erased = await lab.store.erase("ann@x", lab.now)
        assert (erased.messages, erased.unhandled, erased.turns, erased.running) == (5, 4, 1, 0)
        assert (erased.mails, erased.unsent, erased.states, erased.timers) == (2, 2, 1, 1)
        # Bob still waits for the mail that both were to get.
        assert erased.bodies == 6
        ledger = await lab.balanced()
        assert (ledger["accepted"], ledger["done"], ledger["dropped"], ledger["waiting"]) == (6, 2, 4, 0)
        assert (await lab.store.outbox_counts())["failed"] == 2
        assert (await lab.state("machine", "ann@x")).state == "START"
        assert (await lab.state("machine", "bob@x")).state == "B"
        for table, columns in (("spool", "sender, correspondent"), ("outbox", "recipient"), ("failures", "detail")):
            assert "ann" not in repr(await lab.store.read(f"select {columns} from monsal_{table}")).lower()
        assert (await lab.store.erase("ann@x", lab.now)).messages == 0
        await lab.durable()
        assert sorted(mail.recipient for mail in await lab.store.take_outgoing(9, lab.now)) == ["bob@x", "bob@x"]
        # She may write again, and begins anew.
        await lab.accept("ann@x")
        await lab.done(await lab.claim_one())
        await lab.restart()
        await lab.balanced()
        await lab.store.close()
        assert files(tmp_path) == []

    asyncio.run(body())


def test_what_is_erased_is_not_in_the_file(make_lab: MakeLab, tmp_path: Path) -> None:
    async def body() -> None:
        lab = make_lab()
        await lab.store.open()
        for size in (1, 5000):
            await lab.store.accept(lab.mail("ann@secret.example", body=(b"zebra" * size,)))
            await lab.done(
                await lab.claim_one(),
                to="A",
                mails=[lab.outgoing("ann@secret.example", body=b"zebra" * size)],
                timers=[lab.timer(DAY, sender="ann@secret.example")],
            )
        await lab.restart()
        await lab.store.erase("ann@secret.example", lab.now)
        await lab.store.close()
        left = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
        assert b"SQLite format 3" in left
        for word in (b"zebra", b"ann@secret"):
            assert word not in left

    asyncio.run(body())


def test_reports_about_a_person_and_in_their_conversation_are_erased(make_lab: MakeLab) -> None:
    async def body() -> None:
        lab = make_lab()
        await lab.store.open()
        # Mail to Ann came back in the conversation of Bob, mail to Carl in that of Ann, mail to Bob in his own.
        for to, owner in (("ann@x", "bob@x"), ("carl@x", "ann@x"), ("bob@x", "bob@x")):
            report = Accept(
                sender="",
                correspondent="mailer-daemon@x",
                recipients=(Recipient("b+1@x", owner),),
                body=(b"no",),
                received=lab.now,
                source="bounce",
            )
            await lab.store.accept(report)
            turn = await lab.turn(await lab.claim_one())
            assert turn.turn is not None
            row = msgspec.structs.replace(turn.turn, state=StateKey("machine", owner))
            noted = Bounced(address=to, token=to, kind="failure", hard=True, reason="unknown_user")
            await lab.store.commit(msgspec.structs.replace(turn, turn=row, bounced=(noted,)))
        assert (await lab.store.erase("ann@x", lab.now, True)).messages == 2
        erased = await lab.store.erase("ann@x", lab.now)
        assert (erased.messages, erased.turns, erased.unhandled) == (2, 2, 0)
        left = "SELECT h.sender, b.address FROM monsal_history h LEFT JOIN monsal_bounces b USING (message)"
        assert [tuple(row) for row in await lab.store.read(left)] == [("bob@x", "bob@x")]
        await lab.balanced()
        await lab.store.close()

    asyncio.run(body())


def test_what_runs_is_left_alone_and_what_waits_behind_it_goes(make_lab: MakeLab) -> None:
    async def body() -> None:
        lab = make_lab()
        await lab.store.open()
        for _ in range(3):
            await lab.accept("ann@x")
        running = await lab.claim_one()
        erased = await lab.store.erase("ann@x", lab.now)
        assert (erased.messages, erased.running) == (2, 1)
        assert (await lab.balanced())["running"] == 1
        await lab.done(running)
        assert await lab.claim() == []
        assert (await lab.store.erase("ann@x", lab.now)).messages == 1
        ledger = await lab.balanced()
        assert (ledger["done"], ledger["dropped"]) == (1, 2)
        await lab.store.close()

    asyncio.run(body())


def test_a_turn_that_read_an_erased_state_runs_again(make_lab: MakeLab) -> None:
    async def body() -> None:
        lab = make_lab()
        await lab.store.open()
        await lab.store.set_state(StateKey("machine", "ann@x"), "A", lab.now)
        await lab.accept("ann@x")
        row = await lab.claim_one()
        turn = await lab.turn(row, to="B")
        await lab.store.erase("ann@x", lab.now)
        assert type(await lab.store.commit(turn)).__name__ == "Conflict"
        await lab.done(row, to="B")
        await lab.balanced()
        await lab.store.close()

    asyncio.run(body())


@pytest.mark.rule("state.B8")
def test_the_ledger_balances_at_each_step_of_a_sweep_under_load(make_lab: MakeLab) -> None:
    """P4: while mail comes in, is handled and is tidied away at the same time."""

    async def body() -> None:
        lab = make_lab()
        await lab.store.open()
        for number in range(120):
            await lab.accept(f"old-{number}@x")
            await lab.done(await lab.claim_one())
        lab.now = NOW + 40 * DAY
        balances = 0

        async def work() -> None:
            nonlocal balances
            for number in range(40):
                await lab.accept(f"new-{number}@x")
                await lab.done(await lab.claim_one())
                await lab.balanced()
                balances += 1

        keeping = Keeping(bodies=DAY, history=10 * DAY)
        swept, _ = await asyncio.gather(
            Janitor(lab.store, ManualClock(lab.now), keeping, pause=no_pause).sweep(), work()
        )
        assert (swept.bodies, swept.rows, balances) == (120, 120, 40)
        assert (await lab.balanced())["done"] == 160
        assert await sizes(lab) == {"spool": 40, "history": 40, "failures": 0, "outbox": 0, "bodies": 40}
        await lab.store.close()

    asyncio.run(body())
