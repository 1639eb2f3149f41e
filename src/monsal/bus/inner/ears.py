"""The signals of the process that one `SignalHandler` took, and how they are given back: also in a forked child.

A child inherits the handlers, and the pipe where signals ring. Left as they are, SIGTERM to a worker of
`multiprocessing` would be swallowed, or even have the child run its parent's stop listeners. So they are given back in
every child, before a signal can come there; unless the bus goes on in it, see `Bus.forking`.
"""

from __future__ import annotations

import atexit
import os
import signal
from collections.abc import Callable
from threading import current_thread, get_ident, main_thread
from types import FrameType
from typing import Any, Final, Protocol
from weakref import WeakValueDictionary

from monsal.bus.inner.held import let_go
from monsal.bus.inner.waiting import Lobby

__all__ = ["Ears", "Host"]


class Host(Protocol):
    """What ears need of their bus."""

    _lobby: Lobby
    _ears: list[Ears]

    def _goes_on_here(self) -> bool: ...

    def _has_ended(self) -> bool: ...


#: All that ever took signals, in the order in which they were made, while they live.
_all: Final[WeakValueDictionary[int, Ears]] = WeakValueDictionary()
#: Thread -> its mask before the fork that it is about to make.
_masks: Final[dict[int, set[int]]] = {}
_hooks: Final[list[bool]] = []


class Ears:
    """Takes signals for a bus: `on_signal` is their handler. All methods are for the main thread.

    `forget` is called in each forked child.
    """

    def __init__(
        self, bus: Host, on_signal: Callable[[int, FrameType | None], None], forget: Callable[[], None]
    ) -> None:
        self._bus = bus
        self._on_signal = on_signal
        self._forget = forget
        #: Number -> what was there before.
        self._former: dict[int, Any] = {}
        self._former_wakeup: int | None = None
        #: Those that ask for what is done when the bus has exited.
        self._until_end: set[int] = set()
        #: Of what process they are.
        self._pid = os.getpid()
        #: What was given back because this is a forked child; the bus may be started here yet.
        self._resting: frozenset[int] = frozenset()

    @property
    def numbers(self) -> frozenset[int]:
        """What is listened to now."""
        return frozenset(self._former)

    def take(self, number: int, *, until_end: bool) -> None:
        """Listen to a signal; one that the image before has held back comes now. Raises OSError, ValueError.

        With `until_end` it is ignored when nothing follows but the end of the process.
        """
        self._mind_forks()
        former = signal.signal(number, self._on_signal)
        if self._former_wakeup is None:
            doorbell = self._bus._lobby.main_desk.doorbell()
            self._former_wakeup = signal.set_wakeup_fd(doorbell, warn_on_full_buffer=False)
            atexit.register(self._rest_at_end)
        # Taken twice, the handler of the first time is the one to be put back.
        self._former.setdefault(number, former)
        if until_end:
            self._until_end.add(number)
        if self not in self._bus._ears:
            self._bus._ears.append(self)
        self._pid = os.getpid()
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
        atexit.unregister(self._rest_at_end)
        if self in self._bus._ears:
            self._bus._ears.remove(self)

    # The end

    def rest(self) -> None:
        """Ignore what asks for the exit or a reload, from now on.

        A handler would not do: the interpreter takes it away before it ends, and then the signal is deadly, so that the
        exit code after a complete stop would be that of a failure.
        """
        if self._pid != os.getpid() or current_thread() is not main_thread():
            return
        numbers = self._until_end & self.numbers
        # One that has come is handled before; or it would be told as an error that it has no handler any more.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
        try:
            for number in numbers:
                signal.signal(number, signal.SIG_IGN)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)

    def _rest_at_end(self) -> None:
        """At the end of the interpreter, when no thread is left to wait for."""
        if self._bus._has_ended():
            self.rest()

    # Forks

    def _mind_forks(self) -> None:
        if not _hooks:
            # Not by an import (P9), and once: there is no way to take it back.
            _hooks.append(True)
            os.register_at_fork(before=_hold, after_in_parent=_let_go_again, after_in_child=_settle_child)
        if self not in _all.values():
            _all[max(_all, default=0) + 1] = self

    def elsewhere(self, number: int) -> bool:
        """Whether this is a child that nobody has told so; then the signal is left to whoever had it before."""
        if self._pid == os.getpid():
            return False
        former = self._former.get(number)
        signal.signal(number, signal.SIG_DFL if former is None else former)
        signal.raise_signal(number)
        return True

    def in_child(self) -> None:
        """In the child of a fork: give all back, if the bus does not go on there."""
        self._forget()
        goes_on = self._bus._goes_on_here()
        self._bus._lobby.main_desk.forked(goes_on=goes_on)
        if goes_on:
            self._pid = os.getpid()
        elif self._former:
            self._resting = self.numbers
            atexit.unregister(self._rest_at_end)
            signal.set_wakeup_fd(-1)
            self._former_wakeup = None
            for number in self._resting:
                self.give_back(number)

    def come_back(self) -> None:
        """The bus is started in this child, so it shall have its signals."""
        resting, self._resting = self._resting, frozenset()
        if current_thread() is main_thread():
            for number in resting:
                self.take(number, until_end=number in self._until_end)


def _hold() -> None:
    """Before a fork: a signal for the child waits until it is settled there."""
    numbers = {number for ears in list(_all.values()) for number in ears.numbers}
    if numbers:
        _masks[get_ident()] = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)


def _let_go_again() -> None:
    mask = _masks.pop(get_ident(), None)
    if mask is not None:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _settle_child() -> None:
    # The last one first: it may have taken what another one had.
    for _, ears in sorted(_all.items(), reverse=True):
        ears.in_child()
    _let_go_again()
    _masks.clear()
