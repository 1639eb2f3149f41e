"""Outgoing rows by lane, for a relay whose lanes do not hold up each other. Pure: the time is an argument."""

from __future__ import annotations

from collections import Counter

__all__ = ["Lanes"]

#: Rows of one lane that are put off come again at most so fast, in rows a second.
RATE = 50.0
#: Seconds after which the first of them does.
SOONEST = 1.0


class Lanes:
    """At most `total` rows under way, and `each` in one lane (P7): what has no room in its lane is put off."""

    def __init__(self, *, total: int, each: int) -> None:
        self._total = total
        self._each = each
        self._under_way: Counter[str] = Counter()
        self._horizons: dict[str, float] = {}  # the time for which the last row was put off

    @property
    def room(self) -> int:
        """Rows that may be taken now."""
        return max(0, self._total - self._under_way.total())

    def admit(self, lane: str, now: float) -> float:
        """0 if a row may go, which then is under way; else when it should come again.

        Rows that are put off come at different times, so that each of them is put off once, as a rule.
        """
        if self._under_way[lane] < self._each:
            self._under_way[lane] += 1
            return 0.0
        soonest = now + SOONEST
        last = self._horizons.get(lane, 0.0)
        # A clock that was set back must not put mail off until it has caught up.
        self._horizons[lane] = max(soonest, last + 1.0 / RATE) if last < now + 86400.0 else soonest
        return self._horizons[lane]

    def leave(self, lane: str, rows: int) -> None:
        """So many rows are not under way any more."""
        self._under_way[lane] -= rows
        if not self._under_way[lane]:
            del self._under_way[lane]
            self._horizons.pop(lane, None)
