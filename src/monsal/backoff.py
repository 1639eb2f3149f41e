"""How long to wait before the next try: the one place where that is computed.

Pure: randomness is an argument.
"""

from __future__ import annotations

import msgspec

__all__ = ["HANDLER_RETRIES", "OUTBOX_RETRIES", "Schedule", "exponential"]


class Schedule(msgspec.Struct, frozen=True):
    """A fixed list of waits, in seconds.

    `delay(n)` is the wait after the n-th failure (n from 1), or None when the list is used up;
    with `repeat_last` the last wait is used without end.
    """

    waits: tuple[float, ...]
    repeat_last: bool = False

    def delay(self, failures: int) -> float | None:
        if failures < 1:
            raise ValueError("failures are counted from 1")
        if failures <= len(self.waits):
            return self.waits[failures - 1]
        return self.waits[-1] if self.repeat_last and self.waits else None


#: A handler that failed for a passing reason (DESIGN 4, *Failure*).
HANDLER_RETRIES = Schedule((1.0, 5.0, 30.0, 120.0, 600.0))

#: A mail that the relay did not take yet. The total is five days, as RFC 5321 section 4.5.4.1 asks for.
OUTBOX_RETRIES = Schedule((60.0, 300.0, 900.0, 3600.0, *(10800.0,) * 40))


def exponential(failures: int, *, first: float, factor: float = 2.0, limit: float, jitter: float = 0.0) -> float:
    """The wait after the n-th failure: `first * factor ** (n - 1)`, at most `limit` seconds.

    `jitter` from 0 to 1 is a random number drawn by the caller; it takes away up to half of the wait, so that
    many who failed together do not come back together.
    """
    if failures < 1:
        raise ValueError("failures are counted from 1")
    # 2.0 ** 1024 overflows; no limit in use is reached later than after 64 doublings.
    wait = min(limit, first * factor ** min(failures - 1, 64))
    return wait * (1.0 - jitter / 2.0)
