"""The header of a raw message, read by hand: bounded, lazy, and without an exception for any bytes.

`scan` is what runs between DATA and 250, so it splits the header once and decodes nothing that is not asked for (13 us
where a parser of the standard library takes 73). Both CRLF and bare LF end a line.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from functools import lru_cache
from itertools import islice
from typing import Literal, NamedTuple

from monsal.address import fold
from monsal.mail.addresses import first_address
from monsal.mail.charset import clean, decode_text

__all__ = [
    "MAX_FIELDS",
    "MAX_HEADER",
    "Glance",
    "HeaderScan",
    "digest_below_received",
    "first_bytes",
    "glance",
    "scan",
]

#: Octets of a header that are looked at (DESIGN 4, *Who writes*).
MAX_HEADER = 65_536
#: Most header fields that are kept.
MAX_FIELDS = 1000

# A field is a name of printable ASCII, a colon, and the rest of the line with its continuation lines (RFC 5322,
# section 2.2). The header ends at the first line that is no field, as Postfix has it. One pass, no backtracking.
_VALUE = rb"[^\n]*+(?:\n[ \t][^\n]*+)*"
_BLOCK = re.compile(rb"(?:[!-9;-~]++[ \t]*+:" + _VALUE + rb"(?:\n|\Z))*")
_FIELDS = re.compile(rb"^([!-9;-~]++)[ \t]*+:(" + _VALUE + rb")", re.MULTILINE)
# A line of an mbox file, and continuation lines that continue nothing: both stand before the first field in mail that
# went through other hands.
_LEADING = re.compile(rb"(?:>?From [^\n]*+\n)?(?:[ \t]++[^\s][^\n]*+\n)*")

#: What `_LEADING` may begin with, but for a field.
_ODD = (b"From ", b">", b" ", b"\t")

_TRACE = re.compile(
    rb"(?:(?:Received|Return-Path|Delivered-To|X-Original-To)[ \t]*+:[^\n]*+\n(?:[ \t][^\n]*+\n)*)*", re.IGNORECASE
)

# RFC 5322 section 3.6.4, without what cannot be told apart on its way through mail systems.
_MESSAGE_ID = re.compile(rb"<[!-;=?-~]{1,900}>")

_FROM = re.compile(rb"\nfrom[ \t]*+:(" + _VALUE + rb")")
_ID = re.compile(rb"\nmessage-id[ \t]*+:(" + _VALUE + rb")")
_RECEIVED = re.compile(rb"\nreceived[ \t]*+:")

_FOLDS = re.compile(r"\r?\n")


class HeaderScan:
    """The fields of one header, in order. Names are compared without regard to case; values are not decoded yet.

    `body_offset` is where the body starts; `complete` is False if the header is longer than MAX_HEADER.
    """

    __slots__ = ("_author", "_index", "_read", "body_offset", "complete", "raw_fields")

    def __init__(self, raw_fields: list[tuple[bytes, bytes]], body_offset: int, complete: bool) -> None:
        self.raw_fields = raw_fields
        self.body_offset = body_offset
        self.complete = complete
        #: The first field of each name: of two the one further up is put in last.
        self._index = {name.lower(): value for name, value in reversed(raw_fields)}
        #: What was asked for: a turn asks for From, Subject and Message-ID several times.
        self._read: dict[str, str | Literal[False] | None] = {}
        self._author: str | Literal[False] | None = False

    @property
    def names(self) -> tuple[str, ...]:
        """The names that occur, in lower case, each once, in the order of their first field."""
        return tuple(dict.fromkeys(name.decode("ascii").lower() for name, _ in self.raw_fields))

    def __contains__(self, name: str) -> bool:
        return _key(name) in self._index

    def get(self, name: str) -> str | None:
        """The value of the first field of that name as one line, with encoded words as they are; None if absent."""
        value = self._read.get(name, False)
        if value is False:
            raw = self._index.get(_key(name))
            value = self._read[name] = None if raw is None else _value(raw)
        return value

    def has_any(self, keys: frozenset[bytes]) -> bool:
        """Whether a field of one of these names, in lower case, is there."""
        return not keys.isdisjoint(self._index)

    def get_all(self, name: str) -> list[str]:
        """The values of all fields of that name, from the top down."""
        return [_value(value) for value in self._all(_key(name))]

    def _all(self, key: bytes) -> list[bytes]:
        if key not in self._index:
            return []
        return [value for name, value in self.raw_fields if name.lower() == key]

    @property
    def fields(self) -> list[tuple[str, str]]:
        """Name and value of all fields, values as `get` gives them."""
        return [(name.decode("ascii"), _value(value)) for name, value in self.raw_fields]

    @property
    def author(self) -> str | None:
        """The first valid address of the first From field as it is written there; None if there is none."""
        if self._author is False:
            raw = self._index.get(b"from")
            self._author = None if raw is None else _author_of(raw)
        return self._author

    @property
    def correspondent(self) -> str | None:
        """The author, folded."""
        author = self.author
        return None if author is None else fold(author)

    @property
    def message_id(self) -> str | None:
        """The Message-ID with its angle brackets, or None if there is none that could identify anything."""
        raw = self._index.get(b"message-id")
        match = None if raw is None else _MESSAGE_ID.search(raw)
        return None if match is None else match.group(0).decode("ascii")

    @property
    def received_count(self) -> int:
        """How many Received fields there are: how many hops the message made."""
        return len(self._all(b"received"))

    @property
    def auto_submitted(self) -> str:
        """The keyword of Auto-Submitted in lower case (RFC 3834, section 5), empty if absent."""
        return _keyword(self.get("auto-submitted"))

    @property
    def precedence(self) -> str:
        """The value of Precedence in lower case, empty if absent."""
        return _keyword(self.get("precedence"))

    @property
    def list_id(self) -> str | None:
        """List-Id as it stands (RFC 2919), None if absent."""
        return self.get("list-id")

    @property
    def subject(self) -> str | None:
        """Subject as it stands, with its encoded words; None if absent."""
        return self.get("subject")


@lru_cache(maxsize=256)  # names are those that our code and the application ask for
def _key(name: str) -> bytes:
    return name.lower().encode("ascii", "replace")


def _value(raw: bytes) -> str:
    """A raw value as one line: unfolded, without outer blanks and control characters."""
    if raw.isascii():
        text = raw.decode("ascii")
    else:
        text = decode_text(raw)
    if "\n" in text:
        text = _FOLDS.sub("", text)
    return clean(text.strip(" \t\r\n"))


def _keyword(value: str | None) -> str:
    return "" if value is None else value.partition(";")[0].partition("(")[0].strip().lower()


def _block(head: bytes) -> tuple[int, int]:
    """Where the fields of a header begin and end."""
    start = 0
    if head[:1] in (b"F", b">", b" ", b"\t"):
        match = _LEADING.match(head)
        start = match.end() if match is not None else 0
    match = _BLOCK.match(head, start)
    return start, match.end() if match is not None else start


def scan(raw: bytes) -> HeaderScan:
    """Split the header of a raw message, of which the first MAX_HEADER octets are looked at. Never raises."""
    head = raw if len(raw) <= MAX_HEADER else raw[:MAX_HEADER]
    end = head.find(b"\r\n\r\n")
    if end > 0 and (found := _split(head[: end + 2])) is not None:
        return HeaderScan(found, end + 4, True)
    start, end = _block(head)
    complete = end < len(head) or len(head) == len(raw)
    if head.startswith(b"\r\n", end):
        body = end + 2
    elif head.startswith(b"\n", end):
        body = end + 1
    else:
        body = end
    block = head[start:end]
    if block.count(b"\n") <= MAX_FIELDS:
        fields = _FIELDS.findall(block)
    else:
        fields = [found.groups() for found in islice(_FIELDS.finditer(block), MAX_FIELDS)]
    return HeaderScan(fields, body, complete)


def _split(block: bytes) -> list[tuple[bytes, bytes]] | None:
    """The fields of lines of which each is a field or goes on with the one before, as those of nearly all mail are.

    None if one is neither, or there are too many: that is what the expression of `_block` is for, which takes as long
    as this. Each line that does not begin with a blank must have been found as a field.
    """
    lines = block.count(b"\n")
    if lines > MAX_FIELDS or block.startswith(_ODD):
        return None
    fields: list[tuple[bytes, bytes]] = _FIELDS.findall(block)
    return fields if len(fields) == lines - block.count(b"\n ") - block.count(b"\n\t") else None


class Glance(NamedTuple):
    """`correspondent`, `message_id` and `received_count` of a header, as `HeaderScan` has them."""

    correspondent: str | None
    message_id: str | None
    received: int


def glance(raw: bytes) -> Glance:
    """What has to be known of a message before it is stored: 3 us, where splitting the header takes 10. Never raises.

    It looks for three names in the header in lower case, and splits nothing.
    """
    head = raw if len(raw) <= MAX_HEADER else raw[:MAX_HEADER]
    start, end = _block(head)
    # An LF before each field, and at the end one that a field without a line end lacks.
    block = b"\n" + head[start:end]
    lower = block.lower()
    if lower.count(b"\n") > MAX_FIELDS:
        found = scan(raw)
        return Glance(found.correspondent, found.message_id, found.received_count)
    match = _FROM.search(lower)
    writer = None if match is None else block[match.start(1) : match.end(1)]
    author = None if writer is None else _author_of(writer)
    correspondent = None if author is None else fold(author)
    match = _ID.search(lower)
    named = None if match is None else _MESSAGE_ID.search(block, match.start(1), match.end(1))
    received = len(_RECEIVED.findall(lower)) if b"\nreceived" in lower else 0
    return Glance(correspondent, None if named is None else named.group(0).decode("ascii"), received)


def _author_of(raw: bytes) -> str | None:
    """The first valid address in the raw value of a From field."""
    return _known(raw) if len(raw) <= _SHORT else _read_author(raw)


def _read_author(raw: bytes) -> str | None:
    return first_address(_value(raw))


#: Few people write most of the mail, and each mail is asked before it is stored and in its turn. Only what is short is
#: remembered, or this would be room for a stranger's use.
_SHORT = 200
_known = lru_cache(maxsize=1024)(_read_author)


def first_bytes(chunks: Sequence[bytes], limit: int = MAX_HEADER) -> bytes:
    """At most the first `limit` octets of a message that came in pieces; no piece beyond them is touched."""
    if not chunks:
        return b""
    if len(chunks) == 1 or len(chunks[0]) >= limit:
        return chunks[0][:limit]
    taken: list[bytes] = []
    missing = limit
    for chunk in chunks:
        taken.append(chunk[:missing])
        missing -= len(chunk)
        if missing <= 0:
            break
    return b"".join(taken)


def digest_below_received(chunks: Sequence[bytes], head: bytes | None = None) -> bytes:
    """The sha256 of a message without the trace fields at its top (DESIGN 4, *Duplicates*).

    Those are Received, Return-Path, Delivered-To and X-Original-To: what differs when the same message is sent once
    more, or comes by another way. `head` is `first_bytes(chunks)` if it is at hand. The body is not copied.
    """
    match = _TRACE.match(first_bytes(chunks) if head is None else head)
    skip = match.end() if match is not None else 0
    digest = hashlib.sha256()
    for chunk in chunks:
        if skip >= len(chunk):
            skip -= len(chunk)
        elif skip:
            digest.update(memoryview(chunk)[skip:])
            skip = 0
        else:
            digest.update(chunk)
    return digest.digest()
