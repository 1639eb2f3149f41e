"""The turn page: which messages are being handled, in memory that survives `kill -9`.

A file mapped into memory, one slot of eight bytes for each turn that can run at a time. A slot holds the id of the
message while its handler runs. The kernel keeps the page when the process dies, so the next start reads which
messages may have killed it (P6, DESIGN 4 *A message that kills*). It is not flushed: after a loss of power nobody is
accused.
"""

from __future__ import annotations

import mmap
import os
import struct
from pathlib import Path

__all__ = ["TurnPage", "rows_in"]

#: A slot, as this machine writes a number of eight bytes.
_SLOT = struct.Struct("=q")


class TurnPage:
    """The page of one process. With `path` None it keeps nothing (a store without files)."""

    __slots__ = ("_cells", "_free", "_map", "_slots")

    def __init__(self, path: Path | None, slots: int = 512) -> None:
        self._slots = slots
        self._free = list(range(slots))
        self._map: mmap.mmap | bytearray = bytearray(slots * _SLOT.size)
        self._cells = memoryview(self._map).cast("q")
        if path is None:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            size = max(os.fstat(descriptor).st_size, slots * _SLOT.size)
            os.ftruncate(descriptor, size - size % _SLOT.size)
            self._map = mmap.mmap(descriptor, size - size % _SLOT.size)
        finally:
            os.close(descriptor)
        self._cells = memoryview(self._map).cast("q")

    def left_behind(self) -> list[int]:
        """The messages that were being handled when the last process ended without a word; then forget them."""
        found = [row for (row,) in _SLOT.iter_unpack(bytes(self._map)) if row > 0]
        self._map[:] = bytes(len(self._map))
        return found

    def enter(self, row: int) -> int:
        """Note that the handler of message `row` starts; returns the slot to leave."""
        try:
            # Several threads do this at a time: asking first whether one is free would be no use.
            slot = self._free.pop()
        except IndexError:
            return -1
        self._cells[slot] = row
        return slot

    def leave(self, slot: int) -> None:
        """Note that the handler ended."""
        if slot < 0:
            return
        self._cells[slot] = 0
        self._free.append(slot)

    def close(self) -> None:
        """Unmap the page; what is still in it is accused at the next start."""
        if isinstance(self._map, mmap.mmap):
            page, cells = self._map, self._cells
            # A handler that is stuck may still leave its slot.
            self._map = bytearray(self._slots * _SLOT.size)
            self._cells = memoryview(self._map).cast("q")
            cells.release()
            page.close()


def rows_in(path: Path) -> list[int]:
    """The messages that were being handled when the process of this page ended; empty if there is no such file."""
    try:
        page = path.read_bytes()
    except FileNotFoundError:
        return []
    return [row for (row,) in _SLOT.iter_unpack(page[: len(page) - len(page) % _SLOT.size]) if row > 0]
