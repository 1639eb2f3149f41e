"""What the routes say of an address that mail comes to: whether it is taken, and what its mail is ordered by.

It is asked twice for each mail, at RCPT and when the mail is stored, and most mail is for few addresses: so the answers
of one table are kept, for as long as it is the table.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from monsal.address import fold
from monsal.conversation.bounces import BOUNCE_ADDRESS
from monsal.conversation.confirming import CONFIRM_ADDRESS
from monsal.routing import Match, Table

__all__ = ["BY_CORRESPONDENT", "BY_ITSELF", "Routed", "Routes"]

#: The orders that are no queue's name: after who writes, and after nothing.
BY_CORRESPONDENT: Final = ""
BY_ITSELF: Final = "#"
#: Addresses that are remembered. More of them at a time is an attack or a very large list; they are looked up then.
_KEPT: Final = 1024


class Routed(NamedTuple):
    """`taken`: a route matches. `order`: BY_CORRESPONDENT, BY_ITSELF, or the name of the queue that all its mail has.

    `bounces` and `confirms`: it looks like one of our own addresses, forged or not, which come before all routes.
    """

    taken: bool
    order: str
    bounces: bool
    confirms: bool


class Routes:
    """Remembers `Routed`. Used on one thread."""

    __slots__ = ("_kept", "_table")

    def __init__(self) -> None:
        self._table: Table | None = None
        self._kept: dict[str, Routed] = {}

    def of(self, table: Table, address: str) -> Routed:
        """What `table` says of an address."""
        if table is not self._table or len(self._kept) >= _KEPT:
            self._table = table
            self._kept.clear()
        found = self._kept.get(address)
        if found is None:
            found = self._kept[address] = _look(table, address)
        return found


def _look(table: Table, address: str) -> Routed:
    matches = table.match(address)
    bounces, confirms = BOUNCE_ADDRESS.match(address), CONFIRM_ADDRESS.match(address)
    return Routed(bool(matches), _order(table, matches, address), bounces is not None, confirms is not None)


def _order(table: Table, matches: list[Match], address: str) -> str:
    stateful = [handler for match in matches for handler in match.handlers if not handler.stateless]
    if any(table.modules[handler.module].shared for handler in stateful):
        return "@" + fold(address)
    return BY_CORRESPONDENT if stateful else BY_ITSELF
