"""Runs handlers: plain ones in threads, coroutines on a loop of their own; never on the sockets' loop (P7).

A handler that outlives its deadline cannot be killed. Its turn is closed, its result will be thrown away, and its
thread (or its loop, if it blocks it) is replaced by a fresh one, so that other correspondents go on; the message's own
queue waits until the handler really ended, because two turns of one correspondent must never overlap (P3).
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec

from monsal.conversation.context import Turn, _current
from monsal.conversation.crew import Crew
from monsal.conversation.page import TurnPage
from monsal.conversation.result import Outcome, failed
from monsal.errors import DeadlineExceeded

__all__ = ["Runner", "RunnerStatistics"]

log = logging.getLogger("monsal.turns")

#: Seconds in which the handlers' loop has to answer when it is told to cancel something.
_ANSWER = 0.5


class RunnerStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """Handlers that run now, those of them past their deadline, and threads in use."""

    running: int
    stuck: int
    threads: int


class _Job(msgspec.Struct, kw_only=True, eq=False):
    """One call on its way through a thread or the handlers' loop.

    `row` is the message that is accused if the process ends meanwhile, 0 for none. `started` is set when the call
    begins: waiting for a free thread is not the handler's fault. Nobody waits any more for what is `abandoned`: if it
    has not begun, it is not to begin.
    """

    turn: Turn | None
    what: str
    row: int
    function: Callable[[], Any]
    finish: Callable[[Any], Any]
    deadline: float
    future: asyncio.Future[Outcome]
    abandoned: bool = False
    expired: bool = False
    started: float | None = None
    outcome: Outcome | None = None
    thread: threading.Thread | None = None
    home: _HandlerLoop | None = None
    slot: int = -1

    def let_go(self) -> None:
        """Let go of what the call was made of, once it has ended.

        An error has the frames that it came through, and these have the job: it would be kept with its message, of any
        size, until Python looks for circles. A thread without work would keep its last one.
        """
        self.function = self.finish = _nothing
        self.turn = self.outcome = None
        del self.future

    @property
    def name(self) -> str:
        return _name(self.turn, self.what)


def _name(turn: Turn | None, what: str) -> str:
    """What people call a call."""
    return turn.handler if turn is not None else what or "what a handler rests on"


def _nothing(*_: object) -> None:
    """Stands for a call that has ended."""


class Runner:
    """Threads and a loop for handlers. Made, started and used on the sockets' loop.

    `threads` bounds how many plain handlers run at once; as many again may be stuck past their deadline before no new
    call is taken (`is_full`).
    """

    def __init__(self, *, threads: int, page: TurnPage) -> None:
        self._size = threads
        self._page = page
        self._crew = Crew(threads, self._work)
        self._running: set[_Job] = set()
        self._finished: deque[_Job] = deque()
        self._lock = threading.Lock()
        self._waking = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._handlers: _HandlerLoop | None = None
        self._watch: asyncio.TimerHandle | None = None
        self._stuck = 0  # running and past their deadline
        self._stuck_loops = 0

    async def open(self) -> None:
        """Bind to the running loop. Threads start when they are first needed."""
        self._loop = asyncio.get_running_loop()
        self._crew.open(self._loop)

    async def close(self) -> None:
        """End the idle threads; a stuck handler's thread is a daemon and ends with the process."""
        if self._watch is not None:
            self._watch.cancel()
        self._crew.close()
        for job in self._running:
            # Who is past its deadline stays in the page: it may hang at each start. The others are not to blame.
            if not job.expired:
                self._page.leave(job.slot)
        if self._handlers is not None:
            self._handlers.stop()

    @property
    def is_full(self) -> bool:
        """Whether so many handlers are stuck that no new one should be started."""
        return self._stuck + self._stuck_loops >= self._size

    def statistics(self) -> RunnerStatistics:
        return RunnerStatistics(running=len(self._running), stuck=self._stuck, threads=self._crew.threads)

    def describe(self) -> list[str]:
        """The handlers that run now, longest first: each with its correspondent, its time and the line it is at."""
        now = time.monotonic()
        begun = [
            (job.started, job)
            for job in tuple(self._running)
            if job.started is not None and (job.turn is not None or job.what)
        ]
        begun.sort(key=lambda pair: pair[0])
        return [_in_words(job, now - started) for started, job in begun]

    async def run(
        self,
        function: Callable[[], Any],
        *,
        turn: Turn | None = None,
        is_async: bool = False,
        finish: Callable[[Any], Any] = lambda result: result,
        deadline: float,
        what: str = "",
        row: int = 0,
    ) -> Outcome:
        """Call `function()`, then `finish(result)` on the same thread, and wait for both. `what` names it for people.

        `row` is the message for which something is called that is no turn: it is accused if that kills the process.
        After `deadline` seconds the turn is closed and the outcome will be a DeadlineExceeded, but it comes only when
        the call has really ended. Raises only cancellation; then a call without a turn is cancelled if it can be.
        """
        loop = self._loop
        assert loop is not None
        future: asyncio.Future[Outcome] = loop.create_future()
        job = _Job(
            turn=turn,
            what=what,
            row=row if turn is None else turn.message.id,
            function=function,
            finish=finish,
            deadline=deadline,
            future=future,
        )
        self._running.add(job)
        if self._watch is None:
            self._watch = loop.call_later(min(1.0, deadline), self._check_deadlines)
        if is_async:
            self._handler_loop().submit(job)
        else:
            self._crew.put(job)
        try:
            outcome = await future
        except asyncio.CancelledError:
            if turn is None:
                self._abandon(job)
            raise
        if job.expired:
            error = DeadlineExceeded(f"{_name(turn, what)} ran longer than its deadline of {deadline:g} s")
            return Outcome(error=error, detail=f"{type(error).__name__}: {error}\n{outcome.detail}")
        return outcome

    def _abandon(self, job: _Job) -> None:
        """Nobody waits for this call any more."""
        job.abandoned = True
        if job.home is not None and self._loop is not None:
            job.home.cancel(job)
            if self._watch is not None:
                # Whether it blocks its loop is known when that had time to answer.
                self._watch.cancel()
                self._watch = self._loop.call_later(_ANSWER + 0.05, self._check_deadlines)

    def _work(self, job: _Job) -> None:
        """On a handler's thread."""
        job.outcome = self._call(job)
        self._done(job)

    def _call(self, job: _Job) -> Outcome:
        turn = job.turn
        if job.abandoned:
            return Outcome()
        token = None if turn is None else _current.set(turn)
        self._enter(job)
        try:
            return Outcome(job.finish(job.function()))
        except BaseException as error:  # noqa: BLE001 - a handler may raise anything; it becomes the turn's failure
            return failed(error, without=__file__)
        finally:
            self._leave(job)
            if token is not None:
                _current.reset(token)

    async def _call_async(self, job: _Job) -> Outcome:
        if job.turn is not None:
            _current.set(job.turn)
        self._enter(job)
        try:
            return Outcome(job.finish(await job.function()))
        except BaseException as error:  # noqa: BLE001 - also cancellation, which only the deadline causes here
            return failed(error, without=__file__)
        finally:
            self._leave(job)

    def _enter(self, job: _Job) -> None:
        """The application's code begins: if the process ends by it, its message is accused."""
        if job.row:
            job.slot = self._page.enter(job.row)

    def _leave(self, job: _Job) -> None:
        self._page.leave(job.slot)
        job.slot = -1
        if job.turn is not None:
            job.turn.closed = job.turn.closed or "its handler has ended"

    def _done(self, job: _Job) -> None:
        """Called on a handler's thread: hand the job back, with one wake-up for all that end together."""
        assert self._loop is not None
        with self._lock:
            self._finished.append(job)
            wake, self._waking = not self._waking, True
        if wake:
            try:
                self._loop.call_soon_threadsafe(self._collect)
            except RuntimeError:
                # The server's loop is gone; the message is still in the store and will be handled again.
                log.warning("a handler ended after the server", extra={"action": "turn_after_end"})

    def _collect(self) -> None:
        with self._lock:
            jobs, self._finished, self._waking = self._finished, deque(), False
        for job in jobs:
            self._running.discard(job)
            self._stuck -= job.expired
            future, outcome = job.future, job.outcome
            job.let_go()
            if not future.done():
                assert outcome is not None
                future.set_result(outcome)

    def _handler_loop(self) -> _HandlerLoop:
        if self._handlers is None:
            self._handlers = _HandlerLoop(self._call_async, self._done)
        return self._handlers

    def _check_deadlines(self) -> None:
        assert self._loop is not None
        self._watch = None
        now = time.monotonic()
        nearest = now + 1.0
        for job in self._running:
            if job.started is None or job.expired:
                continue
            if now >= job.started + job.deadline:
                self._expire(job)
            else:
                nearest = min(nearest, job.started + job.deadline)
        handlers = self._handlers
        if handlers is not None and handlers.is_blocked(now):
            # Coroutines that follow must not queue behind one that blocks its loop.
            self._handlers = None
            self._stuck_loops += 1
            handlers.stop(self._unstuck)
            for job in self._running:
                if job.home is handlers and job.started is None:
                    self._handler_loop().submit(job)
        if self._running:
            self._watch = self._loop.call_later(max(0.01, nearest - now), self._check_deadlines)

    def _unstuck(self) -> None:
        self._stuck_loops -= 1

    def _expire(self, job: _Job) -> None:
        """Close the turn of a job past its deadline."""
        if job.home is not None:
            job.expired = True
        elif not self._crew.give_up(job):
            return  # it has just ended
        self._stuck += 1
        turn = job.turn
        if turn is not None:
            turn.closed = "its deadline passed"
        thread = job.thread or (self._handlers.thread if self._handlers is not None else None)
        effect = "; its turn will not count, its correspondent waits until it ends" if turn is not None else ""
        log.error(
            "%s is past its deadline%s\n%s",
            job.name,
            effect,
            _stack(thread),
            extra={
                "action": "turn_expired",
                "row": turn.message.id if turn is not None else None,
                "conversation": turn.message.sender if turn is not None else None,
            },
        )
        if job.home is not None and self._handlers is not None:
            self._handlers.cancel(job)


