"""Threads that do one thing after another for a loop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, TypeVar

import apsw

from monsal.store.engine.data import Data
from monsal.store.engine.database import PATIENCE
from monsal.store.engine.operation import Operation
from monsal.store.engine.place import EngineSettings, Place

__all__ = ["Checkpointer", "Hand", "flush", "go_on", "is_quiet", "run_patiently"]

log = logging.getLogger("monsal.store")

T = TypeVar("T")
Done = Callable[[Any, Exception | None], None]


class Hand:
    """A thread for a loop: `do` work there, be told the result here. Cheaper than an executor, and in order.

    Without a name there is no thread, and work is done at once.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, name: str | None) -> None:
        #: Jobs that it was given.
        self.given = 0
        self._loop = loop
        self._jobs: SimpleQueue[tuple[Callable[[], Any], Done] | None] = SimpleQueue()
        self._thread = None if name is None else threading.Thread(target=self._work, name=name, daemon=True)
        if self._thread is not None:
            self._thread.start()

    def do(self, work: Callable[[], Any], done: Done) -> None:
        """Have `work()` done on the thread, then `done(value, error)` called on the loop."""
        self.given += 1
        if self._thread is not None:
            self._jobs.put((work, done))
        else:
            done(*_outcome(work))

    async def ask(self, work: Callable[[], T], *, done: Callable[[], None] = lambda: None) -> T:
        """Have `work()` done on the thread and wait for its value. Raises what it raises.

        `done()` is called on the loop when it is done, also if nobody waits any more.
        """
        waiter: asyncio.Future[T] = self._loop.create_future()

        def tell(value: Any, error: Exception | None) -> None:
            done()
            if waiter.done():
                return
            if error is not None:
                waiter.set_exception(error)
            else:
                waiter.set_result(value)

        self.do(work, tell)
        return await waiter

    def stop(self) -> None:
        """Let the thread end after what it was given; waits for it."""
        if self._thread is not None:
            self._jobs.put(None)
            self._thread.join()

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            work, done = job
            value, error = _outcome(work)
            # A loop that was closed without closing the store hears nothing any more.
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(done, value, error)


def _outcome(work: Callable[[], Any]) -> tuple[Any, Exception | None]:
    try:
        return work(), None
    except Exception as error:  # noqa: BLE001 - handed to whoever waits
        return None, error


def flush(data: Data) -> float:
    """Put the group that was sealed on the disk; the seconds that it took. Raises what the disk says."""
    before = time.perf_counter()
    data.writer.commit()
    return time.perf_counter() - before


def run_patiently(data: Data, operation: Operation) -> Any:
    """Do an operation on a thread that may wait: for another program that holds the database locked (state.B16).

    Raises what it raises.
    """
    db = data.writer.db
    db.set_busy_timeout(PATIENCE)
    try:
        return data.run(operation.function, *operation.arguments)
    finally:
        db.set_busy_timeout(0)


def is_quiet(data: Data) -> bool:
    """Whether nothing is handled, sent or about to be: what is done to the disk now makes nobody wait."""
    return data.schedule.is_idle and not data.sending and not data.fresh_mail


def go_on(data: Data, moves_wal: bool) -> None:
    """After a flush, where the loop would have to wait: begin the group that was applied meanwhile, if there is one.

    Before that, if `moves_wal`, what is left of the WAL is moved over the writer's own connection, for which no
    transaction may be open: then the next group begins the WAL anew.
    """
    try:
        if moves_wal:
            data.writer.db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
        if data.dirty:
            data.writer.begin()
    except BaseException:
        # Operations were applied into a group that has no transaction.
        data.is_sound = False
        raise


class Checkpointer:
    """Moves the WAL into the database over a connection of its own, while the writer goes on writing.

    The writer never waits for it: a passive checkpoint takes no lock that a writer needs. It needs an SQLite without
    the WAL-reset fault (rule state.B16), which pyproject.toml asks for.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, place: Place, settings: EngineSettings) -> None:
        self._place = place
        self._settings = settings
        self._db: apsw.Connection | None = None
        self._hand = Hand(loop, "monsal-checkpoint")
        self._is_asked = False
        self._moved = 0
        self._limit = settings.checkpoint_limit

    def after_flush(self, pages: int, *, is_quiet: bool) -> bool:
        """The WAL has `pages` now: have them moved if there are many new ones. Called on the loop.

        The WAL is begun anew only when all of it was moved, which never happens while the writer goes on. True says
        that it has become so long that the writer should stop for the rest of it, which is short. Both come a little
        later where nobody waits for anything then (`is_quiet`): the disk is slower for whoever flushes beside it.
        """
        grace = 0 if is_quiet else self._settings.checkpoint_pages // 4
        if pages < self._moved:
            self._moved, self._limit = 0, self._settings.checkpoint_limit
        if self._is_asked:
            return False
        if pages >= self._limit + grace:
            self._limit = pages + self._settings.checkpoint_pages
            return True
        if pages - self._moved >= self._settings.checkpoint_pages + grace:
            self._is_asked = True
            self._moved = pages
            self._hand.do(self._checkpoint, self._done)
        return False

    def stop(self) -> None:
        """End, and leave the database."""
        self._hand.stop()
        if self._db is not None:
            with contextlib.suppress(apsw.Error):
                self._db.close(True)
            self._db = None

    def _checkpoint(self) -> None:
        if self._db is None:
            self._db = self._place.connect_beside()
        if self._db is not None:
            self._db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)

    def _done(self, _value: Any, error: Exception | None) -> None:
        self._is_asked = False
        if error is not None:
            log.warning("a checkpoint failed: %s", error, extra={"action": "store_checkpoint"})
