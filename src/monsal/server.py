"""One application as a server: an engine, and what the world can reach of it.

The steps of its life are methods here; `life.py` makes units of them and says in which order they come.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from monsal.clock import SystemClock
from monsal.config import Resolved
from monsal.control import ControlServer, ServerApi, StoreApi
from monsal.delivery import open_relay
from monsal.engine import DrainReport, Engine, OnFailure, Parts
from monsal.errors import StoreLocked, StoreUnavailable
from monsal.ingress import Doors, IngressSettings, MemoryBudget, SmtpIngress
from monsal.smtp.settings import ServerSettings
from monsal.store import Store
from monsal.store import open as open_store

__all__ = ["Conduct", "Server"]

log = logging.getLogger("monsal.server")

#: Seconds that a command may have the store when the server wants it, and between two looks: a lock tells nobody.
_PATIENCE = 5.0
_LOOK_AGAIN = 0.05
#: Seconds that a session may go on with the mail that it is sending when the doors are shut.
_LAST_MAIL = 5.0
#: The same for a call: its caller is told that we are about to end, and may call again.
_LAST_CALL = 5.0


class Conduct(Protocol):
    """What the server asks of whoever conducts its life; called on its loop."""

    def stop(self, now: bool = False) -> None:
        """Begin the end of the process and return at once; `now` without waiting for running turns."""
        ...

    async def renew(self) -> dict[str, Any]:
        """Check the code as it is now, then begin to replace the process by a fresh one. Raises ReloadFailed."""
        ...

    async def status(self) -> dict[str, Any]: ...

    def why(self) -> list[str]: ...

    def blame(self) -> dict[str, Any]: ...


class Server:
    """An engine with its ingresses and its control socket.

    `generation` counts the images of the program since it was started from outside.
    """

    def __init__(
        self, parts: Parts, directory: Path, resolved: Resolved, *, conduct: Conduct, generation: int = 1
    ) -> None:
        self.directory = directory
        self.settings = resolved.settings
        self._resolved = resolved
        self.run_directory = directory / "run"
        self.generation = generation
        self.clock = SystemClock()
        self._parts = parts
        self._conduct = conduct
        self.doors: Doors | None = None
        self.ingresses: list[SmtpIngress] = []
        self.engine: Engine | None = None
        self.control: ControlServer | None = None
        self.report: DrainReport | None = None
        self._drain_ends = 0.0
        #: Who has what the server needs, in words; empty if nobody.
        self.waits_for = ""

    # Before the loop is needed

    def open_ports(self, given: Mapping[str, Any]) -> None:
        """Bind the ports, or take the listening sockets that were `given`. Nobody is served yet.

        Raises OSError naming the address that cannot be had, ConfigError for an inherited socket of a wrong kind.
        """
        self.doors = Doors(self.settings.ingress, self.directory, given)
        self.doors.open(ports_only=True)

    def open_doors(self) -> None:
        """Bind what is left, the unix sockets. Raises OSError."""
        assert self.doors is not None
        self.doors.open()

    def close_doors(self) -> None:
        """Listen no more."""
        if self.doors is not None:
            self.doors.close()

    # The steps of the units, on the loop

    async def start_control(self) -> None:
        """Open the control socket: from now on the commands reach this process, and `monsal why` has an answer."""
        control = ControlServer(self.run_directory / "control.sock")
        conduct = self._conduct
        control.mount(
            "server",
            ServerApi(
                status=conduct.status,
                stop=conduct.stop,
                reload=conduct.renew,
                config=self._resolved.describe,
                why=conduct.why,
                blame=conduct.blame,
            ),
        )
        control.mount("store", StoreApi(self._open_store, self.clock))
        await control.start()
        self.control = control

    def _open_store(self) -> Store:
        if self.engine is None:
            raise StoreUnavailable("the server does not have its store open yet; `monsal why` says what it waits for")
        return self.engine.store

    async def stop_control(self) -> None:
        if self.control is not None:
            await self.control.stop()

    async def open_store(self) -> None:
        """Open the store: nothing can be accepted or handled before."""
        settings = self.settings
        store = open_store(settings.store, base=self.directory, tables=self._parts.tables)
        relay = open_relay(
            settings.relay, self.directory, connections=settings.relay_connections, name=settings.hostname
        )
        has_files = settings.store.startswith("sqlite:")
        engine = Engine(
            self._parts,
            directory=self.directory,
            settings=settings,
            clock=self.clock,
            store=store,
            relay=relay,
            page=self.run_directory / "turns.page" if has_files else None,
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

    async def close_store(self) -> None:
        if self.engine is not None:
            await self.engine.close()

    async def start_workers(self, on_failure: OnFailure) -> None:
        assert self.engine is not None
        self.engine.start_worker(on_failure)

    async def drain_workers(self) -> None:
        """Let running turns end, as far as the time allows; the rest goes back to the spool."""
        assert self.engine is not None
        await self.engine.drain_workers(self._left())

    async def start_outbox(self, on_failure: OnFailure) -> None:
        assert self.engine is not None
        self.engine.start_pump(on_failure)

    async def drain_outbox(self) -> None:
        """Send what is due, as far as the time allows, and say what is left."""
        assert self.engine is not None
        self.report = await self.engine.drain_outbox(self._left())
        log.info("%s", self.report, extra={"action": "drained"})

    async def start_ingresses(self) -> None:
        """Serve who comes to the doors, last of all."""
        assert self.engine is not None
        assert self.doors is not None
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
        for door in self.doors:
            ingress = door.kind(door.take(), self.engine.spool, settings=limits, session=session, budget=budget)
            try:
                await ingress.start()
            except OSError as error:
                raise OSError(error.errno, f"cannot listen on {door.url}: {error.strerror or error}") from error
            self.ingresses.append(ingress)

    async def start_apis(self) -> None:
        """Let programs call what is exposed."""
        assert self.engine is not None
        await self.engine.apis.listen(self.directory)

    async def stop_apis(self) -> None:
        """Take no more calls: those that run may end, as far as the time allows."""
        assert self.engine is not None
        await self.engine.drain_apis(min(_LAST_CALL, self._left()))

    async def stop_ingresses(self) -> None:
        """Serve nobody new: what is being received may end, others are told 421 and come back later."""
        grace = min(_LAST_MAIL, self._left())
        await asyncio.gather(*(ingress.stop(grace) for ingress in self.ingresses))

    # The time of a drain

    def begin_drain(self) -> None:
        """From now on a drain has `settings.drain` seconds in all."""
        self._drain_ends = time.monotonic() + self.settings.drain
        if self.engine is not None:
            self.engine.begin_drain()

    def _left(self) -> float:
        return max(0.0, self._drain_ends - time.monotonic())

    def hurry(self) -> None:
        """Have a drain, now or later, end at once."""
        if self.engine is not None:
            self.engine.hurry.set()
