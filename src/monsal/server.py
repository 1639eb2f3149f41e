"""One application as a server: its engine, its sockets, and the bus that starts and stops them.

`Server` adds what the world can reach to an `Engine`; `serve` lives on the bus. The bus runs on the main thread, where
signals arrive; everything else runs on one event loop in a thread of its own, and handlers elsewhere (P7).
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import msgspec

from monsal.bus import Bus, ChannelFailures, Limits
from monsal.bus.plugins import SignalHandler
from monsal.clock import SystemClock
from monsal.config import Settings
from monsal.control import ControlServer, ServerApi, StoreApi
from monsal.delivery import open_relay
from monsal.engine import Engine, Parts
from monsal.errors import MonsalError
from monsal.ingress import IngressSettings, LmtpIngress, MemoryBudget, SmtpIngress
from monsal.logs import set_up_logging
from monsal.smtp.settings import ServerSettings
from monsal.store import open as open_store

__all__ = ["Server", "serve_parts"]

log = logging.getLogger("monsal.server")


class Server:
    """An engine with its ingresses and its control socket."""

    def __init__(self, parts: Parts, directory: Path, settings: Settings, *, stop: Callable[[bool], None]) -> None:
        self.directory = directory
        self.settings = settings
        self.run_directory = directory / "run"
        self.generation = 1
        self.ready = False
        self.clock = SystemClock()
        self._parts = parts
        self._stop = stop
        self.ingresses: list[SmtpIngress] = []
        self.engine: Engine | None = None
        self.control: ControlServer | None = None

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
        self.engine.start()

    async def start_control(self) -> None:
        """Open the control socket: from now on `monsal status` and the acting commands reach this process."""
        assert self.engine is not None
        control = ControlServer(self.run_directory / "control.sock")
        control.mount("server", ServerApi(status=self.status, stop=self._stop))
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
        for url in settings.ingress:
            kind = LmtpIngress if url.startswith("lmtp:") else SmtpIngress
            ingress = kind(
                _below(url, self.directory), self.engine.spool, settings=limits, session=session, budget=budget
            )
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
        await asyncio.gather(*(ingress.stop(min(5.0, self.settings.drain)) for ingress in self.ingresses))

    async def drain(self, *, hurry: bool) -> None:
        """Let running turns end and the outbox flush; what cannot in time stays stored."""
        if self.engine is not None:
            await self.engine.drain(0.0 if hurry else self.settings.drain)

    async def close(self) -> None:
        """Close the store and the control socket."""
        if self.engine is not None:
            await self.engine.close(grace=0.0)
        if self.control is not None:
            await self.control.stop()

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
        }


def _below(url: str, directory: Path) -> str:
    """An ingress address whose path, if it is a relative one, lies below the application's directory."""
    scheme, _, rest = url.partition(":")
    if "/" not in rest or rest.startswith("/"):
        return url
    return f"{scheme}:{directory / rest}"


def _shown(address: str, directory: Path) -> str:
    return address.removeprefix(f"{directory}/")


class _LoopThread:
    """The event loop of the sockets, in a thread of its own."""

    def __init__(self) -> None:
        try:
            import uvloop
        except ImportError:
            self.loop = asyncio.new_event_loop()
        else:
            self.loop = uvloop.new_event_loop()
        self.thread = threading.Thread(target=self._main, name="monsal-io", daemon=True)
        self.thread.start()

    def _main(self) -> None:
        asyncio.set_event_loop(self.loop)
        try:
            self.loop.run_forever()
        finally:
            self.loop.run_until_complete(self.loop.shutdown_asyncgens())
            self.loop.close()

    def call(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Run a coroutine there and wait for its result here."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result()

    def end(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()


def serve_parts(
    parts: Parts, directory: Path, settings: Settings, *, on_ready: Callable[[dict[str, Any]], None] | None = None
) -> int:
    """Serve until told to stop; the exit code. Raises what hindered the start.

    `on_ready` is called with the contents of `run/ready.json`.
    """
    directory = directory.resolve()
    set_up_logging(settings.log, settings.log_level)
    bus = Bus(limits=Limits(drain=settings.drain + 10.0, whole=settings.drain + 60.0))
    signals = SignalHandler(bus)
    loop = _LoopThread()

    def stop(now: bool) -> None:
        if now:
            bus.hurry.set()
        # Not on the loop's thread: the stop listeners wait for the loop.
        threading.Thread(target=bus.exit, name="monsal-stop", daemon=True).start()

    server = Server(parts, directory, settings, stop=stop)

    def ready() -> None:
        facts = server.announce()
        log.info("ready: %s", ", ".join([*facts["smtp"], *facts["lmtp"]]), extra={"action": "ready"})
        if on_ready is not None:
            on_ready(facts)

    def opened() -> None:
        try:
            loop.call(server.open())
        except MonsalError as error:
            # Told by the caller in one sentence; the traceback in the bus's log helps nobody.
            expected.append(error)
            raise

    def to_log(message: str, level: int = logging.INFO) -> None:
        level = logging.DEBUG if expected and level >= logging.ERROR else level
        logging.getLogger("monsal.bus").log(level, "%s", message, extra={"action": "bus"})

    expected: list[MonsalError] = []
    bus.subscribe("log", to_log)
    bus.subscribe("start", opened, 20)
    bus.subscribe("start", lambda: loop.call(server.start_control()), 30)
    bus.subscribe("start", lambda: loop.call(server.start_engine()), 40)
    bus.subscribe("start", lambda: loop.call(server.start_ingresses()), 80)
    bus.subscribe("start", ready, 90)
    bus.subscribe("drain", server.withdraw, 10)
    bus.subscribe("drain", lambda: loop.call(server.close_ingresses()), 20)
    bus.subscribe("drain", lambda: loop.call(server.drain(hurry=bus.hurry.is_set())), 30)
    bus.subscribe("exit", lambda: loop.call(server.close()), 80)
    signals.subscribe()
    try:
        bus.start()
        bus.block()
    except ChannelFailures as failures:
        # The first is why; the others, if any, are in the log.
        raise failures.get_instances()[0] from None
    finally:
        signals.unsubscribe()
        loop.end()
    return 0
