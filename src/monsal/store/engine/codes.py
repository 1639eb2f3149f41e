"""The numbers that stand in the tables for names, in one place. Their order is part of the file's format."""

from __future__ import annotations

from typing import Final

from monsal.store.contract import Source

__all__ = [
    "DEAD",
    "DONE",
    "DROPPED",
    "HELD",
    "OUT_DEFERRED",
    "OUT_FAILED",
    "OUT_NAMES",
    "OUT_SENT",
    "OUT_WAITING",
    "ROW_NAMES",
    "SOURCES",
    "SOURCE_CODES",
    "TIMER",
    "WAITING",
]

SOURCES: Final[tuple[Source, ...]] = ("mail", "timer", "bounce", "call")
SOURCE_CODES: Final[dict[str, int]] = {name: code for code, name in enumerate(SOURCES)}
TIMER: Final = 1

ROW_NAMES: Final = ("waiting", "held", "done", "dead", "dropped")
WAITING: Final = 0
HELD: Final = 1
DONE: Final = 2
DEAD: Final = 3
DROPPED: Final = 4

OUT_NAMES: Final = ("waiting", "deferred", "sent", "failed")
OUT_WAITING: Final = 0
OUT_DEFERRED: Final = 1
OUT_SENT: Final = 2
OUT_FAILED: Final = 3
