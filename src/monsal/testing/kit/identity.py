"""Who somebody is: capabilities that are used up, rows that wait outside of their queue."""

from __future__ import annotations

from monsal.store.contract import Ack, Applied, Claimed, CommitResult, Conflict, TurnCommit
from monsal.store.identity import ASKED, Aside, Consumed, Identity, Released
from monsal.testing.kit.lab import Lab, expect

__all__ = [
    "asks_only_so_many_an_hour",
    "drops_what_is_not_released_in_time",
    "gives_a_capability_to_one_message",
    "keeps_what_was_found_out_about_a_message",
    "lets_a_row_wait_outside_of_its_queue",
    "lets_only_so_many_wait",
    "releases_once",
    "remembers_who_waits",
]

ANN = "ann@example.net"


async def _commit(lab: Lab, row: Claimed, kind: str, identity: Identity) -> CommitResult:
    return await lab.store.commit(
        TurnCommit(
            fence=row.fence,
            lease_key=row.lease_key,
            message=row.id,
            now=lab.now,
            ack=_ack(kind),
            identity=identity,
        )
    )


def _ack(kind: str) -> Ack:
    acks = (Ack(kind="aside", reason=f"{ASKED}somebody"), Ack(kind="done"), Ack(kind="continue"))
    return next(ack for ack in acks if ack.kind == kind)


async def _claim_one(lab: Lab, **more: str) -> Claimed:
    """A new row of its own queue, claimed."""
    receipt = await lab.accept(ANN, **more)
    return next(row for row in await lab.claim() if row.id == receipt.ids[0])


async def _wait_aside(lab: Lab, *, limit: int = 5, until: float = 100.0) -> Claimed:
    row = await _claim_one(lab)
    result = await _commit(lab, row, "aside", Identity(aside=Aside(ANN, lab.now + until, limit)))
    expect(isinstance(result, Applied), f"a row can wait: {result}")
    return row


async def gives_a_capability_to_one_message(lab: Lab) -> None:
    first, second = await _claim_one(lab, lease_key="a"), await _claim_one(lab, lease_key="b")
    uses = Identity(consumes=(Consumed("token", lab.now + 10.0),))
    expect(isinstance(await _commit(lab, first, "continue", uses), Applied), "the first message gets it")
    expect(isinstance(await _commit(lab, second, "done", uses), Conflict), "the second one does not")
    expect(isinstance(await _commit(lab, first, "done", uses), Applied), "the first one still has it")
    # A clock that was set back, or a message that was tried for days, makes it no younger.
    lab.now += 20.0
    other = Identity(consumes=(Consumed("other", lab.now + 10.0),))
    expect(isinstance(await _commit(lab, second, "continue", other), Applied), "the lease is still held")
    expect(isinstance(await _commit(lab, second, "done", uses), Conflict), "it stays used some time")


async def lets_a_row_wait_outside_of_its_queue(lab: Lab) -> None:
    row = await _wait_aside(lab)
    later = await _claim_one(lab)
    expect(later.lease_key == row.lease_key, "the next message of its queue is handled meanwhile")
    totals = await lab.balanced()
    expect((totals["held"], totals["running"]) == (1, 1), f"it is held: {totals}")
    await lab.accept(ANN)
    # While its queue is leased it goes back into it, to the place of its id.
    released = Identity(releases=(Released(row.id, b'{"sender":"x","recipients":[]}'),))
    expect(isinstance(await _commit(lab, later, "done", released), Applied), "it can be released")
    again = await lab.claim()
    expect([it.id for it in again] == [row.id], f"the released row comes first, and alone: {again}")
    expect(again[0].lease_key == ANN, "it is in its old queue")
    expect(again[0].envelope == b'{"sender":"x","recipients":[]}', "it has its new envelope")
    await lab.done(again[0], handler=None)
    expect(len(await lab.claim()) == 1, "then the others go on")
    await lab.balanced()


