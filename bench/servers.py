"""Servers to be measured, each a process of its own: `python -m bench.servers NAME DIRECTORY`.

| name | what it does with a mail |
|---|---|
| accept | monsal's ingress, spool and sqlite store; nothing is handled: the durable accept alone |
| slow | the same on a disk whose flushes take 5 ms more |
| slow-each | the same on that disk, with a commit for each mail |
| aiosmtpd-store | aiosmtpd in front of the same spool and store |
| aiosmtpd | aiosmtpd that throws mail away |

Each prints the port it listens on as its first line, and runs until SIGTERM.
"""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import apsw

from monsal.clock import SystemClock
from monsal.conversation import Spool
from monsal.ingress import SmtpIngress
from monsal.mail import Envelope
from monsal.memory import collect_seldom
from monsal.routing import Router, literal, route, stateless
from monsal.store import SqliteStore
from monsal.store.engine.place import EngineSettings

__all__ = ["FLUSH", "SERVERS", "main"]

#: Seconds that each flush of the slow disk takes longer.
FLUSH = 0.005


@stateless
@route("help@(host)")
def TAKEN(message: Any) -> None:
    """The route that makes help@example.com an address of ours."""


class _SlowDisk(apsw.VFS):
    """SQLite's own files; each flush takes `FLUSH` seconds more, as it does on a disk that turns."""

    def __init__(self) -> None:
        super().__init__("slow", "")

    def xOpen(self, name: Any, flags: list[int]) -> apsw.VFSFile:
        return _SlowFile("", name, flags)


class _SlowFile(apsw.VFSFile):
    def xSync(self, flags: int) -> None:
        # Sleeping is what a flush does, too: other threads go on.
        time.sleep(FLUSH)
        super().xSync(flags)


async def _spool(directory: Path, settings: EngineSettings | None = None) -> tuple[Spool, SqliteStore]:
    router = Router()
    router.defaults(host=literal("example.com"))
    router.load([sys.modules[__name__]])
    store = SqliteStore(directory / "accept.db", settings=settings)
    await store.open()
    return Spool(store, router, SystemClock()), store


async def _slow(each: bool, directory: Path, over: asyncio.Event) -> None:
    disk = _SlowDisk()
    settings = EngineSettings(vfs="slow", group_limit=1) if each else EngineSettings(vfs="slow")
    await _accept(directory, over, settings)
    disk.unregister()


async def _accept(directory: Path, over: asyncio.Event, settings: EngineSettings | None = None) -> None:
    spool, store = await _spool(directory, settings)
    ingress = SmtpIngress("smtp://127.0.0.1:0", spool)
    await ingress.start()
    _announce(int(ingress.addresses[0].rpartition(":")[2]))
    await over.wait()
    await ingress.stop(5.0)
    await store.close()


class _Keeper:
    """An aiosmtpd handler; with a spool it stores what it gets before it says 250."""

    def __init__(self, spool: Spool | None) -> None:
        self._spool = spool

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        if self._spool is not None:
            facts = Envelope(sender=envelope.mail_from, recipients=tuple(envelope.rcpt_tos))
            await self._spool.accept(facts, (envelope.content,))
        return "250 2.0.0 OK"


async def _aiosmtpd(over: asyncio.Event, spool: Spool | None) -> None:
    from aiosmtpd.smtp import SMTP

    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: SMTP(_Keeper(spool), hostname="peer", loop=loop), "127.0.0.1", 0)
    _announce(server.sockets[0].getsockname()[1])
    await over.wait()
    server.close()


async def _aiosmtpd_store(directory: Path, over: asyncio.Event) -> None:
    spool, store = await _spool(directory)
    await _aiosmtpd(over, spool)
    await store.close()


async def _aiosmtpd_null(directory: Path, over: asyncio.Event) -> None:
    await _aiosmtpd(over, None)


SERVERS: dict[str, Callable[[Path, asyncio.Event], Any]] = {
    "accept": _accept,
    "slow": partial(_slow, False),
    "slow-each": partial(_slow, True),
    "aiosmtpd-store": _aiosmtpd_store,
    "aiosmtpd": _aiosmtpd_null,
}


def _announce(port: int) -> None:
    print(port, flush=True)


def main(arguments: Sequence[str]) -> int:
    """Run the server that is asked for."""
    name, directory = arguments

    async def body() -> None:
        over = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, over.set)
        # As `monsal run` does; for the peers as well, so that what is compared is the way of a mail.
        collect_seldom()
        await SERVERS[name](Path(directory), over)

    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(body())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
