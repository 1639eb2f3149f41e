"""What the receiving side tells its caller: one record per thing that a client did.

`MailFrom`, `RcptTo`, `MessageReceived`, `Login` and `XClient` wait for a decision (`ServerProtocol.reply`); after
`StartTls` the session waits for `ServerProtocol.tls_started`; the others are only told.
"""

from __future__ import annotations

import msgspec

from monsal.smtp.replies import Reply

__all__ = [
    "Closing",
    "Event",
    "Hello",
    "Login",
    "MailFrom",
    "MessageDiscarded",
    "MessageReceived",
    "Opening",
    "Quit",
    "RcptTo",
    "Reset",
    "StartTls",
    "XClient",
]


class Hello(msgspec.Struct, frozen=True, gc=False):
    """HELO, EHLO or LHLO: what the client calls itself; `extended` unless it was HELO."""

    name: str
    extended: bool


class MailFrom(msgspec.Struct, frozen=True):
    """MAIL: awaits a decision. `address` is empty for the null reverse-path `<>`.

    `size` is the declared size in octets or None (RFC 1870), `body` is 7BIT, 8BITMIME (RFC 6152), BINARYMIME (RFC
    3030) or None, `smtputf8` whether addresses beyond ASCII may follow (RFC 6531). `params` are all parameters as
    given, keywords in upper case.
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


class Opening(msgspec.Struct, frozen=True, gc=False):
    """MAIL, RCPT and DATA that came together (`ServerProtocol.opening`); `size` is 0 if none was declared."""

    sender: str
    recipient: str
    size: int


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


class StartTls(msgspec.Struct, frozen=True, gc=False):
    """STARTTLS (RFC 3207): encrypt the link after the output was written, then call `tls_started`.

    What came in the same packet is thrown away, and so is what comes until then: an attacker on the way may have
    written it.
    """


class Login(msgspec.Struct, frozen=True):
    """AUTH (RFC 4954): awaits a decision: 235, 535 for wrong credentials, 454 if they cannot be checked now.

    The password is shown by neither `repr` nor `str`.
    """

    mechanism: str
    user: str
    password: str

    def __repr__(self) -> str:
        return f"Login(mechanism={self.mechanism!r}, user={self.user!r}, password=...)"


class XClient(msgspec.Struct, frozen=True, kw_only=True):
    """XCLIENT (Postfix, XCLIENT_README): awaits a decision; a positive one is said as a new greeting.

    None is what the command did not say, an empty text what it said is not known. `address` is an IP address, `proto`
    SMTP or ESMTP, `login` the name proved to the other server.
    """

    name: str | None = None
    address: str | None = None
    port: int | None = None
    proto: str | None = None
    hello: str | None = None
    login: str | None = None


Event = (
    Hello | MailFrom | RcptTo | MessageReceived | MessageDiscarded | Reset | Quit | Closing | StartTls | Login | XClient
)
