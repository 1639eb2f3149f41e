"""The janitor goes on for ever, whatever the store says."""

from __future__ import annotations

import asyncio

import pytest

from monsal.clock import ManualClock
from monsal.conversation import Janitor, Keeping, janitor
from monsal.errors import StoreUnavailable
from monsal.store.upkeep import Erased


class Attic:
    """A store that is asked, fails at first, and then has three steps of each kind."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, float, float]] = []
        self.left = {"bodies": 3, "rows": 3}
        self.swept = asyncio.Event()

    async def _step(self, what: str, now: float, keep: float) -> int:
        self.asked.append((what, now, keep))
        if len(self.asked) == 1:
            raise StoreUnavailable("the disk is full")
        self.left[what] -= 1
        if self.left[what] < 0:
            if what == "rows":
                self.swept.set()
            return 0
        return 10

    async def prune(self, now: float, keep: float, limit: int = 500) -> int:
        return await self._step("rows", now, keep)

    async def prune_bodies(self, now: float, keep: float, limit: int = 500) -> int:
        return await self._step("bodies", now, keep)

    async def erase(self, sender: str, now: float, dry_run: bool = False) -> Erased:
        raise NotImplementedError


def test_a_store_that_fails_is_tidied_up_the_next_time(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(janitor, "_FIRST", 0.0)
    monkeypatch.setattr(janitor, "_EVERY", 0.0)

    async def body() -> None:
        attic = Attic()
        running = asyncio.create_task(
            Janitor(attic, ManualClock(1000.0), Keeping(bodies=1.0, history=2.0), pause=lambda: asyncio.sleep(0)).run()
        )
        await asyncio.wait_for(attic.swept.wait(), 30)
        assert not running.done()
        running.cancel()
        steps = attic.asked[:9]
        assert [step[0] for step in steps] == ["bodies"] * 5 + ["rows"] * 4
        assert set(steps) == {("bodies", 1000.0, 1.0), ("rows", 1000.0, 2.0)}

    asyncio.run(body())
    assert "the disk is full" in caplog.text


def test_what_is_kept_for_ever_is_not_asked_for() -> None:
    async def body() -> None:
        attic = Attic()
        swept = await Janitor(attic, ManualClock(), Keeping(bodies=None, history=None)).sweep()
        assert (swept.bodies, swept.rows, attic.asked) == (0, 0, [])

    asyncio.run(body())
