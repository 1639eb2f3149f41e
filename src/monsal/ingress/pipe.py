"""One mail from a pipe: for `monsal ingest`, called by another mail server or a script.

Order of use: `read_mail` from the stream, then `ingest`. The exit codes are those of sysexits.h, which mail servers
understand: 75 (try again) puts the mail back into their queue, 65 makes them bounce it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import BinaryIO, Final

import msgspec

from monsal.address import is_address
from monsal.ingress.answers import ask_accepts, hand_over, screen
from monsal.ingress.base import Intake
from monsal.mail.envelope import Envelope
from monsal.smtp.replies import BAD_ADDRESS, MESSAGE_TOO_BIG, Reply

__all__ = ["EX_DATAERR", "EX_OK", "EX_TEMPFAIL", "Ingested", "ingest", "read_mail"]

EX_OK: Final = 0
EX_DATAERR: Final = 65
EX_TEMPFAIL: Final = 75

_PIECE: Final = 64 * 1024


class Ingested(msgspec.Struct, frozen=True):
    """What became of the mail: an exit code, and the reply that a client of SMTP would have got."""

    code: int
    reply: Reply

    @classmethod
    def of(cls, reply: Reply) -> Ingested:
        """The exit code that says the same as `reply`."""
        if reply.is_positive:
            return cls(EX_OK, reply)
        return cls(EX_DATAERR if reply.is_permanent else EX_TEMPFAIL, reply)


def read_mail(stream: BinaryIO, max_size: int) -> tuple[bytes, ...] | None:
    """All of `stream` in pieces, or None if it has more than `max_size` octets; no more than that is held.

    A first line `From ...`, which mail servers put before a mail in a mailbox or a pipe, is no part of it.
    """
    pieces: list[bytes] = []
    size = 0
    while piece := stream.read(_PIECE):
        size += len(piece)
        if size > max_size:
            return None
        pieces.append(piece)
    if pieces and pieces[0].startswith(b"From "):
        pieces[0] = pieces[0].partition(b"\n")[2]
    return tuple(pieces)


async def ingest(
    intake: Intake,
    body: tuple[bytes, ...] | None,
    *,
    recipients: Sequence[str],
    sender: str = "",
) -> Ingested:
    """Accept one mail for all `recipients` or for none. `body` is what `read_mail` gave."""
    if body is None:
        return Ingested.of(MESSAGE_TOO_BIG)
    if not recipients or (sender and not is_address(sender)):
        return Ingested.of(BAD_ADDRESS)
    refusals = []
    for recipient in recipients:
        # Only `postmaster` is an address without a domain (RFC 5321, section 4.1.1.3).
        valid = is_address(recipient) or recipient.lower() == "postmaster"
        verdict = ask_accepts(intake, recipient, "pipe") if valid else BAD_ADDRESS
        if verdict is not None and not isinstance(verdict, Reply):
            envelope = Envelope(sender=sender, recipients=(recipient,), peer="pipe", protocol="LOCAL")
            verdict = await screen(verdict, envelope)
        refusals.append(verdict)
    refused = [refusal for refusal in refusals if refusal is not None]
    if refused:
        return Ingested.of(max(refused, key=lambda refusal: refusal.code))
    envelope = Envelope(sender=sender, recipients=tuple(recipients), peer="pipe", protocol="LOCAL")
    answer = await hand_over(intake, envelope, body)
    return Ingested.of(answer.replies(len(recipients), each=False)[0])
