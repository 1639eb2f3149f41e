"""Mails that were accepted into the open group and are not in the database yet.

Whether a mail is a duplicate only the index of the table can tell, and it is asked for all of them at once: by the
insertion itself. Until then a mail counts as new; nobody has been told anything of it, for its answer waits for the
flush, and a claim has the rows written first.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from typing import Any, Final

import apsw
import msgspec

from monsal.store.contract import Accept, Receipt
from monsal.store.engine.codes import SOURCE_CODES
from monsal.store.engine.pending import Values
from monsal.store.engine.text import store_text, store_text_or_none, store_time

__all__ = ["Arrival", "write_arrivals"]


class Arrival:
    """A mail and the rows that it has, one for each address that is named.

    `rows` are (address, lease key, values with the row's id first). `known` holds, when the rows were written, the
    addresses at which the mail was there before, each with the row of that time; no row was made for them.
    """

    __slots__ = ("body", "known", "mail", "raw", "receipt", "rows", "source")

    def __init__(self, mail: Accept, body: Values, first: int) -> None:
        """`body` is the row of the body, in which all rows share; `first` the id of the first row.

        Raises what is wrong with the values of the mail.
        """
        self.mail = mail
        self.body = body
        self.raw: bytes | None = body[2]
        self.source = source = SOURCE_CODES[mail.source]
        self.known: dict[str, int] = {}
        received = store_time(mail.received)
        sender, correspondent = store_text(mail.sender), store_text(mail.correspondent)
        message_id, envelope = store_text_or_none(mail.message_id), bytes(mail.envelope)
        self.rows: list[tuple[str, str, Values]] = []
        ids: dict[str, int] = {}
        for recipient in mail.recipients:
            address, lease_key = recipient.address, recipient.lease_key
            if address in ids:
                continue
            row = first + len(ids)
            ids[address] = row
            values = (
                *(row, store_text(lease_key), source, sender, correspondent, store_text(address), message_id),
                *(body[0], received, received, _dedup(mail, address), envelope),
            )
            self.rows.append((address, lease_key, values))
        self.receipt = Receipt(*_told(mail, ids, ()))

    def correct(self) -> None:
        """Say in the receipt, which nobody has seen yet, what was there before."""
        ids = {address: values[_ID] for address, _, values in self.rows} | self.known
        told, duplicates = _told(self.mail, ids, self.known)
        msgspec.structs.force_setattr(self.receipt, "ids", told)
        msgspec.structs.force_setattr(self.receipt, "duplicates", duplicates)


def _told(mail: Accept, ids: dict[str, int], known: Collection[str]) -> tuple[tuple[int, ...], tuple[bool, ...]]:
    """What a receipt says: the row of each recipient, and whether it is a duplicate. One that is named again is one of
    the first."""
    if len(mail.recipients) == 1:
        address = mail.recipients[0].address
        return (ids[address],), (address in known,)
    seen = set(known)
    duplicates = []
    for recipient in mail.recipients:
        duplicates.append(recipient.address in seen)
        seen.add(recipient.address)
    return tuple(ids[recipient.address] for recipient in mail.recipients), tuple(duplicates)


def _dedup(mail: Accept, address: str) -> bytes | None:
    """The hash of what makes a mail a duplicate (DESIGN 4, *Duplicates*); None if it has no notion of that."""
    if mail.message_id is None or mail.digest is None:
        return None
    where = address.encode("utf-8", "surrogatepass")
    who = mail.sender.encode("utf-8", "surrogatepass")
    what = mail.message_id.encode("utf-8", "surrogatepass")
    # Lengths first: no two different lists of parts make the same bytes.
    parts = b"%d,%d,%d:%b%b%b%b" % (len(where), len(who), len(what), where, who, what, mail.digest)
    return hashlib.blake2b(parts, digest_size=16).digest()


def write_arrivals(cursor: apsw.Cursor, arrivals: Sequence[Arrival], counts_for: float) -> None:
    """Insert the rows of mails, in their order, and find out which were there before.

    What came more than `counts_for` seconds before is no duplicate. Raises what the disk says.
    """
    db = cursor.connection
    rows = [values for arrival in arrivals for _, _, values in arrival.rows]
    before = db.total_changes()
    cursor.executemany(_INSERT, rows)
    if db.total_changes() - before == len(rows):
        return
    written = {row for (row,) in cursor.execute(_WRITTEN, (rows[0][_ID], rows[-1][_ID]))}
    for arrival in arrivals:
        for address, _, values in arrival.rows:
            if values[_ID] in written:
                continue
            row, received = _before(cursor, values)
            if received > values[_RECEIVED] - counts_for:
                arrival.known[address] = row
            else:
                # Too old to count: the new row takes its place in the index.
                cursor.execute("UPDATE monsal_spool SET dedup = NULL WHERE id = ?", (row,))
                cursor.execute(_INSERT, values)
        if arrival.known:
            arrival.correct()


def _before(cursor: apsw.Cursor, values: Values) -> tuple[int, float]:
    found: list[Any] = cursor.execute(_FIND, (values[_DEDUP],)).fetchall()
    return found[0][0], found[0][1]


#: Places in the values of a row.
_ID: Final = 0
_RECEIVED: Final = 8
_DEDUP: Final = 10

_INSERT: Final[str] = (
    "INSERT INTO monsal_spool VALUES (?, ?, ?, 0, ?, ?, ?, ?, ?, ?, ?, 0, 0, 0, NULL, ?, ?, NULL, NULL, NULL, NULL)"
    " ON CONFLICT (dedup) WHERE dedup IS NOT NULL DO NOTHING"
)
_WRITTEN: Final[str] = "SELECT id FROM monsal_spool WHERE id BETWEEN ? AND ?"
_FIND: Final[str] = "SELECT id, received FROM monsal_spool WHERE dedup = ?"
