"""Mail that came back: which of ours it was, what is noted of it, and the list of addresses that are not written to."""

from __future__ import annotations

from typing import Final, NamedTuple

from monsal.address import fold
from monsal.store.bounced import Bounced, SentMail
from monsal.store.contract import TurnCommit
from monsal.store.engine.data import Data
from monsal.store.engine.text import load_text, store_text, store_time

__all__ = ["note_bounced", "sent", "suppress", "unsuppress"]


def sent(data: Data, token: str) -> SentMail | None:
    """The mail with this token; None if no turn made it, or its turn is forgotten."""
    rows = data.select(_SENT, (store_text(token),))
    if not rows:
        return None
    message_id, handler, key, sender, lease_key, correspondent, address = (load_text(value) for value in rows[0][:-1])
    recipients = data.select("SELECT recipient FROM monsal_outbox WHERE token = ? ORDER BY id", (store_text(token),))
    return SentMail(
        token=token,
        message_id=message_id,
        handler=handler,
        key=key,
        sender=sender,
        lease_key=lease_key,
        correspondent=correspondent,
        address=address,
        recipients=tuple(load_text(recipient) for (recipient,) in recipients),
    )


def note_bounced(data: Data, turn: TurnCommit) -> None:
    """Keep what a report says, once, and draw the line under addresses that failed; within the turn's commit."""
    now = store_time(turn.now)
    for bounced in turn.bounced:
        address = store_text(fold(bounced.address))
        values = (
            turn.message,
            address,
            store_text(bounced.token),
            bounced.kind,
            int(bounced.hard),
            store_text(bounced.reason),
            store_text(bounced.status),
            store_text(bounced.detail),
            now,
        )
        data.begin()
        data.write(_NOTE, values)
        if data.writer.db.changes():
            _judge(data, bounced, address, now)


def _judge(data: Data, bounced: Bounced, address: str, now: float) -> None:
    if bounced.hard:
        entry = _Entry(f"{bounced.kind}: {bounced.reason}", bounced.detail, now, None)
        _put(data, bounced.address, entry)
    elif bounced.kind == "failure":
        settings = data.settings
        failures = data.select(_SOFT, (address, now - settings.soft_window))[0][0]
        if failures >= settings.soft_limit and data.suppressed.why(bounced.address, now) is None:
            reason = f"{failures} soft failures, the last of them: {bounced.reason}"
            _put(data, bounced.address, _Entry(reason, bounced.detail, now, now + settings.soft_for))


def suppress(data: Data, address: str, reason: str, now: float, until: float | None) -> None:
    """Put an address on the list, as an operator or an application."""
    _put(data, address, _Entry(reason, "", store_time(now), None if until is None else store_time(until)))


class _Entry(NamedTuple):
    """A row of the list, without its address."""

    reason: str
    detail: str
    since: float
    until: float | None


def _put(data: Data, address: str, entry: _Entry) -> None:
    data.begin()
    values = (store_text(entry.reason), store_text(entry.detail), entry.since, entry.until)
    data.write(_PUT, (store_text(fold(address)), *values))
    data.suppressed.put(address, entry.until, entry.reason)


def unsuppress(data: Data, address: str) -> bool:
    """Take an address from the list; its soft failures until now count no more."""
    key = store_text(fold(address))
    if not data.select("SELECT 1 FROM monsal_suppressed WHERE address = ?", (key,)):
        return False
    data.begin()
    data.write("DELETE FROM monsal_suppressed WHERE address = ?", (key,))
    data.write("DELETE FROM monsal_bounces WHERE address = ? AND hard = 0", (key,))
    data.suppressed.drop(address)
    return True


_SENT: Final[str] = (
    "SELECT o.message_id, h.handler, h.key, h.sender, s.lease_key, s.correspondent, s.recipient, o.id"
    " FROM monsal_outbox o JOIN monsal_history h ON h.id = o.turn JOIN monsal_spool s ON s.id = o.message"
    " WHERE o.token = ? ORDER BY o.id LIMIT 1"
)
_NOTE: Final[str] = "INSERT OR IGNORE INTO monsal_bounces VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
_SOFT: Final[str] = (
    "SELECT count(DISTINCT token) FROM monsal_bounces WHERE address = ? AND at > ? AND hard = 0 AND kind = 'failure'"
)
_PUT: Final[str] = "INSERT OR REPLACE INTO monsal_suppressed VALUES (?, ?, ?, ?, ?)"
