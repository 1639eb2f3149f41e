"""Command lines of SMTP and LMTP: from octets to a verb and checked arguments (RFC 5321, section 4.1).

Each parser gives what it found or the `Reply` that refuses it; none raises. Lenient only where living systems need
it: a space after `FROM:` or `TO:`, trailing blanks, source routes (ignored, as appendix C of RFC 5321 asks).
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from monsal.address import is_address
from monsal.smtp.events import MailFrom, Opening, RcptTo
from monsal.smtp.replies import BAD_ADDRESS, BAD_BODY_TYPE, BAD_CHUNK, BAD_PARAMETERS, BAD_SYNTAX, Reply
from monsal.smtp.states import Input

__all__: list[str] = []

_VERBS: Final = {
    b"MAIL": Input.MAIL,
    b"RCPT": Input.RCPT,
    b"DATA": Input.DATA,
    b"RSET": Input.RSET,
    b"NOOP": Input.NOOP,
    b"VRFY": Input.VRFY,
    b"EXPN": Input.EXPN,
    b"HELP": Input.HELP,
    b"QUIT": Input.QUIT,
    b"BDAT": Input.BDAT,
    b"STARTTLS": Input.STARTTLS,
    b"AUTH": Input.AUTH,
    b"XCLIENT": Input.XCLIENT,
}
SMTP_VERBS: Final = {**_VERBS, b"HELO": Input.HELLO, b"EHLO": Input.HELLO}
#: HELO and EHLO must not be answered positively by LMTP (RFC 2033, section 4.1).
LMTP_VERBS: Final = {**_VERBS, b"LHLO": Input.HELLO}

#: Known to SMTP, not offered here: 502 instead of 500.
NOT_OFFERED: Final = frozenset({b"ETRN", b"TURN", b"ATRN", b"SEND", b"SOML", b"SAML", b"BURL"})
#: First words of other protocols: who says them would go on with lines that an attacker may have chosen. PROXY is one
#: from a host that is not listed in `proxy_from`; of a listed one it never comes here.
FOREIGN_VERBS: Final = frozenset(
    {b"GET", b"POST", b"PUT", b"HEAD", b"DELETE", b"OPTIONS", b"CONNECT", b"TRACE", b"PATCH", b"PRI", b"PROXY"}
)

BAD_LINE_END: Final = Reply(500, "5.5.2", "a bare CR or LF does not end a line")
BAD_CHARACTERS: Final = Reply(500, "5.5.2", "characters that cannot stand in a command")
NEEDS_SMTPUTF8: Final = Reply(553, "5.6.7", "address needs SMTPUTF8")

# Possessive quantifiers: nothing here can be matched in two ways, so a hostile line costs linear time.
_PATH = r'<(?:@[^"<>\s:]++:)?+((?:[^"<>\s]++|"(?:[^"\\]|\\.)*+")*+)>'
_MAIL = re.compile(rf"FROM: *+{_PATH}(?: ++(.*))?\Z", re.IGNORECASE)
_RCPT = re.compile(rf"TO: *+{_PATH}(?: ++(.*))?\Z", re.IGNORECASE)
# What a client that pipelines sends for most mails (RFC 2920). Read by octets, for it is plain ASCII.
_OPENING = re.compile(
    rb"MAIL (FROM:<[!-;=?-~]*+>)(?: SIZE=([0-9]{1,20}))?+(?: BODY=8BITMIME)?+\r\nRCPT (TO:<[!-;=?-~]++>)\r\nDATA\r\n\Z"
)
_PARAMETER = re.compile(r"([A-Za-z0-9][A-Za-z0-9-]*+)(?:=([^=\s]++))?\Z")
_SIZE = re.compile(r"[0-9]{1,20}\Z")
_CHUNK = re.compile(rb"([0-9]{1,20})(?: ++(LAST))?+[ \t]*+\Z", re.IGNORECASE)
#: Octets of MAIL, RCPT and DATA together that may be read at once: no session refuses a line so short.
_MAX_OPENING = 512
#: Octets of a domain (RFC 5321, section 4.5.3.1.2).
_MAX_DOMAIN = 255


def decode_line(line: bytes) -> str | Reply:
    """The text of a command line without its CRLF and trailing blanks.

    Refuses what could be read as a second line or hidden from a reader of logs: bare CR and LF, NUL and other
    control characters, octets that are no UTF-8.
    """
    try:
        text = line.decode()
    except UnicodeDecodeError:
        return BAD_CHARACTERS
    if text.isprintable():
        return text.rstrip(" ")
    if b"\r" in line or b"\n" in line:
        return BAD_LINE_END
    text = text.rstrip(" \t")
    return text if text.isprintable() else BAD_CHARACTERS


def parse_hello(argument: str) -> str | Reply:
    """The name of HELO, EHLO and LHLO: one word of ASCII. Whether it is a real domain is not judged."""
    if not argument or " " in argument or len(argument) > _MAX_DOMAIN or not argument.isascii():
        return BAD_SYNTAX
    return argument


def _parameters(text: str | None) -> tuple[tuple[str, str], ...] | Reply:
    if not text:
        return ()
    found: dict[str, str] = {}
    for word in text.split():
        match = _PARAMETER.match(word)
        if match is None:
            return BAD_SYNTAX
        keyword = match[1].upper()
        if keyword in found:
            return BAD_SYNTAX
        found[keyword] = match[2] or ""
    return tuple(found.items())


@lru_cache(maxsize=1024)
def parse_mail(argument: bytes, extended: bool) -> MailFrom | Reply:
    """The argument of MAIL. Parameters are known only to a session that was opened with EHLO or LHLO.

    Cached like `parse_rcpt`: few senders and recipients make up most mail, and parsing is a tenth of a mail's work.
    """
    text = decode_line(argument)
    if isinstance(text, Reply):
        return text
    match = _MAIL.match(text)
    if match is None:
        return BAD_SYNTAX
    address = match[1]
    params = _parameters(match[2])
    if isinstance(params, Reply):
        return params
    size, body, smtputf8 = None, None, False
    for keyword, value in params:
        if not extended:
            return BAD_PARAMETERS
        if keyword == "SIZE":
            if not _SIZE.match(value):
                return BAD_SYNTAX
            size = int(value)
        elif keyword == "BODY":
            body = value.upper()
            if body not in ("7BIT", "8BITMIME", "BINARYMIME"):
                return BAD_BODY_TYPE
        elif keyword == "SMTPUTF8" and not value:
            smtputf8 = True
        elif keyword == "AUTH" and value:
            # Who wrote it first, says the client (RFC 4954, section 5): read, and believed by nobody.
            continue
        else:
            return BAD_PARAMETERS
    if address and not is_address(address):
        return BAD_ADDRESS
    if not smtputf8 and not address.isascii():
        return NEEDS_SMTPUTF8
    return MailFrom(address, size, body, smtputf8, params)


def parse_chunk(argument: bytes) -> tuple[int, bool] | Reply:
    """The size of a BDAT chunk in octets, and whether it is the last (RFC 3030, section 2)."""
    match = _CHUNK.match(argument)
    return BAD_CHUNK if match is None else (int(match[1]), match[2] is not None)


@lru_cache(maxsize=1024)
def parse_rcpt(argument: bytes, smtputf8: bool) -> RcptTo | Reply:
    """The argument of RCPT. No parameters are offered; `postmaster` needs no domain."""
    text = decode_line(argument)
    if isinstance(text, Reply):
        return text
    match = _RCPT.match(text)
    if match is None:
        return BAD_SYNTAX
    address = match[1]
    if match[2]:
        params = _parameters(match[2])
        return params if isinstance(params, Reply) else BAD_PARAMETERS
    if not is_address(address) and address.lower() != "postmaster":
        return BAD_ADDRESS
    if not smtputf8 and not address.isascii():
        return NEEDS_SMTPUTF8
    return RcptTo(address)


def parse_opening(data: bytes) -> Opening | None:
    """MAIL, RCPT and DATA of one mail by a client that said EHLO; None if `data` is not just that in its usual form.

    What it gives is what `parse_mail` and `parse_rcpt` make of each line; the addresses are cached there, without the
    size, which differs from mail to mail.
    """
    found = _OPENING.match(data) if len(data) <= _MAX_OPENING else None
    if found is None:
        return None
    sender, size, recipient = found.groups()
    mail, rcpt = parse_mail(sender, True), parse_rcpt(recipient, False)
    if isinstance(mail, MailFrom) and isinstance(rcpt, RcptTo):
        return Opening(mail.address, rcpt.address, int(size) if size else 0)
    return None
