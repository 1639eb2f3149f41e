"""Who waits for which group to be on the disk (P1)."""

from __future__ import annotations

from typing import Any

from monsal.store.engine.operation import Waiting, deliver
from monsal.store.waiter import Waiter

__all__ = ["Promises"]


class Promises:
    """Callers whose operations were applied, each with its answer: of the open group, of the one that was sealed, and
    those who are being told that theirs is on the disk.

    Interrupted between any two instructions, nobody is forgotten; somebody may be in two lists, and is told once.
    """

    __slots__ = ("_answering", "_number", "_open", "_sealed")

    def __init__(self) -> None:
        self._open: Waiting = []
        self._sealed: Waiting = []
        self._answering: Waiting = []
        self._number = 0

    def __len__(self) -> int:
        """How many wait for the open group."""
        return len(self._open)

    def wait(self, waiter: Waiter, value: Any) -> None:
        """Tell a caller when the open group is on the disk."""
        self._open.append((waiter, value))

    def wait_for_sealed(self, waiter: Waiter, value: Any) -> None:
        """Tell a caller when the group that is being flushed is on the disk: its operation changed nothing since."""
        self._sealed.append((waiter, value))

    def seal(self, group: int) -> None:
        """The open group, which has this number, is to be flushed."""
        self._number = group
        self._sealed, self._open = self._open, []

    def keep(self) -> None:
        """The disk has the group that was sealed. Whoever is answered may bring more at once, for another flush."""
        self._answering, self._sealed = self._sealed, []
        self.answer()

    def answer(self) -> None:
        """Go on telling those whose group is on the disk, if an interrupt came meanwhile."""
        deliver(self._answering)

    def leave(self, group: int) -> list[tuple[int, Waiting]]:
        """All who wait, with the number of their group; that of the open one is given. Nobody waits here any more."""
        left = [(self._number, self._sealed), (group, self._open)]
        self._sealed, self._open = [], []
        return left
