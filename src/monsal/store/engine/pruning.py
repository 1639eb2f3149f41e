"""To forget what is long done. The counters of the ledger stay: they say what was, not what is kept (P4)."""

from __future__ import annotations

from typing import Final

from monsal.store.engine.codes import OUT_FAILED, OUT_SENT
from monsal.store.engine.data import Data

__all__ = ["Pruned", "prune"]


class Pruned:
    """What one step took away: how many rows, and the files of large bodies that can be removed now."""

    __slots__ = ("files", "rows")

    def __init__(self) -> None:
        self.rows = 0
        self.files: list[str] = []


def prune(data: Data, before: float, limit: int) -> Pruned:
    """Take away up to `limit` rows that are done or dropped, and as many that were sent or failed, from before a time.

    Their turns and bodies go with them. Ids ascend with time, so a step goes on where the last one ended and stops at
    the first row that is too young.
    """
    pruned = Pruned()
    rows = _old(data, _OLD_ROWS, 0, before, limit)
    mails = _old(data, _OLD_MAILS, 1, before, limit)
    if not rows and not mails:
        return pruned
    data.begin()
    for row, _ in rows:
        for sql in _FORGET_ROW:
            data.write(sql, (row,))
    for row, _ in mails:
        data.write("DELETE FROM monsal_outbox WHERE id = ?", (row,))
    for body in {body for _, body in (*rows, *mails)}:
        found = data.select(_UNUSED_BODY, (body,))
        if found:
            data.write("DELETE FROM monsal_bodies WHERE id = ?", (body,))
            pruned.files += [file for (file,) in found if file is not None]
    pruned.rows = len(rows) + len(mails)
    return pruned


def _old(data: Data, sql: str, which: int, before: float, limit: int) -> list[tuple[int, int]]:
    """(id, body) of rows that can go; notes how far it looked."""
    found: list[tuple[int, int]] = []
    while len(found) < limit:
        rows = data.select(sql, (data.pruned_to[which], limit))
        for row, body, at, can_go in rows:
            if at >= before:
                return found
            data.pruned_to[which] = row
            if can_go:
                found.append((row, body))
                if len(found) == limit:
                    return found
        if len(rows) < limit:
            break
    return found


_OLD_ROWS: Final = "SELECT id, body, received, status IN (2, 4) FROM monsal_spool WHERE id > ? ORDER BY id LIMIT ?"
_OLD_MAILS: Final = (
    f"SELECT id, mail, created, status IN ({OUT_SENT}, {OUT_FAILED}) FROM monsal_outbox"
    " WHERE id > ? ORDER BY id LIMIT ?"
)
_FORGET_ROW: Final = (
    "DELETE FROM monsal_history WHERE message = ?",
    "DELETE FROM monsal_failures WHERE id = ?",
    "DELETE FROM monsal_aside WHERE message = ?",
    "DELETE FROM monsal_spool WHERE id = ?",
)
_UNUSED_BODY: Final = (
    "SELECT file FROM monsal_bodies b WHERE id = ?"
    " AND NOT EXISTS (SELECT 1 FROM monsal_spool WHERE body = b.id)"
    " AND NOT EXISTS (SELECT 1 FROM monsal_outbox WHERE mail = b.id)"
    " AND NOT EXISTS (SELECT 1 FROM monsal_timers WHERE body = b.id)"
)
