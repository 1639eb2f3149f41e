"""Actors in a thread of this process, with a loop of their own: for what waits a lot and need not be safe from itself.

A thread cannot be killed: one that does not stop is left behind, and told of as ended by force.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import sys
import threading
import traceback
from typing import Any, Final

from monsal.actors.life import Life
from monsal.actors.recorder import Recorder
from monsal.transport.link import Link
from monsal.transport.pipes import MemoryTransport

__all__ = ["ThreadHost"]

log = logging.getLogger("monsal.actors")

#: What Popen gives for a process that SIGKILL ended.
_KILLED: Final = -9


class ThreadHost:
    """One thread for one actor, as its arbiter sees it: the same as a `Process`."""

    kind = "thread"
    was_oom_killed = False

    def __init__(self, name: str) -> None:
        self.name = name
        self._loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[int] = self._loop.create_future()
        self.recorder = Recorder()
        self._thread: threading.Thread | None = None
        self._life: Life | None = None
        self._inner: asyncio.AbstractEventLoop | None = None
        self._begun: asyncio.Future[None] = self._loop.create_future()
        self._end: MemoryTransport | None = None
        self._handed: dict[int, socket.socket] = {}
        self._said = ""

    @property
    def pid(self) -> int:
        return os.getpid() if self._thread is not None else 0

    def start(self) -> None:
        """Start the thread."""
        self._thread = threading.Thread(target=self._main, name=self.name, daemon=True)
        self._thread.start()

    def _main(self) -> None:
        code = 1
        try:
            with asyncio.Runner() as runner:
                code = runner.run(self._live())
        except BaseException:  # noqa: BLE001 - it is told to the arbiter, as what a process said
            self._said = traceback.format_exc()
        self._tell(self._over, code)

    def _tell(self, function: Any, *args: Any) -> None:
        with contextlib.suppress(RuntimeError):  # the arbiter's loop is closed: nobody wants to know any more
            self._loop.call_soon_threadsafe(function, *args)

    def _over(self, code: int) -> None:
        if not self._begun.done():
            self._begun.set_result(None)
        if not self.ended.done():
            self.ended.set_result(code)

    async def _live(self) -> int:
        self._inner = asyncio.get_running_loop()
        self._life = Life(self.recorder, door=None, ready=lambda: None, taken=self._take)
        ours, theirs = MemoryTransport.pair(self._loop, self._inner)
        self._end = ours
        theirs.attach(self._life.link)
        self._life.begin()
        self._tell(self._begun.set_result, None)
        return await self._life.ended

    async def connect(self, link: Link) -> None:
        """Let a link speak to the thread."""
        await self._begun
        if self._end is None:
            raise ConnectionError(f"the thread {self.name} did not begin")
        self._end.attach(link)

    async def put_at_door(self, sock: socket.socket) -> dict[str, Any]:
        """Keep a copy of a socket for the thread."""
        copy = sock.dup()
        self._handed[copy.fileno()] = copy
        return {"number": copy.fileno()}

    def _take(self, told: dict[str, Any]) -> socket.socket:
        return self._handed.pop(told["number"])

    def terminate(self) -> None:
        """Ask the thread to end."""
        if self._life is not None and self._inner is not None and not self._inner.is_closed():
            with contextlib.suppress(RuntimeError):
                self._inner.call_soon_threadsafe(self._life.leave, 0)

    def kill(self) -> None:
        """Leave the thread behind: it cannot be ended."""
        log.error("the thread of %s does not end, and is left behind:\n%s", self.name, self.stacks())
        self._over(_KILLED)

    def dump(self) -> None:
        """Nothing: `stacks` looks by itself."""

    def said(self) -> str:
        return self._said

    def stacks(self) -> str:
        """What the thread is at."""
        frame = None if self._thread is None else sys._current_frames().get(self._thread.ident or 0)
        return "" if frame is None else "".join(traceback.format_stack(frame))

    def forget_said(self) -> None:
        self._said = ""

    def close(self) -> None:
        """Give back what is held for it. A thread that was left behind goes on writing to its page, so that stays."""
        for sock in self._handed.values():
            sock.close()
        self._handed.clear()
        if self._thread is None or not self._thread.is_alive():
            self.recorder.close()
