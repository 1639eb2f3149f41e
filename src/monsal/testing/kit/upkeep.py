"""Retention, and the erasure of one person: what is open stays, and the ledger does not move (P4)."""

from __future__ import annotations

from monsal.testing.kit.lab import NOW, Lab, expect

__all__ = ["erases_one_correspondent", "forgets_what_is_done"]

_DAY = 86400.0


async def forgets_what_is_done(lab: Lab) -> None:
    await lab.converse("A")
    for kind in ("dead", "hold"):
        await lab.accept(f"{kind}@example.net")
        await lab.done(await lab.claim_one(), kind, handler=None, reason="r", detail="d")
    await lab.accept("waiting@example.net")
    before = await lab.balanced()
    store, later = lab.store, NOW + 40 * _DAY
    expect(await store.prune_bodies(later, 41 * _DAY) == 0, "nothing goes before its time")
    expect(await store.prune_bodies(later, 30 * _DAY) == 1, "the content of what is done goes")
    expect(await store.prune_bodies(later, 30 * _DAY) == 0, "and of nothing else, whatever its age")
    expect(await store.prune(later, 30 * _DAY) == 1, "its rows go")
    expect(await store.prune(later, 30 * _DAY) == 0, "and of nothing else")
    expect(await lab.balanced() == before, "counters say what was")
    (dead,) = await store.rows("dead")
    detail = await store.dead_detail(dead["id"])
    expect(detail is not None and bool(detail["raw"]), "a dead letter keeps its content")
    expect((await lab.state("machine")).state == "A", "states stay")


async def erases_one_correspondent(lab: Lab) -> None:
    await lab.converse("A", mails=[lab.outgoing("ann@example.net"), lab.outgoing("bob@example.net")])
    await lab.converse("B", "bob@example.net")
    await lab.accept()
    await lab.done(await lab.claim_one(), "dead", handler=None, reason="r", detail="d")
    for _ in range(2):
        await lab.accept()
    running = await lab.claim_one()
    counted = await lab.store.erase("ann@example.net", lab.now, True)
    expect((counted.messages, counted.unhandled, counted.states, counted.mails) == (4, 3, 1, 1), f"counted: {counted}")
    await lab.counts(done=2, dead=1, running=1, waiting=1)
    erased = await lab.store.erase("ann@example.net", lab.now)
    expect((erased.messages, erased.unhandled, erased.running) == (3, 2, 1), f"all but what runs: {erased}")
    expect((erased.mails, erased.unsent, erased.elsewhere) == (1, 1, 1), f"mails to them: {erased}")
    await lab.counts(done=2, dropped=2, running=1)
    expect((await lab.state("machine")).version == 0, "their state is gone")
    expect((await lab.state("machine", "bob@example.net")).state == "B", "and nobody else's")
    await lab.commit(running, expected=())
    await lab.counts(done=3, dropped=2)
    expect((await lab.store.erase("ann@example.net", lab.now)).messages == 1, "the rest when it has run")
