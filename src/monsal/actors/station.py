"""An actor's place in its process: its turns, its links, and the way to each other actor.

A child's station has a link `up` to the arbiter and direct links to those it was introduced to; the arbiter's has one
to each child, and passes messages on. Both are this class; the arbiter's overrides `way` and `pass_on`.
"""

from __future__ import annotations

import asyncio
import logging
import math
import threading
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Final, NamedTuple

import msgspec
from msgspec import Raw

from monsal.actors.causes import Exit
from monsal.actors.commands import Command, table_of
from monsal.actors.errors import (
    ActorDied,
    ActorStopping,
    AskExpired,
    CommandError,
    CommandNotFound,
    UnknownActor,
    error_of,
    fault_of,
)
from monsal.actors.message import TELL, Envelope, as_params, envelope_of, link_setup
from monsal.actors.queueing import MessageQueue
from monsal.actors.recorder import Recorder
from monsal.actors.refs import ActorRef, actor_identity
from monsal.actors.spec import ActorSpec
from monsal.actors.turn import Turn, current_turn
from monsal.actors.turns import Turns
from monsal.actors.waiting import Hop, WaitingCircle
from monsal.errors import CallExpired, ConnectionLost, MonsalError, NotRunning, RemoteError, UsageError
from monsal.transport.link import Link
from monsal.wire.codes import INVALID_PARAMS, METHOD_NOT_FOUND
from monsal.wire.events import Called, Cancelled, Lost, Trouble
from monsal.wire.packets import EncodeError, Fault, Id, Meta

__all__ = ["ASK_TIMEOUT", "MACHINE", "Station", "Way", "expired", "here"]

log = logging.getLogger("monsal.actors")

#: Seconds in which an ask is answered, unless its asker says otherwise (mailbox.B3).
ASK_TIMEOUT: Final = 5.0
#: What the methods begin with that are between a parent and its child, and no commands.
MACHINE: Final = "monsal."
_decode: Final = msgspec.msgpack.Decoder().decode


class Way(NamedTuple):
    """How an actor is reached: over a link (None: it is in this process), under which name there."""

    link: Link | None
    target: str
    #: Whether another one can do the same if this one is about to end.
    is_any: bool = False
    #: The id, where the target is a name: of what somebody died whose name is free again is known by that alone.
    aid: str = ""


class _Here(threading.local):
    """The station of this thread; see `current_actor`. Threads that have none are those of `home`, in all threads."""

    station: Station | None = None
    home: ClassVar[Station | None] = None

    @classmethod
    def settle(cls, station: Station | None) -> None:
        """Whose threads those without a station are: the only actor of a process, or nobody's."""
        cls.home = station


here: Final = _Here()


