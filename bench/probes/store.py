"""Whole storage turns against one store: accept, claim, read the state, commit a reply; 1 kB mails, 500 correspondents.

    python -m bench.probes.store WORKERS FLIGHT SECONDS        # 0 workers: the store in this process
    python -m bench.probes.store worker DESCRIPTOR NAME FLIGHT SECONDS

With workers this process is the store process, and starts them. The last line is a JSON object.
"""

from __future__ import annotations

import asyncio
import json
import resource
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import uvloop

from monsal.store import RemoteStore, SqliteStore, StoreHost
from monsal.store.calls import LIMITS
from monsal.store.contract import (
    Accept,
    Ack,
    Claimed,
    Expected,
    OutgoingMail,
    Recipient,
    StateChange,
    StateKey,
    Store,
    TurnCommit,
    TurnRow,
)
from monsal.transport import Link, LinkSetup
from monsal.wire import PeerLimits

__all__ = ["main"]

_BODY = b"x" * 1000


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _mails(name: str) -> Iterator[Accept]:
    for number in count():
        who = f"c{number % 500}@{name}.example.net"
        yield Accept(
            sender=who,
            correspondent=who,
            recipients=(Recipient("desk@example.com", who),),
            body=(_BODY,),
            received=time.time(),
            message_id=f"<{number}@{name}>",
            digest=number.to_bytes(32, "big"),
            envelope=b'{"sender":"%s","recipients":["desk@example.com"]}' % who.encode(),
        )


async def _turn(store: Store, row: Claimed) -> None:
    state = StateKey("desk", row.correspondent)
    value = (await store.read_states([state]))[state]
    after = "B" if value.state == "A" else "A"
    reply = OutgoingMail(
        token=str(row.id),
        message_id=f"<reply-{row.id}@example.com>",
        sender="desk@example.com",
        recipients=(row.correspondent,),
        body=_BODY,
    )
    await store.commit(
        TurnCommit(
            fence=row.fence,
            lease_key=row.lease_key,
            message=row.id,
            now=time.time(),
            ack=Ack(kind="done"),
            turn=TurnRow(handler="desk:TURN", stateful=True, state=state, before=value.state, after=after),
            expected=(Expected(state, value.version),),
            changes=(StateChange(state, after),),
            outgoing=(reply,),
        )
    )


class _Load:
    """So many accepts in flight at a time, and turns of all that can be claimed, for some seconds."""

    def __init__(self, store: Store, name: str, flight: int, seconds: float) -> None:
        self.store = store
        self.mails = _mails(name)
        self.flight = flight
        self.end = time.perf_counter() + seconds
        self.accepted = self.turns = 0

    async def run(self) -> None:
        turns = asyncio.create_task(self._work())
        await asyncio.gather(*(self._write() for _ in range(self.flight)))
        turns.cancel()
        await asyncio.wait([turns])

    def _goes_on(self) -> bool:
        # One turn at least, however long that takes on a busy machine.
        return time.perf_counter() < self.end or not self.turns

    async def _write(self) -> None:
        while self._goes_on():
            await self.store.accept(next(self.mails))
            self.accepted += 1

    async def _work(self) -> None:
        wake = asyncio.Event()
        self.store.on_work(wake.set)
        while True:
            wake.clear()
            rows = await self.store.claim(64, time.time(), 60.0)
            await asyncio.gather(*(_turn(self.store, row) for row in rows))
            self.turns += len(rows)
            if not rows:
                await wake.wait()


async def _in_batches(path: Path, size: int, seconds: float) -> dict[str, float]:
    """Accepts of a whole batch, then its turns, each with all the others in flight."""
    store = SqliteStore(path)
    await store.open()
    mails = _mails("b")
    turns, before, began = 0, _cpu(), time.perf_counter()
    while time.perf_counter() - began < seconds or not turns:
        await asyncio.gather(*(store.accept(next(mails)) for _ in range(size)))
        # Of one correspondent one mail at a time: who has several in the batch needs several claims.
        while rows := await store.claim(size, time.time(), 60.0):
            await asyncio.gather(*(_turn(store, row) for row in rows))
            turns += len(rows)
    used, took = _cpu() - before, time.perf_counter() - began
    await store.close()
    return _figures(turns, took, used, 0.0)


