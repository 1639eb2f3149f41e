"""A thread that asks the bus to stop and calls the listeners itself, while a thread of the bus watches over the time.

In the original design listeners of `stop` and `exit` run on the thread that asks, and many look which one that is: a
pool joins all of its threads but the current one, a monitor does not join itself. Anywhere else such a listener would
wait for the thread that waits for it.
"""

from __future__ import annotations

from collections.abc import Callable
from queue import SimpleQueue
from threading import Thread, current_thread

from monsal.bus.inner.waiting import spawn

__all__ = ["Lent"]


class Lent:
    """The thread that makes this, at the service of another one, which conducts the bus by `conduct`.

    `lend` is for the thread that is lent, `call` and `give_up` for the one it is lent to.
    """

    __slots__ = ("_conduct", "_given_up", "_lent_to", "_outcome", "_thread", "_work")

    def __init__(self, conduct: Callable[[], BaseException | None]) -> None:
        self._conduct = conduct
        self._work: SimpleQueue[Callable[[], object] | None] = SimpleQueue()
        self._thread = current_thread()
        self._lent_to: Thread | None = None
        self._given_up = False
        self._outcome: BaseException | None = None

    def lend(self) -> BaseException | None:
        """Have another thread conduct and do what it says; what `conduct` returned. Without threads conduct here."""
        if spawn("monsal-bus-conduct", self._lead) is None:
            return self._conduct()
        while (work := self._work.get()) is not None:
            work()
        return self._outcome

    def _lead(self) -> None:
        self._lent_to = current_thread()
        try:
            self._outcome = self._conduct()
        finally:
            self._work.put(None)

    def call(self, work: Callable[[], object]) -> bool:
        """Have `work` done by the thread that is lent; False if it is not lent to the caller, or was given up.

        The bus may be conducted by another thread already, before the one that is lent has noticed.
        """
        if self._lent_to is not current_thread() or self._given_up:
            return False
        self._work.put(work)
        return True

    def give_up(self) -> None:
        """It hangs: ask nothing more of it, and do not wait for it."""
        self._given_up = True

    def linger(self, seconds: float) -> None:
        """Wait that long for the end of the thread that was lent. What it does when it comes back is its own affair."""
        if not (self._given_up or self._thread is current_thread()):
            self._thread.join(seconds)
