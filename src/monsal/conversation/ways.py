"""Which way a row takes: most go to the handlers of their address, some to addresses of our own."""

from __future__ import annotations

from monsal.conversation.bounces import BOUNCE_ADDRESS
from monsal.conversation.confirming import confirmed_row
from monsal.conversation.passage import Passage
from monsal.conversation.releasing import ReleasingPassage
from monsal.conversation.returning import ReturnedPassage
from monsal.conversation.surroundings import Surroundings
from monsal.store.contract import Claimed

__all__ = ["passage_of"]


def passage_of(row: Claimed, around: Surroundings) -> Passage:
    """The way that a row takes. Both kinds of addresses of our own are told by their first characters."""
    if row.source == "timer" or "+" not in row.recipient:
        return Passage(row, around)
    if BOUNCE_ADDRESS.match(row.recipient):
        return ReturnedPassage(row, around)
    if confirmed_row(around.capabilities, row.recipient, at=row.received) is not None:
        return ReleasingPassage(row, around)
    return Passage(row, around)
