"""What the receiving side tells its caller: one record per thing that a client did.

`MailFrom`, `RcptTo` and `MessageReceived` wait for a decision (`ServerProtocol.reply`); the others are only told.
"""

from __future__ import annotations

import msgspec

from monsal.smtp.replies import Reply

__all__ = [
    "Closing",
    "Event",
    "Hello",
    "MailFrom",
    "MessageDiscarded",
    "MessageReceived",
    "Quit",
    "RcptTo",
    "Reset",
]


class Hello(msgspec.Struct, frozen=True, gc=False):
    """HELO, EHLO or LHLO: what the client calls itself; `extended` unless it was HELO."""

    name: str
    extended: bool


class MailFrom(msgspec.Struct, frozen=True):
    """MAIL: awaits a decision. `address` is empty for the null reverse-path `<>`.

    `size` is the declared size in octets or None (RFC 1870), `body` is 7BIT, 8BITMIME or None (RFC 6152), `smtputf8`
    whether addresses beyond ASCII may follow (RFC 6531). `params` are all parameters as given, keywords in upper case.
    """

    address: str
    size: int | None = None
    body: str | None = None
    smtputf8: bool = False
    params: tuple[tuple[str, str], ...] = ()


class RcptTo(msgspec.Struct, frozen=True):
    """RCPT: awaits a decision. `address` is as written, or `postmaster` alone (RFC 5321, section 4.1.1.3)."""

    address: str
    params: tuple[tuple[str, str], ...] = ()


class MessageReceived(msgspec.Struct, frozen=True):
    """A whole message: awaits a decision (LMTP: one for each recipient).

    `body` is the content without dot-stuffing, in pieces as they came; `size` is its length in octets.
    """

    sender: str
    recipients: tuple[str, ...]
    body: tuple[bytes, ...]
    size: int


class MessageDiscarded(msgspec.Struct, frozen=True):
    """A message was read to its end without being kept, and refused with `reply`; `size` octets came."""

    sender: str
    recipients: tuple[str, ...]
    size: int
    reply: Reply


class Reset(msgspec.Struct, frozen=True, gc=False):
    """RSET: the transaction, if there was one, is forgotten."""


class Quit(msgspec.Struct, frozen=True, gc=False):
    """QUIT: the client is done; the connection is to be closed after the output was written."""


class Closing(msgspec.Struct, frozen=True):
    """The server ends the connection for the reason in `reply` (a limit was passed, or it is no SMTP)."""

    reply: Reply


Event = Hello | MailFrom | RcptTo | MessageReceived | MessageDiscarded | Reset | Quit | Closing
