"""What people look at: rows, counts and dead letters. The same SQL serves the running store and the inspector."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final, Literal

import apsw

from monsal.clock import iso
from monsal.store.contract import Ledger, Source
from monsal.store.engine.bodies import BodyFiles
from monsal.store.engine.codes import OUT_NAMES, ROW_NAMES
from monsal.store.engine.database import select
from monsal.store.engine.text import load_text, load_text_or_none

__all__ = ["What", "dead_detail", "failures_of", "read_ledger", "read_outbox_counts", "rows", "to_ledger"]

What = Literal["queue", "dead", "states", "outbox", "suppressed"]

# Whoever tries a message and is killed by it has tried it, too.
_ROW: Final = "id, message_id, sender, recipient, status, attempts + kills, reason, received, due"
_QUEUE: Final = f"SELECT {_ROW} FROM monsal_spool WHERE status < 2 ORDER BY id LIMIT ?"
_DEAD: Final = f"SELECT {_ROW} FROM monsal_spool INDEXED BY monsal_spool_dead WHERE status = 3 ORDER BY id LIMIT ?"
_STATES: Final = "SELECT key, sender, state, version, since FROM monsal_states ORDER BY since, version LIMIT ?"
_SUPPRESSED: Final = (
    "SELECT address, reason, detail, since, until FROM monsal_suppressed ORDER BY since, address LIMIT ?"
)
# What was sent is history (v_outbox has it); what was not is what somebody may have to act on.
_OUTBOX: Final = (
    "SELECT id, message_id, sender, recipient, status, attempts, reason, created, due"
    " FROM monsal_outbox WHERE status <> 2 ORDER BY id LIMIT ?"
)
#: Failures as a store has them that no server of this version has opened yet: the last of rows that are held or dead.
_OLD_FAILURES: Final = (
    "(SELECT o.id, o.id AS message, r.status, o.at, coalesce(r.reason, '') AS reason, o.detail"
    " FROM monsal_failures o JOIN monsal_spool r ON r.id = o.id WHERE r.status IN (1, 3))"
)
_LEDGER: Final = "SELECT source, accepted, done, waiting, held, dead, dropped, duplicates FROM v_ledger"
_OUTBOX_COUNTS: Final = "SELECT o.key, o.value FROM monsal_meta m, json_each(m.outbox) o"
_OLD_OUTBOX_COUNTS: Final = "SELECT status, rows FROM monsal_outbox_counts"


def rows(db: apsw.Connection, what: What, limit: int, running: Collection[int] = ()) -> list[Mapping[str, Any]]:
    """Rows with the columns of INTERFACE, oldest first. `running` are those under lease, or being sent."""
    if what == "states":
        return [_state_row(*row) for row in select(db, _STATES, (limit,))]
    if what == "suppressed":
        # A store that no server of this version has opened yet has no such table.
        is_there = select(db, "SELECT 1 FROM sqlite_master WHERE name = 'monsal_suppressed'")
        return [_suppressed_row(*row) for row in select(db, _SUPPRESSED, (limit,))] if is_there else []
    if what == "outbox":
        return [_row(OUT_NAMES, "sending", row, running) for row in select(db, _OUTBOX, (limit,))]
    return [
        _row(ROW_NAMES, "running", row, running) for row in select(db, _QUEUE if what == "queue" else _DEAD, (limit,))
    ]


def _row(names: tuple[str, ...], active: str, row: tuple[Any, ...], running: Collection[int]) -> dict[str, Any]:
    number, message_id, sender, recipient, status, attempts, reason, created, due = row
    return {
        "id": number,
        "message_id": load_text_or_none(message_id),
        "sender": load_text(sender),
        "recipient": load_text(recipient),
        "state": active if number in running else names[status],
        "attempts": attempts,
        "reason": load_text(reason) if reason else "",
        "created": iso(created),
        "due": iso(due),
    }


def _suppressed_row(address: str, reason: str, detail: str, since: float, until: float | None) -> dict[str, Any]:
    return {
        "address": load_text(address),
        "reason": load_text(reason),
        "detail": load_text(detail),
        "since": iso(since),
        "until": None if until is None else iso(until),
    }


def _state_row(key: str, sender: str, state: str, version: int, since: float) -> dict[str, Any]:
    return {
        "key": load_text(key),
        "sender": load_text(sender),
        "state": load_text(state),
        "version": version,
        "since": iso(since),
    }


def failures_of(db: apsw.Connection) -> str:
    """What to read failures from: `id, message, status, at, reason, detail`."""
    is_old = not select(db, "SELECT 1 FROM pragma_table_info('monsal_failures') WHERE name = 'message'")
    return _OLD_FAILURES if is_old else "monsal_failures"


def dead_detail(db: apsw.Connection, row: int, bodies: BodyFiles | None) -> Mapping[str, Any] | None:
    """One dead letter with the tracebacks of its last failure and its bytes."""
    found = select(
        db,
        f"SELECT {', '.join('s.' + name for name in _ROW.split(', '))}, f.detail, b.raw, b.file"
        f" FROM monsal_spool s LEFT JOIN {failures_of(db)} f ON f.message = s.id"
        " LEFT JOIN monsal_bodies b ON b.id = s.body WHERE s.id = ? AND s.status = 3 ORDER BY f.id DESC LIMIT 1",
        (row,),
    )
    if not found:
        return None
    *columns, detail, raw, file = found[0]
    detail = load_text(detail or "")
    if file is not None and bodies is not None:
        try:
            raw = bodies.path(file).read_bytes()
        except OSError as error:
            detail += f"\nits content cannot be read: {error}\n"
    return {**_row(ROW_NAMES, "running", tuple(columns), ()), "detail": detail, "raw": raw or b""}


def to_ledger(totals: list[int], running: int) -> Ledger:
    """A row of the ledger: those that run are counted as waiting on the disk."""
    accepted, done, waiting, held, dead, dropped, duplicates = totals
    return Ledger(
        accepted=accepted,
        done=done,
        waiting=waiting - running,
        running=running,
        held=held,
        dead=dead,
        dropped=dropped,
        duplicates=duplicates,
    )


def read_ledger(db: apsw.Connection) -> dict[Source, Ledger]:
    """The ledger as the disk has it."""
    return {name: to_ledger(list(totals), 0) for name, *totals in select(db, _LEDGER)}


def read_outbox_counts(db: apsw.Connection) -> dict[str, int]:
    """Outgoing rows by status as the disk has them."""
    # A store that no server of this version has opened yet has them elsewhere.
    is_old = select(db, "SELECT 1 FROM sqlite_master WHERE name = 'monsal_outbox_counts'")
    found = {OUT_NAMES[status]: rows for status, rows in select(db, _OLD_OUTBOX_COUNTS if is_old else _OUTBOX_COUNTS)}
    return {name: found.get(name, 0) for name in ("waiting", "deferred", "sending", "sent", "failed")}
