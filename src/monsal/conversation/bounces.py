"""What comes back to our envelope senders, and what it says of which mail. Pure: time is an argument.

    b+<token>.<mac>@host     on everything that a turn sends; the mac proves that the token is ours

A report is believed about the mail whose token its address proves, and about the recipients of that mail alone: whoever
got a mail of ours knows one address to send reports to, and must not be able to say anything of others by it.
"""

from __future__ import annotations

import re

import msgspec

from monsal.address import fold, is_address
from monsal.ids import MAC_LENGTH, TOKEN_LENGTH, mac_matches
from monsal.mail import Bounce, BouncedRecipient, Envelope, Message, delivery_report
from monsal.store.bounced import Bounced, SentMail
from monsal.store.contract import Accept, Outgoing, Recipient, Settled

__all__ = [
    "BOUNCE_ADDRESS",
    "BOUNCE_PURPOSE",
    "Returned",
    "genuine_token",
    "read_returned",
    "with_report",
]

#: The local part of the envelope senders that we sign: b+<token>.<mac> (DESIGN 4, *Bounces*).
BOUNCE_ADDRESS = re.compile(rf"b\+([0-9a-f]{{{TOKEN_LENGTH}}})\.([0-9a-f]{{{MAC_LENGTH}}})@", re.IGNORECASE)
#: What the mac in an envelope sender is bound to.
BOUNCE_PURPOSE = "bounce"


class Returned(msgspec.Struct, frozen=True, kw_only=True):
    """What came back means: the `bounce`, or None if it is none; a line for the history; what is noted of addresses.

    `dead` says that somebody should look at it.
    """

    note: str
    bounce: Bounce | None = None
    bounced: tuple[Bounced, ...] = ()
    dead: bool = False


def genuine_token(address: str, secret: bytes) -> str | None:
    """The token of one of our envelope senders, None if it is forged or no such address. Case does not matter."""
    match = BOUNCE_ADDRESS.match(address)
    if match is None:
        return None
    token = match.group(1).lower()
    return token if mac_matches(secret, BOUNCE_PURPOSE, token, match.group(2)) else None


def read_returned(message: Message, sent: SentMail) -> Returned:
    """Read what came back to the envelope sender of `sent`."""
    bounce = message.bounce
    if bounce is None and _says_nothing_but_no(message):
        bounce = Bounce(kind="failure", form="null sender", notification=message.text[:20_000])
    if bounce is None:
        why = message.automatic
        if why is not None:
            return Returned(note=f"an automatic answer came back, no bounce ({why})")
        return Returned(note=f"not a bounce: mail from {message.sender} to an envelope sender of ours", dead=True)
    bounce = msgspec.structs.replace(
        bounce,
        token=sent.token,
        sent_message_id=sent.message_id,
        sent_to=sent.recipients,
        recipients=_of_ours(bounce, sent),
    )
    return Returned(
        note=f"bounce ({bounce.kind}): {' / '.join(bounce.error_for_humans.splitlines())[:1000]}",
        bounce=bounce,
        bounced=tuple(_noted(recipient, bounce) for recipient in bounce.recipients),
    )


def _says_nothing_but_no(message: Message) -> bool:
    """Whether a mail in no form that is known must be a bounce: with a null sender, and of no responder (RFC 3834)."""
    return message.envelope_sender == "" and message.header.auto_submitted != "auto-replied"


def _of_ours(bounce: Bounce, sent: SentMail) -> tuple[BouncedRecipient, ...]:
    """The recipients of a report that are recipients of the mail, under the address that we wrote to.

    A mail to one recipient is about that one, whatever the report calls it: mail is forwarded.
    """
    ours = {fold(address): address for address in sent.recipients}
    found: dict[str, BouncedRecipient] = {}
    for recipient in bounce.recipients:
        for name in (recipient.address, recipient.final):
            if (address := ours.get(fold(name))) is not None:
                found.setdefault(address, msgspec.structs.replace(recipient, address=address))
                break
    if not found and len(ours) == 1:
        (address,) = ours.values()
        return (msgspec.structs.replace(bounce.first, address=address),)
    return tuple(found.values())


_KINDS = {"failed": "failure", "delayed": "delay"}


def _noted(recipient: BouncedRecipient, bounce: Bounce) -> Bounced:
    kind = bounce.kind if bounce.kind == "complaint" else _KINDS.get(recipient.action, "success")
    return Bounced(
        address=recipient.address,
        token=bounce.token,
        kind=kind,  # type: ignore[arg-type]  # the values of _KINDS are of that kind
        hard=recipient.is_hard,
        reason=recipient.reason,
        status=recipient.status,
        detail=recipient.diagnostic[:500],
    )


def with_report(row: Outgoing, settled: Settled, now: float) -> Settled:
    """The result of a row that failed for good, with the report to its own envelope sender; others as they are."""
    if settled.status != "failed":
        return settled
    match = BOUNCE_ADDRESS.match(row.sender)
    if match is None or not is_address(row.sender):
        return settled
    body = delivery_report(
        sender=row.sender,
        recipient=row.recipient,
        message_id=row.message_id,
        reason=settled.reason,
        token=match.group(1).lower(),
        given_up=settled.reason.startswith("given up after"),
        now=now,
    )
    envelope = Envelope(sender="", recipients=(row.sender,), peer="relay")
    report = Accept(
        sender="",
        correspondent=f"mailer-daemon@{row.sender.rpartition('@')[2]}",
        # The queue of the row that made the mail, if that is still known.
        recipients=(Recipient(row.sender, f"#{match.group(1).lower()}"),),
        body=(body,),
        received=now,
        source="bounce",
        envelope=msgspec.json.encode(envelope),
    )
    return msgspec.structs.replace(settled, report=report)
