"""Who is woken for new work: one idle client after the other, not all for one mail; and no wake-up is lost.

The rule is about what is, not about what happened: *while there is something to take, and somebody whose last ask came
back short, one of those is being woken.* It is looked at whenever either may have changed, so an event that came too
early or too late cannot be missed. A client that was woken and does not come within `_PATIENCE` (it drains, hangs, or
has no room) is passed over until it comes by itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, Generic, TypeVar

__all__ = ["Lane"]

C = TypeVar("C")

#: Seconds that who was woken may take to ask, before the next one is woken as well.
_PATIENCE: Final = 0.02
#: Seconds that those who wait for a time themselves are left to do so: most are timers of who asked last.
_GRACE: Final = 0.05
#: The clock of the machine may be set while nothing happens.
_LONGEST: Final = 3600.0


class Lane(Generic[C]):
    """Clients that ask for one kind of thing. All methods are called on the loop.

    `due()` is the time at which there is something to take (in the clients' own clock; it may be too early), `ring(
    client)` wakes one and says whether that was possible.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        due: Callable[[], float | None],
        ring: Callable[[C], bool],
        now: Callable[[], float],
    ) -> None:
        self._loop = loop
        self._due = due
        self._ring = ring
        #: Those whose last ask came back short, in the order in which that was.
        self._idle: dict[C, None] = {}
        self._woken: C | None = None
        self._woken_at = 0.0
        self._planned = False
        self._timer: asyncio.TimerHandle | None = None
        # Its time; uvloop's handle for something that is due at once has none.
        self._timer_at = 0.0
        # The clients' clock is what the last of them said, and what has passed since.
        self._ahead = now() - loop.time()
        self.wakes = 0

    @property
    def idle(self) -> int:
        """How many wait to be woken."""
        return len(self._idle)

    def look(self) -> None:
        """Something changed: see at the end of this turn of the loop who is to be woken."""
        if not self._planned:
            self._planned = True
            self._loop.call_soon(self._look)

    def asks(self, client: C, now: float) -> None:
        """A client asks, at its time."""
        self._ahead = now - self._loop.time()
        self._idle.pop(client, None)
        if self._woken is client:
            self._woken = None

    def answered(self, client: C, *, short: bool) -> None:
        """It got all that it asked for, or all that there was (`short`); then it waits to be woken."""
        if short:
            self._idle[client] = None
        if self._idle:
            self.look()

    def leave(self, client: C) -> None:
        """It is gone."""
        self._idle.pop(client, None)
        if self._woken is client:
            self._woken = None
        self.look()

    def stop(self) -> None:
        """Wake nobody any more."""
        self._idle.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._planned = False
        if not self._idle:
            return
        due = self._due()
        if due is None:
            return
        now = self._loop.time()
        wait = due - now - self._ahead
        if wait > 0.0:
            self._again_in(wait + _GRACE)
            return
        if self._woken is not None:
            rest = self._woken_at + _PATIENCE - now
            if rest > 0.0:
                self._again_in(rest)
                return
            self._woken = None
        self._wake_next(now)

    def _wake_next(self, now: float) -> None:
        deaf: list[C] = []
        for client in list(self._idle):
            del self._idle[client]
            if self._ring(client):
                self._woken, self._woken_at = client, now
                self.wakes += 1
                break
            deaf.append(client)
        # Who has so much unread that nothing more can be said to it is tried again.
        self._idle |= dict.fromkeys(deaf)
        if self._idle:
            self._again_in(_PATIENCE)

    def _again_in(self, seconds: float) -> None:
        at = self._loop.time() + min(seconds, _LONGEST)
        if self._timer is not None:
            if self._timer_at <= at:
                return
            self._timer.cancel()
        self._timer, self._timer_at = self._loop.call_at(at, self._on_time), at

    def _on_time(self) -> None:
        self._timer = None
        self._look()
