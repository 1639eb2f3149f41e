"""A frozen peer is noticed within two beats (rpc.B3)."""

from __future__ import annotations

import math
from enum import Enum

__all__ = ["Silence", "Verdict"]


class Verdict(Enum):
    """What a time without a word calls for."""

    NOTHING = 0
    PING = 1
    LOST = 2


class Silence:
    """Watches when something was heard last. `due` is when to come with `look` again."""

    __slots__ = ("_beat", "_pinged_at", "due", "heard_at")

    def __init__(self) -> None:
        self.due = math.inf
        self.heard_at = -math.inf
        self._beat = math.inf
        self._pinged_at = math.inf

    def start(self, beat: float, now: float) -> None:
        """Watch from now on."""
        self._beat = beat
        self.due = now + beat

    def stop(self) -> None:
        """Watch no more."""
        self.due = math.inf

    def look(self, now: float, is_reading: bool) -> Verdict:
        """What is to be done now. Nothing can be heard while nothing is read, and that is no silence."""
        if not is_reading:
            self.heard_at = now
        if now < self.heard_at + self._beat:
            self.due = self.heard_at + self._beat
            return Verdict.NOTHING
        # Only a ping that went out and was not answered counts: it may be us who slept.
        if self._pinged_at <= now - self._beat and self.heard_at < self._pinged_at:
            self.due = math.inf
            return Verdict.LOST
        self.due = now + self._beat
        self._pinged_at = now
        return Verdict.PING
