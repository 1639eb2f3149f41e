"""Which outgoing rows are taken, and when: each once, the earliest first, whatever the clock and the others do."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from monsal.store.contract import Settled
from monsal.testing.kit.lab import Lab

MakeLab = Callable[..., Lab]


async def taken(lab: Lab, limit: int, now: float) -> list[str]:
    return [row.recipient for row in await lab.store.take_outgoing(limit, now)]


def test_the_earliest_are_taken_first_while_others_are_being_sent(make_lab: MakeLab) -> None:
    async def body() -> None:
        lab = make_lab()
        await lab.store.open()
        dues = [50.0, 10.0, 40.0, 20.0, 30.0, 900.0]
        await lab.converse("A", mails=[lab.outgoing(f"at{due:g}@x", due=due) for due in dues])
        await lab.durable()
        assert await taken(lab, 2, 100.0) == ["at10@x", "at20@x"]
        # A limit that was reached says nothing about what is left, also when the clock is set back.
        assert await taken(lab, 2, 45.0) == ["at30@x", "at40@x"]
        assert await taken(lab, 2, 45.0) == []
        assert lab.store.next_outgoing() == 50.0
        assert await taken(lab, 2, 60.0) == ["at50@x"]
        assert lab.store.next_outgoing() == 900.0
        assert await taken(lab, 2, 900.0) == ["at900@x"]
        assert lab.store.next_outgoing() is None
        await lab.store.close()

    asyncio.run(body())


def test_what_is_put_off_or_tried_again_by_hand_is_due_again(make_lab: MakeLab) -> None:
    async def body() -> None:
        lab = make_lab()
        await lab.store.open()
        await lab.converse("A", mails=[lab.outgoing("a@x", due=10.0), lab.outgoing("b@x", due=10.0)])
        await lab.durable()
        one, two = await lab.store.take_outgoing(10, 20.0)
        assert await taken(lab, 10, 20.0) == []
        await lab.store.settle([Settled(id=one.id, status="deferred", due=30.0), Settled(id=two.id, status="failed")])
        assert await taken(lab, 10, 29.0) == []
        assert lab.store.next_outgoing() == 30.0
        assert await lab.store.retry_outgoing(two.id, 29.0)
        assert await taken(lab, 10, 29.0) == ["b@x"]
        assert await taken(lab, 10, 30.0) == ["a@x"]
        assert lab.store.next_outgoing() is None
        await lab.store.close()

    asyncio.run(body())
