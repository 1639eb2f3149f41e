"""What an actor and a group of like actors are to be: data, checked when it is made (mailbox.R20, B10, B15)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from monsal.actors.queueing import Bounds
from monsal.actors.supervision import BOOT_FAILURES, Backoff, Child, Policy, Restart, Strategy

__all__ = ["ActorSpec", "GroupSpec", "Kind"]

Kind = Literal["process", "thread"]

#: Names of kinds that mean another one: here every process is a fresh interpreter, so there is only one kind of them.
_ALIASES = {"subprocess": "process"}
_HOOKS = frozenset({"boot", "start", "stopping", "periodic_task", "on_info", "on_params"})
_PATH = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")


class ActorSpec(msgspec.Struct, frozen=True, kw_only=True):
    """One actor. All times are in seconds.

    name: how it is asked for. actor: the import path of its class, `package.module:Class`. args: keyword arguments of
    the class, of what msgpack can carry. kind: `process`, a fresh interpreter (`subprocess` means the same), or
    `thread`. restart: whether it is started again always (`permanent`), after an abnormal end (`transient`), or never
    (`temporary`). shutdown: how long it may take to stop before it is ended by force, None for ever. ready_within: how
    long until it has to say that it is ready. timeout: how long it may give no sign of life. mailbox: what may wait
    for it. serial: whether messages without a key are handled one after another. hooks: import paths of functions
    that are called as hooks in place of those of the class, with the actor first: `start`, `stopping` and so on.

    Raises `ValueError` for a kind, path, hook, time or restart that cannot be.
    """

    name: str
    actor: str
    args: Mapping[str, Any] = msgspec.field(default_factory=dict)
    kind: Kind | Literal["subprocess"] = "process"
    restart: Restart = "permanent"
    shutdown: float | None = 5.0
    ready_within: float = 60.0
    timeout: float = 30.0
    mailbox: Bounds = msgspec.field(default_factory=Bounds)
    serial: bool = True
    hooks: Mapping[str, str] = msgspec.field(default_factory=dict)

    def __post_init__(self) -> None:
        msgspec.structs.force_setattr(self, "kind", _ALIASES.get(self.kind, self.kind))
        if self.kind not in ("process", "thread"):
            raise ValueError(f"there is no kind {self.kind!r}; there are process, subprocess and thread")
        if not self.name:
            raise ValueError("an actor has a name")
        if not _PATH.fullmatch(self.actor):
            raise ValueError(f"the class of an actor is given as 'package.module:Class', not {self.actor!r}")
        for hook, path in self.hooks.items():
            if hook not in _HOOKS:
                raise ValueError(f"there is no hook {hook!r}; there are {', '.join(sorted(_HOOKS))}")
            if not _PATH.fullmatch(path):
                raise ValueError(f"the hook {hook} is given as 'package.module:function', not {path!r}")
        if min(self.ready_within, self.timeout) <= 0:
            raise ValueError(f"the times of {self.name} are more than 0 seconds")
        self.child()  # which looks at restart and shutdown

    def child(self, place: str | None = None) -> Child:
        """What supervision has to know of it; its id is its name, or its place in a group."""
        return Child(place or self.name, restart=self.restart, shutdown=self.shutdown)


class GroupSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A group of `count` like actors, supervised together.

    spare: how many booted ones are kept beside, ready to take the place of one that dies (0 or 1). strategy,
    intensity and period: as in `Policy`; an intensity of None never gives up, and then `backoff` says how long to
    wait. recycle_after: after how many messages a member is replaced, by one that is ready before it stops; 0 is never.

    Raises `ValueError` for numbers and combinations that cannot be.
    """

    member: ActorSpec
    count: int = 1
    spare: int = 0
    strategy: Strategy = "one_for_one"
    intensity: int | None = None
    period: float = 5.0
    backoff: Backoff | None = msgspec.field(default_factory=Backoff)
    recycle_after: int = 0

    def __post_init__(self) -> None:
        if self.count < 0 or self.recycle_after < 0:
            raise ValueError("a group has 0 or more members, and 0 or more messages for each")
        if self.spare not in (0, 1):
            raise ValueError("a group has one spare or none")
        self.policy()

    @property
    def name(self) -> str:
        """The name of the group is that of its members without their number."""
        return self.member.name

    def policy(self) -> Policy:
        """How the group is supervised: members that do not depend on each other start and stop beside one another.

        Ends before a member was ready do not count for the intensity, so that they need a backoff (B10).
        """
        return Policy(
            strategy=self.strategy,
            intensity=self.intensity,
            period=self.period,
            backoff=self.backoff,
            forgiven=BOOT_FAILURES if self.backoff else frozenset(),
            at_once=self.strategy == "one_for_one",
        )

    def member_id(self, number: int) -> str:
        """The id of a place in the group; numbers count from 1."""
        return f"{self.name}-{number}"
