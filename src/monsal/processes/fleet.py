"""A service in several processes: the supervisor's side (DESIGN 6).

    fleet = Fleet(plan, directory, resolved.settings, doors=..., generation=1)
    await fleet.open_store()          # the store process, and our own way to it
    await fleet.start_workers(...)    # the group of workers, each with ingress, turns and outbox, and a spare
    await fleet.renew(2)              # workers with the code as it is now, beside those before; then these drain

Workers do all their parts by themselves, so what the units of the server start one by one is started with them; a
drain goes through all workers step by step, so that no mail comes in while turns end.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from monsal import errors
from monsal.actors import (
    ActorRef,
    ActorSpec,
    Backoff,
    GaveUp,
    GroupSpec,
    Happening,
    Monitor,
    SpawnFailed,
)
from monsal.backoff import exponential
from monsal.config import Settings
from monsal.errors import MonsalError, ReloadFailed, RemoteError, StoreError, StoreUnavailable, UsageError
from monsal.ingress import Doors
from monsal.outline import DrainReport, OnFailure
from monsal.processes.figures import FleetView
from monsal.processes.plan import API, STORE_GROUP, WORKERS, Plan, Role
from monsal.processes.supervisor import Supervisor
from monsal.store import Store

if TYPE_CHECKING:
    from monsal.troupe import Troupe

__all__ = ["Fleet"]

log = logging.getLogger("monsal.processes")

#: How often the process that serves programs is started after a reload, before that is given up.
_API_TRIES: Final = 4
#: Seconds that the store may take to open: migrations and the recovery after a crash read much.
_OPENING: Final = 300.0
#: Seconds without a sign of life after which a worker is held to hang.
_MISSED: Final = 15.0
#: Seconds that a process may take beyond the time of a drain before it is ended by force.
_SLACK: Final = 10.0
_BACKOFF: Final = Backoff(first=0.1, limit=15.0, reset_after=30.0)


class Fleet:
    """A `Service` whose parts are in other processes. Made and used on the sockets' loop."""

    def __init__(
        self, plan: Plan, directory: Path, settings: Settings, *, doors: Callable[[], Doors], generation: int
    ) -> None:
        self._plan = plan
        self._directory = directory
        self._settings = settings
        self._doors = doors
        self._generation = generation
        self._supervisor: Supervisor | None = None
        self._workers: Monitor | None = None
        self._api: Monitor | None = None
        self._troupe: Troupe | None = None
        self._is_open = False
        self._watch: asyncio.Task[None] | None = None
        self._hurrying: list[asyncio.Future[None]] = []
        self._on_failure: OnFailure = lambda error: None
        self.report: DrainReport | None = None
        self.web = _Web(self._each)
        self.view = FleetView(self, directory, settings, doors, generation)

    # -- looking ----------------------------------------------------------------------------------------------

    @property
    def renews(self) -> bool:
        return True

    @property
    def supervisor(self) -> Supervisor | None:
        """The arbiter, while there is one."""
        return self._supervisor

    @property
    def store(self) -> Store:
        if self._supervisor is None or not self._is_open:
            raise StoreUnavailable("the server does not have its store open yet; `monsal why` says what it waits for")
        return self._supervisor.store

    def members(self, role: Role | None = None) -> list[ActorRef]:
        """The workers that serve, and with them (or alone) the process for programs."""
        groups = {"worker": (self._workers,), "api": (self._api,), None: (self._workers, self._api)}[role]
        return [ref for group in groups if group is not None for ref in group.members]

    # -- start ------------------------------------------------------------------------------------------------

    async def open_store(self) -> None:
        """Start the store process. Raises StoreError as opening it here would."""
        self._supervisor = supervisor = Supervisor(self._doors, self._happened, self._plan.made)
        settings = self._settings
        spec = ActorSpec(
            name=STORE_GROUP,
            actor="monsal.processes.storekeeper:StoreKeeper",
            args={
                "directory": str(self._directory),
                "url": settings.store,
                "tables": list(self._plan.tables),
                "keeping": [settings.keep_bodies, settings.keep_history],
                "log": settings.log,
                "log_level": settings.log_level,
            },
            shutdown=_SLACK,
            ready_within=_OPENING,
        )
        try:
            await self._begin(STORE_GROUP, GroupSpec(member=spec, count=1, backoff=_BACKOFF))
            await supervisor.attached
            await supervisor.store.open()
        except BaseException:
            # A unit that did not start is not stopped.
            await supervisor.stop()
            self._supervisor = None
            raise
        self._is_open = True

    async def start_actors(self) -> None:
        """Start the application's own actors. Raises SpawnFailed with what their code says."""
        if self._plan.actors:
            # Not before: most applications have none.
            from monsal.troupe import Troupe

            self._troupe = Troupe(self._plan.actors)
            await self._troupe.start(self._supervisor)

    async def stop_actors(self) -> None:
        """End them."""
        if self._troupe is not None:
            await self._troupe.stop()

    async def start_workers(self, on_failure: OnFailure) -> None:
        """Start the workers. Raises MonsalError with what the application's code says against it."""
        self._on_failure = on_failure
        spec = self._spec("worker", self._generation)
        group = GroupSpec(member=spec, count=self._settings.workers, spare=1, backoff=_BACKOFF)
        self._workers = await self._begin(WORKERS, group)
        await self.view.refresh()
        self._watch = asyncio.get_running_loop().create_task(self.view.watch(), name="looks at the workers")

    async def start_outbox(self, on_failure: OnFailure) -> None:
        """Each worker sends by itself."""

    async def start_ingresses(self) -> None:
        """Each worker serves the doors by itself."""

    async def start_apis(self) -> None:
        """Start the process that serves programs, if there is an API for them."""
        if self._plan.exposes:
            group = GroupSpec(member=self._spec("api", self._generation), count=1, backoff=_BACKOFF)
            self._api = await self._begin(API, group)
            await self.view.refresh()

    async def _begin(self, name: str, group: GroupSpec) -> Monitor:
        assert self._supervisor is not None
        try:
            return await self._supervisor.add_monitor(name, group)
        except SpawnFailed as failed:
            raise _as_ours(failed) from None

    def _spec(self, role: Role, generation: int) -> ActorSpec:
        return ActorSpec(
            name=WORKERS if role == "worker" else API,
            actor="monsal.processes.worker:WorkerProcess",
            args={
                "directory": str(self._directory),
                "target": self._plan.target,
                "overrides": [[dict(values), origin] for values, origin in self._plan.overrides],
                "role": role,
                "generation": generation,
            },
            shutdown=self._settings.drain + _SLACK,
            ready_within=120.0,
            timeout=_MISSED,
        )

    # -- new code ---------------------------------------------------------------------------------------------

    async def renew(self, generation: int) -> None:
        """Start workers with the code as it is now, and drain those before once the new ones serve.

        Raises ReloadFailed with the traceback of the new code; then nothing was changed.
        """
        if self._workers is None:
            raise ReloadFailed("the workers are not started yet")
        try:
            await self._workers.replace(self._spec("worker", generation), wait=False)
        except ReloadFailed:
            self.view.forget(self._workers.generation + 1)
            raise
        self._generation = generation
        if self._troupe is not None:
            await self._troupe.renew()
        await self._renew_api()
        await self.view.refresh()
        for note in self.view.notes():
            log.warning("%s", note, extra={"action": "reload"})

    async def _renew_api(self) -> None:
        """Its addresses can be listened on by one process only: the old one ends first, and programs connect again."""
        api, self._api = self._api, None
        if api is None:
            return
        await api.close()
        for failures in itertools.count(1):
            try:
                await self.start_apis()
            except MonsalError as error:
                log.error("programs are not served: %s", error, extra={"action": "reload"})
                if failures == _API_TRIES:
                    raise ReloadFailed(
                        f"the workers have taken over, but programs are not served any more: {error}; `monsal restart`"
                    ) from error
            else:
                return
            await asyncio.sleep(exponential(failures, first=0.2, limit=2.0))

    # -- drain and stop ---------------------------------------------------------------------------------------

    async def stop_apis(self, grace: float) -> None:
        await self._each("api", "stop_apis", grace)

    async def stop_ingresses(self, grace: float) -> None:
        await self._each("worker", "begin_drain")
        await self._leave_doors()
        await self._each("worker", "stop_ingresses", grace)

    async def _leave_doors(self) -> None:
        """Have those that do not serve keep no address either: the spare, and a generation that drains."""
        supervisor = self._supervisor
        assert supervisor is not None
        members = set(self.members())
        for known in supervisor.everybody():
            if known.ref.group == WORKERS and known.ref not in members:
                try:
                    await supervisor.tell(known.ref, "leave_doors")
                except RemoteError as error:
                    log.info("%s: %s", known.ref, error, extra={"action": "drain"})

    async def drain_workers(self, grace: float) -> None:
        await self._each("worker", "drain_workers", grace)

    async def drain_outbox(self, grace: float) -> None:
        told = await self._each("worker", "drain_outbox", grace)
        reports = [msgspec.convert(each, DrainReport) for each in told]
        store = self.store
        waiting = sum(entry.waiting + entry.running for entry in (await store.ledger()).values())
        outbox = await store.outbox_counts()
        self.report = DrainReport(
            seconds=max((each.seconds for each in reports), default=0.0),
            turns=sum(each.turns for each in reports),
            abandoned=sum(each.abandoned for each in reports),
            sent=sum(each.sent for each in reports),
            in_flight=sum(each.in_flight for each in reports),
            waiting=waiting,
            outbox=sum(outbox.get(status, 0) for status in ("waiting", "deferred", "sending")),
        )

    async def close_store(self) -> None:
        """End all processes, the store's last."""
        supervisor = self._supervisor
        if supervisor is None:
            return
        if self._watch is not None:
            self._watch.cancel()
        for group in (self._api, self._workers):
            if group is not None:
                await group.close()
        try:
            if self._is_open:
                self._is_open = False
                await supervisor.store.close()
        finally:
            await supervisor.stop()
            self._supervisor = None

    def begin_drain(self) -> None:
        """The workers are told when their ingresses stop, which is the first that a drain does."""

    def hurry(self) -> None:
        if self._supervisor is not None:
            self._hurrying = [
                asyncio.ensure_future(self._supervisor.tell(ref, "hurry")) for ref in self.members("worker")
            ]

    async def _each(self, role: Role, word: str, *args: Any) -> list[Any]:
        """What all processes of a role answer; one that dies meanwhile has no part in it: its rows wait again."""
        supervisor = self._supervisor
        if supervisor is None:
            return []
        patience = (args[0] if args else 0.0) + _SLACK
        asked = (supervisor.ask(ref, word, *args, timeout=patience) for ref in self.members(role))
        answers = await asyncio.gather(*asked, return_exceptions=True)
        for answer in answers:
            if isinstance(answer, BaseException):
                if not isinstance(answer, RemoteError):
                    raise answer
                log.warning("%s: %s", word, answer, extra={"action": "drain"})
        return [answer for answer in answers if not isinstance(answer, BaseException)]

    # -- what happens -----------------------------------------------------------------------------------------

    def _happened(self, happening: Happening) -> None:
        # What does not start is told to whoever wanted it to start; that is no fault of those that serve.
        if isinstance(happening, GaveUp) and happening.reason != "start_failed":
            self._on_failure(MonsalError(str(happening)))
        self.view.happened(happening)


class _Web:
    """HTTP, which each worker serves by itself on the same doors."""

    def __init__(self, each: Callable[..., Awaitable[list[Any]]]) -> None:
        self._each = each

    async def start(self) -> None:
        """They have begun with it when they started."""

    async def stop(self, grace: float) -> None:
        await self._each("worker", "stop_http", grace)


def _as_ours(failed: SpawnFailed) -> MonsalError:
    """What kept a process from its start, as the error that it was there, if that is one with a meaning of its own."""
    kind = getattr(errors, failed.kind, None)
    if not (isinstance(kind, type) and issubclass(kind, UsageError | StoreError)):
        return failed
    error: MonsalError = kind(failed.reason)
    if issubclass(kind, UsageError):
        # The application's author wants to know where.
        error.details = failed.details  # type: ignore[attr-defined] # what the command line shows above the error
    return error