def _stack(thread: threading.Thread | None) -> str:
    frame = sys._current_frames().get(thread.ident or 0) if thread is not None else None
    return "".join(traceback.format_stack(frame)[-12:]) if frame is not None else "(no stack)"


#: Where Python and this package live: a line there says little to the author of a handler.
_NOT_THEIRS = (os.path.dirname(os.__file__) + os.sep, os.path.dirname(os.path.dirname(__file__)) + os.sep)


def _in_words(job: _Job, seconds: float) -> str:
    turn = job.turn
    message = turn.message if turn is not None else None
    who = f" for {message.sender}" if message is not None else ""
    frames = _frames(job)
    own = [each for each in frames if not each.filename.startswith(_NOT_THEIRS)] or frames
    place = f", at {own[-1].filename}:{own[-1].lineno} in {own[-1].name}: {own[-1].line}" if own else ""
    return f"{job.name}{who}, {seconds:.1f} s{place}"


def _frames(job: _Job) -> list[traceback.FrameSummary]:
    """Where a handler is, outermost first; empty if it has just ended."""
    if job.thread is not None:
        frame = sys._current_frames().get(job.thread.ident or 0)
        return list(traceback.extract_stack(frame)) if frame is not None else []
    coroutine = job.home.coroutine_of(job) if job.home is not None else None
    frames = []
    while (frame := getattr(coroutine, "cr_frame", None)) is not None:
        frames.append((frame, frame.f_lineno))
        coroutine = getattr(coroutine, "cr_await", None)
    return list(traceback.StackSummary.extract(iter(frames)))


