"""One turn, one commit (P2): state, history, outgoing mail, timers and what becomes of the message.

`commit` is one operation on `Data`: first everything is checked and planned, then written, then memory follows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from monsal.errors import StatementError
from monsal.store.contract import (
    ROUTE_FIRST_STATE,
    Ack,
    Applied,
    CommitResult,
    Conflict,
    Expected,
    Fenced,
    Outgoing,
    OutgoingMail,
    SetTimer,
    StateChange,
    StateKey,
    StateValue,
    TurnCommit,
    TurnRow,
)
from monsal.store.engine.bodies import Filed
from monsal.store.engine.codes import DEAD, DONE, DROPPED, HELD, OUT_FAILED, OUT_WAITING, WAITING
from monsal.store.engine.data import Data
from monsal.store.engine.identity import is_refused, plan_identity, remember_identity
from monsal.store.engine.pending import ROW, Pending, Values
from monsal.store.engine.returned import note_bounced
from monsal.store.engine.schedule import FOLLOWING, Head, Queue
from monsal.store.engine.spool import failure
from monsal.store.engine.text import store_text, store_time
from monsal.store.engine.writer import Occupied

__all__ = ["Filing", "Origin", "change_state", "commit"]

_NEVER = float("inf")


def commit(data: Data, turn: TurnCommit, files: dict[str, Filed]) -> CommitResult:
    """Apply a turn. `files` holds its large outgoing bodies: token of the mail -> the file. What is left in
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
    if stale or is_refused(data, turn):
        return Conflict(stale)
    if data.writer.flushing:
        _see_to_memory(data, turn, queue)
    last_body, last_mail = data.counters.body, data.counters.mail
    rows = Pending()
    number, values = _plan(data, turn, files, rows)
    if turn.statements:
        _run_statements(data, turn)
    data.let_pend(rows)
    _post(data, turn, files, last_body, last_mail)
    remember_identity(data, turn)
    heads = _heads_after(data, turn, queue)
    _remember(data, turn, queue, values, heads[0] if heads else None)
    if len(heads) > 1:
        queue.follow(heads[1:])
    if turn.bounced:
        note_bounced(data, turn)
    return Applied(number)


def _see_to_memory(data: Data, turn: TurnCommit, queue: Queue) -> None:
    """See, before anything is changed, whether the turn can be applied while a group is being flushed.

    Raises Occupied if it needs the connection.
    """
    if turn.statements or turn.bounced or turn.identity is not None or not _is_next_known(turn, queue):
        raise Occupied("the turn reads or writes more than its own rows")
    for change in turn.changes:
        data.state(change.state)
    for timer in turn.timers:
        data.state(timer.state)


def _run_statements(data: Data, turn: TurnCommit) -> None:
    """Run the application's statements. A turn that was stopped in them is refused when it comes again: else its
    message would be claimed and break the store for ever, because it never counts as a failure of its own (P7)."""
    guard = data.guard
    if turn.message in guard.overdue:
        guard.overdue.discard(turn.message)
        raise StatementError("a statement of this turn took too long when it was tried before, and was stopped")
    data.begin_with_care()
    for statement in turn.statements:
        try:
            guard.turn(data.writer.db, statement.sql, statement.params)
        except StatementError:
            if not data.writer.db.in_transaction:
                guard.overdue.add(turn.message)
            raise


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


# -- what is to be written --------------------------------------------------------------------------------------
# All values are made before the first of them is written: what is wrong with a commit is found while nothing is.


def _plan(
    data: Data, turn: TurnCommit, files: Mapping[str, Filed], rows: Pending
) -> tuple[int, dict[StateKey, StateValue]]:
    """The id of the turn's history row and the new values of states; `rows` gets what is to be written."""
    now = store_time(turn.now)
    values: dict[StateKey, StateValue] = {}
    for change in turn.changes:
        before = values.get(change.state) or data.state(change.state)
        values[change.state] = change_state(data, change, Origin(now, turn.message, before), rows)
    number = 0
    if turn.turn is not None:
        number = data.counters.turn = data.counters.turn + 1
        rows.turns.append(_history(turn, turn.turn, number, now, _kept_back(data, turn)))
        rows.waits = True
    for mail in turn.outgoing:
        _plan_outgoing(data, turn, mail, Filing(number, now, files.get(mail.token)), rows)
    others = rows.others
    for timer in turn.timers:
        others.append(_timer(turn, timer, values.get(timer.state) or data.state(timer.state)))
    _plan_ack(turn, now, rows)
    plan_identity(turn, others)
    if others:
        rows.waits = True
    return number, values


