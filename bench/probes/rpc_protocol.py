"""A bare asyncio.Protocol on uvloop, JSON-RPC, one write a turn: no deadlines, limits, faults, validation or tasks."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import msgspec

from bench.probes.rpc_clock import VALUE, flood, main, ready, uvloop_run
from bench.probes.rpc_socket import listening

__all__ = ["drive", "serve"]


class Request(msgspec.Struct):
    method: str
    params: msgspec.Raw
    id: int
    jsonrpc: str = "2.0"


class Call(msgspec.Struct):
    method: str
    params: Any
    id: int
    jsonrpc: str = "2.0"


class Response(msgspec.Struct):
    result: Any
    id: int
    jsonrpc: str = "2.0"


class Arguments(msgspec.Struct):
    value: dict[str, Any]


class _Lines(asyncio.Protocol):
    """Reads lines, and writes at the end of the turn what was queued in it."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._rest = b""
        self._out: list[bytes] = []
        self._encode = msgspec.json.Encoder().encode

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data if self._rest else data).split(b"\n")
        for line in lines:
            self.line(line)

    def line(self, line: bytes) -> None:
        raise TypeError("a side reads its lines")

    def send(self, packet: msgspec.Struct) -> None:
        if not self._out:
            self._loop.call_soon(self._flush)
        self._out.append(self._encode(packet))

    def _flush(self) -> None:
        self._transport.write(b"\n".join([*self._out, b""]))
        self._out.clear()


class _Server(_Lines):
    def __init__(self) -> None:
        super().__init__()
        self._decode = msgspec.json.Decoder(Request).decode
        self._arguments = msgspec.json.Decoder(Arguments).decode
        self._methods = {"echo": lambda arguments: arguments.value}

    def line(self, line: bytes) -> None:
        request = self._decode(line)
        self.send(Response(self._methods[request.method](self._arguments(request.params)), request.id))


class _Client(_Lines):
    def __init__(self) -> None:
        super().__init__()
        self._decode = msgspec.json.Decoder(Response).decode
        self._pending: dict[int, asyncio.Future[Any]] = {}
        self._last = 0

    def line(self, line: bytes) -> None:
        response = self._decode(line)
        self._pending.pop(response.id).set_result(response.result)

    def call(self, method: str, params: Any) -> asyncio.Future[Any]:
        self._last += 1
        future = self._pending[self._last] = self._loop.create_future()
        self.send(Call(method, params, self._last))
        return future


async def _serve(address: str) -> None:
    found, address = listening(address)
    loop = asyncio.get_running_loop()
    make = loop.create_unix_server if address.startswith("unix:") else loop.create_server
    await make(_Server, sock=found)
    ready(address)
    await asyncio.Event().wait()


async def _drive(address: str, pid: int, flight: int, seconds: float) -> dict[str, float]:
    loop = asyncio.get_running_loop()
    scheme, _, rest = address.partition(":")
    host, _, port = rest.rpartition(":")
    if scheme == "unix":
        _, client = await loop.create_unix_connection(_Client, rest)
    else:
        _, client = await loop.create_connection(_Client, host, int(port))
    return await flood(lambda: client.call("echo", {"value": VALUE}), pid, flight, seconds)


def serve(address: str) -> None:
    uvloop_run(_serve(address))


def drive(address: str, pid: int, flight: int, seconds: float) -> dict[str, float]:
    found: dict[str, float] = uvloop_run(_drive(address, pid, flight, seconds))
    return found


if __name__ == "__main__":
    main(serve, drive)
