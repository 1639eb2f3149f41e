"""Accept, claim, leases and order."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from monsal.errors import StoreUnavailable
from monsal.store.contract import Applied, Fence, Fenced, TurnCommit
from monsal.testing.kit.lab import Lab, expect

__all__ = [
    "accepts_a_row_for_each_recipient",
    "answers_a_cancelled_claim_by_giving_back",
    "counts_duplicates_within_three_days",
    "counts_kills_and_gives_up_at_three",
    "counts_kills_of_suspects_only",
    "dead_letters_can_be_replayed_or_dropped",
    "extends_leases",
    "gives_one_row_to_one_of_two_claimers",
    "holds_a_queue_until_release",
    "is_empty_at_first",
    "keeps_large_bodies",
    "keeps_order_within_a_queue",
    "lets_an_expired_lease_be_claimed_again",
    "loses_no_wake_up",
    "puts_off_a_head_and_all_behind_it",
    "refuses_when_closed",
]

#: Seconds in which a lease comes back whose owner went away.
_GIVEN_BACK = 10.0


async def is_empty_at_first(lab: Lab) -> None:
    expect(await lab.claim() == [], "a new store gives rows")
    expect(lab.store.next_work() is None, "a new store expects work")
    expect(lab.store.next_outgoing() is None, "a new store expects outgoing mail")
    expect(len(lab.store.secret) == 32, "the key has 32 bytes")
    await lab.counts()


async def accepts_a_row_for_each_recipient(lab: Lab) -> None:
    mail = lab.mail("ann@example.net", to=("a@x", "b@x", "a@x"), envelope=b'{"peer":"p"}', source="call")
    receipt = await lab.store.accept(mail)
    one, two, again = receipt.ids
    expect(one < two, "ids ascend")
    expect(again == one, "an address named twice has one row")
    expect(receipt.duplicates == (False, False, True), f"the repeated address is a duplicate: {receipt.duplicates}")
    row = await lab.claim_one()
    expect(isinstance(row.body, bytes) and row.body == b"".join(mail.body), "the body comes back as it was")
    found = (row.id, row.sender, row.correspondent, row.recipient, row.received, row.message_id, row.envelope)
    wanted = (one, mail.sender, mail.correspondent, "a@x", mail.received, mail.message_id, mail.envelope)
    expect(found == wanted, f"what was accepted comes back: {found}, not {wanted}")
    expect((row.source, row.attempts, row.kills, row.done) == ("call", 0, 0, ()), f"a new row is fresh: {row}")
    await lab.counts(waiting=1, running=1)


async def keeps_large_bodies(lab: Lab) -> None:
    large = bytes(range(256)) * 2048
    await lab.store.accept(lab.mail(body=(large[:1000], large[1000:])))
    row = await lab.claim_one()
    body = row.body if isinstance(row.body, bytes) else row.body.read_bytes()
    expect(body == large, "a large body comes back as it was")
    await lab.done(row, mails=[lab.outgoing(body=large)])
    await lab.durable()
    (mail,) = await lab.store.take_outgoing(10, lab.now)
    body = mail.body if isinstance(mail.body, bytes) else mail.body.read_bytes()
    expect(body == large, "a large outgoing body comes back as it was")


async def counts_duplicates_within_three_days(lab: Lab) -> None:
    day = 86400.0
    first = lab.mail(to=("a@x", "b@x"))
    receipt = await lab.store.accept(first)

    async def again(**changes: object) -> tuple[tuple[int, ...], tuple[bool, ...]]:
        values = {name: getattr(first, name) for name in first.__struct_fields__} | changes
        answer = await lab.store.accept(type(first)(**values))
        return answer.ids, answer.duplicates

    ids, duplicates = await again(received=lab.now + 2.9 * day)
    expect(ids == receipt.ids, "a duplicate has the first receipt")
    expect(duplicates == (True, True), "a duplicate is called one")
    expect((await lab.balanced())["duplicates"] == 2, "each duplicate row is counted")
    expect((await lab.balanced())["accepted"] == 2, "a duplicate is not accepted")
    for change in ({"sender": "x@y"}, {"message_id": "<other@x>"}, {"digest": b"o" * 32}, {"message_id": None}):
        expect(not any((await again(**change))[1]), f"a mail with another {next(iter(change))} is no duplicate")
    expect(not any((await again(message_id=None))[1]), "without Message-ID there are no duplicates")
    _, duplicates = await again(received=lab.now + 3.1 * day)
    expect(duplicates == (False, False), "after three days it is no duplicate")
    _, duplicates = await again(received=lab.now + 3.2 * day)
    expect(duplicates == (True, True), "the newer one counts from then on")


async def keeps_order_within_a_queue(lab: Lab) -> None:
    first = [(await lab.accept(lease_key="q")).ids[0] for _ in range(3)]
    other = (await lab.accept("bob@example.net")).ids[0]
    rows = await lab.claim()
    expect({row.id for row in rows} == {first[0], other}, "claim gives the head of each queue and nothing else")
    expect(await lab.claim() == [], "what is leased is not given again")
    handled = []
    for _ in range(3):
        row = next(row for row in rows if row.lease_key == "q")
        handled.append(row.id)
        await lab.done(row)
        rows = await lab.claim()
        expect(len(rows) == (len(handled) < 3), "the next row of a queue follows when its lease is freed")
    expect(handled == first, f"rows of a queue come in order of their ids: {handled}, not {first}")
    await lab.counts(done=3, running=1)
    many = [(await lab.accept(f"c{number}@x")).ids[0] for number in range(5)]
    expect([row.id for row in await lab.claim(2)] == many[:2], "claim gives no more than was asked for, oldest first")
    expect([row.id for row in await lab.claim(10)] == many[2:], "the others come next")


async def puts_off_a_head_and_all_behind_it(lab: Lab) -> None:
    ids = [(await lab.accept()).ids[0] for _ in range(2)]
    row = await lab.claim_one()
    expect(row.id == ids[0], "the head comes first")
    await lab.done(row, "defer", handler=None, due=lab.now + 30.0, reason="not now")
    await lab.counts(waiting=2)
    expect(await lab.claim() == [], "while its head is put off, a queue gives nothing")
    expect(lab.store.next_work() == lab.now + 30.0, f"the retry is expected: {lab.store.next_work()}")
    lab.now += 30.0
    row = await lab.claim_one()
    expect((row.id, row.attempts) == (ids[0], 1), "the head comes again, with its attempts counted")
    await lab.done(row, "again", handler=None)
    row = await lab.claim_one()
    expect((row.id, row.attempts) == (ids[0], 1), "`again` changes nothing")
    await lab.done(row, "dead", handler=None, reason="enough", detail="Traceback")
    row = await lab.claim_one()
    expect(row.id == ids[1], "after a dead letter the next one runs")
    await lab.done(row, "drop", handler=None, reason="unwanted")
    await lab.counts(dead=1, dropped=1)


async def holds_a_queue_until_release(lab: Lab) -> None:
    ids = [(await lab.accept()).ids[0] for _ in range(2)]
    await lab.done(await lab.claim_one(), "hold", handler=None, reason="broken", detail="Traceback")
    await lab.counts(held=1, waiting=1)
    expect(await lab.claim() == [], "a held queue gives nothing")
    expect(lab.store.next_work() is None, "a held queue is not expected")
    expect(await lab.store.release("nobody", lab.now) == 0, "there is nothing to release for others")
    expect(await lab.store.release("ann@example.net", lab.now) == 1, "release says how many were held")
    row = await lab.claim_one()
    expect(row.id == ids[0], "the held message comes first")
    await lab.counts(running=1, waiting=1)


async def dead_letters_can_be_replayed_or_dropped(lab: Lab) -> None:
    ids = [(await lab.accept()).ids[0] for _ in range(2)]
    await lab.done(await lab.claim_one(), "defer", handler=None, due=lab.now)
    row = await lab.claim_one()
    await lab.done(row, "continue", handler="machine:FIRST")
    await lab.done(row, "dead", handler=None, reason="enough", detail="Traceback of it", tried=True)
    detail = await lab.store.dead_detail(ids[0])
    expect(detail is not None and detail["detail"] == "Traceback of it", f"the traceback is kept: {detail}")
    expect(detail is not None and detail["raw"] == row.body, "the message is kept")
    listed = [(row["id"], row["attempts"]) for row in await lab.store.rows("dead")]
    expect(listed == [(ids[0], 2)], f"it is listed, with the number of times that it was tried: {listed}")
    expect(not await lab.store.replay(ids[1], lab.now), "what is not dead cannot be replayed")
    expect(await lab.store.replay(ids[0], lab.now), "a dead letter can be replayed")
    await lab.counts(waiting=2)
    row = await lab.claim_one()
    expect((row.id, row.attempts, row.kills) == (ids[0], 0, 0), "it comes in its old place, as new")
    expect([turn.handler for turn in row.done] == ["machine:FIRST"], "handlers that were done stay done")
    await lab.done(row, "dead", handler=None, reason="again")
    expect(await lab.store.drop(ids[0], lab.now), "a dead letter can be dropped")
    expect(not await lab.store.drop(ids[0], lab.now), "and only once")
    expect(await lab.store.dead_detail(ids[0]) is None, "then it is no dead letter")
    await lab.counts(waiting=1, dropped=1)


async def lets_an_expired_lease_be_claimed_again(lab: Lab) -> None:
    await lab.accept()
    first = (await lab.claim(lease=10.0))[0]
    end = lab.store.next_work()
    expect(end is not None and end <= lab.now + 10.0, "the end of a lease is expected")
    lab.now += 11.0
    second = await lab.claim_one()
    expect(second.id == first.id and second.fence != first.fence, "an expired lease gives the row to another")
    expect(isinstance(await lab.commit(first, to="A"), Fenced), "who lost the lease commits nothing")
    expect((await lab.state("machine")).state == "START", "nothing of a fenced turn is written")
    expect(await lab.store.extend([("ann@example.net", first.fence)], lab.now + 60) == [False], "nor is it extended")
    await lab.done(second, "continue", handler="machine:ONE")
    expect(
        isinstance(await lab.commit(first, handler="machine:ONE"), Fenced), "a turn of another's lease is not its own"
    )
    other = TurnCommit(**{**_fields(await lab.turn(second, handler="machine:TWO")), "message": second.id + 1})
    expect(isinstance(await lab.store.commit(other), Fenced), "a lease is for its row and no other")
    lab.now += 61.0
    await lab.done(second, to="B", handler="machine:TWO")
    expect((await lab.state("machine")).state == "B", "an expired lease that nobody took may still commit")
    expect(await lab.claim() == [], "the row is done")
    await lab.counts(done=1)
    expect(isinstance(await lab.commit(second), Fenced), "a freed lease commits nothing")


def _fields(turn: TurnCommit) -> dict[str, Any]:
    return {name: getattr(turn, name) for name in TurnCommit.__struct_fields__}


async def extends_leases(lab: Lab) -> None:
    await lab.accept()
    row = (await lab.claim(lease=10.0))[0]
    nobody = Fence(row.fence.epoch, row.fence.counter + 1000)
    stranger = Fence(row.fence.epoch + 1, row.fence.counter)
    answer = await lab.store.extend(
        [("ann@example.net", row.fence), ("ann@example.net", nobody), ("bob", row.fence), (row.lease_key, stranger)],
        lab.now + 100.0,
    )
    expect(answer == [True, False, False, False], f"only the held lease is prolonged: {answer}")
    lab.now += 50.0
    expect(await lab.claim() == [], "a prolonged lease lasts")
    lab.now += 51.0
    expect((await lab.claim_one()).id == row.id, "and ends")


async def loses_no_wake_up(lab: Lab) -> None:
    """An arrival while the commit of the row before it is on its way must not be forgotten (Trap 2 of the notes)."""
    woken = asyncio.Event()
    lab.store.on_work(woken.set)
    await lab.accept()
    seen = 0
    for _ in range(40):
        woken.clear()
        row = await lab.claim_one()
        seen += 1
        turn = await lab.turn(row, handler="machine:START")
        first, second = await asyncio.gather(lab.store.commit(turn), lab.accept())
        expect(isinstance(first, Applied) and second.duplicates == (False,), "commit and accept do not disturb")
        async with asyncio.timeout(10):
            await woken.wait()
    await lab.counts(done=seen, waiting=1)


async def gives_one_row_to_one_of_two_claimers(lab: Lab) -> None:
    """Claim and read of the head must be one step for others (Trap 1 of the notes)."""
    for number in range(60):
        await lab.accept(f"c{number % 20}@x")
    seen: list[int] = []

    async def worker() -> None:
        while rows := await lab.claim(3):
            for row in rows:
                seen.append(row.id)
                await asyncio.sleep(0)
                await lab.done(row)

    await asyncio.gather(*(worker() for _ in range(4)))
    expect(len(seen) == len(set(seen)), "a row was given to two claimers")
    await lab.counts(done=60)


async def answers_a_cancelled_claim_by_giving_back(lab: Lab) -> None:
    await lab.accept()
    # Two flushes' worth of callers before it, so that the claim has to queue where it can.
    others = [asyncio.create_task(lab.accept(f"o{number}@x")) for number in range(5)]
    await asyncio.sleep(0)
    task = asyncio.create_task(lab.store.claim(1, lab.now, 1e6))
    await asyncio.sleep(0)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        for row in await task:
            await lab.done(row, "again", handler=None)
    await asyncio.gather(*others)
    rows = await lab.claim()
    # Behind a process border the answer to that claim may come, and be given back, after the next one.
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_GIVEN_BACK):
            while len(rows) < 6:
                await asyncio.sleep(0.01)
                rows += await lab.claim()
    expect(len(rows) == 6, f"a claim whose caller went away leased a row for good: {len(rows)} of 6 are left")


async def counts_kills_and_gives_up_at_three(lab: Lab) -> None:
    ids = [(await lab.accept()).ids[0] for _ in range(2)]
    for kill in (1, 2):
        row = await lab.claim_one()
        expect(await lab.store.killed([row.id], lab.now) == [], f"kill {kill} is borne")
        expect(isinstance(await lab.commit(row), Fenced), "the dead process's lease is gone")
        row = await lab.claim_one()
        expect((row.id, row.kills) == (ids[0], kill), "the message comes again at once, with its kills counted")
        await lab.done(row, "again", handler=None)
    expect(await lab.store.killed([ids[0], 10**9], lab.now) == [ids[0]], "at three it is given up, and named")
    (dead,) = await lab.store.rows("dead")
    expect(dead["reason"] == "killed its worker 3 times", f"the reason says so: {dead['reason']}")
    expect((await lab.claim_one()).id == ids[1], "the next message runs")
    await lab.counts(dead=1, running=1)


async def counts_kills_of_suspects_only(lab: Lab) -> None:
    async def kills() -> dict[int, int]:
        rows = await lab.claim()
        for row in rows:
            await lab.done(row, "again", handler=None)
        return {row.id: row.kills for row in rows}

    first, second, late = [(await lab.accept(f"{name}@example.com")).ids[0] for name in ("a", "b", "c")]
    expect(len(await lab.claim()) == 3, "three run side by side")
    expect(await lab.store.killed([first, second], lab.now) == [], "a first kill is borne")
    expect(await lab.store.killed([late], lab.now) == [], "so is that of another one")
    expect(await kills() == {first: 1, second: 1, late: 1}, "nobody was a suspect: each may have done it")
    fresh = (await lab.accept("d@example.com")).ids[0]
    expect(await lab.store.killed([fresh, second, 10**9, second], lab.now) == [], "the second kill is borne")
    expect(await kills() == {first: 1, second: 2, late: 1, fresh: 0}, "beside a suspect the others are innocent")
    expect(await lab.store.killed([fresh, first, second], lab.now) == [second], "at three it is given up, it alone")
    expect(await kills() == {first: 2, late: 1, fresh: 0}, "each suspect among them is counted")
    expect(await lab.store.killed([second, fresh], lab.now) == [], "a row that is dead is no suspect any more")
    expect(await kills() == {first: 2, late: 1, fresh: 1}, "so the one that is left is counted")


async def refuses_when_closed(lab: Lab) -> None:
    await lab.store.close()
    for call in (lab.accept(), lab.claim(), lab.store.ledger(), lab.store.read_states([])):
        try:
            await call
        except StoreUnavailable:
            continue
        raise AssertionError("a closed store answered")
    await lab.store.close()
