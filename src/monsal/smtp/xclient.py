"""The XCLIENT command: a trusted mail server says for whom it speaks (Postfix, XCLIENT_README)."""

from __future__ import annotations

import ipaddress
import re
from typing import Final

from monsal.smtp.commands import decode_line, parse_hello
from monsal.smtp.events import XClient
from monsal.smtp.replies import BAD_SYNTAX, Reply

__all__: list[str] = []

OFFER: Final = "XCLIENT NAME ADDR PORT PROTO HELO LOGIN"

#: What a value says that has no value: an empty text here.
_UNKNOWN: Final = frozenset({"[UNAVAILABLE]", "[TEMPUNAVAIL]"})
#: xtext (RFC 3461, section 4): printable ASCII but + and =, and +HH for any octet.
_XTEXT: Final = re.compile(r"(?:[!-*,-<>-~]|\+[0-9A-F]{2})*+\Z", re.IGNORECASE)
_HEX: Final = re.compile(r"\+([0-9A-F]{2})", re.IGNORECASE)
_FIELDS: Final = {
    "NAME": "name",
    "ADDR": "address",
    "PORT": "port",
    "PROTO": "proto",
    "HELO": "hello",
    "LOGIN": "login",
}
#: The address that was connected to; read and not used.
_IGNORED: Final = frozenset({"DESTADDR", "DESTPORT"})
_LONGEST: Final = 255


def parse_xclient(argument: bytes) -> XClient | Reply:
    """The arguments of XCLIENT, or the reply that refuses them: all or nothing."""
    line = decode_line(argument)
    if isinstance(line, Reply):
        return line
    found: dict[str, str | int] = {}
    for word in line.split():
        attribute, equals, value = word.partition("=")
        attribute = attribute.upper()
        if attribute in _IGNORED and equals:
            continue
        field = _FIELDS.get(attribute)
        text = _decoded(value) if equals else None
        if field is None or field in found or text is None:
            return BAD_SYNTAX
        checked = _checked(field, text)
        if checked is None:
            return BAD_SYNTAX
        found[field] = checked
    return XClient(**found) if found else BAD_SYNTAX  # type: ignore[arg-type]  # each of the type of its field


def _decoded(value: str) -> str | None:
    """The text behind xtext; None if it is none, or has what cannot stand in a log line."""
    if value.upper() in _UNKNOWN:
        return ""
    if not value or not value.isascii() or _XTEXT.match(value) is None:
        return None
    octets = _HEX.sub(lambda match: chr(int(match[1], 16)), value).encode("latin-1")
    try:
        text = octets.decode()
    except UnicodeDecodeError:
        return None
    return text if text.isprintable() and len(text) <= _LONGEST else None


def _checked(field: str, text: str) -> str | int | None:
    """The value of an attribute, None if it cannot be one."""
    if field == "port":
        if not text:
            return 0
        return int(text) if text.isascii() and text.isdigit() and int(text) <= 65535 else None
    if not text:
        return text
    if field == "address":
        return _address(text)
    if field == "proto":
        return text.upper() if text.upper() in ("SMTP", "ESMTP") else None
    if field == "hello":
        return None if isinstance(parse_hello(text), Reply) else text
    return text


def _address(text: str) -> str | None:
    """An IPv4 address, or `IPV6:` and one of those."""
    bare = text[5:] if text.upper().startswith("IPV6:") else text
    try:
        address = ipaddress.ip_address(bare)
    except ValueError:
        return None
    return None if getattr(address, "scope_id", None) else str(address)
