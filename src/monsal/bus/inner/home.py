"""The process in which a bus lives, and its forked children, in which it does not, unless it is said to go on there."""

from __future__ import annotations

import os
import threading

from monsal.bus.hub import Hub
from monsal.bus.inner.ears import Ears
from monsal.bus.inner.waiting import Lobby

__all__ = ["Home"]


class Home(Hub):
    """Channels in a process. A child inherits all of it but the threads; it must not stop what its parent has."""

    def __init__(self) -> None:
        super().__init__()
        self._lobby = Lobby()
        #: Where signals are listened to for this bus.
        self._ears: list[Ears] = []
        #: The process in which it left the phase NEW: the one whose life this is.
        self._home: int | None = None
        #: The thread that is about to fork so that the bus goes on in the child.
        self._forker: int | None = None

    @property
    def _abroad(self) -> bool:
        """Whether this is a child that was forked from the process of the bus, which goes on there and not here."""
        return self._home is not None and self._home != os.getpid()

    def _check_home(self, *, asks: bool = False) -> None:
        """Raise RuntimeError in a child; `asks` is for what may be done there if the bus turns out to go on in it."""
        if self._abroad and not self._may_move_in(asks=asks):
            raise RuntimeError(
                f"the bus belongs to process {self._home}, and this is a child that was forked from it; "
                "make a bus of its own, or fork with bus.forking() to have it go on in the child"
            )

    def _goes_on_here(self) -> bool:
        """In a child, as it begins: whether it was forked to have the bus go on in it."""
        return self._forker == threading.get_ident()

    def _may_move_in(self, *, asks: bool) -> bool:
        """In a child: whether the bus may yet go on in it; mere channels go nowhere."""
        return False

    def _has_ended(self) -> bool:
        """Whether nothing follows but the end of the process; mere channels have no end."""
        return False

    def _move_in(self) -> None:
        """This process is the home from now on, and its signals are for the bus."""
        self._home = os.getpid()
        for ears in self._ears:
            ears.come_back()
