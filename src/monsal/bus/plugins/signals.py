"""Signals of the operating system, as calls of the bus.

The handlers only enqueue (B9): the work is done by the bus, on the main thread while that waits in `block`, so a
listener may take any lock that the interrupted code holds.
"""

from __future__ import annotations

import os
import signal as _signal
import threading
from collections.abc import Callable
from functools import partial
from types import FrameType
from typing import Any

from monsal.bus.channels import ChannelFailures
from monsal.bus.core import Bus
from monsal.bus.inner.daemon import is_daemon
from monsal.bus.inner.ears import Ears

__all__ = ["SignalHandler"]

#: With this many signals that ask for the exit the shutdown is hurried; with one more the process ends at once.
HURRY_AT = 2


class SignalHandler:
    """Listens for signals: SIGTERM and SIGINT exit, SIGUSR1 reloads what can be, SIGHUP see `handle_SIGHUP`.

    A signal is logged and published on the channel of its name, so others may subscribe to it. A second SIGTERM or
    SIGINT sets `bus.hurry`; a third one ends the process at once, by that signal. When `bus.block()` has nothing left
    to wait for, those of `handlers` are ignored until the process has ended, unless `unsubscribe` is called. Make and
    subscribe it on the main thread, before `bus.start()`. When another program owns the process leave it out: the bus
    alone touches no signal.
    """

    #: Number -> name of all signals of this system.
    signals: dict[int, str]

    def __init__(self, bus: Bus) -> None:
        self.bus = bus
        self.signals = {int(number): number.name for number in _signal.valid_signals() if hasattr(number, "name")}
        #: Name -> what `subscribe` has listen to it; change it before that.
        self.handlers: dict[str, Callable[..., Any]] = {
            "SIGTERM": bus.exit,
            "SIGINT": bus.exit,
            "SIGHUP": self.handle_SIGHUP,
            "SIGUSR1": bus.graceful,
        }
        self._ears = Ears(bus, self._on_signal, self._forget)
        self._listeners: dict[int, Callable[..., Any]] = {}
        self._asked_to_exit = 0
        #: Those that have come and are not told yet; those whose listeners run; those that came again meanwhile.
        self._untold: set[int] = set()
        self._running: set[int] = set()
        self._again: set[int] = set()
        self._lock = threading.Lock()
        self._made_in = os.getpid()
        self._on_terminal = _on_terminal()

    def subscribe(self) -> None:
        """Listen for all of `handlers`; what this system does not know is left out."""
        if threading.current_thread() is not threading.main_thread():
            self.bus.log("Signals are left alone: only the main thread can listen for them.", 30)
            return
        for name, listener in self.handlers.items():
            try:
                self.set_handler(name, listener)
            except ValueError:
                self.bus.log(f"This system has no {name}.", 30)

    def unsubscribe(self) -> None:
        """Put back what was there before, and forget the listeners; on the main thread."""
        for number, listener in self._listeners.items():
            self.bus.unsubscribe(self.signals[number], listener)
        self._listeners.clear()
        if threading.current_thread() is not threading.main_thread():
            if self._ears.numbers:
                self.bus.log("Cannot restore the former handlers of signals: not on the main thread.", 40)
            return
        for number in sorted(self._ears.numbers):
            self._ears.give_back(number)
            self.bus.log(f"Restored the former handler of {self.signals[number]}.")
        self._ears.close()

    def set_handler(self, signal: str | int, listener: Callable[..., Any] | None = None) -> None:
        """Listen for a signal, by name or number, and have `listener` subscribed to the channel of its name.

        Raises ValueError if there is no such signal, or if it cannot be caught.
        """
        number = _signal.Signals.__members__.get(signal) if isinstance(signal, str) else signal
        if number is None or number not in self.signals:
            raise ValueError(f"No such signal: {signal!r}")
        name = self.signals[number]
        if listener is not None:
            # Before it can come, which is at once after a restart; so this is undone if it cannot.
            self._listeners[number] = listener
            self.bus.log(f"Listening for {name}.")
            self.bus.subscribe(name, listener)
        try:
            self._ears.take(number, until_end=name in self.handlers)
        except (OSError, ValueError) as error:
            if listener is not None:
                del self._listeners[number]
                self.bus.unsubscribe(name, listener)
            raise ValueError(f"{name} cannot be caught: {error}") from error

    def handle_SIGHUP(self) -> None:
        """Restart a daemon; exit if the terminal went away; else, in a container or under systemd, reload (B15)."""
        if os.getpid() != self._made_in or is_daemon():
            self.bus.log("SIGHUP caught while daemonized. Restarting.")
            self.bus.restart()
        elif self._on_terminal:
            self.bus.log("SIGHUP caught on a terminal. Exiting.")
            self.bus.exit()
        else:
            self.bus.log("SIGHUP caught without a terminal. Reloading.")
            self.bus.graceful()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        """The handler itself, between two instructions of the main thread: it takes no lock and calls no listener."""
        if self._ears.elsewhere(number):
            return
        if self._exits(number):
            if not self._asked_to_exit and self.bus.leaving and not self.bus.execv:
                # The first to ask was not a signal. A signal during a restart asks for something else, the exit.
                self._asked_to_exit = 1
            self._asked_to_exit += 1
            if self.bus.leaving:
                # As `exit` does, which is called on another thread, perhaps when the process is replaced already.
                self.bus.execv = False
            if self._asked_to_exit > HURRY_AT:
                _signal.signal(number, _signal.SIG_DFL)
                _signal.raise_signal(number)
                # The first process of a container is not ended by a signal that it does not handle (man 7
                # pid_namespaces, kill(2)), but it is by a fault, which this ends in.
                os.abort()
        elif number in self._untold:
            # As in the system itself: one that comes again before it was heard is one.
            return
        self._untold.add(number)
        self.bus.call_soon(partial(self._work, number, self._asked_to_exit))

    def _exits(self, number: int) -> bool:
        return self._listeners.get(number) == self.bus.exit

    def _work(self, number: int, asked_to_exit: int) -> None:
        self._untold.discard(number)
        self.bus._note_signal()
        self.bus.log(f"Caught signal {self.signals[number]}.")
        if self._exits(number):
            # The second one hurries the first, so it cannot wait for that; and there are no more than these.
            if asked_to_exit >= HURRY_AT:
                self.bus.log("Asked to exit again: the shutdown is hurried.", 30)
                self.bus.hurry.set()
            self._publish(number)
            return
        with self._lock:
            if number in self._running:
                # A storm of signals must not become a storm of threads; it is told once more when that one is done.
                self._again.add(number)
                return
            self._running.add(number)
        try:
            while self._has_come_again(number):
                continue
        except BaseException:
            with self._lock:
                self._running.discard(number)
                self._again.discard(number)
            raise

    def _has_come_again(self, number: int) -> bool:
        """Tell of a signal; whether it came again meanwhile."""
        self._publish(number)
        with self._lock:
            again = number in self._again
            self._again.discard(number)
            if not again:
                self._running.discard(number)
            return again

    def _forget(self) -> None:
        """In a forked child: whoever told of signals does so in the parent."""
        self._lock = threading.Lock()
        for told in (self._untold, self._running, self._again):
            told.clear()

    def _publish(self, number: int) -> None:
        name = self.signals[number]
        try:
            self.bus.publish(name)
        except ChannelFailures as failures:
            # Each was logged as it failed; those of the exit are raised by `block`.
            self.bus.history.add("log", "a listener failed", channel=name, cause=str(failures))


def _on_terminal() -> bool:
    """Whether any standard stream is a terminal now; after a hangup that cannot be found out any more."""
    return any(map(os.isatty, (0, 1, 2)))
