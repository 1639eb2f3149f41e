"""Units on a bus: started in the order of their needs, as many at a time as can be, and stopped in exact reverse (B8).

    units = Units(bus)
    units.add(Unit("store", start=store.open, stop=store.close))
    units.add(Unit("intake", start=intake.open, drain=intake.finish, stop=intake.close, requires=("store",)))
    units.subscribe()

`unit.py` says what a unit is and has the table of its phases. `inner/unitplan.py` is the order, `inner/conductor.py`
goes it, `inner/crew.py` calls the units and minds their time; `inner/unittexts.py` and `inner/blame.py` tell of it.

A unit that breaks while it runs takes the bus down unless it is optional; restarting is the arbiter's (B18).
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from typing import Any, TypeVar

from monsal.bus.channels import ChannelFailures
from monsal.bus.core import Bus
from monsal.bus.inner import blame, unittexts
from monsal.bus.inner.conductor import Conductor
from monsal.bus.inner.crew import Member
from monsal.bus.inner.waiting import spawn
from monsal.bus.states import State
from monsal.bus.unit import Unit, UnitError, UnitPhase, UnitStatistics

__all__ = ["Units"]

F = TypeVar("F", bound=Callable[..., Any])

CHANNELS = ("start", "drain", "stop", "exit")


def _at(priority: float) -> Callable[[F], F]:
    """A listener of that priority that minds the time of the units by itself, so it has no deadline of its own."""

    def mark(method: F) -> F:
        method.__dict__.update(priority=priority, own_time=True)
        return method

    return mark


class Units:
    """A plugin of the bus. Every method may be called from every thread."""

    def __init__(self, bus: Bus) -> None:
        self.bus = bus
        self._conductor = Conductor(bus)

    def subscribe(self) -> None:
        """Have the bus start, drain and stop the units, and raise at its exit if one broke."""
        for channel in CHANNELS:
            self.bus.subscribe(channel, getattr(self, channel))

    def unsubscribe(self) -> None:
        """Undo `subscribe`."""
        for channel in CHANNELS:
            self.bus.unsubscribe(channel, getattr(self, channel))

    def add(self, unit: Unit) -> Unit:
        """Have a unit started with the others; what it waits for may be added later. Returns it.

        Raises UnitError if there is one of that name, or if the units are started already.
        """
        conductor = self._conductor
        with conductor.lock:
            if unit.name in conductor.members:
                raise UnitError(f"there is a unit {unit.name!r} already")
            if conductor.serving or conductor.up:
                raise UnitError(f"unit {unit.name!r} comes too late: the units are started")
            conductor.members[unit.name] = Member(unit)
        return unit

    def check(self) -> tuple[str, ...]:
        """The names in an order in which they could be started one by one; `start` checks that, too.

        Raises UnitError if a name is unknown, if units wait for each other, or if one that is not optional requires
        one that is: its failure would fail the start after all.
        """
        return self._conductor.check()

    def failed(self, name: str, error: BaseException | str) -> None:
        """Tell that a started unit broke, and why. Unless it is optional the bus exits, on a thread of its own.

        During the start that fails by it. Once the units are being stopped it is only logged. Raises UnitError if there
        is no such unit.
        """
        member = self._conductor.members.get(name)
        if member is None:
            raise UnitError(f"there is no unit {name!r}")
        text = error if isinstance(error, str) else "".join(traceback.format_exception(error))
        reason = error if isinstance(error, str) else repr(error)
        self.bus.log(f"Unit {name!r} broke: {text}", 40)
        self.bus.history.add("unit", name, channel="failed", cause=reason)
        if not isinstance(error, Exception):
            error = UnitError(f"unit {name} broke: {reason}")
        if self._conductor.broke(member, error, reason):
            spawn("monsal-unit-exit", self._leave)

    def _leave(self) -> None:
        try:
            self.bus.exit()
        except ChannelFailures as failures:
            # Each was logged as it failed, and `block` raises them.
            self.bus.history.add("log", "the exit was not clean", cause=str(failures))

    # What the bus calls

    @_at(80)
    def start(self) -> None:
        """Start the units; returns when each is settled. Raises the failure of one that is not optional.

        After a failure, or if the bus was asked to stop or exit meanwhile, no more are started; those under way are
        waited for, `async def` ones are cancelled. After a failure what was started is stopped before this returns.
        """
        self._conductor.start()

    @_at(20)
    def drain(self) -> None:
        """Drain what is started, one by one in reverse. Raises the failures after the last."""
        self._conductor.drain()

    @_at(20)
    def stop(self) -> None:
        """Stop what is started, one by one in exact reverse. Raises the failures after the last."""
        self._conductor.stop()

    @_at(99)
    def exit(self) -> None:
        """Raise UnitError if a unit broke while it ran: so `block` raises, and the process does not end with code 0."""
        if self.broken is not None:
            name, reason = self.broken
            raise UnitError(f"unit {name!r} broke: {reason}")

    # What one may ask

    @property
    def broken(self) -> tuple[str, str] | None:
        """The name of the unit that broke first and so took the bus down since the last start, and why.

        The exit raises it, also if it was clean itself, and so does `block`.
        """
        return self._conductor.broken

    @property
    def ready(self) -> bool:
        """Whether the bus is STARTED, and all units but optional ones are."""
        return self.bus.state is State.STARTED and all(
            member.phase is UnitPhase.STARTED for member in self._all() if not member.unit.optional
        )

    def faults(self) -> list[str]:
        """What is wrong, as sentences: units that failed, and what the started ones say of their health."""
        return unittexts.faults(self._all())

    def stalled(self) -> list[str]:
        """What started units say of their progress, as sentences; for a watchdog, which wants none (B13)."""
        return unittexts.stalled(self._all())

    def statistics(self) -> tuple[UnitStatistics, ...]:
        """Where each unit stands: those that were started in that order, then the others in the order of adding."""
        return tuple(map(unittexts.statistics, sorted(self._all(), key=lambda member: member.settled)))

    def why(self) -> list[str]:
        """What a start, drain or stop waits for now, as sentences for people; none if nothing waits."""
        turn, crew = self.bus._round, self._conductor.crew
        if calls := crew.under_way:
            with self._conductor.lock:
                starting = [member.unit for member in self._conductor.members.values() if not member.phase.settled]
                up = [member.unit.name for member in reversed(self._conductor.up)]
            return [
                line for call in calls for line in unittexts.why_unit(call, call.end(self.bus, crew.rush), starting, up)
            ]
        call = turn.current if turn is not None else None
        if turn is None or call is None or call.own_time:
            return []
        return unittexts.why_listener(call, turn.channel, call.end(self.bus, turn.rush))

    def blame(self, since: float | None = None) -> dict[str, Any]:
        """What the last start and the stop after it took, and what waited for what, as plain values (B17).

        `{"start": part, "stop": part or None}`. A part has `seconds`; `steps`, each with `name`, `kind` ("unit",
        "listener" or "process"), `channel`, `at` (seconds from the beginning of the part to that of the step),
        `seconds`, `waited_for` (the name of the step that it had to wait for last, or None) and `cause` (its failure);
        and `chain`, the names of the steps that made up the time, one after the other.

        `since` is when the process began, in seconds since 1970: its first start is then told from there on, with a
        step `loading` of kind "process" before all others.
        """
        with self._conductor.lock:
            done = tuple(self._conductor.done)
        return blame.report(self.bus.history.last(), done, self.bus.phase.value, time.time(), since)

    def _all(self) -> list[Member]:
        with self._conductor.lock:
            return list(self._conductor.members.values())
