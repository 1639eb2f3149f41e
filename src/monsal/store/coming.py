"""Mails that are about to come: those who receive them tell, and a store that writes in groups may wait for them.

A flush costs about as much as ten mails, whatever is in its group. Of ten sessions that send one mail after the other
each begins its next one when it was answered, so all of them come within a fraction of a millisecond; without this
the first that is complete is flushed while nine are on their way, and groups have five mails instead of nine.

    rhythm = Rhythm(coming)        of each connection
    rhythm.began(now)              its client was told to send a mail; `came` when that is complete, `answered` at last
    rhythm.left()                  nothing is expected of it: it has gone, or its mail is large
    coming.is_awaited(now)         asked by the store

Only a sender that was quick the last time is waited for, each time at most as long as a group waits for anybody, so
one that lies or dies costs others that once, and a slow one nothing. Pure: times are seconds of the monotonic clock.
"""

from __future__ import annotations

from typing import Final, Protocol, runtime_checkable

__all__ = ["PATIENCE", "Coming", "Rhythm", "Waits"]

#: Seconds for which a mail that was announced is waited for: the longest that a group waits for anybody (DESIGN 2).
PATIENCE: Final = 0.002


class Coming:
    """The senders whose next mail is awaited, with the time of the announcement; the earliest first."""

    __slots__ = ("_since",)

    def __init__(self) -> None:
        self._since: dict[Rhythm, float] = {}

    @property
    def senders(self) -> int:
        """How many are awaited, those included whose time is over and whom nobody has asked about since."""
        return len(self._since)

    def is_awaited(self, now: float) -> bool:
        """Whether a mail is about to come. Who did not keep its word in time is forgotten."""
        since = self._since
        while since:
            rhythm, announced = next(iter(since.items()))
            if now - announced < PATIENCE:
                return True
            del since[rhythm]
        return False

    def announce(self, rhythm: Rhythm, now: float) -> None:
        """A mail of this sender is about to come. Said again, it is waited for no longer."""
        since = self._since.get(rhythm)
        if since is None or now - since >= PATIENCE:
            # Taken out first, for the earliest is at the front.
            self._since.pop(rhythm, None)
            self._since[rhythm] = now

    def withdraw(self, rhythm: Rhythm) -> None:
        """It came, or it will not."""
        self._since.pop(rhythm, None)


@runtime_checkable
class Waits(Protocol):
    """A store that waits for mails that are about to come, or who stands before one."""

    @property
    def coming(self) -> Coming:
        """Where they are announced."""
        ...


class Rhythm:
    """How soon one sender did what it was awaited to do, the last time; by that its next mail is announced, or not."""

    __slots__ = ("_answered", "_began", "_coming", "_is_quick", "_returns")

    def __init__(self, coming: Coming) -> None:
        self._coming = coming
        self._answered = self._began = float("-inf")
        # From the word that it may send to the end of its mail; and from the answer to the beginning of the next one.
        self._is_quick = self._returns = False

    def began(self, now: float) -> None:
        """It was told that it may send the content of a mail."""
        self._began = now
        self._returns = now - self._answered < PATIENCE
        if self._is_quick:
            self._coming.announce(self, now)

    def came(self, now: float) -> None:
        """The content is complete."""
        self._is_quick = now - self._began < PATIENCE
        self._coming.withdraw(self)

    def answered(self, now: float) -> None:
        """Its mail was answered: it may begin another."""
        self._answered = now
        if self._returns:
            self._coming.announce(self, now)

    def left(self) -> None:
        """Nothing is expected of it now."""
        self._coming.withdraw(self)
