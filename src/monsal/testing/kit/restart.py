"""What a store remembers: closing, opening, and the end of a process."""

from __future__ import annotations

import asyncio

from monsal.store.contract import Fenced, Settled, StateKey
from monsal.testing.kit.lab import Lab, expect

__all__ = [
    "keeps_acknowledged_mail_through_a_crash",
    "loses_a_suffix_at_most",
    "makes_durable_what_was_applied",
    "remembers_everything",
]


async def remembers_everything(lab: Lab) -> None:
    if not lab.can_restart:
        return
    await lab.converse("A", timers=[lab.timer(100.0)], mails=[lab.outgoing("a@x"), lab.outgoing("b@x")])
    await lab.durable()
    out = await lab.store.take_outgoing(1, lab.now)
    await lab.store.settle([Settled(id=out[0].id, status="deferred", due=lab.now + 5.0)])
    for number in range(3):
        await lab.accept(f"c{number}@x")
    rows = {row.correspondent: row for row in await lab.claim()}
    await lab.done(rows["c0@x"], "dead", handler=None, reason="no", detail="Traceback")
    await lab.done(rows["c1@x"], "defer", handler=None, due=lab.now + 7.0)
    before, state, epoch, secret = await lab.balanced(), await lab.state("machine"), lab.store.epoch, lab.store.secret
    counts = await lab.store.outbox_counts()
    await lab.restart()
    expect(lab.store.epoch > epoch, "each opening has a higher epoch")
    expect(lab.store.secret == secret, "the key stays")
    expect(await lab.state("machine") == state, "states stay, with their versions")
    expect(await lab.store.outbox_counts() == counts, "the outbox stays")
    expect(isinstance(await lab.commit(rows["c2@x"]), Fenced), "leases of the last opening are worth nothing")
    after = await lab.balanced()
    running = before["running"]
    wanted = {**before, "running": 0, "waiting": before["waiting"] + running}
    expect(after == wanted, f"the ledger stays, what ran waits: {after}, not {wanted}")
    expect({row.correspondent for row in await lab.claim()} == {"c2@x"}, "what ran is claimed again")
    times = lab.store.next_work(), lab.store.next_outgoing()
    expect(times[0] is not None and times[0] <= lab.now + 7.0, f"the retry is still expected: {times[0]}")
    expect({row.recipient for row in await lab.store.take_outgoing(9, lab.now + 5.0)} == {"a@x", "b@x"}, "mails stay")
    lab.now += 100.0
    sources = sorted(row.source for row in await lab.claim())
    expect(sources == ["mail", "mail", "timer"], f"the retry, the lost lease and the timer come: {sources}")


async def keeps_acknowledged_mail_through_a_crash(lab: Lab) -> None:
    if not lab.can_crash:
        return
    kept: set[int] = set()

    async def write(number: int) -> None:
        kept.update((await lab.accept(f"c{number}@x")).ids)

    tasks = [asyncio.create_task(write(number)) for number in range(30)]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    acknowledged = set(kept)
    await lab.kill()
    await asyncio.gather(*tasks, return_exceptions=True)
    there = {row.id for row in await lab.claim(100)}
    expect(acknowledged <= there, f"acknowledged mail is gone: {sorted(acknowledged - there)}")
    await lab.balanced()


async def loses_a_suffix_at_most(lab: Lab) -> None:
    if not lab.can_crash:
        return
    for number in range(20):
        await lab.accept(f"c{number}@x")
    done: list[StateKey] = []
    for row in await lab.claim(20):
        await lab.done(row, to="A", mails=[lab.outgoing()])
        done.append(StateKey("machine", row.correspondent))
        if len(done) == 12:
            break
    await lab.kill()
    values = await lab.store.read_states(done)
    there = [values[pair].state == "A" for pair in done]
    expect(there == sorted(there, reverse=True), f"a turn is gone and a later one is there: {there}")
    totals = await lab.balanced()
    expect(totals["done"] == sum(there), f"states and ledger differ: {totals['done']} done, {sum(there)} states")
    mails = await lab.store.take_outgoing(100, lab.now)
    expect(len(mails) == sum(there), f"{sum(there)} turns left {len(mails)} mails")


async def makes_durable_what_was_applied(lab: Lab) -> None:
    """To settle nothing is to wait for all turns that were applied before."""
    if not lab.can_crash:
        return
    for number in range(5):
        await lab.accept(f"c{number}@x")
    rows = await lab.claim(5)
    for row in rows:
        await lab.done(row, to="A")
    await lab.store.settle(())
    await lab.kill()
    for row in rows:
        state = await lab.state("machine", row.correspondent)
        expect(state.state == "A", f"the turn of {row.correspondent} is gone after a settle that answered")