class Origin(NamedTuple):
    """When and by which message (None: an operator) a state is changed, and what it was before."""

    now: float
    message: int | None
    before: StateValue


def change_state(data: Data, change: StateChange, origin: Origin, rows: Pending) -> StateValue:
    """The new value of a state, which the caller notes in memory when `rows` pend."""
    key = store_text(change.state.key), store_text(change.state.sender)
    now, message, before = origin
    name, reason = store_text(change.name), store_text(change.reason)
    stays = change.name == before.state or (change.renames and before.version > 0)
    # What it waited for belongs to the state that it leaves (rule state.B15). With no due time there is no timer.
    if not stays and data.next_timer != _NEVER:
        rows.others.append(("DELETE FROM monsal_timers WHERE key = ? AND sender = ?", key))
        rows.waits = True
    if change.name == ROUTE_FIRST_STATE:
        if before.version or key in rows.states:
            rows.states[key] = None
            rows.waits = True
        return StateValue()
    version = data.counters.version = data.counters.version + 1
    if stays:
        value = StateValue(change.name, version, before.entered, before.since, before.previous)
    else:
        value = StateValue(change.name, version, version, now, before.state)
    # The state before is kept as long as the state stays (rule state.B6).
    former = store_text(value.previous)
    rows.states[key] = (*key, name, version, value.entered, value.since, former, reason, message)
    rows.waits = True
    return value


def _kept_back(data: Data, turn: TurnCommit) -> list[str]:
    """Notes of the mails that are not sent, because their addresses are suppressed."""
    if data.suppressed.is_empty:
        return []
    return [
        f"mail to {recipient} suppressed: {why}"
        for mail in turn.outgoing
        if not mail.forced
        for recipient in dict.fromkeys(mail.recipients)
        if (why := data.suppressed.why(recipient, turn.now)) is not None
    ]


def _history(turn: TurnCommit, row: TurnRow, number: int, now: float, notes: Sequence[str]) -> Values:
    note = "; ".join([row.note, *notes] if row.note else notes) if notes else row.note
    return (
        number,
        turn.message,
        store_text(row.handler),
        int(row.stateful),
        store_text(row.state.key),
        store_text(row.state.sender),
        store_text(row.before),
        store_text(row.after),
        store_text(note),
        now,
        turn.fence.epoch,
        turn.fence.counter,
    )


class Filing(NamedTuple):
    """Where an outgoing mail belongs: the turn's number, the time, and the file of its body if it is large."""

    turn: int
    now: float
    file: Filed | None


def _plan_outgoing(data: Data, turn: TurnCommit, mail: OutgoingMail, filing: Filing, rows: Pending) -> None:
    number, now, file = filing
    counters = data.counters
    body = counters.body = counters.body + 1
    kept = (len(mail.body), bytes(mail.body), None) if file is None else (file.size, None, file.token)
    rows.add_body((body, *kept))
    token, message_id, sender = store_text(mail.token), store_text(mail.message_id), store_text(mail.sender)
    due = store_time(mail.due)
    for recipient in dict.fromkeys(mail.recipients):
        row = counters.mail = counters.mail + 1
        why = None if mail.forced else data.suppressed.why(recipient, turn.now)
        status, reason = (OUT_WAITING, "") if why is None else (OUT_FAILED, store_text(f"suppressed: {why}"))
        to = store_text(recipient)
        rows.octets += ROW
        rows.mails.append((row, number, turn.message, body, token, message_id, sender, to, status, due, reason, now))


def _timer(turn: TurnCommit, timer: SetTimer, value: StateValue) -> tuple[str, Values]:
    key, sender, target = store_text(timer.state.key), store_text(timer.state.sender), store_text(timer.target)
    if timer.due is None:
        return "DELETE FROM monsal_timers WHERE key = ? AND sender = ? AND target = ?", (key, sender, target)
    return _SET_TIMER, (
        key,
        sender,
        target,
        store_time(timer.due),
        value.entered,
        store_text(timer.recipient),
        store_text(timer.correspondent),
        store_text(timer.lease_key),
        turn.message,
    )


