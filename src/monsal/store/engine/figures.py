"""Figures about the engine, for people."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["StoreStatistics"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreStatistics:
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
