"""What the connections of an ingress have in common: whom they ask, what they count, whose turn it is."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any, Protocol

from monsal.ingress.answers import Answer
from monsal.ingress.base import Intake
from monsal.ingress.gate import Gate
from monsal.ingress.limits import IngressSettings, MemoryBudget
from monsal.smtp.replies import Reply
from monsal.smtp.settings import ServerSettings

__all__: list[str] = []


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
    """Who sends much reads in turns, one connection per turn of the loop.

    Without it libuv reads up to 32 times 256 kB from one connection before it looks at the next; with ten large
    mails a small one beside them took 400 ms, with it 1.5 ms (P7).
    """

    __slots__ = ("_loop", "_waiting")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: deque[Any] = deque()

    def wait(self, connection: Any) -> None:
        """Have `connection.go_on()` called in its turn."""
        if not self._waiting:
            self._loop.call_soon(self._next)
        self._waiting.append(connection)

    def _next(self) -> None:
        self._waiting.popleft().go_on()
        if self._waiting:
            self._loop.call_soon(self._next)


class House(Protocol):
    """The ingress, as its connections see it."""

    intake: Intake
    session: ServerSettings
    settings: IngressSettings
    gate: Gate
    budget: MemoryBudget
    counters: Counters
    stopping: bool
    loop: asyncio.AbstractEventLoop
    tasks: set[asyncio.Task[None] | None]
    turns: Turns

    def admit(self, connection: Any, address: object) -> Reply | None:
        """Count a new connection; the reply that turns it away, or None."""
        ...

    def rename(self, connection: Any, address: object) -> Reply | None:
        """A connection speaks for another address; the reply that turns it away, or None."""
        ...

    def leave(self, connection: Any) -> None:
        """A connection is gone."""
        ...
