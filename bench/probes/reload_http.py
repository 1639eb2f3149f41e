"""Short HTTP requests, each on a connection of its own, until SIGTERM: what was refused, cut off, and the longest gap.

python -m bench.probes.reload_http PORT CONNECTIONS RATE
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import time
from dataclasses import asdict, dataclass

__all__ = ["Tally", "load"]


@dataclass
class Tally:
    """Requests that were answered, connections that were refused, requests that were cut off; the longest time in
    milliseconds between two answers."""

    answered: int = 0
    refused: int = 0
    cut: int = 0
    gap_ms: float = 0.0


async def load(port: int, connections: int, rate: float, over: asyncio.Event) -> Tally:
    """Ask as long as `over` is not set."""
    tally = Tally()
    last = 0.0

    async def once() -> None:
        nonlocal last
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            tally.refused += 1
            return
        try:
            writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            answer = await asyncio.wait_for(reader.read(), 30)
        except (OSError, TimeoutError):
            answer = b""
        finally:
            writer.close()
        if not answer.startswith(b"HTTP/1.1 200"):
            tally.cut += 1
            return
        now = time.monotonic()
        if last:
            tally.gap_ms = max(tally.gap_ms, 1000 * (now - last))
        last = now
        tally.answered += 1

    async def lane() -> None:
        while not over.is_set():
            began = time.monotonic()
            await once()
            await asyncio.sleep(max(0.0, connections / rate - (time.monotonic() - began)))

    await asyncio.gather(*(lane() for _ in range(connections)))
    return tally


async def _main(port: int, connections: int, rate: float) -> None:
    over = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, over.set)
    print(json.dumps(asdict(await load(port, connections, rate, over))), flush=True)


if __name__ == "__main__":
    asyncio.run(_main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])))
