"""A connection of HTTP with bounds: what uvicorn leaves open, as it expects a proxy before it.

A head that never ends, a body or an answer that trickles, more connections than there is room for: each ends its own
connection, and holds up no other (P7).
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import h11
from uvicorn import Config
from uvicorn.protocols.http.h11_impl import H11Protocol

from monsal.http.mounts import HttpSettings

__all__ = ["BoundedConfig", "BoundedProtocol", "Places", "TlsDoor"]

log = logging.getLogger("monsal.http")

#: Seconds that a peer may take to read the last word of a connection.
_LINGER: Final = 5.0
_FULL: Final = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain\r\nContent-Length: 22\r\n"
    b"Retry-After: 5\r\nConnection: close\r\n\r\nToo many connections.\n"
)


@dataclass(slots=True)
class Places:
    """The connections that are open. `peer_of` says by what those of one peer are counted; None is not counted."""

    settings: HttpSettings
    peer_of: Callable[[object], str | None]
    open: int = 0
    refused: int = 0
    expired: int = 0
    _peers: dict[str, int] = field(default_factory=dict)

    def enter(self, address: object) -> Callable[[], None] | None:
        """Take a place, and what gives it back; None if there is none."""
        peer = self.peer_of(address)
        of_peer = 0 if peer is None else self._peers.get(peer, 0)
        if self.open >= self.settings.max_connections or of_peer >= self.settings.max_connections_per_peer:
            self.refused += 1
            return None
        self.open += 1
        if peer is not None:
            self._peers[peer] = of_peer + 1

        def leave() -> None:
            self.open -= 1
            if peer is not None:
                self._peers[peer] -= 1
                if not self._peers[peer]:
                    del self._peers[peer]

        return leave


class BoundedConfig(Config):
    """A configuration of uvicorn, and the places that its connections share."""

    places: Places


class BoundedProtocol(H11Protocol):
    """One connection. uvicorn makes it, with a `BoundedConfig`."""

    config: BoundedConfig

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._places = self.config.places
        self._leave: Callable[[], None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._stage = ""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn has it
        super().connection_made(transport)
        if self._leave is None:
            self._leave = self._places.enter(transport.get_extra_info("peername"))
        if self._leave is None:
            transport.write(_FULL)
            transport.close()
        self._look()

    def hold(self, leave: Callable[[], None]) -> None:
        """It has a place already, which `leave` gives back."""
        self._leave = leave

    def give_back(self) -> None:
        """Its place is free again."""
        leave, self._leave = self._leave, None
        if leave is not None:
            leave()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self.give_back()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if not self.transport.is_closing():
            super().data_received(data)
            self._look()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._look()

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP, unless another answer was begun: then the connection ends, and nothing is logged."""
        if self.cycle is not None and not self.cycle.response_complete:
            # Whoever answers the request that this was part of is told that nobody is there.
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            super().send_400_response(msg)
        else:
            self.transport.close()

    def shutdown(self) -> None:
        """As uvicorn's own, which raises for a connection whose answer has failed, and so ends the stop of all."""
        if self.conn.our_state is h11.ERROR:
            self.transport.abort()
        else:
            super().shutdown()

    def _look(self) -> None:
        """Begin the time of what is waited for now, unless that runs already."""
        settings = self._places.settings
        if self.transport.is_closing():
            stage, seconds = "closing", _LINGER
        elif self.cycle is not None and not self.cycle.response_complete:
            # Another request is another time, though the next one may have come with the last.
            stage, seconds = f"request {id(self.cycle)}", settings.whole
        else:
            stage, seconds = "head", settings.head
        if stage != self._stage:
            self._stage = stage
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self.loop.call_later(seconds, self._expire)

    def _expire(self) -> None:
        self._places.expired += 1
        self.transport.abort()


class TlsDoor:
    """Accepts connections on a socket and has TLS agreed upon, as a server of asyncio does; but each has its place from
    its first moment on: whoever connects and says nothing would need none there, and could have all files (P7).
    """

    #: Connections accepted in one turn of the loop, and seconds until the next try if there are no files for them.
    AT_ONCE: Final = 64
    PAUSE: Final = 1.0

    def __init__(
        self, sock: socket.socket, context: ssl.SSLContext, places: Places, connected: Callable[[], BoundedProtocol]
    ) -> None:
        self._sock = sock
        self._context = context
        self._places = places
        self._connected = connected
        self._loop = asyncio.get_running_loop()
        self._handshakes: set[asyncio.Task[None]] = set()
        self._again: asyncio.TimerHandle | None = None

    def listen(self, backlog: int) -> None:
        self._sock.setblocking(False)
        self._sock.listen(backlog)
        self._loop.add_reader(self._sock, self._accept)

    def close(self) -> None:
        """Accept no more, and break off what is not agreed upon yet."""
        self._loop.remove_reader(self._sock)
        if self._again is not None:
            self._again.cancel()
        for task in self._handshakes:
            task.cancel()

    async def wait_closed(self) -> None:
        await asyncio.gather(*self._handshakes, return_exceptions=True)

    def _accept(self) -> None:
        for _ in range(self.AT_ONCE):
            try:
                sock, address = self._sock.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                log.error("no connection can be accepted: %s", error, extra={"action": "accept_failed"})
                self._loop.remove_reader(self._sock)
                self._again = self._loop.call_later(self.PAUSE, self._loop.add_reader, self._sock, self._accept)
                return
            leave = self._places.enter(address)
            if leave is None:
                sock.close()
                continue
            task = self._loop.create_task(self._agree(sock, leave))
            self._handshakes.add(task)
            task.add_done_callback(self._handshakes.discard)

    async def _agree(self, sock: socket.socket, leave: Callable[[], None]) -> None:
        protocol = self._connected()
        protocol.hold(leave)
        sock.setblocking(False)
        limit = self._places.settings.head
        try:
            await self._loop.connect_accepted_socket(
                lambda: protocol, sock, ssl=self._context, ssl_handshake_timeout=limit
            )
        except OSError:
            # What is no TLS, or comes too slowly, is told in figures.
            self._places.expired += 1
            protocol.give_back()
        except BaseException:
            protocol.give_back()
            raise
