"""The arbiter's station: it knows all actors, and passes messages on between them (mailbox.R3, R13-R15)."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Coroutine
from functools import partial
from typing import Any, Final, Protocol

import msgspec

from monsal.actors.causes import Exit
from monsal.actors.errors import ActorDied, ActorStopping, AskExpired, CommandError, StaleName, fault_of
from monsal.actors.message import Envelope, as_params
from monsal.actors.names import Names
from monsal.actors.record import Record
from monsal.actors.refs import ARBITER, MONITOR, ActorRef, actor_identity
from monsal.actors.station import ASK_TIMEOUT, MACHINE, Station, Way, expired
from monsal.errors import ConnectionLost, MonsalError, NotRunning, RemoteError, RemoteFault
from monsal.transport.link import Link
from monsal.wire.codes import CANCELLED
from monsal.wire.events import Called, Cancelled, Lost
from monsal.wire.packets import Id

__all__ = ["Group", "Switch"]

#: So many that have ended are remembered, for those that ask for them.
_OBITUARIES: Final = 1000
#: How long an asker waits to be told of what the callee died, after its link was lost.
_VERDICT: Final = 5.0
#: How long one may live on whose direct link was lost, before the link alone is held to be lost.
_MOMENT: Final = 0.5
_decode: Final = msgspec.msgpack.Decoder().decode


class Group(Protocol):
    """What is asked as one: a monitor."""

    @property
    def name(self) -> str: ...
    def choose(self, key: str | None) -> Record: ...
    async def wait_for_member(self, limit: float) -> None: ...
    def recycle(self, record: Record) -> None: ...
    @property
    def station(self) -> Station: ...


class Switch(Station):
    """The directory, and the way between children."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.names = Names()
        self.records: dict[str, Record] = {}
        self.by_link: dict[Link, Record] = {}
        self.groups: dict[str, Group] = {}
        self.gone: OrderedDict[str, tuple[ActorRef, Exit, tuple[str, ...]]] = OrderedDict()
        self._passed: dict[Link, dict[Id, asyncio.Future[Any]]] = {}
        self._tasks: set[asyncio.Task[Any]] = set()

    # -- who there is -----------------------------------------------------------------------------------------

    def find(self, target: str) -> Record | None:
        """The actor with this id or name."""
        record = self.records.get(target)
        if record is None:
            owner = self.names.owner(target)
            record = None if owner is None else self.records.get(owner)
        return record

    def bury(self, record: Record) -> None:
        """Remember one that has ended."""
        self.records.pop(record.ref.aid, None)
        self.by_link.pop(record.link, None)
        self.names.release(record.ref.name, record.ref.aid)
        self.gone[record.ref.aid] = (record.ref, record.down.result(), tuple(one.command for one in record.left))
        if len(self.gone) > _OBITUARIES:
            self.gone.popitem(last=False)

    def way(self, target: Any, key: str | None) -> Way:
        text = target if type(target) is str else actor_identity(target)
        if not isinstance(text, str):
            raise CommandError(f"{target!r} is no actor, and no name of one")
        record = self.records.get(text)
        if record is None:
            group = self.groups.get(text)
            if group is not None:
                record = group.choose(key)
                return Way(record.link, record.ref.aid, True)
            if text == self.ref.aid or text == self.ref.name or text == ARBITER:
                return Way(None, "")
            record = self.find(text)
        if record is None:
            raise self.unknown("", text)
        if not record.link.is_open and record.down.done():
            raise record.died()
        return Way(record.link, record.ref.aid)

    def unknown(self, command: str, target: str) -> Exception:
        gone = self.gone.get(target)
        if gone is None:
            return super().unknown(command, target)
        ref, cause, _ = gone
        owner = self.names.owner(ref.name)
        if owner is not None:
            return StaleName(f"{ref} {cause}; {ref.name!r} is {owner} now")
        return ActorDied(f"{ref} {cause}", ref=ref, cause=cause)

    # -- what comes in ----------------------------------------------------------------------------------------

    def pass_on(self, link: Link, called: Called, envelope: Any) -> None:
        """A message of one child for another one, or for a group."""
        target = envelope.target
        if target == MONITOR:
            record = self.by_link.get(link)
            group = self.groups.get(record.ref.group) if record is not None else None
            if group is None:
                self._refuse(link, called, CommandError(f"{called.method!r} is for a monitor, and the sender has none"))
            else:
                group.station.accept(link, called, envelope)
            return
        if target == ARBITER:
            self.accept(link, called, envelope)
            return
        self._forward(link, called, envelope)

    def pass_probe(self, target: str, key: str, chain: tuple[str, ...]) -> None:
        record = self.find(target)
        if record is not None and record.link.is_open:
            record.link.cast(f"{MACHINE}probe", [record.ref.aid, key, *chain])

    def _refuse(self, link: Link, called: Called, error: BaseException) -> None:
        if not called.is_cast and link.is_open:
            self.refuse(link, called.id, error)

    def _forward(self, link: Link, called: Called, envelope: Any) -> None:
        try:
            try:
                way = self.way(envelope.target, envelope.key)
            except NotRunning as error:
                self._start(self._forward_later(link, called, envelope, error))
                return
            if way.link is None:
                self.accept(link, called, envelope)
                return
            # Whoever sends it cannot say that it is somebody else.
            record = self.by_link.get(link)
            sender = envelope.sender if record is None else record.ref.aid
            out = Envelope(way.target, sender, envelope.body, envelope.key, envelope.flags, envelope.chain)
            left = None if called.deadline is None else called.deadline - self.loop.time()
            if left is not None and left <= 0:
                raise AskExpired(f"the time for {called.method} was over before it was passed on")
            if called.is_cast:
                way.link.cast(called.method, as_params(out), meta=called.meta)
                return
            answer = way.link.request(called.method, as_params(out), timeout=left, meta=called.meta)
        except Exception as error:  # noqa: BLE001 - it is told to the sender
            self._refuse(link, called, error)
            return
        self._passed.setdefault(link, {})[called.id] = answer
        answer.add_done_callback(partial(self._answered, link, called, envelope, way))

    def _answered(self, link: Link, called: Called, envelope: Any, way: Way, answer: asyncio.Future[Any]) -> None:
        passed = self._passed.get(link)
        if passed is not None:
            passed.pop(called.id, None)
        if not link.is_open:
            if not answer.cancelled():
                answer.exception()
            return
        if answer.cancelled():
            link.refuse(called.id, CANCELLED, "it was given up")
            return
        error = answer.exception()
        if error is None:
            link.answer(called.id, answer.result())
        elif way.is_any and (
            isinstance(error, ActorStopping) or (isinstance(error, ConnectionLost) and not error.sent)
        ):
            self._forward(link, called, envelope)  # nothing was done there, so another one can do it
        elif isinstance(error, ConnectionLost):
            self._start(self._tell_death(link, called, way, error))
        elif isinstance(error, RemoteFault):
            link.refuse(called.id, error.code, str(error), error.data)
        else:
            self._refuse(link, called, error)

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = self.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _forward_later(self, link: Link, called: Called, envelope: Any, error: NotRunning) -> None:
        """Nobody of the group is there: pass the message on as soon as somebody is."""
        left = ASK_TIMEOUT if called.deadline is None else called.deadline - self.loop.time()
        try:
            await self.wait_for_member(envelope.target, left, error)
        except MonsalError as late:
            self._refuse(link, called, late)
        else:
            self._forward(link, called, envelope)

    async def wait_for_member(self, target: Any, limit: float, error: NotRunning) -> float:
        group = self.groups.get(actor_identity(target))
        if group is None:
            raise error
        began = self.loop.time()
        await group.wait_for_member(limit)
        return limit - (self.loop.time() - began)

    async def _tell_death(self, link: Link, called: Called, way: Way, error: ConnectionLost) -> None:
        self._refuse(link, called, await self.died(way, error))

    def on_event(self, link: Link, event: Any) -> None:
        kind = type(event)
        if kind is Cancelled:
            passed = self._passed.get(link)
            answer = None if passed is None else passed.get(event.id)
            if answer is not None:
                answer.cancel()
                return
        elif kind is Lost:
            for answer in list(self._passed.pop(link, {}).values()):
                answer.cancel()
        super().on_event(link, event)

    # -- what children ask of the directory -------------------------------------------------------------------

    def on_machine(self, link: Link, called: Called) -> None:
        if called.is_cast:
            record = self.by_link.get(link)
            if called.method == f"{MACHINE}recycle" and record is not None and record.ref.group in self.groups:
                self.groups[record.ref.group].recycle(record)
            elif called.method == f"{MACHINE}probe":
                super().on_machine(link, called)
            return
        try:
            (target,) = _decode(called.params)  # type: ignore[arg-type] # links of actors leave params undecoded
        except (ValueError, TypeError, msgspec.DecodeError) as error:
            link.refuse(called.id, *fault_of(CommandError(f"this cannot be answered: {error}")))
            return
        if called.method == f"{MACHINE}doing":
            link.answer(called.id, self.lines(str(target)))
        elif called.method == f"{MACHINE}cause":
            self._tell_cause(link, called, str(target))
        else:
            super().on_machine(link, called)

    def _tell_cause(self, link: Link, called: Called, target: str) -> None:
        """Of what an actor died. Its link ends before its process is collected, so the verdict may be a moment away."""
        record = self.find(target)
        if record is None:
            gone = self.gone.get(target)
            link.answer(called.id, [None, None] if gone is None else [gone[1], gone[0]])
            return
        self._start(self._tell_cause_later(link, called, record))

    async def _tell_cause_later(self, link: Link, called: Called, record: Record) -> None:
        await asyncio.wait([record.down], timeout=_MOMENT)
        if not record.down.done() and not record.link.is_open:
            # Its process has given all its links up: it is about to be collected, which a busy machine takes time for.
            await asyncio.wait([record.down], timeout=_VERDICT)
        if link.is_open:
            # Only the link between the two was lost, if it lives.
            link.answer(called.id, [record.down.result(), record.ref] if record.down.done() else [None, None])

    def lines(self, target: str, seen: frozenset[str] = frozenset()) -> tuple[str, ...]:
        """What an actor does, and those that it waits for, as lines for people."""
        record = self.find(target)
        if record is None or target in seen:
            return ()
        if record.down.done():
            return (f"{record.ref.name} {record.down.result()}",)
        now = time.monotonic()
        doing = record.host.recorder.doing(now)
        if not doing:
            silent = now - record.host.recorder.last_beat
            return (f"{record.ref.name} was between turns, its last sign of life {silent:.1f} s ago",)
        lines = [f"{record.ref.name} was at {one.text(now)}" for one in doing[:5]]
        for name in dict.fromkeys(one.waits_for for one in doing if one.waits_for):
            lines += self.lines(name, seen | {target, record.ref.name, record.ref.aid})
        return tuple(lines[:10])

    async def doing(self, target: str) -> tuple[str, ...]:
        return self.lines(target)

    async def died(self, way: Way, error: ConnectionLost) -> RemoteError:
        record = self.find(way.target)
        if record is not None:
            await asyncio.wait([record.down], timeout=_VERDICT)
            if record.down.done():
                return record.died()
        gone = self.gone.get(way.target)
        if gone is not None:
            return ActorDied(f"{gone[0]} {gone[1]}", ref=gone[0], cause=gone[1])
        return error

    async def explained(self, command: str, target: str, limit: float) -> AskExpired:
        record = self.find(target)
        return expired(command, str(record.ref) if record is not None else target, limit, self.lines(target))
