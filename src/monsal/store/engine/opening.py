"""To open a place, to leave it, and to open it again after an error. Blocks: done on the writer's thread."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass, field
from typing import Any

import apsw

from monsal.store.engine.data import Counters, Data, flushed_group
from monsal.store.engine.database import foreign_error
from monsal.store.engine.place import EngineSettings, Place

__all__ = ["Lost", "close_place", "open_place", "reopen"]

log = logging.getLogger("monsal.store")


def open_place(place: Place, settings: EngineSettings) -> tuple[Data, float]:
    """Take a place and load what is there; also the seconds that its first flush took. Raises StoreError."""
    place.take()
    try:
        db = place.connect()
        try:
            before = time.perf_counter()
            data = Data.load(db, place, settings)
            seconds = time.perf_counter() - before
            _sweep(place, data)
        except BaseException:
            place.disconnect(db)
            raise
    except BaseException as error:
        place.give_back()
        if isinstance(error, apsw.Error | OSError):
            raise foreign_error(error, place.name) from error
        raise
    return data, seconds


def _sweep(place: Place, data: Data) -> None:
    """Remove the large bodies of mails that a crash kept from being accepted."""
    if place.bodies is None:
        return
    known = {token for (token,) in data.select("SELECT file FROM monsal_bodies WHERE file IS NOT NULL")}
    if removed := place.bodies.sweep(known.__contains__):
        log.info("removed %d bodies that a crash had left behind", removed, extra={"action": "store_swept_bodies"})


def close_place(place: Place, data: Data | None) -> None:
    """Flush what is applied and leave. Raises what the disk says; the place is left all the same."""
    try:
        if data is not None and data.dirty:
            data.commit()
    finally:
        if data is not None:
            # The last connection that leaves moves the WAL into the database and removes it.
            place.disconnect(data.db)
        place.give_back()


@dataclass(slots=True)
class Lost:
    """A group whose flush, or one of whose operations, failed: its number, the numbers it gave out, those who waited
    for it to become durable, and whether it was found on the disk."""

    group: int
    counters: Counters
    waiting: list[tuple[asyncio.Future[Any], Any]] = field(default_factory=list)
    found: bool = False


def reopen(place: Place, settings: EngineSettings, lost: Lost) -> Data:
    """Read what is there, then commit a new epoch. Raises StoreError or an error of SQLite."""
    db = place.connect()
    try:
        # Whether the COMMIT that failed did succeed after all is written there, and nowhere else.
        lost.found = flushed_group(db) >= lost.group
        data = Data.load(db, place, settings)
    except BaseException:
        place.disconnect(db)
        raise
    data.counters.not_below(lost.counters)
    return data
