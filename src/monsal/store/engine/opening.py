"""To open a place, to leave it, and to come back after an error. All but `open_by` blocks: for the writer's thread."""

from __future__ import annotations

import logging
import time
from functools import partial
from typing import Final

import apsw
import msgspec

from monsal.store.engine.data import Data, flushed_group
from monsal.store.engine.database import PATIENCE, foreign_error, has_wal_reset_fault
from monsal.store.engine.hand import Hand
from monsal.store.engine.operation import Waiting
from monsal.store.engine.place import EngineSettings, Place
from monsal.store.engine.tally import Counters

__all__ = ["Lost", "close_place", "open_by", "open_place", "recover", "sweep"]

log = logging.getLogger("monsal.store")


def open_place(place: Place, settings: EngineSettings) -> tuple[Data, float]:
    """Take a place and load what is there; also the seconds that its first flush took. Raises StoreError."""
    place.take()
    if has_wal_reset_fault(apsw.sqlite_lib_version()):
        log.warning(
            "SQLite %s can lose pages of its WAL; install an apsw with 3.51.3 or later",
            apsw.sqlite_lib_version(),
            extra={"action": "store_sqlite_fault"},
        )
    try:
        db = place.connect()
        try:
            before = time.perf_counter()
            data = Data.load(db, place, settings)
            seconds = time.perf_counter() - before
            data.young_bodies = sweep(data)
        except BaseException:
            place.disconnect(db)
            raise
    except BaseException as error:
        place.give_back()
        if isinstance(error, apsw.Error | OSError):
            raise foreign_error(error, place.name) from error
        raise
    return data, seconds


async def open_by(hand: Hand, place: Place, settings: EngineSettings) -> tuple[Data, float]:
    """`open_place` on a thread. Raises what it does; then the thread has ended, and the place is left."""
    opened: list[tuple[Data, float]] = []
    try:
        await hand.ask(lambda: opened.append(open_place(place, settings)))
    except BaseException:
        with place.guard.stopped():  # who gave up does not wait for a statement of the application's
            hand.stop()
        # If it was the caller who gave up, the thread may have got there.
        for data, _ in opened:
            close_place(place, data)
        raise
    return opened[0]


def sweep(data: Data) -> int:
    """Remove the large bodies of mails that a crash kept from being accepted; how many are too young to tell.

    An operation, so that no mail is stored between the look at what is known and the removal.
    """
    if data.bodies is None:
        return 0
    known = {token for (token,) in data.select("SELECT file FROM monsal_bodies WHERE file IS NOT NULL")}
    age = data.settings.sweep_after
    removed, young = data.bodies.sweep(known.__contains__, time.time() - age if age else float("inf"))
    if removed:
        log.info("removed %d bodies that a crash had left behind", removed, extra={"action": "store_swept_bodies"})
    return young


def _points_to(data: Data, token: str) -> bool:
    return bool(data.select("SELECT 1 FROM monsal_bodies WHERE file = ?", (token,)))


def close_place(place: Place, data: Data | None, db: apsw.Connection | None = None) -> None:
    """Flush what is applied and leave. Raises what the disk says; the place is left all the same.

    `db` is a connection that is left over from a recovery that did not succeed.
    """
    db = data.writer.connection if data is not None else db
    try:
        if data is not None and data.dirty and data.is_sound:
            data.seal()
            data.writer.commit()
    finally:
        if db is not None:
            # The last connection that leaves moves the WAL into the database and removes it.
            place.disconnect(db)
        place.give_back()


#: Tries over the connection that failed, before it is left for a new one.
_TRIES_IN_PLACE: Final = 10


class Lost(msgspec.Struct):
    """A group whose flush, or one of whose operations, failed: its number, the numbers that were given out; the
    connection on which that happened; those who waited for groups to become durable, with the number of each; the last
    group that was found on the disk.

    A group with a higher number was never given to the disk.
    """

    group: int
    counters: Counters
    db: apsw.Connection | None
    promised: list[tuple[int, Waiting]] = msgspec.field(default_factory=list)
    found: int = 0
    tries: int = 0


def recover(place: Place, settings: EngineSettings, lost: Lost) -> Data:
    """Read what is there, then commit a new epoch. Raises what stands against that, for another try later.

    The connection that failed is used as long as it may help: it knows where the last good group ends, so its new
    epoch overwrites what the failed group left in the WAL. A new connection would find those frames, and might make
    rows of mail that was refused. When it cannot help, the file is opened anew; a mail that was refused may then be
    there all the same, as after any 4xx, and its sender's next try is a duplicate.
    """
    lost.tries += 1
    db = lost.db
    try:
        if db is None:
            db = lost.db = place.connect()
        db.set_busy_timeout(PATIENCE)
        if db.in_transaction:
            db.execute("ROLLBACK")
        found = flushed_group(db)
        if found >= lost.group:
            # What a failed fsync left in the system's cache can be read, is not on the disk, and will not be written
            # by the next fsync. So all of it is written again, into the database, and the WAL emptied.
            db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
        data = Data.load(db, place, settings)
    except Exception as error:
        if lost.db is not None and (lost.tries % _TRIES_IN_PLACE == 0 or not isinstance(error, _PASSING)):
            place.disconnect(lost.db)
            lost.db = None
        raise
    data.counters.not_below(lost.counters)
    if place.bodies is not None:
        place.bodies.settle(partial(_points_to, data))
    lost.found = found
    return data


#: Errors after which the same connection may work again: the disk was full, or refused to write.
_PASSING = (apsw.FullError, apsw.IOError, apsw.BusyError)
