"""Actors: subclass `Actor`, mark commands, and let an arbiter start it.

class Greeter(Actor):
    def __init__(self, greeting="Hello"):      # the `args` of its spec
        self.greeting = greeting

    async def start(self):                     # made active; `boot` came before, also in a spare
        ...

    @command()
    async def greet(self, request, name):
        return f"{self.greeting} {name}"
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Coroutine, Mapping
from typing import Any, ClassVar

import msgspec

from monsal.actors.builtin import BuiltIn
from monsal.actors.hooks import Hooks
from monsal.actors.message import TELL
from monsal.actors.refs import ARBITER, ActorRef, ref_of
from monsal.actors.spec import ActorSpec
from monsal.actors.states import ActorState, check_move
from monsal.actors.station import Station, here
from monsal.actors.turn import current_turn
from monsal.actors.turns import TurnStatistics
from monsal.errors import UsageError

__all__ = ["Actor", "ActorStatistics", "awaited", "current_actor", "get_ref", "is_actor"]


class ActorStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """An actor now: who and where it is, since when (seconds), and its turns."""

    ref: ActorRef
    state: str
    kind: str
    pid: int
    uptime: float
    links: int
    bad_frames: int
    turns: TurnStatistics


class Actor(Hooks, BuiltIn):
    """Something with a mailbox. It never leaves its process; others have an `ActorRef` of it.

    The hooks `boot`, `start`, `stopping`, `periodic_task`, `on_info` and `on_params` may be async or not; a subclass
    that does not need them leaves them out.
    """

    #: Modules whose functions marked by `command` belong to this type, too.
    commands: ClassVar[tuple[str, ...]] = ()

    state: ActorState = ActorState.INITIAL
    #: With what its process ends.
    exit_code: int = 0
    started_at: float = 0.0
    _station: Station | None = None

    # -- who it is --------------------------------------------------------------------------------------------

    @property
    def station(self) -> Station:
        """Its place in its process. Raises UsageError for an actor that nobody started."""
        if self._station is None:
            raise UsageError(f"this {type(self).__name__} was not started: an arbiter spawns it")
        return self._station

    @property
    def ref(self) -> ActorRef:
        """What others know it by."""
        return self.station.ref

    @property
    def name(self) -> str:
        return self.station.ref.name

    @property
    def aid(self) -> str:
        return self.station.ref.aid

    identity = aid

    @property
    def spec(self) -> ActorSpec:
        return self.station.spec

    @property
    def args(self) -> Mapping[str, Any]:
        """The arguments that its class was made with."""
        return self.station.spec.args

    @property
    def arbiter(self) -> ActorRef:
        """The arbiter of all."""
        return ActorRef(aid=ARBITER, name=ARBITER)

    @property
    def is_orphan(self) -> bool:
        """Whether the arbiter is gone. It may be noticed by the end of the link, or by a signal of the kernel."""
        return self.station.parent_lost.is_set()

    @property
    def pid(self) -> int:
        return os.getpid()

    @property
    def tid(self) -> int:
        return threading.get_ident()

    @property
    def is_arbiter(self) -> bool:
        return False

    def move(self, state: ActorState) -> None:
        """Go to another state. Raises StateError if there is no such way (mailbox.R21)."""
        self.state = check_move(self.state, state)

    def __reduce__(self) -> Any:
        raise TypeError("an actor never leaves its process; send its `ref`")

    # -- what it says -----------------------------------------------------------------------------------------

    def ask(
        self,
        target: Any,
        command: str,
        *args: Any,
        timeout: float | None = None,
        key: str | None = None,
        **kwargs: Any,
    ) -> Coroutine[Any, Any, Any]:
        """To be awaited: the result of a command of another actor: a name, an id, an ActorRef, a group, `arbiter` or
        `monitor`.

        It is there within `timeout` seconds (5.0), and within what is left to the turn that asks. Messages of one `key`
        are handled one after another, those of different keys beside each other.

        Raises what happened: RemoteActorError for an exception there, CommandError, UnknownActor, Busy, ActorDied,
        AskExpired, WaitingCircle.
        """
        # No coroutine of its own: each layer of them costs at every ask.
        return self.station.ask(target, command, (args, kwargs), timeout=timeout, key=key)

    async def tell(
        self,
        target: Any,
        command: str,
        *args: Any,
        timeout: float | None = None,
        key: str | None = None,
        **kwargs: Any,
    ) -> None:
        """As `ask`, but only until the mailbox of the target has the message; what becomes of it there is not told."""
        await self.station.ask(target, command, (args, kwargs), timeout=timeout, key=key, flags=TELL)

    async def send(self, target: Any, action: str, /, *args: Any, **params: Any) -> Any:
        """`ask` under the name of the contract: all that is given by name is for the command."""
        return await self.station.ask(target, action, (args, params))

    async def spawn(self, spec: ActorSpec) -> ActorRef:
        """Have the arbiter start an actor; its reference once it is ready. Raises as `ask`."""
        params = dict(spec.args)
        await awaited(self.on_params(params))
        told = {**msgspec.to_builtins(spec), "args": params}
        found = ref_of(await self.ask(ARBITER, "spawn", told, timeout=spec.ready_within))
        assert found is not None
        return found

    async def meet(self, target: Any) -> None:
        """Have the arbiter make a direct link between this actor and another one (mailbox.B14). Raises as `ask`."""
        await self.ask(ARBITER, "introduce", self.aid, target if isinstance(target, str) else target.aid)

    # -- what it tells of itself ------------------------------------------------------------------------------

    def statistics(self) -> ActorStatistics:
        station = self.station
        return ActorStatistics(
            ref=station.ref,
            state=self.state.text,
            kind=station.spec.kind,
            pid=self.pid,
            uptime=time.time() - self.started_at if self.started_at else 0.0,
            links=len(station.peers) + (station.up is not None),
            bad_frames=station.troubles,
            turns=station.turns.statistics(),
        )


async def awaited(value: Any) -> Any:
    """The result of a hook that may be async."""
    return await value if hasattr(value, "__await__") else value


def current_actor() -> Actor | None:
    """The actor whose turn this code is part of, that controls this thread, or whose process this is; None if there is
    none."""
    turn = current_turn.get()
    if turn is not None:
        found: Actor = turn.station.actor
        return found
    station = here.station or here.home
    return None if station is None else station.actor


def is_actor(value: Any) -> bool:
    """Whether this is an actor of this process."""
    return isinstance(value, Actor)


def get_ref(value: Any, safe: bool = False) -> ActorRef | None:
    """The reference of an actor or reference; for anything else ValueError, or None if `safe`."""
    found = ref_of(value)
    if found is None and not safe:
        raise ValueError(f"{value!r} is no actor, and no reference of one")
    return found
