"""The states of a bus and every way from one to another, as one table (B1).

Five states are public, as in the original design. Within them a bus has a finer `Phase`, which tells draining,
reloading, failed and exited apart. `WAYS` is the whole truth about which phase may follow which; `ASKED` says what a
call of `start`, `stop` or `exit` means in each phase.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from types import MappingProxyType
from typing import Literal

__all__ = ["ASKED", "WAYS", "Action", "Phase", "State", "TransitionError", "states"]

Action = Literal["start", "stop", "exit"]


class TransitionError(RuntimeError):
    """What was asked for cannot be reached from the phase in which the bus is; nothing was changed."""


class State(Enum):
    """The public state of a bus; its text is `states.NAME`."""

    STOPPED = "STOPPED"
    STARTING = "STARTING"
    STARTED = "STARTED"
    STOPPING = "STOPPING"
    EXITING = "EXITING"

    def __repr__(self) -> str:
        return f"states.{self.name}"

    __str__ = __repr__


#: The name that the original design gives to the five states.
states = State


class Phase(Enum):
    """What a bus is doing within its state."""

    NEW = "new"
    STARTING = "starting"
    INTERRUPTED = "interrupted"
    STARTED = "started"
    RELOADING = "reloading"
    STOPPING = "stopping"
    DRAINING = "draining"
    STOPPED = "stopped"
    FAILED = "failed"
    EXITING = "exiting"
    EXITED = "exited"

    @property
    def state(self) -> State:
        """The public state that this phase is a part of."""
        return _STATE[self]


_STATE: Mapping[Phase, State] = MappingProxyType(
    {
        Phase.NEW: State.STOPPED,
        Phase.STARTING: State.STARTING,
        Phase.INTERRUPTED: State.STARTING,
        Phase.STARTED: State.STARTED,
        Phase.RELOADING: State.STARTED,
        Phase.STOPPING: State.STOPPING,
        Phase.DRAINING: State.STOPPING,
        Phase.STOPPED: State.STOPPED,
        Phase.FAILED: State.STOPPING,
        Phase.EXITING: State.EXITING,
        Phase.EXITED: State.EXITING,
    }
)

#: Phase -> the phases that may follow it.
WAYS: Mapping[Phase, frozenset[Phase]] = MappingProxyType(
    {
        Phase.NEW: frozenset({Phase.STARTING, Phase.STOPPING}),
        Phase.STARTING: frozenset({Phase.STARTED, Phase.STOPPING, Phase.INTERRUPTED}),
        Phase.INTERRUPTED: frozenset({Phase.STOPPING}),
        Phase.STARTED: frozenset({Phase.RELOADING, Phase.STOPPING}),
        Phase.RELOADING: frozenset({Phase.STARTED, Phase.STOPPING}),
        Phase.STOPPING: frozenset({Phase.DRAINING, Phase.STOPPED, Phase.FAILED}),
        Phase.DRAINING: frozenset({Phase.STOPPING, Phase.FAILED}),
        Phase.STOPPED: frozenset({Phase.STARTING, Phase.EXITING}),
        Phase.FAILED: frozenset({Phase.STOPPING, Phase.EXITING}),
        Phase.EXITING: frozenset({Phase.EXITED}),
        Phase.EXITED: frozenset(),
    }
)

_REFUSED: Literal["refused"] = "refused"
_NOTHING: Literal["nothing"] = "nothing"

#: Phase -> what (start, stop, exit) do there: the phase to enter first, "nothing" because the target is reached or on
#: its way, or "refused". A bus that is NEW is stopped as in the original, where `exit` always ran the stop listeners;
#: one that is STOPPED has done that. A bus that FAILED to stop may try again, or exit with what is left.
ASKED: Mapping[Phase, Mapping[Action, Phase | Literal["nothing", "refused"]]] = MappingProxyType(
    {
        phase: MappingProxyType({"start": start, "stop": stop, "exit": leave})
        for phase, start, stop, leave in (
            (Phase.NEW, Phase.STARTING, Phase.STOPPING, Phase.STOPPING),
            (Phase.STARTING, _NOTHING, Phase.STOPPING, Phase.STOPPING),
            (Phase.INTERRUPTED, _REFUSED, Phase.STOPPING, Phase.STOPPING),
            (Phase.STARTED, _NOTHING, Phase.STOPPING, Phase.STOPPING),
            (Phase.RELOADING, _NOTHING, Phase.STOPPING, Phase.STOPPING),
            (Phase.STOPPING, _REFUSED, _NOTHING, Phase.EXITING),
            (Phase.DRAINING, _REFUSED, _NOTHING, Phase.EXITING),
            (Phase.STOPPED, Phase.STARTING, _NOTHING, Phase.EXITING),
            (Phase.FAILED, _REFUSED, Phase.STOPPING, Phase.EXITING),
            (Phase.EXITING, _REFUSED, _NOTHING, _NOTHING),
            (Phase.EXITED, _REFUSED, _NOTHING, _NOTHING),
        )
    }
)
