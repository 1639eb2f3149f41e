"""Whether a server gets on: what feeds the watchdog of a service manager, or lets it bite (B13).

A thread that only says "still here" would say so while everything else hangs. So the loop of the sockets has to answer,
and if messages are due, some must get done.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

__all__ = ["Progress"]

T = TypeVar("T")

#: Seconds in which the loop has to answer: it never waits for anything else than its sockets.
LAG = 5.0
#: Seconds that a message may be due without being taken before it counts.
SLACK = 60.0


class Progress:
    """Watches one service, which lives on `loop`. Every method may be called from any other thread.

    `figures()` gives, on the loop, how many messages were dealt with, and for how many seconds the oldest has been due
    (None: nothing is open). `patience` is how many seconds may pass without a finished message while some are due.
    """

    def __init__(
        self,
        figures: Callable[[], tuple[int, float] | None],
        loop: asyncio.AbstractEventLoop,
        *,
        patience: float = 180.0,
        lag: float = LAG,
    ) -> None:
        self._figures = figures
        self._loop = loop
        self._patience = patience
        self._lag = lag
        self._done = -1
        self._since = time.monotonic()

    def loop_lags(self) -> str | None:
        """Whether the loop of the sockets does not answer, in words."""
        return None if self._ask(lambda: True) else f"the sockets' loop has not answered for {self._lag:g} s"

    def stalled(self) -> str | None:
        """Whether messages are due and none gets done, in words."""
        figures = self._ask(self._figures)
        if figures is None:
            return None  # `loop_lags` says it
        done, overdue = figures
        now = time.monotonic()
        if done != self._done or overdue <= SLACK:
            self._done, self._since = done, now
            return None
        if now - self._since < self._patience:
            return None
        return f"messages have been due for {overdue:.0f} s, and none was finished for {now - self._since:.0f} s"

    def _ask(self, question: Callable[[], T]) -> T | None:
        """The answer given on the loop, or None if there was none in time."""
        answer: Future[T] = Future()
        try:
            self._loop.call_soon_threadsafe(lambda: answer.set_result(question()))
            return answer.result(self._lag)
        except (TimeoutError, RuntimeError):  # too late, or the loop is closed
            return None
