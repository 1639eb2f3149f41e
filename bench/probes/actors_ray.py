"""Ray: two asyncio actors in processes of their own; the first awaits calls of the second."""

from __future__ import annotations

import json
import os
import sys
from importlib import import_module
from typing import Any

from bench.probes.rpc_clock import VALUE, flood

__all__ = ["Echo", "Flooder"]


class Echo:
    async def echo(self, value: Any) -> Any:
        return value

    async def where(self) -> int:
        return os.getpid()


class Flooder:
    async def run(self, other: Any, flight: int, seconds: float) -> Any:
        pid = await other.where.remote()
        return await flood(lambda: other.echo.remote(VALUE), pid, flight, seconds)


def main() -> None:
    ray = import_module("ray")
    ray.init(num_cpus=2, include_dashboard=False, logging_level="ERROR", log_to_driver=False)
    try:
        echo, run = ray.remote(num_cpus=0.5)(Echo).remote(), ray.remote(num_cpus=0.5)(Flooder).remote()
        found = ray.get(run.run.remote(echo, int(sys.argv[1]), float(sys.argv[2])))
    finally:
        ray.shutdown()
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    import_module("bench.probes.actors_ray").main()
