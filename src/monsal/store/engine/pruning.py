"""To forget what is long done. The counters of the ledger stay: they say what was, not what is kept (P4).

A step looks at a bounded number of rows, so that mail never waits long for it (P7); `Data.pruned_to` notes how far it
came, and the next step goes on there. Files of large bodies are removed by the caller when the step is on the disk.
"""

from __future__ import annotations

from typing import Any, Final

from monsal.store.engine.codes import OUT_FAILED, OUT_SENT
from monsal.store.engine.data import Data

__all__ = ["BODIES", "Pruned", "forget_bodies", "prune", "prune_bodies"]

#: Places in `Data.pruned_to`.
_ROWS: Final = 0
_MAILS: Final = 1
BODIES: Final = 2


class Pruned:
    """What one step took away: how many rows, and the files of large bodies that can be removed now.

    `is_over` says that the next step would begin anew.
    """

    __slots__ = ("files", "is_over", "rows")

    def __init__(self) -> None:
        self.rows = 0
        self.files: list[str] = []
        self.is_over = False


def prune(data: Data, before: float, limit: int) -> Pruned:
    """Take away rows that are done or dropped, and such that were sent or failed, from before a time; of each kind, of
    the next `limit` there are.

    Their turns and bodies go with them. Ids ascend with time, so the first row that is too young is the end.
    """
    pruned = Pruned()
    rows, no_more_rows = _old(data, _OLD_ROWS, _ROWS, before, limit)
    mails, no_more_mails = _old(data, _OLD_MAILS, _MAILS, before, limit)
    pruned.is_over = no_more_rows and no_more_mails
    if not rows and not mails:
        return pruned
    data.begin()
    for row, _ in rows:
        for sql in _FORGET_ROW:
            data.write(sql, (row,))
    for row, _ in mails:
        data.write("DELETE FROM monsal_outbox WHERE id = ?", (row,))
    pruned.files = forget_bodies(data, {body for _, body in (*rows, *mails)})[1]
    pruned.rows = len(rows) + len(mails)
    return pruned


def prune_bodies(data: Data, before: float, limit: int) -> Pruned:
    """Take away the next `limit` bodies of mail from before a time that nobody needs; their rows stay.

    Needed is what waits, is held or dead, is to be sent, or hangs on a timer.
    """
    pruned = Pruned()
    bodies, pruned.is_over = _old(data, _OLD_BODIES, BODIES, before, limit)
    if not bodies:
        return pruned
    data.begin()
    for body, file in bodies:
        data.write("DELETE FROM monsal_bodies WHERE id = ?", (body,))
        if file is not None:
            pruned.files.append(file)
    pruned.rows = len(bodies)
    return pruned


def forget_bodies(data: Data, bodies: set[int]) -> tuple[int, list[str]]:
    """Take away those of the bodies that no row points to, in a transaction that was begun: how many, their files."""
    files: list[str] = []
    count = 0
    for body in bodies:
        found = data.select(_UNUSED_BODY, (body,))
        if found:
            count += 1
            data.write("DELETE FROM monsal_bodies WHERE id = ?", (body,))
            files += [file for (file,) in found if file is not None]
    return count, files


def _old(data: Data, sql: str, which: int, before: float, limit: int) -> tuple[list[tuple[int, Any]], bool]:
    """(id, what else is selected) of rows that can go, and whether there are no more; notes how far it looked."""
    found: list[tuple[int, Any]] = []
    rows = data.select(sql, (data.pruned_to[which], limit))
    is_over = len(rows) < limit
    for row, body, at, can_go in rows:
        if at is not None and at >= before:
            is_over = True
            break
        data.pruned_to[which] = row
        if can_go:
            found.append((row, body))
    if is_over:
        # What could not go this time may the next time.
        data.pruned_to[which] = 0
    return found, is_over


_OLD_ROWS: Final = "SELECT id, body, received, status IN (2, 4) FROM monsal_spool WHERE id > ? ORDER BY id LIMIT ?"
_OLD_MAILS: Final = (
    f"SELECT id, mail, created, status IN ({OUT_SENT}, {OUT_FAILED}) FROM monsal_outbox"
    " WHERE id > ? ORDER BY id LIMIT ?"
)
_OLD_BODIES: Final = (
    "SELECT id, file, max(ifnull((SELECT max(received) FROM monsal_spool WHERE body = b.id), 0),"
    " ifnull((SELECT max(created) FROM monsal_outbox WHERE mail = b.id), 0)),"
    " NOT EXISTS (SELECT 1 FROM monsal_spool WHERE body = b.id AND status NOT IN (2, 4))"
    f" AND NOT EXISTS (SELECT 1 FROM monsal_outbox WHERE mail = b.id AND status NOT IN ({OUT_SENT}, {OUT_FAILED}))"
    " AND NOT EXISTS (SELECT 1 FROM monsal_timers WHERE body = b.id)"
    " FROM monsal_bodies b WHERE id > ? ORDER BY id LIMIT ?"
)
_FORGET_ROW: Final = (
    "DELETE FROM monsal_history WHERE message = ?",
    "DELETE FROM monsal_failures WHERE message = ?",
    "DELETE FROM monsal_aside WHERE message = ?",
    "DELETE FROM monsal_bounces WHERE message = ?",
    "DELETE FROM monsal_spool WHERE id = ?",
)
_UNUSED_BODY: Final = (
    "SELECT file FROM monsal_bodies b WHERE id = ?"
    " AND NOT EXISTS (SELECT 1 FROM monsal_spool WHERE body = b.id)"
    " AND NOT EXISTS (SELECT 1 FROM monsal_outbox WHERE mail = b.id)"
    " AND NOT EXISTS (SELECT 1 FROM monsal_timers WHERE body = b.id)"
)
