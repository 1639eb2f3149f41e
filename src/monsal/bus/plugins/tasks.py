"""Work that is done again and again on a thread of its own.

A `BackgroundTask` is such a thread; a `PeriodicTask` is the plugin that starts one with the bus and ends it with it.
They survive a failure of what they call (B16), while a `PerpetualTimer` ends with it, as in the original design. All
wait on an event: there are no wake-ups but those at the interval, and `cancel` ends the waiting at once.
"""

from __future__ import annotations

import math
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from functools import partial
from traceback import format_stack
from types import CoroutineType
from typing import TYPE_CHECKING, Any

from monsal.bus.channels import ChannelFailures
from monsal.bus.core import Bus
from monsal.bus.plugins.simple import SimplePlugin

if TYPE_CHECKING:
    # Only for its name: it would load logging.
    from concurrent.futures import Future

__all__ = ["BackgroundTask", "Monitor", "PeriodicTask", "PerpetualTimer"]

#: The longest pause after failures, in seconds: who has repaired the cause sees it work within five minutes.
LONGEST_PAUSE = 300.0

#: The thread on whose behalf the code runs. It goes along to the listeners of a shutdown that a callback asks for, and
#: which run on other threads: they must not wait for the end of the thread that waits for them.
_running: ContextVar[threading.Thread | None] = ContextVar("monsal.bus.running_task", default=None)


class PerpetualTimer(threading.Timer):
    """A thread that calls `function` every `interval` seconds until `cancel()`; `start()` it.

    The interval begins when the last call has returned, so calls that take longer are not made up for. A coroutine is
    awaited on the owner loop of the bus. A failure ends the thread and is logged on the bus, or without a bus given to
    `threading.excepthook`. SystemExit and KeyboardInterrupt shut the bus down.
    """

    _kind = "perpetual timer"

    def __init__(
        self,
        interval: float,
        function: Callable[..., object],
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        bus: Bus | None = None,
    ) -> None:
        super().__init__(interval, function, list(args or ()), dict(kwargs or {}))
        self.bus = bus
        self._awaited: Future[Any] | None = None
        self._given_up = False

    def run(self) -> None:
        """The life of the thread."""
        _running.set(self)
        failures = 0
        while not self.finished.wait(self._pause(failures)):
            try:
                self._call()
                failures = 0
            except Exception as error:  # noqa: BLE001 - logged on the bus or given to the excepthook; nobody is above
                failures += 1
                if not self._given_up:
                    self._failed(error, failures)
            except BaseException as error:  # noqa: BLE001 - SystemExit and KeyboardInterrupt go to the bus (R6)
                self.finished.set()
                self._shut_down(error)

    def _pause(self, failures: int) -> float:
        return min(self.interval, threading.TIMEOUT_MAX)

    def _call(self) -> None:
        result: object = self.function(*self.args, **self.kwargs)
        if not isinstance(result, CoroutineType):
            return
        if self.bus is None:
            result.close()
            raise RuntimeError(f"an async function of a {self._kind} needs a bus, on whose loop it runs")
        self._awaited = self.bus.submit(result)
        try:
            self._awaited.result()
        finally:
            self._awaited = None

    def _failed(self, error: Exception, failures: int) -> None:
        self.finished.set()
        self._report(error, "")

    def _report(self, error: BaseException, what_next: str) -> None:
        if self.bus is None:
            threading.excepthook(threading.ExceptHookArgs((type(error), error, error.__traceback__, self)))
        else:
            self.bus.log(f"Error in {self._kind} thread function {self.function!r}.{what_next}", 40, True)

    def _shut_down(self, error: BaseException) -> None:
        """Exit the bus, and have the main thread raise the error, so that the process ends with its exit code."""
        if self.bus is None:
            self._report(error, "")
            return
        kind = type(error).__name__
        self.bus.log(f"{kind} raised in {self._kind} thread function {self.function!r}: shutting down bus", 30)
        self.bus.call_soon(partial(_raise, error))
        try:
            self.bus.exit()
        except ChannelFailures as failures:
            # Each was logged as it failed, and `block` raises them.
            self.bus.history.add("log", "the exit was not clean", cause=str(failures))

    def _end(self, patience: float) -> bool:
        """Cancel; whether the thread ends within so many seconds. A coroutine that does not is cancelled."""
        self.cancel()
        self.join(patience)
        awaited = self._awaited
        if self.is_alive() and awaited is not None:
            self._given_up = True
            if self.bus is not None:
                self.bus.log(
                    f"Thread {self.name!r} has waited {patience:g} s for its coroutine, which is cancelled.", 30
                )
            awaited.cancel()
            self.join(patience)
        return not self.is_alive()


