"""A program for test_transport_faults.py: `python link_server.py JSON-ADDRESS MSGPACK-ADDRESS BEAT SLOW-READER`.

It prints `ready` when it listens. `echo` answers at once, `never` does not, `links` says how many are connected. With
one address only it is a client that says hello there, makes the call `never`, and waits.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import uvloop

from monsal.transport import Acceptor, Link, LinkSetup, connect, listen
from monsal.wire import Called, PeerLimits

acceptors: list[Acceptor] = []


def handle(link: Link, called: Called) -> None:
    match called.method:
        case "echo":
            link.answer(called.id, called.params)
        case "links":
            link.answer(called.id, sum(len(acceptor.links) for acceptor in acceptors))


async def serve(json: str, msgpack: str, beat: str, slow_reader: str) -> None:
    limits = PeerLimits(beat=float(beat), timeout=60.0)
    fields: dict[str, Any] = {"on_call": handle, "limits": limits, "slow_reader": float(slow_reader)}
    acceptors.append(await listen(json, LinkSetup(**fields)))
    acceptors.append(await listen(msgpack, LinkSetup(codec="msgpack:", **fields)))
    print("ready", flush=True)
    await asyncio.Event().wait()


async def wait(address: str) -> None:
    link = await connect(address, limits=PeerLimits(timeout=60.0))
    call = asyncio.create_task(link.call("never"))
    await link.call("echo")
    print("ready", flush=True)
    await call


if __name__ == "__main__":
    uvloop.run(wait(sys.argv[1]) if len(sys.argv) == 2 else serve(*sys.argv[1:]))
