"""One turn, one commit (P2): state, history, outgoing mail, timers and what becomes of the message.

`commit` is one operation on `Data`: first everything is checked, then written, then memory follows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from monsal.store.contract import (
    ROUTE_FIRST_STATE,
    Ack,
    Applied,
    CommitResult,
    Conflict,
    Expected,
    Fenced,
    OutgoingMail,
    SetTimer,
    StateChange,
    StateKey,
    StateValue,
    TurnCommit,
    TurnRow,
)
from monsal.store.engine.codes import DEAD, DONE, DROPPED, HELD, OUT_WAITING, WAITING
from monsal.store.engine.data import Data
from monsal.store.engine.schedule import Head, Queue
from monsal.store.engine.spool import bury, insert_body, keep_detail
from monsal.store.engine.text import store_text

__all__ = ["Origin", "change_state", "commit"]


def commit(data: Data, turn: TurnCommit, files: dict[str, str]) -> CommitResult:
    """Apply a turn. `files` holds its large outgoing bodies: token of the mail -> token of the file. What is left in
    it afterwards is not pointed to."""
    fence = turn.fence
    queue = data.schedule.holder(turn.lease_key, fence.counter) if fence.epoch == data.epoch else None
    if queue is None or queue.row != turn.message:
        return _look_up(data, turn)
    if turn.turn is not None and queue.turns:
        done = _history_of(data, turn.message, turn.turn.handler)
        if done is not None:
            return Applied(done[0])
    stale = _stale(data, turn.expected)
    if stale:
        return Conflict(stale)
    _write_statements(data, turn)
    values: dict[StateKey, StateValue] = {}
    for change in turn.changes:
        values[change.state] = change_state(
            data, change, Origin(turn.now, turn.message, values.get(change.state) or data.state(change.state))
        )
    number = _write_history(data, turn, turn.turn) if turn.turn is not None else 0
    for mail in turn.outgoing:
        _write_outgoing(data, turn, mail, number, files.pop(mail.token, None))
    for timer in turn.timers:
        _write_timer(data, turn, timer, values.get(timer.state) or data.state(timer.state))
    head = _write_ack(data, turn, queue)
    _remember(data, turn, queue, values, head)
    return Applied(number)


# -- checks -----------------------------------------------------------------------------------------------------


def _look_up(data: Data, turn: TurnCommit) -> CommitResult:
    """A commit without a lease: applied before, if its history row is there and was written under this very lease."""
    if turn.turn is not None:
        done = _history_of(data, turn.message, turn.turn.handler)
        if done is not None and done[1:] == (turn.fence.epoch, turn.fence.counter):
            return Applied(done[0])
    return Fenced()


def _history_of(data: Data, message: int, handler: str) -> tuple[int, int, int] | None:
    rows = data.select(_READ_HISTORY, (message, store_text(handler)))
    return rows[0] if rows else None


def _stale(data: Data, expected: Sequence[Expected]) -> tuple[StateKey, ...]:
    stale = tuple(item.state for item in expected if data.state(item.state).version != item.version)
    for state in stale:
        data.states.drop(state)
    return stale


# -- writing ----------------------------------------------------------------------------------------------------


def _write_statements(data: Data, turn: TurnCommit) -> None:
    # First, so that one that is refused has cost nothing but itself.
    if turn.statements:
        data.begin()
        for statement in turn.statements:
            data.guard.turn(data.db, statement.sql, statement.params)


class Origin:
    """When and by which message (None: an operator) a state is changed, and what it was before."""

    __slots__ = ("before", "message", "now")

    def __init__(self, now: float, message: int | None, before: StateValue) -> None:
        self.now = float(now)
        self.message = message
        self.before = before


def change_state(data: Data, change: StateChange, origin: Origin) -> StateValue:
    """Write a state; its new value, which the caller notes in memory when nothing can fail any more."""
    data.begin()
    key, sender = store_text(change.state.key), store_text(change.state.sender)
    before, name = origin.before, change.name
    if name != before.state:
        # What it waited for belongs to the state that it leaves (rule state.B15).
        data.db.execute("DELETE FROM monsal_timers WHERE key = ? AND sender = ?", (key, sender))
    if name == ROUTE_FIRST_STATE:
        if before.version:
            data.db.execute("DELETE FROM monsal_states WHERE key = ? AND sender = ?", (key, sender))
        return StateValue()
    data.counters.version += 1
    version = data.counters.version
    value = (
        StateValue(name, version, before.entered, before.since)
        if name == before.state
        else StateValue(name, version, version, origin.now)
    )
    if before.version:
        data.db.execute(
            _UPDATE_STATE,
            (
                store_text(name),
                version,
                value.entered,
                value.since,
                store_text(change.reason),
                origin.message,
                key,
                sender,
            ),
        )
    else:
        data.db.execute(
            "INSERT INTO monsal_states VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                key,
                sender,
                store_text(name),
                version,
                value.entered,
                value.since,
                ROUTE_FIRST_STATE,
                store_text(change.reason),
                origin.message,
            ),
        )
    return value


def _write_history(data: Data, turn: TurnCommit, row: TurnRow) -> int:
    data.begin()
    data.counters.turn += 1
    data.db.execute(
        "INSERT INTO monsal_history VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            data.counters.turn,
            turn.message,
            store_text(row.handler),
            int(row.stateful),
            store_text(row.state.key),
            store_text(row.state.sender),
            store_text(row.before),
            store_text(row.after),
            store_text(row.note),
            float(turn.now),
            turn.fence.epoch,
            turn.fence.counter,
        ),
    )
    return data.counters.turn


def _write_outgoing(data: Data, turn: TurnCommit, mail: OutgoingMail, number: int, file: str | None) -> None:
    data.begin()
    body = insert_body(data, len(mail.body), None if file is not None else mail.body, file)
    token, message_id, sender = store_text(mail.token), store_text(mail.message_id), store_text(mail.sender)
    for recipient in dict.fromkeys(mail.recipients):
        data.counters.mail += 1
        data.db.execute(
            "INSERT INTO monsal_outbox VALUES (?, ?, ?, ?, ?, ?, ?, ?, 0, 0, ?, '', ?)",
            (
                data.counters.mail,
                number,
                turn.message,
                body,
                token,
                message_id,
                sender,
                store_text(recipient),
                float(mail.due),
                float(turn.now),
            ),
        )


def _write_timer(data: Data, turn: TurnCommit, timer: SetTimer, value: StateValue) -> None:
    data.begin()
    key, sender, target = store_text(timer.state.key), store_text(timer.state.sender), store_text(timer.target)
    if timer.due is None:
        data.db.execute("DELETE FROM monsal_timers WHERE key = ? AND sender = ? AND target = ?", (key, sender, target))
        return
    data.db.execute(
        _SET_TIMER,
        (
            key,
            sender,
            target,
            float(timer.due),
            value.entered,
            store_text(timer.recipient),
            store_text(timer.correspondent),
            store_text(timer.lease_key),
            turn.message,
        ),
    )


_STATUS_AFTER: Final = {"done": DONE, "dead": DEAD, "hold": HELD, "drop": DROPPED}


def _write_ack(data: Data, turn: TurnCommit, queue: Queue) -> Head | None:
    """Write what becomes of the row; the head of its queue from then on."""
    ack, row = turn.ack, turn.message
    more = int(turn.turn is not None)
    if ack.kind == "continue" or ack.kind == "again":
        if more:
            data.begin()
            data.db.execute("UPDATE monsal_spool SET turns = turns + 1 WHERE id = ?", (row,))
        return None if ack.kind == "continue" else data.head(queue.key)
    data.begin()
    if ack.kind == "done":
        data.db.execute("UPDATE monsal_spool SET status = 2, turns = turns + ? WHERE id = ?", (more, row))
    elif ack.kind == "defer":
        data.db.execute(_DEFER, (float(ack.due), store_text(ack.reason), more, row))
    elif ack.kind == "dead":
        bury(data, row, ack.reason, ack.detail, turn.now)
        data.db.execute("UPDATE monsal_spool SET turns = turns + ? WHERE id = ?", (more, row))
    else:
        data.db.execute(_LEAVE, (_STATUS_AFTER[ack.kind], store_text(ack.reason), more, row))
        if ack.kind == "hold":
            keep_detail(data, row, ack.detail, turn.now)
    # A queue of one row that leaves needs no look.
    leaves = ack.kind in ("done", "dead", "drop")
    return None if leaves and queue.count == 1 else data.head(queue.key)


# -- memory -----------------------------------------------------------------------------------------------------


def _remember(
    data: Data, turn: TurnCommit, queue: Queue, values: Mapping[StateKey, StateValue], head: Head | None
) -> None:
    for state, value in values.items():
        data.states.put(state, value)
    for mail in turn.outgoing:
        for _ in dict.fromkeys(mail.recipients):
            data.outgoing_moved(None, OUT_WAITING)
        data.undurable_mail = min(data.undurable_mail, mail.due)
    for timer in turn.timers:
        if timer.due is not None and timer.due < data.next_timer:
            data.next_timer = timer.due
            data.more_work = True
    ack: Ack = turn.ack
    if ack.kind == "continue":
        queue.turns += turn.turn is not None
        return
    after = _STATUS_AFTER.get(ack.kind)
    source = queue.source
    if data.schedule.settle(queue, removed=int(after is not None and after != HELD), head=head) or head is not None:
        data.more_work = True
    if after is not None:
        data.ledger.moved(source, WAITING, after)


_READ_HISTORY: Final[str] = "SELECT id, epoch, counter FROM monsal_history WHERE message = ? AND handler = ?"
# The state before is kept as long as the name stays (rule state.B6).
_UPDATE_STATE: Final[str] = (
    "UPDATE monsal_states SET previous = CASE WHEN state = ?1 THEN previous ELSE state END, state = ?1, version = ?2,"
    " entered = ?3, since = ?4, reason = ?5, message = ?6 WHERE key = ?7 AND sender = ?8"
)
_SET_TIMER: Final[str] = (
    "INSERT OR REPLACE INTO monsal_timers"
    " SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, sender, message_id, body, envelope FROM monsal_spool WHERE id = ?9"
)
_DEFER: Final[str] = (
    "UPDATE monsal_spool SET due = ?, attempts = attempts + 1, reason = ?, turns = turns + ? WHERE id = ?"
)
_LEAVE: Final[str] = "UPDATE monsal_spool SET status = ?, reason = ?, turns = turns + ? WHERE id = ?"
