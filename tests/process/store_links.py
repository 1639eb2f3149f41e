"""Stores behind links, for tests: in one process, and over a real process border.

`Linked` and `Bordered` are stores that start what they speak to when they are opened, and end it when they are closed.
"""

from __future__ import annotations

import asyncio
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

from monsal.store import SqliteStore
from monsal.store.calls import LIMITS
from monsal.store.engine.place import EngineSettings
from monsal.store.host import StoreHost
from monsal.store.remote import RemoteStore
from monsal.transport import Link, LinkSetup, link_pair
from monsal.wire import PeerLimits

__all__ = ["Bordered", "Linked", "join", "link_over", "setup_of"]

PROGRAM = Path(__file__).with_name("store_program.py")


def setup_of(side: RemoteStore | StoreHost) -> LinkSetup:
    """How the assembly sets up a link for one of its sides."""
    limits = PeerLimits(
        frame=LIMITS.frame,
        in_flight=LIMITS.in_flight,
        queue=LIMITS.queue,
        held=LIMITS.held,
        timeout=LIMITS.timeout,
        beat=None,
    )
    return LinkSetup(codec="msgpack:", raw=True, limits=limits, on_call=side.on_call, on_event=side.on_event)


async def join(store: RemoteStore, host: StoreHost, name: str = "worker") -> tuple[Link, Link]:
    """Link a worker's store to a host in this process; both ends, the worker's first."""
    ours, theirs = link_pair(setup_of(store), setup_of(host), names=(name, "store"))
    await store.attach(ours)
    return ours, theirs


async def link_over(sock: socket.socket, side: RemoteStore | StoreHost, name: str, *, greets: bool = False) -> Link:
    """A link over a connected socket."""
    loop = asyncio.get_running_loop()
    _, link = await loop.create_connection(lambda: Link(setup_of(side), name=name, greets=greets), sock=sock)
    return link


class Linked(RemoteStore):
    """A store behind a link of this process."""

    def __init__(self, path: Path, settings: EngineSettings | None = None) -> None:
        super().__init__(patience=0.2)
        self.host = StoreHost(SqliteStore(path, settings=settings))

    async def open(self) -> None:
        await self.host.open()
        self.link, self.other = await join(self, self.host)
        await super().open()

    async def close(self) -> None:
        try:
            await super().close()
        finally:
            await self.host.close()

    async def crash(self) -> None:
        """End the store as a kill of its process would: nothing is flushed, the link breaks."""
        await self.host.store.abandon()
        self.other.abort()
        await self.link.wait_closed()


class Bordered(RemoteStore):
    """A store in a process of its own."""

    def __init__(self, path: Path) -> None:
        super().__init__(patience=0.2)
        self._path = path
        self.process: subprocess.Popen[bytes] | None = None

    async def open(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            command = [sys.executable, str(PROGRAM), str(self._path), str(theirs.fileno())]
            self.process = subprocess.Popen(command, pass_fds=[theirs.fileno()])
        self.link = await link_over(ours, self, "store", greets=True)
        await self.attach(self.link)
        await super().open()

    async def close(self) -> None:
        try:
            await super().close()
        finally:
            await self._end(signal.SIGTERM)

    async def crash(self) -> None:
        await self._end(signal.SIGKILL)

    async def _end(self, number: int) -> None:
        process, self.process = self.process, None
        if process is not None:
            process.send_signal(number)
            code: Any = await asyncio.to_thread(process.wait, 30)
            assert code == (0 if number == signal.SIGTERM else -number), code
            await self.link.wait_closed()
