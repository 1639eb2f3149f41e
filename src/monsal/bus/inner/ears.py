"""The signals of the process that one `SignalHandler` took, and how they are given back."""

from __future__ import annotations

import signal
from collections.abc import Callable
from types import FrameType
from typing import Any, Protocol

from monsal.bus.inner.held import let_go
from monsal.bus.inner.waiting import Lobby

__all__ = ["Ears", "Host"]


class Host(Protocol):
    """What ears need of their bus."""

    _lobby: Lobby
    _ears: list[Ears]


class Ears:
    """Takes signals for a bus: `on_signal` is their handler. All methods are for the main thread."""

    def __init__(self, bus: Host, on_signal: Callable[[int, FrameType | None], None]) -> None:
        self._bus = bus
        self._on_signal = on_signal
        #: Number -> what was there before.
        self._former: dict[int, Any] = {}
        self._former_wakeup: int | None = None

    @property
    def numbers(self) -> frozenset[int]:
        """What is listened to now."""
        return frozenset(self._former)

    def take(self, number: int) -> None:
        """Listen to a signal; one that the image before has held back comes now. Raises OSError, ValueError."""
        former = signal.signal(number, self._on_signal)
        if self._former_wakeup is None:
            doorbell = self._bus._lobby.main_desk.doorbell()
            self._former_wakeup = signal.set_wakeup_fd(doorbell, warn_on_full_buffer=False)
        # Taken twice, the handler of the first time is the one to be put back.
        self._former.setdefault(number, former)
        if self not in self._bus._ears:
            self._bus._ears.append(self)
        let_go({number})

    def give_back(self, number: int) -> None:
        """Put back what was there before. Raises ValueError if this is not the main thread."""
        former = self._former[number]
        # None is a handler that was not installed from Python: it cannot be put back, so the default is.
        signal.signal(number, signal.SIG_DFL if former is None else former)
        del self._former[number]

    def close(self) -> None:
        """After all were given back: have signals ring where they rang before."""
        if self._former_wakeup is not None:
            signal.set_wakeup_fd(self._former_wakeup)
            self._former_wakeup = None
        if self in self._bus._ears:
            self._bus._ears.remove(self)
