"""Units at work: what is known of each, and their calls, many at a time, with an eye on the time (B6, B8).

One thread, the conductor, waits at a desk for the calls of a `Crew`. Each call is on a thread of its own, so that one
which hangs can be left behind, which nothing in Python can end.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Coroutine
from contextvars import copy_context
from functools import partial
from importlib import import_module
from threading import Lock
from time import monotonic
from typing import TYPE_CHECKING, Any, Literal

from monsal.bus.channels import Listener
from monsal.bus.inner.rounds import Call
from monsal.bus.inner.waiting import Desk, spawn
from monsal.bus.steps import Steps
from monsal.bus.unit import UNIT_WAYS, Unit, UnitError, UnitPhase

if TYPE_CHECKING:
    # Only for their names: they would load logging.
    from asyncio import AbstractEventLoop, Task
    from concurrent.futures import Future

__all__ = ["Channel", "Crew", "Member", "UnitCall"]

Channel = Literal["start", "drain", "stop"]


class Member:
    """What is known of one unit; who changes it holds the lock of `Units`."""

    __slots__ = ("broke", "phase", "reason", "settled", "since", "started_in", "stopped_in", "strays", "unit")

    def __init__(self, unit: Unit) -> None:
        self.unit = unit
        self.phase = UnitPhase.INACTIVE
        self.since = monotonic()
        #: When those that wait for it need not any more, in monotonic seconds.
        self.settled = math.inf
        self.reason = ""
        self.started_in: float | None = None
        self.stopped_in: float | None = None
        #: What it was said to be broken by before its start returned, and how that is told.
        self.broke: tuple[Exception, str] | None = None
        #: Calls that were given up and go on.
        self.strays: list[UnitCall] = []

    def enter(self, phase: UnitPhase, reason: str | None = None) -> None:
        """Change the phase, and the reason if one is given."""
        if phase not in UNIT_WAYS[self.phase]:
            raise UnitError(f"{self.unit.name}: there is no way from {self.phase.value} to {phase.value}")
        now = monotonic()
        if phase.settled and not self.phase.settled:
            self.settled = now
        self.phase, self.since = phase, now
        if reason is not None:
            self.reason = reason

    def wait(self) -> None:
        """Wait for a new start."""
        self.enter(UnitPhase.WAITING, "")
        self.settled = math.inf
        self.started_in = self.stopped_in = self.broke = None


class UnitCall(Call):
    """One call of a unit's start, drain or stop."""

    __slots__ = ("_cancelled", "_lock", "_task", "channel", "ended", "gone", "member", "took", "verdict", "waited_for")

    def __init__(self, member: Member, channel: Channel, work: Listener, waited_for: str | None) -> None:
        name = member.unit.name
        limit: float = getattr(member.unit, f"{channel}_limit")
        super().__init__(work, limit, title=f"The {channel} of unit {name!r}")
        self.own_time = False
        self.deadline = self.began + limit
        self.member = member
        self.channel: Channel = channel
        #: The unit that was settled last of those that this call had to wait for.
        self.waited_for = waited_for
        #: Whether it has ended in time.
        self.ended = False
        #: Whether its thread has nothing more to do.
        self.gone = False
        self.took = 0.0
        #: Why it was given up.
        self.verdict: TimeoutError | None = None
        self._lock = Lock()
        self._task: Task[Any] | None = None
        self._cancelled = False

    @property
    def failure(self) -> BaseException | None:
        """What came of it, in the end."""
        return self.verdict or self.error

    @property
    def was_cancelled(self) -> bool:
        """Whether it ended because of `cancel`."""
        return self.verdict is None and self._cancelled and self.future is not None and self.future.cancelled()

    def _here(self) -> None:
        super()._here()
        if self.coroutine is None:
            return
        # This is within the task now, so asyncio is loaded already.
        task = import_module("asyncio").current_task()
        with self._lock:
            self._task, cancelled = task, self._cancelled
        if cancelled:
            task.cancel()

    def cancel(self) -> None:
        """Cancel what is awaited; it is not over before it has cleaned up. A plain call goes on."""
        with self._lock:
            if self._cancelled:
                return
            self._cancelled, task = True, self._task
        if task is not None:
            try:
                task.get_loop().call_soon_threadsafe(task.cancel)
            except RuntimeError:
                # The loop is closed, so nothing runs there any more; the call ends by its deadline.
                return

    def close(self) -> bool:
        """Note that it has ended; False if it was given up before."""
        with self._lock:
            self.took = monotonic() - self.began
            self.ended = self.verdict is None
            return self.ended

    def give_up(self, limit: float) -> bool:
        """Note that its time is over; False if it has just ended."""
        with self._lock:
            if self.ended:
                return False
            self.took = monotonic() - self.began
            self.verdict = TimeoutError(
                f"unit {self.member.unit.name}: {self.channel} took more than {limit:.1f} seconds"
            )
            return True


