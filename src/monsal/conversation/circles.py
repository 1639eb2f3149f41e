"""What turns may leave in memory: circles of dead objects, with the message that they were about."""

from __future__ import annotations

import gc
from typing import Final

__all__: list[str] = []

#: Octets of messages after which dead circles are looked for. A circle of ten objects may hold a mail of 25 MB, and
#: Python, which counts objects, would look when a thousand of them are there; `except ... as error: kept = error` in a
#: handler is enough to make one. To look among what is young takes a millisecond or two, to bring so much in a hundred.
_MUCH: Final = 32 * 1024 * 1024


class Circles:
    """Has Python look for dead circles when turns have had so many octets of messages in hand (P7)."""

    __slots__ = ("_octets",)

    def __init__(self) -> None:
        self._octets = 0

    def may_hold(self, octets: int) -> None:
        """A turn has ended that had a message of so many octets in memory."""
        self._octets += octets
        if self._octets >= _MUCH:
            self._octets = 0
            if gc.isenabled():  # else the application knows better
                # The two youngest generations: a circle is made when its turn ends, whatever the age of its message.
                gc.collect(1)
