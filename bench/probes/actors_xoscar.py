"""xoscar: an actor in each of two processes of one pool; the first calls the second."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from importlib import import_module
from typing import Any

from bench.probes.rpc_clock import VALUE, flood

__all__ = ["Echo", "Flooder"]

_actors: Any = import_module("xoscar")


class Echo(_actors.Actor):  # type: ignore[misc] # it is not there when types are checked
    async def echo(self, value: Any) -> Any:
        return value

    async def where(self) -> int:
        return os.getpid()


class Flooder(_actors.Actor):  # type: ignore[misc] # it is not there when types are checked
    async def run(self, address: str, flight: int, seconds: float) -> Any:
        other = await _actors.actor_ref(address=address, uid="echo")
        pid = await other.where()
        return await flood(lambda: other.echo(VALUE), pid, flight, seconds)


async def _main(flight: int, seconds: float) -> Any:
    strategy = import_module("xoscar.backends.allocate_strategy").ProcessIndex
    pool = await _actors.create_actor_pool("127.0.0.1", n_process=2)
    async with pool:
        address = pool.external_address
        echo = await _actors.create_actor(Echo, address=address, uid="echo", allocate_strategy=strategy(1))
        run = await _actors.create_actor(Flooder, address=address, uid="flood", allocate_strategy=strategy(2))
        return await run.run(echo.address, flight, seconds)


def main() -> None:
    print(json.dumps(asyncio.run(_main(int(sys.argv[1]), float(sys.argv[2])))), flush=True)


if __name__ == "__main__":
    # Its processes import the classes by their names, and `__main__` is another one there.
    import_module("bench.probes.actors_xoscar").main()
