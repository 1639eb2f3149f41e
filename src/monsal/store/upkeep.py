"""What keeps a store small and in order, as far as its owner decides it: retention, and the erasure of one person."""

from __future__ import annotations

from typing import Protocol

import msgspec

__all__ = ["Erased", "Upkeep"]


class Erased(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """What was erased of one correspondent, or would be.

    `messages` with their `turns`, of which `unhandled` were waiting, held or dead and count as dropped now; `mails` to
    them, of which `unsent` never leave; `states`, `timers`, and `bodies` that nobody else needs. What stays: `running`
    messages and mails that are under way right now, and `elsewhere` mails to others that their messages made.
    """

    messages: int = 0
    unhandled: int = 0
    turns: int = 0
    mails: int = 0
    unsent: int = 0
    states: int = 0
    timers: int = 0
    bodies: int = 0
    running: int = 0
    elsewhere: int = 0


class Upkeep(Protocol):
    """Part of `monsal.store.contract.Store`. The counters of the ledger say what was, so none of this lowers them."""

    async def prune(self, now: float, keep: float, limit: int = 500) -> int:
        """Forget rows that were done, dropped, sent or failed and are older than `keep` seconds, with their turns.

        How many, at most `limit` of each kind; ask again until it is 0. Duplicates are known as long as their rows are
        kept, so nothing younger than their three days goes.
        """
        ...

    async def prune_bodies(self, now: float, keep: float, limit: int = 500) -> int:
        """Forget the content of such mail, the rows staying; how many bodies. Ask again until it is 0."""
        ...

    async def erase(self, sender: str, now: float, dry_run: bool = False) -> Erased:
        """Erase one correspondent (folded): what came from them, what goes to them, where they stand.

        With `dry_run` only count. Raises StoreUnavailable; what was erased by then stays erased.
        """
        ...
