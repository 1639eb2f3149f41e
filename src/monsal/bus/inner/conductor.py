"""Who starts, drains and stops units: all that is known of them, and the one thread at a time that leads them (B8)."""

from __future__ import annotations

import math
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from threading import Lock
from time import monotonic

from monsal.bus.events import Event
from monsal.bus.inner.crew import Channel, Crew, Member, UnitCall
from monsal.bus.inner.outcomes import text_of
from monsal.bus.inner.rounds import current_call
from monsal.bus.inner.unitplan import planned, turn_of
from monsal.bus.states import State
from monsal.bus.steps import Steps
from monsal.bus.unit import Unit, UnitError, UnitPhase

__all__ = ["Conductor"]


class Conductor:
    """All units of a bus. What changes them holds `lock`, except while they run; one thread at a time leads them."""

    def __init__(self, bus: Steps) -> None:
        self.lock = Lock()
        self.members: dict[str, Member] = {}
        #: Those to be stopped, in the order in which they became started.
        self.up: list[Member] = []
        #: What was done since the last start began, each with the unit that it had waited for.
        self.done: list[tuple[Event, str | None]] = []
        #: Whether a unit that breaks is news: from the start on until the units are to be stopped.
        self.serving = False
        #: The first unit that broke and so took the bus down since the last start, and why.
        self.broken: tuple[str, str] | None = None
        self.crew = Crew(bus, self._end_late)
        self._bus = bus
        self._leading = Lock()
        self._starting = False
        self._errors: list[BaseException] = []
        self._unclean: list[BaseException] = []

    # Each of these is called by the bus

    def start(self) -> None:
        """Start all; returns when each is settled. If one fails all is stopped again, and its failure raised."""
        with self._seat() as enough:
            waiting = self._begin_start()
            while True:
                if self._errors or enough():
                    self._leave()
                else:
                    waiting = self._begin_ready(waiting, enough)
                if self.crew.under_way:
                    self._settle_next()
                elif self._errors or enough() or not waiting:
                    break
            self._end_start()
            if self._errors:
                self._leave()
                self._stop_all(self._unclean)
                _raise("units failed to start", self._errors)

    def drain(self) -> None:
        """Drain what is started, in reverse."""
        failures: list[BaseException] = []
        with self._seat():
            self._end_interrupted()
            for member in self.up[::-1]:
                with self.lock:
                    # One that broke has nothing left to finish.
                    drains = member.unit.drain is not None and member.phase is UnitPhase.STARTED
                    if drains:
                        member.enter(UnitPhase.DRAINING)
                if drains:
                    self._call(member, "drain", failures)
        _raise("units failed to drain", failures)

    def stop(self) -> None:
        """Stop what is started, in exact reverse. What failed to stop after a failed start is raised here, too."""
        with self._seat():
            self._end_interrupted()
            failures, self._unclean = self._unclean, []
            self._stop_all(failures)
        _raise("units failed to stop", failures)

    def check(self) -> tuple[str, ...]:
        """The names in an order in which they can be started one by one; raises UnitError."""
        with self.lock:
            units = {name: member.unit for name, member in self.members.items()}
        return planned(units)

    def broke(self, member: Member, error: Exception, reason: str) -> bool:
        """A unit has broken while it ran; whether the bus is to exit."""
        with self.lock:
            if member.phase is UnitPhase.STARTING:
                # Minded when its start has returned.
                member.broke = member.broke or (error, reason)
                return False
            return self._break(member, error, reason)

    # How the calls are led

    @contextmanager
    def _seat(self) -> Iterator[Callable[[], bool]]:
        """Lead the units, and wait where the bus can reach this thread; yields what tells whether it wants to stop."""
        outer = current_call.get()
        turn = outer.turn if outer is not None else None
        # On the main thread this is where signals ring, too.
        desk = self._bus._lobby.own_desk()
        with self._leading:
            self.crew.sit(desk, turn.rush if turn is not None else math.inf)
            if turn is not None:
                turn.inside = desk
            try:
                yield turn.enough if turn is not None else _never
            finally:
                if turn is not None:
                    turn.inside = None
                desk.clear()

    def _begin_start(self) -> list[Member]:
        """Have all wait for their turn; they are returned in an order that is possible."""
        order = self.check()
        with self.lock:
            if self.up or self.crew.under_way:
                raise UnitError("the units are started already")
            for member in self.members.values():
                member.wait()
            self.serving = self._starting = True
            self.broken = None
            self.done, self._errors, self._unclean = [], [], []
            return [self.members[name] for name in order]

    def _begin_ready(self, waiting: Sequence[Member], enough: Callable[[], bool]) -> list[Member]:
        """Start or skip those whose turn it is; the others are returned."""
        left: list[Member] = []
        for member in waiting:
            turn, reason = turn_of(member.unit, lambda name: self.members[name].phase)
            if turn == "wait" or self._errors or enough():
                left.append(member)
            elif turn == "skip":
                self._skip(member, reason)
            else:
                with self.lock:
                    member.enter(UnitPhase.STARTING)
                self._begin(member, "start", self._last_settled(member.unit))
        return left

    def _last_settled(self, unit: Unit) -> str | None:
        return max(unit.waits_for, key=lambda name: self.members[name].settled, default=None)

    def _skip(self, member: Member, reason: str) -> None:
        self._bus.log(f"Unit {member.unit.name!r} is {reason}", 30)
        waited_for = self._last_settled(member.unit)
        with self.lock:
            member.enter(UnitPhase.SKIPPED, reason)
            self._note(member, "start", 0.0, reason, waited_for)

    def _begin(self, member: Member, channel: Channel, waited_for: str | None) -> UnitCall:
        """Begin a call; a unit that has nothing to do for it has done it."""
        work = getattr(member.unit, channel)
        call = UnitCall(member, channel, work or _nothing, waited_for)
        strays = [stray.channel for stray in member.strays if not stray.gone]
        if channel == "start" and strays:
            call.error = UnitError(f"unit {member.unit.name}: its {' and '.join(strays)} of the last time still hangs")
        if work is None or call.error is not None:
            call.close()
            self._settle(call)
        else:
            self.crew.begin(call)
        return call

    def _call(self, member: Member, channel: Channel, failures: list[BaseException]) -> None:
        """Drain or stop one unit, and wait for it."""
        last = self.done[-1][0] if self.done else None
        call = self._begin(member, channel, last.name if last is not None and last.channel == channel else None)
        while call in self.crew.under_way:
            self._settle_next()
        if call.failure is not None:
            failures.append(call.failure)

    def _stop_all(self, failures: list[BaseException]) -> None:
        while self.up:
            # Taken away first: whatever happens it is stopped once.
            member = self.up.pop()
            with self.lock:
                member.enter(UnitPhase.STOPPING)
            self._call(member, "stop", failures)

    # What follows from them

    def _settle_next(self) -> None:
        call = self.crew.wait()
        if call is not None:
            self._settle(call)

    def _settle(self, call: UnitCall) -> None:
        """Draw the conclusions of a call that has ended or was given up."""
        member, error = call.member, None if call.was_cancelled else call.failure
        cause = "cancelled" if call.was_cancelled else "" if error is None else text_of(error)
        with self.lock:
            if call.verdict is not None:
                member.strays.append(call)
            self._note(member, call.channel, call.took, cause, call.waited_for)
            if call.channel == "start":
                self._settle_start(call, error)
            elif call.channel == "stop":
                member.stopped_in = call.took
                member.enter(UnitPhase.STOPPED if error is None else UnitPhase.FAILED, cause or None)
            elif cause:
                member.reason = cause
        # What was given up is in the log already, with its stack.
        if error is not None and call.verdict is None:
            text = "".join(traceback.format_exception(error))
            self._bus.log(f"Error in the {call.channel} of unit {member.unit.name!r}\n{text}", 40)

    def _settle_start(self, call: UnitCall, error: BaseException | None) -> None:
        member = call.member
        if call.was_cancelled:
            member.enter(UnitPhase.STOPPED, "cancelled: the start was ended")
        elif error is not None:
            member.enter(UnitPhase.FAILED, text_of(error))
            # SystemExit is the one way to stop everything (R6).
            if not member.unit.optional or not isinstance(error, Exception):
                self._fail(error)
        else:
            member.started_in = call.took
            member.enter(UnitPhase.STARTED)
            self.up.append(member)
            if member.broke is not None:
                self._break(member, *member.broke)

    def _break(self, member: Member, error: Exception, reason: str) -> bool:
        """See `broke`; the caller holds the lock."""
        if member.phase not in (UnitPhase.STARTED, UnitPhase.DRAINING):
            return False
        member.enter(UnitPhase.FAILED, reason)
        leaving = self._bus.state in (State.STOPPING, State.EXITING)
        if member.unit.optional or not self.serving or leaving:
            return False
        self.broken = self.broken or (member.unit.name, reason)
        if self._starting:
            # That fails by it, as if this one had failed to start.
            self._fail(error)
        return not self._starting

    def _fail(self, error: BaseException) -> None:
        self._errors.append(error)
        # Also to itself: it may be about to wait for others that it began before.
        self.crew.desk.knock()

    def _leave(self) -> None:
        """End the start soon: what is under way has the time of a shutdown, and what breaks now is no news."""
        if self.serving:
            self.serving = False
            self.crew.rush = min(self.crew.rush, monotonic() + self._bus.limits.whole)
            self.crew.cancel()

    def _end_start(self) -> None:
        with self.lock:
            self._starting = False
            for member in self.members.values():
                if member.phase is UnitPhase.WAITING:
                    member.enter(UnitPhase.INACTIVE, "not started: the start was ended before")

    def _end_interrupted(self) -> None:
        """Wait for what an interrupt or SystemExit left under way on its way through a start or stop."""
        self.serving = False
        self.crew.cancel()
        while self.crew.under_way:
            self._settle_next()
        self._end_start()

    def _end_late(self, call: UnitCall) -> None:
        """On its thread: a call has ended that was given up. A start that succeeded after all is undone."""
        name = call.member.unit.name
        self._bus.log(f"The {call.channel} of unit {name!r} has ended after it was given up: {text_of(call.error)}", 30)
        work = call.member.unit.stop
        if call.channel == "start" and call.error is None and work is not None:
            stop = UnitCall(call.member, "stop", work, None)
            stop.run(self.crew.submit)
            stop.close()
            cause = "" if stop.error is None else text_of(stop.error)
            with self.lock:
                call.member.reason += f"; it was stopped when its start had ended: {cause or 'without an error'}"
                self._note(call.member, "stop", stop.took, cause, None)
            if stop.error is not None:
                text = "".join(traceback.format_exception(stop.error))
                self._bus.log(f"Error in the stop of unit {name!r}\n{text}", 40)

    def _note(self, member: Member, channel: str, seconds: float, cause: str, waited_for: str | None) -> None:
        event = self._bus.history.add("unit", member.unit.name, channel=channel, seconds=seconds, cause=cause)
        self.done.append((event, waited_for))


def _never() -> bool:
    return False


def _nothing() -> None:
    return


def _raise(message: str, errors: Sequence[BaseException]) -> None:
    """Raise the error, or all as one; what ends more than this wins (R6)."""
    plain = [error for error in errors if isinstance(error, Exception)]
    for error in errors:
        if not isinstance(error, Exception):
            raise error
    if len(plain) == 1:
        raise plain[0]
    if plain:
        raise ExceptionGroup(message, plain)
