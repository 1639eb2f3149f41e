"""Address lists as they stand in From, To and Cc (RFC 5322, section 3.4), read from anybody's mail.

Display names, comments, groups, routes and quotes are understood; what is none of these is skipped. One pass over the
text, no recursion, no exception.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import msgspec

from monsal.address import is_address
from monsal.mail.charset import clean, decode_header

__all__ = ["Mailbox", "first_address", "mailboxes", "read_comment"]

#: Longest address list that is looked at; a hundred recipients are some 5 kB.
MAX_LIST = 65_536
#: Most addresses taken from one header.
MAX_MAILBOXES = 1000
#: How much of a list is looked at for its first address: that happens between DATA and 250, for anybody.
MAX_FIRST = 4096
#: Longest text between angle brackets that may be an address: 320 octets, and some for blanks.
MAX_ANGLE = 400
#: Longest route before an address that is skipped; nobody has written one since 1989 (RFC 1123, section 5.2.6).
MAX_ROUTE = 1000


class Mailbox(msgspec.Struct, frozen=True):
    """An address and the name shown with it, which may be empty. The address is written as the sender wrote it."""

    address: str
    name: str = ""


# What nearly all mail has: an optional plain or quoted name, one address in angle brackets, nothing else. Here and
# below the quantifiers are possessive: each character is looked at once.
_SIMPLE = re.compile(r'[ \t]*+(?:"([^"\\]*+)"[ \t]*+|([^"()<>,:;@\\\[\]]*+))<([^<>@"\s\\]++@[^<>@"\s\\]++)>[ \t]*+\Z')

# One token: quoted string (closed or not), comment sign, angle address, separator, blank, or a run of other text.
_TOKEN = re.compile(
    r'"(?P<quoted>[^"\\]*+(?:\\.[^"\\]*+)*)(?:"|\\?\Z)'
    r"|(?P<open>\()"
    r'|<(?P<angle>\s*+(?:"[^"\\]*+(?:\\.[^"\\]*+)*"@)?[^>]*+)(?:>|\Z)'
    r"|(?P<sign>[,;:])"
    r"|(?P<blank>\s++)"
    r'|(?P<text>[^"(<,;:\s]++)',
    re.DOTALL,
)
_COMMENT_SIGN = re.compile(r"\\.?|[()]", re.DOTALL)
# The obsolete route before an address (RFC 5322, section 4.4).
_ROUTE = re.compile(r"\s*+@[^:]*+:")
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_AROUND = re.compile(r" ?([.@]) ?")


def mailboxes(text: str, limit: int = MAX_MAILBOXES) -> list[Mailbox]:
    """The valid addresses of an address list, in order, at most `limit`. Names are decoded. Never raises."""
    match = _SIMPLE.match(text)
    if match is not None and limit > 0:
        if is_address(match.group(3)):
            return [Mailbox(match.group(3), decode_header(match.group(1) or match.group(2) or "").strip())]
        return []
    found: list[Mailbox] = []
    for name, address in _split(text[:MAX_LIST]):
        if len(found) >= limit:
            break
        if is_address(address):
            found.append(Mailbox(address, clean(name).strip()))
    return found


def first_address(text: str) -> str | None:
    """The first valid address of an address list, or None. Never raises.

    A value that is one encoded word as a whole, which RFC 2047 forbids and some programs write, is read too.
    """
    match = _SIMPLE.match(text, 0, MAX_FIRST)
    if match is not None and is_address(match.group(3)):
        return match.group(3)
    text = text[:MAX_FIRST]
    found = mailboxes(text, 1)
    if not found and "=?" in text:
        found = mailboxes(decode_header(text), 1)
    return found[0].address if found else None


class _Entry:
    """One element of the list while it is read."""

    __slots__ = ("angle", "bare", "comment", "words")

    def __init__(self) -> None:
        self.words: list[str] = []
        self.bare: list[str] = []
        self.angle: str | None = None
        self.comment = ""

    def add(self, word: str, source: str) -> None:
        """Take a word as it reads and as it stands in the source."""
        self.words.append(word)
        self.bare.append(source)

    def result(self) -> tuple[str, str]:
        """Display name and address. Without angle brackets the name is the comment, as RFC 822 had it."""
        if self.angle is not None:
            return decode_header(" ".join("".join(self.words).split())), self.angle
        text = "".join(self.bare).strip()
        if " " in text and '"' not in text:
            text = _AROUND.sub(r"\1", text)
            # A name and an address without brackets: only if there is no doubt which word is the address.
            likely = [word for word in text.split(" ") if "@" in word]
            text = likely[0] if len(likely) == 1 else ""
        return decode_header(self.comment), text


def _split(text: str) -> Iterator[tuple[str, str]]:
    """Name and address of each element of the list, neither checked."""
    entry = _Entry()
    position = 0
    while match := _TOKEN.match(text, position):
        position = match.end()
        kind = match.lastgroup
        if kind == "open":
            entry.comment, position = read_comment(text, position)
        elif kind == "sign":
            # A colon ends a group's name, a semicolon its list (RFC 5322, section 3.4); a stray one separates too.
            if match.group("sign") != ":":
                yield entry.result()
            entry = _Entry()
        elif kind == "angle":
            if entry.angle is None:
                # "<Bob <b@example.com>" has one bracket too many; the innermost counts.
                entry.angle = _innermost(match.group("angle"))
        elif kind == "blank":
            if not entry.bare or entry.bare[-1] != " ":
                entry.add(" ", " ")
        elif kind == "quoted":
            entry.add(_ESCAPED.sub(r"\1", match.group("quoted")), match.group(0))
        else:
            entry.add(match.group("text"), match.group("text"))
    yield entry.result()


def _innermost(angle: str) -> str:
    """The address within angle brackets, without its route; empty if that is too long for one."""
    text = angle.rpartition("<")[2]
    route = _ROUTE.match(text, 0, MAX_ROUTE)
    start = route.end() if route is not None else 0
    return text[start:].strip() if len(text) - start <= MAX_ANGLE else ""


def read_comment(text: str, position: int) -> tuple[str, int]:
    """The text of a comment that opened before `position`, and where it ends: at the end of `text` if it never closes.

    Comments nest (RFC 5322, section 3.2.2).
    """
    start, depth = position, 1
    while match := _COMMENT_SIGN.search(text, position):
        position = match.end()
        depth += {"(": 1, ")": -1}.get(match.group(0), 0)
        if depth == 0:
            return text[start : position - 1], position
    return text[start:], len(text)
