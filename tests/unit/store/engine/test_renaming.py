"""States are renamed in steps, so that mail does not wait for all of them (P7)."""

from __future__ import annotations

import asyncio

import pytest

from monsal.store import MemoryStore
from monsal.store.contract import StateKey
from monsal.store.engine import operator


@pytest.mark.rule("routing.B8")
@pytest.mark.parametrize("step", [1, 2, 5])
def test_a_renaming_takes_all_in_steps(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    monkeypatch.setattr(operator, "_STEP", step)

    async def body() -> None:
        store = MemoryStore()
        await store.open()
        # The shared state, one that UTF-8 cannot say, one that stays, and one of another machine.
        renamed = [StateKey("desk", sender) for sender in ("", "a@x", "b@x", "\udce4@x", "z@x")]
        for key in renamed:
            await store.set_state(key, "OLD", 1.0)
        kept = {StateKey("desk", "m@x"): "OTHER", StateKey("other", "a@x"): "OLD"}
        for key, state in kept.items():
            await store.set_state(key, state, 1.0)
        assert await store.rename_state("desk", "OLD", "NEW", 2.0) == len(renamed)
        values = await store.read_states([*renamed, *kept])
        assert {key: value.state for key, value in values.items()} == {**dict.fromkeys(renamed, "NEW"), **kept}
        assert await store.rename_state("desk", "OLD", "NEW", 2.0) == 0
        await store.close()

    asyncio.run(body())
