"""Channels and listeners: subscribing, publishing and the log, without the life of a process."""

from __future__ import annotations

import threading
from collections.abc import Callable, Coroutine, MutableSet
from functools import partial
from importlib import import_module
from traceback import format_exc
from types import CoroutineType
from typing import TYPE_CHECKING, Any, TypeVar, overload

from monsal.bus.channels import Channel, ChannelFailures, Listener
from monsal.bus.events import History
from monsal.bus.inner.outcomes import outcome_of, text_of

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from concurrent.futures import Future

    from monsal.bus.inner.loops import OwnLoop

__all__ = ["Hub"]

L = TypeVar("L", bound=Listener)


class Hub:
    """Named channels. Every method may be called from every thread."""

    def __init__(self) -> None:
        #: Channel -> its listeners; others may put channels there.
        self.listeners: dict[str, MutableSet[Listener]] = {}
        for name in ("start", "stop", "exit", "graceful", "log", "main"):
            self.listeners[name] = Channel(changed=self._changed)
        self.history = History()
        #: Its owner may come again in the middle: by a signal handler or a finalizer. See `Steps._put_off`.
        self._lock = threading.RLock()
        self._loop: AbstractEventLoop | None = None
        self._own_loop: OwnLoop | None = None

    @overload
    def subscribe(self, channel: str, callback: None = None, priority: float | None = None) -> Callable[[L], L]: ...

    @overload
    def subscribe(self, channel: str, callback: L, priority: float | None = None) -> L: ...

    def subscribe(self, channel: str, callback: Any = None, priority: float | None = None) -> Any:
        """Have `callback` called when something is published on `channel`; without it, return a decorator.

        Priority: the argument, else the callback's attribute `priority`, else 50; lower ones run first, equal ones in
        the order of subscription. Subscribing again only sets the priority. Returns the callback.
        """
        if callback is None:
            return partial(self.subscribe, channel, priority=priority)
        self._channel(channel).add(callback, priority)
        return callback

    def unsubscribe(self, channel: str, callback: Listener) -> None:
        """Undo `subscribe`; an unknown channel or callback is no error."""
        if channel in self.listeners:
            self._channel(channel).discard(callback)

    def _channel(self, name: str) -> Channel:
        """The channel of that name, made if need be; a plain set that others put there is taken over."""
        found = self.listeners.get(name)
        if isinstance(found, Channel):
            return found
        with self._lock:
            found = self.listeners.get(name)
            if not isinstance(found, Channel):
                self.listeners[name] = found = Channel(found or (), self._changed)
        return found

    def _changed(self) -> None:
        """Listeners have come or gone."""

    def publish(self, channel: str, *args: Any, **kwargs: Any) -> list[Any]:
        """Call all listeners of `channel`; their results in the order of calling, `[]` for an unknown channel.

        All are called even if some fail; each failure is logged, and after the last listener all are raised as one
        ChannelFailures. KeyboardInterrupt and SystemExit end the publishing at once.
        """
        try:
            calls = self.listeners[channel].calls  # type: ignore[attr-defined]  # a foreign set: the second except
        except KeyError:
            return []
        except AttributeError:
            calls = None
        if calls is None:
            calls = self._channel(channel).order()
        results: list[Any] = []
        failures: list[Exception] | None = None
        coroutine = CoroutineType
        # Three loops that differ in one call: passing *args and **kwargs on costs as much as a small listener, and with
        # them ten listeners took 2.7 times as long as a plain loop of calls, without 1.6 times. A look at None saves
        # the look at the type, and a list of failures is made when there is one (bench/: rows of the bus).
        if kwargs or len(args) > 1:
            for listener in calls:
                try:
                    result = listener(*args, **kwargs)
                    if result is not None and type(result) is coroutine:
                        result = self._awaited(result)
                    results.append(result)
                except BaseException as error:  # noqa: BLE001 - sorted there, raised again if it ends the publishing
                    failures = self._failed_in(channel, listener, error, failures)
        elif args:
            argument = args[0]
            for listener in calls:
                try:
                    result = listener(argument)
                    if result is not None and type(result) is coroutine:
                        result = self._awaited(result)
                    results.append(result)
                except BaseException as error:  # noqa: BLE001 - as above
                    failures = self._failed_in(channel, listener, error, failures)
        else:
            for listener in calls:
                try:
                    result = listener()
                    if result is not None and type(result) is coroutine:
                        result = self._awaited(result)
                    results.append(result)
                except BaseException as error:  # noqa: BLE001 - as above
                    failures = self._failed_in(channel, listener, error, failures)
        if failures is not None:
            raise ChannelFailures(f"listeners of {channel!r} failed", failures, results)
        return results

    def _awaited(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """What the coroutine of an `async def` listener returns (B5)."""
        return outcome_of(self.submit(coroutine))

    def _failed_in(
        self, channel: str, listener: Listener, error: BaseException, earlier: list[Exception] | None
    ) -> list[Exception]:
        """Log a failure (R4) and return all so far, or raise what ends the publishing at once (R6)."""
        if not isinstance(error, Exception):
            # "If an earlier listener had failed and the exit code is 0, it becomes 1" (R6).
            if isinstance(error, SystemExit) and earlier and error.code in (None, 0):
                error.code = 1
            raise error
        failures = earlier if earlier is not None else []
        failures.append(error)
        if channel != "log":
            self.log(f"Error in {channel!r} listener {text_of(listener)}", 40, True)
        return failures

    def log(self, msg: str = "", level: int = 20, traceback: bool = False) -> None:
        """Say something on the channel `log`, at a level of the `logging` module.

        With `traceback` the text of the exception that is being handled follows on a new line. A log listener that
        fails stops nobody (B4); as it cannot be logged either (R7), it is kept among the events.
        """
        if traceback:
            msg = f"{msg}\n{format_exc()}"
        try:
            self.publish("log", msg, level)
        except ChannelFailures as failures:
            self.history.add("log", "a log listener failed", channel="log", cause=str(failures))

    def attach_loop(self, loop: AbstractEventLoop | None) -> None:
        """Run `async def` listeners on `loop`, which runs in another thread; None takes it away again.

        Without one the bus makes a loop in a thread of its own when the first coroutine comes.
        """
        self._loop = loop

    def submit(self, coroutine: Coroutine[Any, Any, Any], began: Callable[[], object] | None = None) -> Future[Any]:
        """Run `coroutine` on the owner loop (B5), calling `began` there before it begins.

        Raises RuntimeError if the loop does not run, or if the caller is on it and would wait for itself.
        """
        # Loaded when the first coroutine comes: asyncio would make up most of the time to import this package.
        loops = import_module("monsal.bus.inner.loops")
        loop = self._loop
        if loop is None:
            with self._lock:
                if self._own_loop is None:
                    self._own_loop = loops.OwnLoop()
                loop = self._own_loop.loop
        future: Future[Any] = loops.submit(coroutine, loop, began)
        return future

    def _on_owner_loop(self) -> bool:
        """Whether the caller is on the loop where async listeners run."""
        with self._lock:
            loop = self._loop or (self._own_loop and self._own_loop.loop)
        return bool(loop) and bool(import_module("monsal.bus.inner.loops").runs_here(loop))

    def _close_own_loop(self, *, join: bool = False) -> None:
        with self._lock:
            own, self._own_loop = self._own_loop, None
        if own is not None:
            own.close()
            if join:
                own.join()
