"""A log that others can make us write is bounded: so many lines a second, and how many were left out (P7)."""

from __future__ import annotations

import time
from collections.abc import Callable

__all__ = ["Throttle"]


class Throttle:
    """Lets `burst` lines through at once, and `rate` a second after that. To be used under the interpreter's lock."""

    def __init__(self, rate: float = 10.0, burst: int = 20, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = rate
        self._burst = burst
        self._clock = clock
        self._left: float = burst
        self._looked_at = clock()
        self._left_out = 0

    def left_out(self) -> int | None:
        """How many lines were left out before this one, which may be written; None if it is left out itself."""
        now = self._clock()
        self._left = min(self._burst, self._left + (now - self._looked_at) * self._rate)
        self._looked_at = now
        if self._left < 1.0:
            self._left_out += 1
            return None
        self._left -= 1.0
        count, self._left_out = self._left_out, 0
        return count
