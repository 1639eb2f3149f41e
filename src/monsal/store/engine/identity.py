"""What a turn does about who somebody is: capabilities that are used up, messages that wait for a confirmation.

Parts of the operations in `turns.py` and `spool.py`. A row that stands aside is held, in a queue that has its own name
(`?` and its id); when it is released it goes back to the queue it came from, to the place that its id gives it.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from monsal.store.contract import TurnCommit
from monsal.store.engine.codes import DROPPED, HELD, WAITING
from monsal.store.engine.data import Data
from monsal.store.engine.pending import Writes
from monsal.store.engine.schedule import Head
from monsal.store.engine.text import load_text, store_text, store_time
from monsal.store.identity import ASKED, KEEP_USED, Aside

__all__ = ["expire_aside", "is_refused", "plan_identity", "release_aside", "remember_identity"]

#: Seconds for which a used capability is kept longer than has to be known: a clock may be set back by less.
_SLACK: Final = 7 * 86400.0
#: Seconds within which questions are counted.
_HOUR: Final = 3600.0
#: Used capabilities that are forgotten at a time, by a turn that uses one.
_FORGET: Final = 20


def _own_queue(message: int) -> str:
    """The queue of a row that waits for a confirmation."""
    return f"?{message}"


def is_refused(data: Data, turn: TurnCommit) -> bool:
    """Whether something has changed since the turn looked: a capability was used, a message is not waiting any more,
    too many wait or too many were asked. It is told as a Conflict, so the turn looks again."""
    identity = turn.identity
    if identity is None:
        return False
    for item in identity.consumes:
        used = data.select("SELECT message FROM monsal_consumed WHERE token = ?", (store_text(item.token),))
        if used and used[0][0] != turn.message:
            return True
    for released in identity.releases:
        if not data.select(_IS_ASIDE, (released.message,)):
            return True
    aside = identity.aside
    if aside is None:
        return False
    if aside.hourly is not None and len(_questions(data, turn.now, aside)) >= aside.hourly:
        return True
    waiting = data.select(_COUNT_ASIDE, (store_text(aside.correspondent), turn.message))
    return bool(waiting[0][0] >= aside.limit)


def _questions(data: Data, now: float, aside: Aside) -> deque[float]:
    """When people were asked within the hour before `now`, the oldest first: no more times than may be asked.

    After a restart they are those of the rows that still wait: whoever has answered was worth the question.
    """
    if data.questions is None:
        within = aside.until - now
        rows = data.select(_ASKED, (store_time(aside.until - _HOUR), f"{ASKED}%", aside.hourly))
        data.questions = deque(sorted(expires - within for (expires,) in rows))
    while data.questions and data.questions[0] <= now - _HOUR:
        data.questions.popleft()
    return data.questions


def plan_identity(turn: TurnCommit, writes: Writes) -> None:
    """The statements; what they rest on was seen by `is_refused`."""
    identity = turn.identity
    if identity is None:
        return
    for item in identity.consumes:
        writes.append((_FORGET_CONSUMED, (store_time(turn.now), _FORGET)))
        expires = store_time(item.expires + KEEP_USED + _SLACK)
        writes.append((_CONSUME, (store_text(item.token), turn.message, expires)))
    if identity.envelope is not None:
        writes.append(("UPDATE monsal_spool SET envelope = ? WHERE id = ?", (bytes(identity.envelope), turn.message)))
    for released in identity.releases:
        row = released.message
        writes.append((_RELEASE, (bytes(released.envelope), row)))
        writes.append(("DELETE FROM monsal_aside WHERE message = ?", (row,)))
        writes.append(("DELETE FROM monsal_failures WHERE message = ? AND status = 1", (row,)))
    if identity.aside is not None:
        aside = identity.aside
        values = (turn.message, store_text(aside.correspondent), store_text(turn.lease_key), store_time(aside.until))
        writes.append(("INSERT OR REPLACE INTO monsal_aside VALUES (?, ?, ?, ?)", values))
        writes.append(("UPDATE monsal_spool SET lease_key = ? WHERE id = ?", (_own_queue(turn.message), turn.message)))


def remember_identity(data: Data, turn: TurnCommit) -> None:
    """Memory follows what `plan_identity` wrote; before the turn's own queue is settled."""
    identity = turn.identity
    if identity is None:
        return
    for released in identity.releases:
        _rejoin(data, released.message)
    if identity.aside is not None:
        data.schedule.restore(_own_queue(turn.message), 1, Head(turn.message, 0.0, True))
        data.next_timer = min(data.next_timer, store_time(identity.aside.until))
        if identity.aside.hourly is not None:
            _questions(data, turn.now, identity.aside).append(turn.now)


