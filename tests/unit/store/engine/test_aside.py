"""A row that stands aside has a queue of its own, in which others may wait."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from monsal.store.contract import Ack, Applied, Claimed, TurnCommit
from monsal.store.identity import Aside, Identity, Released
from monsal.testing.kit.lab import Lab

MakeLab = Callable[..., Lab]


@pytest.mark.parametrize("end", ["in time", "too late", "by an operator"])
@pytest.mark.rule("state.B11")
def test_what_came_back_for_a_row_that_stood_aside_is_handled_when_that_ends(make_lab: MakeLab, end: str) -> None:
    """P5. One handler has answered before another one wanted to know who writes, and that answer comes back."""

    async def body() -> None:
        lab = make_lab()
        await lab.store.open()
        await lab.accept("ann@x")
        row = await lab.claim_one()
        assert await _commit(lab, row, "aside", Identity(aside=Aside("ann@x", lab.now + 50.0, 5)))
        await lab.durable()
        report = (await lab.accept("", lease_key=f"?{row.id}", source="bounce")).ids[0]
        found = {report}
        if end == "too late":
            lab.now += 51.0
        elif end == "by an operator":
            assert await lab.store.release(f"?{row.id}", lab.now) == 1
            found.add(row.id)
        else:
            await lab.accept("bob@x", lease_key="b")
            other = next(it for it in await lab.claim() if it.lease_key == "b")
            assert await _commit(lab, other, "done", Identity(releases=(Released(row.id, b"{}"),)))
            found.add(row.id)
        claimed = await lab.claim()
        assert {it.id for it in claimed} == found
        await lab.store.killed([report], lab.now)
        assert report in {it.id for it in await lab.claim()}
        await lab.balanced()
        await lab.store.close()

    asyncio.run(body())


async def _commit(lab: Lab, row: Claimed, kind: str, identity: Identity) -> bool:
    ack = Ack(kind="aside", reason="waits") if kind == "aside" else Ack(kind="done")
    turn = TurnCommit(fence=row.fence, lease_key=row.lease_key, message=row.id, now=lab.now, ack=ack, identity=identity)
    return isinstance(await lab.store.commit(turn), Applied)
