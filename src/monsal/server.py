"""One application as a server: an engine, and what the world can reach of it.

The steps of its life are methods here; `life.py` calls them in order.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from pathlib import Path
from typing import Any, Protocol

import msgspec

from monsal.clock import SystemClock
from monsal.config import Resolved
from monsal.control import ControlServer, ServerApi, StoreApi
from monsal.delivery import open_relay
from monsal.engine import Engine, Parts
from monsal.ingress import Doors, IngressSettings, LmtpIngress, MemoryBudget, SmtpIngress
from monsal.smtp.settings import ServerSettings
from monsal.store import open as open_store

__all__ = ["Server", "Stop"]


log = logging.getLogger("monsal.server")


class Stop(Protocol):
    """Begins the end of the process: `now` without waiting for running turns, `broken` because nothing works."""

    def __call__(self, now: bool, *, broken: bool = False) -> None: ...


class Server:
    """An engine with its ingresses and its control socket."""

    def __init__(self, parts: Parts, directory: Path, resolved: Resolved, *, stop: Stop) -> None:
        self.directory = directory
        self.settings = resolved.settings
        self._resolved = resolved
        self.run_directory = directory / "run"
        self.generation = 1
        self.ready = False
        self.clock = SystemClock()
        self._parts = parts
        self._stop = stop
        self.ingresses: list[SmtpIngress] = []
        self.engine: Engine | None = None
        self.control: ControlServer | None = None
        self.doors: Doors | None = None

    async def open(self) -> None:
        """Open the store: nothing can be accepted or handled before."""
        self.run_directory.mkdir(parents=True, exist_ok=True)
        settings = self.settings
        store = open_store(settings.store, base=self.directory, tables=self._parts.tables)
        relay = open_relay(
            settings.relay, self.directory, connections=settings.relay_connections, name=settings.hostname
        )
        has_files = settings.store.startswith("sqlite:")
        self.engine = Engine(
            self._parts,
            directory=self.directory,
            settings=settings,
            clock=self.clock,
            store=store,
            relay=relay,
            page=self.run_directory / "turns.page" if has_files else None,
        )
        try:
            await self.engine.open()
        except BaseException:
            self.engine = None
            raise

    async def start_engine(self) -> None:
        assert self.engine is not None
        for start in (self.engine.start_pump, self.engine.start_worker):
            start(lambda error: self._stop(False, broken=True))

    async def start_control(self) -> None:
        """Open the control socket: from now on `monsal status` and the acting commands reach this process."""
        assert self.engine is not None
        control = ControlServer(self.run_directory / "control.sock")
        control.mount("server", ServerApi(status=self.status, stop=self._stop, config=self._resolved.describe))
        control.mount("store", StoreApi(self.engine.store, self.clock))
        await control.start()
        self.control = control

    async def start_ingresses(self) -> None:
        """Open the doors, last of all."""
        assert self.engine is not None
        settings = self.settings
        limits = IngressSettings(
            max_connections=settings.max_connections, max_connections_per_peer=settings.max_connections_per_peer
        )
        session = ServerSettings(
            hostname=settings.hostname,
            max_message_size=settings.max_message_size,
            max_recipients=settings.max_recipients,
        )
        budget = MemoryBudget(limits.max_memory)
        self.doors = Doors(settings.ingress, self.directory, {})
        await asyncio.to_thread(self.doors.open)
        for door in self.doors:
            ingress = door.kind(door.take(), self.engine.spool, settings=limits, session=session, budget=budget)
            await ingress.start()
            self.ingresses.append(ingress)

    def announce(self) -> dict[str, Any]:
        """Write `run/ready.json` in one step and say that we are ready."""
        addresses: dict[str, list[str]] = {"smtp": [], "lmtp": [], "http": []}
        for ingress in self.ingresses:
            kind = "lmtp" if isinstance(ingress, LmtpIngress) else "smtp"
            addresses[kind].extend(_shown(address, self.directory) for address in ingress.addresses)
        facts = {"pid": os.getpid(), "generation": self.generation, **addresses, "control": "run/control.sock"}
        partial = self.run_directory / f".ready.{os.getpid()}"
        partial.write_bytes(msgspec.json.encode(facts))
        partial.replace(self.run_directory / "ready.json")
        self.ready = True
        return facts

    def withdraw(self) -> None:
        """Say that we are not ready any more."""
        if self.ready:
            # Not otherwise: the file may be that of another server, which kept this one from starting.
            self.ready = False
            (self.run_directory / "ready.json").unlink(missing_ok=True)

    async def close_ingresses(self) -> None:
        """Shut the doors: what is being received may end, new mail is asked to come back later."""
        if self.doors is not None:
            self.doors.close()
        await asyncio.gather(*(ingress.stop(min(5.0, self.settings.drain)) for ingress in self.ingresses))

    async def drain(self) -> None:
        """Let running turns end and the outbox flush; what cannot in time stays stored."""
        if self.engine is not None:
            end = time.monotonic() + self.settings.drain
            await self.engine.drain_workers(self.settings.drain)
            report = await self.engine.drain_outbox(max(0.0, end - time.monotonic()))
            log.info("%s", report, extra={"action": "drain"})

    def hurry(self) -> None:
        """Have a drain, now or later, end at once."""
        if self.engine is not None:
            self.engine.hurry.set()

    async def close(self) -> None:
        """Close the store and the control socket."""
        if self.engine is not None:
            await self.engine.close()
        if self.control is not None:
            await self.control.stop()

    def _health(self, engine: Engine) -> list[str]:
        """What is wrong now, in sentences; nothing when all is well."""
        stuck = engine.worker.statistics().stuck
        found = [f"{stuck} handlers are past their deadline; their correspondents wait"] if stuck else []
        if not engine.pump.healthy:
            found.append(f"the relay takes nothing: {engine.pump.reason}")
        return found

    async def status(self) -> dict[str, Any]:
        """The answer to `monsal status`."""
        assert self.engine is not None
        engine = self.engine
        ledger = await engine.store.ledger()
        total: dict[str, int] = {}
        for entry in ledger.values():
            for name, value in msgspec.structs.asdict(entry).items():
                total[name] = total.get(name, 0) + value
        return {
            "ready": self.ready,
            "generation": self.generation,
            "ledger": total,
            "outbox": await engine.store.outbox_counts(),
            "pid": os.getpid(),
            "sources": {source: msgspec.structs.asdict(entry) for source, entry in ledger.items()},
            "ingress": {
                address: msgspec.structs.asdict(ingress.statistics())
                for ingress in self.ingresses
                for address in ingress.addresses
            },
            "worker": msgspec.structs.asdict(engine.worker.statistics()),
            "spool": msgspec.structs.asdict(engine.spool.statistics()),
            "relay": msgspec.structs.asdict(engine.pump.statistics()),
            "health": self._health(engine),
        }


def _shown(address: str, directory: Path) -> str:
    return address.removeprefix(f"{directory}/")
