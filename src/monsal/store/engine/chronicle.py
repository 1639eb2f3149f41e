"""What happened, read from the tables: messages that came, turns, failures for good, and mail that went out.

Each row has one time: when it was received, handled, given up, made. What became of it since - another attempt is due,
a mail has left - stands with the event that it belongs to.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import apsw
import msgspec

from monsal.address import fold
from monsal.store.engine.codes import OUT_NAMES, ROW_NAMES, SOURCES
from monsal.store.engine.database import select
from monsal.store.engine.looking import failures_of
from monsal.store.engine.text import load_text, store_text

__all__ = ["Asked", "Event", "Marks", "read_events", "rows_of_message"]


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that happened to the message `row` at `at` (epoch seconds).

    `action` is "stored", "turn", "turn_failed" or "mail"; `id` is that of the message, turn or mail. `conversation` is
    the correspondent. `status`, `attempts`, `due` and `reason` are as they stand now; `reason` of a turn is its note,
    and of a failure they tell what it was, whatever was done about it since.
    """

    action: str
    at: float
    id: int
    row: int
    message_id: str | None
    conversation: str
    sender: str = ""
    recipient: str = ""
    status: str = ""
    attempts: int = 0
    due: float | None = None
    reason: str = ""
    source: str = ""
    handler: str = ""
    key: str = ""
    before: str = ""
    after: str = ""
    traceback: str = ""


