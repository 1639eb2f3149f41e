"""A value that comes later (Promise), and work that is done one by one on another thread (ActionQueue).

Both are for threads. In asyncio a promise can be awaited too.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable, Generator
from typing import Any

from monsal.errors import MonsalError

__all__ = [
    "GRACE",
    "ActionQueue",
    "Promise",
    "PromiseCancelled",
    "PromiseDeadlockError",
    "PromiseDoneError",
    "PromiseError",
    "PromiseTimeoutError",
]

log = logging.getLogger("monsal.rpc")

#: How long `result` waits unless said otherwise (rpc.R26). The promise of a call waits as long as the call may take.
PATIENCE = 1.0
#: And this much longer (rpc.B21): at its deadline a call fails by itself, with an error that says more.
GRACE = 1.0


class PromiseError(MonsalError):
    """A promise was not used as it can be."""


class PromiseTimeoutError(PromiseError, TimeoutError):
    """The value did not come within the time that was given to `result`; it may still come."""


class PromiseDoneError(PromiseError):
    """The promise has its value already, or was cancelled."""


class PromiseDeadlockError(PromiseError, RuntimeError):
    """The thread that waits is the one that would have to bring the value (rpc.R23)."""


class PromiseCancelled(PromiseError):
    """Whoever held the promise gave it up."""


class Promise:
    """Holds the place of a value that another thread will set, once.

    `setter_thread` is the thread that will set it: waiting on that thread would never end and is refused (rpc.R23). It
    is the creating thread unless said otherwise (rpc.R29).
    """

    def __init__(self, setter_thread: threading.Thread | None = None, *, patience: float | None = PATIENCE) -> None:
        self.setter_thread: threading.Thread | None = setter_thread or threading.current_thread()
        self._patience = patience
        self._lock = threading.Lock()
        self._ready = threading.Event()
        self._value: Any = None
        self._error: BaseException | None = None
        self._callbacks: list[Callable[[], object]] = []
        self._on_cancel: Callable[[], object] | None = None

    def __repr__(self) -> str:
        state = "waiting" if not self._ready.is_set() else repr(self._value if self._error is None else self._error)
        return f"<Promise {state}>"

    def __call__(self, timeout: float | None = None) -> Any:
        """The same as `result`."""
        return self.result(timeout)

    def __await__(self) -> Generator[Any, None, Any]:
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[None] = loop.create_future()

        def wake() -> None:
            if not waiter.done():
                waiter.set_result(None)

        self._when_done(lambda: loop.call_soon_threadsafe(wake))
        yield from waiter
        return self._outcome()

    @property
    def done(self) -> bool:
        """Whether the value, or the error, is there."""
        return self._ready.is_set()

    def result(self, timeout: float | None = None) -> Any:
        """The value, as soon as it is there; at most `timeout` seconds are waited (rpc.R26).

        Raises the error that came in its place; PromiseTimeoutError if neither came in time; PromiseDeadlockError if
        this thread is the one that would set it.
        """
        if not self._ready.is_set():
            if threading.current_thread() is self.setter_thread:
                raise PromiseDeadlockError("this thread has to bring the value; use `then`, or wait on another thread")
            patience = self._patience if timeout is None else timeout
            if not self._ready.wait(patience):
                raise PromiseTimeoutError(f"nothing came within {patience:g} seconds")
        return self._outcome()

    def then(self, callback: Callable[[Any], Any], errback: Callable[[Any], Any] | None = None) -> Promise:
        """Call `callback` with the value, or `errback` with the error, as soon as it is there (rpc.R27).

        Without `errback` the callback gets the error. The promise that is returned gets what the callback returns or
        raises; if that is a promise, what comes of it (rpc.B13). Any number of callbacks may be given.
        """
        following = Promise(self.setter_thread, patience=self._patience)
        following.setter_thread = self.setter_thread

        def go_on() -> None:
            if self._error is None:
                _run(callback, self._value, following)
            else:
                _run(errback or callback, self._error, following)

        self._when_done(go_on)
        return following

    def set_result(self, value: Any) -> None:
        """Set the value. Raises PromiseDoneError if it was set before (rpc.R28)."""
        if not self._settle(value, None):
            raise PromiseDoneError("the promise is done already")

    def set_exception(self, error: Any) -> None:
        """Set an error in place of the value; what is no exception is wrapped in one (rpc.R28)."""
        if not self._settle(None, error if isinstance(error, BaseException) else PromiseError(error)):
            raise PromiseDoneError("the promise is done already")

    def cancel(self) -> bool:
        """Give the value up, and the call that would bring it; False if it is there already."""
        if not self._settle(None, PromiseCancelled("the promise was cancelled")):
            return False
        if self._on_cancel is not None:
            self._on_cancel()
        return True

    def _settle(self, value: Any, error: BaseException | None) -> bool:
        with self._lock:
            if self._ready.is_set():
                return False
            self._value, self._error = value, error
            self._ready.set()
            callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback()
        return True

    def _when_done(self, callback: Callable[[], object]) -> None:
        with self._lock:
            if not self._ready.is_set():
                self._callbacks.append(callback)
                return
        callback()

    def _outcome(self) -> Any:
        if self._error is not None:
            raise self._error
        return self._value


def _run(callback: Callable[[Any], Any], value: Any, following: Promise) -> None:
    try:
        outcome = callback(value)
    except Exception as error:
        log.error("a callback of a promise failed", exc_info=error)
        following._settle(None, error)
        return
    if isinstance(outcome, Promise):
        outcome._when_done(lambda: following._settle(outcome._value, outcome._error))
    else:
        following._settle(outcome, None)


class ActionQueue:
    """Runs functions one by one, in the order in which they were put, on a thread that exists only while there is work.

    A function that raises is logged; the next one runs.
    """

    def __init__(self, name: str = "monsal-actions") -> None:
        self._name = name
        self._lock = threading.Lock()
        self._actions: deque[Callable[[], object]] = deque()
        self._room = threading.Condition(self._lock)
        self._thread: threading.Thread | None = None

    def wait_for_room(self) -> None:
        """Wait until one more of the functions has been begun; not on their own thread."""
        with self._room:
            if self._actions and self._thread is not threading.current_thread():
                self._room.wait()

    def put(self, action: Callable[[], object]) -> None:
        """Have `action` run after all that were put before it."""
        with self._lock:
            self._actions.append(action)
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name=self._name, daemon=True)
                self._thread.start()

    @property
    def thread(self) -> threading.Thread | None:
        """The thread at work; None if there is nothing to do."""
        return self._thread

    def __len__(self) -> int:
        return len(self._actions)

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._actions:
                    self._thread = None
                    return
                action = self._actions.popleft()
                self._room.notify_all()
            try:
                action()
            except Exception as error:
                log.error("an action failed", exc_info=error)
