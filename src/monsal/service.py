"""What serves an application: in this process (`LocalService`), or in others (`monsal.processes.Fleet`).

    service = LocalService(parts, directory, settings, clock, doors=doors)
    await service.open_store()
    await service.start_outbox(on_failure)
    await service.start_workers(on_failure)
    await service.start_ingresses()
    await service.start_apis()                 # and in reverse: stop_apis, stop_ingresses, drain_*, close_store

`server.py` asks a `Service` in the order of the units of its life; a worker process has a `LocalService` of its own.
Everything here belongs to the sockets' loop.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from monsal.clock import Clock
from monsal.config import Settings, mask_secrets
from monsal.conversation import Sign
from monsal.conversation.keys import keys_of
from monsal.delivery import open_relay
from monsal.engine import DrainReport, Engine, OnFailure, Parts
from monsal.errors import ReloadFailed, StoreLocked, StoreUnavailable
from monsal.gates import check_gate, gate_of
from monsal.ingress import (
    Doors,
    Ingress,
    IngressSettings,
    LmtpIngress,
    MaildirIngress,
    MemoryBudget,
    SmtpIngress,
    parse_maildir,
)
from monsal.memory import memory_of
from monsal.smtp.settings import ServerSettings
from monsal.store import Store
from monsal.store import open as open_store

if TYPE_CHECKING:
    from monsal.troupe import Troupe

__all__ = ["Doing", "LocalService", "LocalView", "Service", "View", "addresses_of"]

#: Seconds that a command may have the store when the server wants it, and between two looks: a lock tells nobody.
_PATIENCE = 5.0
_LOOK_AGAIN = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Doing:
    """A part of the service in a few words: what it is doing now, and what is wrong with it (None: nothing)."""

    doing: str = ""
    health: str | None = None


class View(Protocol):
    """What a service says of itself."""

    def store_doing(self) -> str:
        """The store in words, or who has what the service needs."""
        ...

    def addresses(self) -> dict[str, list[str]]:
        """Where it can be reached: lists under `smtp`, `lmtp`, `rpc`, and `smtps` if there is one."""
        ...

    def notes(self) -> list[str]:
        """What an operator should know of it besides health, in sentences; on any thread."""
        ...

    def example(self) -> str:
        """An address that somebody could write to, for people; `ADDRESS` if none was found."""
        ...

    async def figures(self) -> dict[str, Any]:
        """What `monsal status` tells besides ledger and outbox, as plain values."""
        ...

    def progress(self) -> tuple[int, float] | None:
        """How many messages were dealt with, and for how many seconds the oldest has been due; None while closed."""
        ...

    async def workers(self) -> list[dict[str, Any]]:
        """Each process that serves, with what it is doing, as plain values (`monsal workers`)."""
        ...

    def tell(self, part: str) -> Doing:
        """How `workers`, `outbox`, `ingress` or `api` is, in words; on any thread, at once."""
        ...


class Service(Protocol):
    """What serves an application. Made without input or output; used on one loop."""

    @property
    def store(self) -> Store:
        """The open store. Raises StoreUnavailable while there is none."""
        ...

    @property
    def view(self) -> View:
        """What it says of itself."""
        ...

    @property
    def renews(self) -> bool:
        """Whether it can take up new code while it serves."""
        ...

    async def renew(self, generation: int) -> None:
        """Have the code as it is now take over, as that generation. Raises ReloadFailed; then nothing was changed."""
        ...

    @property
    def report(self) -> DrainReport | None:
        """How the last drain of the outbox ended."""
        ...

    async def open_store(self) -> None:
        """Open the store: nothing can be accepted or handled before."""
        ...

    async def close_store(self) -> None:
        """Close it, if it was opened."""
        ...

    async def start_actors(self) -> None:
        """Start the application's own actors. Raises SpawnFailed with what their code says."""
        ...

    async def stop_actors(self) -> None:
        """End them, in reverse order."""
        ...

    async def start_workers(self, on_failure: OnFailure) -> None:
        """Begin to handle messages; `on_failure(error)` is called if that ends by an error of monsal's own."""
        ...

    async def drain_workers(self, grace: float) -> None:
        """Let running turns end within `grace` seconds; the rest goes back to the spool."""
        ...

    async def start_outbox(self, on_failure: OnFailure) -> None:
        """Begin to send; `on_failure` as for `start_workers`."""
        ...

    async def drain_outbox(self, grace: float) -> None:
        """Send what is due within `grace` seconds; then there is a `report`."""
        ...

    async def start_ingresses(self) -> None:
        """Serve who comes to the doors."""
        ...

    async def stop_ingresses(self, grace: float) -> None:
        """Serve nobody new: what is being received may end within `grace` seconds, others are told 421."""
        ...

    async def start_apis(self) -> None:
        """Let programs call what is exposed."""
        ...

    async def stop_apis(self, grace: float) -> None:
        """Take no more calls: those that run may end within `grace` seconds."""
        ...

    def begin_drain(self) -> None:
        """From here on turns and mails count as those of the drain; on any thread."""
        ...

    def hurry(self) -> None:
        """Have a drain, now or later, end at once."""
        ...


