"""One generation of a group: its members, the spare, and the supervisor that says who is started and when."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, Final, Protocol

import msgspec
from msgspec.structs import replace

from monsal.actors.causes import Exit, ExitKind
from monsal.actors.errors import SpawnFailed
from monsal.actors.happenings import GaveUp, Happening, Promoted, Restarting
from monsal.actors.names import Names
from monsal.actors.policy import Supervisor
from monsal.actors.record import Equip, Record
from monsal.actors.refs import ActorRef, new_id
from monsal.actors.spec import ActorSpec, GroupSpec
from monsal.actors.states import ActorState
from monsal.actors.supervision import Action, Escalate, Phase, Start, Stop, Stopped, Up, Wait
from monsal.backoff import exponential

__all__ = ["Generation", "Owner"]

log = logging.getLogger("monsal.actors")

#: Waits, in seconds, before a spare that could not be started is tried again.
_SPARE_FIRST: Final = 0.5
_SPARE_LIMIT: Final = 30.0
#: Seconds that a member is left to answer before its spare is started.
_BREATH: Final = 0.05


class Owner(Protocol):
    """What a generation needs of the arbiter."""

    def make(self, spec: ActorSpec, ref: ActorRef) -> Record: ...
    async def activate(self, record: Record, ref: ActorRef) -> None: ...
    def happened(self, happening: Happening) -> None: ...


class Generation:
    """Members at places `name-1`, `name-2` ...; `on_change(place)` is told when one came or went."""

    def __init__(
        self,
        owner: Owner,
        names: Names,
        spec: GroupSpec,
        number: int,
        *,
        name: str,
        on_change: Callable[[str], None],
        equip: Equip | None = None,
    ) -> None:
        self.spec = spec
        self.number = number
        self.name = name
        self._owner = owner
        self._names = names
        self._on_change = on_change
        self._equip = equip
        self._loop = asyncio.get_running_loop()
        self.places: dict[str, Record] = {}
        self.spare: Record | None = None
        #: Whether it has the names of its places: not before all of it is ready.
        self.is_current = False
        self.up: asyncio.Future[None] = self._loop.create_future()
        self.over: asyncio.Future[Exit] = self._loop.create_future()
        self._starting: set[str] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._spare_task: asyncio.Task[None] | None = None
        self._spare_failures = 0
        self._promoted = 0
        self.failure: SpawnFailed | None = None
        places = [self.place(number) for number in range(1, spec.count + 1)]
        self.supervisor = Supervisor([spec.member.child(place) for place in places], spec.policy())

    @property
    def promoted(self) -> int:
        """How often a spare took a place."""
        return self._promoted

    def place(self, number: int) -> str:
        """The name of a place; they count from 1."""
        return f"{self.name}-{number}"

    # -- as a whole -------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Start all members, then the spare; returns when they are ready. Raises SpawnFailed; then all are ended."""
        self._do(self.supervisor.start(self._now()))
        try:
            await asyncio.shield(self.up)
            # Not beside them: somebody waits for the members, and it would take processors from them.
            if self.spec.spare and self.spare is None:
                await self.wait_for_spare()
        except BaseException:
            await self.stop()
            raise

    def take_names(self) -> None:
        """All of it is ready: from now on the names of the places are those of its members."""
        self.is_current = True
        for place in list(self.places):
            self._settle(place)

    async def stop(self) -> Exit:
        """Stop all members; how it ended."""
        self.is_current = False
        self._do(self.supervisor.stop(self._now()))
        if self.supervisor.phase is not Phase.DOWN:
            await asyncio.shield(self.over)
        spare, self.spare = self.spare, None
        for task in list(self._tasks):
            if task is not asyncio.current_task():
                task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if spare is not None:
            await spare.stop(self.spec.member.shutdown)
        if self._timer is not None:
            self._timer.cancel()
        return self.supervisor.exit or Exit(kind=ExitKind.SHUTDOWN)

    async def scale(self, count: int, timeout: float) -> None:  # seconds for the new ones
        """Have so many members: new ones are ready then, superfluous ones gone. Raises SpawnFailed."""
        now = self._now()
        old, self.spec = self.spec.count, replace(self.spec, count=count)
        if count > old:
            for number in range(old + 1, count + 1):
                self._do(self.supervisor.add(self.spec.member.child(self.place(number)), now))
        for number in range(old, count, -1):
            self._do(self.supervisor.remove(self.place(number), now))
        deadline = self._loop.time() + timeout
        while not self._has(count):
            if self.failure is not None and not self._starting and len(self.places) < count:
                raise self.failure
            change = self._change = self._loop.create_future()
            async with asyncio.timeout_at(deadline):
                await change

    _change: asyncio.Future[None] | None = None

    def _has(self, count: int) -> bool:
        return len(self.places) == count and not self._starting and all(one.is_up for one in self.places.values())

    # -- what the supervisor says -----------------------------------------------------------------------------

    def _now(self) -> float:
        return time.monotonic()

    def _task(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _do(self, actions: Iterable[Action]) -> None:
        for action in actions:
            if isinstance(action, Start):
                self._begin(action.id)
            elif isinstance(action, Stop):
                self._task(self._stop_member(action.id, action.within))
            elif isinstance(action, Wait):
                record = self.places.get(action.id)
                cause = record.down.result() if record is not None and record.down.done() else None
                delay = max(0.0, action.until - self._now())
                self._owner.happened(Restarting(group=self.name, member=action.id, cause=cause, delay=delay))
            elif isinstance(action, Up):
                if not self.up.done():
                    self.up.set_result(None)
            elif isinstance(action, Stopped | Escalate):
                self._down(action)
        self._arm()

    def _down(self, action: Stopped | Escalate) -> None:
        if isinstance(action, Escalate):
            # Who waits for its start is told why there is none.
            say = log.error if self.up.done() else log.debug
            say("%s gives up: %s", self.name, action.exit, extra={"action": "group_gave_up"})
            self._owner.happened(GaveUp(group=self.name, reason=action.reason, member=action.id, cause=action.cause))
        if not self.up.done():
            error = self.failure or SpawnFailed(f"{self.name} was stopped before it was ready")
            self.up.set_exception(error)
            self.up.exception()  # whoever waits for it is told; if nobody does, that is no error
        if not self.over.done():
            self.over.set_result(self.supervisor.exit or Exit(kind=ExitKind.SHUTDOWN))

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        due = self.supervisor.next_deadline()
        if due is not None:
            self._timer = self._loop.call_later(max(0.0, due - self._now()) + 0.001, self._tick)

    def _tick(self) -> None:
        self._timer = None
        self._do(self.supervisor.tick(self._now()))

    # -- one member -------------------------------------------------------------------------------------------

    def _ref(self, place: str) -> ActorRef:
        return ActorRef(
            aid=new_id(), name=place, group=self.name, generation=self.number, epoch=self._names.reserve(place)
        )

    def _make(self, ref: ActorRef) -> Record:
        record = self._owner.make(self.spec.member, ref)
        record.recycle_after = self.spec.recycle_after
        return record

    async def _boot(self, record: Record) -> None:
        await record.boot()
        await record.equip(self._equip)

    def _begin(self, place: str) -> None:
        """Start a member: the spare if there is one."""
        self._starting.add(place)
        ref = self._ref(place)
        spare, self.spare = self.spare, None
        if spare is not None and spare.link.is_open:
            record = spare
            ref = msgspec.structs.replace(ref, aid=spare.ref.aid)
        else:
            spare = None
            record = self._make(ref)
        self.places[place] = record
        self._task(self._start_member(place, record, ref, spare is not None))

    async def _start_member(self, place: str, record: Record, ref: ActorRef, is_spare: bool) -> None:
        began = self._now()
        try:
            if not is_spare:
                await self._boot(record)
            await self._owner.activate(record, ref)
        except SpawnFailed as error:
            if self.supervisor.phase in (Phase.STARTING, Phase.UP):
                self.failure = error
            self._starting.discard(place)
            cause = error.cause or Exit(kind=ExitKind.START_FAILED)
            log.warning("%s of generation %d did not start: %s", place, self.number, cause)
            self._do(self.supervisor.start_failed(place, cause, self._now(), jitter=random.random()))
        else:
            self._starting.discard(place)
            if is_spare:
                self._promoted += 1
                self._owner.happened(Promoted(ref=ref, pid=record.pid, seconds=self._now() - began))
            self._settle(place)
            self._do(self.supervisor.started(place, self._now()))
            if record.down.done():
                self.died(record)
        # Not at once: to start a process holds the loop up for some milliseconds, and somebody waits for this member.
        self._loop.call_later(_BREATH, self._want_spare)
        self._changed(place)

    def _settle(self, place: str) -> None:
        """A member is active: its name leads to it."""
        record = self.places[place]
        if self.is_current and record.is_up:
            self._names.take_over(place, record.ref.aid, record.ref.epoch)
            self._on_change(place)

    def _changed(self, place: str) -> None:
        if self.is_current:
            self._on_change(place)
        if self._change is not None and not self._change.done():
            self._change.set_result(None)

    async def _stop_member(self, place: str, within: float | None) -> None:
        record = self.places.get(place)
        if record is not None:
            await record.stop(within)

    def died(self, record: Record) -> None:
        """One of its processes has ended."""
        if record is self.spare:
            self.spare = None
            log.warning("the spare of %s %s", self.name, record.down.result())
            self._want_spare()
            return
        place = record.ref.name
        if self.places.get(place) is not record or place in self._starting:
            return
        self._changed(place)
        self._do(self.supervisor.died(place, record.down.result(), self._now(), jitter=random.random()))
        if self.places.get(place) is record:
            del self.places[place]
            self._changed(place)

    async def renew(self, record: Record) -> None:
        """Put a fresh process into the place of one that goes on until that is ready, and then drains (mailbox.B13).

        Raises SpawnFailed, and then the old one stays.
        """
        place = record.ref.name
        ref = self._ref(place)
        spare, self.spare = self.spare, None
        if spare is not None and spare.link.is_open:
            fresh, ref = spare, msgspec.structs.replace(ref, aid=spare.ref.aid)
        else:
            fresh = self._make(ref)
            await self._boot(fresh)
        await self._owner.activate(fresh, ref)
        if self.places.get(place) is not record:  # it died meanwhile, and was replaced as usual
            await fresh.stop(self.spec.member.shutdown)
            return
        self.places[place] = fresh
        self._settle(place)
        self._want_spare()
        await record.stop(self.spec.member.shutdown)

    # -- the spare --------------------------------------------------------------------------------------------

    def _want_spare(self) -> None:
        """Have a spare started, if there is to be one and none is about to be."""
        is_over = self.supervisor.phase in (Phase.STOPPING, Phase.DOWN)
        if (
            self.spec.spare
            and self.spare is None
            and not is_over
            and (self._spare_task is None or self._spare_task.done())
        ):
            self._spare_task = self._task(self._keep_spare())

    async def wait_for_spare(self) -> None:
        """Wait until the spare is ready. Raises SpawnFailed if it did not start."""
        while self.spare is None:
            self._want_spare()
            if self._spare_task is None or self._spare_task.done():
                raise self.failure or SpawnFailed(f"{self.name} has no spare")
            await asyncio.shield(self._spare_task)

    async def _keep_spare(self) -> None:
        """Have a spare, that has booted and waits; one that cannot be started is tried again, ever less often."""
        while self.spare is None and self.supervisor.phase not in (Phase.STOPPING, Phase.DOWN):
            ref = ActorRef(aid=new_id(), name=f"{self.name}-spare", group=self.name, generation=self.number)
            record = self._make(ref)
            try:
                await self._boot(record)
            except SpawnFailed as error:
                self.failure = error
                self._spare_failures += 1
                if not self.is_current:
                    return
                wait = exponential(self._spare_failures, first=_SPARE_FIRST, limit=_SPARE_LIMIT, jitter=random.random())
                log.warning("the spare of %s did not start, next try in %.1f s: %s", self.name, wait, error.cause)
                await asyncio.sleep(wait)
            except asyncio.CancelledError:
                await record.stop(0.0)
                raise
            else:
                self._spare_failures = 0
                if self.spare is None and record.state is ActorState.INACTIVE:
                    self.spare = record
                else:
                    await record.stop(0.0)
                return
