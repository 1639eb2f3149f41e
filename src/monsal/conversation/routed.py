"""What the routes say of an address that mail comes to: whether it is taken, and what its mail is ordered by.

It is asked twice for each mail, at RCPT and when the mail is stored, and most mail is for addresses that had some
before: so the answers of one table are kept, for as long as it is the table. (A look-up costs 5 us in a loop of nothing
else, and 20 us among all that is done for a mail: then neither its code nor its data are in a cache of the processor.)
"""

from __future__ import annotations

from typing import Final, NamedTuple

from monsal.address import fold
from monsal.conversation.bounces import BOUNCE_ADDRESS
from monsal.conversation.confirming import CONFIRM_ADDRESS
from monsal.routing import Route, Table

__all__ = ["BY_CORRESPONDENT", "BY_ITSELF", "Routed", "Routes"]

#: The orders that are no queue's name: after who writes, and after nothing.
BY_CORRESPONDENT: Final = ""
BY_ITSELF: Final = "#"
#: Bytes of addresses that are remembered: some 17,000 usual ones. Those of a larger list are looked up now and then.
_ROOM: Final = 2 << 20
#: What an entry needs beside the address: its slot, and as much again that the dictionary keeps free.
_SLOT: Final = 48


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

    __slots__ = ("_kept", "_room", "_same", "_table")

    def __init__(self) -> None:
        self._table: Table | None = None
        self._kept: dict[str, Routed] = {}
        self._room = _ROOM
        #: One of each kind: most addresses have the same things said of them.
        self._same: dict[Routed, Routed] = {}

    def of(self, table: Table, address: str) -> Routed:
        """What `table` says of an address."""
        if table is self._table:
            found = self._kept.get(address)
            if found is not None:
                return found
        else:
            self._forget()
            self._table = table
        found = _look(table, address)
        if found.taken or found.bounces or found.confirms:
            # One that is refused at RCPT is not asked about again, and whoever tries many must not displace others.
            self._keep(address, found)
        return found

    def _keep(self, address: str, found: Routed) -> None:
        if found.order in (BY_CORRESPONDENT, BY_ITSELF):
            found = self._same.setdefault(found, found)
            needed = address.__sizeof__() + _SLOT
        else:
            needed = 3 * address.__sizeof__() + _SLOT
        if needed > self._room:
            self._forget()
        self._room -= needed
        self._kept[address] = found

    def _forget(self) -> None:
        self._kept.clear()
        self._room = _ROOM


def _look(table: Table, address: str) -> Routed:
    takers = table.takers(address)
    bounces, confirms = BOUNCE_ADDRESS.match(address), CONFIRM_ADDRESS.match(address)
    return Routed(bool(takers), _order(table, takers, address), bounces is not None, confirms is not None)


def _order(table: Table, takers: list[Route], address: str) -> str:
    order = BY_ITSELF
    for route in takers:
        for handler in route.stateful:
            if table.modules[handler.module].shared:
                return "@" + fold(address)
            order = BY_CORRESPONDENT
    return order
