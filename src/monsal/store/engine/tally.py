"""What is counted and numbered, and written with each group: the ledger, and the last ids that were given. Pure."""

from __future__ import annotations

from monsal.store.engine.codes import DEAD, DONE, DROPPED, HELD, WAITING

__all__ = ["Counters", "Tally"]


class Counters:
    """The last numbers given. They grow for ever: an id or a version that was seen once never means another thing."""

    __slots__ = ("body", "counter", "mail", "row", "turn", "version")

    def __init__(self, version: int, body: int, row: int, turn: int, mail: int) -> None:
        self.version = version
        self.body = body
        self.row = row
        self.turn = turn
        self.mail = mail
        self.counter = 0

    def not_below(self, other: Counters) -> None:
        """Go on from `other` where it is ahead: numbers of a group that was undone are not given again."""
        for name in ("version", "body", "row", "turn", "mail", "counter"):
            setattr(self, name, max(getattr(self, name), getattr(other, name)))


#: Places in the counters of a source.
_DUPLICATES = 6
_PLACE = {DONE: 1, WAITING: 2, HELD: 3, DEAD: 4, DROPPED: 5}


class Tally:
    """The ledger (P4): `totals[source]` are accepted, done, waiting, held, dead, dropped, duplicates."""

    __slots__ = ("totals",)

    def __init__(self, totals: list[list[int]]) -> None:
        self.totals = totals

    def accepted(self, source: int) -> None:
        """A new row, waiting."""
        row = self.totals[source]
        row[0] += 1
        row[2] += 1

    def duplicate(self, source: int) -> None:
        self.totals[source][_DUPLICATES] += 1

    def moved(self, source: int, before: int, after: int) -> None:
        """A row went from one status to another."""
        row = self.totals[source]
        row[_PLACE[before]] -= 1
        row[_PLACE[after]] += 1
