"""The life of an actor in its own process or thread: what its parent tells it to do, from boot to the end."""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
import time
from collections.abc import Callable, Coroutine
from functools import partial
from importlib import import_module
from typing import Any, Final

import msgspec

from monsal.actors.actor import Actor, awaited
from monsal.actors.causes import ExitKind
from monsal.actors.errors import CommandError, fault_of
from monsal.actors.message import link_setup, opened
from monsal.actors.recorder import Recorder
from monsal.actors.refs import ARBITER, ActorRef
from monsal.actors.spec import ActorSpec
from monsal.actors.states import ActorState
from monsal.actors.station import MACHINE, Station, here
from monsal.errors import MonsalError
from monsal.transport.link import Link
from monsal.wire.events import Called, Lost

__all__ = ["PARENT_LOST", "ImportFailed", "Life", "class_at", "take_in"]

log = logging.getLogger("monsal.actors")

#: Exit code of a child whose parent is gone.
PARENT_LOST: Final = 74
#: The longest wait between two beats, and their share of the time in which an actor is missed (mailbox.R22).
_LONGEST_BEAT: Final = 30.0
_BEAT: Final = 0.3
#: The turns that run get so much of the grace, the hook `stopping` what is left of it.
_DRAIN: Final = 0.8
_decode: Final = msgspec.msgpack.Decoder().decode


class ImportFailed(MonsalError):
    """The class of an actor cannot be imported."""


def _found(path: str) -> Any:
    module, _, name = path.partition(":")
    try:
        found: Any = import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except Exception as error:
        raise ImportFailed(f"{path} cannot be imported: {error}") from error
    return found


def class_at(path: str) -> type[Actor]:
    """The class at `package.module:Class`. Raises ImportFailed, with the cause, if there is no Actor."""
    found = _found(path)
    if not (isinstance(found, type) and issubclass(found, Actor)):
        raise ImportFailed(f"{path} is no subclass of monsal.actors.Actor")
    return found


