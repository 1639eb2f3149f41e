"""Where threads wait for the bus, by event and without polling (B7), and where work is left for them."""

from __future__ import annotations

import math
import os
import select
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable
from fcntl import F_DUPFD_CLOEXEC, fcntl
from functools import partial
from queue import Empty, SimpleQueue
from threading import RLock
from time import monotonic

from monsal.bus.states import Phase, State, TransitionError

__all__ = ["Desk", "Lobby", "Waiter", "is_held_here", "spawn"]

Work = Callable[[], object]


class Desk:
    """A place with one thread that waits and many that come by.

    `put` and `knock` take no lock that can be held by the code they interrupt (`SimpleQueue` promises that, and a deque
    has none), so a signal handler may call them. Who waits looks at its own condition after each `wait`.
    """

    __slots__ = ("_inode", "_knocks", "_pipe", "_work", "attended")

    def __init__(self) -> None:
        self._knocks: SimpleQueue[None] = SimpleQueue()
        self._pipe: tuple[int, int] | None = None
        self._inode = 0
        # Apart from the knocks: another thread may come to do the work, but must not hear the knocks in one's stead.
        self._work: deque[Work] = deque()
        #: Whether the thread is waiting now and so will do what is put.
        self.attended = False

    def doorbell(self) -> int:
        """A descriptor; whatever is written there is a knock. The thread of the desk calls this, before it waits again.

        It is for `signal.set_wakeup_fd`. A signal that arrives when a thread is just about to sleep on a lock runs no
        Python code until that thread wakes; a byte in a pipe that is polled cannot come too early.
        """
        pipe = self.pipe
        if pipe is None:
            pipe = os.pipe()
            for end in pipe:
                os.set_blocking(end, False)
            self._inode, self._pipe = os.fstat(pipe[0]).st_ino, pipe
            self.knock()
        return pipe[1]

    @property
    def pipe(self) -> tuple[int, int] | None:
        """The two ends of the doorbell, if there is one.

        Many who make a process a daemon close all descriptors (PEP 3143), and their numbers are soon those of other
        files. Then there is none.
        """
        if self._pipe is None:
            return None
        try:
            whole = all(os.fstat(end).st_ino == self._inode for end in self._pipe)
        except OSError:
            return None
        return self._pipe if whole else None

    def lift(self, above: int) -> bool:
        """Move the doorbell to descriptors above that one; whether it was moved, so that it has a new number.

        The former ones stay open: somebody may be about to knock there.
        """
        pipe = self.pipe
        if pipe is None or min(pipe) > above:
            return False
        reading, writing = (fcntl(end, F_DUPFD_CLOEXEC, above + 1) for end in pipe)
        self._pipe = (reading, writing)
        return True

    def hush(self) -> None:
        """Forget the knocks that nobody has heard; the thread of the desk calls this when it does not wait any more."""
        pipe = self.pipe
        try:
            while pipe is not None and os.read(pipe[0], 4096):
                continue
        except BlockingIOError:
            return

    def __del__(self) -> None:
        # Only now: a knock at a number that was closed could go to somebody else's file.
        for end in self.pipe or ():
            os.close(end)

    def knock(self) -> None:
        """Have who waits here look again."""
        pipe = self.pipe
        if pipe is None:
            self._knocks.put(None)
            return
        try:
            os.write(pipe[1], b"\0")
        except BlockingIOError:
            # Full of knocks that nobody heard yet; one more would say nothing new.
            return

    def forked(self, *, goes_on: bool) -> None:
        """In the child of a fork: make the doorbell its own, at the same numbers. What lies here is for who goes on."""
        self._knocks = SimpleQueue()
        self.attended = False
        if not goes_on:
            self._work.clear()
        pipe = self.pipe
        if pipe is not None:
            fresh = os.pipe()
            self._inode = os.fstat(fresh[0]).st_ino
            for new, old in zip(fresh, pipe, strict=True):
                os.set_blocking(new, False)
                os.dup2(new, old, inheritable=False)
                os.close(new)

    def put(self, work: Work) -> None:
        """Leave work to be done."""
        self._work.append(work)
        self.knock()

    def wait(self, timeout: float | None = None, *, hears_signals: bool = False) -> None:
        """Wait for a knock, at most `timeout` seconds, and do the work that was left.

        With `hears_signals`, which is for the main thread, a signal is one, too, if it has a handler of the program.
        """
        ringing = False
        try:
            ringing = hears_signals and self._take_bell()
            # Not before: who sees that somebody waits here may count on being heard.
            self.attended = True
            pipe = self.pipe
            if pipe is None:
                self._knocks.get(timeout=timeout)
            else:
                poll = select.poll()
                poll.register(pipe[0], select.POLLIN)
                if poll.poll(None if timeout is None else math.ceil(timeout * 1000)) and self.pipe == pipe:
                    os.read(pipe[0], 4096)
        except Empty:
            return
        finally:
            if ringing:
                signal.set_wakeup_fd(-1)
            self.attended = False
        self.clear()

    def _take_bell(self) -> bool:
        """Have signals ring here; whether that is to be undone. Where they ring elsewhere, or here already, they do."""
        try:
            bell = self.doorbell()
            former = signal.set_wakeup_fd(bell, warn_on_full_buffer=False)
        except (OSError, ValueError):
            # There is no descriptor left, or this is not the main interpreter. A signal is heard with the next knock.
            return False
        if former not in (-1, bell):
            signal.set_wakeup_fd(former)
        return former == -1

    def clear(self) -> None:
        """Do all work that lies there, whoever one is."""
        while True:
            try:
                work = self._work.popleft()
            except IndexError:
                return
            work()


