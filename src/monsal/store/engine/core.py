"""Who may touch the store when: operations, groups, flushes, recovery.

The connection and everything in `Data` has one owner at a time: the loop, or the writer's thread while `_busy`.

    an operation comes in      the loop applies it at once if it owns the store, else it queues
    end of the loop's turn     operations that must be durable wait: the group is flushed, unless the loop is busy and
                               this turn brought more, or mails are about to come (gathering.py, coming.py). On the
                               loop's own thread if the disk is quick and nothing else is to be done, else by the
                               thread; what comes in meanwhile is the next group (group commit)
    only turns were applied    nobody waits: they are flushed at once when the store was idle, or for a lone one with a
                               reply (early.py) while no other runs; else when `window` old or `group_limit` many
    an operation that reads    at length runs on the thread, so that it does not stop the sockets; a statement of an
                               application on another connection, so that it does not stop the writer (reading.py)
    a flush or the disk fails  everything in memory is thrown away; what is found on the disk decides what those who
                               wait are told (`_break`, then recovery.py)

*Applied, then durable*: an applied operation answers at once; one that must be durable answers after COMMIT (P1).
Statements are applied by the loop: on the thread each gives up the interpreter lock and has to get it back, which takes
twice as long beside a busy loop.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from time import monotonic
from typing import Any, TypeVar

from monsal.errors import StoreError, StoreUnavailable
from monsal.store.engine.bell import Bell
from monsal.store.engine.data import Data, Locked
from monsal.store.engine.database import foreign_error
from monsal.store.engine.early import Early
from monsal.store.engine.gathering import Gathering
from monsal.store.engine.hand import Checkpointer, Hand, checkpoint, flush
from monsal.store.engine.opening import Lost, close_place, open_by
from monsal.store.engine.operation import (
    APPLIED,
    ASIDE,
    ASIDE_DURABLE,
    DURABLE,
    How,
    InDoubt,
    Operation,
    Undo,
    Waiting,
    as_ours,
    deliver,
    fail,
    refuse,
    unattended,
)
from monsal.store.engine.place import EngineSettings, Place
from monsal.store.engine.reading import Reader, nothing, read_here
from monsal.store.engine.recovery import Recovery
from monsal.store.engine.statistics import StoreStatistics

__all__ = ["Core"]

log = logging.getLogger("monsal.store")

T = TypeVar("T")
Given = asyncio.Future[T] | None


class Core:
    """Runs operations on one `Data`. All methods are called on the loop of `open`.

    Without `threaded` everything is done at once, in the caller: a store in memory is then deterministic.
    """

    def __init__(self, place: Place, settings: EngineSettings, *, threaded: bool) -> None:
        self.data: Data | None = None
        self.work, self.mail, self.early = Bell(), Bell(), Early()
        self._place, self._settings, self._threaded = place, settings, threaded
        self._loop: asyncio.AbstractEventLoop
        self._hand: Hand
        self._recovery: Recovery
        self._checkpointer: Checkpointer | None = None
        self._reader: Reader | None = None
        self._is_open, self._why = False, "it is not open"
        self._busy = self._planned = False
        self._queue: deque[Operation] = deque()
        #: Callers for whom the open group has to be flushed; and those who are being told that theirs was.
        self._waiting: Waiting = []
        self._answering: Waiting = []
        self._timer: asyncio.TimerHandle | None = None
        # May be of an earlier group: then it is too soon, and looked at again.
        self._alarm: asyncio.TimerHandle | None = None
        self.group = self._group = Gathering(settings)
        self._operations = self._recoveries = 0

    # -- life -------------------------------------------------------------------------------------------------

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

    def _install(self, data: Data) -> None:
        self.data = data
        if self._threaded:
            self._checkpointer = Checkpointer(self._loop, self._place, self._settings)
            self._reader = Reader(self._loop, self._place)
        self._busy = False

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
        data, waiting = self._shut()
        try:
            await self._hand.ask(lambda: self._leave(data))
        except Exception as error:
            cause = foreign_error(error, self._place.name)
            fail(waiting, InDoubt(str(cause)))
            raise cause from error
        else:
            deliver(waiting)
        finally:
            self._hand.stop()

    async def abandon(self) -> None:
        """End as a process does that is killed: nothing more is flushed. For tests of crashes."""
        data, waiting = self._shut()
        if data is not None:
            data.dirty = False
        await self._hand.ask(lambda: self._leave(data))
        self._hand.stop()
        fail(waiting, StoreUnavailable("the store was abandoned"))

    def _shut(self) -> tuple[Data | None, Waiting]:
        """Take no more operations; what there was to work on, and who waits for that."""
        data, self.data = self.data, None
        waiting, self._waiting = self._waiting, []
        self._is_open, self._why = False, "it was closed"
        if self._reader is not None:
            self._reader.refuse()
        self._stop_timer()
        self._recovery.stop()
        self._group.forget()
        self._refuse_queue(StoreUnavailable(self._why))
        return data, waiting

    def _stop_timer(self) -> None:
        for timer in (self._timer, self._alarm):
            if timer is not None:
                timer.cancel()
        self._timer = self._alarm = None

    def _leave(self, data: Data | None) -> None:
        self._stop_others()
        close_place(self._place, data, self._recovery.leave())

    def _stop_others(self) -> None:
        """Have the other connections leave: the writer's is then the only one."""
        others = self._checkpointer, self._reader
        self._checkpointer = self._reader = None
        for other in [each for each in others if each is not None]:
            other.stop()

    # -- operations -------------------------------------------------------------------------------------------

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
        if not self._busy and not self._queue and not (how.aside and self._threaded):
            try:
                value: T = self._apply(function, arguments)
            except Locked:
                # The thread may wait for the other program; the loop has sockets to see to (P7).
                how = ASIDE_DURABLE if how.durable else ASIDE
            else:
                if not how.durable or self.data is None or not self.data.dirty:
                    return value
                waiter = waiter or self._loop.create_future()
                self._waiting.append((waiter, value))
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

    def afterwards(self, function: Callable[..., Any], *arguments: Any) -> None:
        """Do an operation whose result nobody awaits, before all that queues."""
        if self.data is not None:
            self._queue.appendleft(Operation(APPLIED, function, arguments, unattended(self._loop)))
            self._plan()

    def _apply(self, function: Callable[..., T], arguments: tuple[Any, ...]) -> T:
        """Do an operation on the loop, which owns the store. Raises what it raises, as ours."""
        data = self.data
        assert data is not None
        self._operations += 1
        try:
            value = data.run(function, *arguments)
        except BaseException as error:
            if not data.is_sound:
                self._break(error)
            if isinstance(error, Exception) and not (data.is_sound and as_ours(error) is error):
                # It gets no name here: its cause knows this frame, and both would be kept in a circle.
                raise (as_ours(error) if data.is_sound else StoreUnavailable(self._why)) from error
            raise
        self._after(data)
        if self.data is not data:
            # Without a thread the flush was made at once, and failed.
            raise StoreUnavailable(self._why)
        return value

    def _after(self, data: Data) -> None:
        """An operation was applied: tell who waits for work, and see to the flush."""
        if data.more_work:
            data.more_work = False
            self.work.ring(self._loop)
        if not data.dirty:
            self._tell_mail(data)
            return
        has_room = self._group.add(monotonic())
        if not self._threaded:
            self._flush_here(data)
        elif has_room:
            self._plan()
        else:
            # Also for callers that never let the loop turn: their group must not grow without end.
            self._flush_there(data)

    def _tell_mail(self, data: Data) -> None:
        if data.more_mail:
            data.more_mail = False
            self.mail.ring(self._loop)

    # -- groups -----------------------------------------------------------------------------------------------

    def _plan(self) -> None:
        if not self._planned:
            self._planned = True
            self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        """At the end of a turn of the loop: do what queues, then flush if somebody waits."""
        self._planned = False
        try:
            self._drain()
            if self._busy or (data := self.data) is None:
                return
            if not data.dirty:
                self._answer_waiting()
            elif not self._waiting:
                self._flush_soon(data)
            elif rest := self._group.waits(now := monotonic()):
                self._alarm = self._alarm or self._loop.call_later(rest, self._alarmed)
            elif self._group.goes_on(now):
                self._plan()
            else:
                self._flush(data)
        except BaseException as error:  # an interrupt; all others are handed to whoever waits
            self._break(error)
            raise

    def _alarmed(self) -> None:
        self._alarm = None
        self._turn()

    def _drain(self) -> None:
        room = self._settings.group_limit
        while self._queue and room and not self._busy and self.data is not None:
            operation = self._queue.popleft()
            try:
                if not operation.waiter.done():
                    room -= 1
                    (self._do_aside if operation.how.aside and self._threaded else self._do_here)(operation)
            except BaseException as error:  # an interrupt
                refuse(operation.waiter, error)
                raise
        if self._queue and not self._busy:
            self._plan()

    def _do_here(self, operation: Operation) -> None:
        try:
            value = self._apply(operation.function, operation.arguments)
        except Locked:
            self._do_aside(operation)
        except Exception as error:  # noqa: BLE001 - handed to the caller
            refuse(operation.waiter, error)
        else:
            self._answer(operation, value)

    def _do_aside(self, operation: Operation) -> None:
        """Do an operation on the thread; the loop does not touch the store until it is done."""
        data, self._busy = self.data, True
        assert data is not None

        def done(value: Any, error: Exception | None) -> None:
            self._operations += 1
            if self.data is not data:  # there was an interrupt, and what was open then was undone
                refuse(operation.waiter, StoreUnavailable(self._why))
                return
            self._busy = False
            if error is None:  # told before the group may be flushed: who waits shares its fate
                self._answer(operation, value)
                self._after(data)
            elif data.is_sound:
                refuse(operation.waiter, as_ours(error))
                if isinstance(error, Locked):
                    # They have waited as long, and would each wait as long again.
                    self._refuse_queue(error)
            else:
                self._break(error)
                refuse(operation.waiter, StoreUnavailable(self._why))
            self._plan()

        self._hand.do(lambda: data.run_patiently(operation.function, *operation.arguments), done)

    def _answer(self, operation: Operation, value: Any) -> None:
        if operation.how.durable and self.data is not None and self.data.dirty:
            self._waiting.append((operation.waiter, value))
        elif not operation.waiter.done():
            operation.waiter.set_result(value)
        elif operation.undo is not None:
            self.afterwards(operation.undo, value)

    def _flush(self, data: Data) -> None:
        if self._group.goes_here(len(self._waiting), monotonic(), is_busy=bool(data.schedule.leased)):
            self._flush_here(data)
        else:
            self._flush_there(data)

    def _flush_soon(self, data: Data) -> None:
        """Nobody waits: flush at once if the store was idle, else let others join."""
        if self._group.is_lone and data.has_undurable_mail and data.schedule.is_idle:
            # A reply waits for this flush; where nobody else is about, the window would only make it late.
            self.early.take(data)
            (self._flush if self.early.offer is None else self._flush_there)(data)
            self.early.begin()
        elif (rest := self._group.rest(monotonic())) <= 0.0:
            self._flush(data)
        elif self._timer is None:
            self._timer = self._loop.call_later(rest, self._window_ended)

    def _window_ended(self) -> None:
        self._timer = None
        if not self._busy and self.data is not None and self.data.dirty:
            self._flush_there(self.data)

    # An interrupt (Ctrl-C) between any two instructions of these is met like a disk that fails: memory is thrown away,
    # and who waits is told what is found on the disk.
    def _flush_here(self, data: Data) -> None:
        try:
            data.seal()
            self._flushed(data, flush(data))
        except BaseException as error:  # noqa: BLE001 - handed to whoever waits, and an interrupt raised again
            self._break(error)

    def _flush_there(self, data: Data) -> None:
        def done(seconds: float, error: Exception | None) -> None:
            try:
                if self.data is data:
                    self._busy = False
                    if error is not None:
                        raise error
                    self._flushed(data, seconds)
            except BaseException as error:  # noqa: BLE001 - the same
                self._break(error)
            else:
                # Those who were answered announce their next mail first.
                self._plan()

        try:
            # Here and not on the thread: beside a busy loop each statement there waits for the interpreter's lock.
            data.seal()
            self._busy = True
            self._hand.do(partial(flush, data), done)
        except BaseException as error:  # noqa: BLE001 - the same
            self._break(error)

    def _flushed(self, data: Data, seconds: float) -> None:
        """The group is on the disk: now those may go on who waited for that (P1)."""
        self._group.flushed(seconds, monotonic())
        self.early.end(data)
        self._tell_mail(data)
        if self._checkpointer is not None and self._checkpointer.after_flush(data.wal_pages, is_quiet=data.is_quiet):
            # Before all that queues or comes by an answer: it cannot be done while a transaction is open.
            self._queue.appendleft(Operation(ASIDE, checkpoint, (), unattended(self._loop)))
            self._plan()
        self._answer_waiting()

    def _answer_waiting(self) -> None:
        # The lists change places: whoever is answered may bring more at once, which another flush is for (P1).
        self._answering, self._waiting = self._waiting, self._answering
        deliver(self._answering)

    # -- recovery ---------------------------------------------------------------------------------------------

    def _break(self, error: BaseException) -> None:
        """The disk refused, or there was an interrupt, which is raised again: throw all away and read what is there."""
        if self.data is not None:
            self._give_up(self.data, error)
        if not isinstance(error, Exception):
            raise error

    def _give_up(self, data: Data, error: BaseException) -> None:
        self.data, self._busy = None, False
        self._why = str(foreign_error(error, self._place.name))
        self.early.fail()
        self._stop_timer()
        self._group.forget()
        self._recoveries += 1
        log.error("the store is not available: %s", self._why, extra={"action": "store_down"})
        self._refuse_queue(StoreUnavailable(self._why))
        waiting, self._waiting = self._waiting, []
        lost = Lost(data.group, data.counters, data.db, waiting)
        if self._reader is not None:
            self._reader.refuse()
        self._recovery.begin(lost, self._why, self._stop_others)
        deliver(self._answering)  # an interrupt came while they were told of what is on the disk

    def _down(self, why: str) -> None:
        self._why = why

    def _up(self, data: Data) -> None:
        self._install(data)
        self.work.ring(self._loop)
        self.mail.ring(self._loop)

    def _refuse_queue(self, error: StoreError) -> None:
        queue, self._queue = self._queue, deque()
        for operation in queue:
            refuse(operation.waiter, error)

    def statistics(self) -> StoreStatistics:
        """Figures for people; see `StoreStatistics`."""
        return StoreStatistics.of(self.data, self._group, self._operations, self._recoveries)
