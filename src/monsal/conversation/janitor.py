"""Retention: what is long done goes, a little at a time, while mail is handled (DESIGN 4, *Bodies*; P4, P7).

    janitor = Janitor(store, clock, Keeping(bodies=30 * DAY, history=365 * DAY))
    await janitor.run()                  # for ever: a sweep each hour

Each step is a short transaction of its own, after which the writer is free for whoever waits. Nothing that is open
goes, whatever its age: what waits, is held or dead, and mail that has not left. Counters do not move.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

import msgspec

from monsal.clock import Clock
from monsal.errors import StoreError
from monsal.store.upkeep import Upkeep

__all__ = ["Janitor", "Keeping", "Swept"]

log = logging.getLogger("monsal.janitor")

#: Seconds from the start to the first sweep, and from each to the next.
_FIRST: Final = 60.0
_EVERY: Final = 3600.0
#: Rows of one step, a few milliseconds of the writer's time, and seconds that it is left alone in between.
_STEP: Final = 100
_PAUSE: Final = 0.02


class Keeping(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds for which the content of handled mail is kept, and then its rows and turns; None: for ever."""

    bodies: float | None
    history: float | None


class Swept(msgspec.Struct, frozen=True):
    """What one sweep took away."""

    bodies: int
    rows: int


class Janitor:
    """Takes away what is old enough. `pause` is called between two steps."""

    def __init__(
        self,
        store: Upkeep,
        clock: Clock,
        keeping: Keeping,
        *,
        pause: Callable[[], Awaitable[None]] = lambda: asyncio.sleep(_PAUSE),
    ) -> None:
        self._store = store
        self._clock = clock
        self._keeping = keeping
        self._pause = pause

    async def run(self) -> None:
        """Sweep once an hour, until cancelled. A store that is not available is tried again at the next time."""
        await asyncio.sleep(_FIRST)
        while True:
            try:
                await self.sweep()
            except StoreError as error:
                log.warning("nothing was tidied up: %s", error, extra={"action": "janitor_failed"})
            await asyncio.sleep(_EVERY)

    async def sweep(self) -> Swept:
        """Take away all that is old enough by now. Raises StoreError; what was taken by then is gone."""
        swept = Swept(
            await self._all(self._store.prune_bodies, self._keeping.bodies),
            await self._all(self._store.prune, self._keeping.history),
        )
        if swept.bodies or swept.rows:
            log.info(
                "the content of %d mails and %d rows were old enough to go",
                swept.bodies,
                swept.rows,
                extra={"action": "janitor"},
            )
        return swept

    async def _all(self, step: Callable[[float, float, int], Awaitable[int]], keep: float | None) -> int:
        total = 0
        while keep is not None and (taken := await step(self._clock.now(), keep, _STEP)):
            total += taken
            await self._pause()
        return total
