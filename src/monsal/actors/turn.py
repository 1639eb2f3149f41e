"""One message on its way through an actor, and which one this code belongs to."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, Protocol

from monsal.actors.commands import Command
from monsal.wire.packets import Fault, Id

__all__ = ["Source", "Turn", "current_turn"]


class Source(Protocol):
    """Where the answer of a turn goes: a `transport.Link`, or an asker in this process."""

    def answer(self, identifier: Id, result: Any) -> Fault | None: ...
    def refuse(self, identifier: Id, code: int, message: str, data: Any = None) -> Fault | None: ...


class Turn:
    """One message, from the moment it is taken in until it is answered."""

    __slots__ = (
        "answered",
        "asks",
        "body",
        "cancelled",
        "chain",
        "command",
        "deadline",
        "id",
        "is_open",
        "key",
        "sender",
        "slot",
        "source",
        "station",
        "stop",
        "ticket",
        "trace",
    )

    def __init__(
        self, station: Any, command: Command, source: Source | None, identifier: Id, *, sender: str, key: str, body: Any
    ) -> None:
        self.station = station
        self.command = command
        self.source = source
        self.id = identifier
        self.sender = sender
        self.key = key
        self.body = body
        #: In the time of the loop; None if the asker waits for ever.
        self.deadline: float | None = None
        #: The turns that wait for this one, as actor, key, actor, key and so on.
        self.chain: tuple[str, ...] = ()
        self.trace = ""
        self.answered = source is None
        #: Whether it is among those that can be given up.
        self.is_open = False
        #: The code with which it was given up; 0 if it was not.
        self.cancelled = 0
        self.slot = self.ticket = -1
        #: The asks of its own that it waits for, with whom they ask and under which key.
        self.asks: dict[asyncio.Future[Any], tuple[str, str]] = {}
        self.stop: Callable[[], object] | None = None

    @property
    def time_left(self) -> float | None:
        """Seconds until the asker gives up; None if it never does."""
        return None if self.deadline is None else max(0.0, self.deadline - time.monotonic())


#: The turn that this code is part of; ambient state of the actors' room, and its only one but for `here`.
current_turn: ContextVar[Turn | None] = ContextVar("monsal_actor_turn", default=None)
