"""An operator's acts on the spool and on states. Each function is one operation on `Data`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from monsal.store.contract import StateChange, StateKey
from monsal.store.engine.codes import DEAD, DROPPED, HELD, WAITING
from monsal.store.engine.data import Data
from monsal.store.engine.identity import release_aside
from monsal.store.engine.pending import Pending
from monsal.store.engine.text import load_text, store_text, store_time
from monsal.store.engine.turns import Origin, change_state

__all__ = ["clear_states", "drop", "release", "rename_state", "replay", "set_all", "set_state"]

#: Kept with a state that no turn made.
_REASON: Final = "set by an operator"


def replay(data: Data, row: int, now: float) -> bool:
    """A dead letter waits again, in its old place in its queue; handlers that were done stay done."""
    found = data.select("SELECT lease_key, source FROM monsal_spool WHERE id = ? AND status = 3", (row,))
    if not found:
        return False
    lease_key, source = load_text(found[0][0]), found[0][1]
    data.begin()
    data.write(
        "UPDATE monsal_spool SET status = 0, attempts = 0, kills = 0, due = received, reason = NULL WHERE id = ?",
        (row,),
    )
    data.ledger.moved(source, DEAD, WAITING)
    _rejoin(data, lease_key, 1)
    return True


def drop(data: Data, row: int, now: float) -> bool:
    """A dead letter is given up for good."""
    found = data.select("SELECT source FROM monsal_spool WHERE id = ? AND status = 3", (row,))
    if not found:
        return False
    data.begin()
    data.write("UPDATE monsal_spool SET status = 4 WHERE id = ?", (row,))
    data.ledger.moved(found[0][0], DEAD, DROPPED)
    return True


def release(data: Data, lease_key: str, now: float) -> int:
    """The held rows of a queue wait again, as if they had never been tried."""
    if lease_key[:1] == "?" and lease_key[1:].isdecimal():
        return release_aside(data, int(lease_key[1:]))
    data.begin()
    sources = data.select(
        "UPDATE monsal_spool SET status = 0, attempts = 0, kills = 0, due = received"
        " WHERE lease_key = ? AND status = 1 RETURNING source",
        (store_text(lease_key),),
    )
    for (source,) in sources:
        data.ledger.moved(source, HELD, WAITING)
    if sources:
        _rejoin(data, lease_key, 0)
    return len(sources)


def _rejoin(data: Data, lease_key: str, added: int) -> None:
    head = data.head(lease_key)
    if head is not None:
        data.schedule.rejoin(lease_key, head, added)
        data.more_work = True


# -- states -----------------------------------------------------------------------------------------------------


def set_state(data: Data, state: StateKey, name: str, now: float) -> None:
    """Force a state; its timers die if its name changes, as with a turn."""
    _force(data, [StateChange(state, name, _REASON)], now)


def set_all(data: Data, sender: str, name: str, now: float) -> int:
    """Force every stored state of one correspondent that is another one."""
    rows = data.select(
        "SELECT key FROM monsal_states WHERE sender = ? AND state <> ?", (store_text(sender), store_text(name))
    )
    _force(data, [StateChange(StateKey(load_text(key), sender), name, _REASON) for (key,) in rows], now)
    return len(rows)


def _force(data: Data, changes: Sequence[StateChange], now: float) -> None:
    rows = Pending()
    now = store_time(now)
    values = {
        change.state: change_state(data, change, Origin(now, None, data.state(change.state)), rows)
        for change in changes
    }
    data.let_pend(rows)
    for state, value in values.items():
        data.states.put(state, value)


def rename_state(data: Data, key: str, old: str, new: str, after: str | None) -> tuple[int, str | None]:
    """A step of a renaming: its conversations stay where they are, under the new name, and so do their timers.

    It begins after the correspondent `after` (as it is stored), None is before all. How many were renamed, and after
    whom the next step begins (None: that was the last one).
    """
    stored = store_text(key)
    rows = data.select(_IN_STATE, (stored, after, store_text(old), _STEP))
    if old == new or not rows:
        return 0, None
    data.begin()
    for (sender,) in rows:
        data.counters.version += 1
        data.write(_RENAME, (store_text(new), data.counters.version, stored, sender))
    for (sender,) in rows:
        data.states.drop(StateKey(key, load_text(sender)))
    return len(rows), rows[-1][0] if len(rows) == _STEP else None


def clear_states(data: Data) -> None:
    """Forget all states and their timers."""
    data.begin()
    data.write("DELETE FROM monsal_states")
    data.write("DELETE FROM monsal_timers")
    data.states.clear()
    data.look_for_timers()


#: Conversations of one step: a few milliseconds, for mail waits meanwhile (P7).
_STEP: Final = 500
_IN_STATE: Final = (
    "SELECT sender FROM monsal_states WHERE key = ?1 AND sender >= ifnull(?2, '')"
    " AND sender IS NOT ?2 AND state = ?3 ORDER BY sender LIMIT ?4"
)
# `entered` stays, because a timer is bound to it; the version grows, so that a turn under way meets a Conflict.
_RENAME: Final = "UPDATE monsal_states SET state = ?, version = ? WHERE key = ? AND sender = ?"