_STATUS_AFTER: Final = {"done": DONE, "dead": DEAD, "hold": HELD, "aside": HELD, "drop": DROPPED}


def _plan_ack(turn: TurnCommit, now: float, rows: Pending) -> None:
    """What becomes of the row."""
    ack, row, others = turn.ack, turn.message, rows.others
    more = int(turn.turn is not None)
    if ack.kind == "done":
        rows.ends.append((more, row))
        rows.waits = True
    elif ack.kind == "continue" or ack.kind == "again":
        if more:
            others.append(("UPDATE monsal_spool SET turns = turns + 1 WHERE id = ?", (row,)))
    elif ack.kind == "defer":
        others.append((_DEFER, (store_time(ack.due), store_text(ack.reason), more, row)))
    else:
        status, reason = _STATUS_AFTER[ack.kind], store_text(ack.reason)
        others.append((_LEAVE, (status, reason, more, int(ack.tried), row)))
        if ack.kind != "drop":
            others += failure(row, status, now, reason, store_text(ack.detail))


# -- memory -----------------------------------------------------------------------------------------------------


#: What becomes of a row that leaves its queue.
_LEAVES: Final = frozenset(("done", "dead", "aside", "drop"))


def _is_next_known(turn: TurnCommit, queue: Queue) -> bool:
    """Whether `_heads_after` knows without the table."""
    kind = turn.ack.kind
    return kind == "continue" or (kind in _LEAVES and (queue.count == 1 or bool(queue.following)))


def _heads_after(data: Data, turn: TurnCommit, queue: Queue) -> list[Head]:
    """The head of the queue from now on, and what was read of the rows after it; none if it has no row left, or keeps
    its lease."""
    if not _is_next_known(turn, queue):
        return data.heads(queue.key, 1 + FOLLOWING)
    if turn.ack.kind == "continue" or queue.count == 1:
        return []
    return [Head(queue.following[0], 0.0, False)]


def _post(data: Data, turn: TurnCommit, files: dict[str, Filed], body: int, row: int) -> None:
    """Count the turn's mails, and keep what may leave at once for whoever takes it.

    `body` and `row` are the last ids before it; `_plan` has numbered what came after them.
    """
    for mail in turn.outgoing:
        body += 1
        is_fresh = files.pop(mail.token, None) is None and mail.due <= turn.now
        for recipient in dict.fromkeys(mail.recipients):
            row += 1
            if not mail.forced and data.suppressed.why(recipient, turn.now) is not None:
                data.outgoing_moved(None, OUT_FAILED)
                continue
            data.outgoing_moved(None, OUT_WAITING)
            if not is_fresh or not data.fresh_mail.put(_outgoing(turn, mail, recipient, body, row), mail.due):
                data.undurable_mail = min(data.undurable_mail, mail.due)


def _outgoing(turn: TurnCommit, mail: OutgoingMail, recipient: str, body: int, row: int) -> Outgoing:
    return Outgoing(
        id=row,
        mail=body,
        sender=mail.sender,
        recipient=recipient,
        message_id=mail.message_id,
        attempts=0,
        created=turn.now,
        body=bytes(mail.body),
    )


def _remember(
    data: Data, turn: TurnCommit, queue: Queue, values: Mapping[StateKey, StateValue], head: Head | None
) -> None:
    for state, value in values.items():
        data.states.put(state, value)
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
    leaves = after is not None and ack.kind != "hold"
    if data.schedule.settle(queue, removed=int(leaves), head=head) or head is not None:
        data.more_work = True
    if after is not None:
        data.ledger.moved(source, WAITING, after)


_READ_HISTORY: Final[str] = "SELECT id, epoch, counter FROM monsal_history WHERE message = ? AND handler = ?"
_SET_TIMER: Final[str] = (
    "INSERT OR REPLACE INTO monsal_timers"
    " SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, sender, message_id, body, envelope FROM monsal_spool WHERE id = ?9"
)
_DEFER: Final[str] = (
    "UPDATE monsal_spool SET due = ?, attempts = attempts + 1, reason = ?, turns = turns + ? WHERE id = ?"
)
_LEAVE: Final[str] = (
    "UPDATE monsal_spool SET status = ?, reason = ?, turns = turns + ?, attempts = attempts + ? WHERE id = ?"
)
