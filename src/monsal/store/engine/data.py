"""An open store: its connection, and what it keeps in memory beside it.

Whoever is to touch it is decided by `core.Core`; everything here is plain and synchronous. Memory follows the file:
an operation changes the database first and then, when nothing can fail any more, what is here. After an error of the
disk all of it is thrown away and read anew.

From `hand_over` to `take_back` a thread has the connection, to flush the group that was sealed. What is in memory stays
the loop's: an operation that adds rows to those that pend belongs to the next group already. One that needs the
connection raises Occupied before it has changed anything (`Writer`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

import apsw
import msgspec

from monsal.errors import StoreCorrupt
from monsal.store.contract import StateKey, StateValue
from monsal.store.engine.arrivals import Arrival, write_arrivals
from monsal.store.engine.bodies import BodyFiles
from monsal.store.engine.cache import StateCache
from monsal.store.engine.codes import HELD
from monsal.store.engine.database import Guard, is_own_fault, select
from monsal.store.engine.fresh import Fresh, FreshMail
from monsal.store.engine.pending import ROW, Pending
from monsal.store.engine.place import EngineSettings, Place
from monsal.store.engine.schedule import Head, Schedule
from monsal.store.engine.suppressed import Suppressed
from monsal.store.engine.tally import Counters, Tally
from monsal.store.engine.text import load_text, store_text
from monsal.store.engine.writer import Locked, Occupied, Writer

__all__ = ["Data", "flushed_group"]

_NEVER = float("inf")

T = TypeVar("T")


class Data:
    """The open store. `load` makes one."""

    def __init__(self, db: apsw.Connection, place: Place, settings: EngineSettings, epoch: int, secret: bytes) -> None:
        self.writer = writer = Writer(db)
        self.write, self.write_all = writer.write, writer.write_all
        self.settings = settings
        self.epoch = epoch
        self.secret = secret
        self.guard: Guard = place.guard
        self.bodies: BodyFiles | None = place.bodies
        self.schedule = Schedule()
        self.states = StateCache(settings.cached_states)
        self.fresh = Fresh(settings.fresh_bytes)
        self.fresh_mail = FreshMail(settings.fresh_bytes)
        self.suppressed = Suppressed()
        self.counters = Counters(0, 0, 0, 0, 0)
        self.ledger = Tally([])
        #: When somebody was asked to confirm a message, within the last hour; None until it is read.
        self.questions: deque[float] | None = None
        self.outbox_counts = [0, 0, 0, 0]
        self.pending = Pending()
        self.arrivals: list[Arrival] = []
        #: Outgoing rows that were taken, with their status on the disk.
        self.sending: dict[int, int] = {}
        #: Rows of the spool up to this id are on the disk; and those that are when the flush is over.
        self.durable_row = self._sealed_row = 0
        #: The same for outgoing rows.
        self.durable_mail = self._sealed_mail = 0
        #: No timer, no message that stands aside, and no outgoing row that is neither being sent nor in `fresh_mail`,
        #: is due before these; they may be too early.
        self.next_timer = _NEVER
        self.next_mail = _NEVER
        #: The same for rows that are not on the disk yet.
        self.undurable_mail = self._sealed_due = _NEVER
        #: Rows of the spool and the outbox, and bodies, up to these ids were looked at for pruning.
        self.pruned_to = [0, 0, 0]
        #: Told to those who wait for work, or for outgoing mail, when the operation is over or on the disk.
        self.more_work = False
        self.more_mail = False
        #: Large bodies without a mail that the opening left, because their mail may still come.
        self.young_bodies = 0
        self.group = 0
        self.dirty = False
        self.wal_pages = 0
        #: False after an error that leaves the open group half-done.
        self.is_sound = True
        self._is_writing = False
        self._has_savepoint = False

    @classmethod
    def load(cls, db: apsw.Connection, place: Place, settings: EngineSettings) -> Data:
        """Commit a new epoch, then read what is there."""
        found = select(db, "UPDATE monsal_meta SET epoch = epoch + 1 RETURNING *")
        if not found:
            raise StoreCorrupt(f"{place.name} has lost its own record; restore it from a backup")
        _, secret, epoch, flushed, version, body, row, turn, mail, ledger, outbox = found[0]
        data = cls(db, place, settings, epoch, secret)
        data.group = flushed
        data.counters = Counters(version, body, row, turn, mail)
        data.durable_row, data.durable_mail = row, mail
        data.ledger = Tally(msgspec.json.decode(ledger, type=list[list[int]]))
        data.outbox_counts = msgspec.json.decode(outbox, type=list[int])
        db.set_wal_hook(data._note_wal)
        # From here on the loop owns it, and must not wait: it has the sockets (P7).
        db.set_busy_timeout(0)
        data._load_queues()
        data._load_dues()
        return data

    # -- transactions -----------------------------------------------------------------------------------------

    def open_group(self) -> None:
        """Right before an operation adds the first of its rows to `pending`, or changes rows that are on the disk.

        What an operation writes cannot fail: all its values are checked. Should it fail all the same, the whole group
        is undone. Raises Locked, and nothing is done, if another program writes. While a group is being flushed the
        next one is opened in memory only, and its transaction is begun when that is over.
        """
        if not self.dirty:
            # Before BEGIN: an interrupt right after it leaves a transaction that nobody knows of.
            self._is_writing = True
            try:
                if not self.writer.flushing:
                    self.writer.begin()
            except Locked:
                self._is_writing = False
                raise
            self.dirty = True
            self.group += 1
        self._is_writing = True

    def begin(self) -> None:
        """The same before statements that are run at once: they find the rows that pended. Raises Occupied, too."""
        if self.writer.flushing:
            raise Occupied("a group is being flushed")
        self.open_group()
        if self.pending.waits:
            self.write_pending()

    def begin_with_care(self) -> None:
        """The same for an operation that can fail half-way: it alone is undone then.

        A savepoint costs as much as two rows, because SQLite copies each page that is changed after it.
        """
        self.begin()
        if not self._has_savepoint:
            self.write("SAVEPOINT op")
            self._has_savepoint = True

    def let_pend(self, rows: Pending) -> None:
        """Let all that an operation writes pend, if it is anything. Raises Locked, and nothing is done."""
        if rows.waits:
            self.open_group()
            self.pending.take(rows)
            if self.pending.is_full and not self.writer.flushing:
                self.write_pending()

    def let_arrive(self, arrival: Arrival) -> None:
        """Let the rows of a mail pend; the group is open."""
        self.arrivals.append(arrival)
        # It may be claimed: whoever does that has the rows written first; after the flush, if there is one.
        self.more_work = self.more_work or not self.writer.flushing
        pending = self.pending
        pending.waits = True
        pending.octets += len(arrival.raw or b"") + ROW * len(arrival.rows)
        if pending.is_full and not self.writer.flushing:
            self.write_pending()

    def write_arrivals(self) -> None:
        """Write the rows of mails that pend, and count them in. Raises Occupied, and as `write_pending`."""
        arrivals = self.arrivals
        if not arrivals:
            return
        cursor = self.writer.cursor
        try:
            write_arrivals(cursor, arrivals, self.settings.duplicates_for)
            for arrival in arrivals:
                self._arrived(arrival)
        except BaseException:
            self.is_sound = False
            raise
        arrivals.clear()

    def _arrived(self, arrival: Arrival) -> None:
        """The rows of a mail are written: memory follows. Its body pends on."""
        mail, source, known, raw = arrival.mail, arrival.source, arrival.known, arrival.raw
        ledger = self.ledger
        for address, lease_key, values in arrival.rows:
            if address in known:
                continue
            ledger.accepted(source)
            self.schedule.add(lease_key, values[0])
            if raw is not None:
                self.fresh.put(values[0], mail, address, raw)
        if len(known) < len(arrival.rows):
            self.pending.bodies.append(arrival.body)
            self.pending.waits = True
        for is_duplicate in arrival.receipt.duplicates:
            if is_duplicate:
                ledger.duplicate(source)

    def write_pending(self) -> None:
        """Write all rows that pend. Raises Occupied; and what the disk says: the group is to be undone then."""
        if self.writer.flushing:
            raise Occupied("a group is being flushed")
        self.write_arrivals()
        try:
            self.pending.write(self.write, self.write_all)
        except BaseException:
            # Some of them are in the database, and belong to operations that were told it.
            self.is_sound = False
            raise

    def run(self, function: Callable[..., T], *args: Any) -> T:
        """Do one operation: as a whole, or not at all while the others of its group stay.

        After an error `is_sound` tells whether the store can go on; if not, the caller throws all away.
        """
        try:
            value = function(self, *args)
        except BaseException as error:
            self._undo(error)
            raise
        if self._has_savepoint:
            self._has_savepoint = False
            self.write("RELEASE op")
        self._is_writing = False
        return value

    def _undo(self, error: BaseException) -> None:
        is_own = not isinstance(error, Exception) or is_own_fault(error)
        if is_own and self._has_savepoint and self.writer.db.in_transaction:
            self.write("ROLLBACK TO op")
            self.write("RELEASE op")
            # All that pended before was written before the savepoint.
            self.pending.clear()
            self.arrivals.clear()
        elif not is_own or self._is_writing:
            self.is_sound = False
        self._has_savepoint = self._is_writing = False

    @property
    def has_undurable_mail(self) -> bool:
        """Whether the open group has mail that may be sent once the disk has it; none is being flushed."""
        return self.counters.mail > self.durable_mail

    def seal(self) -> None:
        """Write what pends, the counters and the number of the group: what is to be committed is then complete."""
        if self.pending.waits:
            self.write_pending()
        counters = self.counters
        encode = msgspec.json.encode
        self.write(
            _SAVE_META,
            (
                *(self.group, counters.version, counters.body, counters.row, counters.turn, counters.mail),
                *(encode(self.ledger.totals).decode(), encode(self.outbox_counts).decode()),
            ),
        )

    def hand_over(self) -> None:
        """The group was sealed, and the connection goes to whoever flushes it: what comes now is the next group."""
        self._sealed_row, self._sealed_mail = self.counters.row, self.counters.mail
        self._sealed_due, self.undurable_mail = self.undurable_mail, _NEVER
        self.dirty = False
        self.writer.hand_over(self.group)

    def take_back(self) -> None:
        """The disk has the group, and its mail may leave (P2); the connection is the loop's again.

        If the next group was opened meanwhile, its transaction is to be begun before anything else.
        """
        self.writer.take_back()
        # What had to wait for the flush can be claimed from now on.
        self.durable_row = self._sealed_row
        self.more_work = self.more_work or bool(self.arrivals or self.schedule.first)
        if self._sealed_mail > self.durable_mail:
            self.durable_mail = self._sealed_mail
            self.next_mail = min(self.next_mail, self._sealed_due)
            self._sealed_due = _NEVER
            self.more_mail = True

    def outgoing_moved(self, before: int | None, after: int) -> None:
        """An outgoing row is new (`before` None) or went from one status to another."""
        if before is not None:
            self.outbox_counts[before] -= 1
        self.outbox_counts[after] += 1

    def select(self, sql: str, params: tuple[Any, ...] = ()) -> list[Any]:
        """All rows of a statement of ours. Raises Occupied, and what the disk says."""
        if self.pending.waits:
            self.write_pending()
        return self.writer.select(sql, params)

    def whole(self) -> apsw.Connection:
        """The connection, with all that was applied in the database. Raises Occupied, and what the disk says."""
        if self.pending.waits:
            self.write_pending()
        return self.writer.db

    # -- states -----------------------------------------------------------------------------------------------

    def state(self, state: StateKey) -> StateValue:
        """The value of a conversation, as of the last applied turn."""
        known = self.states.get(state)
        if known is None:
            key = store_text(state.key), store_text(state.sender)
            read = self.select if key in self.pending.states else self.writer.select
            rows = read(_READ_STATE, key)
            known = _value(*rows[0]) if rows else StateValue()
            self.states.put(state, known)
        return known

    # -- queues -----------------------------------------------------------------------------------------------

    def head(self, key: str) -> Head | None:
        """The first row of a queue that is waiting or held. Its own statement, after the change (Trap 1, Trap 3)."""
        return next(iter(self.heads(key, 1)), None)

    def heads(self, key: str, limit: int) -> list[Head]:
        """The same with those that follow it."""
        return [_head(*row) for row in self.select(_READ_HEADS, (store_text(key), limit))]

    # -- loading ----------------------------------------------------------------------------------------------

    def _load_queues(self) -> None:
        for key, count, row, due, held, received in self.select(_LOAD_QUEUES):
            self.schedule.restore(load_text(key), count, _head(row, due, held, received))

    def _load_dues(self) -> None:
        self.look_for_timers()
        self.next_mail = _first(self.writer.db, "SELECT min(due) FROM monsal_outbox WHERE status < 2")
        for address, until, reason in self.select("SELECT address, until, reason FROM monsal_suppressed"):
            self.suppressed.put(load_text(address), until, load_text(reason))

    def look_for_timers(self) -> None:
        """See on the disk when the next timer is due, or the next message that stands aside expires."""
        self.next_timer = _first(self.writer.db, _NEXT_TIMER)

    def _note_wal(self, _db: apsw.Connection, _name: str, pages: int) -> int:
        self.wal_pages = pages
        return apsw.SQLITE_OK


def flushed_group(db: apsw.Connection) -> int:
    """The number of the last group that is on the disk."""
    return int(select(db, "SELECT flushed FROM monsal_meta")[0][0])


def _first(db: apsw.Connection, sql: str) -> float:
    value: float | None = select(db, sql)[0][0]
    return _NEVER if value is None else value


def _head(row: int, due: float, status: int, received: float) -> Head:
    # A row that was never put off is claimable whatever the clock says: clocks of machines are set back.
    return Head(row, 0.0 if due <= received else due, status == HELD)


def _value(state: str, version: int, entered: int, since: float, previous: str) -> StateValue:
    return StateValue(load_text(state), version, entered, since, load_text(previous))


_SAVE_META = (
    "UPDATE monsal_meta SET flushed = ?, version = ?, last_body = ?, last_row = ?, last_turn = ?, last_mail = ?,"
    " ledger = ?, outbox = ?"
)
_NEXT_TIMER = (
    "SELECT min(at) FROM (SELECT min(due) AS at FROM monsal_timers UNION ALL SELECT min(expires) FROM monsal_aside)"
)
_READ_STATE = "SELECT state, version, entered, since, previous FROM monsal_states WHERE key = ? AND sender = ?"
# The index holds only rows that are waiting or held, by lease key and then by id: this reads no other entries of it.
_READ_HEADS = (
    "SELECT id, due, status, received FROM monsal_spool INDEXED BY monsal_spool_queue"
    " WHERE lease_key = ? AND status < 2 ORDER BY id LIMIT ?"
)
_LOAD_QUEUES = (
    "SELECT q.lease_key, q.rows, q.head, s.due, s.status, s.received"
    " FROM (SELECT lease_key, count(*) AS rows, min(id) AS head FROM monsal_spool INDEXED BY monsal_spool_queue"
    " WHERE status < 2 GROUP BY lease_key) q JOIN monsal_spool s ON s.id = q.head ORDER BY q.head"
)
