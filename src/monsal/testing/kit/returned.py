"""Mail that came back, and addresses that are not written to."""

from __future__ import annotations

import msgspec

from monsal.store.bounced import Bounced
from monsal.store.contract import Accept, Recipient, Settled
from monsal.testing.kit.lab import Lab, expect

__all__ = [
    "finds_the_turn_that_sent",
    "keeps_what_bounced",
    "keeps_what_is_suppressed",
    "puts_the_report_of_a_failure_into_the_queue",
]


async def finds_the_turn_that_sent(lab: Lab) -> None:
    mail = lab.outgoing("a@x", "b@x")
    await lab.converse("A", mails=[mail])
    sent = await lab.store.sent(mail.token)
    assert sent is not None
    expect((sent.token, sent.message_id) == (mail.token, mail.message_id), f"it is that mail: {sent}")
    expect(
        (sent.key, sent.sender, sent.handler) == ("machine", "ann@example.net", "machine:START"), f"its turn: {sent}"
    )
    expect((sent.lease_key, sent.correspondent) == ("ann@example.net", "ann@example.net"), f"its queue: {sent}")
    expect((sent.address, sent.recipients) == ("desk@example.com", ("a@x", "b@x")), f"from and to: {sent}")
    expect(await lab.store.sent("nothing") is None, "another token is none")


async def puts_the_report_of_a_failure_into_the_queue(lab: Lab) -> None:
    mail = lab.outgoing("a@x")
    await lab.converse("A", mails=[mail, lab.outgoing("b@x")])
    await lab.durable()
    one, two = await lab.store.take_outgoing(10, lab.now)
    report = Accept(
        sender="",
        correspondent="mailer-daemon@example.com",
        recipients=(Recipient(mail.sender, "#elsewhere"),),
        body=(b"Subject: no\r\n\r\nno\r\n",),
        received=lab.now,
        source="bounce",
    )
    results = [
        Settled(id=one.id, status="failed", reason="550 no", report=report),
        Settled(id=two.id, status="sent", report=report),
    ]
    await lab.store.settle(results)
    await lab.store.settle(results)
    rows = await lab.claim()
    expect(len(rows) == 1, f"there is one report, of the one that failed, once: {rows}")
    row = rows[0]
    expect((row.source, row.sender, row.recipient) == ("bounce", "", mail.sender), f"it goes to its sender: {row}")
    expect(row.lease_key == "ann@example.net", f"in the queue of the conversation that sent: {row.lease_key}")
    expect(bytes(row.body) == report.body[0] if isinstance(row.body, bytes) else False, "with its bytes")
    await lab.done(row)
    await lab.counts(done=2)


async def keeps_what_is_suppressed(lab: Lab) -> None:
    store = lab.store
    await store.suppress("Ann@X", "by hand", lab.now, None)
    await store.suppress("bob@x", "for a while", lab.now, lab.now + 60.0)
    listed = [(row["address"], row["reason"], row["until"] is None) for row in await store.rows("suppressed")]
    expect(listed == [("ann@x", "by hand", True), ("bob@x", "for a while", False)], f"they are listed: {listed}")
    if lab.can_restart:
        await lab.restart()
        store = lab.store
    forced = msgspec.structs.replace(lab.outgoing("ann@x"), forced=True)
    await lab.converse("A", mails=[lab.outgoing("ann@x", "carl@x"), lab.outgoing("bob@x"), forced])
    await lab.durable()
    rows = await store.take_outgoing(10, lab.now)
    expect([row.recipient for row in rows] == ["carl@x", "ann@x"], f"the others, and what is forced, are sent: {rows}")
    await store.settle([Settled(id=row.id, status="sent") for row in rows])
    counts = await store.outbox_counts()
    expect((counts["failed"], counts["sent"], counts["waiting"]) == (2, 2, 0), f"they count as failed: {counts}")
    reasons = [row["reason"] for row in await store.rows("outbox")]
    expect(reasons == ["suppressed: by hand", "suppressed: for a while"], f"with the reason: {reasons}")
    lab.now += 61.0
    expect(await store.unsuppress("ANN@x"), "one can be taken from the list")
    expect(not await store.unsuppress("ann@x"), "once")
    await lab.converse("A", mails=[lab.outgoing("ann@x"), lab.outgoing("bob@x")])
    await lab.durable()
    expect(len(await store.take_outgoing(10, lab.now)) == 2, "then, and when its time is over, mail leaves again")


async def keeps_what_bounced(lab: Lab) -> None:
    async def bounce(address: str, *, hard: bool, kind: str = "failure", times: int = 1, distinct: bool = True) -> None:
        for number in range(times):
            await lab.accept()
            row = await lab.claim_one()
            turn = await lab.turn(row, to="A")
            token = f"{lab.now}-{row.id if distinct else number // times}"
            entry = Bounced(address=address, token=token, kind=kind, hard=hard, reason="full")  # type: ignore[arg-type]  # text
            await lab.store.commit(msgspec.structs.replace(turn, bounced=(entry, entry)))

    async def listed() -> list[str]:
        return [str(row["address"]) for row in await lab.store.rows("suppressed")]

    await bounce("soft@x", hard=False, times=4)
    await bounce("late@x", hard=False, kind="delay", times=9)
    await bounce("same@x", hard=False, times=9, distinct=False)
    expect(await listed() == [], f"a few failures, many of one mail, delays: {await listed()}")
    await bounce("soft@x", hard=False)
    await bounce("Hard@x", hard=True)
    expect(sorted(await listed()) == ["hard@x", "soft@x"], f"many, or one that is final, do: {await listed()}")
    expect(await lab.store.unsuppress("soft@x"), "one can be taken from the list")
    await bounce("soft@x", hard=False)
    expect(await listed() == ["hard@x"], "and begins anew")
