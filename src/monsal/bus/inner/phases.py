"""Where a bus stands, and who may take it from there to where: the table in `states.py`, asked under a lock (B1).

One caller at a time conducts the bus from phase to phase (`steps.py`); what others ask for meanwhile is noted as the
goal.
"""

from __future__ import annotations

import os
import threading
from time import monotonic

from monsal.bus.inner.home import Home
from monsal.bus.states import ASKED, WAYS, Action, Phase, State, TransitionError

__all__ = ["Phases"]

#: The phase in which a goal is as good as reached: nothing more has to be asked for.
_LAST_PHASE = {"start": Phase.STARTING, "stop": Phase.STOPPING, "exit": Phase.EXITING}


class Phases(Home):
    """A state, a phase within it, a goal, and the thread that conducts."""

    states = State
    state: State = State.STOPPED
    phase: Phase = Phase.NEW
    #: Whether `block` replaces the process by a fresh one after the exit.
    execv: bool = False

    def __init__(self) -> None:
        super().__init__()
        self._conductor: int | None = None
        self._goal: Action | None = None
        self._leaving = False
        self._since = monotonic()
        #: Whether a signal came when the bus was NEW, so that it may have ended before it was started.
        self._early_signal = False

    def _has_ended(self) -> bool:
        return self.phase is Phase.EXITED and not self.execv

    def _note_signal(self) -> None:
        """A signal has come and is about to be published."""
        with self._lock:
            self._early_signal = self._early_signal or self.phase is Phase.NEW

    def _take(self, action: Action) -> bool:
        """Whether the caller is to conduct; if so, the first phase is entered."""
        with self._lock:
            way = ASKED[self.phase][action]
            if way == "nothing":
                return False
            if way == "refused" or (action == "start" and self._conductor is not None):
                raise TransitionError(f"{action}() is not possible while the bus is {self.phase.value}")
            if self._conductor is not None:
                if self._goal != "exit":
                    self._goal = action
                    self._changed()
                return False
            self._conductor = threading.get_ident()
            self._goal = action
            if self.phase is Phase.NEW:
                self._home = os.getpid()
            self._enter(way, action)
            return True

    def _enter(self, phase: Phase, cause: str) -> None:
        """Set phase and state and tell all who wait; the caller holds the lock."""
        if phase not in WAYS[self.phase]:
            raise TransitionError(f"there is no way from {self.phase.value} to {phase.value}")
        now = monotonic()
        cause = f"{cause} by {threading.current_thread().name}: {phase.value}"
        self.history.add("phase", self.phase.value, seconds=now - self._since, cause=cause)
        self._since = now
        self.phase, self.state = phase, phase.state
        if self._goal is not None and _LAST_PHASE[self._goal] is phase:
            self._goal = None
        self._lobby.tell(phase)

    def _arrive(self, phase: Phase | None, cause: str) -> bool:
        """Enter a phase in which a step ends. False if no goal is left: from then on another thread may conduct."""
        with self._lock:
            if phase is not None:
                self._enter(phase, cause)
            if self._goal is not None and isinstance(ASKED[self.phase][self._goal], Phase):
                return True
            self._goal = self._conductor = None
            return False

    def _go_on(self) -> None:
        """Enter the next phase on the way to the goal; a step that has more to do leaves one."""
        with self._lock:
            goal = self._goal or "exit"
            way = ASKED[self.phase][goal]
            if isinstance(way, Phase):
                self._enter(way, goal)

    def _asked_to_leave(self) -> bool:
        return self._goal is not None

    def _may_move_in(self, *, asks: bool) -> bool:
        """In a child: whether it was forked in the start and has not returned from there yet.

        Whether a daemon begins here is known only then, but the listener may have started threads before, for example
        of a server, or have set handlers of signals, which are asked to exit already. As in any start, that is done
        when the listener has returned. It must not wait for that itself.
        """
        # The thread that forked is the main thread of the child.
        forker = threading.main_thread().ident
        return self.phase is Phase.STARTING and self._conductor == forker and (asks or forker != threading.get_ident())
