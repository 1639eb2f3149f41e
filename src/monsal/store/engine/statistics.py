"""What a store says of itself."""

from __future__ import annotations

import msgspec

from monsal.store.engine.data import Data
from monsal.store.engine.gathering import Gathering

__all__ = ["StoreStatistics"]


class StoreStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """Operations and groups since the opening, the largest group, the smoothed time of a flush in seconds, how often
    the store was opened anew after an error; pages in the WAL, queues with rows, leases, states in memory.
    """

    operations: int
    groups: int
    largest_group: int
    flush_seconds: float
    recoveries: int
    wal_pages: int
    queues: int
    leases: int
    cached_states: int

    @classmethod
    def of(cls, data: Data | None, group: Gathering, operations: int, recoveries: int) -> StoreStatistics:
        """The figures of whoever runs the operations, and those of what it runs them on."""
        return cls(
            operations=operations,
            groups=group.groups,
            largest_group=group.largest,
            flush_seconds=group.flush_seconds,
            recoveries=recoveries,
            wal_pages=0 if data is None else data.wal_pages,
            queues=0 if data is None else len(data.schedule.queues),
            leases=0 if data is None else len(data.schedule.leased),
            cached_states=0 if data is None else len(data.states),
        )
