"""monsal.rpc: a declared interface with one call, its argument and result validated, on uvloop; both codecs."""

from __future__ import annotations

import asyncio
import os
from typing import Any

from bench.probes.rpc_clock import VALUE, flood, main, ready, uvloop_run
from monsal.rpc import RemoteAPI, incoming

__all__ = ["drive", "serve"]

#: The codec with its framing; by default that of the product.
_CODEC = os.environ.get("BENCH_CODEC") or "jrpc:\n"


class Echo(RemoteAPI):
    @incoming
    async def echo(self, sender: str, value: dict[str, Any]) -> dict[str, Any]:  # type: ignore[empty-body] # declared only
        ...


async def _echo(sender: str, value: dict[str, Any]) -> dict[str, Any]:
    return value


async def _serve(address: str) -> None:
    api = Echo(codec=_CODEC)
    api.echo.connect(_echo)
    endpoint = await api.listen(address)
    scheme = address.partition(":")[0]
    ready(f"{scheme}:{endpoint.addresses[0]}")
    await asyncio.Event().wait()


async def _drive(address: str, pid: int, flight: int, seconds: float) -> dict[str, float]:
    api = Echo(codec=_CODEC, invert=True)
    await api.connect(address)
    call = api.call.echo
    return await flood(lambda: call(value=VALUE), pid, flight, seconds)


def serve(address: str) -> None:
    uvloop_run(_serve(address))


def drive(address: str, pid: int, flight: int, seconds: float) -> dict[str, float]:
    found: dict[str, float] = uvloop_run(_drive(address, pid, flight, seconds))
    return found


if __name__ == "__main__":
    main(serve, drive)
