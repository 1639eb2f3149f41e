"""A group of like actors: supervised, asked as one, replaced as a whole.

    workers = await arbiter.add_monitor("worker", GroupSpec(member=spec, count=4, spare=1))
    await workers.ask("order", 7, key="anna")
    await workers.scale(6)
    await workers.replace(new_spec)               # a new generation beside the old one, or ReloadFailed

A member that dies is replaced by the spare, which has imported everything and waits; a new spare is started then.
`generation.py` has the members.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any, Protocol

import msgspec
from msgspec.structs import replace

from monsal.actors.actor import Actor
from monsal.actors.errors import ActorStopping, SpawnFailed
from monsal.actors.generation import Generation, Owner
from monsal.actors.groups import Roster, Route
from monsal.actors.record import Equip, Record, RecordStatistics
from monsal.actors.recorder import Recorder
from monsal.actors.refs import ActorRef, new_id
from monsal.actors.spec import ActorSpec, GroupSpec
from monsal.actors.states import ActorState
from monsal.actors.station import Station, Way
from monsal.actors.supervision import Phase, SupervisorStatistics
from monsal.actors.switch import Switch
from monsal.errors import ConnectionLost, NotRunning, ReloadFailed, UsageError

__all__ = ["Monitor", "MonitorStatistics"]

log = logging.getLogger("monsal.actors")


class MonitorStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """A group: its generation, its members and spare, how often a spare took a place, and what its supervisor did."""

    name: str
    generation: int
    members: tuple[RecordStatistics, ...]
    spare: RecordStatistics | None
    promoted: int
    recycled: int
    supervisor: SupervisorStatistics


class _Arbiter(Owner, Protocol):
    @property
    def switch(self) -> Switch: ...
    def forget(self, monitor: Any) -> None: ...


class Monitor(Actor):
    """Made by `Arbiter.add_monitor`. It is an actor of the arbiter's loop, which its members know as `monitor`."""

    def __init__(self, arbiter: _Arbiter, name: str, spec: GroupSpec, equip: Equip | None = None) -> None:
        own = ActorSpec(name=f"{name}-monitor", actor="monsal.actors.monitor:Monitor", kind="thread")
        self._owner = arbiter
        self._group = name
        self._equip = equip
        self._switch = arbiter.switch
        self._station = self._place = _MonitorStation(self, own, ActorRef(aid=new_id(), name=own.name), Recorder())
        self._place.switch = self._switch
        self._generation = self._make(spec, 1)
        self._old: set[Generation] = set()
        self._roster = Roster(name, self._load)
        self._member: asyncio.Future[None] | None = None
        self._recycling: set[asyncio.Task[None]] = set()
        self._retiring: set[asyncio.Task[None]] = set()
        self._recycled = 0
        self._replacing = asyncio.Lock()
        self.started_at = time.time()
        self.state = ActorState.STARTING

    @property
    def name(self) -> str:
        """The name of the group."""
        return self._group

    @property
    def group(self) -> GroupSpec:
        """What it is to be."""
        return self._generation.spec

    @property
    def generation(self) -> int:
        """The number of the generation; each `replace` makes a new one."""
        return self._generation.number

    @property
    def members(self) -> tuple[ActorRef, ...]:
        """Those that can be asked now."""
        return tuple(record.ref for record in self._records())

    @property
    def is_up(self) -> bool:
        """Whether it has not given up, and is not about to stop."""
        return self._generation.supervisor.phase in (Phase.STARTING, Phase.UP)

    def _records(self) -> list[Record]:
        """Those of the roster that are there: of a group that stops the members go one by one, and it is not told."""
        found = map(self._generation.places.get, self._roster.members)
        return [record for record in found if record is not None]

    def _make(self, spec: GroupSpec, number: int) -> Generation:
        return Generation(
            self._owner,
            self._switch.names,
            spec,
            number,
            name=self._group,
            on_change=self._member_changed,
            equip=self._equip,
        )

    def _load(self, place: str) -> float:
        record = self._generation.places.get(place)
        return 0.0 if record is None else float(record.link.peer.pending)

    # -- its life ---------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Start all members. Raises SpawnFailed, and then none is left."""
        await self._generation.start()
        self._generation.take_names()
        self.state = ActorState.RUN

    async def close(self) -> None:
        """Stop all members, and be known no more."""
        self.state = ActorState.STOPPING
        for task in list(self._recycling):
            task.cancel()
        await asyncio.gather(*self._recycling, return_exceptions=True)
        for old in list(self._old):
            await old.stop()
        await self._generation.stop()
        # Those before may still drain: whatever they need is there until they have ended.
        await asyncio.gather(*self._retiring, return_exceptions=True)
        if self._member is not None and not self._member.done():
            self._member.set_result(None)
        self._switch.groups.pop(self._group, None)
        self._owner.forget(self)
        await self._place.turns.close()
        self.state = ActorState.CLOSE

    async def scale(self, count: int) -> None:
        """Have so many members; returns when they are ready, or gone. Raises SpawnFailed."""
        if count < 0:
            raise ValueError("a group has 0 or more members")
        async with self._replacing:
            await self._generation.scale(count, self.group.member.ready_within + 2.0)

    async def replace(self, spec: GroupSpec | ActorSpec | None = None, *, wait: bool = True) -> int:
        """Start a new generation beside the old one, and stop that once the new one is ready; its number.

        Without `wait` it returns as soon as the new one is ready. The old one drains: its `stopping` hooks run, and
        what it is asked goes on. Raises ReloadFailed with what the new code said, if one of the new ones does not
        start: then they are ended, and the old ones go on.
        """
        if isinstance(spec, ActorSpec):
            spec = replace(self.group, member=spec)
        async with self._replacing:
            if not self.is_up:
                raise UsageError(f"{self._group} has ended")
            old, new = self._generation, self._make(spec or self.group, self._generation.number + 1)
            self._old.add(new)
            try:
                await new.start()
            except SpawnFailed as error:
                raise ReloadFailed(
                    f"generation {new.number} of {self._group}: {error}", details=error.details
                ) from error
            finally:
                self._old.discard(new)
            self._generation = new
            self._old.add(old)
            new.take_names()
            for place in self._roster.members:
                if place not in new.places:
                    self._roster.leave(place)
            retiring = asyncio.get_running_loop().create_task(self._retire(old), name=f"retires {self._group}")
            self._retiring.add(retiring)
            retiring.add_done_callback(self._retiring.discard)
        if wait:
            await asyncio.shield(retiring)
        return new.number

    async def _retire(self, old: Generation) -> None:
        try:
            await old.stop()
        finally:
            self._old.discard(old)

    def died(self, record: Record) -> None:
        """One of its processes has ended; the arbiter tells it."""
        for generation in (self._generation, *self._old):
            if generation.number == record.ref.generation:
                generation.died(record)

    def recycle(self, record: Record) -> None:
        """A member has handled as many messages as it is to: replace it, by one that is ready before it stops."""
        if self.state is ActorState.RUN and self._generation.places.get(record.ref.name) is record:
            task = asyncio.get_running_loop().create_task(self._recycle(record), name=f"recycles {record.ref}")
            self._recycling.add(task)
            task.add_done_callback(self._recycling.discard)

    async def _recycle(self, record: Record) -> None:
        try:
            await self._generation.renew(record)
        except SpawnFailed as error:
            log.error("%s cannot be recycled, and goes on: %s", record.ref, error)
        else:
            self._recycled += 1

    def _member_changed(self, place: str) -> None:
        record = self._generation.places.get(place)
        if record is not None and record.is_up:
            self._roster.join(place)
            if self._member is not None and not self._member.done():
                self._member.set_result(None)
        else:
            self._roster.leave(place)

    # -- asking it --------------------------------------------------------------------------------------------

    def choose(self, key: str | None = None, route: Route | None = None) -> Record:
        """The member that gets the next message. Raises NotRunning if there is none now."""
        while True:
            (place,) = self._roster.choose(route or ("hash" if key else "least_busy"), key=key)
            record = self._generation.places.get(place)
            if record is not None and record.is_up:
                return record
            self._roster.leave(place)  # its link is gone, and its end is about to be told

    async def wait_for_member(self, limit: float) -> None:
        """Wait until one can be asked. Raises NotRunning after `limit` seconds, or at once if none will be."""
        if not self.is_up:
            raise NotRunning(f"{self._group} has ended")
        if self._roster.members:
            return
        if self._member is None or self._member.done():
            self._member = asyncio.get_running_loop().create_future()
        await asyncio.wait([self._member], timeout=limit)
        if not self._roster.members:
            raise NotRunning(f"no member of {self._group} came within {limit:.3g} seconds")

    async def wait_for_spare(self) -> None:
        """Wait until the spare is ready. Raises UsageError for a group without one, SpawnFailed if it did not start."""
        if not self.group.spare:
            raise UsageError(f"{self._group} has no spare")
        await self._generation.wait_for_spare()

    async def ask(  # type: ignore[override] # a group is asked as one: it needs no target
        self,
        command: str,
        *args: Any,
        timeout: float | None = None,
        key: str | None = None,
        route: Route | None = None,
        **kwargs: Any,
    ) -> Any:
        """The result of a command of one member; with the route `broadcast` those of all, by their names.

        By default a message with a key goes to the member of that key, any other to the least busy one. While no
        member is there it waits for one. Raises as `Actor.ask`, NotRunning; for a broadcast an ExceptionGroup.
        """
        station = self._switch
        if route == "broadcast":
            return await self._broadcast(command, args, kwargs, timeout, key)
        body = (args, kwargs)
        if route is None:
            return await station.ask(self._group, command, body, timeout=timeout, key=key)
        while True:
            try:
                record = self.choose(key, route)
                return await station.ask(record.ref.aid, command, body, timeout=timeout, key=key)
            except NotRunning:
                await self.wait_for_member(5.0 if timeout is None else timeout)
            except ActorStopping:
                continue
            except ConnectionLost as error:
                if error.sent:
                    raise

    async def _broadcast(
        self,
        command: str,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        timeout: float | None,
        key: str | None,
    ) -> dict[str, Any]:
        records = self._records()
        if not records:
            raise NotRunning(f"no member of {self._group} is running; try again when one is")
        asks = [
            self._switch.ask(record.ref.aid, command, (args, kwargs), timeout=timeout, key=key) for record in records
        ]
        results = await asyncio.gather(*asks, return_exceptions=True)
        errors = [one for one in results if isinstance(one, Exception)]
        if errors:
            raise ExceptionGroup(
                f"{command} failed in {len(errors)} of {len(records)} members of {self._group}", errors
            )
        return {record.ref.name: result for record, result in zip(records, results, strict=True)}

    def statistics(self) -> MonitorStatistics:  # type: ignore[override] # a group has more to tell
        generation = self._generation
        spare = generation.spare
        return MonitorStatistics(
            name=self._group,
            generation=generation.number,
            members=tuple(record.statistics() for record in generation.places.values()),
            spare=None if spare is None else spare.statistics(),
            promoted=generation.promoted,
            recycled=self._recycled,
            supervisor=generation.supervisor.statistics(),
        )

    def tell_more(self, info: dict[str, Any]) -> None:
        info["workers"] = [msgspec.to_builtins(record.statistics()) for record in self._generation.places.values()]


class _MonitorStation(Station):
    """A monitor's place in the arbiter's process: what it asks goes the arbiter's ways."""

    switch: Switch

    def way(self, target: Any, key: str | None) -> Way:
        return self.switch.way(target, key)