class LocalService:
    """An engine and its ingresses in this process.

    `doors` are the listening sockets, of which duplicates are served. `given` is a store to be used instead of the one
    that the settings name, `page` the file of the turn page (None: nothing is noted).
    """

    def __init__(
        self,
        parts: Parts,
        directory: Path,
        settings: Settings,
        clock: Clock,
        *,
        doors: Callable[[], Doors],
        given: Store | None = None,
        page: Path | None = None,
    ) -> None:
        self._parts = parts
        self._directory = directory
        self._settings = settings
        self._clock = clock
        self._doors = doors
        self._given = given
        self._page = page
        #: Who has what the service needs, in words; empty if nobody.
        self.waits_for = ""
        self.view = LocalView(self, directory, settings.store)
        self.engine: Engine | None = None
        self.troupe: Troupe | None = None
        self.ingresses: list[SmtpIngress] = []
        self.maildirs: list[MaildirIngress] = []
        self.report: DrainReport | None = None

    @property
    def store(self) -> Store:
        return self.opened().store

    def opened(self) -> Engine:
        """The engine, once its store is open. Raises StoreUnavailable before that."""
        if self.engine is None:
            raise StoreUnavailable("the server does not have its store open yet; `monsal why` says what it waits for")
        return self.engine

    @property
    def renews(self) -> bool:
        return False

    async def renew(self, generation: int) -> None:
        raise ReloadFailed("code that is loaded stays; the process has to be replaced")

    # Start

    async def open_store(self) -> None:
        """Open the store. Raises StoreError; StoreLocked if somebody has it for too long; ConfigError for what clients
        could not be let in with, while another generation may still serve."""
        settings = self._settings
        check_gate(settings, self._directory)
        store = self._given
        if store is None:
            store = open_store(settings.store, base=self._directory, tables=self._parts.tables)
        relay = open_relay(
            settings.relay, self._directory, connections=settings.relay_connections, name=settings.hostname
        )
        engine = Engine(
            self._parts,
            directory=self._directory,
            settings=settings,
            clock=self._clock,
            store=store,
            relay=relay,
            page=self._page,
            sign=_signer(settings, self._directory),
            keys=keys_of(settings.store, self._directory),
        )
        await self._open_when_free(engine)
        self.engine = engine

    async def _open_when_free(self, engine: Engine) -> None:
        """Open the store once nobody else has it. Raises StoreLocked if that takes too long.

        No other server has it, for this directory is ours; a command that came while none was running may.
        """
        end = time.monotonic() + _PATIENCE
        while True:
            try:
                await engine.open()
            except StoreLocked as error:
                if time.monotonic() > end:
                    raise
                self.waits_for = str(error)
                await asyncio.sleep(_LOOK_AGAIN)
            else:
                self.waits_for = ""
                return

    async def start_actors(self) -> None:
        if self._parts.actors:
            # Not before: most applications have none, and are ready sooner.
            from monsal.troupe import Troupe

            self.troupe = Troupe(self._parts.actors)
            await self.troupe.start()

    async def stop_actors(self) -> None:
        if self.troupe is not None:
            await self.troupe.stop()

    async def start_workers(self, on_failure: OnFailure) -> None:
        self.opened().start_worker(on_failure)
        if self._given is None:
            self.opened().start_janitor(on_failure)

    async def start_outbox(self, on_failure: OnFailure) -> None:
        self.opened().start_pump(on_failure)

    async def start_ingresses(self) -> None:
        """Serve who comes to the doors. Raises OSError naming the address."""
        engine = self.opened()
        settings = self._settings
        limits = IngressSettings(
            max_connections=settings.max_connections, max_connections_per_peer=settings.max_connections_per_peer
        )
        session = ServerSettings(
            hostname=settings.hostname,
            max_message_size=settings.max_message_size,
            max_recipients=settings.max_recipients,
        )
        budget = MemoryBudget(limits.max_memory)
        gate = gate_of(settings, self._directory, engine)
        for door in self._doors():
            ingress = door.kind(
                door.take(),
                engine.spool,
                settings=limits,
                session=session,
                budget=budget,
                gate=replace(gate, implicit=door.encrypted),
            )
            try:
                await ingress.start()
            except OSError as error:
                raise OSError(error.errno, f"cannot listen on {door.url}: {error.strerror or error}") from error
            self.ingresses.append(ingress)
        for url in settings.ingress:
            if url.startswith("maildir:"):
                size = settings.max_message_size
                maildir = MaildirIngress(parse_maildir(url), engine.spool, base=self._directory, max_size=size)
                await maildir.start()
                self.maildirs.append(maildir)

    async def start_apis(self) -> None:
        await self.opened().apis.listen(self._directory)

    def ways_in(self) -> list[Ingress]:
        """All that mail comes in by, with and without a door."""
        return [*self.ingresses, *self.maildirs]

    # Drain and stop

    async def stop_apis(self, grace: float) -> None:
        await self.opened().drain_apis(grace)

    async def stop_ingresses(self, grace: float) -> None:
        await asyncio.gather(*(ingress.stop(grace) for ingress in self.ways_in()))

    async def drain_workers(self, grace: float) -> None:
        await self.opened().drain_workers(grace)

    async def drain_outbox(self, grace: float) -> None:
        self.report = await self.opened().drain_outbox(grace)

    async def close_store(self) -> None:
        if self.engine is not None:
            await self.engine.close()

    def begin_drain(self) -> None:
        if self.engine is not None:
            self.engine.begin_drain()

    def hurry(self) -> None:
        if self.engine is not None:
            self.engine.hurry.set()


