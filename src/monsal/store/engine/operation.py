"""One call of the store, and how it is done."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import apsw
import msgspec

from monsal.errors import StatementError, StoreUnavailable
from monsal.store.engine.data import Data
from monsal.store.waiter import Waiter

__all__ = [
    "APPLIED",
    "ASIDE",
    "ASIDE_DURABLE",
    "DURABLE",
    "LIGHT",
    "LIGHT_DURABLE",
    "How",
    "InDoubt",
    "Operation",
    "Undo",
    "Waiting",
    "as_ours",
    "deliver",
    "fail",
    "refuse",
    "unattended",
]

Undo = Callable[[Data, Any], None]


class How(msgspec.Struct, frozen=True):
    """`durable`: it answers when it is on the disk. `aside`: it may take long and is done on the thread. `light`: it
    may be tried while a group is being flushed; it raises Occupied, before it has changed anything, if it cannot be
    done without the connection then."""

    durable: bool
    aside: bool
    light: bool = False


APPLIED = How(durable=False, aside=False)
DURABLE = How(durable=True, aside=False)
LIGHT = How(durable=False, aside=False, light=True)
LIGHT_DURABLE = How(durable=True, aside=False, light=True)
ASIDE = How(durable=False, aside=True)
ASIDE_DURABLE = How(durable=True, aside=True)


class InDoubt(StoreUnavailable):
    """What was applied could not be flushed, and could not be read back either: it may turn up on the disk later."""


class Operation(msgspec.Struct, eq=False):
    """A call that waits for the store. `undo` is done if its caller has gone when the answer is there."""

    how: How
    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    waiter: Waiter
    undo: Undo | None = None


def as_ours(error: Exception) -> Exception:
    """An error of an operation alone, as its caller is to see it."""
    return StatementError(str(error)) if isinstance(error, apsw.Error) else error


#: Callers whose operations were applied and are to be durable, each with its answer.
Waiting = list[tuple[Waiter, Any]]


def deliver(waiting: Waiting) -> None:
    """Give callers their answers, as far as they still wait. Whoever interrupts this finds the others in the list."""
    waiting.reverse()
    while waiting:
        first = waiting[-1]
        waiter, value = first
        if not waiter.done():
            waiter.set_result(value)
        # Whoever was told may have broken the store, and the recovery have told the rest.
        if waiting and waiting[-1] is first:
            waiting.pop()


def fail(waiting: Waiting, error: Exception) -> None:
    """Give callers an error instead."""
    for waiter, _ in waiting:
        refuse(waiter, error)


def refuse(waiter: Waiter, error: BaseException) -> None:
    """Give a caller an error, if it still waits. An interrupt is not its own: it hears that its operation had one."""
    if not waiter.done():
        waiter.set_exception(error if isinstance(error, Exception) else InDoubt(f"interrupted by {error!r}"))


def unattended(loop: asyncio.AbstractEventLoop) -> asyncio.Future[Any]:
    """What waits for an operation whose answer nobody wants."""
    waiter: asyncio.Future[Any] = loop.create_future()
    waiter.add_done_callback(lambda done: done.cancelled() or done.exception())
    return waiter
