"""What becomes of operations: applied, in a group, flushed. `core.py` says who owns what, and when."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from functools import partial
from time import monotonic
from typing import Any, TypeVar

from monsal.errors import StoreError, StoreUnavailable
from monsal.store.engine.bell import Bell
from monsal.store.engine.data import Data
from monsal.store.engine.database import foreign_error
from monsal.store.engine.early import Early
from monsal.store.engine.gathering import Gathering
from monsal.store.engine.hand import Checkpointer, Hand, flush, go_on, is_quiet, run_patiently
from monsal.store.engine.opening import Lost
from monsal.store.engine.operation import (
    APPLIED,
    ASIDE,
    How,
    Operation,
    as_ours,
    refuse,
    unattended,
)
from monsal.store.engine.place import EngineSettings, Place
from monsal.store.engine.promises import Promises
from monsal.store.engine.reading import Reader
from monsal.store.engine.recovery import Recovery
from monsal.store.engine.writer import Locked
from monsal.store.waiter import Waiter

__all__ = ["Groups"]

log = logging.getLogger("monsal.store")

T = TypeVar("T")


class Groups:
    """The inside of `core.Core`: the open group, the queue, flushes, and what is done after an error."""

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
        self._promises = Promises()
        self._timer: asyncio.TimerHandle | None = None
        # May be of an earlier group: then it is too soon, and looked at again.
        self._alarm: asyncio.TimerHandle | None = None
        self.group = self._group = Gathering(settings)
        self._operations = self._recoveries = 0

    def _install(self, data: Data) -> None:
        self.data = data
        if self._threaded:
            self._checkpointer = Checkpointer(self._loop, self._place, self._settings)
            self._reader = Reader(self._loop, self._place)
        self._busy = False

    def _stop_timer(self) -> None:
        for timer in (self._timer, self._alarm):
            if timer is not None:
                timer.cancel()
        self._timer = self._alarm = None

    def _stop_others(self) -> None:
        """Have the other connections leave: the writer's is then the only one."""
        others = self._checkpointer, self._reader
        self._checkpointer = self._reader = None
        for other in [each for each in others if each is not None]:
            other.stop()

    # -- operations ----------------------------------------------------------------------------------------------------

    def afterwards(self, function: Callable[..., Any], *arguments: Any) -> None:
        """Do an operation whose result nobody awaits, before all that queues."""
        if self.data is not None:
            self._queue.appendleft(Operation(APPLIED, function, arguments, unattended(self._loop)))
            self._plan()

    def _apply(self, function: Callable[..., T], arguments: tuple[Any, ...]) -> T:
        """Do an operation on the loop, which owns the store. Raises what it raises, as ours."""
        data = self.data
        assert data is not None
        try:
            self._operations += 1
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

    def _may_apply(self, how: How) -> bool:
        """Whether the loop may do an operation now."""
        if not self._busy:
            return not (how.aside and self._threaded)
        # Turns of one queue come one after the other, and each would wait for a flush. Where many queues have work, all
        # that waits for the same flush is done together after it, which takes a twentieth less of the processor.
        # What is applied during a flush cannot be written before its end, so it is bounded.
        data = self.data
        return (
            how.light
            and data is not None
            and data.writer.flushing > 0
            and data.schedule.width <= self._settings.narrow
            and not data.pending.is_full
            and self._group.has_room
        )

    @property
    def _is_durable(self) -> bool:
        """Whether all that was applied is on the disk."""
        data = self.data
        return data is None or not (data.dirty or data.writer.flushing)

    def _promise(self, waiter: Waiter, value: Any) -> None:
        """Tell a caller when all that was applied until now is on the disk (P1)."""
        assert self.data is not None
        (self._promises.wait if self.data.dirty else self._promises.wait_for_sealed)(waiter, value)

    def _after(self, data: Data) -> None:
        """An operation was applied: tell who waits for work, and see to the flush."""
        self._tell_work(data)
        if not data.dirty:
            self._tell_mail(data)
            return
        has_room = self._group.add(monotonic())
        if not self._threaded:
            self._flush_here(data)
        elif data.writer.flushing:
            pass  # the end of that flush sees to it
        elif has_room:
            self._plan()
        else:
            # Also for callers that never let the loop turn: their group must not grow without end.
            self._flush_there(data)

    def _tell_work(self, data: Data) -> None:
        if data.more_work:
            data.more_work = False
            self.work.ring(self._loop)

    def _tell_mail(self, data: Data) -> None:
        if data.more_mail:
            data.more_mail = False
            self.mail.ring(self._loop)

    # -- the queue -----------------------------------------------------------------------------------------------------

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
                self._promises.seal(data.group)
                self._promises.keep()
            elif not self._promises:
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

        self._hand.do(partial(run_patiently, data, operation), done)

    def _answer(self, operation: Operation, value: Any) -> None:
        if operation.how.durable and not self._is_durable:
            self._promise(operation.waiter, value)
        elif not operation.waiter.done():
            operation.waiter.set_result(value)
        elif operation.undo is not None:
            self.afterwards(operation.undo, value)

    def _refuse_queue(self, error: StoreError) -> None:
        queue, self._queue = self._queue, deque()
        for operation in queue:
            refuse(operation.waiter, error)

    # -- flushes -------------------------------------------------------------------------------------------------------

    def _flush(self, data: Data) -> None:
        if self._group.goes_here(len(self._promises), monotonic(), is_busy=bool(data.schedule.leased)):
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

    def _seal(self, data: Data) -> None:
        """End the group: from now on what is applied is the next one."""
        # Here and not on the thread: beside a busy loop each statement there waits for the interpreter's lock.
        data.seal()
        self._promises.seal(data.group)
        self._group.seal()
        data.hand_over()

    def _flush_here(self, data: Data) -> None:
        try:
            self._seal(data)
            self._flushed(data, flush(data))
        except BaseException as error:  # noqa: BLE001 - handed to whoever waits, and an interrupt raised again
            self._break(error)

    def _flush_there(self, data: Data) -> None:
        def done(seconds: float, error: Exception | None) -> None:
            try:
                if self.data is data:
                    if error is not None:
                        raise error
                    self._flushed(data, seconds)
                # Those who were answered announce their next mail first.
                self._plan()
            except BaseException as error:  # noqa: BLE001 - the same
                self._break(error)

        try:
            self._seal(data)
            self._busy = True
            self._hand.do(partial(flush, data), done)
        except BaseException as error:  # noqa: BLE001 - the same
            self._break(error)

    def _flushed(self, data: Data, seconds: float) -> None:
        """The group is on the disk: now those may go on who waited for that (P1)."""
        self._group.flushed(seconds, monotonic())
        data.take_back()
        self._busy = False
        # Before all that queues or comes by an answer: that finds the connection as it should be.
        self._go_on(data)
        self.early.end(data)
        self._tell_work(data)
        self._tell_mail(data)
        self._promises.keep()
        self._group.go_on(monotonic())

    def _go_on(self, data: Data) -> None:
        """Begin the transaction of what was applied meanwhile; on the thread, if there is something to wait for."""
        checkpointer = self._checkpointer
        moves = checkpointer is not None and checkpointer.after_flush(data.wal_pages, is_quiet=is_quiet(data))
        if not moves:
            try:
                if data.dirty:
                    data.writer.begin()
            except Locked:
                pass
            else:
                return
        self._do_aside(Operation(ASIDE, go_on, (moves,), unattended(self._loop)))

    # -- after an error ------------------------------------------------------------------------------------------------

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
        promised = self._promises.leave(data.group)
        lost = Lost(data.writer.flushing or data.group, data.counters, data.writer.connection, promised)
        if self._reader is not None:
            self._reader.refuse()
        self._recovery.begin(lost, self._why, self._stop_others)
        self._promises.answer()  # an interrupt came while they were told of what is on the disk

    def _down(self, why: str) -> None:
        self._why = why

    def _up(self, data: Data) -> None:
        self._install(data)
        self.work.ring(self._loop)
        self.mail.ring(self._loop)