def _signer(settings: Settings, directory: Path) -> Sign | None:
    """Who signs what leaves, if the settings name a key. Raises ConfigError for what is none."""
    if settings.dkim_key is None:
        return None
    # Not before: it needs the extra `dkim`.
    from monsal.delivery.dkim import open_signer

    return open_signer(directory / settings.dkim_key, domain=settings.dkim_domain, selector=settings.dkim_selector)


class LocalView:
    """What a `LocalService` says of itself."""

    def __init__(self, service: LocalService, directory: Path, store: str) -> None:
        self._service = service
        self._directory = directory
        self._store = store
        self._since = time.monotonic()

    def store_doing(self) -> str:
        return self._service.waits_for or mask_secrets(self._store)

    def addresses(self) -> dict[str, list[str]]:
        found = addresses_of(self._directory, self._service.ingresses)
        return {**found, "rpc": [] if self._service.engine is None else list(self._service.engine.apis.addresses)}

    def notes(self) -> list[str]:
        return []

    def example(self) -> str:
        engine = self._service.engine
        return (engine.router.table.example() if engine is not None else None) or "ADDRESS"

    async def figures(self) -> dict[str, Any]:
        engine = self._service.engine
        if engine is None:
            return {}
        return {
            "ingress": {
                address: msgspec.structs.asdict(ingress.statistics())
                for ingress in self._service.ways_in()
                for address in ingress.addresses
            },
            "worker": msgspec.structs.asdict(engine.worker.statistics()),
            "spool": msgspec.structs.asdict(engine.spool.statistics()),
            "relay": msgspec.structs.asdict(engine.pump.statistics()),
            "rpc": asdict(engine.apis.statistics()),
        }

    def progress(self) -> tuple[int, float] | None:
        engine = self._service.engine
        if engine is None:
            return None
        counts = engine.worker.statistics()
        due = engine.store.next_work()
        late = 0.0 if due is None else engine.clock.now() - due
        return counts.turns + counts.failures + counts.conflicts + counts.fenced, late

    async def workers(self) -> list[dict[str, Any]]:
        engine = self._service.engine
        if engine is None:
            return []
        counts = engine.worker.statistics()
        row = {
            "name": "server",
            "pid": os.getpid(),
            "state": "running",
            "uptime": round(time.monotonic() - self._since, 1),
            "turns": counts.turns,
            "memory": memory_of(os.getpid()),
            "restarts": 0,
            "last_end": "",
            "silent": 0.0,
            "doing": engine.worker.describe(),
        }
        troupe = self._service.troupe
        return [row, *([] if troupe is None else troupe.rows())]

    def tell(self, part: str) -> Doing:
        engine = self._service.engine
        return Doing() if engine is None else _TELL[part](engine, self._service.ingresses)


