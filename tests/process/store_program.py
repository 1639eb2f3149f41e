"""A store process: `python store_program.py DATABASE DESCRIPTOR...`, one connected socket for each worker.

With a path instead of numbers it listens on that unix socket. It ends at SIGTERM.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import sys
from pathlib import Path

import uvloop
from store_links import link_over, setup_of

from monsal.store import SqliteStore
from monsal.store.engine.place import EngineSettings
from monsal.store.host import StoreHost
from monsal.transport import listen


async def main(database: str, *places: str) -> None:
    over = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, over.set)
    host = StoreHost(SqliteStore(Path(database), settings=EngineSettings(sweep_after=600.0)))
    await host.open()
    async with contextlib.AsyncExitStack() as stack:
        for place in places:
            if place.isdigit():
                link = await link_over(socket.socket(fileno=int(place)), host, f"worker {place}")
                stack.callback(link.close)
            else:
                acceptor = await listen(f"unix:{place}", setup_of(host))
                stack.push_async_callback(acceptor.close, 0.0)
        print("ready", flush=True)
        await over.wait()
        await host.close()


uvloop.run(main(*sys.argv[1:]))
