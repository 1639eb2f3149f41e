"""What becomes of a call that came in: found, checked, run, answered.

A name that was not declared is refused without a look at any other attribute (rpc.B10); arguments are checked before
anything runs (rpc.B9); body and listeners run in order (rpc.R15); the one result that is not None is the answer
(rpc.R17). Each call with an id is answered, whatever happens (rpc.B8).
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable, Coroutine, Hashable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from types import CoroutineType
from typing import Any

import msgspec

from monsal.errors import MonsalError, RemoteError
from monsal.rpc.bound import IncomingCall, Step
from monsal.rpc.context import CallContext, Source, _current
from monsal.rpc.errors import Cancelled, HandlerExpired, InvalidParams, MethodNotFound, incident
from monsal.rpc.lane import KeyLane, Lane, handle, stop
from monsal.rpc.ports import Owner
from monsal.wire.codes import CANCELLED, DEADLINE, INTERNAL_ERROR, MESSAGES
from monsal.wire.events import Called
from monsal.wire.packets import EncodeError, Id

__all__ = ["Dispatcher"]

log = logging.getLogger("monsal.rpc")

#: Plain functions that may run at a time for one API.
THREADS = 32


class _Calls:
    """The calls of one link that are under way."""

    __slots__ = ("aside", "lane")

    def __init__(self, lane: Lane) -> None:
        self.lane = lane
        #: Those that run beside the lane, by id.
        self.aside: dict[Id, CallContext] = {}


class Dispatcher:
    """Handles the calls that come in for one API, over any number of links."""

    def __init__(self, api: Owner) -> None:
        self._api = api
        self._links: dict[Source, _Calls] = {}
        self._by_key: dict[Hashable, KeyLane] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._executor: ThreadPoolExecutor | None = None

    # -- natively: on the loop of a link ----------------------------------------------------------------------

    def on_call(self, source: Source, called: Called) -> None:
        """A call or cast came over a link."""
        context = self.admit(source, called)
        if context is None:
            return
        calls = self._links.get(source)
        if calls is None:
            calls = self._links[source] = _Calls(Lane(self, asyncio.get_running_loop()))
        signature = context.call.signature  # type: ignore[union-attr] # what was admitted was found
        if signature.in_lane:
            calls.lane.submit(context)
        else:
            self._submit_aside(calls, context, signature.options.key)
        if called.is_cast and not context.answered:
            context.held = True
            source.hold()

    def on_cancelled(self, source: Source, identifier: Id, code: int) -> None:
        """The other side has given a call up, or its time has passed (rpc.B4)."""
        calls = self._links.get(source)
        if calls is None or calls.lane.cancel(identifier, code):
            return
        context = calls.aside.get(identifier)
        if context is not None:
            stop(context, code)

    def on_gone(self, source: Source) -> None:
        """Nobody waits for answers over this link any more."""
        calls = self._links.pop(source, None)
        if calls is not None:
            calls.lane.close()
            for context in calls.aside.values():
                context.answered = True
                stop(context, CANCELLED)

    def _submit_aside(self, calls: _Calls, context: CallContext, key: str | None) -> None:
        context.aside = True
        if not context.is_cast:
            calls.aside[context.id] = context
        loop = asyncio.get_running_loop()
        if key is None:
            task = loop.create_task(handle(self, context), name="rpc call")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            return
        value = context.sender if key == "sender" else context.kwargs.get(key)
        known = (key, value if isinstance(value, Hashable) else repr(value))
        lane = self._by_key.get(known)
        if lane is None:
            lane = self._by_key[known] = KeyLane(self, loop, lambda: self._by_key.pop(known, None))
        lane.submit(context)

    def close(self) -> None:
        """End the threads of plain functions, once these are done."""
        if self._executor is not None:
            self._executor.shutdown(wait=False, cancel_futures=True)
            self._executor = None

    # -- both ways --------------------------------------------------------------------------------------------

    def admit(self, source: Source, called: Called) -> CallContext | None:
        """The call with its arguments checked; None if it was refused."""
        call = self._api._table.get(called.method)
        if call is None:
            refused: RemoteError = MethodNotFound(MESSAGES[MethodNotFound.code])
            self.trouble(refused, CallContext(source, called, None, {}))
            return None
        try:
            return CallContext(source, called, call, call.signature.load(called.params))
        except InvalidParams as error:
            self.trouble(error, CallContext(source, called, call, {}))
            return None

    def trouble(self, error: Exception, context: CallContext) -> None:
        """Tell the hook, and see to it that a call with an id is answered whatever the hook does (rpc.B8, R25)."""
        self.hook(context.sender, error, context)
        self.refuse(context, error)

    def hook(self, sender: str, error: Exception, in_reply_to: Any = None) -> None:
        """Call `message_error`, which may be anybody's."""
        try:
            self._api.message_error(sender, error, in_reply_to)
        except Exception:
            log.exception("message_error failed", extra={"action": "message_error_failed"})

    def run(self, context: CallContext) -> Coroutine[Any, Any, Any]:
        """Body and listeners, in order; plain functions on a thread, so that they hold up nobody else."""
        steps = context.call.steps  # type: ignore[union-attr] # a call that runs was found
        if len(steps) == 1 and (step := steps[0]).is_async:
            # The most common case needs no coroutine of ours around the handler's.
            work = step.call(context.source.name, context._kwargs, context._called.secinfo)
            if type(work) is CoroutineType:
                return work
            return _awaiting(work)
        return self._run_all(context, steps)

    async def _run_all(self, context: CallContext, steps: tuple[Step, ...]) -> Any:
        call = context.call
        assert call is not None
        sender, kwargs, secinfo = context.source.name, context.kwargs, context.secinfo
        results = []
        for step in steps:
            if step.is_async:
                value = await step.call(sender, kwargs, secinfo)
            else:
                value = await self._in_thread(step, context)
                if inspect.isawaitable(value):
                    value = await value
            if value is not None:
                results.append(value)
        return _only_one(call, results)

    async def _in_thread(self, step: Step, context: CallContext) -> Any:
        if self._executor is None:
            self._executor = ThreadPoolExecutor(THREADS, thread_name_prefix="monsal-rpc")
        here = copy_context()
        work = asyncio.get_running_loop().run_in_executor(
            self._executor, here.run, _call, step, context.sender, context.kwargs, context.secinfo
        )
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError as error:
            # A thread cannot be stopped: its caller is answered now, and the calls after it wait until it has ended.
            self.fail(context, error)
            if context.cancelled:
                await asyncio.wait([work])
            raise

    def run_inline(self, context: CallContext, wait: Callable[[Awaitable[Any]], Any]) -> None:
        """Body and listeners on this thread, as the classic use has it (rpc.R21); `wait` is for those that await."""
        call = context.call
        assert call is not None
        if context.answered:
            return
        token = _current.set(context)
        try:
            results = []
            for step in call.steps:
                value = step.call(context.sender, context.kwargs, context.secinfo)
                if inspect.isawaitable(value):
                    value = wait(value)
                if value is not None:
                    results.append(value)
            value = _only_one(call, results)
        except BaseException as error:  # it is told to the caller; a handler's SystemExit ends the call only
            self.fail(context, error)
            if isinstance(error, KeyboardInterrupt):
                raise
        else:
            self.finish(context, value)
        finally:
            _current.reset(token)

    def run_here(self, call: IncomingCall, sender: str, kwargs: dict[str, Any]) -> Any:
        """Body and listeners at once, for code of our own: the result, or a coroutine of it if one of them is one."""
        if not any(step.is_async for step in call.steps):
            values = [step.call(sender, kwargs, {}) for step in call.steps]
            return _only_one(call, [value for value in values if value is not None])

        async def work() -> Any:
            values = [step.call(sender, kwargs, {}) for step in call.steps]
            values = [await value if inspect.isawaitable(value) else value for value in values]
            return _only_one(call, [value for value in values if value is not None])

        return work()

    def finish(self, context: CallContext, value: Any) -> None:
        """Answer with a result."""
        if context._called.is_cast or context.answered or context.aside:
            self._forget(context)
        if context.answered:
            return
        if context.cancelled:
            self.fail(context, asyncio.CancelledError())
            return
        signature = context.call.signature  # type: ignore[union-attr] # a call that ran was found
        if not signature.has_reply:
            value = None
        elif value is not None and type(value) is not signature.result.plain:
            try:
                value = signature.result.check(value)
            except (msgspec.ValidationError, TypeError) as error:
                self.fail(context, TypeError(f"{signature.name} gave what it does not declare: {error}"))
                return
        context.answered = True
        try:
            said = context.source.answer(context._called.id, value)
        except (EncodeError, OSError) as error:
            log.error("the answer to %s of %s cannot be sent", context.method, context.sender, exc_info=error)
            self._last_resort(context)
            return
        if said is not None:
            # The result could not be carried, and its caller was told so instead (rpc.R19, rpc.B8).
            log.error("the answer to %s of %s cannot be sent: %s", context.method, context.sender, said.data)

    def fail(self, context: CallContext, error: BaseException) -> None:
        """Answer with an error."""
        self._forget(context)
        if isinstance(error, asyncio.CancelledError):
            late = context.code == DEADLINE
            error = HandlerExpired(MESSAGES[DEADLINE]) if late else Cancelled(MESSAGES[Cancelled.code])
        elif context.is_cast:
            log.error("%s of %s failed", context.method, context.sender, exc_info=error)
            return
        else:
            log.debug("%s of %s failed", context.method, context.sender, exc_info=error)
        self.refuse(context, error)

    def refuse(self, context: CallContext, error: BaseException) -> None:
        """Send a fault for an exception, if an answer is wanted and was not given."""
        if context.answered or context.is_cast:
            return
        context.answered = True
        number = ""
        if not isinstance(error, MonsalError):
            number = incident()
            told = {"action": "incident", "incident": number}
            log.error(
                "incident %s: %s of %s failed", number, context.method, context.sender, exc_info=error, extra=told
            )
        api = self._api
        shown = api.debug and api.is_administrator(context)
        code, message, data = api._errors.fault(error, number, traceback_too=shown)
        try:
            context.source.refuse(context.id, code, message, data)
        except (EncodeError, OSError) as trouble:
            log.error("the error of %s for %s cannot be sent", context.method, context.sender, exc_info=trouble)
            self._last_resort(context)

    def _last_resort(self, context: CallContext) -> None:
        """Each call with an id is answered, if only by a fault that says nothing (rpc.B8)."""
        try:
            context.source.refuse(context.id, INTERNAL_ERROR, MESSAGES[INTERNAL_ERROR])
        except (MonsalError, OSError) as trouble:
            log.error("%s cannot be answered: %s", context.sender, trouble)

    def _forget(self, context: CallContext) -> None:
        if context._called.is_cast:
            context.answered = True
            if context.held:
                context.held = False
                context.source.release()
            return
        calls = self._links.get(context.source)
        if calls is not None and calls.aside.get(context.id) is context:
            del calls.aside[context.id]


def _call(step: Step, *given: Any) -> Any:
    """Run a plain function on its thread."""
    try:
        return step.call(*given)
    except (StopIteration, GeneratorExit) as error:
        # Neither can be brought out of a thread: the one is refused by futures, the other closes what awaits it.
        raise RuntimeError(f"the handler raised {type(error).__name__}") from error


async def _awaiting(work: Awaitable[Any]) -> Any:
    return await work


def _only_one(call: IncomingCall, results: list[Any]) -> Any:
    if len(results) > 1 and call.signature.has_reply:
        raise ValueError(f"{call.__name__} gave {len(results)} results; one listener may give one")
    return results[0] if results else None
