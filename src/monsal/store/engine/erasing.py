"""To erase one correspondent. The ledger still balances: what was not handled counts as dropped (P4).

What there is of somebody is asked for on a reading connection, because nothing is indexed by correspondent; the
operations here then take away what was found, some rows at a time, each step by itself as whole as any other commit.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

from monsal.store.contract import StateKey
from monsal.store.engine.codes import DEAD, DROPPED, HELD, OUT_FAILED, OUT_SENT, SOURCE_CODES, WAITING
from monsal.store.engine.data import Data
from monsal.store.engine.pruning import forget_bodies
from monsal.store.engine.text import load_text, store_text

__all__ = ["COUNT", "MAILS", "MESSAGES", "Taken", "erase_mails", "erase_messages", "erase_states"]

What = TypeVar("What")

#: The ids of what came from somebody, and of what goes to them.
#: A report about them, or in a conversation with them, comes from a machine and is about nobody else.
_THEIRS: Final = (
    "(correspondent = ?1 OR id IN (SELECT message FROM monsal_bounces WHERE address = ?1)"
    f" OR (source = {SOURCE_CODES['bounce']} AND id IN (SELECT message FROM monsal_history WHERE sender = ?1)))"
)
MESSAGES: Final = f"SELECT id FROM monsal_spool WHERE {_THEIRS} ORDER BY id"
MAILS: Final = "SELECT id FROM monsal_outbox WHERE recipient = ? COLLATE NOCASE ORDER BY id"
#: messages, unhandled, turns, mails, unsent, states, timers, elsewhere.
COUNT: Final = (
    "SELECT count(*), ifnull(sum(status IN (0, 1, 3)), 0),"
    f" (SELECT count(*) FROM monsal_history WHERE message IN (SELECT id FROM monsal_spool WHERE {_THEIRS})),"
    " (SELECT count(*) FROM monsal_outbox WHERE recipient = ?1 COLLATE NOCASE),"
    " (SELECT count(*) FROM monsal_outbox WHERE recipient = ?1 COLLATE NOCASE AND status < 2),"
    " (SELECT count(*) FROM monsal_states WHERE sender = ?1),"
    " (SELECT count(*) FROM monsal_timers WHERE sender = ?1 OR correspondent = ?1),"
    " (SELECT count(*) FROM monsal_outbox WHERE recipient <> ?1 COLLATE NOCASE"
    "  AND message IN (SELECT id FROM monsal_spool WHERE correspondent = ?1))"
    f" FROM monsal_spool WHERE {_THEIRS}"
)
_TIMERS: Final = "SELECT key, sender, target, body FROM monsal_timers WHERE sender = ?1 OR correspondent = ?1"


def _overwriting(step: Callable[[Data, What], Taken]) -> Callable[[Data, What], Taken]:
    """Have SQLite write zeros over what a step deletes: else it stays there until its place is needed."""

    @functools.wraps(step)
    def run(data: Data, what: What) -> Taken:
        data.select("PRAGMA secure_delete = ON")
        try:
            return step(data, what)
        finally:
            data.select("PRAGMA secure_delete = FAST")

    return run


class Taken:
    """What one step took away, with the files of large bodies that can be removed now."""

    __slots__ = ("bodies", "busy", "files", "open", "rows", "turns")

    def __init__(self) -> None:
        self.rows = self.open = self.turns = self.bodies = self.busy = 0
        self.files: list[str] = []


@_overwriting
def erase_messages(data: Data, rows: Sequence[int]) -> Taken:
    """Take messages away with their turns and bodies. One that runs stays: its commit needs the row."""
    taken = Taken()
    bodies: set[int] = set()
    running = data.schedule.running_rows()
    for row in rows:
        if row in running:
            taken.busy += 1
            continue
        found = data.select("SELECT status, source, body, lease_key FROM monsal_spool WHERE id = ?", (row,))
        if not found:
            continue
        status, source, body, lease_key = found[0]
        data.begin()
        data.write("DELETE FROM monsal_history WHERE message = ?", (row,))
        taken.turns += data.writer.db.changes()
        data.write("DELETE FROM monsal_failures WHERE message = ?", (row,))
        data.write("DELETE FROM monsal_aside WHERE message = ?", (row,))
        data.write("DELETE FROM monsal_bounces WHERE message = ?", (row,))
        data.write("DELETE FROM monsal_spool WHERE id = ?", (row,))
        taken.rows += 1
        bodies.add(body)
        if status in (WAITING, HELD, DEAD):
            taken.open += 1
            data.ledger.moved(source, status, DROPPED)
        if status in (WAITING, HELD):
            data.fresh.pop(row)
            _leave_queue(data, load_text(lease_key))
    taken.bodies, taken.files = forget_bodies(data, bodies)
    return taken


def _leave_queue(data: Data, lease_key: str) -> None:
    """A row left its queue without having been claimed; a lease on another row of it stays."""
    schedule = data.schedule
    queue, head = schedule.queues[lease_key], data.head(lease_key)
    if queue.counter and head is not None:
        schedule.rejoin(lease_key, head, -1)
    elif schedule.settle(queue, removed=1, head=head):
        data.more_work = True


@_overwriting
def erase_mails(data: Data, rows: Sequence[int]) -> Taken:
    """Take outgoing mails away; what has not left never does. One that is being sent stays."""
    taken = Taken()
    bodies: set[int] = set()
    for row in rows:
        if row in data.sending:
            taken.busy += 1
            continue
        found = data.select("SELECT status, mail FROM monsal_outbox WHERE id = ?", (row,))
        if not found:
            continue
        status, body = found[0]
        data.begin()
        data.write("DELETE FROM monsal_outbox WHERE id = ?", (row,))
        data.fresh_mail.pop(row)
        taken.rows += 1
        bodies.add(body)
        if status not in (OUT_SENT, OUT_FAILED):
            taken.open += 1
            data.outgoing_moved(status, OUT_FAILED)
    taken.bodies, taken.files = forget_bodies(data, bodies)
    return taken


@_overwriting
def erase_states(data: Data, sender: str) -> Taken:
    """Take the states of a correspondent away, and all timers that carry a message of theirs: `rows` are states,
    `open` timers. A turn that read one of the states meets a Conflict and runs again."""
    taken = Taken()
    stored = store_text(sender)
    if data.select("SELECT 1 FROM monsal_bounces WHERE address = ? LIMIT 1", (stored,)):
        # That they are not written to any more (monsal_suppressed) stays: it is what keeps mail away from them.
        data.begin()
        data.write("DELETE FROM monsal_bounces WHERE address = ?", (stored,))
    timers = data.select(_TIMERS, (stored,))
    keys = data.select("SELECT key FROM monsal_states WHERE sender = ?", (stored,))
    if not timers and not keys:
        return taken
    data.begin()
    for key, of, target, _ in timers:
        data.write("DELETE FROM monsal_timers WHERE key = ? AND sender = ? AND target = ?", (key, of, target))
    for (key,) in keys:
        data.write("DELETE FROM monsal_states WHERE key = ? AND sender = ?", (key, stored))
    for (key,) in keys:
        data.states.drop(StateKey(load_text(key), sender))
    taken.rows, taken.open = len(keys), len(timers)
    taken.bodies, taken.files = forget_bodies(data, {body for *_, body in timers})
    return taken
