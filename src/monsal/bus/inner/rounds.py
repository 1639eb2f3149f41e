"""One publishing of `start`, `drain`, `stop` or `exit`: its listeners called in turn, with an eye on the time (B6).

A `Round` has a runner, the thread that calls the listeners, and a watcher, another thread. The watcher logs the
culprit's stack at half of the time a listener has, and gives the call up at its end: the failure is recorded, and the
rest goes on without the thread that hangs, which nothing in Python can end.
"""

from __future__ import annotations

import math
import sys
import traceback
from collections.abc import Callable, Coroutine, Iterable
from contextvars import ContextVar
from threading import Lock, get_ident
from time import monotonic
from types import CoroutineType, FrameType
from typing import TYPE_CHECKING, Any, Protocol

from monsal.bus.channels import ChannelFailures, Listener
from monsal.bus.events import History
from monsal.bus.inner.outcomes import limit_of, minds_itself, outcome_of, text_of
from monsal.bus.inner.waiting import Desk
from monsal.bus.limits import Hurry, Limits

if TYPE_CHECKING:
    # Only for its name: it would load logging.
    from concurrent.futures import Future

__all__ = ["Call", "Host", "Round", "current_call"]


class Host(Protocol):
    """What a round needs of the bus."""

    limits: Limits
    hurry: Hurry
    history: History

    def log(self, msg: str = "", level: int = 20, traceback: bool = False) -> None: ...

    def submit(self, coroutine: Coroutine[Any, Any, Any], began: Callable[[], None]) -> Future[Any]: ...

    @property
    def _abroad(self) -> bool: ...

    def _in_child(self, turn: Round, call: Call) -> None: ...


def _never() -> bool:
    return False


#: The call in which the running code is; the only ambient state of the bus.
current_call: ContextVar[Call | None] = ContextVar("monsal.bus.current_call", default=None)


class Call:
    """One call of one listener, named by `title` in the log; `turn` is the round it belongs to, if any.

    A listener with an attribute `own_time` that is true minds the time of what it calls by itself: it has no deadline.
    """

    __slots__ = (
        "began",
        "coroutine",
        "deadline",
        "error",
        "future",
        "listener",
        "own_time",
        "thread",
        "title",
        "turn",
        "value",
        "warned",
    )

    def __init__(self, listener: Listener, limit: float, *, title: str, turn: Round | None = None) -> None:
        self.listener = listener
        self.title = title
        self.turn = turn
        self.began = monotonic()
        self.own_time = minds_itself(listener)
        self.deadline = math.inf if self.own_time else self.began + limit_of(listener, limit)
        self.warned = False
        self.thread: int | None = None
        self.coroutine: Coroutine[Any, Any, Any] | None = None
        self.future: Future[Any] | None = None
        self.value: Any = None
        self.error: BaseException | None = None

    def run(self, submit: Callable[[Coroutine[Any, Any, Any], Callable[[], None]], Future[Any]]) -> None:
        """Call the listener on this thread, and await on the owner loop what it wants to have awaited."""
        token = current_call.set(self)
        try:
            self._here()
            self.value = self.listener()
            if isinstance(self.value, CoroutineType):
                self.coroutine = self.value
                self.future = submit(self.value, self._here)
                self.value = outcome_of(self.future)
        except BaseException as error:  # noqa: BLE001 - handed over to whoever runs the round, which sorts them (R6)
            self.error = error
        finally:
            current_call.reset(token)

    def _here(self) -> None:
        self.thread = get_ident()

    def end(self, bus: Host, rush: float) -> float:
        """When its time is over, in monotonic seconds; from `rush` on it has only what `Limits.hurry` grants."""
        if self.own_time:
            return math.inf
        return min(self.deadline, max(self.began, min(rush, bus.hurry.since)) + bus.limits.hurry)

    def mind(self, bus: Host, rush: float) -> float | None:
        """Log where it is at half of its time. The seconds until the next look, or None if its time is over."""
        now, end = monotonic(), self.end(bus, rush)
        if now >= end:
            return None
        half = (self.began + end) / 2
        if now >= half and not self.warned:
            self.warned = True
            bus.log(
                f"{self.title} has run for {now - self.began:.1f} of {end - self.began:.1f} seconds\n{self.stack()}", 30
            )
        # A limit may be infinite, a wait may not.
        return min((end if self.warned else half) - now, 3600.0)

    def stack(self) -> str:
        """Where the listener is now, as the text of a traceback."""
        frames: list[tuple[FrameType, int]] = []
        inner: Any = self.coroutine
        running = False
        while isinstance(inner, CoroutineType):
            if inner.cr_frame is not None:
                frames.append((inner.cr_frame, inner.cr_frame.f_lineno))
            running, inner = inner.cr_running, inner.cr_await
        if not frames or running:
            frame = sys._current_frames().get(self.thread or 0)
            return _stack_of(frame) if frame is not None else "(its thread has ended)\n"
        return "".join(traceback.StackSummary.extract(iter(frames)).format())


def _stack_of(frame: FrameType) -> str:
    """The stack of a thread below the call; how the call came about is the same each time and tells nothing."""
    depth, outer = 0, frame
    while outer.f_back is not None and outer.f_code is not Call.run.__code__:
        depth, outer = depth + 1, outer.f_back
    ours = outer.f_code is Call.run.__code__ and depth
    return "".join(traceback.format_stack(frame, depth if ours else None))


