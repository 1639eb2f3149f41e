"""Tells those who wait that there may be more for them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

__all__ = ["Bell"]


class Bell:
    """Callbacks that are called once at the end of a turn of the loop, however often it was rung in it."""

    def __init__(self) -> None:
        self.listeners: list[Callable[[], None]] = []
        self._is_rung = False

    def ring(self, loop: asyncio.AbstractEventLoop) -> None:
        if self.listeners and not self._is_rung:
            self._is_rung = True
            loop.call_soon(self._call)

    def forget(self) -> None:
        """It was not rung, as far as is known: the loop that was to call may be gone."""
        self._is_rung = False

    def _call(self) -> None:
        self._is_rung = False
        for listener in self.listeners:
            listener()