def _setup(side: RemoteStore | StoreHost) -> LinkSetup:
    limits = PeerLimits(
        frame=LIMITS.frame, in_flight=LIMITS.in_flight, queue=LIMITS.queue, held=LIMITS.held, timeout=60.0, beat=None
    )
    return LinkSetup(codec="msgpack:", raw=True, limits=limits, on_call=side.on_call, on_event=side.on_event)


async def _link(connection: socket.socket, side: RemoteStore | StoreHost, name: str, *, greets: bool) -> Link:
    loop = asyncio.get_running_loop()
    _, link = await loop.create_connection(lambda: Link(_setup(side), name=name, greets=greets), sock=connection)
    return link


async def _worker(descriptor: str, name: str, flight: str, seconds: str) -> None:
    store = RemoteStore()
    await store.attach(await _link(socket.socket(fileno=int(descriptor)), store, "store", greets=True))
    await store.open()
    before = _cpu()
    load = _Load(store, name, int(flight), float(seconds))
    await load.run()
    print(json.dumps({"accepted": load.accepted, "turns": load.turns, "cpu": _cpu() - before}))
    await store.close()


async def _alone(path: Path, flight: int, seconds: float) -> dict[str, float]:
    store = SqliteStore(path)
    await store.open()
    load = _Load(store, "w", flight, seconds)
    before, began = _cpu(), time.perf_counter()
    await load.run()
    used, took = _cpu() - before, time.perf_counter() - began
    await store.close()
    return _figures(load.turns, took, used, 0.0)


async def _with_workers(path: Path, workers: int, flight: int, seconds: float) -> dict[str, float]:
    host = StoreHost(SqliteStore(path))
    await host.open()
    children, links = [], []
    for number in range(workers):
        ours, theirs = socket.socketpair()
        with theirs:
            words = ["worker", str(theirs.fileno()), f"w{number}", str(flight // workers), str(seconds)]
            command = [sys.executable, "-m", "bench.probes.store", *words]
            child = await asyncio.create_subprocess_exec(
                *command, pass_fds=[theirs.fileno()], stdout=asyncio.subprocess.PIPE
            )
        children.append(child)
        links.append(await _link(ours, host, f"w{number}", greets=False))
    before = _cpu()
    said = [json.loads((await child.communicate())[0].splitlines()[-1]) for child in children]
    used = _cpu() - before
    await host.close()
    turns = sum(word["turns"] for word in said)
    return _figures(turns, seconds, sum(word["cpu"] for word in said), used)


def _figures(turns: int, seconds: float, workers: float, store: float) -> dict[str, float]:
    each = 1e6 / max(1, turns)
    return {
        "rate": turns / seconds,
        "cpu_us": (workers + store) * each,
        "worker_us": workers * each,
        "store_us": store * each,
    }


def main(words: list[str]) -> None:
    """Be a worker, or measure."""
    if words[0] == "worker":
        uvloop.run(_worker(*words[1:]))
        return
    if words[0] == "batches":
        with tempfile.TemporaryDirectory(prefix="monsal-bench-") as place:
            print(json.dumps(uvloop.run(_in_batches(Path(place) / "monsal.db", int(words[1]), float(words[2])))))
        return
    workers, flight, seconds = int(words[0]), int(words[1]), float(words[2])
    with tempfile.TemporaryDirectory(prefix="monsal-bench-") as place:
        path = Path(place) / "monsal.db"
        work = _with_workers(path, workers, flight, seconds) if workers else _alone(path, flight, seconds)
        print(json.dumps(uvloop.run(work)))


if __name__ == "__main__":
    main(sys.argv[1:])
