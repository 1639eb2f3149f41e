"""Replies of SMTP and LMTP (RFC 5321, section 4.2) with enhanced status codes (RFC 2034, RFC 3463).

`Reply` is used on both sides: the server sends it, the client's parser makes it. The constants are the server's.
"""

from __future__ import annotations

import re

import msgspec

from monsal.errors import MonsalError

__all__ = [
    "ABORTED",
    "ALREADY_ENCRYPTED",
    "ALREADY_LOGGED_IN",
    "BAD_ADDRESS",
    "BAD_BASE64",
    "BAD_BODY_TYPE",
    "BAD_CHUNK",
    "BAD_MECHANISM",
    "BAD_PARAMETERS",
    "BAD_SEQUENCE",
    "BAD_SYNTAX",
    "BINARY_NEEDS_BDAT",
    "CANNOT_VERIFY",
    "GOODBYE",
    "HELP",
    "LINE_TOO_LONG",
    "LOGGED_IN",
    "LOGIN_CANCELLED",
    "LOGIN_NEEDS_TLS",
    "LOGIN_UNAVAILABLE",
    "MESSAGE_TOO_BIG",
    "NOT_AUTHORIZED",
    "NOT_IMPLEMENTED",
    "NOT_SMTP",
    "NO_RECIPIENTS",
    "NO_ROUTES",
    "OK",
    "READY_FOR_TLS",
    "RECIPIENT_OK",
    "SENDER_OK",
    "SHUTTING_DOWN",
    "START_MAIL_INPUT",
    "STORE_UNAVAILABLE",
    "TIMED_OUT",
    "TOO_BUSY",
    "TOO_MANY_CONNECTIONS",
    "TOO_MANY_ERRORS",
    "TOO_MANY_HOPS",
    "TOO_MANY_RECIPIENTS",
    "TOO_MANY_TRANSACTIONS",
    "UNKNOWN_COMMAND",
    "UNKNOWN_RECIPIENT",
    "WRONG_LOGIN",
    "Refused",
    "Reply",
]

#: Octets of one reply line with its CRLF (RFC 5321, section 4.5.3.1.5).
MAX_REPLY_LINE = 512

_UNSAFE = re.compile(r"[^ -~]")


class Reply(msgspec.Struct, frozen=True):
    """One reply: a code of three digits, an enhanced status code such as `5.1.1` or None, and one or more lines.

    What cannot stand in a reply line (line ends, control characters, non-ASCII) is sent as `?`, so that no text from
    outside can forge a second reply; a line longer than RFC 5321 allows is cut. Raises ValueError for a code
    outside 200-599.
    """

    code: int
    enhanced: str | None
    text: str | tuple[str, ...]

    def __post_init__(self) -> None:
        if not 200 <= self.code <= 599:
            raise ValueError(f"a reply code is from 200 to 599, not {self.code}")

    @property
    def is_positive(self) -> bool:
        """2yz and 3yz: done, or go on."""
        return self.code < 400

    @property
    def is_transient(self) -> bool:
        """4yz: try again later."""
        return 400 <= self.code < 500

    @property
    def is_permanent(self) -> bool:
        """5yz: do not try the same again."""
        return self.code >= 500

    @property
    def lines(self) -> tuple[str, ...]:
        """The lines of text, at least one."""
        return (self.text,) if isinstance(self.text, str) else self.text or ("",)

    def to_bytes(self) -> bytes:
        """The reply as it goes over the wire; each of several lines repeats the codes (RFC 2034, section 4)."""
        enhanced = f"{self.enhanced} " if self.enhanced else ""
        if isinstance(self.text, str):
            return _line(f"{self.code} {enhanced}{self.text}")
        *before, last = self.lines
        return b"".join(_line(f"{self.code}-{enhanced}{text}") for text in before) + _line(
            f"{self.code} {enhanced}{last}"
        )

    def __str__(self) -> str:
        enhanced = f"{self.enhanced} " if self.enhanced else ""
        text = self.text if isinstance(self.text, str) else " ".join(self.text)
        return f"{self.code} {enhanced}{text}".rstrip()


def _line(text: str) -> bytes:
    if not (text.isascii() and text.isprintable()):
        text = _UNSAFE.sub("?", text)
    return text[: MAX_REPLY_LINE - 2].encode("ascii") + b"\r\n"


