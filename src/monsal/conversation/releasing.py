"""The way of an answer to a request for confirmation: it releases the message that waits for its sender's word."""

from __future__ import annotations

import logging

from monsal.conversation.passage import MAX_CONFLICTS, ConflictError, Passage

__all__ = ["ReleasingPassage"]

log = logging.getLogger("monsal.turns")


class ReleasingPassage(Passage):
    """The way of one confirmation, settled in one commit with the message that it releases (P2)."""

    async def _mail(self) -> None:
        for _ in range(MAX_CONFLICTS):
            commit = await self.proving.confirmation(self._ask)
            try:
                await self._commit(commit)
            except ConflictError:
                continue
            level = logging.INFO if commit.identity else logging.ERROR
            log.log(level, "%s: %s", commit.ack.kind, commit.ack.reason, extra=self._ids("confirmation"))
            return