class Waiter:
    """One thread that waits for states or phases; it is told of each one that is entered, however short."""

    __slots__ = ("again", "desk", "over", "seen", "wanted")

    def __init__(self, wanted: Iterable[State | Phase], desk: Desk) -> None:
        self.wanted = frozenset(wanted)
        self.desk = desk
        #: Whether one of the wanted ones was entered.
        self.seen = False
        #: Whether there is nothing more to wait for.
        self.over = False
        #: What has another thread wait here, in a forked process where the first one does not live.
        self.again: Work | None = None

    def tell(self, phase: Phase) -> None:
        self.seen = self.seen or phase in self.wanted or phase.state in self.wanted
        # Nothing comes after EXITED, and after EXITING only that.
        self.over = self.seen or phase is Phase.EXITED or (phase is Phase.EXITING and Phase.EXITED not in self.wanted)
        self.desk.knock()


class Lobby:
    """All who wait for one bus, and the main thread's desk, where the bus's own work is done (B9)."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._waiters: list[Waiter] = []
        self._phase = Phase.NEW
        self._desk = Desk()

    def own_desk(self) -> Desk:
        """Where the calling thread waits; the main thread also does the bus's work there."""
        return self._desk if threading.current_thread() is threading.main_thread() else Desk()

    @property
    def main_desk(self) -> Desk:
        """The desk of the main thread; its doorbell is for `signal.set_wakeup_fd`."""
        return self._desk

    @property
    def interrupted(self) -> bool:
        """Whether this thread waits here, or is about to: then it is a signal handler or a finalizer that asks."""
        waits = self._desk.attended and threading.current_thread() is threading.main_thread()
        return waits or is_held_here(self._lock)

    def tell(self, phase: Phase) -> None:
        """Tell all who wait which phase was entered."""
        with self._lock:
            self._phase = phase
            for waiter in self._waiters:
                waiter.tell(phase)

    def knock(self) -> None:
        """Have all who wait look again."""
        for waiter in tuple(self._waiters):
            waiter.desk.knock()

    def enter(self, waiter: Waiter) -> None:
        """Tell `waiter` of the phase that is, and of all that come until it leaves."""
        with self._lock:
            self._waiters.append(waiter)
            waiter.tell(self._phase)

    def leave(self, waiter: Waiter) -> None:
        with self._lock:
            self._waiters.remove(waiter)

    def forked(self) -> None:
        """In the child of a fork: others wait in the stead of threads that live in the parent only, if they can."""
        for waiter in tuple(self._waiters):
            if waiter.again is not None:
                waiter.again()

    def wait(
        self, wanted: Iterable[State | Phase], interval: float, has_tick: Callable[[], bool], tick: Callable[[], None]
    ) -> None:
        """Wait for a phase or state; while `has_tick()`, call `tick()` each `interval` seconds.

        Raises TransitionError if the bus exits, so that none of them can come any more.
        """
        waiter = Waiter(wanted, self.own_desk())
        self.enter(waiter)
        try:
            due = monotonic() + interval
            while not waiter.over:
                ticking = has_tick()
                waiter.desk.wait(
                    max(0.0, due - monotonic()) if ticking else None, hears_signals=waiter.desk is self._desk
                )
                if monotonic() >= due:
                    if ticking and not waiter.over:
                        tick()
                    # So that what is late now and then does not add up; but after what took too long there is a pause.
                    now = monotonic()
                    due = due + interval if due + interval > now else now + interval
        finally:
            self.leave(waiter)
            waiter.desk.clear()
        if not waiter.seen:
            raise TransitionError("the bus has exited; what was waited for cannot come any more")

    def wait_for(self, *phases: Phase) -> None:
        """Wait for one of the phases and do nothing else meanwhile."""
        self.wait(phases, 0.0, lambda: False, lambda: None)

    def call_soon(self, work: Work) -> None:
        """Have `work` done by the main thread if it waits here, else by a short-lived one; for signal handlers, too."""
        self._desk.put(work)
        if not self._desk.attended:
            # The one lock that starting a thread takes can be taken again by its own thread (bpo-44422), so a handler
            # may do this although the main thread is just starting one itself (C16).
            spawn("monsal-bus-work", self._work_elsewhere)

    def _work_elsewhere(self) -> None:
        try:
            self._desk.clear()
        except (SystemExit, KeyboardInterrupt) as error:
            # It is meant for the process, so it is raised where the main thread waits.
            self._desk.put(partial(_raise, error))


def is_held_here(lock: RLock) -> bool:
    """Whether this thread has the lock."""
    held: bool = lock._is_owned()  # type: ignore[attr-defined]  # as threading.Condition asks it
    return held


def _raise(error: BaseException) -> None:
    raise error


def spawn(name: str, work: Work) -> threading.Thread | None:
    """Do `work` on a daemon thread; None if the interpreter is ending and starts no thread any more."""
    thread = threading.Thread(target=work, name=name, daemon=True)
    try:
        thread.start()
    except RuntimeError:
        return None
    return thread
