"""What was written lately and is wanted in a moment: kept in memory, so that it need not be read back. Bounded."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import NamedTuple

from monsal.store.contract import Accept, Outgoing

__all__ = ["Fresh", "FreshMail", "FreshRow"]


class Fresh:
    """Rows accepted lately with their mail, so that the claim that follows need not read them back; bounded."""

    __slots__ = ("_left", "_rows")

    def __init__(self, limit: int) -> None:
        self._left = limit
        self._rows: dict[int, tuple[Accept, str, bytes]] = {}

    def __contains__(self, row: object) -> bool:
        return row in self._rows

    def put(self, row: int, mail: Accept, address: str, body: bytes) -> None:
        if len(body) <= self._left:
            self._left -= len(body)
            self._rows[row] = (mail, address, body)

    def pop(self, row: int) -> tuple[Accept, str, bytes] | None:
        found = self._rows.pop(row, None)
        if found is not None:
            self._left += len(found[2])
        return found


class FreshRow(NamedTuple):
    """An outgoing row as whoever takes it gets it, and when it is due."""

    row: Outgoing
    due: float


class FreshMail:
    """Outgoing rows of turns applied lately that nobody has taken yet and that are due at once.

    They are in the order in which they are to leave. What does not fit in there, or has no room, has to be looked for
    in the table like any other row (`Data.next_mail` is about those): so a store from which nobody takes mail keeps no
    more than `limit` bytes.
    """

    __slots__ = ("_last_due", "_left", "_rows")

    def __init__(self, limit: int) -> None:
        self._left = limit
        self._last_due = 0.0
        # A plain dict gets slow at its beginning when the oldest is taken from it again and again.
        self._rows: OrderedDict[int, FreshRow] = OrderedDict()

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[FreshRow]:
        return iter(self._rows.values())

    def put(self, row: Outgoing, due: float) -> bool:
        """Keep a row, whose id is greater than those before; False if there is no room, or it should leave before."""
        size = _size(row)
        if size > self._left or (self._rows and due < self._last_due):
            return False
        self._left -= size
        self._last_due = due
        self._rows[row.id] = FreshRow(row, due)
        return True

    def put_first(self, row: Outgoing, due: float) -> bool:
        """Keep a row that was taken out, to leave before all others; False if there is no room."""
        size = _size(row)
        if size > self._left:
            return False
        self._left -= size
        self._rows[row.id] = FreshRow(row, due)
        self._rows.move_to_end(row.id, last=False)
        return True

    def pop(self, row: int) -> FreshRow | None:
        """Take a row out; None if it is none of these."""
        found = self._rows.pop(row, None)
        if found is not None:
            self._left += _size(found.row)
        return found

    def first(self) -> FreshRow | None:
        """The oldest of them."""
        return next(iter(self._rows.values()), None)


def _size(row: Outgoing) -> int:
    # What a row takes beside its body; several rows of one mail share that, which is not looked at.
    return 1000 + (len(row.body) if isinstance(row.body, bytes) else 0)
