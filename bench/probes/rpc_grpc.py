"""grpc.aio: a unary method with a generic handler, its values as msgpack, so that no code has to be generated."""

from __future__ import annotations

import asyncio
from importlib import import_module
from typing import Any

from bench.probes.rpc_clock import VALUE, flood, main, ready

__all__ = ["drive", "serve"]


async def _echo(request: Any, context: Any) -> Any:
    return request


async def _serve(address: str) -> None:
    grpc, msgpack = import_module("grpc"), import_module("msgpack")
    method = grpc.unary_unary_rpc_method_handler(
        _echo, request_deserializer=msgpack.unpackb, response_serializer=msgpack.packb
    )
    server = import_module("grpc.aio").server()
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("bench.Echo", {"Echo": method}),))
    scheme = address.partition(":")[0]
    port = server.add_insecure_port(address if scheme == "unix" else "127.0.0.1:0")
    await server.start()
    ready(address if scheme == "unix" else f"tcp:127.0.0.1:{port}")
    await server.wait_for_termination()


async def _drive(address: str, pid: int, flight: int, seconds: float) -> dict[str, float]:
    aio, msgpack = import_module("grpc.aio"), import_module("msgpack")
    scheme, _, rest = address.partition(":")
    async with aio.insecure_channel(address if scheme == "unix" else rest) as channel:
        echo = channel.unary_unary(
            "/bench.Echo/Echo", request_serializer=msgpack.packb, response_deserializer=msgpack.unpackb
        )

        async def call() -> object:
            return await echo(VALUE)

        return await flood(call, pid, flight, seconds)


def serve(address: str) -> None:
    asyncio.run(_serve(address))


def drive(address: str, pid: int, flight: int, seconds: float) -> dict[str, float]:
    return asyncio.run(_drive(address, pid, flight, seconds))


if __name__ == "__main__":
    main(serve, drive)