def _workers(engine: Engine, ingresses: list[SmtpIngress]) -> Doing:
    stuck = engine.worker.statistics().stuck
    health = f"{stuck} handlers are past their deadline; their correspondents wait" if stuck else None
    return Doing(doing=engine.worker.describe(), health=health)


def _outbox(engine: Engine, ingresses: list[SmtpIngress]) -> Doing:
    in_flight = engine.pump.statistics().in_flight
    return Doing(
        doing=f"{in_flight} mails are being sent" if in_flight else "",
        health=f"the relay takes nothing: {engine.pump.reason}" if engine.pump.reason else None,
    )


def _ingress(engine: Engine, ingresses: list[SmtpIngress]) -> Doing:
    found = [ingress.statistics() for ingress in ingresses]
    connections, busy = sum(each.connections for each in found), sum(each.busy for each in found)
    return Doing(
        doing=f"{connections} connections, {busy} of them with a mail that is being stored" * bool(connections)
    )


def _api(engine: Engine, ingresses: list[SmtpIngress]) -> Doing:
    stuck = engine.apis.statistics().stuck
    health = f"{stuck} calls of programs are past their deadline and hang" if stuck else None
    return Doing(doing=engine.apis.describe(), health=health)


_TELL: Mapping[str, Callable[[Engine, list[SmtpIngress]], Doing]] = {
    "workers": _workers,
    "outbox": _outbox,
    "ingress": _ingress,
    "api": _api,
}


def addresses_of(directory: Path, ingresses: list[SmtpIngress]) -> dict[str, list[str]]:
    """Where ingresses listen, by protocol; paths from the application's directory."""
    addresses: dict[str, list[str]] = {"smtp": [], "lmtp": [], "http": []}
    for ingress in ingresses:
        kind = "lmtp" if isinstance(ingress, LmtpIngress) else "smtps" if ingress.gate.implicit else "smtp"
        addresses.setdefault(kind, []).extend(address.removeprefix(f"{directory}/") for address in ingress.addresses)
    return addresses
