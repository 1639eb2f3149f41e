"""Tasks that carry turns: one turn at a time, each begun outside of its task and taken over by it if it waits."""

from __future__ import annotations

import asyncio
import sys
from asyncio import tasks
from collections.abc import Awaitable, Callable
from contextvars import copy_context
from types import CoroutineType
from typing import Any, Final, Protocol

from monsal.actors.turn import Turn, current_turn
from monsal.loops import go_on

__all__ = ["Carrier", "Runner"]

#: In Python 3.11 the function asks the system for the process id each time, to look up the loop that is known here.
_current_task: Final[Callable[[asyncio.AbstractEventLoop], Any]] = (
    tasks._current_tasks.get  # type: ignore[attr-defined] # it is there in 3.11
    if sys.version_info < (3, 12)
    else asyncio.current_task
)


class Runner(Protocol):
    """What runs turns: `turns.Turns`."""

    is_over: bool

    def start(self, turn: Turn) -> Any: ...
    def expose(self, turn: Turn) -> None: ...
    def finish(self, turn: Turn, value: Any) -> None: ...
    def fail(self, turn: Turn, error: BaseException) -> None: ...
    def end(self, carrier: Carrier, turn: Turn) -> None: ...


class Carrier:
    """One such task; it lives as long as its runner."""

    __slots__ = ("_context", "_loop", "_todo", "_turns", "_wake", "task", "turn")

    def __init__(self, turns: Runner, loop: asyncio.AbstractEventLoop) -> None:
        self._turns = turns
        self._loop = loop
        self._todo: Awaitable[Any] | None = None
        self._wake: asyncio.Future[None] | None = None
        self.turn: Turn | None = None
        self._context = copy_context()
        self.task = loop.create_task(self._work(), name="turns", context=self._context)

    def begin(self, turn: Turn) -> None:
        """Run the first steps of a turn as if in this task, so that its task is the same later on."""
        self.turn = turn
        turn.stop = self._cancel_now
        if _current_task(self._loop) is not None:
            self._hand(turn, _first(self._turns, turn))
            return
        tasks._enter_task(self._loop, self.task)
        try:
            waits = self._context.run(self._first_step, turn)
        finally:
            tasks._leave_task(self._loop, self.task)
        if waits is not None:
            self._hand(turn, waits)
        else:
            self.turn = turn.stop = None
            self._turns.end(self, turn)

    def cancel(self, code: int) -> None:
        if self.turn is not None:
            self.turn.cancelled = code
            self._cancel_now()

    def _cancel_now(self) -> None:
        # By then the task waits for what the command waits for, so that this is cancelled, too.
        self._loop.call_soon(self._cancel, self.turn)

    def _cancel(self, turn: Turn | None) -> None:
        if turn is not None and self.turn is turn:
            self.task.cancel()

    def _first_step(self, turn: Turn) -> Awaitable[Any] | None:
        """Answer the turn, or give what remains to be awaited."""
        turns = self._turns
        current_turn.set(turn)
        try:
            value = turns.start(turn)
            if type(value) is CoroutineType:
                try:
                    pending = value.send(None)
                except StopIteration as end:
                    value = end.value
                else:
                    return go_on(value, pending)
            elif hasattr(value, "__await__"):
                return value  # type: ignore[no-any-return] # it can be awaited
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - it is told to the asker
            turns.fail(turn, error)
            return None
        turns.finish(turn, value)
        return None

    def _hand(self, turn: Turn, todo: Awaitable[Any]) -> None:
        self._todo = todo
        if not turn.is_open:
            self._turns.expose(turn)
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    async def _work(self) -> None:
        turns = self._turns
        # Not until it is cancelled: that could come together with the end of a turn that was given up.
        while not turns.is_over:
            if self._todo is None:
                self._wake = self._loop.create_future()
                await self._wake
                continue
            turn, todo = self.turn, self._todo
            self._todo = None
            assert turn is not None
            current_turn.set(turn)
            try:
                value = await todo
            except asyncio.CancelledError as error:
                turns.fail(turn, error)
                if not turn.cancelled:
                    raise
            except Exception as error:  # noqa: BLE001 - it is told to the asker
                turns.fail(turn, error)
            else:
                turns.finish(turn, value)
            while self.task.cancelling():
                self.task.uncancel()
            self.turn = turn.stop = None
            turns.end(self, turn)


async def _first(turns: Runner, turn: Turn) -> Any:
    value = turns.start(turn)
    return await value if hasattr(value, "__await__") else value
