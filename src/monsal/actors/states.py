"""The states of an actor and every way from one to another, as one table (contract rule mailbox.R21)."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from types import MappingProxyType

__all__ = ["ACTOR_WAYS", "ActorState", "StateError", "check_move"]


class StateError(RuntimeError):
    """The actor cannot go from the state in which it is to the one asked for; nothing was changed."""


class ActorState(IntEnum):
    """Where an actor is in its life; `str()` gives the word for people. Later states have greater numbers."""

    INITIAL = 0
    INACTIVE = 1
    STARTING = 2
    RUN = 3
    STOPPING = 4
    CLOSE = 5
    TERMINATE = 6

    @property
    def text(self) -> str:
        """The word for people: `running`, `closed` and so on."""
        return _TEXT[self]

    def __str__(self) -> str:
        return self.text

    @property
    def is_running(self) -> bool:
        """Whether it takes messages and is not about to end."""
        return self is ActorState.RUN

    @property
    def has_started(self) -> bool:
        """Whether the start is behind it, however long ago."""
        return self >= ActorState.RUN

    @property
    def is_after_run(self) -> bool:
        """Whether it is about to end or has ended."""
        return self > ActorState.RUN

    @property
    def has_ended(self) -> bool:
        """Whether nothing comes after this state."""
        return self >= ActorState.CLOSE


_TEXT: Mapping[ActorState, str] = MappingProxyType(
    {
        ActorState.INITIAL: "initial",
        ActorState.INACTIVE: "inactive",
        ActorState.STARTING: "starting",
        ActorState.RUN: "running",
        ActorState.STOPPING: "stopping",
        ActorState.CLOSE: "closed",
        ActorState.TERMINATE: "terminated",
    }
)

#: State -> the states that may follow it. INACTIVE is a spare: it has booted and waits to be made active. CLOSE is the
#: orderly end; TERMINATE is that of an actor that died, was ended by force, or left children behind.
ACTOR_WAYS: Mapping[ActorState, frozenset[ActorState]] = MappingProxyType(
    {
        ActorState.INITIAL: frozenset(
            {ActorState.INACTIVE, ActorState.STARTING, ActorState.STOPPING, ActorState.TERMINATE}
        ),
        ActorState.INACTIVE: frozenset({ActorState.STARTING, ActorState.STOPPING, ActorState.TERMINATE}),
        ActorState.STARTING: frozenset({ActorState.RUN, ActorState.STOPPING, ActorState.TERMINATE}),
        ActorState.RUN: frozenset({ActorState.STOPPING, ActorState.TERMINATE}),
        ActorState.STOPPING: frozenset({ActorState.CLOSE, ActorState.TERMINATE}),
        ActorState.CLOSE: frozenset(),
        ActorState.TERMINATE: frozenset(),
    }
)


def check_move(state: ActorState, target: ActorState) -> ActorState:
    """Return `target` if it may follow `state`.

    Raises `StateError` if not; staying where one is, is no move.
    """
    if target not in ACTOR_WAYS[state]:
        after = ", ".join(one.text for one in sorted(ACTOR_WAYS[state])) or "nothing"
        raise StateError(f"an actor that is {state.text} cannot become {target.text}; what may follow is: {after}")
    return target
