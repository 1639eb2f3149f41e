"""The connections between the store process and those who use the store."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, Any, Final

from monsal.store.calls import LIMITS
from monsal.store.remote import RemoteStore
from monsal.transport import Link, LinkSetup
from monsal.wire import HelloFacts, PeerLimits

if TYPE_CHECKING:
    # Only the store process has one, and the engine and SQLite with it.
    from monsal.store.host import StoreHost

__all__ = ["CLIENT", "STORE", "serve_store", "store_link"]

#: What a socket is for that is handed to the store process (`client:NAME`), and to a worker.
CLIENT: Final = "client"
STORE: Final = "store"


def _setup(on_call: Any, on_event: Any) -> LinkSetup:
    limits = PeerLimits(
        frame=LIMITS.frame,
        in_flight=LIMITS.in_flight,
        queue=LIMITS.queue,
        held=LIMITS.held,
        timeout=LIMITS.timeout,
        beat=None,
        garbage=1,
    )
    # Both sides are this program. A worker that is busy may leave what it is told unread; whether it hangs is judged
    # by its beats, and by nobody else.
    return LinkSetup(codec="msgpack:", raw=True, limits=limits, on_call=on_call, on_event=on_event, slow_reader=3600.0)


async def _connected(sock: socket.socket, setup: LinkSetup, name: str) -> Link:
    sock.setblocking(False)
    link = Link(setup, name=name)
    link.peer.theirs = HelloFacts()  # there is no hello: all is known
    await asyncio.get_running_loop().create_unix_connection(lambda: link, sock=sock)
    return link


async def store_link(sock: socket.socket, store: RemoteStore) -> Link:
    """A worker's end of a connection to the store process."""
    return await _connected(sock, _setup(store.on_call, store.on_event), STORE)


async def serve_store(sock: socket.socket, host: StoreHost, name: str) -> Link:
    """The store process's end of a connection with the worker `name`."""
    return await _connected(sock, _setup(host.on_call, host.on_event), name)
