"""What happens to actors, for whoever gives an arbiter `on_event`, and how one ended, for whoever watches it."""

from __future__ import annotations

import msgspec

from monsal.actors.causes import Exit
from monsal.actors.recorder import Doing
from monsal.actors.refs import ActorRef

__all__ = ["Died", "Down", "GaveUp", "Happening", "Promoted", "Restarting", "Started"]


class Started(msgspec.Struct, frozen=True, kw_only=True):
    """An actor is active, so many seconds after its start began."""

    ref: ActorRef
    pid: int
    seconds: float


class Promoted(msgspec.Struct, frozen=True, kw_only=True):
    """A spare became the actor `ref`, within so many seconds."""

    ref: ActorRef
    pid: int
    seconds: float


class Died(msgspec.Struct, frozen=True, kw_only=True):
    """An actor has ended, in order or not: `cause`. `doing` are the turns that were on the table."""

    ref: ActorRef
    pid: int
    cause: Exit
    doing: tuple[Doing, ...] = ()


class Restarting(msgspec.Struct, frozen=True, kw_only=True):
    """A member of a group will be started again in `delay` seconds, because it ended of `cause`."""

    group: str
    member: str
    cause: Exit | None
    delay: float


class GaveUp(msgspec.Struct, frozen=True, kw_only=True):
    """A group ended for good: its members ended too often. `member` was the last, of `cause`."""

    group: str
    reason: str
    member: str
    cause: Exit


class Down(msgspec.Struct, frozen=True, kw_only=True):
    """The death notice of an actor (mailbox.B9)."""

    ref: ActorRef
    cause: Exit


Happening = Started | Promoted | Died | Restarting | GaveUp
