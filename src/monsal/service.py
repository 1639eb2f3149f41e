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
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from msgspec.structs import replace

from monsal.clock import Clock
from monsal.config import Settings
from monsal.conversation import Sign
from monsal.conversation.keys import keys_of
from monsal.delivery import open_relay
from monsal.engine import Engine
from monsal.errors import ReloadFailed, StoreLocked, StoreUnavailable
from monsal.gates import check_gate, gate_of
from monsal.ingress import (
    Doors,
    Ingress,
    IngressSettings,
    MemoryBudget,
    SmtpIngress,
)
from monsal.localview import LocalView
from monsal.outline import Doing, DrainReport, OnFailure, Parts
from monsal.smtp.settings import ServerSettings
from monsal.store import Store
from monsal.store import open as open_store
from monsal.web import Web

if TYPE_CHECKING:
    from monsal.ingress import MaildirIngress
    from monsal.troupe import Troupe

__all__ = ["LocalService", "Service", "ServiceOfWeb", "View"]

#: Seconds that a command may have the store when the server wants it, and between two looks: a lock tells nobody.
_PATIENCE = 5.0
_LOOK_AGAIN = 0.05


class View(Protocol):
    """What a service says of itself."""

    def store_doing(self) -> str:
        """The store in words, or who has what the service needs."""
        ...

    def addresses(self) -> dict[str, list[str]]:
        """Where it can be reached: lists under `smtp`, `lmtp`, `http`, `rpc`, and `smtps` if there is one."""
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
        """How `workers`, `outbox`, `ingress`, `http` or `api` is, in words; on any thread, at once."""
        ...


class ServiceOfWeb(Protocol):
    """What serves mounted applications."""

    async def start(self) -> None:
        """Serve what is mounted, if there is an address for it."""
        ...

    async def stop(self, grace: float) -> None:
        """Take no new requests: those that are being answered may end within `grace` seconds."""
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
    def web(self) -> ServiceOfWeb:
        """The part that serves HTTP."""
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
        self.web = Web(parts.mounts, settings, directory, doors=doors, entrance=lambda: self.opened().entrance)
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
        self.web.check()
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
            max_connections=settings.max_connections,
            max_connections_per_peer=settings.max_connections_per_peer,
            sharing=max(1, self._doors().sharing),
        )
        session = ServerSettings(
            hostname=settings.hostname,
            max_message_size=settings.max_message_size,
            max_recipients=settings.max_recipients,
        )
        budget = MemoryBudget(limits.max_memory)
        gate = gate_of(settings, self._directory, engine)
        for door in self._doors():
            if door.is_http:
                continue
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
                # Not before: most applications have none, and are ready sooner.
                from monsal.ingress import MaildirIngress, parse_maildir

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
