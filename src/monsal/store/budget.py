"""How many mails went to a correspondent lately (DESIGN 4, *Loops*): counted by a worker, and by a host for several."""

from __future__ import annotations

__all__ = ["ReplyBudget"]


class ReplyBudget:
    """Counts mails per correspondent over a sliding hour, for at most `size` correspondents.

    It lives in memory: after a restart a loop gets one more hour's worth of replies, and is stopped again.
    """

    __slots__ = ("_quick", "_sent", "_size")

    HOUR = 3600.0
    #: Seconds within which an answer to a mail of ours counts as quick.
    AT_ONCE = 60.0

    def __init__(self, size: int = 10_000) -> None:
        self._size = size
        self._sent: dict[str, list[float]] = {}
        self._quick: dict[str, tuple[int, float]] = {}

    def count(self, correspondent: str, now: float) -> int:
        """How many mails left for this correspondent within the hour before `now`."""
        times = self._sent.get(correspondent)
        if times is None:
            return 0
        # The list may have a thousand entries, and is asked about each answer; the smallest is found in C.
        if times and min(times) <= now - self.HOUR:
            times[:] = [at for at in times if at > now - self.HOUR]
        return len(times)

    def add(self, correspondent: str, now: float) -> None:
        """Note that a mail to this correspondent was committed."""
        times = self._sent.pop(correspondent, None)
        if times is None:
            times = []
            if len(self._sent) >= self._size:
                # The one that was answered longest ago: a dict keeps the order of insertion.
                del self._sent[next(iter(self._sent))]
        times.append(now)
        # Above this many the decision is the same; the list must not grow with a loop.
        del times[:-1000]
        self._sent[correspondent] = times

    def arrived(self, correspondent: str, received: float) -> int:
        """How many mails in a row, up to the one that was `received` then, came at once after a mail to their writer.

        Programs that answer each other do so for ever; a person needs longer, or stops. A mail that is looked at again
        counts from 0: somebody released it.
        """
        times = self._sent.get(correspondent)
        if times is None:
            return 0
        count, last = self._quick.get(correspondent, (0, -1.0))
        before = float("-inf")
        for at in times[:-21:-1]:
            if at <= received:  # nearly always the last of all
                before = at
                break
        is_quick = received > last and received - before <= self.AT_ONCE
        count = count + 1 if is_quick else 0
        if len(self._quick) >= self._size:
            del self._quick[next(iter(self._quick))]
        self._quick[correspondent] = (count, received)
        return count