class Station:
    """Where an actor is. All on the loop of its thread."""

    def __init__(self, actor: Any, spec: ActorSpec, ref: ActorRef, recorder: Recorder) -> None:
        self.actor = actor
        self.spec = spec
        self.ref = ref
        self.recorder = recorder
        self.loop = asyncio.get_running_loop()
        self.table: Mapping[str, Command] = table_of(type(actor))
        self.turns = Turns(MessageQueue[Turn](spec.mailbox, serial=spec.serial), recorder, self.loop)
        self.up: Link | None = None
        #: Set when the arbiter is gone.
        self.parent_lost = asyncio.Event()
        #: Links to those who were introduced, by their ids and by their names.
        self.direct: dict[str, Way] = {}
        self.peers: dict[Link, ActorRef] = {}
        self.setup = link_setup(self.on_call, self.on_event)
        self.troubles = 0
        #: Ends the actor in order, with an exit code; given by whoever owns its life.
        self.leave: Callable[[int], object] = self._cannot_leave

    @property
    def name(self) -> str:
        return self.ref.name

    # -- what comes in ----------------------------------------------------------------------------------------

    def on_call(self, link: Link, called: Called) -> None:
        """Something came over a link."""
        if called.method.startswith(MACHINE):
            self.on_machine(link, called)
            return
        try:
            envelope = envelope_of(called)
        except msgspec.ValidationError as error:
            if not called.is_cast:
                link.refuse(called.id, INVALID_PARAMS, f"this is no message: {error}")
            return
        target = envelope.target
        if not target or target == self.ref.aid or target == self.ref.name:
            self.accept(link, called, envelope)
        else:
            self.pass_on(link, called, envelope)

    def on_machine(self, link: Link, called: Called) -> None:
        """Something between a parent and its child, or a question of who waits for whom."""
        if called.method == f"{MACHINE}probe" and called.is_cast:
            target, key, *chain = map(str, _decode(called.params))  # type: ignore[arg-type] # it is raw
            if target in ("", self.ref.aid, self.ref.name):
                self._probed(key, tuple(chain))
            else:
                self.pass_probe(target, key, tuple(chain))
            return
        if not called.is_cast:
            link.refuse(called.id, METHOD_NOT_FOUND, f"nobody does {called.method} here")

    def pass_probe(self, target: str, key: str, chain: tuple[str, ...]) -> None:
        """A question of who waits for whom, for somebody else."""

    def pass_on(self, link: Link, called: Called, envelope: Any) -> None:
        """A message for somebody else."""
        if not called.is_cast:
            self.refuse(link, called.id, self.unknown(called.method, envelope.target))

    def unknown(self, command: str, target: str) -> Exception:
        """The error for a target that nobody is (mailbox.R13); `command` is "" where it is not known yet."""
        what = f"{command!r} is for {target!r}, and nobody here is called so"
        return UnknownActor(what if command else f"nobody here is called {target!r}")

    def accept(self, link: Link, called: Called, envelope: Any) -> None:
        """A message for this actor, over a link."""
        command = self.table.get(called.method) or self.table.get(called.method.lower())
        if command is None:
            if not called.is_cast:
                self.refuse(link, called.id, self.no_such_command(called.method))
            return
        source = None if called.is_cast else link
        turn = Turn(
            self, command, source, called.id, sender=envelope.sender, key=envelope.key or "", body=envelope.body
        )
        turn.deadline = called.deadline
        if called.meta is not None:
            turn.trace = called.meta.trace
        turn.chain = envelope.chain
        if turn.chain and (circle := self.circle(turn)) is not None:
            self.refuse(link, called.id, circle)
            return
        waits = self.turns.receive(turn, len(memoryview(envelope.body)), bool(envelope.flags & TELL))
        if waits and turn.chain:
            self._probe(turn.key, turn.chain)

    def no_such_command(self, name: str) -> CommandNotFound:
        return CommandNotFound(f"{self.name or 'it'}, a {type(self.actor).__name__}, has no command {name!r}")

    def circle(self, turn: Turn) -> WaitingCircle | None:
        """The circle that a message closes if it has to wait here for a turn that waits for its answer (mailbox.B3)."""
        chain, aid, key = turn.chain, self.ref.aid, turn.key
        if turn.command.control or not (key or self.spec.serial):
            return None
        for place in range(0, len(chain) - 1, 2):
            if chain[place] == aid and chain[place + 1] == key:
                hops = [Hop(chain[i], chain[i + 1]) for i in range(place, len(chain) - 1, 2)]
                return WaitingCircle([*hops, Hop(aid, key)])
        return None

    def refuse(self, source: Any, identifier: Id, error: BaseException) -> None:
        """Answer with an error."""
        try:
            source.refuse(identifier, *fault_of(error))
        except (EncodeError, UsageError) as trouble:
            log.error("%s cannot be told that %s: %s", getattr(source, "name", source), error, trouble)

    def on_event(self, link: Link, event: Any) -> None:
        """Something happened to a link."""
        kind = type(event)
        if kind is Cancelled:
            self.turns.give_up(link, event.id, event.code)
        elif kind is Lost:
            self.turns.lose(link)
            self.forget(link)
        elif kind is Trouble:
            # Counted and told; the link ends by its limits, and with it nobody else (mailbox.B5).
            self.troubles += 1
            log.warning("%s sent what is no message: %s", link.name, event.fault.data, extra={"action": "bad_frame"})

    # -- direct links -----------------------------------------------------------------------------------------

    def befriend(self, link: Link, ref: ActorRef) -> None:
        """Send over this link what is for `ref` from now on."""
        old = self.direct.get(ref.aid)
        self.peers[link] = ref
        self.direct[ref.aid] = Way(link, ref.aid)
        if ref.name:
            self.direct[ref.name] = Way(link, ref.name, aid=ref.aid)
        if old is not None and old.link is not None and old.link is not link:
            self.peers.pop(old.link, None)
            old.link.finish()

    def forget(self, link: Link) -> None:
        """A link has ended: what it was for goes over the arbiter again."""
        ref = self.peers.pop(link, None)
        if ref is not None:
            for name in (ref.aid, ref.name):
                way = self.direct.get(name)
                if way is not None and way.link is link:
                    del self.direct[name]

    def way(self, target: Any, key: str | None) -> Way:
        """How to reach an actor. Raises CommandError if there is no way at all (mailbox.R4)."""
        text = target if type(target) is str else actor_identity(target)
        direct = self.direct.get(text)
        if direct is not None:
            return direct
        if not isinstance(text, str):
            raise CommandError(f"{target!r} is no actor, and no name of one")
        if text == self.ref.aid or text == self.ref.name:
            return Way(None, "")
        if self.up is None or not self.up.is_open:
            raise CommandError(f"{self.name} has no link to its arbiter any more, so there is no way to {text}")
        return Way(self.up, text)

    # -- what goes out ----------------------------------------------------------------------------------------

    async def ask(
        self,
        target: Any,
        command: str,
        body: tuple[tuple[Any, ...], dict[str, Any]],
        *,
        timeout: float | None = None,
        key: str | None = None,
        flags: int = 0,
    ) -> Any:
        """The result of a command of another actor; see `Actor.ask`."""
        limit = ASK_TIMEOUT if timeout is None else timeout
        chain: tuple[str, ...] = ()
        meta = None
        turn = current_turn.get()
        if turn is not None and turn.station is self:
            limit, chain, meta = self._terms(turn, limit, flags)
        else:
            turn = None
        until = self.loop.time() + limit
        while True:
            try:
                way = self.way(target, key)
            except NotRunning as error:
                limit = await self.wait_for_member(target, limit, error)
                continue
            envelope = Envelope(way.target, self.ref.aid, body, key, flags, chain)
            try:
                if way.link is None:
                    return await self._ask_here(command, envelope, limit, turn)
                if turn is None:
                    return _decode(await way.link.call(command, as_params(envelope), timeout=limit, meta=meta))
                link = way.link
                while link.is_choked:
                    await link.wait_writable(limit)
                call, answer = link.begin(command, as_params(envelope), timeout=limit, meta=meta)
                # Others can see whom the turn waits for.
                turn.asks[answer] = (way.target, key or "")
                self.recorder.waits(turn.slot, way.target)
                try:
                    return _decode(await answer)
                except (asyncio.CancelledError, WaitingCircle):
                    link.give_up(call)
                    raise
                finally:
                    del turn.asks[answer]
                    if not turn.asks:
                        self.recorder.waits(turn.slot, "")
            except ActorStopping:
                if not way.is_any:
                    raise
                limit = until - self.loop.time()
            except ConnectionLost as error:
                if error.sent or not way.is_any:
                    raise await self.died(way, error) from None
                limit = until - self.loop.time()
            except CallExpired as error:
                if isinstance(error, AskExpired) and error.doing:
                    raise
                raise await self.explained(command, way.target or self.name, limit) from None

    def _probe(self, key: str, chain: tuple[str, ...]) -> None:
        """A message of those in `chain` waits here for the turn of `key`: ask on whether that waits for one of them.

        Two turns may ask each other at the same time, so that no chain has both (see `waiting.Waits`).
        """
        turn = self.turns.running(key)
        if turn is None:
            return
        for target, wanted in list(turn.asks.values()):
            try:
                way = self.way(target, wanted)
                if way.link is not None:
                    way.link.cast(f"{MACHINE}probe", [way.target, wanted, *chain, self.ref.aid, key])
            except MonsalError as error:
                log.debug("%s cannot be asked whether it waits for us: %s", target, error)

    def _probed(self, key: str, chain: tuple[str, ...]) -> None:
        """A question came round: whoever is in `chain` waits for the turn of `key` here."""
        for place in range(0, len(chain) - 1, 2):
            if chain[place] == self.ref.aid and chain[place + 1] == key:
                hops = [Hop(chain[i], chain[i + 1]) for i in range(place, len(chain) - 1, 2)]
                turn = self.turns.running(key)
                for answer in [] if turn is None else list(turn.asks):
                    if not answer.done():
                        answer.set_exception(WaitingCircle([*hops, hops[0]]))
                return
        self._probe(key, chain)

    def _terms(self, turn: Turn, limit: float, flags: int) -> tuple[float, tuple[str, ...], Meta | None]:
        """What a turn hands on to whom it asks: what is left of its time, who waits for the answer, its trace."""
        if turn.deadline is not None:
            limit = min(limit, turn.deadline - self.loop.time())
            if limit <= 0:
                raise AskExpired(f"nobody was asked: the time of {turn.command.name} is over")
        chain = () if flags & TELL else (*turn.chain, self.ref.aid, turn.key)
        return limit, chain, Meta(limit, turn.trace) if turn.trace else None

    async def wait_for_member(self, target: Any, limit: float, error: NotRunning) -> float:
        """Wait until somebody of a group is there; the seconds that are left then. Raises the error if none will be."""
        raise error

    async def _ask_here(self, command: str, envelope: Envelope, limit: float, turn: Turn | None) -> Any:
        """Ask an actor of this process: nothing is copied."""
        asker = _LocalAsker(self.loop)
        deadline = None if limit == math.inf else self.loop.time() + limit
        self.deliver(asker, command, envelope, deadline=deadline, trace=turn.trace if turn is not None else "")
        try:
            async with asyncio.timeout_at(deadline):
                result = await asker.future
        except TimeoutError:
            self.turns.give_up(asker, 0, 0)
            raise CallExpired from None
        return _decode(result) if type(result) is Raw else result

    def deliver(
        self, source: Any, command: str, envelope: Envelope, *, deadline: float | None, trace: str = ""
    ) -> None:
        """Hand a message that did not come over a link to this actor."""
        found = self.table.get(command.lower())
        if found is None:
            self.refuse(source, 0, self.no_such_command(command))
            return
        args, kwargs = envelope.body
        turn = Turn(self, found, source, 0, sender=envelope.sender, key=envelope.key or "", body=(args, kwargs))
        turn.deadline, turn.trace, turn.chain = deadline, trace, envelope.chain
        if turn.chain and (circle := self.circle(turn)) is not None:
            self.refuse(source, 0, circle)
            return
        self.turns.receive(turn, 0, bool(envelope.flags & TELL))

    # -- when it goes wrong -----------------------------------------------------------------------------------

    async def died(self, way: Way, error: ConnectionLost) -> RemoteError:
        """Why there was no answer: the arbiter knows how it ended."""
        if way.link is self.up or self.up is None:
            return ActorDied(f"the link to the arbiter was lost: {error}")
        try:
            raw = await self.up.call(f"{MACHINE}cause", [way.aid or way.target], timeout=10.0)
            cause, ref = _decode(raw)
            found = None if cause is None else msgspec.convert(cause, Exit)
            who = None if ref is None else msgspec.convert(ref, ActorRef)
        except (MonsalError, msgspec.ValidationError) as trouble:
            return ActorDied(f"{way.target} has ended, and nobody says of what: {trouble}")
        if found is None:
            return ConnectionLost(f"the direct link to {way.target} was lost: {error}", error.sent)
        return ActorDied(f"{way.target} {found}", ref=who, cause=found)

    async def explained(self, command: str, target: str, limit: float) -> AskExpired:
        """An expiry with what the callee was doing, as its arbiter sees it."""
        doing: tuple[str, ...] = ()
        try:
            doing = await self.doing(target)
        except MonsalError as error:
            log.debug("nobody says what %s was doing: %s", target, error)
        return expired(command, target, limit, doing)

    async def doing(self, target: str) -> tuple[str, ...]:
        """Lines that say what an actor is doing, and for whom it waits."""
        if self.up is None:
            return ()
        return tuple(map(str, _decode(await self.up.call(f"{MACHINE}doing", [target], timeout=1.0))))

    def _cannot_leave(self, code: int) -> None:
        raise CommandError(f"{self.name} cannot be stopped by a command")

    def leave_with(self, error: BaseException) -> None:
        """A command raised an exception that says with which code the process is to end (mailbox.R24)."""
        code = int(getattr(error, "exit_code", 1))
        if code == 2:
            log.error("%s ends: %s", self.name, error)
        self.leave(code)


def expired(command: str, target: str, limit: float, doing: tuple[str, ...]) -> AskExpired:
    """The error for an ask that was not answered in time."""
    text = f"{target} did not answer {command} within {limit:.3g} seconds"
    if doing:
        text += "; " + "; ".join(doing)
    return AskExpired(text, doing=doing)


class _LocalAsker:
    """Waits for the answer of an actor in this process."""

    __slots__ = ("future",)

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.future: asyncio.Future[Any] = loop.create_future()

    def answer(self, identifier: Id, result: Any) -> Fault | None:
        if not self.future.done():
            self.future.set_result(result)
        return None

    def refuse(self, identifier: Id, code: int, message: str, data: Any = None) -> Fault | None:
        if not self.future.done():
            self.future.set_exception(error_of(Fault(identifier, code, message, data)))
        return None