class BackgroundTask(PerpetualTimer):
    """A daemon thread that calls `function` every `interval` seconds until `cancel()`; a failure does not end it (B16).

    While it goes on failing the pause is doubled each time, up to five minutes or `interval` if that is longer; a
    success ends that. In all else it is a PerpetualTimer.
    """

    _kind = "background task"

    def __init__(
        self,
        interval: float,
        function: Callable[..., object],
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        bus: Bus | None = None,
    ) -> None:
        super().__init__(interval, function, args, kwargs, bus)
        # The one of a descendant was not, so its process waited for it (M7).
        self.daemon = True

    def _pause(self, failures: int) -> float:
        # ldexp(x, n) is x * 2**n; the power is bounded, for it is when a float is full that it raises.
        longer = min(math.ldexp(self.interval, min(failures, 64)), max(self.interval, LONGEST_PAUSE))
        return min(longer, threading.TIMEOUT_MAX)

    def _failed(self, error: Exception, failures: int) -> None:
        what_next = "" if self.finished.is_set() else f" It is called again in {self._pause(failures):g} s."
        self._report(error, what_next)


class PeriodicTask(SimplePlugin):
    """Calls `callback` every `frequency` seconds between start and stop of the bus; never if that is 0 or less.

    The callback may be `async def`. One that fails is logged and called again, at longer and longer intervals while it
    goes on failing (BackgroundTask); SystemExit shuts the bus down. It may itself stop or exit the bus.
    """

    callback: Callable[[], object]
    frequency: float = 60
    name: str | None = None
    #: The thread while it is wanted.
    thread: BackgroundTask | None = None
    #: How many seconds `stop` waits for a callback that is running.
    patience: float = 5.0

    def __init__(
        self, bus: Bus, callback: Callable[[], object], frequency: float = 60, name: str | None = None
    ) -> None:
        super().__init__(bus)
        self.callback = callback
        self.frequency = frequency
        self.name = name
        self._lock = threading.Lock()

    def start(self) -> None:
        """Start the thread; if there is one nothing happens."""
        name = self.name or type(self).__name__
        with self._lock:
            former = self.thread
            if former is None and self.frequency > 0:
                self.thread = self._new_thread()
                self.thread.name = name
                self.thread.start()
        if former is not None:
            self.bus.log(f"Monitor thread {former.name!r} already started.")
        elif self.frequency > 0:
            self.bus.log(f"Started monitor thread {name!r}.")

    start.priority = 70  # type: ignore[attr-defined]  # functions take attributes

    def _new_thread(self) -> BackgroundTask:
        return BackgroundTask(self.frequency, self.callback, bus=self.bus)

    def stop(self) -> None:
        """End the thread at once, and wait a while for a callback that is running, unless that is what stops it."""
        with self._lock:
            thread, self.thread = self.thread, None
        if thread is None:
            self.bus.log(f"No thread running for {self.name or type(self).__name__}.")
            return
        thread.cancel()
        # When the shutdown was asked to hurry, this listener has half of the time that is left for each.
        patience = min(self.patience, self.bus.limits.hurry / 2) if self.bus.hurry.is_set() else self.patience
        if thread is _running.get() or thread._end(patience):
            self.bus.log(f"Stopped thread {thread.name!r}.")
        else:
            frame = sys._current_frames().get(thread.ident or 0)
            stack = "".join(format_stack(frame)) if frame is not None else ""
            self.bus.log(
                f"Thread {thread.name!r} did not end in {patience:g} s and is left alone; it is here:\n{stack}", 30
            )

    def graceful(self) -> None:
        """Stop the thread and start a new one."""
        self.stop()
        self.start()


#: The name that the original design gives it.
Monitor = PeriodicTask


def _raise(error: BaseException) -> None:
    raise error
