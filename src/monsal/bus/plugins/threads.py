"""Numbers for the threads of a server, so that others can set up and clear away what belongs to one thread."""

from __future__ import annotations

import threading
from itertools import count

from monsal.bus.channels import ChannelFailures
from monsal.bus.core import Bus
from monsal.bus.plugins.simple import SimplePlugin

__all__ = ["ThreadManager"]


class _Held:
    """What is known of a thread that has a number."""

    __slots__ = ("number", "starting", "thread", "unwanted")

    def __init__(self, thread: threading.Thread, number: int) -> None:
        self.thread = thread
        self.number = number
        #: Whether `start_thread` is being published; a release meanwhile is left to the thread itself, for after that.
        self.starting = True
        self.unwanted = False


class ThreadManager(SimplePlugin):
    """Numbers threads from 1. A server publishes `acquire_thread` on each of its threads, at the end `release_thread`.

    The first acquire of a thread publishes `start_thread(number)` there, the release `stop_thread(number)`. When the
    bus stops or reloads, all threads are released; one that goes on working is given a new number at its next acquire.
    A number is given again only after its `stop_thread` is done, the smallest free one first (C14).
    """

    def __init__(self, bus: Bus) -> None:
        super().__init__(bus)
        #: Identity of a thread -> its number.
        self.threads: dict[int, int] = {}
        self._held: dict[int, _Held] = {}
        self._leaving: set[int] = set()
        self._lock = threading.Lock()
        for channel in ("acquire_thread", "release_thread", "start_thread", "stop_thread"):
            bus.listeners.setdefault(channel, set())

    def acquire_thread(self) -> None:
        """Give the current thread a number, if it has none, and publish `start_thread`.

        If a listener of that fails the thread keeps its number; ChannelFailures is raised.
        """
        thread, ident = threading.current_thread(), threading.get_ident()
        held = self._held.get(ident)
        if held is not None:
            if held.thread is thread:
                return
            # That one ended without a release, and the system has given its identity to this thread.
            self._release(ident)
        with self._lock:
            taken = self._leaving.union(self.threads.values())
            number = next(number for number in count(1) if number not in taken)
            self.threads[ident] = number
            held = self._held[ident] = _Held(thread, number)
        try:
            self.bus.publish("start_thread", number)
        finally:
            with self._lock:
                held.starting = False
            if held.unwanted:
                self._release(ident)

    def release_thread(self) -> None:
        """Take the number from the current thread, if it has one, and publish `stop_thread`."""
        self._release(threading.get_ident())

    def _release(self, ident: int) -> None:
        with self._lock:
            held = self._held.get(ident)
            if held is None:
                return
            if held.starting:
                held.unwanted = True
                return
            del self._held[ident], self.threads[ident]
            self._leaving.add(held.number)
        try:
            self.bus.publish("stop_thread", held.number)
        finally:
            with self._lock:
                self._leaving.discard(held.number)

    def stop(self) -> None:
        """Release all threads; one that is just being started releases itself right after that.

        Raises ChannelFailures at the end if listeners of `stop_thread` failed.
        """
        failed: list[ChannelFailures] = []
        for ident in tuple(self.threads):
            try:
                self._release(ident)
            except ChannelFailures as failures:
                failed.append(failures)
        if failed:
            raise ChannelFailures(
                "listeners of 'stop_thread' failed",
                [error for failures in failed for error in failures.exceptions],
                [result for failures in failed for result in failures.results],
            )

    graceful = stop
