"""Who may touch the store when: operations, groups, flushes, recovery.

Everything of the store has one owner at a time:

    nothing is under way       the loop owns all of it
    a flush is under way       the thread owns the connection, to run COMMIT; the loop owns what is in memory.
                               `_busy`, and `Writer.flushing` says which group it is
    an operation runs on the   the thread owns all of it. `_busy`, and nothing is being flushed
    thread

So while a group is flushed the next one may begin: where few queues have work (`EngineSettings.narrow`), *light*
operations are applied, in memory, their rows pend. One that
needs the connection raises Occupied before it has changed anything, and queues; so does all that comes after it, and
everything that is not light, so no operation overtakes another. When the flush is over the loop begins the transaction
of what was applied meanwhile before it does anything else (`_go_on`).

    an operation comes in      the loop applies it at once if it may (`_may_apply`), else it queues
    end of the loop's turn     operations that must be durable wait: the group is flushed, unless the loop is busy and
                               this turn brought more, or mails are about to come (gathering.py, coming.py). On the
                               loop's own thread if the disk is quick and nothing else is to be done, else by the
                               thread; what comes in meanwhile is the next group (group commit)
    only turns were applied    nobody waits: they are flushed at once when the store was idle, or for a lone one with a
                               reply (early.py) while no other runs; else when `window` old or `group_limit` many
    an operation that reads    at length runs on the thread, so that it does not stop the sockets; a statement of an
                               application on another connection, so that it does not stop the writer (reading.py)
    a flush or the disk fails  everything in memory is thrown away, with what was applied meanwhile; who waits for the
                               group is told what is found on the disk, who waits for a later one that it is not there
                               (`_break`, then recovery.py)

*Applied, then durable*: an applied operation answers at once; one that must be durable answers after COMMIT (P1).
Statements are applied by the loop: on the thread each gives up the interpreter lock and has to get it back, which takes
twice as long beside a busy loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from monsal.errors import StoreUnavailable
from monsal.store.engine.data import Data
from monsal.store.engine.database import foreign_error
from monsal.store.engine.groups import Groups
from monsal.store.engine.hand import Hand
from monsal.store.engine.opening import close_place, open_by
from monsal.store.engine.operation import (
    ASIDE,
    ASIDE_DURABLE,
    DURABLE,
    How,
    InDoubt,
    Operation,
    Undo,
    Waiting,
    deliver,
    fail,
)
from monsal.store.engine.reading import nothing, read_here
from monsal.store.engine.recovery import Recovery
from monsal.store.engine.statistics import StoreStatistics
from monsal.store.engine.writer import Locked, Occupied

__all__ = ["Core"]

T = TypeVar("T")
Given = asyncio.Future[T] | None


class Core(Groups):
    """Runs operations on one `Data`. All methods are called on the loop of `open`.

    Without `threaded` everything is done at once, in the caller: a store in memory is then deterministic.
    """

    async def open(self) -> None:
        """Take the place, load what is there. Raises StoreError."""
        if self._is_open:
            raise StoreUnavailable(f"{self._place.name} is open already")
        self._is_open = True
        self._loop = asyncio.get_running_loop()
        # Of an earlier opening, perhaps on a loop that is gone.
        self._planned = False
        self.work.forget()
        self.mail.forget()
        self._hand = Hand(self._loop, "monsal-store" if self._threaded else None)
        self._recovery = Recovery(self._hand, self._place, self._settings, up=self._up, down=self._down)
        try:
            data, flush_seconds = await open_by(self._hand, self._place, self._settings)
        except BaseException:
            self._is_open = False
            raise
        self._group.start(flush_seconds)
        self._operations = self._recoveries = 0
        self._install(data)

    async def close(self) -> None:
        """Flush what is applied, refuse what waits for its turn, give the place back. Harmless if it is closed."""
        if not self._is_open:
            return
        while self._busy or self._recovery.is_busy:
            given = self._hand.given
            await self._hand.ask(lambda: None)
            if self._busy and self._hand.given == given + 1:
                # What was done before was told to somebody whom an interrupt kept from hearing it.
                self._break(StoreUnavailable("interrupted"))
        data, promised = self._shut()
        try:
            await self._hand.ask(lambda: self._leave(data))
        except Exception as error:
            cause = foreign_error(error, self._place.name)
            for _, waiting in promised:
                fail(waiting, InDoubt(str(cause)))
            raise cause from error
        else:
            for _, waiting in promised:
                deliver(waiting)
        finally:
            self._hand.stop()

    async def abandon(self) -> None:
        """End as a process does that is killed: nothing more is flushed. For tests of crashes."""
        data, promised = self._shut()
        if data is not None:
            data.dirty = False
        await self._hand.ask(lambda: self._leave(data))
        self._hand.stop()
        for _, waiting in promised:
            fail(waiting, StoreUnavailable("the store was abandoned"))

    def _shut(self) -> tuple[Data | None, list[tuple[int, Waiting]]]:
        """Take no more operations; what there was to work on, and who waits for that."""
        data, self.data = self.data, None
        promised = self._promises.leave(0)
        self._is_open, self._why = False, "it was closed"
        if self._reader is not None:
            self._reader.refuse()
        self._stop_timer()
        self._recovery.stop()
        self._group.forget()
        self._refuse_queue(StoreUnavailable(self._why))
        return data, promised

    def _leave(self, data: Data | None) -> None:
        self._stop_others()
        close_place(self._place, data, self._recovery.leave())

    # -- operations ----------------------------------------------------------------------------------------------------

    async def run(self, how: How, function: Callable[..., T], *arguments: Any, undo: Undo | None = None) -> T:
        """Do `function(data, *arguments)`. `undo(data, value)` is done if the caller went away before its answer.

        Raises StoreUnavailable, and what the operation itself raises.
        """
        found = self.begin(how, function, *arguments, undo=undo)
        if not isinstance(found, asyncio.Future):
            return found
        try:
            return await found
        except asyncio.CancelledError:
            if undo is not None and found.done() and not found.cancelled() and found.exception() is None:
                self.afterwards(undo, found.result())
            raise

    def begin(
        self, how: How, function: Callable[..., T], *arguments: Any, undo: Undo | None = None, waiter: Given[T] = None
    ) -> T | asyncio.Future[T]:
        """The same without a coroutine: the value if it is there at once, else a future of it, or the `waiter` given.

        Whoever cancels the future has gone away; if it was done by then, `undo` is left to him (`afterwards`).
        """
        if self.data is None:
            raise StoreUnavailable(self._why)
        if not self._queue and self._may_apply(how):
            try:
                value: T = self._apply(function, arguments)
            except Occupied:
                self._operations -= 1  # it queues
            except Locked:
                # The thread may wait for the other program; the loop has sockets to see to (P7).
                how = ASIDE_DURABLE if how.durable else ASIDE
            else:
                if not how.durable or self._is_durable:
                    return value
                waiter = waiter or self._loop.create_future()
                self._promise(waiter, value)
                return waiter
        waiter = waiter or self._loop.create_future()
        self._queue.append(Operation(how, function, arguments, waiter, undo))
        if not self._busy:
            self._plan()
        return waiter

    async def read(self, sql: str, params: Sequence[Any]) -> list[tuple[Any, ...]]:
        """Run a reading statement of an application, as of the last applied turn."""
        if (reader := self._reader) is None:
            return await self.run(ASIDE, read_here, sql, params)
        await self.run(DURABLE, nothing)
        return await reader.read(sql, params)

    def statistics(self) -> StoreStatistics:
        """Figures for people; see `StoreStatistics`."""
        return StoreStatistics.of(self.data, self._group, self._operations, self._recoveries)
