"""From what an intake does to what the client is told. Nothing but a receipt becomes a 250 (P1)."""

from __future__ import annotations

import logging
import re
from typing import Final

import msgspec

from monsal.errors import StoreUnavailable
from monsal.ingress.base import Intake, Screening
from monsal.mail.envelope import Envelope
from monsal.smtp.replies import ABORTED, STORE_UNAVAILABLE, Refused, Reply
from monsal.store.contract import Receipt

__all__: list[str] = []

_log: Final = logging.getLogger("monsal.ingress")
_MESSAGE_ID: Final = re.compile(rb"^message-id:[ \t]*(<[!-=?-~]{1,250}>)", re.IGNORECASE | re.MULTILINE)
_HEADER_OCTETS: Final = 16 * 1024


class Answer(msgspec.Struct, frozen=True):
    """What became of one mail: `receipt` if it is stored, else the `refusal`; `failed` if something broke."""

    receipt: Receipt | None = None
    refusal: Reply | None = None
    failed: bool = False

    def replies(self, recipients: int, *, each: bool) -> tuple[Reply, ...]:
        """One reply for all recipients, or one for each (LMTP)."""
        if self.receipt is None:
            reply = self.refusal or ABORTED
            return (reply,) * recipients if each else (reply,)
        ids, duplicates = self.receipt.ids, self.receipt.duplicates
        if each:
            return tuple(
                [Reply(250, "2.0.0", f"{row} {_stored(was)}") for row, was in zip(ids, duplicates, strict=True)]
            )
        return (Reply(250, "2.0.0", f"{','.join(map(str, ids))} {_stored(all(duplicates))}"),)


def _stored(before: bool) -> str:
    return "stored before, this is a duplicate" if before else "stored"


def ask_accepts(intake: Intake, address: str, peer: str) -> Reply | Screening | None:
    """Whether mail for `address` is taken: None for yes, a refusal, or who is to be asked; then call `screen`.

    An error of the intake is a temporary refusal.
    """
    try:
        return intake.accepts(address) or intake.screen(address)
    except Exception:  # noqa: BLE001 - an edge: whatever breaks behind it must become a 451 and a log line, never a 250
        _log.exception("the intake failed at RCPT", extra={"action": "accepts", "recipient": address, "peer": peer})
        return ABORTED


async def screen(screening: Screening, envelope: Envelope) -> Reply | None:
    """Ask about the recipient of `envelope`; None for yes, or the refusal."""
    try:
        return await screening(envelope)
    except Exception:  # noqa: BLE001 - an edge, as above
        facts = {"action": "accepts", "recipient": envelope.recipients[0], "peer": envelope.peer}
        _log.exception("the intake failed at RCPT", extra=facts)
        return ABORTED


async def ask_about(intake: Intake, envelope: Envelope) -> Reply | None:
    """Both of the above about a mail's one recipient, for the ways in that have no session: None, or the refusal."""
    verdict = ask_accepts(intake, envelope.recipients[0], envelope.peer)
    return verdict if verdict is None or isinstance(verdict, Reply) else await screen(verdict, envelope)


async def hand_over(intake: Intake, envelope: Envelope, body: tuple[bytes, ...]) -> Answer:
    """`Intake.accept`, and what came of it."""
    try:
        receipt = await intake.accept(envelope, body)
    except Exception as error:  # noqa: BLE001 - an edge, as above
        return failed(envelope, body, error)
    return stored(envelope, body, receipt)


def failed(envelope: Envelope, body: tuple[bytes, ...], error: Exception) -> Answer:
    """The answer when an intake raised `error`: whatever breaks behind it becomes a 451 and a log line, never a 250."""
    if isinstance(error, Refused):
        _log.info("refused: %s", error.reply, extra=_facts("refuse", envelope, body))
        return Answer(refusal=error.reply)
    if isinstance(error, StoreUnavailable):
        _log.error("cannot store: %s", error, extra=_facts("accept_failed", envelope, body))
        return Answer(refusal=STORE_UNAVAILABLE, failed=True)
    _log.error("the intake failed", exc_info=error, extra=_facts("accept_failed", envelope, body))
    return Answer(refusal=ABORTED, failed=True)


def stored(envelope: Envelope, body: tuple[bytes, ...], receipt: Receipt) -> Answer:
    """The answer to a mail for which an intake gave a receipt."""
    if not len(envelope.recipients) == len(receipt.ids) == len(receipt.duplicates):
        _log.error("the receipt %r does not fit the recipients", receipt, extra=_facts("accept_failed", envelope, body))
        return Answer(refusal=ABORTED, failed=True)
    # The spool tells that it was stored, for all ways in; this adds the peer, for those who look for a fault.
    if _log.isEnabledFor(logging.DEBUG):
        facts = {**_facts("accept", envelope, body), "rows": receipt.ids}
        _log.debug("stored as %s", ",".join(map(str, receipt.ids)), extra=facts)
    return Answer(receipt=receipt)


def _facts(action: str, envelope: Envelope, body: tuple[bytes, ...]) -> dict[str, object]:
    """What a log line says about a mail; its Message-ID is looked for only here, because most mails are not logged."""
    found = _MESSAGE_ID.search(body[0][:_HEADER_OCTETS]) if body else None
    return {
        "action": action,
        "message_id": found[1].decode("ascii", "backslashreplace") if found else None,
        "peer": envelope.peer,
        "sender": envelope.sender,
        "recipients": envelope.recipients,
    }
