"""The call that is being handled: in a handler, `current()` says whose it is, until when, and if it was given up."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from monsal.wire.events import Called
from monsal.wire.packets import Id

if TYPE_CHECKING:
    from monsal.rpc.bound import IncomingCall

__all__ = ["CallContext", "Source", "current"]


class Source(Protocol):
    """Whoever sent a call and waits for its answer: a `transport.Link`, or one sender of a classic transport."""

    name: str
    credentials: Any

    def answer(self, identifier: Id, result: Any) -> Any: ...
    def hold(self) -> Any: ...
    def release(self) -> Any: ...
    def refuse(self, identifier: Id, code: int, message: str, data: Any = None) -> Any: ...


class CallContext(msgspec.Struct, eq=False):
    """One call that came in.

    `cancelled` turns true when its caller has given it up, or its deadline has passed: a handler in a thread looks at
    it now and then, one that awaits is cancelled.
    """

    source: Source
    _called: Called
    call: IncomingCall | None
    _kwargs: dict[str, Any]
    cancelled: bool = False
    #: Whether its answer was given, or none is wanted any more.
    answered: bool = False
    #: Whether it takes the room of a call although it is none.
    held: bool = False
    #: Whether it runs beside the calls of its sender.
    aside: bool = False
    #: With what code it is answered when it was cancelled.
    code: int = 0
    #: Stops the handler; set while there is one that can be stopped.
    stop: Callable[[], object] | None = None

    def __repr__(self) -> str:
        return f"<call {self.method} of {self.sender}>"

    @property
    def sender(self) -> str:
        """The name of the sender."""
        return self.source.name

    @property
    def method(self) -> str:
        return self._called.method

    @property
    def id(self) -> Id:
        """The id under which it is answered; None also for one that is not answered: see `is_cast`."""
        return self._called.id

    @property
    def is_cast(self) -> bool:
        """Whether nobody waits for an answer."""
        return self._called.is_cast

    @property
    def kwargs(self) -> dict[str, Any]:
        """The arguments, by name."""
        return self._kwargs

    @property
    def secinfo(self) -> dict[str, Any]:
        """What security knows of the sender; empty if nothing."""
        return self._called.secinfo

    @property
    def deadline(self) -> float | None:
        """When it is too late, in the time of `time.monotonic`; None if the caller named no time."""
        return self._called.deadline

    @property
    def time_left(self) -> float | None:
        """Seconds until it is too late; None if the caller named no time."""
        return None if self.deadline is None else max(0.0, self.deadline - time.monotonic())

    @property
    def trace(self) -> str:
        """The W3C traceparent that came with it."""
        return self._called.meta.trace if self._called.meta else ""

    @property
    def key(self) -> str:
        """What makes a repetition of the call known as one, if its caller said so."""
        return self._called.meta.key if self._called.meta else ""


_current: ContextVar[CallContext] = ContextVar("monsal_rpc_call")


def current() -> CallContext:
    """The call that this code handles. Raises LookupError outside of a handler."""
    return _current.get()