def expire_aside(data: Data, now: float, limit: int) -> None:
    """Drop up to `limit` messages that nobody confirmed in time."""
    rows = data.select(_EXPIRED, (store_time(now), limit))
    if not rows:
        return
    data.begin()
    for row, source in rows:
        data.write("DELETE FROM monsal_aside WHERE message = ?", (row,))
        if source is None:
            continue
        data.write("UPDATE monsal_spool SET status = 4, reason = ? WHERE id = ?", (_TOO_LATE, row))
        _leave_aside(data, row)
        data.ledger.moved(source, HELD, DROPPED)


def release_aside(data: Data, row: int) -> int:
    """An operator has a row that stands aside looked at again, in its old queue; 1 if it does stand aside."""
    if not data.select(_IS_ASIDE, (row,)):
        return 0
    data.begin()
    data.write(_RELEASE, (None, row))
    data.write("DELETE FROM monsal_aside WHERE message = ?", (row,))
    _rejoin(data, row)
    return 1


def _rejoin(data: Data, row: int) -> None:
    """A row that was released: out of its own queue, into the one it came from."""
    lease_key, source = data.select("SELECT lease_key, source FROM monsal_spool WHERE id = ?", (row,))[0]
    _leave_aside(data, row)
    data.ledger.moved(source, HELD, WAITING)
    head = data.head(load_text(lease_key))
    if head is not None:
        data.schedule.rejoin(load_text(lease_key), head, 1)
        data.more_work = True


def _leave_aside(data: Data, row: int) -> None:
    key = _own_queue(row)
    queue = data.schedule.queues.get(key)
    # What came back for a mail that the row sent before waits there, too.
    if queue is not None and data.schedule.settle(queue, removed=1, head=None if queue.count == 1 else data.head(key)):
        data.more_work = True


_TOO_LATE: Final = "not_authenticated: its sender did not confirm it in time"
_IS_ASIDE: Final = (
    "SELECT 1 FROM monsal_aside a JOIN monsal_spool s ON s.id = a.message WHERE a.message = ? AND s.status = 1"
)
_COUNT_ASIDE: Final = "SELECT count(*) FROM monsal_aside WHERE correspondent = ? AND message <> ?"
_ASKED: Final = (
    "SELECT a.expires FROM monsal_aside a JOIN monsal_spool s ON s.id = a.message"
    " WHERE a.expires > ? AND s.reason LIKE ? ORDER BY a.expires DESC LIMIT ?"
)
_FORGET_CONSUMED: Final = (
    "DELETE FROM monsal_consumed WHERE token IN"
    " (SELECT token FROM monsal_consumed WHERE expires < ? ORDER BY expires LIMIT ?)"
)
_CONSUME: Final = "INSERT OR IGNORE INTO monsal_consumed VALUES (?, ?, ?)"
_RELEASE: Final = (
    "UPDATE monsal_spool SET status = 0, attempts = 0, kills = 0, due = received, reason = NULL,"
    " envelope = coalesce(?1, envelope), "
    " lease_key = (SELECT lease_key FROM monsal_aside WHERE message = ?2) WHERE id = ?2"
)
# A row that somebody released by hand is not held any more: only its entry is in the way.
_EXPIRED: Final = (
    "SELECT a.message, CASE s.status WHEN 1 THEN s.source END FROM monsal_aside a"
    " LEFT JOIN monsal_spool s ON s.id = a.message WHERE a.expires <= ? ORDER BY a.expires LIMIT ?"
)