class Life:
    """One actor here. `ended` is its exit code, once it is over; `leave` ends it in order."""

    def __init__(
        self,
        recorder: Recorder,
        *,
        ready: Callable[[], object],
        beaten: Callable[[float], object] | None = None,
        door: socket.socket | None = None,
        taken: Callable[[dict[str, Any]], socket.socket] | None = None,
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[int] = self.loop.create_future()
        #: Seconds that it has to end once it is told to; None for ever.
        self.grace: float | None = 5.0
        self._recorder = recorder
        self._door = door
        self._taken = taken or self._from_door
        self._ready = ready
        self._beaten = beaten
        self._station: Station | None = None
        self._leaving: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._beat: asyncio.TimerHandle | None = None
        self._does: dict[str, Callable[[Any], Coroutine[Any, Any, Any]]] = {
            "boot": self._boot,
            "start": self._start,
            "door": self._take_in,
            "stop": self._stop,
        }
        self._up = opened(link_setup(self._on_call, self._on_event), ARBITER)

    async def connect(self, sock: socket.socket) -> None:
        """Begin: our end of the link."""
        await self.loop.create_unix_connection(lambda: self._up, sock=sock)
        self.begin()

    def begin(self) -> None:
        """The link is there, and signals are heard from now on."""
        self._recorder.beat(time.monotonic())

    @property
    def link(self) -> Link:
        """The link to the arbiter."""
        return self._up

    # -- what comes in ----------------------------------------------------------------------------------------

    def _on_call(self, link: Link, called: Called) -> None:
        if not called.method.startswith(MACHINE) or (called.is_cast and called.method.endswith("probe")):
            if self._station is not None:
                self._station.on_call(link, called)
            elif not called.is_cast:
                link.refuse(called.id, *fault_of(CommandError("it has not booted yet")))
            return
        task = self.loop.create_task(self._do(link, called), name=called.method)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _do(self, link: Link, called: Called) -> None:
        try:
            does = self._does.get(called.method.removeprefix(MACHINE))
            if does is None:
                raise CommandError(f"nobody does {called.method} here")
            result = await does(_decode(called.params))  # type: ignore[arg-type] # it is raw
        except asyncio.CancelledError:
            raise
        except Exception as error:
            log.debug("%s failed", called.method, exc_info=error)
            if not called.is_cast:
                link.refuse(called.id, *_told(error))
        else:
            if not called.is_cast:
                link.answer(called.id, result)

    def _on_event(self, link: Link, event: Any) -> None:
        if type(event) is Lost:
            # Nobody can tell us anything any more: this process ends, and can be collected (mailbox.R17).
            self.leave(PARENT_LOST)
        if self._station is not None:
            self._station.on_event(link, event)

    # -- what the parent says ---------------------------------------------------------------------------------

    async def _boot(self, told: dict[str, Any]) -> None:
        """Import and make the actor; it is inactive then."""
        if "sys_path" in told:
            sys.path[:] = told["sys_path"]
        spec = msgspec.convert(told["spec"], ActorSpec)
        self.grace = spec.shutdown
        actor = class_at(spec.actor)(**spec.args)
        for hook, path in spec.hooks.items():
            setattr(actor, hook, partial(_found(path), actor))
        station = Station(actor, spec, msgspec.convert(told["ref"], ActorRef), self._recorder)
        station.leave = self.leave
        station.up = self._up
        actor._station = self._station = here.station = station
        if told.get("recycle_after"):
            station.turns.when_begun(
                told["recycle_after"], lambda: self._up.cast(f"{MACHINE}recycle", [station.ref.aid])
            )
        if self._door is not None:  # a process of its own, whose other threads are its own, too
            here.settle(station)
        self._pulse()
        await awaited(actor.boot())
        actor.move(ActorState.INACTIVE)
        self._ready()

    async def _start(self, told: Any) -> None:
        """Make it active, under the name it has from now on."""
        station, actor = self._here()
        station.ref = msgspec.convert(told, ActorRef)
        actor.move(ActorState.STARTING)
        actor.started_at = time.time()
        await awaited(actor.start())
        actor.move(ActorState.RUN)

    async def _take_in(self, told: dict[str, Any]) -> None:
        """A socket lies at the door: a direct link to another actor, or something for this one."""
        station, actor = self._here()
        await take_in(station, actor, told, self._taken(told))

    def _from_door(self, told: dict[str, Any]) -> socket.socket:
        assert self._door is not None
        _, descriptors, _, _ = socket.recv_fds(self._door, 4096, 1, socket.MSG_DONTWAIT | socket.MSG_CMSG_CLOEXEC)
        return socket.socket(fileno=descriptors[0])

    async def _stop(self, told: dict[str, Any]) -> None:
        self.grace = told["within"]
        self.leave()

    def _here(self) -> tuple[Station, Actor]:
        if self._station is None:
            raise CommandError("it has not booted yet")
        return self._station, self._station.actor

    # -- the end ----------------------------------------------------------------------------------------------

    def leave(self, code: int = 0) -> None:
        """End in order: no new turn, those that run are done, then the hook `stopping`."""
        if code == PARENT_LOST and self._station is not None:
            # Maybe in the middle of an end that began in another way.
            self._station.parent_lost.set()
        if self._leaving is None:
            self._leaving = self.loop.create_task(self._leave(code), name="leave")

    async def _leave(self, code: int) -> None:
        station = self._station
        grace = self.grace
        until = None if grace is None else self.loop.time() + grace
        if station is not None:
            actor: Actor = station.actor
            actor.state = max(actor.state, ActorState.STOPPING)
            left = await station.turns.drain(
                f"{station.name} is about to end", None if grace is None else grace * _DRAIN
            )
            if left:
                log.warning("%s had %d turns that did not end in time", station.name, left)
            try:
                async with asyncio.timeout_at(until):
                    await awaited(actor.stopping())
            except Exception:
                log.exception("the hook `stopping` of %s failed", station.name)
            code = code or actor.exit_code
            actor.move(ActorState.CLOSE)
            await station.turns.close()
            for link in list(station.peers):
                link.close("this actor ends")
        if self._beat is not None:
            self._beat.cancel()
        self._up.close("this actor ends")
        if not self.ended.done():
            self.ended.set_result(code)

    # -- signs of life ----------------------------------------------------------------------------------------

    def _pulse(self) -> None:
        """The loop runs: say so where the parent can see it, without waking it."""
        station = self._station
        assert station is not None
        self._recorder.beat(time.monotonic())
        if self._beaten is not None:
            self._beaten(station.spec.timeout)
        self._beat = self.loop.call_later(min(_LONGEST_BEAT, station.spec.timeout * _BEAT), self._pulse)
        actor: Actor = station.actor
        if actor.state is ActorState.RUN and getattr(actor.periodic_task, "__func__", None) is not Actor.periodic_task:
            task = self.loop.create_task(self._periodic(actor), name="periodic task")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _periodic(self, actor: Actor) -> None:
        try:
            await awaited(actor.periodic_task())
        except Exception:
            log.exception("the periodic task of %s failed", actor.name)


async def take_in(station: Station, actor: Actor, told: dict[str, Any], sock: socket.socket) -> None:
    """Do with a socket what it is for."""
    peer = None if told.get("peer") is None else msgspec.convert(told["peer"], ActorRef)
    purpose = told["purpose"]
    if purpose == "mailbox" and peer is not None:
        sock.setblocking(False)
        link = opened(station.setup, str(peer))
        await station.loop.create_unix_connection(lambda: link, sock=sock)
        station.befriend(link, peer)
        return
    await awaited(actor.introduced(purpose, sock, peer))


def _told(error: Exception) -> tuple[int, str, Any]:
    """The fault for the parent: it says whether the code could not be imported, which is nothing a restart helps."""
    code, message, data = fault_of(error)
    is_import = isinstance(error, ImportFailed)
    kind = ExitKind.IMPORT_ERROR if is_import else ExitKind.START_FAILED
    return code, message, {**(data or {}), "exit": kind.value}
