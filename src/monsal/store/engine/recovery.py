"""The way back after an error: what is on the disk is read on the thread, again and again until that succeeds."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial

import apsw

from monsal.backoff import exponential
from monsal.errors import StoreUnavailable
from monsal.store.engine.data import Data
from monsal.store.engine.database import foreign_error
from monsal.store.engine.hand import Hand
from monsal.store.engine.opening import Lost, recover
from monsal.store.engine.operation import InDoubt, deliver, fail
from monsal.store.engine.place import EngineSettings, Place

__all__ = ["Recovery"]

log = logging.getLogger("monsal.store")


class Recovery:
    """Of one opening of the store. `up(data)` is called with what is there; `down(why)` when a try did not help."""

    def __init__(
        self,
        hand: Hand,
        place: Place,
        settings: EngineSettings,
        *,
        up: Callable[[Data], None],
        down: Callable[[str], None],
    ) -> None:
        #: The thread is at it.
        self.is_busy = False
        self._hand = hand
        self._place = place
        self._settings = settings
        self._up = up
        self._down = down
        self._lost: Lost | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._is_stopped = False

    def begin(self, lost: Lost, why: str, first: Callable[[], None]) -> None:
        """Do `first()` on the thread, then try; who waited is told `why` if the disk does not have it."""
        self._lost, self.is_busy = lost, True
        self._hand.do(first, lambda *_: self._try(lost, why))

    def stop(self) -> None:
        """Try no more; what the thread is at comes to nothing, and `leave` has its connection."""
        self._is_stopped = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def leave(self) -> apsw.Connection | None:
        """The connection that failed, if it is still there: whoever asks closes it."""
        lost, self._lost = self._lost, None
        return None if lost is None else lost.db

    def _try(self, lost: Lost, why: str) -> None:
        self._timer, self.is_busy = None, True
        if self._is_stopped:
            self._tell(lost, why, InDoubt)
            return
        self._hand.do(partial(recover, self._place, self._settings, lost), partial(self._tried, lost, why))

    def _tried(self, lost: Lost, why: str, data: Data | None, error: Exception | None) -> None:
        self._tell(lost, why, InDoubt if data is None else StoreUnavailable)
        if self._is_stopped:
            return
        if data is None:
            assert error is not None
            why = str(foreign_error(error, self._place.name))
            self._down(why)
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(exponential(lost.tries, first=0.05, limit=5.0), self._try, lost, why)
            self.is_busy = False
            return
        self._lost, self.is_busy = None, False
        self._up(data)
        log.warning("the store is available again", extra={"action": "store_up"})

    def _tell(self, lost: Lost, why: str, unknown: type[StoreUnavailable]) -> None:
        """Tell who waited what was found; `unknown` is for those of a group that may have been given to the disk."""
        promised, lost.promised = lost.promised, []
        for group, waiting in promised:
            if lost.found >= group:
                deliver(waiting)
            else:
                fail(waiting, (unknown if group <= lost.group else StoreUnavailable)(why))
