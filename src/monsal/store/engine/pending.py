"""Rows of the open group that are not in the database yet. Pure: who writes them is an argument.

SQLite takes half as long for a row when the row before it was of the same table: its program, and the pages of the
table and its indexes, are then in the processor's caches. So what each mail and each turn make is kept here, table by
table, and written when the group is sealed, or before a statement could miss it (`Data.begin`, `Data.select`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

__all__ = ["ROW", "Pending", "Values", "Writes"]

Values = tuple[Any, ...]
#: Statements with their values, in their order.
Writes = list[tuple[str, Values]]

#: Octets after which rows are written though the group is open: of bodies, and what each row counts as beside them. It
#: bounds memory, and the time for which the loop writes without a pause: some 2,000 rows, 10 ms (P7).
_ROOM: Final = 1024 * 1024
ROW: Final = 512


class Pending:
    """The rows, by what is done with them; of the group, or of one operation that has not begun to write.

    Whoever adds to a list sets `waits`, and adds `ROW` to `octets` for each row where there may be many.

    `bodies`, `turns`, `mails` are new rows of monsal_bodies, monsal_history, monsal_outbox; `ends` are messages that
    are done, `left` outgoing rows that are sent or given up. `states` are the rows of monsal_states by their key, None
    for one that goes away: of several changes the last one counts. `others` are statements that are too seldom for a
    list of their own.
    """

    __slots__ = ("bodies", "ends", "left", "mails", "octets", "others", "states", "turns", "waits")

    def __init__(self) -> None:
        self.bodies: list[Values] = []
        self.turns: list[Values] = []
        self.mails: list[Values] = []
        self.left: list[Values] = []
        self.ends: list[Values] = []
        self.states: dict[tuple[str, str], Values | None] = {}
        self.others: Writes = []
        self.octets = 0
        self.waits = False

    def add_body(self, values: Values) -> None:
        """A new row of monsal_bodies: its id, the octets of the body, its content, or the file that has it."""
        self.bodies.append(values)
        self.octets += len(values[2] or b"")
        self.waits = True

    def take(self, rows: Pending) -> None:
        """Let the rows of one operation pend, after those that do. They are not used any more."""
        if not rows.waits:
            return
        self.waits = True
        self.octets += rows.octets
        if rows.bodies:
            self.bodies += rows.bodies
        if rows.turns:
            self.turns += rows.turns
        if rows.mails:
            self.mails += rows.mails
        if rows.left:
            self.left += rows.left
        if rows.ends:
            self.ends += rows.ends
        if rows.states:
            self.states.update(rows.states)
        if rows.others:
            self.others += rows.others

    @property
    def is_full(self) -> bool:
        """Whether there is so much that it should be written."""
        return self.octets > _ROOM

    def write(self, one: Callable[[str, Values], object], many: Callable[[str, Sequence[Values]], object]) -> None:
        """Write all rows: `one` runs a statement, `many` runs one for each of some values. Raises what they raise.

        After an error it is not known what was written: the group is to be undone.
        """
        if self.bodies:
            many(_INSERT_BODY, self.bodies)
        if self.turns:
            many(_INSERT_TURN, self.turns)
        if self.mails:
            many(_INSERT_MAIL, self.mails)
        if self.left:
            many(_LEAVE, self.left)
        if self.ends:
            many(_END, self.ends)
        if self.states:
            changed = [values for values in self.states.values() if values is not None]
            if changed:
                many(_PUT_STATE, changed)
            if len(changed) < len(self.states):
                many(_DROP_STATE, [key for key, values in self.states.items() if values is None])
        for sql, values in self.others:
            one(sql, values)
        self.clear()

    def clear(self) -> None:
        """Forget the rows: they are written, or were undone."""
        self.bodies.clear()
        self.turns.clear()
        self.mails.clear()
        self.left.clear()
        self.ends.clear()
        self.states.clear()
        self.others.clear()
        self.octets = 0
        self.waits = False


_INSERT_BODY: Final[str] = "INSERT INTO monsal_bodies VALUES (?, ?, ?, ?)"
_INSERT_TURN: Final[str] = "INSERT INTO monsal_history VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_INSERT_MAIL: Final[str] = "INSERT INTO monsal_outbox VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 0, ?, ?, ?)"
_LEAVE: Final[str] = "UPDATE monsal_outbox SET status = ?, attempts = attempts + ?, reason = ? WHERE id = ?"
_END: Final[str] = "UPDATE monsal_spool SET status = 2, turns = turns + ? WHERE id = ?"
_PUT_STATE: Final[str] = (
    "INSERT INTO monsal_states VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) ON CONFLICT (key, sender) DO UPDATE SET"
    " state = ?3, version = ?4, entered = ?5, since = ?6, previous = ?7, reason = ?8, message = ?9"
)
_DROP_STATE: Final[str] = "DELETE FROM monsal_states WHERE key = ? AND sender = ?"
