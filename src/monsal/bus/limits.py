"""How long a step may take, and the wish that it end soon (B6)."""

from __future__ import annotations

import math
from collections.abc import Callable
from threading import Event
from time import monotonic
from typing import NamedTuple

__all__ = ["Hurry", "Limits"]


class Limits(NamedTuple):
    """How many seconds one listener may take, by channel; a listener's own attribute `limit` wins.

    `whole` is for all of a shutdown together; after it, and once `Bus.hurry` is set, each call has `hurry` seconds.
    """

    start: float = 30.0
    drain: float = 60.0
    stop: float = 30.0
    exit: float = 30.0
    whole: float = 90.0
    hurry: float = 3.0


class Hurry(Event):
    """Set when the shutdown should be fast: listeners may ask `is_set()`, and each of them has little time left.

    The next start clears it.
    """

    def __init__(self, changed: Callable[[], None]) -> None:
        super().__init__()
        self._changed = changed
        #: When it was set first, in monotonic seconds.
        self.since = math.inf

    def set(self) -> None:
        self.since = min(self.since, monotonic())
        super().set()
        self._changed()

    def clear(self) -> None:
        super().clear()
        self.since = math.inf
