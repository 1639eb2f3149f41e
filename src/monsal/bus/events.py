"""The life of the bus as data: a ring of what happened, how long it took and why (B17)."""

from __future__ import annotations

import time
from collections import deque
from typing import Any, Literal, NamedTuple

from monsal.bus.inner.outcomes import attribute_of, text_of

__all__ = ["BusStatistics", "Event", "History"]

#: Events that are kept; a start and a stop of fifty listeners each fit twice.
KEPT = 256

Kind = Literal["phase", "call", "unit", "log"]


class Event(NamedTuple):
    """One thing that happened.

    `kind` is "phase" (`name` is the phase that ended, `cause` who asked for the next), "call" (`name` is the listener,
    `channel` its channel, `cause` its failure), "unit" (the same of a unit; on channel "failed": it broke while it
    ran) or "log" (a log listener failed, which cannot be logged).
    `at` is when it ended, in seconds since 1970 UTC; `seconds` is how long it took.
    """

    at: float
    kind: Kind
    name: str
    channel: str = ""
    seconds: float = 0.0
    cause: str = ""


class BusStatistics(NamedTuple):
    """What a bus says about itself: where it stands, for how long, its listeners by channel, its last events."""

    state: str
    phase: str
    seconds: float
    listeners: dict[str, int]
    running: str
    events: tuple[Event, ...]


class History:
    """The last events, oldest first. Every method may be called from every thread."""

    __slots__ = ("_events",)

    def __init__(self) -> None:
        self._events: deque[Event] = deque(maxlen=KEPT)

    def add(self, kind: Kind, name: str, *, channel: str = "", seconds: float = 0.0, cause: str) -> Event:
        """Keep one event that has just ended."""
        event = Event(time.time(), kind, name, channel, seconds, cause)
        self._events.append(event)
        return event

    def last(self) -> tuple[Event, ...]:
        """The events that are kept."""
        return tuple(self._events.copy())

    @staticmethod
    def name_of(listener: Any) -> str:
        """A listener as a reader knows it: module and name, or its own text."""
        name, module = attribute_of(listener, "__qualname__"), attribute_of(listener, "__module__")
        return f"{module}.{name}" if name and module else text_of(listener)
