"""Mail that is told of before the disk has it, for whoever can prepare its sending meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

from monsal.store.contract import Outgoing

__all__ = ["EarlyStore", "Offer", "Told"]

#: Called once: with None when the disk has the rows, else with the error for which they are as good as never made.
Told = Callable[[Exception | None], None]

#: Is given outgoing rows that are due; gives back whom to tell what became of them, or None if it does not want them.
Offer = Callable[[Sequence[Outgoing]], Told | None]


@runtime_checkable
class EarlyStore(Protocol):
    """A store that can offer the mail of a turn while its flush, for which nobody else is waited, is still to come."""

    def on_early(self, offer: Offer) -> None:
        """Have `offer(rows)` called, on the loop of `open`, with mail that was applied and is not durable yet.

        Who takes the rows has them as if by `take_outgoing`, but must not let anything of their content out before
        being told that the disk has them (P2).
        """
        ...
