"""In what order calls are handled, and on what: one `Lane` for each link, one `KeyLane` for each conversation (rpc.B5).

Calls of one sender are handled one after another, those of different senders beside each other. A handler that does not
wait for anything is run to its end where its call was read, without a task of its own: that is a third of the cost of a
call. One that waits goes on in the task of its lane; the calls after it wait in the lane, and reading goes on.
"""

from __future__ import annotations

import asyncio
from asyncio import tasks
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import copy_context
from typing import Any, Protocol

from monsal.loops import go_on
from monsal.rpc.context import CallContext, _current
from monsal.wire.codes import CANCELLED
from monsal.wire.packets import Id

__all__ = ["KeyLane", "Lane", "Runner", "handle", "stop"]


class Runner(Protocol):
    """Runs a call and gives its answer: the dispatcher."""

    def run(self, context: CallContext) -> Coroutine[Any, Any, Any]: ...
    def finish(self, context: CallContext, value: Any) -> None: ...
    def fail(self, context: CallContext, error: BaseException) -> None: ...


async def handle(runner: Runner, context: CallContext, work: Awaitable[Any] | None = None) -> None:
    """Run a call to its end in this task, and answer it; to cancel the call is no end of the task."""
    task = asyncio.current_task()
    assert task is not None
    _current.set(context)
    context.stop = task.cancel
    try:
        value = await (runner.run(context) if work is None else work)
    except asyncio.CancelledError as error:
        runner.fail(context, error)
        # A handler may also have waited for something that was cancelled; that is no end of the task either.
        if not context.cancelled and task.cancelling():
            raise
    except (KeyboardInterrupt, GeneratorExit) as error:
        runner.fail(context, error)
        if isinstance(error, KeyboardInterrupt) or not _is_running(task):
            raise
    except BaseException as error:  # noqa: BLE001 - it is told to the caller; a handler's SystemExit ends the call only
        runner.fail(context, error)
    else:
        runner.finish(context, value)
    finally:
        context.stop = None
    while context.cancelled and task.cancelling():
        task.uncancel()


def _is_running(task: asyncio.Task[Any]) -> bool:
    """Whether a task runs, and is not closed because its loop is gone."""
    try:
        return asyncio.current_task() is task
    except RuntimeError:
        return False


class Lane:
    """The calls of one sender, one after another. `close` stops what runs and drops what waits."""

    def __init__(self, runner: Runner, loop: asyncio.AbstractEventLoop) -> None:
        self._runner = runner
        self._loop = loop
        self._waiting: deque[CallContext] = deque()
        self._adopted: tuple[CallContext, Coroutine[Any, Any, Any], Any] | None = None
        self._running: CallContext | None = None
        self._wake: asyncio.Future[None] | None = None
        self._context = copy_context()
        self._task = loop.create_task(self._work(), name="rpc lane", context=self._context)

    def __len__(self) -> int:
        return len(self._waiting) + (self._running is not None)

    def submit(self, context: CallContext) -> None:
        """Have a call handled after those before it; if there are none, now.

        Its first steps are made here, as if in the lane's task: task and context are the same later on.
        """
        if self._running is not None or self._waiting:
            self._wait(context)
            return
        try:
            tasks._enter_task(self._loop, self._task)
        except RuntimeError:  # what calls us is a task itself
            self._wait(context)
            return
        self._running = context
        runner = self._runner
        try:
            work = runner.run(context)
            self._context.run(_current.set, context)
            pending = self._context.run(work.send, None)
        except StopIteration as end:
            self._running = None
            runner.finish(context, end.value)
        except BaseException as error:  # it is told to the caller; a handler's SystemExit ends the call only
            self._running = None
            runner.fail(context, error)
            if isinstance(error, KeyboardInterrupt):
                raise
        else:
            self._adopted = (context, work, pending)
            context.stop = lambda: self._loop.call_soon(self._stop_soon, context)
            self._wake_up()
        finally:
            tasks._leave_task(self._loop, self._task)

    def cancel(self, identifier: Id, code: int) -> bool:
        """Stop the handler of a call, or forget the call if it waits; False if it is not here."""
        running = self._running
        if running is not None and running.id == identifier and not running.is_cast:
            stop(running, code)
            return True
        for context in self._waiting:
            if context.id == identifier and not context.is_cast:
                self._waiting.remove(context)
                stop(context, code)
                self._runner.fail(context, asyncio.CancelledError())
                return True
        return False

    def close(self) -> None:
        """Nobody waits for answers any more: calls are stopped, casts go on to their end."""
        calls = [context for context in self._waiting if not context.is_cast]
        for context in calls:
            self._waiting.remove(context)
            context.cancelled = context.answered = True
        if self._running is not None and not self._running.is_cast:
            self._running.answered = True
            stop(self._running, CANCELLED)
        self._closing = True
        self._wake_up()

    _closing = False

    def _wake_up(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    def _wait(self, context: CallContext) -> None:
        self._waiting.append(context)
        self._wake_up()

    def _stop_soon(self, context: CallContext) -> None:
        # By now the task waits for what the handler waits for, so that this is cancelled too.
        if self._running is context:
            self._task.cancel()

    async def _work(self) -> None:
        while True:
            if self._adopted is not None:
                context, work, pending = self._adopted
                self._adopted = None
                await handle(self._runner, context, go_on(work, pending))
                self._running = None
            elif self._waiting:
                self._running = context = self._waiting.popleft()
                await handle(self._runner, context)
                self._running = None
            elif self._closing:
                return
            else:
                self._wake = self._loop.create_future()
                await self._wake


def stop(context: CallContext, code: int) -> None:
    """Mark a call as given up, and stop its handler if that is possible."""
    context.cancelled = True
    context.code = code
    if context.stop is not None:
        context.stop()


class KeyLane:
    """The calls of one conversation, whoever sent them, one after another, in a task that lives while there are any."""

    def __init__(self, runner: Runner, loop: asyncio.AbstractEventLoop, forget: Callable[[], object]) -> None:
        self._runner = runner
        self._forget = forget
        self._waiting: deque[CallContext] = deque()
        self._task: asyncio.Task[None] | None = None
        self._loop = loop

    def submit(self, context: CallContext) -> None:
        """Have a call handled after those before it."""
        self._waiting.append(context)
        if self._task is None:
            self._task = self._loop.create_task(self._work(), name="rpc conversation")

    async def _work(self) -> None:
        try:
            while self._waiting:
                context = self._waiting.popleft()
                if context.cancelled:
                    self._runner.fail(context, asyncio.CancelledError())
                else:
                    await handle(self._runner, context)
        finally:
            self._forget()
