"""The event loop: which one it is, and coroutines whose first steps are made outside of their task."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Generator
from types import coroutine
from typing import Any

__all__ = ["go_on", "new_loop"]


def new_loop() -> asyncio.AbstractEventLoop:
    """uvloop's, which needs half the processor time of asyncio's; that of asyncio where it is not installed."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


@coroutine
def go_on(work: Coroutine[Any, Any, Any], pending: Any) -> Generator[Any, Any, Any]:
    """Await the rest of a coroutine that was begun by `send(None)` and waits for `pending`, which that gave.

    Gives what the coroutine returns, and raises what it raises; cancellation reaches it as if it had been awaited from
    its first step on.
    """
    step: Callable[[Any], Any]
    value: Any
    while True:
        try:
            value = yield pending
            step = work.send
        except GeneratorExit:
            work.close()
            raise
        except BaseException as error:  # noqa: BLE001 - it is for the coroutine to judge
            value, step = error, work.throw
        try:
            pending = step(value)
        except StopIteration as end:
            return end.value
