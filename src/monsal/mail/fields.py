"""Header fields as people read them: decoded, by name without regard to case."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator
from datetime import datetime
from typing import TypeVar, overload

from monsal.mail.addresses import Mailbox, mailboxes
from monsal.mail.charset import decode_header
from monsal.mail.dates import parse_date
from monsal.mail.header import HeaderScan

__all__ = ["Fields"]

#: Most Message-IDs taken from References: the first, which names the thread, and the latest.
MAX_REFERENCES = 100

T = TypeVar("T")

_MESSAGE_IDS = re.compile(r"<[!-;=?-~]{1,900}>")


class Fields(ABC):
    """What can be asked of anything that has a header. Nothing raises for what a stranger wrote.

    Decoded values are one line each: no CR, LF or other control character comes out, whatever an encoded word held.
    """

    __slots__ = ()

    @property
    @abstractmethod
    def header(self) -> HeaderScan:
        """The header as it stands, not decoded."""

    @overload
    def get(self, name: str) -> str | None: ...

    @overload
    def get(self, name: str, default: T) -> str | T: ...

    def get(self, name: str, default: object = None) -> object:
        """The decoded text of the first field of that name, or `default`. Case of the name does not matter."""
        value = self.header.get(name)
        return default if value is None else decode_header(value)

    def __getitem__(self, name: str) -> str:
        value = self.header.get(name)
        if value is None:
            raise KeyError(name)
        return decode_header(value)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name in self.header

    def __iter__(self) -> Iterator[str]:
        """The names of all fields as they were written, from the top down."""
        return (name for name, _ in self.header.fields)

    def get_all(self, name: str) -> list[str]:
        """The decoded texts of all fields of that name, from the top down."""
        return [decode_header(value) for value in self.header.get_all(name)]

    @property
    def headers(self) -> list[tuple[str, str]]:
        """Name and decoded text of every field, from the top down."""
        return [(name, decode_header(value)) for name, value in self.header.fields]

    @property
    def subject(self) -> str:
        return decode_header(self.header.get("subject") or "")

    @property
    def sender_name(self) -> str:
        """The name that the correspondent shows in From, empty if there is none."""
        found = mailboxes(self.header.get("from") or "", 1)
        return found[0].name if found else ""

    def mailboxes(self, name: str) -> list[Mailbox]:
        """The valid addresses in all fields of that name, for example `To` or `Cc`, with the names shown."""
        return [mailbox for value in self.header.get_all(name) for mailbox in mailboxes(value)]

    @property
    def message_id(self) -> str | None:
        """The Message-ID with its angle brackets, None if there is none."""
        return self.header.message_id

    @property
    def in_reply_to(self) -> str | None:
        """The Message-ID that this answers, None if it names none."""
        value = self.header.get("in-reply-to")
        match = None if value is None else _MESSAGE_IDS.search(value)
        return None if match is None else match.group()

    @property
    def references(self) -> tuple[str, ...]:
        """The Message-IDs of the thread, oldest first; of more than MAX_REFERENCES the first and the latest."""
        value = self.header.get("references")
        if value is None:
            return ()
        found = _MESSAGE_IDS.findall(value)
        return tuple(found if len(found) <= MAX_REFERENCES else [found[0], *found[1 - MAX_REFERENCES :]])

    @property
    def thread(self) -> str | None:
        """The Message-ID that its thread began with, its own if it answers nothing; None without one.

        Whoever answers can write any: it sorts mails, and proves nothing.
        """
        references = self.references
        return references[0] if references else self.in_reply_to or self.message_id

    @property
    def date(self) -> datetime | None:
        """When its sender says to have sent it, None if that is no date."""
        return parse_date(self.header.get("date") or "")
