"""The arbiter: starts actors, knows them all, passes their messages on, and sees to it that they end.

    async with Arbiter() as arbiter:
        ref = await arbiter.spawn(ActorSpec(name="greeter", actor="greetings:Greeter"))
        print(await arbiter.ask(ref, "greet", "Anna"))
        workers = await arbiter.add_monitor("worker", GroupSpec(member=spec, count=4, spare=1))
        await workers.ask("order", 7, key="anna")
        await arbiter.stop()                      # in reverse order; leaving the block does it, too

It lives on the running loop, and children on the loop's thread: the signal by which the kernel tells a child that its
parent is gone belongs to the thread that started it.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final

import msgspec

from monsal.actors.actor import Actor, awaited
from monsal.actors.causes import Exit
from monsal.actors.commands import command
from monsal.actors.errors import CommandError, SpawnFailed, UnknownActor
from monsal.actors.happenings import Died, Down, Happening, Started
from monsal.actors.interpreter import Interpreter
from monsal.actors.message import CommandRequest
from monsal.actors.monitor import Monitor
from monsal.actors.process import Process
from monsal.actors.record import Equip, Host, Record, RecordStatistics
from monsal.actors.recorder import Recorder
from monsal.actors.refs import ARBITER, ActorRef, actor_identity, new_id
from monsal.actors.spec import ActorSpec, GroupSpec
from monsal.actors.states import ActorState
from monsal.actors.station import here
from monsal.actors.switch import Switch
from monsal.actors.threads import ThreadHost
from monsal.errors import UsageError

__all__ = ["Arbiter", "ArbiterStatistics"]

log = logging.getLogger("monsal.actors")

_SPEC: Final = ActorSpec(name=ARBITER, actor="monsal.actors.arbitration:Arbiter", kind="thread")


class ArbiterStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """All actors of an arbiter: its own children, then the groups; how many were started, and how many have died."""

    children: tuple[RecordStatistics, ...]
    groups: tuple[Any, ...]
    started: int
    died: int
    bad_frames: int


class Arbiter(Actor):
    """Made on the running loop. `on_event(happening)` is told of what happens; it must not block.

    `made` are interpreters that were started for actors of those names: the first process of a name
    takes it from there. Raises UsageError if the thread has an actor already.
    """

    def __init__(
        self,
        *,
        on_event: Callable[[Happening], object] | None = None,
        name: str = ARBITER,
        made: dict[str, Interpreter] | None = None,
    ) -> None:
        if here.station is not None and here.station.loop.is_running():
            raise UsageError("this thread has an actor already")
        self._on_event = on_event
        self._made = {} if made is None else made
        ref = ActorRef(aid=ARBITER, name=name)
        self._station = self._switch = Switch(self, _SPEC, ref, Recorder())
        here.station = self._switch
        self._order: list[Record | Monitor] = []
        self._started = self._died = 0
        self._stopping: asyncio.Task[None] | None = None
        self.ended: asyncio.Future[None] = self._switch.loop.create_future()
        self.started_at = time.time()
        self.state = ActorState.RUN
        self._switch.leave = self._leave

    async def __aenter__(self) -> Arbiter:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    @property
    def is_arbiter(self) -> bool:
        return True

    # -- starting ---------------------------------------------------------------------------------------------

    async def spawn(self, spec: ActorSpec, *, equip: Equip | None = None) -> ActorRef:
        """Start an actor; its reference, once its `start` hook is done. It is not started again if it ends.

        `equip` is as in `add_monitor`.

        Raises SpawnFailed with the cause, and the traceback of the child; UsageError while the arbiter stops.
        """
        if self._stopping is not None:
            raise UsageError("the arbiter is about to stop")
        if self._switch.names.owner(spec.name) is not None or spec.name in self._switch.groups:
            raise SpawnFailed(f"the name {spec.name!r} is taken")
        ref = ActorRef(aid=new_id(), name=spec.name)
        ref = msgspec.structs.replace(ref, epoch=self._switch.names.claim(spec.name, ref.aid))
        record = self.make(spec, ref)
        self._order.append(record)
        await record.boot()
        await record.equip(equip)
        await self.activate(record, ref)
        return ref

    def make(self, spec: ActorSpec, ref: ActorRef) -> Record:
        """A record for an actor that is about to be started; for monitors."""
        name = ref.name or spec.name
        host: Host = Process(name, self._made.pop(name, None)) if spec.kind == "process" else ThreadHost(name)
        record = Record(spec, ref, host, self._switch.setup, self._down)
        self._switch.records[ref.aid] = record
        self._switch.by_link[record.link] = record
        return record

    def forget(self, monitor: Monitor) -> None:
        """A group has ended; for monitors."""
        if monitor in self._order:
            self._order.remove(monitor)

    async def activate(self, record: Record, ref: ActorRef) -> None:
        """Make one that has booted active; for monitors."""
        await record.activate(ref)
        self._started += 1
        self.happened(Started(ref=ref, pid=record.pid, seconds=time.monotonic() - record.began))

    async def add_monitor(self, name: str, group: GroupSpec, *, equip: Equip | None = None) -> Monitor:
        """A group of like actors, all of them ready. Raises KeyError if the name is taken, SpawnFailed.

        `equip(ref)` is awaited for each member and spare when it has booted and before its `start`: it may give it
        sockets by `hand_over(ref, ...)`. If that raises, the member did not start.
        """
        if name in self._switch.groups or self._switch.names.owner(name) is not None or name == ARBITER:
            raise KeyError(f"the name {name!r} is taken")
        monitor = Monitor(self, name, group, equip)
        self._switch.groups[name] = monitor
        self._order.append(monitor)
        try:
            await monitor.open()
        except BaseException:
            await monitor.close()
            raise
        return monitor

    # -- looking ----------------------------------------------------------------------------------------------

    @property
    def switch(self) -> Switch:
        """The directory; for monitors."""
        return self._switch

    @property
    def monitors(self) -> dict[str, Monitor]:
        """The groups by their names."""
        return {one.name: one for one in self._order if isinstance(one, Monitor)}

    def get_actor(self, target: str) -> Any:
        """The Arbiter itself, a Monitor by its name, the ActorRef of a child by name or id; None if there is none."""
        if target in (self.aid, self.name, ARBITER):
            return self
        if target in self._switch.groups:
            return self._switch.groups[target]
        record = self._switch.find(target)
        return None if record is None else record.ref

    def record(self, target: Any) -> Record:
        """What is known of a child. Raises UnknownActor."""
        record = self._switch.find(actor_identity(target))
        if record is None:
            error = self._switch.unknown("", str(actor_identity(target)))
            raise error if isinstance(error, UnknownActor) else UnknownActor(str(error))
        return record

    async def watch(self, target: Any) -> Down:
        """Wait until an actor has ended; how (mailbox.B9). One that has ended already is told of at once.

        Raises UnknownActor for one that is not known.
        """
        record = self._switch.find(actor_identity(target))
        if record is None:
            gone = self._switch.gone.get(actor_identity(target))
            if gone is None:
                raise UnknownActor(f"nobody is called {target!r}")
            return Down(ref=gone[0], cause=gone[1])
        cause = await asyncio.shield(record.down)
        return Down(ref=record.ref, cause=cause)

    def statistics(self) -> ArbiterStatistics:  # type: ignore[override] # an arbiter has more to tell
        return ArbiterStatistics(
            children=tuple(one.statistics() for one in self._order if isinstance(one, Record)),
            groups=tuple(one.statistics() for one in self._order if isinstance(one, Monitor)),
            started=self._started,
            died=self._died,
            bad_frames=self._switch.troubles,
        )

    # -- joining ----------------------------------------------------------------------------------------------

    async def introduce(self, left: Any, right: Any) -> None:
        """Make a direct link between two children; what they ask each other does not come here any more (mailbox.B14).

        Raises UnknownActor, ActorDied.
        """
        one, other = self.record(left), self.record(right)
        if one is other:
            raise CommandError("an actor needs no link to itself")
        here_end, there_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        with here_end, there_end:
            await one.hand_over("mailbox", here_end, other.ref)
            await other.hand_over("mailbox", there_end, one.ref)

    async def hand_over(self, target: Any, purpose: str, sock: socket.socket, peer: ActorRef | None = None) -> None:
        """Give a child a socket: its hook `introduced(purpose, sock, peer)` takes it. Ours stays open: close it.

        Returns once the hook is done. Raises UnknownActor, ActorDied, and what the hook raised.
        """
        await self.record(target).hand_over(purpose, sock, peer)

    # -- stopping ---------------------------------------------------------------------------------------------

    async def stop_actor(self, target: Any, within: float | None = -1.0) -> Exit:
        """Stop one child of the arbiter itself; how it ended. `within` is by default that of its spec.

        Raises UnknownActor; CommandError for a member of a group, which would be started again.
        """
        record = self.record(target)
        if record.ref.group:
            raise CommandError(f"{record.ref} is a member of {record.ref.group}: scale that")
        return await record.stop(record.spec.shutdown if within == -1.0 else within)

    async def stop(self) -> None:
        """Stop all, the last one first; then the arbiter has ended."""
        if self._stopping is None:
            self._stopping = self._switch.loop.create_task(self._stop_all(), name="stop the arbiter")
        await asyncio.shield(self._stopping)

    async def _stop_all(self) -> None:
        self.state = ActorState.STOPPING
        try:
            for one in reversed(self._order.copy()):
                if isinstance(one, Monitor):
                    await one.close()
                else:
                    await one.stop(one.spec.shutdown)
            await asyncio.gather(*(one.stop(0.0) for one in list(self._switch.records.values())))
            await awaited(self.stopping())
            await self._switch.turns.drain("the arbiter is about to end", 1.0)
            await self._switch.turns.close()
        finally:
            self.state = ActorState.CLOSE
            if here.station is self._switch:
                here.station = None
            if not self.ended.done():
                self.ended.set_result(None)

    def _leave(self, code: int) -> None:
        self.exit_code = self.exit_code or code
        if self._stopping is None:
            self._stopping = self._switch.loop.create_task(self._stop_all(), name="stop the arbiter")

    # -- inside -----------------------------------------------------------------------------------------------

    def _down(self, record: Record) -> None:
        cause = record.down.result()
        self._switch.bury(record)
        if record in self._order:
            self._order.remove(record)
        self._died += 1
        say = log.warning if cause.is_abnormal else log.info
        say("%s %s", record.ref, cause, extra={"action": "actor_ended", "actor": record.ref.name})
        self.happened(Died(ref=record.ref, pid=record.pid, cause=cause, doing=record.left))
        group = self._switch.groups.get(record.ref.group)
        if isinstance(group, Monitor):
            group.died(record)

    def happened(self, happening: Happening) -> None:
        """Tell whoever wants to know."""
        if self._on_event is not None:
            try:
                self._on_event(happening)
            except Exception:
                log.exception("on_event failed for %r", happening)

    # -- its commands -----------------------------------------------------------------------------------------

    @command(name="spawn", control=True)
    async def _spawn_for(self, request: CommandRequest, spec: dict[str, Any]) -> ActorRef:
        """Start an actor for another one."""
        return await self.spawn(msgspec.convert(spec, ActorSpec))

    @command(name="introduce", control=True)
    async def _introduce_for(self, request: CommandRequest, left: str, right: str) -> None:
        """Make a direct link between two actors."""
        await self.introduce(left, right)

    @command(name="kill_actor", control=True)
    async def _kill_actor(self, request: CommandRequest, aid: str, timeout: float = 5.0) -> str | None:
        """`killed AID`, once it has ended; None if nobody has that id."""
        record = self._switch.find(aid)
        if record is None:
            return None
        await record.stop(timeout)
        return f"killed {aid}"

    @command(name="notify", control=True)
    def _notify(self, request: CommandRequest, info: Any = None) -> float:
        """The time; what a child tells of itself is noted."""
        record = self._switch.by_link.get(request.connection) if request.connection is not None else None
        if record is None:
            log.warning("%s is no child and notifies", request.caller)
        else:
            record.told, record.last_notified = info, time.time()
        return time.time()

    def tell_more(self, info: dict[str, Any]) -> None:
        info["workers"] = [msgspec.to_builtins(one.statistics()) for one in self._order if isinstance(one, Record)]
        info["monitors"] = {name: msgspec.to_builtins(one.statistics()) for name, one in self.monitors.items()}
        info["server"] = {"state": self.state.text, "started": self._started, "died": self._died}
