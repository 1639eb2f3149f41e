"""aiorpcX: JSON-RPC sessions on asyncio, with uvloop as ours; its limits of cost and of what is in flight are off."""

from __future__ import annotations

import asyncio
from importlib import import_module
from typing import Any

from bench.probes.rpc_clock import VALUE, flood, main, ready, uvloop_run

__all__ = ["drive", "serve"]


def _session(handler: Any = None) -> Any:
    aiorpcx = import_module("aiorpcx")

    class Session(aiorpcx.RPCSession):  # type: ignore[name-defined,misc]  # aiorpcX has no types
        cost_hard_limit = 0
        initial_concurrent = 128

        async def handle_request(self, request: Any) -> Any:
            return await aiorpcx.handler_invocation(handler, request)()

        def _recalc_concurrency(self) -> None:
            """Keep what is in flight as it was asked for."""

    return Session


async def _echo(value: Any) -> Any:
    return value


async def _serve(address: str) -> None:
    aiorpcx = import_module("aiorpcx")
    scheme, _, rest = address.partition(":")
    if scheme == "unix":
        await aiorpcx.serve_us(_session(_echo), rest)
        ready(address)
    else:
        server = await aiorpcx.serve_rs(_session(_echo), "127.0.0.1", 0)
        ready(f"tcp:127.0.0.1:{server.sockets[0].getsockname()[1]}")
    await asyncio.Event().wait()


async def _drive(address: str, pid: int, flight: int, seconds: float) -> dict[str, float]:
    aiorpcx = import_module("aiorpcx")
    scheme, _, rest = address.partition(":")
    host, _, port = rest.rpartition(":")
    made = {"session_factory": _session()}
    client = aiorpcx.connect_us(rest, **made) if scheme == "unix" else aiorpcx.connect_rs(host, int(port), **made)
    async with client as session:
        session._outgoing_concurrency.set_target(128)
        return await flood(lambda: session.send_request("echo", [VALUE]), pid, flight, seconds)


def serve(address: str) -> None:
    uvloop_run(_serve(address))


def drive(address: str, pid: int, flight: int, seconds: float) -> dict[str, float]:
    found: dict[str, float] = uvloop_run(_drive(address, pid, flight, seconds))
    return found


if __name__ == "__main__":
    main(serve, drive)