@dataclass(slots=True)
class Marks:
    """How far somebody has read: the last row, turn, failure and mail, and mails that are looked at again."""

    row: int = 0
    turn: int = 0
    mail: int = 0
    failure: int = 0
    unsettled: dict[int, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """The newest `limit` events that are not before `since`, of all messages, of some `rows`, or of one conversation.

    `conversation` is a correspondent, or the key of a machine.
    """

    rows: tuple[int, ...] | None = None
    conversation: str | None = None
    since: float = 0.0
    limit: int = 1000


@dataclass(frozen=True, slots=True)
class _Kind:
    """Where one kind of events is: the fields of Event with their SQL, and the rest of the statement."""

    action: str
    names: tuple[str, ...]
    fields: Mapping[str, str]
    rest: str

    @property
    def sql(self) -> str:
        return f"SELECT {', '.join(self.fields.values())} FROM {self.rest} LIMIT :limit"


#: Whether the message `s` is meant; the index (message, handler) makes the last question a cheap one.
_MEANT: Final = (
    "(:rows IS NULL OR s.id IN (SELECT value FROM json_each(:rows))) AND (:who IS NULL OR s.correspondent = :folded"
    " OR s.lease_key = :who OR EXISTS (SELECT 1 FROM monsal_history t WHERE t.message = s.id AND t.key = :who){more})"
)
# A row of source timer has the Message-ID of the mail that set it, which is not its own.
_MESSAGE: Final = {
    "row": "s.id",
    "message_id": "CASE s.source WHEN 1 THEN NULL ELSE s.message_id END",
    "conversation": "s.correspondent",
}
_STORED: Final = _Kind(
    "stored",
    ROW_NAMES,
    _MESSAGE
    | {"id": "s.id", "at": "s.received", "sender": "s.sender", "recipient": "s.recipient", "status": "s.status"}
    | {"attempts": "s.attempts", "due": "s.due", "reason": "coalesce(s.reason, '')", "source": "s.source"},
    f"monsal_spool s WHERE s.id > :row AND s.received >= :since AND {_MEANT.format(more='')} ORDER BY s.id DESC",
)
_TURNS: Final = _Kind(
    "turn",
    (),
    _MESSAGE
    | {"row": "h.message", "conversation": "coalesce(s.correspondent, h.sender)", "id": "h.id", "at": "h.at"}
    | {"recipient": "coalesce(s.recipient, '')", "handler": "h.handler", "key": "h.key", "reason": "h.note"}
    | {"before": "iif(h.stateful, h.before, '')", "after": "iif(h.stateful, h.after, '')"},
    "monsal_history h LEFT JOIN monsal_spool s ON s.id = h.message WHERE h.id > :turn AND h.at >= :since AND "
    + _MEANT.format(more=" OR h.key = :who OR h.sender = :folded").replace("s.id", "h.message")
    + " ORDER BY h.id DESC",
)
_FAILED: Final = _Kind(
    "turn_failed",
    ROW_NAMES,
    _MESSAGE
    | {"id": "s.id", "at": "f.at", "sender": "s.sender", "recipient": "s.recipient", "status": "f.status"}
    | {"reason": "f.reason", "traceback": "f.detail"},
    "monsal_failures f JOIN monsal_spool s ON s.id = f.message WHERE f.id > :failure AND f.at >= :since"
    f" AND {_MEANT.format(more='')} ORDER BY f.id DESC",
)
_MAILS: Final = _Kind(
    "mail",
    OUT_NAMES,
    {"row": "o.message", "message_id": "o.message_id", "conversation": "coalesce(s.correspondent, '')"}
    | {"id": "o.id", "at": "o.created", "sender": "o.sender", "recipient": "o.recipient", "status": "o.status"}
    | {"attempts": "o.attempts", "due": "o.due", "reason": "o.reason"},
    "monsal_outbox o LEFT JOIN monsal_spool s ON s.id = o.message"
    " WHERE (o.id > :mail OR o.id IN (SELECT value FROM json_each(:unsettled))) AND o.created >= :since AND "
    + _MEANT.format(more=" OR o.recipient IN (:who, :folded)").replace("s.id", "o.message")
    + " ORDER BY o.id DESC",
)
#: At the same time a message comes before what became of it, and a turn before its mails.
_ORDER: Final = ("stored", "turn_failed", "turn", "mail")
_ROWS: Final = (
    "SELECT id FROM monsal_spool WHERE message_id = ?1"
    " UNION SELECT message FROM monsal_outbox WHERE message_id = ?1 ORDER BY 1 LIMIT 1000"
)


def rows_of_message(db: apsw.Connection, message_id: str) -> tuple[int, ...]:
    """The rows that came with a Message-ID, the timers they set, and the rows that made a mail with it."""
    return tuple(int(row) for (row,) in select(db, _ROWS, (store_text(message_id),)))


def read_events(db: apsw.Connection, asked: Asked, marks: Marks) -> list[Event]:
    """What is asked for and not read yet, oldest first; `marks` move on.

    A mail that had not been settled comes again when its status is another one.
    """
    who = None if asked.conversation is None else store_text(asked.conversation)
    params = {
        "rows": None if asked.rows is None else json.dumps(asked.rows),
        "who": who,
        "folded": None if who is None else fold(who),
        "since": asked.since,
        "limit": asked.limit,
        "row": marks.row,
        "turn": marks.turn,
        "mail": marks.mail,
        "failure": marks.failure,
        "unsettled": json.dumps([*marks.unsettled]),
    }
    if not select(db, "SELECT 1 FROM sqlite_master WHERE name = 'monsal_spool'"):
        return []  # a server is just making the store
    with db:  # one moment for all questions: what comes in between is found behind the marks
        failures = failures_of(db)
        stored, turns, mails = (_read(db, kind.sql, kind, params) for kind in (_STORED, _TURNS, _MAILS))
        failed = _read(db, _FAILED.sql.replace("monsal_failures", failures), _FAILED, params)
        marks.failure = select(db, f"SELECT coalesce(max(id), 0) FROM {failures}")[0][0]
    changed = [mail for mail in mails if marks.unsettled.get(mail.id) != mail.status]
    # The newest comes first.
    marks.row = max([marks.row, *(event.id for event in stored[:1])])
    marks.turn = max([marks.turn, *(event.id for event in turns[:1])])
    marks.mail = max([marks.mail, *(event.id for event in mails[:1])])
    marks.unsettled = {mail.id: mail.status for mail in mails if mail.status in ("waiting", "deferred")}
    found = sorted(
        (*stored, *turns, *reversed(failed), *changed),
        key=lambda event: (event.at, _ORDER.index(event.action), event.id),
    )
    return found[-asked.limit :]


def _read(db: apsw.Connection, sql: str, kind: _Kind, params: Mapping[str, Any]) -> list[Event]:
    return [_event(kind, dict(zip(kind.fields, row, strict=True))) for row in db.execute(sql, params)]


def _event(kind: _Kind, facts: dict[str, Any]) -> Event:
    if "status" in facts:
        facts["status"] = kind.names[facts["status"]]
    if "source" in facts:
        facts["source"] = SOURCES[facts["source"]]
    said: dict[str, Any] = {
        name: load_text(value) if isinstance(value, str) else value for name, value in facts.items()
    }
    return Event(action=kind.action, **said)
