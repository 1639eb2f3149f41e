"""What a Peer tells its shell."""

from __future__ import annotations

from typing import Any

import msgspec

from monsal.wire.codes import CANCELLED
from monsal.wire.hello import HelloFacts
from monsal.wire.packets import Call, Fault, Id, Meta, Params

__all__ = [
    "Alive",
    "Answered",
    "Called",
    "Cancelled",
    "Event",
    "Expired",
    "Failed",
    "Greeted",
    "Heard",
    "Lost",
    "PeerStatistics",
    "Trouble",
]


class Called(msgspec.Struct, gc=False):
    """A call that is to be run now; answer it with `reply` or `fault`, unless `is_cast`.

    `id` may be None for a call too (rpc.B8). `deadline` is in the time of `now`, None if the other side named none.
    `secinfo` is what security knows of the sender, empty if nothing.
    """

    id: Id
    method: str
    params: Params
    is_cast: bool = False
    deadline: float | None = None
    meta: Meta | None = None
    secinfo: dict[str, Any] = {}


class Answered(msgspec.Struct, gc=False):
    """A call of ours has its result."""

    id: Id
    result: Any


class Failed(msgspec.Struct):
    """A call of ours was answered with a fault."""

    id: Id
    fault: Fault


class Expired(msgspec.Struct):
    """A call of ours was not answered in time, and is given up."""

    id: Id


class Cancelled(msgspec.Struct):
    """The handler of this call is to be stopped, and the call then answered with `code` all the same (rpc.B4).

    The other side gave it up (CANCELLED), or its deadline passed (DEADLINE).
    """

    id: Id
    code: int = CANCELLED


class Trouble(msgspec.Struct):
    """Something came that is no good. Its sender was told already, if `is_answered`.

    `fault` says what it is, with more in `data`; `in_reply_to` is the call, if there was one (rpc.R25).
    """

    fault: Fault
    in_reply_to: Call | None = None
    is_answered: bool = False


class Alive(msgspec.Struct):
    """The other side answered a ping."""


class Greeted(msgspec.Struct):
    """Hello was exchanged; this is what the other side said."""

    facts: HelloFacts


class Lost(msgspec.Struct):
    """The other side says no more: hang up. Told once.

    `calls` are those of ours that were not answered, each with whether any of it may have been sent (rpc.B3); `running`
    the ids of theirs that are not answered. After the end of the other side's bytes those may still be answered
    (`may_answer`), because `printf ... | nc` reads on.
    """

    reason: str
    calls: dict[int, bool]
    running: tuple[Id, ...] = ()
    may_answer: bool = False


Event = Called | Answered | Failed | Expired | Cancelled | Trouble | Alive | Greeted | Lost


class Heard(msgspec.Struct):
    """What is made of one piece of data: when it came, what it means; of the packet at hand, its sender and size."""

    now: float
    events: list[Event] = []
    secinfo: dict[str, Any] = {}
    octets: int = 0


class PeerStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """Calls made, calls heard and troubles since the start; calls pending, in flight and held back; octets unsent."""

    made: int
    heard: int
    troubles: int
    pending: int
    in_flight: int
    waiting: int
    buffered: int
