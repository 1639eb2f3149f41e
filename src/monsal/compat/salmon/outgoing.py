"""How a mail of the ancestor's leaves within a turn: as a draft that is ready, with an envelope of its own."""

from __future__ import annotations

from email.generator import BytesGenerator
from email.message import Message as EmailMessage
from email.parser import BytesHeaderParser
from io import BytesIO
from typing import Any

from monsal.conversation.context import Turn, current
from monsal.errors import TurnError
from monsal.mail import Draft
from monsal.mail.dates import format_date

__all__ = ["ReadyDraft", "bytes_of", "complete", "running_turn"]


def running_turn() -> Turn | None:
    """The turn that runs here, None outside of a handler of a server."""
    try:
        return current()
    except TurnError:
        return None


class ReadyDraft(Draft, frozen=True, kw_only=True):
    """A Draft whose bytes are there already; only Date and Message-ID are added if they are missing."""

    content: bytes

    def render(self, *, message_id: str, date: float) -> bytes:
        return complete(self.content, message_id=message_id, date=date)


def complete(content: bytes, *, message_id: str, date: float) -> bytes:
    """The mail with a Message-ID and a Date (epoch seconds), if it has none of its own."""
    header = BytesHeaderParser().parsebytes(content, headersonly=True)
    lines = b""
    if "Date" not in header:
        lines += f"Date: {format_date(date)}\r\n".encode()
    if "Message-ID" not in header:
        lines += f"Message-ID: {message_id}\r\n".encode()
    return lines + content


def bytes_of(message: Any) -> bytes:
    """A mail as it is sent: lines end with CR LF (RFC 5321, section 2.3.8)."""
    if isinstance(message, EmailMessage):
        buffer = BytesIO()
        BytesGenerator(buffer, mangle_from_=False).flatten(message)
        data = buffer.getvalue()
    else:
        data = message if isinstance(message, bytes) else _to_bytes(message)
    return b"\r\n".join(data.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n"))


def _to_bytes(message: Any) -> bytes:
    if hasattr(type(message), "__bytes__"):
        return bytes(message)
    return str(message).encode("utf-8", "surrogateescape")
