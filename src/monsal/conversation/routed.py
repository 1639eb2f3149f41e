"""What the routes say of an address that mail comes to: whether it is taken, and what its mail is ordered by.

It is asked twice for each mail, at RCPT and when the mail is stored, and most mail is for few addresses: so the answers
of one table are kept, for as long as it is the table.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import MappingProxyType
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
    """`matches`: the routes that match. `order`: BY_CORRESPONDENT, BY_ITSELF, or the name of the queue that all its
    mail has. `bounces` and `confirms`: it looks like one of our own addresses, forged or not, which come before all
    routes.
    """

    matches: tuple[Match, ...]
    order: str
    bounces: bool
    confirms: bool

    @property
    def taken(self) -> bool:
        """Whether a route matches."""
        return bool(self.matches)


class Routes:
    """Remembers `Routed`. Safe on any thread: what is kept of a table is kept with it."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: tuple[Table | None, dict[str, Routed]] = (None, {})

    def of(self, table: Table, address: str) -> Routed:
        """What `table` says of an address."""
        of, kept = self._known
        if table is not of or len(kept) >= _KEPT:
            kept = {}
            self._known = table, kept
        found = kept.get(address)
        if found is None:
            found = kept[address] = _look(table, address)
        return found


def _look(table: Table, address: str) -> Routed:
    # Several turns are given these captures, and none may change them for the others.
    matches = tuple(Match(match.route, MappingProxyType(match.captures)) for match in table.match(address))
    bounces, confirms = BOUNCE_ADDRESS.match(address), CONFIRM_ADDRESS.match(address)
    return Routed(matches, _order(table, matches, address), bounces is not None, confirms is not None)


def _order(table: Table, matches: Sequence[Match], address: str) -> str:
    stateful = [handler for match in matches for handler in match.handlers if not handler.stateless]
    if any(table.modules[handler.module].shared for handler in stateful):
        return "@" + fold(address)
    return BY_CORRESPONDENT if stateful else BY_ITSELF
