"""Threads for plain handlers, of which no more are awake than have something to do.

To wake a thread costs as much as a short handler, and it then waits for the interpreter lock beside those that are
awake. So a job that comes while a thread is awake waits for that one, which takes the next job as soon as it is done.
If none is awake, one is woken after the steps of the loop that are already queued: in the middle of them the two would
only fight for the lock, and by then there may be more for it to do.
A thread that seems to wait for something (it has taken no other job for some milliseconds) holds nobody up: then one
more is woken for each job that waits.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, Protocol

__all__ = ["Crew", "CrewJob"]

#: Seconds that a job waits for a thread that is awake before another one is woken for it: the thread may have to wait
#: that long for the interpreter lock (`sys.getswitchinterval()` is 5 ms).
_PATIENCE = 0.005
#: Seconds until a thread is asked for again of a system that gave none.
_PAUSE = 0.5

log = logging.getLogger("monsal.turns")


class CrewJob(Protocol):
    """What a thread is given: `thread` and `started` say who does it and since when; `expired` that it is given up."""

    thread: threading.Thread | None
    started: float | None
    expired: bool


class Crew:
    """Up to `size` threads, beside those that are given up. `work(job)` is called on one of them, and raises nothing.

    All methods are called on the loop that `open` is given. Threads start when they are first needed.
    """

    def __init__(self, size: int, work: Callable[[Any], None]) -> None:
        self._size = size
        self._work = work
        self._loop: asyncio.AbstractEventLoop
        self._timer: asyncio.TimerHandle | None = None
        self._seen = (0, 0)
        self._will_ring = False
        self._threads: set[threading.Thread] = set()
        #: Guards what follows, which the threads change too.
        self._lock = threading.Lock()
        self._jobs: deque[CrewJob] = deque()
        #: A bell for each thread that sleeps. The last one is rung first: what it works with is still in the caches.
        self._asleep: list[SimpleQueue[None]] = []
        self._awake = 0  # those that are given up are not among them
        self._given_up = 0
        self._closed = False
        self._put = self._taken = 0
        self._last_step = 0.0

    def open(self, loop: asyncio.AbstractEventLoop) -> None:
        """Bind to a loop."""
        self._loop = loop

    def close(self) -> None:
        """Let the threads end when nothing is left to do; one that is stuck is a daemon and ends with the process."""
        if self._will_ring:
            self._ring()  # the loop may end before it gets to it
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        with self._lock:
            self._closed = True
            asleep, self._asleep = self._asleep, []
            self._awake += len(asleep)
        for bell in asleep:
            bell.put(None)

    @property
    def threads(self) -> int:
        """How many threads there are, those that are given up among them."""
        return len(self._threads)

    def put(self, job: CrewJob) -> None:
        """Have a job done."""
        with self._lock:
            self._jobs.append(job)
            self._put += 1
            is_attended = self._is_attended()
        if is_attended:
            self._look_later()
        elif not self._will_ring:
            self._will_ring = True
            self._loop.call_soon(self._ring)

    def _is_attended(self) -> bool:
        """Whether a thread is awake and seems to wait for nothing; under the lock."""
        return self._awake > 0 and time.monotonic() - self._last_step <= _PATIENCE

    def _ring(self) -> None:
        """Jobs were put when nobody was awake: wake one for them, unless one that was has come back to the queue."""
        self._will_ring = False
        with self._lock:
            waiting, is_attended = len(self._jobs), self._is_attended()
        if waiting and not is_attended:
            self._wake(1)
            waiting -= 1
        if waiting:
            self._look_later()

    def give_up(self, job: CrewJob) -> bool:
        """Let another thread take the place of the one that does this job; False if it has just been done."""
        with self._lock:
            if job.thread is None:
                return False
            job.expired = True
            self._awake -= 1
            self._given_up += 1
            waits = bool(self._jobs)
        if waits:
            self._wake(1)
        return True

    def _look_later(self, seconds: float = _PATIENCE) -> None:
        if self._timer is None:
            self._seen = self._taken, self._put
            self._timer = self._loop.call_later(seconds, self._look)

    def _look(self) -> None:
        """Some job waited when this was planned: see whether the threads that are awake get to it."""
        self._timer = None
        taken, put = self._seen
        if waiting := len(self._jobs):
            if self._taken == taken:
                self._wake(waiting)
            elif self._taken < put:
                # They take jobs, but the next one has waited all the time.
                self._wake(1)
            with self._lock:
                is_full = not self._asleep and len(self._threads) - self._given_up >= self._size
            if not is_full:  # else there is nobody to wake until one of them is done, and that one looks by itself
                self._look_later()

    def _wake(self, count: int) -> None:
        for _ in range(count):
            with self._lock:
                bell = self._asleep.pop() if self._asleep else None
                if bell is None and len(self._threads) - self._given_up >= self._size:
                    return
                self._awake += 1
                self._last_step = time.monotonic()  # who is woken now has time to get to it
            if bell is not None:
                bell.put(None)
            elif not self._start():
                self._look_later(_PAUSE)
                return

    def _start(self) -> bool:
        """Start a thread; False if the system has none to give. What waits is then for those that there are, or later:
        a job that is in the queue is called once, so whoever put it must not hear that it is not."""
        thread = threading.Thread(target=self._main, name=f"monsal-turn-{len(self._threads) + 1}", daemon=True)
        self._threads.add(thread)
        try:
            thread.start()
        except RuntimeError as error:
            with self._lock:
                self._threads.discard(thread)
                self._awake -= 1
            log.error("no thread for a handler: %s; it is tried again", error, extra={"action": "no_thread"})
            return False
        return True

    def _main(self) -> None:
        me, bell = threading.current_thread(), SimpleQueue[None]()
        while (job := self._next(me, bell)) is not None:
            self._work(job)
            with self._lock:
                job.thread = None
                if job.expired:
                    # Another thread has taken this one's place. Both at once: else it would seem to have it still,
                    # and who puts a job at that moment would wake nobody.
                    self._given_up -= 1
                    self._threads.discard(me)
                    return
        self._threads.discard(me)

    def _next(self, me: threading.Thread, bell: SimpleQueue[None]) -> CrewJob | None:
        """The next job, waited for; None when the thread is to end."""
        while True:
            with self._lock:
                if self._jobs:
                    job = self._jobs.popleft()
                    job.thread = me
                    job.started = self._last_step = time.monotonic()
                    self._taken += 1
                    return job
                self._awake -= 1
                if self._closed:
                    return None
                self._asleep.append(bell)
            # Whoever rings counts it as awake.
            bell.get()