class Crew:
    """The calls that are under way; only the conductor begins them and waits for them.

    `late` is called, on its thread, with a call that ends after it was given up.
    """

    def __init__(self, bus: Steps, late: Callable[[UnitCall], None]) -> None:
        #: Where the conductor waits.
        self.desk = Desk()
        #: From then on there is little time, in monotonic seconds.
        self.rush = math.inf
        #: The loop on which the conductor is itself; it does not turn while that waits.
        self.loop: AbstractEventLoop | None = None
        self.under_way: tuple[UnitCall, ...] = ()
        self._bus = bus
        self._late = late

    def sit(self, desk: Desk, rush: float) -> None:
        """Have this thread be the conductor, waiting at `desk`."""
        self.desk, self.rush = desk, rush
        # Not loaded: then there is no loop, and it is not worth loading.
        asyncio = sys.modules.get("asyncio")
        self.loop = asyncio._get_running_loop() if asyncio is not None else None

    def begin(self, call: UnitCall) -> None:
        """Have it called on a thread of its own, with the context of this one."""
        self.under_way += (call,)
        work: Callable[[], object] = partial(copy_context().run, self._run, call)
        # An interpreter that is ending starts no thread any more (Python 3.12): then here, unwatched.
        if not spawn(f"monsal-unit-{call.member.unit.name}", work):
            work()

    def _run(self, call: UnitCall) -> None:
        call.run(self.submit)
        if not call.close():
            self._late(call)
        call.gone = True
        self.desk.knock()

    def submit(self, coroutine: Coroutine[Any, Any, Any], began: Callable[[], None]) -> Future[Any]:
        if self.loop is not None and self.loop is self._bus._loop:
            coroutine.close()
            raise RuntimeError("an async unit waits for a loop that waits for it; await asyncio.to_thread(bus.start)")
        return self._bus.submit(coroutine, began)

    def cancel(self) -> None:
        """Cancel the starts that can be; what is being stopped goes on."""
        for call in self.under_way:
            if call.channel == "start":
                call.cancel()

    def wait(self) -> UnitCall | None:
        """The next call that has ended or was given up, which is not under way any more; None after one knock."""
        found = self._next()
        if found is None:
            self.desk.wait(self._look())
            found = self._next()
        return found

    def _next(self) -> UnitCall | None:
        over = [call for call in self.under_way if call.ended or call.verdict is not None]
        found = min(over, key=lambda call: call.began + call.took, default=None)
        self.under_way = tuple(call for call in self.under_way if call is not found)
        return found

    def _look(self) -> float | None:
        """Warn of calls or give them up if it is time; the seconds until the next look."""
        soonest: float | None = None
        for call in self.under_way:
            left = call.mind(self._bus, self.rush)
            if left is None:
                stack = call.stack()
                if call.give_up(call.end(self._bus, self.rush) - call.began):
                    call.cancel()
                    self._bus.log(f"{call.verdict}; it is here:\n{stack}", 40)
                left = 0.0
            soonest = left if soonest is None else min(soonest, left)
        return soonest
