"""What the connections of an ingress have in common: whom they ask, what they count, whose turn it is."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Final, Protocol

from monsal.ingress.answers import Answer
from monsal.ingress.base import Intake
from monsal.ingress.gate import Gate
from monsal.ingress.limits import IngressSettings, MemoryBudget
from monsal.mail.envelope import Envelope
from monsal.smtp.replies import Reply
from monsal.smtp.settings import ServerSettings
from monsal.store.coming import Coming
from monsal.store.contract import Receipt
from monsal.store.waiter import Waiter

__all__: list[str] = []

#: Octets of large pieces, of all connections together, after which those who bring them rest.
_BURST: Final = 1024 * 1024
#: Seconds. The longest bounds what a busy machine takes from them: a megabyte in 5 ms and what it takes itself.
_SHORTEST_REST: Final = 0.001
_LONGEST_REST: Final = 0.005


class Counters:
    """What the connections of an ingress did, all together."""

    __slots__ = ("accepted", "failed", "received", "recipients_refused", "refused", "timed_out")

    def __init__(self) -> None:
        self.accepted = self.failed = self.refused = self.recipients_refused = self.received = self.timed_out = 0

    def note(self, answer: Answer) -> None:
        """Count what became of a mail."""
        if answer.receipt is not None:
            self.accepted += 1
        elif answer.failed:
            self.failed += 1
        else:
            self.refused += 1


class Turns:
    """Who sends much reads in turns, one connection per turn of the loop, and all of them with rests.

    Without turns libuv reads up to 32 times 256 kB from one connection before it looks at the next; with ten large
    mails a small one beside them took 400 ms. Without rests the loop is never idle while large mails come in: the
    scheduler then lets others go first, and each of the loop's turns that a small mail needs waits (p50 6.5 ms instead
    of 2.5). A rest is twice as long as what came before it took, so large mails have a third of the loop, however fast
    the machine is and whatever else it does (P7).
    """

    __slots__ = ("_began", "_brought", "_loop", "_now", "_planned", "_waiting")

    def __init__(self, loop: asyncio.AbstractEventLoop, now: Callable[[], float] = time.monotonic) -> None:
        """`now` is a clock in seconds; that of uvloop counts whole milliseconds, too coarse for this."""
        self._loop = loop
        self._now = now
        self._waiting: deque[Any] = deque()
        self._planned = False
        # Since the last rest: octets that were brought, and when the first of them came.
        self._brought = 0
        self._began = 0.0

    def wait(self, connection: Any, octets: int) -> None:
        """Have `connection.go_on()` called in its turn; it has just brought so many octets."""
        if not self._brought:
            self._began = self._now()
        self._brought += octets
        self._waiting.append(connection)
        if not self._planned:
            self._planned = True
            self._loop.call_soon(self._next)

    def _next(self) -> None:
        if self._brought >= _BURST:
            took = self._now() - self._began
            self._brought = 0
            self._loop.call_later(min(max(2 * took, _SHORTEST_REST), _LONGEST_REST), self._next)
            return
        try:
            self._waiting.popleft().go_on()
        finally:
            # If one fails, the others must not rest for ever.
            if self._waiting:
                self._loop.call_soon(self._next)
            else:
                self._planned = False


Begin = Callable[[Envelope, tuple[bytes, ...], Waiter], Receipt | Waiter | None]


class House(Protocol):
    """The ingress, as its connections see it."""

    intake: Intake
    #: `BeginsIntake.begin_accept` of an intake that has it.
    begin: Begin | None
    session: ServerSettings
    settings: IngressSettings
    gate: Gate
    budget: MemoryBudget
    counters: Counters
    coming: Coming
    stopping: bool
    loop: asyncio.AbstractEventLoop
    tasks: set[asyncio.Task[None] | None]
    #: Mails whose answer is awaited without a task.
    pending: set[Any]
    turns: Turns

    def admit(self, connection: Any, address: object) -> Reply | None:
        """Count a new connection; the reply that turns it away, or None."""
        ...

    def rename(self, connection: Any, address: object) -> Reply | None:
        """A connection speaks for another address; the reply that turns it away, or None."""
        ...

    def settle(self, handover: Any, octets: int) -> None:
        """A mail of so many octets is answered or given up."""
        ...

    def leave(self, connection: Any) -> None:
        """A connection is gone."""
        ...
