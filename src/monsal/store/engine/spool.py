"""What comes in: accept, claim, and what becomes of rows whose process died.

Each function is one operation on `Data`. Rows are never deleted here: a row that is done stays for the views.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from monsal.errors import StoreUnavailable
from monsal.store.contract import Accept, Claimed, DoneTurn, Fence, Receipt, StateKey
from monsal.store.engine.arrivals import Arrival
from monsal.store.engine.bodies import Filed
from monsal.store.engine.codes import DEAD, SOURCE_CODES, SOURCES, TIMER, WAITING
from monsal.store.engine.data import Data
from monsal.store.engine.identity import expire_aside
from monsal.store.engine.pending import Writes
from monsal.store.engine.schedule import Head, Queue
from monsal.store.engine.text import load_text, load_text_or_none, store_time
from monsal.store.engine.writer import Occupied

__all__ = ["accept", "claim", "extend", "failure", "give_back", "killed", "total"]

#: Octets of a row besides its body and envelope, about.
_ROW: Final = 500
#: Failures of one message that are kept; each but the first needs an operator who had it handled again.
_KEPT: Final = 10
#: A message that killed its worker so often is given up (P6).
MAX_KILLS: Final = 3


def total(pieces: Sequence[bytes]) -> int:
    """The size of a body."""
    return sum(map(len, pieces))


def accept(data: Data, mail: Accept, file: Filed | None) -> Receipt:
    """Store a mail: the body once, a row for each recipient that has none yet. `file` holds a large body.

    The receipt is right when the group is sealed (`arrivals.py`). Raises StoreUnavailable if that file is gone: its
    writer may have taken so long that it was swept away.
    """
    token, size = (None, total(mail.body)) if file is None else file
    if token is not None and data.bodies is not None and not data.bodies.path(token).is_file():
        raise StoreUnavailable("the body of a large mail is gone before the mail was stored; send it again")
    raw = None if token is not None else bytes(mail.body[0]) if len(mail.body) == 1 else b"".join(mail.body)
    counters = data.counters
    arrival = Arrival(mail, (counters.body + 1, size, raw, token), counters.row + 1)
    data.open_group()
    counters.body += 1
    counters.row += len(arrival.rows)
    data.let_arrive(arrival)
    return arrival.receipt


# -- claim ------------------------------------------------------------------------------------------------------


def claim(data: Data, limit: int, now: float, lease: float, room: float = float("inf")) -> list[Claimed]:
    """Lease the heads of ready queues, with no more than about `room` octets in them.

    Writes only if timers have become due. While a group is being flushed it gives what is in memory, and raises
    Occupied if there is something else and none of that.
    """
    if data.writer.flushing:
        taken = _take_fresh(data, limit, now)
    else:
        data.write_arrivals()
        if data.next_timer <= now:
            _fire_timers(data, now)
        taken = data.schedule.take(limit, now)
    claimed: list[Claimed] = []
    until = now + lease
    while taken:
        queue = taken.pop(0)
        data.counters.counter += 1
        fence = Fence(data.epoch, data.counters.counter)
        try:
            row = _lease(data, queue, fence, until)
            if row is not None:
                claimed.append(row)
                room -= _ROW + len(row.envelope) + (len(row.body) if isinstance(row.body, bytes) else 0)
            else:
                _give_up_unreadable(data, queue, now)
        except BaseException:
            # Nobody learns of these leases.
            own = [data.schedule.queues[row.lease_key] for row in claimed]
            for other in (queue, *taken, *own):
                data.schedule.settle(other, removed=0, head=Head(other.head, 0.0, False))
            data.more_work = True
            raise
        if room <= 0:
            for other in taken:
                data.schedule.settle(other, removed=0, head=Head(other.head, 0.0, False))
            break
    return claimed


def _take_fresh(data: Data, limit: int, now: float) -> list[Queue]:
    """Ready queues whose heads are on the disk and in memory, up to the first that is not.

    Mails that nobody was told of are claimed after the flush, so that no handler has begun when a mail is acknowledged.
    Raises Occupied if the first queue, or a timer, has to be looked up.
    """
    if data.next_timer <= now:
        raise Occupied("timers are due")
    durable, fresh = data.durable_row, data.fresh
    taken = data.schedule.take(limit, now, lambda row: row <= durable and row in fresh)
    if not taken and 0 < data.schedule.first <= durable:
        raise Occupied("what can be claimed has to be read")
    return taken


def _give_up_unreadable(data: Data, queue: Queue, now: float) -> None:
    """A row whose body is gone becomes a dead letter: it must not keep all others from being claimed (P7)."""
    row = queue.head
    source = data.select("SELECT source FROM monsal_spool WHERE id = ?", (row,))[0][0]
    data.begin()
    reason = "its body is missing from the store"
    data.write("UPDATE monsal_spool SET status = 3, reason = ? WHERE id = ?", (reason, row))
    for sql, values in failure(row, DEAD, store_time(now), reason):
        data.write(sql, values)
    data.ledger.moved(source, WAITING, DEAD)
    data.schedule.settle(queue, removed=1, head=data.head(queue.key))
    data.more_work = True


def _lease(data: Data, queue: Queue, fence: Fence, until: float) -> Claimed | None:
    fresh = data.fresh.pop(queue.head)
    if fresh is None:
        return _lease_stored(data, queue, fence, until)
    mail, address, body = fresh
    data.schedule.lease(queue, fence.counter, SOURCE_CODES[mail.source], until)
    return Claimed(
        id=queue.row,
        fence=fence,
        lease_key=queue.key,
        source=mail.source,
        sender=mail.sender,
        correspondent=mail.correspondent,
        recipient=address,
        received=mail.received,
        body=body,
        message_id=mail.message_id,
        envelope=mail.envelope,
    )


def _lease_stored(data: Data, queue: Queue, fence: Fence, until: float) -> Claimed | None:
    found = data.select(_READ_ROW, (queue.head,))
    if not found:
        return None
    row = found[0]
    source, sender, correspondent, recipient, received, message_id, envelope, attempts, kills, turns = row[:10]
    target, state_key, state_sender, entered, raw, file = row[10:]
    data.schedule.lease(queue, fence.counter, source, until)
    queue.turns = turns
    return Claimed(
        id=queue.row,
        fence=fence,
        lease_key=queue.key,
        source=SOURCES[source],
        sender=load_text(sender),
        correspondent=load_text(correspondent),
        recipient=load_text(recipient),
        received=received,
        body=_body(data, raw, file),
        message_id=load_text_or_none(message_id),
        envelope=envelope,
        attempts=attempts,
        kills=kills,
        done=_done_turns(data, queue.row) if turns else (),
        target=load_text_or_none(target),
        state=None if state_key is None else StateKey(load_text(state_key), load_text(state_sender)),
        entered=entered or 0,
    )


def _body(data: Data, raw: bytes | None, file: str | None) -> bytes | Path:
    if file is not None and data.bodies is not None:
        return data.bodies.path(file)
    return raw or b""


def _done_turns(data: Data, row: int) -> tuple[DoneTurn, ...]:
    found = data.select("SELECT handler, stateful FROM monsal_history WHERE message = ? ORDER BY id", (row,))
    return tuple(DoneTurn(load_text(handler), bool(stateful)) for handler, stateful in found)


def _fire_timers(data: Data, now: float) -> None:
    """Make rows of timers that are due, the timer going away in the same transaction (rule state.B15)."""
    now = store_time(now)
    due = data.select(_DUE_TIMERS, (now, data.settings.timers_at_once))
    added: list[tuple[int, str]] = []
    if due:
        data.begin()
    for timer in due:
        data.counters.row += 1
        key, sender, target = timer[:3]
        data.write(_INSERT_TIMER_ROW, (data.counters.row, TIMER, now, key, sender, target))
        data.write("DELETE FROM monsal_timers WHERE key = ? AND sender = ? AND target = ?", (key, sender, target))
        added.append((data.counters.row, load_text(timer[3])))
    expire_aside(data, now, data.settings.timers_at_once)
    data.look_for_timers()
    for row, lease_key in added:
        data.ledger.accepted(TIMER)
        data.schedule.add(lease_key, row)


def give_back(data: Data, claimed: Sequence[Claimed]) -> None:
    """End leases whose rows nobody will handle (the caller of `claim` is gone); the rows wait as before."""
    for row in claimed:
        queue = data.schedule.holder(row.lease_key, row.fence.counter)
        if queue is not None and data.schedule.settle(queue, removed=0, head=data.head(row.lease_key)):
            data.more_work = True


def extend(data: Data, leases: Sequence[tuple[str, Fence]], until: float) -> list[bool]:
    """Prolong leases; False for each one that is lost."""
    return [
        fence.epoch == data.epoch and data.schedule.extend(lease_key, fence.counter, until)
        for lease_key, fence in leases
    ]


# -- failures ---------------------------------------------------------------------------------------------------


def failure(row: int, status: int, at: float, reason: str, detail: str = "") -> Writes:
    """The statements that keep why a row is held or dead now, also when it is handled again; stored time and texts."""
    return [(_KEEP_FAILURE, (row, status, at, reason, detail)), (_FORGET_FAILURES, (row,))]


# -- rows that kill ---------------------------------------------------------------------------------------------


def killed(data: Data, rows: Sequence[int], now: float) -> list[int]:
    """Count a kill for those of the rows that may have done it; those at three become dead letters and are returned.

    Rows that were there at an earlier kill are the suspects, and run alone. Beside one of them the others are
    innocent: were they counted too, a killer would take along all who wait with it.
    """
    now = store_time(now)
    waiting: dict[int, tuple[str, int, int]] = {}
    for row in dict.fromkeys(rows):
        for stored_key, source, kills in data.select(_READ_KILLS, (row,)):
            waiting[row] = load_text(stored_key), source, kills
    has_suspects = any(kills for _, _, kills in waiting.values())
    dead: list[int] = []
    for row, (lease_key, source, kills) in waiting.items():
        removed = 0
        if kills or not has_suspects:
            removed = _count_kill(data, row, kills + 1, now)
        if removed:
            data.ledger.moved(source, WAITING, DEAD)
            dead.append(row)
        data.fresh.pop(row)
        _free_after_kill(data, lease_key, row, removed=removed)
    return dead


def _count_kill(data: Data, row: int, kills: int, now: float) -> int:
    """Write the kills of a row that waits; 1 if it is a dead letter by that, else 0."""
    data.begin()
    data.write("UPDATE monsal_spool SET kills = ? WHERE id = ?", (kills, row))
    if kills < MAX_KILLS:
        return 0
    reason = f"killed its worker {kills} times"
    data.write("UPDATE monsal_spool SET status = 3, reason = ? WHERE id = ?", (reason, row))
    for sql, values in failure(row, DEAD, now, reason):
        data.write(sql, values)
    return 1


def _free_after_kill(data: Data, lease_key: str, row: int, *, removed: int) -> None:
    """Whoever held the row is dead: its lease ends. A lease on another row of the queue stays."""
    schedule = data.schedule
    queue = schedule.queues[lease_key]
    if lease_key in schedule.leased and queue.row != row:
        head = data.head(lease_key)
        if removed and head is not None:
            schedule.rejoin(lease_key, head, -removed)
    elif (removed or (queue.counter and queue.row == row)) and schedule.settle(
        queue, removed=removed, head=data.head(lease_key)
    ):
        data.more_work = True


_KEEP_FAILURE: Final[str] = "INSERT INTO monsal_failures(message, status, at, reason, detail) VALUES (?, ?, ?, ?, ?)"
_FORGET_FAILURES: Final[str] = (
    "DELETE FROM monsal_failures WHERE message = ?1 AND id <="
    f" (SELECT id FROM monsal_failures WHERE message = ?1 ORDER BY id DESC LIMIT 1 OFFSET {_KEPT})"
)
_READ_ROW: Final[str] = (
    "SELECT s.source, s.sender, s.correspondent, s.recipient, s.received, s.message_id, s.envelope, s.attempts,"
    " s.kills, s.turns, s.target, s.state_key, s.state_sender, s.entered, b.raw, b.file"
    " FROM monsal_spool s JOIN monsal_bodies b ON b.id = s.body WHERE s.id = ?"
)
_READ_KILLS: Final[str] = "SELECT lease_key, source, kills FROM monsal_spool WHERE id = ? AND status = 0"
_DUE_TIMERS: Final[str] = (
    "SELECT key, sender, target, lease_key FROM monsal_timers INDEXED BY monsal_timers_due"
    " WHERE due <= ? ORDER BY due LIMIT ?"
)
_INSERT_TIMER_ROW: Final[str] = (
    "INSERT INTO monsal_spool"
    " SELECT ?1, lease_key, ?2, 0, envelope_sender, correspondent, recipient, message_id, body, ?3, ?3, 0, 0, 0, NULL,"
    " NULL, envelope, target, key, sender, entered"
    " FROM monsal_timers WHERE key = ?4 AND sender = ?5 AND target = ?6"
)
