"""A server of HTTP on a socket of its own, and a client that writes what it is told to."""

from __future__ import annotations

import asyncio
import socket
import ssl
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from monsal.http import HttpSettings, Mounts, mounting
from monsal.http.serving import HttpServer

# The certificates of tests are made there.
_TRANSPORT = str(Path(__file__).parent.parent / "transport")
if _TRANSPORT not in sys.path:
    sys.path.insert(0, _TRANSPORT)

PATIENCE = 30.0


class Served:
    """A server and its address."""

    def __init__(self, server: HttpServer, port: int) -> None:
        self.server = server
        self.port = port

    async def say(self, data: bytes, context: ssl.SSLContext | None = None) -> bytes:
        """All that is answered to `data` until the connection is closed from there."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, ssl=context)
        try:
            writer.write(data)
            return await asyncio.wait_for(reader.read(), PATIENCE)
        finally:
            writer.close()

    async def request(self, line: str, body: bytes = b"", context: ssl.SSLContext | None = None) -> bytes:
        head = f"{line} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
        return await self.say(head.encode() + body, context)


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Says what it was asked."""
    event = await receive()
    text = f"{scope['method']} {scope['root_path']} {scope['path']} {len(event['body'])}".encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(text))]})
    await send({"type": "http.response.body", "body": text})


@asynccontextmanager
async def serving(
    app: Any = echo, *, max_body: int = 1000, context: ssl.SSLContext | None = None, **settings: Any
) -> AsyncIterator[Served]:
    bounds = HttpSettings(**settings)
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    sock.setblocking(False)
    port = sock.getsockname()[1]
    mounts = Mounts([mounting("/app", app, max_body=max_body)], bounds)
    server = HttpServer(mounts, bounds, peer_of=lambda address: "a peer")
    await server.start([([sock], context)])
    try:
        yield Served(server, port)
    finally:
        await server.stop(PATIENCE)


@pytest.fixture
def served() -> Callable[..., Any]:
    return serving
