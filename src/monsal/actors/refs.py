"""Who an actor is, for others: a small value that can be sent, and the ids in it."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from typing import Any

import msgspec

__all__ = ["ARBITER", "MONITOR", "ActorRef", "actor_identity", "new_id", "ref_of"]

#: The names that are known everywhere: the arbiter, and the sender's own group.
ARBITER = "arbiter"
MONITOR = "monitor"


def new_id() -> str:
    """A fresh id of 22 hexadecimal digits: milliseconds since 1970, then 40 random bits. Later ones sort later."""
    return f"{int(time.time() * 1000):012x}{secrets.token_hex(5)}"


class ActorRef(msgspec.Struct, frozen=True, eq=False, kw_only=True):
    """An actor, as others know it: equal by `aid`, which no second actor ever has.

    `name` is what it is asked by; whoever is started in its place has the same name, and a higher `epoch`. `group` is
    that of its monitor, empty if it has none; `generation` counts the replacements of the group's code.
    """

    aid: str
    name: str = ""
    group: str = ""
    generation: int = 0
    epoch: int = 0

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ActorRef) and other.aid == self.aid

    def __hash__(self) -> int:
        return hash(self.aid)

    def __str__(self) -> str:
        return f"{self.name} ({self.aid})" if self.name else self.aid


def ref_of(value: Any) -> ActorRef | None:
    """The reference that something is: an ActorRef, what became of one on its way over a link, or what has a `ref`."""
    if isinstance(value, ActorRef):
        return value
    if isinstance(value, Mapping):
        try:
            return msgspec.convert(value, ActorRef)
        except msgspec.ValidationError:
            return None
    found = getattr(value, "ref", None)
    return found if isinstance(found, ActorRef) else None


def actor_identity(actor: Any) -> str:
    """The id of an actor or reference; what has none is given back as it is."""
    found = ref_of(actor)
    if found is not None:
        return found.aid
    return actor  # type: ignore[no-any-return] # by contract: the argument itself
