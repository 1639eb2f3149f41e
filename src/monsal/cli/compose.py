"""The mails that `say` and `send` write: plain text, with what every mail has."""

from __future__ import annotations

from collections.abc import Sequence
from email.message import EmailMessage
from email.policy import SMTP, SMTPUTF8
from email.utils import formatdate, make_msgid

from monsal.address import split_address
from monsal.errors import UsageError

__all__ = ["compose", "to_crlf"]


def compose(
    sender: str,
    recipients: Sequence[str],
    subject: str,
    text: str,
    *,
    in_reply_to: str | None = None,
    references: str = "",
) -> tuple[str, bytes]:
    """Message-ID and bytes of a mail.

    Raises AddressError for an address that is none, UsageError for a line break in the subject.
    """
    for address in (sender, *recipients):
        split_address(address)
    to = ", ".join(recipients)
    message = EmailMessage(policy=SMTPUTF8 if not (sender + to).isascii() else SMTP)
    message_id = make_msgid(domain="localhost")
    try:
        message["From"] = sender
        message["To"] = to
        message["Subject"] = subject
    except ValueError as error:
        raise UsageError(f"this cannot stand in a header: {error}") from None
    message["Date"] = formatdate()
    message["Message-ID"] = message_id
    if in_reply_to:
        message["In-Reply-To"] = in_reply_to
        message["References"] = f"{references} {in_reply_to}".strip()
    message.set_content(text if text.endswith("\n") else f"{text}\n")
    return message_id, message.as_bytes()


def to_crlf(message: bytes) -> bytes:
    """A message with CRLF at the end of each line, as SMTP has it; pipes bring plain newlines."""
    return message.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
