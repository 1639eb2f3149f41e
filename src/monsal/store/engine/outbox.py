"""What goes out: take what is due, write down what became of it, and an operator's acts on it.

A row that is being sent is known in memory only: after a crash it is sent again, the same bytes with the same
Message-ID (P2, at least once).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from monsal.store.contract import Outgoing, Recipient, Settled
from monsal.store.engine.codes import OUT_DEFERRED, OUT_FAILED, OUT_SENT, OUT_WAITING
from monsal.store.engine.data import Data
from monsal.store.engine.fresh import FreshRow
from monsal.store.engine.pending import ROW, Pending
from monsal.store.engine.spool import accept
from monsal.store.engine.text import load_text, store_text, store_time
from monsal.store.engine.writer import Occupied

__all__ = [
    "cancel_outgoing",
    "counts",
    "leave_early",
    "next_due",
    "open_status",
    "put_back",
    "retry_outgoing",
    "settle",
    "take_early",
    "take_outgoing",
]


def take_outgoing(data: Data, limit: int, now: float) -> list[Outgoing]:
    """Take rows that are due and on the disk; rows of one mail come next to each other."""
    if limit <= 0:
        return []
    if data.next_mail > now:
        return _take_fresh(data, limit, now)
    sending = data.sending
    # Those being sent are the oldest, so the scan steps over no more rows than there are of them; it reads the index
    # alone, because they may be several hundred.
    # What pends concerns none of these rows, which are on the disk, unless it is what became of some (`settle`).
    select = data.select if data.pending.left or data.pending.others else data.writer.select
    due = select(_DUE, (now, data.durable_mail, limit + len(sending)))
    free = [row for (row,) in due if row not in sending][:limit]
    by_mail: dict[int, list[tuple[Any, ...]]] = {}
    for found in data.writer.select(_READ_DUE, (_array(free),)) if free else ():
        by_mail.setdefault(found[2], []).append(found)
    taken: list[Outgoing] = []
    bodies = _bodies(data, by_mail)
    for mail, of_mail in by_mail.items():
        body = bodies[mail]
        for row, status, _, sender, recipient, message_id, attempts, created in of_mail:
            sending[row] = status
            taken.append(
                Outgoing(
                    id=row,
                    mail=mail,
                    sender=load_text(sender),
                    recipient=load_text(recipient),
                    message_id=load_text(message_id),
                    attempts=attempts,
                    created=created,
                    body=body,
                )
            )
    data.next_mail = _next_due(data, now) if len(free) < limit else 0.0
    return taken


def _take_fresh(data: Data, limit: int, now: float) -> list[Outgoing]:
    """The same where no other rows are due than those that are still in memory."""
    taken: list[Outgoing] = []
    fresh = data.fresh_mail
    while (first := fresh.first()) is not None and first.row.id <= data.durable_mail and len(taken) < limit:
        row = first.row
        fresh.pop(row.id)
        if first.due > now:  # the clock was set back: it waits like any other
            data.next_mail = min(data.next_mail, first.due)
        else:
            data.sending[row.id] = OUT_WAITING
            taken.append(row)
    return taken


def take_early(data: Data) -> list[FreshRow]:
    """Take those in memory that are not on the disk yet; who gets them must wait for that."""
    taken = [each for each in data.fresh_mail if each.row.id > data.durable_mail]
    for row, _ in taken:
        data.fresh_mail.pop(row.id)
        data.sending[row.id] = OUT_WAITING
    return taken


def leave_early(data: Data, taken: Sequence[FreshRow]) -> None:
    """Nobody got them. Those that were added since are to leave after them."""
    for row, due in reversed(taken):
        del data.sending[row.id]
        if not data.fresh_mail.put_first(row, due):
            data.next_mail = min(data.next_mail, due)


def next_due(data: Data) -> float:
    """No row that is on the disk and not being sent is due before; it may be too early."""
    first = data.fresh_mail.first()
    if first is not None and first.row.id <= data.durable_mail:
        return min(first.due, data.next_mail)
    return data.next_mail


def put_back(data: Data, taken: Sequence[Outgoing]) -> None:
    """Whoever took these rows has gone: they can be taken again."""
    for row in taken:
        data.sending.pop(row.id, None)
    data.next_mail = 0.0
    data.more_mail = True


def _bodies(data: Data, rows: Mapping[int, Sequence[tuple[Any, ...]]]) -> dict[int, bytes | Path]:
    """The bodies of mails, each with its rows: those that are still in memory, the others are read at once."""
    found: dict[int, bytes | Path] = {}
    absent: list[int] = []
    for mail, of_mail in rows.items():
        fresh = [known.row.body for row, *_ in of_mail if (known := data.fresh_mail.pop(row)) is not None]
        if fresh:
            found[mail] = fresh[0]
        else:
            absent.append(mail)
    if absent:
        for mail, raw, file in data.writer.select(_READ_BODIES, (_array(absent),)):
            found[mail] = data.bodies.path(file) if file is not None and data.bodies is not None else raw or b""
    return found


def _array(ids: Sequence[int]) -> str:
    """Ids for `json_each`, which gives them in this order."""
    return f"[{','.join(map(str, ids))}]"


def _next_due(data: Data, now: float) -> float:
    """When the first row that is not being sent is due, all that are due now having been taken."""
    # Those in memory are due now, and what is due now was taken as far as it is on the disk.
    if data.outbox_counts[OUT_WAITING] + data.outbox_counts[OUT_DEFERRED] == len(data.sending) + len(data.fresh_mail):
        return float("inf")
    found = data.writer.select(_NEXT_DUE, (now, data.durable_mail, 1 + len(data.sending)))
    for due, row in found:
        if row not in data.sending:
            return float(due)
    return float("inf")


_AFTER: Final = {"sent": OUT_SENT, "deferred": OUT_DEFERRED, "failed": OUT_FAILED}


def settle(data: Data, results: Sequence[Settled]) -> None:
    """Write what became of rows. One that is not open any more (cancelled meanwhile) stays as it is."""
    if data.writer.flushing and any(result.report is not None for result in results):
        raise Occupied("a report is stored in a queue that has to be looked up")
    rows = Pending()
    moved: dict[int, tuple[int, int, float]] = {}
    reports: list[Settled] = []
    for result in results:
        row = result.id
        before = data.sending.get(row)
        if before is None:
            before = open_status(data, row)
        if before is None or row in moved:
            continue
        after, tried, reason = _AFTER[result.status], int(result.tried), store_text(result.reason)
        if after == OUT_DEFERRED:
            rows.others.append((_DEFER, (tried, reason, store_time(result.due), row)))
        else:
            rows.left.append((after, tried, reason, row))
        moved[row] = before, after, result.due
        if result.report is not None and after == OUT_FAILED:
            reports.append(result)
    rows.waits = bool(moved)
    rows.octets = ROW * len(moved)
    data.let_pend(rows)
    for row, (before, after, due) in moved.items():
        if data.sending.pop(row, None) is None:  # else it was taken from there
            data.fresh_mail.pop(row)
        data.outgoing_moved(before, after)
        if after == OUT_DEFERRED:
            data.next_mail = min(data.next_mail, due)
            data.more_mail = True
    for result in reports:
        _store_report(data, result)


def _store_report(data: Data, result: Settled) -> None:
    """Store what the failure of a mail reports to its own sender, in the queue of the row whose turn sent it (P3)."""
    assert result.report is not None
    keys = data.select(_MADE_BY, (result.id,))
    recipients = tuple(
        Recipient(recipient.address, load_text(keys[0][0]) if keys else recipient.lease_key)
        for recipient in result.report.recipients
    )
    accept(data, msgspec.structs.replace(result.report, recipients=recipients), None)


def open_status(data: Data, row: int) -> int | None:
    """The status on the disk of a row that is neither sent nor failed, else None."""
    rows = data.select("SELECT status FROM monsal_outbox WHERE id = ? AND status < 2", (row,))
    return rows[0][0] if rows else None


def counts(data: Data) -> dict[str, int]:
    """Rows by status; those being sent are subtracted from where the disk has them."""
    waiting, deferred, sent, failed = data.outbox_counts
    for status in data.sending.values():
        waiting -= status == OUT_WAITING
        deferred -= status == OUT_DEFERRED
    return {"waiting": waiting, "deferred": deferred, "sending": len(data.sending), "sent": sent, "failed": failed}


def retry_outgoing(data: Data, row: int, now: float) -> bool:
    """Have a deferred or failed row tried at once; not one whose content is not kept any more."""
    if not data.select("SELECT 1 FROM monsal_outbox o JOIN monsal_bodies b ON b.id = o.mail WHERE o.id = ?", (row,)):
        return False
    return _act(data, row, (OUT_DEFERRED, OUT_FAILED), OUT_WAITING, ("", store_time(now)))


def cancel_outgoing(data: Data, row: int, now: float) -> bool:
    """Have a waiting or deferred row never sent."""
    return _act(data, row, (OUT_WAITING, OUT_DEFERRED), OUT_FAILED, ("cancelled by an operator", store_time(now)))


def _act(data: Data, row: int, allowed: tuple[int, int], after: int, values: tuple[str, float]) -> bool:
    rows = data.select("SELECT status FROM monsal_outbox WHERE id = ?", (row,))
    if row in data.sending or not rows or rows[0][0] not in allowed:
        return False
    data.begin()
    data.fresh_mail.pop(row)
    data.write("UPDATE monsal_outbox SET status = ?, reason = ?, due = ? WHERE id = ?", (after, *values, row))
    data.outgoing_moved(rows[0][0], after)
    if after == OUT_WAITING:
        data.next_mail = min(data.next_mail, values[1])
        data.more_mail = True
    return True


_DUE: Final[str] = (
    "SELECT id FROM monsal_outbox INDEXED BY monsal_outbox_due"
    " WHERE status < 2 AND due <= ? AND id <= ? ORDER BY due, id LIMIT ?"
)
_READ_DUE: Final[str] = (
    "SELECT o.id, o.status, o.mail, o.sender, o.recipient, o.message_id, o.attempts, o.created"
    " FROM json_each(?) j CROSS JOIN monsal_outbox o ON o.id = j.value"
)
_READ_BODIES: Final[str] = "SELECT b.id, b.raw, b.file FROM json_each(?) j CROSS JOIN monsal_bodies b ON b.id = j.value"
_NEXT_DUE: Final[str] = (
    "SELECT due, id FROM monsal_outbox INDEXED BY monsal_outbox_due"
    " WHERE status < 2 AND due > ? AND id <= ? ORDER BY due, id LIMIT ?"
)
_MADE_BY: Final[str] = "SELECT s.lease_key FROM monsal_outbox o JOIN monsal_spool s ON s.id = o.message WHERE o.id = ?"
_DEFER: Final[str] = "UPDATE monsal_outbox SET status = 1, attempts = attempts + ?, reason = ?, due = ? WHERE id = ?"
