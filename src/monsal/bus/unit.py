"""A unit: a part of the process that is started and stopped in its turn; and the table of what may become of it (B8).

Here are the values only. `units.py` starts and stops them, `inner/unitplan.py` finds the order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from types import MappingProxyType
from typing import Any, NamedTuple

__all__ = ["UNIT_WAYS", "Unit", "UnitError", "UnitPhase", "UnitStatistics"]


class UnitError(ValueError):
    """The units do not fit together, or something was asked of a unit that it cannot do; the text names it."""


class Unit:
    """What can be started, drained and stopped.

    `start`, `drain` and `stop` are called without arguments: a plain callable on a thread of its own, an `async def`
    on the owner loop of the bus. A unit is started when `start` returns. What is None is done at once.

    `requires`: names of units that must be started, else this one is not. `wants`: settled before, but if that failed
    this one is started anyway. `after`: order and nothing else. All three say that this one is stopped before those.

    The start of the bus fails if a unit fails that is not `optional`. Limits are in seconds. `health` and `progress`
    say what is wrong with a started unit, or nothing; `doing` says what it is doing now. They are asked at any time on
    any thread, and answer at once. Raises UnitError if the fields cannot be meant.
    """

    __slots__ = (
        *("name", "start", "stop", "drain", "requires", "wants", "after", "optional"),
        *("start_limit", "drain_limit", "stop_limit", "health", "progress", "doing"),
    )

    name: str
    start: Callable[[], Any] | None
    stop: Callable[[], Any] | None
    drain: Callable[[], Any] | None
    requires: tuple[str, ...]
    wants: tuple[str, ...]
    after: tuple[str, ...]
    optional: bool
    start_limit: float
    drain_limit: float
    stop_limit: float
    health: Callable[[], str | None] | None
    progress: Callable[[], str | None] | None
    doing: Callable[[], str] | None

    def __init__(
        self,
        name: str,
        *,
        start: Callable[[], Any] | None = None,
        stop: Callable[[], Any] | None = None,
        drain: Callable[[], Any] | None = None,
        requires: Iterable[str] = (),
        wants: Iterable[str] = (),
        after: Iterable[str] = (),
        optional: bool = False,
        start_limit: float = 30.0,
        drain_limit: float = 60.0,
        stop_limit: float = 30.0,
        health: Callable[[], str | None] | None = None,
        progress: Callable[[], str | None] | None = None,
        doing: Callable[[], str] | None = None,
    ) -> None:
        if not name:
            raise UnitError("a unit has a name")
        for field, names in (("requires", requires), ("wants", wants), ("after", after)):
            if isinstance(names, str):
                raise UnitError(f"{name}: {field} takes several names, so write ({names!r},)")
            # A list is welcome, too, and cannot be changed afterwards.
            object.__setattr__(self, field, tuple(names))
        for field, seconds in (("start_limit", start_limit), ("drain_limit", drain_limit), ("stop_limit", stop_limit)):
            if not seconds >= 0:
                raise UnitError(f"{name}: {field} is a number of seconds, not {seconds!r}")
            object.__setattr__(self, field, seconds)
        others: dict[str, object] = {"name": name, "start": start, "stop": stop, "drain": drain, "optional": optional}
        others |= {"health": health, "progress": progress, "doing": doing}
        for field, given in others.items():
            object.__setattr__(self, field, given)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a unit stays as it was made; {name} cannot be set")

    def __repr__(self) -> str:
        return f"<Unit {self.name}>"

    @property
    def waits_for(self) -> tuple[str, ...]:
        """All that is settled before this one, each once."""
        return tuple(dict.fromkeys((*self.requires, *self.wants, *self.after)))


class UnitPhase(Enum):
    """What a unit is doing."""

    INACTIVE = "inactive"
    WAITING = "waiting"
    STARTING = "starting"
    STARTED = "started"
    DRAINING = "draining"
    STOPPING = "stopping"
    STOPPED = "stopped"
    FAILED = "failed"
    SKIPPED = "skipped"

    @property
    def settled(self) -> bool:
        """Whether those that wait for this one need not wait any more."""
        return self not in (UnitPhase.INACTIVE, UnitPhase.WAITING, UnitPhase.STARTING)


#: Phase -> the phases that may follow it: the whole truth, checked at each change.
#: INACTIVE is also what becomes of a unit whose turn did not come because the start ended. STARTING goes to STOPPED if
#: it was cancelled. DRAINING lasts until its stop. A unit that FAILED is stopped if it had been started before.
UNIT_WAYS: Mapping[UnitPhase, frozenset[UnitPhase]] = MappingProxyType(
    {
        UnitPhase.INACTIVE: frozenset({UnitPhase.WAITING}),
        UnitPhase.WAITING: frozenset({UnitPhase.STARTING, UnitPhase.SKIPPED, UnitPhase.INACTIVE}),
        UnitPhase.STARTING: frozenset({UnitPhase.STARTED, UnitPhase.FAILED, UnitPhase.STOPPED}),
        UnitPhase.STARTED: frozenset({UnitPhase.DRAINING, UnitPhase.STOPPING, UnitPhase.FAILED}),
        UnitPhase.DRAINING: frozenset({UnitPhase.STOPPING, UnitPhase.FAILED}),
        UnitPhase.STOPPING: frozenset({UnitPhase.STOPPED, UnitPhase.FAILED}),
        UnitPhase.STOPPED: frozenset({UnitPhase.WAITING}),
        UnitPhase.FAILED: frozenset({UnitPhase.WAITING, UnitPhase.STOPPING}),
        UnitPhase.SKIPPED: frozenset({UnitPhase.WAITING}),
    }
)


class UnitStatistics(NamedTuple):
    """What a unit says about itself.

    `seconds` is how long it has been in `phase`, `started_in` and `stopped_in` how long its start and stop took (None:
    it was not). `doing` and `health` are its own words, `reason` is why it is in that phase if there is a special one.
    """

    name: str
    phase: str
    optional: bool
    requires: tuple[str, ...]
    wants: tuple[str, ...]
    after: tuple[str, ...]
    seconds: float
    started_in: float | None
    stopped_in: float | None
    doing: str
    reason: str
    health: str