async def releases_once(lab: Lab) -> None:
    row = await _wait_aside(lab)
    one, two = await _claim_one(lab, lease_key="a"), await _claim_one(lab, lease_key="b")
    released = Identity(releases=(Released(row.id, b"{}"),))
    expect(isinstance(await _commit(lab, one, "done", released), Applied), "the first one releases it")
    expect(isinstance(await _commit(lab, two, "done", released), Conflict), "the second one does not")
    expect([it.id for it in await lab.claim()] == [row.id], "it is claimed once")
    await lab.balanced()


async def lets_only_so_many_wait(lab: Lab) -> None:
    await _wait_aside(lab, limit=2)
    await _wait_aside(lab, limit=2)
    row = await _claim_one(lab)
    result = await _commit(lab, row, "aside", Identity(aside=Aside(ANN, lab.now + 9.0, 2)))
    expect(isinstance(result, Conflict), "a third one may not wait")
    result = await _commit(lab, row, "aside", Identity(aside=Aside("bob@x", lab.now + 9.0, 2)))
    expect(isinstance(result, Applied), "one of somebody else may")
    expect((await lab.balanced())["held"] == 3, "three are held")


async def asks_only_so_many_an_hour(lab: Lab) -> None:
    async def ask(who: str, hourly: int | None = 2) -> bool:
        row = await _claim_one(lab, lease_key=who)
        aside = Identity(aside=Aside(who, lab.now + 9000.0, 5, hourly))
        return isinstance(await _commit(lab, row, "aside", aside), Applied)

    expect(await ask("a") and await ask("b"), "two are asked")
    expect(not await ask("c"), "nobody else is")
    expect(await ask("i", None), "who is not asked may wait")
    if lab.can_restart:
        await lab.durable()
        await lab.restart()
        expect(not await ask("d"), "a restart makes no room")
    lab.now += 3601.0
    expect(await ask("e") and await ask("f"), "an hour later there is room")
    expect(not await ask("g"), "for as many")
    await lab.balanced()


async def drops_what_is_not_released_in_time(lab: Lab) -> None:
    row = await _wait_aside(lab, until=50.0)
    due = lab.store.next_work()
    expect(due is not None and due <= lab.now + 50.0, f"the store knows when to look: {due}")
    lab.now += 51.0
    expect(await lab.claim() == [], "nobody handles it")
    totals = await lab.balanced()
    expect((totals["held"], totals["dropped"]) == (0, 1), f"it is dropped: {totals}")
    other = await _claim_one(lab, lease_key="a")
    result = await _commit(lab, other, "done", Identity(releases=(Released(row.id, b"{}"),)))
    expect(isinstance(result, Conflict), "it comes back no more")


async def keeps_what_was_found_out_about_a_message(lab: Lab) -> None:
    row = await _claim_one(lab)
    await _commit(lab, row, "continue", Identity(envelope=b'{"sender":"y","recipients":[]}'))
    await lab.done(row, "defer", handler=None, due=lab.now + 5.0)
    lab.now += 6.0
    expect((await lab.claim())[0].envelope == b'{"sender":"y","recipients":[]}', "the next run finds it")


async def remembers_who_waits(lab: Lab) -> None:
    if not lab.can_restart:
        return
    row = await _wait_aside(lab)
    used = await _claim_one(lab, lease_key="a")
    await _commit(lab, used, "done", Identity(consumes=(Consumed("token", lab.now + 10.0),)))
    await lab.durable()
    await lab.restart()
    expect(await lab.claim() == [], "it still waits")
    totals = await lab.balanced()
    expect(totals["held"] == 1, f"it is held: {totals}")
    other = await _claim_one(lab, lease_key="a")
    uses = Identity(consumes=(Consumed("token", lab.now + 10.0),))
    expect(isinstance(await _commit(lab, other, "done", uses), Conflict), "what was used stays used")
    await _commit(lab, other, "done", Identity(releases=(Released(row.id, b"{}"),)))
    expect([it.id for it in await lab.claim()] == [row.id], "it is released, to its old queue")
    expect(await lab.store.release(ANN, lab.now) == 0, "nothing is left behind")
    await lab.balanced()