class Round:
    """The listeners of one channel, called one after the other.

    `enough` is asked before each call and ends the round early. With `first_failure_ends` so does a failure (B4).
    When it is over, `failures`, `results` and `fatal` (an exception that ends more than the round, R6) say how it went.
    """

    def __init__(
        self,
        bus: Host,
        channel: str,
        listeners: Iterable[Listener],
        desk: Desk,
        *,
        rush: float = math.inf,
        enough: Callable[[], bool] | None = None,
        first_failure_ends: bool = False,
    ) -> None:
        self.channel = channel
        self.results: list[Any] = []
        self.failures: list[Exception] = []
        self.fatal: BaseException | None = None
        self.called: list[Listener] = []
        self.over = False
        #: Set to have the watcher end while the round goes on.
        self.dismissed = False
        self.current: Call | None = None
        #: Where the watcher waits; each change is told by a knock.
        self.desk = desk
        #: Where a listener waits that minds its own time.
        self.inside: Desk | None = None
        #: From then on there is little time, in monotonic seconds.
        self.rush = rush
        #: Whether the round is to end early.
        self.enough = enough or _never
        self._bus = bus
        self._rest = iter(list(listeners))
        self._first_failure_ends = first_failure_ends
        self._limit: float = getattr(bus.limits, channel)
        self._lock = Lock()
        self._runner = 0

    def knock(self) -> None:
        """Have those who wait look again: there is something to ask for, to hurry, or to call."""
        for desk in (self.desk, self.inside):
            if desk is not None:
                desk.knock()

    def run(self) -> bool:
        """Call what is left, on this thread. False if a call was given up: then somebody else has gone on."""
        with self._lock:
            self._runner += 1
            runner = self._runner
        try:
            while (call := self._next(runner)) is not None:
                call.run(self._bus.submit)
                if self._bus._abroad:
                    self._bus._in_child(self, call)
                if not self._settle(runner, call):
                    return False
        except BaseException as error:
            if self._bus._abroad:
                raise
            # Of a log listener: it ends the round like one of a listener (R6).
            self._end(error)
        return self._runner == runner

    def _next(self, runner: int) -> Call | None:
        enough = self.enough()
        with self._lock:
            if runner != self._runner or self.over:
                return None
            listener = None if enough or (self.failures and self._first_failure_ends) else next(self._rest, None)
            if listener is not None:
                self.called.append(listener)
                title = f"Listener {text_of(listener)} of {self.channel!r}"
                self.current = Call(listener, self._limit, title=title, turn=self)
        if listener is None:
            self._end(None)
            return None
        self.desk.knock()
        return self.current

    def _settle(self, runner: int, call: Call) -> bool:
        error = call.error
        with self._lock:
            if runner != self._runner:
                return False
            self.current = None
            if error is None:
                self.results.append(call.value)
            elif isinstance(error, Exception):
                self.failures.append(error)
        self._note(call, "" if error is None else text_of(error))
        if error is None:
            return True
        if not isinstance(error, Exception):
            # "If an earlier listener had failed and the exit code is 0, it becomes 1" (R6).
            if isinstance(error, SystemExit) and self.failures and error.code in (None, 0):
                error.code = 1
            self._end(error)
            return True
        text = "".join(traceback.format_exception(error))
        self._bus.log(f"Error in {self.channel!r} listener {text_of(call.listener)}\n{text}", 40)
        return True

    def _end(self, fatal: BaseException | None) -> None:
        with self._lock:
            self.fatal = self.fatal or fatal
            self.over = True
        self.desk.knock()

    def watch(self, go_on: Callable[[], object]) -> None:
        """Wait at the desk until the round is over, or until the watcher is dismissed.

        `go_on` is called after a call was given up, to have another thread run the rest.
        """
        try:
            while not (self.over or self.dismissed):
                self.desk.wait(self._look(go_on))
        except BaseException as error:  # noqa: BLE001 - an interrupt of who watches ends the round like one in it (R6)
            self._end(error)

    def _look(self, go_on: Callable[[], object]) -> float | None:
        """Warn or give up if it is time; the seconds until the next look, or None to wait for a knock."""
        call = self.current
        if call is None:
            return None
        left = call.mind(self._bus, self.rush)
        if left is None:
            self._give_up(call, call.end(self._bus, self.rush) - call.began, go_on)
            return 0
        return left

    def _give_up(self, call: Call, limit: float, go_on: Callable[[], object]) -> None:
        error = TimeoutError(f"{History.name_of(call.listener)} on {self.channel!r} took more than {limit:.1f} seconds")
        with self._lock:
            if self.current is not call:
                return
            self._runner += 1
            self.current = None
            self.failures.append(error)
        self._note(call, text_of(error))
        stack = call.stack()
        if call.future is not None:
            call.future.cancel()
        text = f"Error in {self.channel!r} listener {text_of(call.listener)}\n{error}; it is here:\n{stack}"
        try:
            self._bus.log(text, 40)
        finally:
            go_on()

    def _note(self, call: Call, cause: str) -> None:
        name, seconds = History.name_of(call.listener), monotonic() - call.began
        self._bus.history.add("call", name, channel=self.channel, seconds=seconds, cause=cause)

    def left(self) -> list[Listener]:
        """The listeners that were never called; to be asked once, when the round is over."""
        return list(self._rest)

    def outcome(self) -> ChannelFailures | None:
        """All failures as one, or None. Raises what ends more than the round."""
        if self.fatal is not None:
            raise self.fatal
        if not self.failures:
            return None
        return ChannelFailures(f"listeners of {self.channel!r} failed", self.failures, self.results)
