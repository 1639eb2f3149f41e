"""The owner loop: where `async def` listeners run (B5).

An application that has a loop in a thread of its own gives it with `Bus.attach_loop`; otherwise the bus makes one when
the first coroutine comes. This module is loaded only then, because it loads asyncio.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from queue import SimpleQueue
from threading import Thread
from typing import Any

from monsal.bus.inner.outcomes import Ended

__all__ = ["OwnLoop", "runs_here", "submit"]


class OwnLoop:
    """A loop in a daemon thread, made by the bus for itself."""

    def __init__(self) -> None:
        self._ready: SimpleQueue[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = SimpleQueue()
        self._thread = Thread(target=lambda: asyncio.run(self._live()), name="monsal-bus-loop", daemon=True)
        self._thread.start()
        self.loop, self._ended = self._ready.get()

    async def _live(self) -> None:
        ended = asyncio.Event()
        self._ready.put((asyncio.get_running_loop(), ended))
        await ended.wait()

    def close(self) -> None:
        """End the loop; tasks that still run are cancelled by it."""
        self.loop.call_soon_threadsafe(self._ended.set)

    def join(self) -> None:
        """Wait until the thread has ended, after `close`."""
        self._thread.join()


def runs_here(loop: asyncio.AbstractEventLoop) -> bool:
    """Whether the caller is on that loop."""
    try:
        return asyncio.get_running_loop() is loop
    except RuntimeError:
        return False


def submit(
    coroutine: Coroutine[Any, Any, Any], loop: asyncio.AbstractEventLoop, began: Callable[[], object] | None
) -> Future[Any]:
    """Run `coroutine` on `loop`, calling `began` there before it begins; the future is waited for by another thread.

    Raises RuntimeError if the loop does not run, or if the caller is on it and would wait for itself.
    """
    if runs_here(loop):
        coroutine.close()
        raise RuntimeError("an async listener waits for its own loop; publish with await asyncio.to_thread(...)")
    if not loop.is_running():
        coroutine.close()
        raise RuntimeError("the loop for async listeners does not run; attach one that does with attach_loop()")

    async def carried() -> Any:
        if began is not None:
            began()
        try:
            return await coroutine
        except (KeyboardInterrupt, SystemExit) as error:
            # It is meant for who publishes (R6); a task that raises it ends the loop, which others need.
            raise Ended(error) from None

    return asyncio.run_coroutine_threadsafe(carried(), loop)
