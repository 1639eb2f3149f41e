"""A worker process: one `LocalService` on sockets of the supervisor and the store of the store process.

What a worker does is what a server in one process does; only the store is behind a link, the listening sockets are
inherited, and its life is an actor's (DESIGN 6): `boot` loads the application and connects, as a spare does too;
`start` begins to serve; `stopping` drains.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from monsal.actors import ARBITER, Actor, command
from monsal.clock import SystemClock
from monsal.config import Resolved, Settings
from monsal.errors import StoreError, StoreUnavailable, UsageError
from monsal.ingress import Doors
from monsal.loading import import_app
from monsal.logs import set_up_logging
from monsal.memory import collect_seldom
from monsal.processes.links import STORE, store_link
from monsal.processes.pages import page_of
from monsal.processes.plan import API, Role
from monsal.service import LocalService
from monsal.store.remote import RemoteStore

__all__ = ["PARTS", "WorkerProcess"]

log = logging.getLogger("monsal.worker")

#: What a service has a word about.
PARTS: Final = ("workers", "outbox", "ingress", "http", "api")
#: Seconds until the store process is there and serves us.
_EQUIPPED: Final = 300.0
#: Seconds that the last mail of a session, and a turn, may take when the supervisor is gone.
_ORPHANED: Final = 4.0
_LAST_MAIL: Final = 5.0
#: Seconds for the store process to answer after a drain.
_SLACK: Final = 1.0
#: Seconds: more than a worker may be silent before it is ended.
_SHORTEST_LEASE: Final = 60.0
#: Seconds that a new connection to the store may take, once there is a store process again.
_CUT_OFF: Final = 10.0
#: Seconds that handlers may hang past their deadline before the process is replaced; and that others in it then have.
_HANGING: Final = 5.0
_LAST_TURN: Final = 5.0


class WorkerProcess(Actor):
    """One process of the group `workers`, or the one called `api`.

    `directory` is the application's, `target` its object, `page` the file in which it notes what it is running.
    """

    def __init__(
        self, *, directory: str, target: str, overrides: Sequence[Sequence[Any]], role: Role, generation: int
    ) -> None:
        self._directory = Path(directory)
        self._target = target
        self._overrides = overrides
        self._role: Role = role
        self._generation = generation
        self._settings: Settings | None = None
        self._given: dict[str, list[socket.socket]] = {}
        self._doors: Doors | None = None
        self._store = RemoteStore()
        self._service: LocalService | None = None
        self._hangs_since = self._linked_at = time.monotonic()
        self._hopeless = False
        self._serves = False
        self._drained = False
        self._telling: set[asyncio.Task[None]] = set()

    # -- its life ---------------------------------------------------------------------------------------------

    async def boot(self) -> None:
        """Load the application and connect to the store; nothing is taken or handled yet."""
        _yield_to_others(True)
        app = import_app(self._directory, self._target)
        resolved: Resolved = app.settings(self._directory)
        for values, origin in self._overrides:
            resolved = resolved.override(values, origin)
        # A lease ends with its process, or when that is found to hang; it only has to outlast finding that out, for a
        # frozen worker goes on with its turn when it wakes (P3).
        lease = max(resolved.settings.lease, _SHORTEST_LEASE)
        settings = msgspec.structs.replace(resolved.settings, lease=lease)
        self._settings = settings
        set_up_logging(settings.log, settings.log_level, process=f"{self._role}[{os.getpid()}]")
        try:
            app.load()
        except SystemExit as error:
            raise UsageError(f"the application's code calls sys.exit({error.code!r}) while it is imported") from error
        await self.ask(ARBITER, "equip", self.aid, timeout=_EQUIPPED)
        self._doors = Doors.adopted(self._given)
        self._service = service = LocalService(
            app.parts(),
            self._directory,
            settings,
            SystemClock(),
            doors=self._listening,
            given=self._store,
            page=page_of(self._directory / "run", self.aid),
        )
        await service.open_store()
        engine = service.opened()
        engine.apis.forward = None if self._role == "api" else self._tell_programs

    async def start(self) -> None:
        """Serve."""
        _yield_to_others(False)
        service = self._serving()
        self._serves = True
        collect_seldom()
        if self._role == "api":
            await service.start_apis()
            return
        await service.start_outbox(self._broke)
        await service.start_workers(self._broke)
        await service.start_ingresses()
        await service.web.start()

    async def stopping(self) -> None:
        """End in order; what the supervisor had drained is not drained again."""
        service = self._service
        if service is None:
            return
        if not self._drained and self._serves:
            await self._drain_while_possible(service)
        if self.is_orphan:
            self._begin_anew_elsewhere()
        hangs = self._stuck() > 0
        # The rows of handlers that still run are nobody else's before this process has ended with them (P3).
        self._store.says_goodbye = not self._running()
        await service.close_store()
        if not hangs:
            # Else the page says whose handlers hang: the store process reads it when this process has ended (P6).
            page_of(self._directory / "run", self.aid).unlink(missing_ok=True)
        self._leave_doors()

    async def periodic_task(self) -> None:
        """Have this process replaced if handlers hang in it past their deadline: their correspondents wait for that.

        Or if it has lost its connection to a store process that lives, which then holds it to be dead.
        """
        now = time.monotonic()
        if self._store.is_linked:
            self._linked_at = now
        elif now - self._linked_at > _CUT_OFF and await self.ask(ARBITER, "store_is_there"):
            error = StoreUnavailable("the store process lives, and has given this one up")
            log.error("%s; it ends", error, extra={"action": "store_link"})
            self._broke(error)
        if not self._stuck():
            self._hangs_since = now
        elif now - self._hangs_since > _HANGING and not self._hopeless:
            self._hopeless = True
            await self.tell(ARBITER, "replace_worker", self.aid)

    def _running(self) -> int:
        """How many handlers run."""
        service = self._service
        if service is None or service.engine is None:
            return 0
        return service.engine.runner.statistics().running

    def _stuck(self) -> int:
        """How many handlers are past their deadline."""
        service = self._service
        if service is None or service.engine is None:
            return 0
        return service.engine.worker.statistics().stuck

    async def introduced(self, purpose: str, sock: socket.socket, peer: Any) -> None:
        """A listening socket, or a connection to the store."""
        kind, _, name = purpose.partition(":")
        if kind == "door":
            sock.setblocking(False)
            self._given.setdefault(name, []).append(sock)
        elif purpose == STORE:
            await self._store.attach(await store_link(sock, self._store))
        else:
            await super().introduced(purpose, sock, peer)

    # -- what the supervisor asks -----------------------------------------------------------------------------

    @command(control=True)
    async def begin_drain(self, request: Any) -> None:
        """From now on turns and mails count as those of the drain."""
        self._serving().begin_drain()

    @command(control=True)
    async def stop_ingresses(self, request: Any, grace: float) -> None:
        """Take no new mail; what is being received may end within `grace` seconds."""
        # The ingresses have their own descriptors; whoever connects now is to be refused, not to wait for nobody.
        self._leave_doors()
        await self._serving().stop_ingresses(grace)

    @command(control=True)
    async def stop_http(self, request: Any, grace: float) -> None:
        """Take no new requests; those that are being answered may end within `grace` seconds."""
        await self._serving().web.stop(grace)

    @command(ack=False, control=True)
    def leave_doors(self, request: Any) -> None:
        """Keep no address: whoever connects while the server ends is to be refused, and not to wait for nobody."""
        self._leave_doors()

    @command(control=True)
    async def stop_apis(self, request: Any, grace: float) -> None:
        """Take no more calls; those that run may end within `grace` seconds."""
        await self._serving().stop_apis(grace)

    @command(control=True)
    async def drain_workers(self, request: Any, grace: float) -> None:
        """Let running turns end within `grace` seconds."""
        await self._serving().drain_workers(grace)

    @command(control=True)
    async def drain_outbox(self, request: Any, grace: float) -> dict[str, Any]:
        """Send what is due within `grace` seconds; the DrainReport of this process as plain values."""
        service = self._serving()
        await service.drain_outbox(grace)
        self._drained = True
        assert service.report is not None
        return msgspec.structs.asdict(service.report)

    @command(ack=False, control=True)
    def hurry(self, request: Any) -> None:
        """Have a drain, now or later, end at once."""
        self._serving().hurry()

    @command(control=True)
    async def figures(self, request: Any) -> dict[str, Any]:
        """What this process does and has done: see `Figures`."""
        view, settings = self._serving().view, self._serving_settings()
        parts = {part: view.tell(part) for part in PARTS}
        done, overdue = view.progress() or (0, 0.0)
        return {
            "generation": self._generation,
            "figures": await view.figures(),
            "addresses": view.addresses(),
            "example": view.example(),
            "fixed": {
                "store": settings.store,
                "ingress": list(settings.ingress),
                "http": list(settings.http),
                "workers": settings.workers,
            },
            "doing": {part: found.doing for part, found in parts.items()},
            "health": {part: found.health for part, found in parts.items()},
            "done": done,
            "overdue": overdue,
        }

    @command(ack=False, control=True)
    def tell_programs(self, request: Any, place: int, name: str, given: dict[str, Any]) -> None:
        """Tell the connected programs what a turn in another process announced."""
        self._serving().opened().apis.tell(place, name, given)

    def _tell_programs(self, place: int, name: str, given: dict[str, Any]) -> None:
        told = msgspec.to_builtins(given)
        task = self.station.loop.create_task(self.tell(API, "tell_programs", place, name, told))
        self._telling.add(task)
        task.add_done_callback(self._told)

    def _told(self, task: asyncio.Task[None]) -> None:
        self._telling.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            # Nothing here is durable: whoever is not connected misses it, and so do all while that process restarts.
            log.warning("programs are not told: %s", error, extra={"action": "casts_dropped"})

    # -- inside -----------------------------------------------------------------------------------------------

    async def _drain_while_possible(self, service: LocalService) -> None:
        """Drain. Without the supervisor there is little time for it, without a store process it is in vain."""
        loop = self.station.loop
        drain = loop.create_task(self._drain(self._serving_settings().drain))
        lost = loop.create_task(self.station.parent_lost.wait())
        limit = self._serving_settings().drain + _SLACK
        await asyncio.wait([drain, lost], timeout=limit, return_when=asyncio.FIRST_COMPLETED)
        if self.is_orphan:
            self._begin_anew_elsewhere()
            await asyncio.wait([drain], timeout=_ORPHANED)
            service.hurry()
            await asyncio.wait([drain], timeout=_SLACK)
        lost.cancel()
        drain.cancel()
        try:
            await drain
        except asyncio.CancelledError:
            log.warning("not drained in time", extra={"action": "drained"})
        except StoreError as error:
            log.warning("not drained: %s", error, extra={"action": "drained"})

    def _begin_anew_elsewhere(self) -> None:
        """The supervisor is gone: whoever is started in its place wants to listen, and has a store of its own."""
        self._store.patience = 0.0
        self._leave_doors()

    def _leave_doors(self) -> None:
        if self._doors is not None:
            self._doors.leave()

    async def _drain(self, seconds: float) -> None:
        """What the supervisor does in steps when the whole server ends."""
        service = self._serving()
        ends = time.monotonic() + seconds

        def left() -> float:
            return max(0.0, ends - time.monotonic())

        service.begin_drain()
        if self._role == "api":
            await service.stop_apis(min(_LAST_MAIL, left()))
            return
        self._leave_doors()
        await service.web.stop(min(_LAST_MAIL, left()))
        await service.stop_ingresses(min(_LAST_MAIL, left()))
        await service.drain_workers(min(_LAST_TURN, left()) if self._hopeless else left())
        await service.drain_outbox(left())
        log.info("%s", service.report, extra={"action": "drained"})

    def _broke(self, error: BaseException) -> None:
        """A fault of monsal itself: another process takes over."""
        self.station.leave_with(error)

    def _listening(self) -> Doors:
        assert self._doors is not None
        return self._doors

    def _serving(self) -> LocalService:
        if self._service is None:
            raise StoreUnavailable(f"{self.name} has not booted yet")
        return self._service

    def _serving_settings(self) -> Settings:
        assert self._settings is not None
        return self._settings


def _yield_to_others(does: bool) -> None:
    """Whether this process lets others go on when it has something to do: who boots must not hold up who serves."""
    if hasattr(os, "SCHED_BATCH"):
        os.sched_setscheduler(0, os.SCHED_BATCH if does else os.SCHED_OTHER, os.sched_param(0))
