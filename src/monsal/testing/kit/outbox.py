"""Outgoing mail."""

from __future__ import annotations

import asyncio

from monsal.store.contract import Settled
from monsal.testing.kit.lab import Lab, expect

__all__ = ["hands_out_mail_in_time", "lets_an_operator_retry_and_cancel", "settles_mail", "tells_of_outgoing_mail"]


async def settles_mail(lab: Lab) -> None:
    turn = await lab.converse("A", mails=[lab.outgoing("a@x", "b@x"), lab.outgoing("c@x", body=b"other")])
    expect(turn > 0, "a turn has a number")
    await lab.durable()
    rows = await lab.store.take_outgoing(10, lab.now)
    expect([row.recipient for row in rows] == ["a@x", "b@x", "c@x"], f"a row for each recipient, in order: {rows}")
    expect(rows[0].mail == rows[1].mail != rows[2].mail, "rows of one mail know each other")
    expect((rows[0].body, rows[2].body) == (b"Hello\r\n", b"other"), "with the bytes that were committed")
    expect(rows[0].message_id == rows[1].message_id and rows[0].sender.startswith("b+"), "and what identifies them")
    expect(await lab.store.take_outgoing(10, lab.now) == [], "what is being sent is not given again")
    expect((await lab.store.outbox_counts())["sending"] == 3, "it counts as sending")
    await lab.store.settle(
        [
            Settled(id=rows[0].id, status="sent", reason="250 ok"),
            Settled(id=rows[1].id, status="deferred", reason="451 later", due=lab.now + 60.0),
            Settled(id=rows[2].id, status="failed", reason="550 no"),
        ]
    )
    counts = await lab.store.outbox_counts()
    wanted = {"waiting": 0, "deferred": 1, "sending": 0, "sent": 1, "failed": 1}
    expect(counts == wanted, f"what became of them is counted: {counts}")
    expect(lab.store.next_outgoing() == lab.now + 60.0, f"the deferred one is expected: {lab.store.next_outgoing()}")
    expect(await lab.store.take_outgoing(10, lab.now + 59.0) == [], "and does not come early")
    lab.now += 60.0
    (row,) = await lab.store.take_outgoing(10, lab.now)
    expect((row.id, row.attempts, row.body) == (rows[1].id, 1, rows[1].body), "then it comes, the same")
    await lab.store.settle([Settled(id=row.id, status="deferred", due=lab.now + 1.0, tried=False)])
    (row,) = await lab.store.take_outgoing(10, lab.now + 1.0)
    expect(row.attempts == 1, "a try that was none is not counted")


async def hands_out_mail_in_time(lab: Lab) -> None:
    await lab.converse("A", mails=[lab.outgoing(due=lab.now + 10.0), lab.outgoing(due=lab.now + 5.0)])
    await lab.durable()
    expect(await lab.store.take_outgoing(10, lab.now) == [], "mail with a due time waits for it")
    expect(lab.store.next_outgoing() == lab.now + 5.0, "the earliest is expected")
    rows = await lab.store.take_outgoing(10, lab.now + 20.0)
    expect([row.id for row in rows] == sorted((row.id for row in rows), reverse=True), "the earliest comes first")
    await lab.converse("A", mails=[lab.outgoing(due=lab.now + 9.0)])
    await lab.durable()
    expect(lab.store.next_outgoing() == lab.now + 9.0, "mail of a later turn is expected too")
    for _ in range(7):
        await lab.converse("A", mails=[lab.outgoing()])
    await lab.durable()
    for wanted in (3, 3, 1, 0):
        due = lab.store.next_outgoing()
        expect((due is not None and due <= lab.now) == (wanted > 0), f"mail that is due is expected now: {due}")
        rows = await lab.store.take_outgoing(3, lab.now)
        expect(len(rows) == wanted, f"no more than was asked for, and all there is: {len(rows)}, not {wanted}")


async def tells_of_outgoing_mail(lab: Lab) -> None:
    rung = asyncio.Event()
    lab.store.on_outgoing(rung.set)
    await lab.converse("A", mails=[lab.outgoing()])
    async with asyncio.timeout(10):
        await rung.wait()
    rows = await lab.store.take_outgoing(10, lab.now)
    expect(len(rows) == 1, "who was told finds the mail")


async def lets_an_operator_retry_and_cancel(lab: Lab) -> None:
    await lab.converse("A", mails=[lab.outgoing("a@x"), lab.outgoing("b@x"), lab.outgoing("c@x")])
    await lab.durable()
    one, two, three = await lab.store.take_outgoing(10, lab.now)
    expect(not await lab.store.cancel_outgoing(one.id, lab.now), "what is being sent cannot be cancelled")
    later = lab.now + 1000.0
    await lab.store.settle(
        [
            Settled(id=one.id, status="deferred", due=later),
            Settled(id=two.id, status="deferred", due=later),
            Settled(id=three.id, status="failed"),
        ]
    )
    listed = [(row["id"], row["state"]) for row in await lab.store.rows("outbox")]
    wanted = [(one.id, "deferred"), (two.id, "deferred"), (three.id, "failed")]
    expect(listed == wanted, f"they are listed: {listed}")
    expect(await lab.store.cancel_outgoing(one.id, lab.now), "a deferred mail can be cancelled")
    expect(await lab.store.retry_outgoing(two.id, lab.now), "or tried at once")
    expect(await lab.store.retry_outgoing(three.id, lab.now), "as can a failed one")
    expect(not await lab.store.retry_outgoing(10**9, lab.now), "one that is not there cannot")
    rows = await lab.store.take_outgoing(10, lab.now)
    expect({row.id for row in rows} == {two.id, three.id}, "those are given out")
    counts = await lab.store.outbox_counts()
    expect((counts["failed"], counts["sending"]) == (1, 2), f"the cancelled one failed: {counts}")
