"""Serves mounted applications on given sockets, in a thread with a loop of its own.

    server = HttpServer(mounts, settings, peer_of=...)
    await server.start([(sockets, None), (sockets, context)])       # on whatever loop; the second with TLS
    await server.stop(grace)                                        # nobody new; what runs may end

A thread of its own, because what is mounted is the application's code: one that blocks holds up other requests of
HTTP, and never the sockets of mail, nor the store (P7).
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import threading
from collections.abc import Coroutine, Sequence
from typing import Any, Final

import uvicorn

from monsal.http.mounts import HttpSettings, Mounts
from monsal.http.protocol import BoundedConfig, BoundedProtocol, Places, TlsDoor
from monsal.loops import new_loop

__all__ = ["HttpServer"]

log = logging.getLogger("monsal.http")

#: Seconds that the thread has to answer beyond the grace of a stop.
_SLACK: Final = 2.0


class _Server(uvicorn.Server):
    """A server of uvicorn without the ten looks a second that it takes at itself: it is told when to end."""

    async def begin(self, sockets: list[socket.socket], context: ssl.SSLContext | None, places: Places) -> None:
        """As uvicorn's own `startup`, which leaves a minute to a handshake and counts nothing before its end."""
        self.config.load()
        self.lifespan = self.config.lifespan_class(self.config)
        loop = asyncio.get_running_loop()
        self.servers = []

        def connected() -> BoundedProtocol:
            return BoundedProtocol(config=self.config, server_state=self.server_state, app_state={}, _loop=loop)

        for each in sockets:
            if context is None:
                self.servers.append(await loop.create_server(connected, sock=each, backlog=self.config.backlog))
            else:
                door = TlsDoor(each, context, places, connected)
                door.listen(self.config.backlog)
                self.servers.append(door)  # type: ignore[arg-type] # it is closed as one
        self.started = True

    async def end(self, sockets: list[socket.socket], grace: float) -> None:
        # uvicorn takes whole seconds, but only for its message.
        self.config.timeout_graceful_shutdown = grace  # type: ignore[assignment] # see above
        await self.shutdown(sockets=sockets)
        for connection in list(self.server_state.connections):
            connection.transport.abort()


class HttpServer:
    """Mounted applications on sockets. `peer_of` says by what the connections of one peer are counted."""

    def __init__(self, app: Mounts, settings: HttpSettings, *, peer_of: Any) -> None:
        self._app = app
        self._settings = settings
        self.places = Places(settings, peer_of)
        self._servers: list[tuple[_Server, list[socket.socket]]] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    async def start(self, doors: Sequence[tuple[list[socket.socket], ssl.SSLContext | None]]) -> None:
        """Listen. The sockets are ours from now on, and closed at the end. Raises OSError."""
        # What strangers send is told in figures, and not in a line for each of them.
        logging.getLogger("uvicorn").setLevel(logging.ERROR)
        self._loop = new_loop()
        self._thread = threading.Thread(target=self._main, args=(self._loop,), name="monsal-http", daemon=True)
        self._thread.start()
        try:
            await self._there(self._begin(doors))
        except BaseException:
            await self._leave()
            raise

    async def stop(self, grace: float) -> None:
        """Serve nobody new; what runs may end within `grace` seconds."""
        if self._loop is None:
            return
        try:
            async with asyncio.timeout(grace + _SLACK):
                await self._there(self._end(grace))
        except TimeoutError:
            log.warning("a mounted application blocks its loop; it is left behind", extra={"action": "http_stuck"})
        await self._leave()

    async def _begin(self, doors: Sequence[tuple[list[socket.socket], ssl.SSLContext | None]]) -> None:
        for sockets, context in doors:
            config = BoundedConfig(
                self._app,
                http=BoundedProtocol,
                interface="asgi3",
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                date_header=False,
                proxy_headers=False,
                timeout_keep_alive=self._settings.keep_alive,  # type: ignore[arg-type] # given to call_later
                h11_max_incomplete_event_size=self._settings.max_head,
            )
            config.places = self.places
            server = _Server(config)
            self._servers.append((server, sockets))
            await server.begin(sockets, context, self.places)

    async def _end(self, grace: float) -> None:
        await asyncio.gather(*(server.end(sockets, grace) for server, sockets in self._servers))

    async def _there(self, work: Coroutine[Any, Any, None]) -> None:
        """Have it done on the loop of the thread, and wait for it."""
        assert self._loop is not None
        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._loop))

    async def _leave(self) -> None:
        loop, thread = self._loop, self._thread
        assert loop is not None
        assert thread is not None
        self._loop = None
        loop.call_soon_threadsafe(loop.stop)
        # It is a daemon: one that hangs in an application's code ends with the process.
        await asyncio.get_running_loop().run_in_executor(None, thread.join, _SLACK)

    def _main(self, loop: asyncio.AbstractEventLoop) -> None:
        asyncio.set_event_loop(loop)
        try:
            loop.run_forever()
        finally:
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.close()
