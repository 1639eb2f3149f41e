"""Taking up new code, while the server is still on its way to be started."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from monsal.bus import Bus, Phase
from monsal.errors import ReloadFailed
from monsal.renewal import Renewal


class Desk:
    """What a reload needs of a server and of its account."""

    renews = True
    doors = None

    def __init__(self, *, announced: bool) -> None:
        self.generation = 1
        self.announced = announced
        self.failed_reload = ""
        self.service = self

    async def renew(self, generation: int) -> None:
        """New processes take over."""

    def announce(self) -> dict[str, Any]:
        return {}


async def _reload_during_the_start(desk: Desk) -> dict[str, Any]:
    """Ask for a reload while a listener of the start still runs; it goes on when the reload is refused, or waits."""
    bus, begun, gate = Bus(), threading.Event(), threading.Event()
    renewal: Any = Renewal(bus, desk, desk, None, asyncio.get_running_loop())  # type: ignore[arg-type]
    bus.subscribe("graceful", renewal.take_up)
    bus.subscribe("start", lambda: (begun.set(), gate.wait()))
    starting = asyncio.create_task(asyncio.to_thread(bus.start))
    try:
        await asyncio.to_thread(begun.wait)
        assert bus.phase is Phase.STARTING
        answer = asyncio.create_task(renewal.renew())
        # A turn of the loop is enough for a refusal.
        await asyncio.sleep(0)
        gate.set()
        return await answer
    finally:
        gate.set()
        await starting
        await asyncio.to_thread(bus.exit)


@pytest.mark.rule("bus.B11")
def test_who_has_seen_that_the_server_is_ready_may_ask_for_a_reload_at_once() -> None:
    """It is announced by the last listener of the start, so a moment before the bus is started: that was refused."""
    assert asyncio.run(_reload_during_the_start(Desk(announced=True))) == {"generation": 2}


def test_before_that_a_reload_is_refused() -> None:
    with pytest.raises(ReloadFailed, match="the server is starting; try again when it is ready"):
        asyncio.run(_reload_during_the_start(Desk(announced=False)))
