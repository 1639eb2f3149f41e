"""Links for code that blocks: one event loop in a thread of its own, made when it is first needed.

    link = run(connect("unix:run/api.sock"))
    run(link.call("status"))                # from any thread

All blocking callers of a process share that loop; links made by `run` belong to it. Handlers of its links run there,
too, and must not call `run`: they would wait for themselves.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from typing import Any, Final, TypeVar

from monsal.loops import new_loop

__all__ = ["LoopThread", "background", "run"]

T = TypeVar("T")


class LoopThread:
    """An event loop in a daemon thread; `close` ends both."""

    def __init__(self, name: str = "monsal-links") -> None:
        self.loop = new_loop()
        #: The process that has the thread: a forked child has a copy of the loop, and nothing that runs it.
        self.pid = os.getpid()
        self._thread = threading.Thread(target=self._main, name=name, daemon=True)
        self._thread.start()

    def _main(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()

    @property
    def is_here(self) -> bool:
        """Whether this is the thread of the loop."""
        return threading.current_thread() is self._thread

    def submit(self, coroutine: Coroutine[Any, Any, T]) -> Future[T]:
        """Have `coroutine` run there, and do not wait."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop)

    def run(self, coroutine: Coroutine[Any, Any, T], timeout: float | None = None) -> T:
        """The result of `coroutine`, run there; it is cancelled if it takes longer than `timeout` seconds.

        Raises what it raises, TimeoutError when the time is up, RuntimeError on the thread of the loop itself.
        """
        if self.is_here:
            coroutine.close()
            raise RuntimeError("this is the thread that runs the links: await the call here, or make it elsewhere")
        future = self.submit(coroutine)
        try:
            return future.result(timeout)
        except BaseException:
            # Also when the wait was interrupted: nothing goes on behind the back of whoever gave up.
            future.cancel()
            raise

    def close(self) -> None:
        """Cancel what runs, end the loop and its thread. Not from that thread."""
        if not self.loop.is_closed() and self.pid == os.getpid():
            self.run(_cancel_all())
            self.loop.call_soon_threadsafe(self.loop.stop)
            self._thread.join()
            self.loop.close()


async def _cancel_all() -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await asyncio.get_running_loop().shutdown_asyncgens()


_shared: Final[list[LoopThread]] = []
_making = threading.Lock()


def background() -> LoopThread:
    """The loop that all blocking callers of this process share; made at the first call, anew in a forked child."""
    with _making:
        if not _shared or _shared[-1].pid != os.getpid() or _shared[-1].loop.is_closed():
            # One from before a fork is kept: to free it would take the parent's sockets out of the parent's loop.
            _shared.append(LoopThread())
        return _shared[-1]


def run(coroutine: Coroutine[Any, Any, T], timeout: float | None = None) -> T:
    """The result of `coroutine`, run on the shared loop; see `LoopThread.run`."""
    return background().run(coroutine, timeout)
