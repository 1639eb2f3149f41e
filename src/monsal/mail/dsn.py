"""Reports about mail that did not arrive (or did), read into one typed record: `parse_bounce(root)` -> `Bounce`.

    dsn         which of the readers below is believed
    dsnrecord   the record
    dsnreport   reports in a form for machines: RFC 3464 with RFC 6533, and RFC 5965 (complaints)
    dsntext     what mail systems write for people: no form at all, so it is judged by evidence
    dsnstatus   what codes and words mean (RFC 3463, RFC 5248)

All of it is bounded, and nothing raises for any bytes: a report comes from whoever wants to send one.
"""

from __future__ import annotations

import msgspec

from monsal.mail.charset import decode_header
from monsal.mail.dsnrecord import Bounce, BouncedRecipient, BounceKind
from monsal.mail.dsnreport import complaint, delivery_fields, disposition, kind_of, recipients_of
from monsal.mail.dsnstatus import find_status, reason_of
from monsal.mail.dsntext import Notice, evidence, failed_recipients, is_delay, notice_of, recipients_in
from monsal.mail.mime import Part

__all__ = ["parse_bounce"]

#: Signs that have to come together for a text without a form; see `dsntext.evidence`.
ENOUGH = 4


def parse_bounce(root: Part, *, envelope_sender: str | None = None) -> Bounce | None:
    """What a mail reports about the delivery of another one; None if it is no report. Never raises.

    `root` is the mail as `mail.parse` gives it, `envelope_sender` its return path: empty for the null sender, which
    speaks for a report, None if it is not known.
    """
    notice = notice_of(root)
    complained = complaint(root)
    if complained is not None:
        return _bounce(root, notice, complained, kind="complaint", form="arf")
    groups = delivery_fields(root)
    if groups:
        recipients = recipients_of(groups)
        kind = kind_of(recipients)
        if not recipients:
            kind = "delay" if is_delay(root.header.subject or "", notice.text) else "failure"
            recipients = recipients_in(root.header, notice, action="delayed" if kind == "delay" else "failed")
        else:
            recipients = [_explained(recipient, notice) for recipient in recipients]
        bounce = _bounce(root, notice, recipients, kind=kind, form="rfc3464")
        facts = {name: group.get(name) for group in groups for name in _PER_MESSAGE if group.get(name)}
        return msgspec.structs.replace(
            bounce,
            reporting_mta=(facts.get("reporting-mta") or "").partition(";")[2].strip()[:300],
            envelope_id=(facts.get("original-envelope-id") or "")[:300],
        )
    receipt = disposition(root)
    if receipt is not None:
        # A filter that throws a mail away says so as a receipt (RFC 8098; RFC 5429 for `reject`).
        found = [_explained(recipient, notice) for recipient in receipt]
        return _bounce(root, notice, found, kind="failure", form="mdn") if found else None
    named = failed_recipients(root.header)
    delayed = is_delay(decode_header(root.header.subject or ""), notice.text)
    found = recipients_in(root.header, notice, action="delayed" if delayed else "failed")
    if not named and evidence(root.header, notice, envelope_sender) + bool(found) < ENOUGH:
        return None
    if named:
        found = _named(named, found, notice, action="delayed" if delayed else "failed")
    return _bounce(root, notice, found, kind="delay" if delayed else "failure", form="header" if named else "text")


_PER_MESSAGE = ("reporting-mta", "original-envelope-id")


def _explained(recipient: BouncedRecipient, notice: Notice) -> BouncedRecipient:
    """With the words of the notice, if the fields for machines have none or say nothing."""
    if recipient.action in ("delivered", "relayed", "expanded") or (
        recipient.reason != "other" and recipient.diagnostic
    ):
        return recipient
    words = _words_of(notice.text, recipient.address) or _words_of(notice.text, recipient.final) or notice.text[:2000]
    status = recipient.status
    if not status or status.endswith(".0.0"):
        status = find_status(words) or status
    reason = recipient.reason
    if reason in ("other", "policy", "system"):
        told = reason_of("", f"{recipient.diagnostic} {words}")
        reason = told if told != "other" else reason
    return msgspec.structs.replace(recipient, status=status, reason=reason)


def _words_of(text: str, address: str) -> str:
    """What a notice says next to an address: its paragraph; empty if it does not name it."""
    position = text.lower().find(address.lower()) if address else -1
    if position < 0:
        return ""
    start = max(text.rfind("\n\n", 0, position), 0)
    end = text.find("\n\n", position + len(address) + 3)
    return text[start : end if end >= 0 else len(text)].strip()[:2000]


def _named(
    addresses: list[str], found: list[BouncedRecipient], notice: Notice, *, action: str
) -> list[BouncedRecipient]:
    """The recipients of a header that names them, each with what the text says of it."""
    known = {recipient.address.lower(): recipient for recipient in found}
    status = find_status(notice.text)
    plain = BouncedRecipient(
        address="", action=action, status=status, diagnostic="", reason=reason_of(status, notice.text)
    )
    return [
        known.get(address.lower()) or msgspec.structs.replace(plain, address=address, final=address)
        for address in addresses
    ]


def _bounce(root: Part, notice: Notice, recipients: list[BouncedRecipient], *, kind: BounceKind, form: str) -> Bounce:
    original = notice.original
    subject = None if original is None else original.subject
    return Bounce(
        kind=kind,
        recipients=tuple(recipients),
        form=form,
        original_message_id=None if original is None else original.message_id,
        original_subject=None if subject is None else decode_header(subject),
        notification=notice.text,
    )
