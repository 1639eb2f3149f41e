"""A program that calls an API of the application under test, in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from monsal.rpc import IncomingCall, RemoteAPI
from monsal.rpc.views import AsyncView
from monsal.transport import Endpoint, Internal, Link

__all__ = ["Program"]


class Program:
    """The other side of an exposed API: `program.open_ticket(...)` calls, and lets the application settle.

    `heard` are the notifications that came, as (name, arguments), in order. It goes the whole way of a call but for the
    socket: packets, checks of the declaration, threads.
    """

    def __init__(
        self, api: type[RemoteAPI], run: Callable[[Coroutine[Any, Any, Any]], Any], settle: Callable[[], None]
    ) -> None:
        self.heard: list[tuple[str, dict[str, Any]]] = []
        self._run = run
        self._settle = settle
        self._peer = api.peer()()
        self._ends: list[Endpoint] = []
        for name in self._peer.declarations:
            call = vars(self._peer).get(name)
            if isinstance(call, IncomingCall):
                call.connect(self._listener(name))

    async def connect(self, server: RemoteAPI, name: str) -> None:
        """Meet the application's end on a bus of their own; there this is called `name`."""
        bus = f"monsal-test-{id(self)}"
        self._ends = [
            await RemoteAPI.open(server, Internal(bus, "application")),
            await RemoteAPI.open(self._peer, Internal(bus, name)),
        ]

    async def close(self) -> None:
        """Hang up."""
        for end in self._ends:
            await end.close(0.0)

    def wait(self) -> None:
        """Let the application settle, and hear what it had to say."""
        self._settle()
        self._run(self._hear())

    def __getattr__(self, name: str) -> Callable[..., Any]:
        call = getattr(AsyncView(self._peer), name)

        def made(**arguments: Any) -> Any:
            try:
                return self._run(call(**arguments))
            finally:
                self.wait()

        return made

    def _listener(self, name: str) -> Callable[..., Coroutine[Any, Any, None]]:
        async def listen(sender: str, **arguments: Any) -> None:
            self.heard.append((name, arguments))

        return listen

    async def _hear(self) -> None:
        # Words arrive in order: with the answer to a ping, all that was said before is here.
        links: list[Link] = [link for end in self._ends[1:] for link in end.links.values()]
        await asyncio.gather(*(link.call("rpc.ping") for link in links))