class Refused(MonsalError):
    """Raised by whoever is asked to take a message, to answer with `reply` instead of 250 (for example 554 5.4.6).

    Raises ValueError if the reply is positive: a refusal never says yes (P1).
    """

    def __init__(self, reply: Reply) -> None:
        if reply.is_positive:
            raise ValueError(f"a refusal needs a 4yz or 5yz reply, not {reply}")
        super().__init__(reply)
        self.reply = reply

    def __str__(self) -> str:
        return str(self.reply)


OK = Reply(250, "2.0.0", "OK")
SENDER_OK = Reply(250, "2.1.0", "sender OK")
RECIPIENT_OK = Reply(250, "2.1.5", "recipient OK")
START_MAIL_INPUT = Reply(354, None, "go ahead, end with <CRLF>.<CRLF>")
GOODBYE = Reply(221, "2.0.0", "goodbye")
CANNOT_VERIFY = Reply(252, "2.1.5", "send some mail, we will try")
HELP = Reply(214, "2.0.0", "RFC 5321: HELO EHLO LHLO MAIL RCPT DATA BDAT STARTTLS AUTH RSET NOOP QUIT VRFY HELP")
READY_FOR_TLS = Reply(220, "2.0.0", "ready to start TLS")
LOGGED_IN = Reply(235, "2.7.0", "you are logged in")

SHUTTING_DOWN = Reply(421, "4.3.2", "shutting down, come back later")
TIMED_OUT = Reply(421, "4.4.2", "timed out, closing")
TOO_MANY_CONNECTIONS = Reply(421, "4.7.0", "too many connections")
TOO_MANY_ERRORS = Reply(421, "4.7.0", "too many errors, closing")
TOO_MANY_TRANSACTIONS = Reply(421, "4.7.0", "enough mail over this connection, open another")
ABORTED = Reply(451, "4.3.0", "local error, try again later")
STORE_UNAVAILABLE = Reply(451, "4.3.0", "cannot store mail now, try again later")
NO_ROUTES = Reply(451, "4.3.0", "not ready to take mail, try again later")
LOGIN_UNAVAILABLE = Reply(454, "4.7.0", "cannot check this login now, try again later")
TOO_BUSY = Reply(452, "4.3.1", "too much mail at once, try again later")
TOO_MANY_RECIPIENTS = Reply(452, "4.5.3", "too many recipients")

BAD_BASE64 = Reply(501, "5.5.2", "this is no answer to the challenge")
LOGIN_CANCELLED = Reply(501, "5.7.0", "login cancelled")
BAD_CHUNK = Reply(501, "5.5.4", "BDAT needs a size, closing")
ALREADY_ENCRYPTED = Reply(503, "5.5.1", "the link is encrypted already")
ALREADY_LOGGED_IN = Reply(503, "5.5.1", "you are logged in already")
BINARY_NEEDS_BDAT = Reply(503, "5.5.1", "a BINARYMIME mail is sent with BDAT")
BAD_MECHANISM = Reply(504, "5.5.4", "this way to log in is not offered")
WRONG_LOGIN = Reply(535, "5.7.8", "wrong name or password")
LOGIN_NEEDS_TLS = Reply(538, "5.7.11", "log in over TLS only, say STARTTLS first")
NOT_AUTHORIZED = Reply(550, "5.7.0", "not authorized")
LINE_TOO_LONG = Reply(500, "5.5.6", "line too long")
UNKNOWN_COMMAND = Reply(500, "5.5.1", "unknown command")
BAD_SYNTAX = Reply(501, "5.5.4", "bad syntax")
NOT_IMPLEMENTED = Reply(502, "5.5.1", "not implemented")
BAD_SEQUENCE = Reply(503, "5.5.1", "bad sequence of commands")
NO_RECIPIENTS = Reply(503, "5.5.1", "no valid recipients")
UNKNOWN_RECIPIENT = Reply(550, "5.1.1", "unknown recipient")
MESSAGE_TOO_BIG = Reply(552, "5.3.4", "message too big")
BAD_ADDRESS = Reply(553, "5.1.3", "not a mail address")
TOO_MANY_HOPS = Reply(554, "5.4.6", "too many hops, this is a mail loop")
NOT_SMTP = Reply(554, "5.5.0", "this port speaks SMTP")
BAD_BODY_TYPE = Reply(555, "5.5.4", "body type not known")
BAD_PARAMETERS = Reply(555, "5.5.4", "parameter not known")