class _HandlerLoop:
    """A loop in a thread of its own, for `async def` handlers."""

    def __init__(self, call: Callable[[_Job], Coroutine[Any, Any, Outcome]], done: Callable[[_Job], None]) -> None:
        self._call = call
        self._done = done
        self._tasks: dict[_Job, asyncio.Task[None]] = {}
        self._ended: Callable[[], None] | None = None
        self._asked: float | None = None
        self._ending = False
        self._lock = threading.Lock()
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self._main, name="monsal-handlers", daemon=True)
        self.thread.start()

    def _main(self) -> None:
        asyncio.set_event_loop(self.loop)
        try:
            while not self._ending:
                try:
                    self.loop.run_forever()
                except (SystemExit, KeyboardInterrupt) as error:
                    # Raised by a task that a handler started and left behind: it ends that task and nothing else.
                    log.error("a task of a handler raised %r", error, extra={"action": "task_failed"})
        finally:
            self.loop.close()
            if self._ended is not None:
                self._ended()

    def submit(self, job: _Job) -> None:
        """Start a job, or take over one that waits for another loop; from the sockets' loop."""
        with self._lock:
            job.home = self
        self.loop.call_soon_threadsafe(self._start, job)

    def _start(self, job: _Job) -> None:
        self._tasks[job] = self.loop.create_task(self._run(job))

    async def _run(self, job: _Job) -> None:
        # Only now it is known that this loop gets to it; until then another one may take it over.
        with self._lock:
            if job.home is not self:
                del self._tasks[job]
                return
            job.started = time.monotonic()
        try:
            job.outcome = Outcome() if job.abandoned else await self._call(job)
        finally:
            del self._tasks[job]
            self._done(job)

    def coroutine_of(self, job: _Job) -> Any:
        """The coroutine of a job that runs here, or None."""
        task = self._tasks.get(job)
        return task.get_coro() if task is not None else None

    def cancel(self, job: _Job) -> None:
        """Cancel a job's task, and learn by the way whether this loop still answers."""
        self._asked = self._asked or time.monotonic()
        self.loop.call_soon_threadsafe(self._cancel, job)

    def _cancel(self, job: _Job) -> None:
        self._asked = None
        task = self._tasks.get(job)
        # A task that has not begun would be dropped without a word; it sees by itself that it was abandoned.
        if task is not None and job.started is not None:
            task.cancel()

    def is_blocked(self, now: float) -> bool:
        """Whether a cancellation went unanswered for too long: some coroutine blocks this loop."""
        return self._asked is not None and now - self._asked > _ANSWER

    def stop(self, ended: Callable[[], None] | None = None) -> None:
        """Let the loop end when its tasks have; `ended()` is called then, on its thread."""
        self._ended = ended
        self.loop.call_soon_threadsafe(self._stop_when_idle)

    def _stop_when_idle(self) -> None:
        if self._tasks:
            self.loop.call_later(0.1, self._stop_when_idle)
        else:
            self._ending = True
            self.loop.stop()
