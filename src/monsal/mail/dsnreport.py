"""Reports for machines: delivery status notifications (RFC 3464, RFC 6533) and abuse reports (RFC 5965).

A report is a multipart/report (RFC 6522), but what counts is the part with the fields: mail systems put it into any
container, send it as text/plain, forget the empty line between its groups, or write it as a header.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from monsal.address import is_address
from monsal.mail.addresses import first_address
from monsal.mail.dsnrecord import BouncedRecipient, BounceKind
from monsal.mail.dsnstatus import find_reply_code, find_status, reason_of
from monsal.mail.header import MAX_HEADER, HeaderScan, scan
from monsal.mail.mime import Part

__all__ = ["MAX_RECIPIENTS", "Fields", "complaint", "delivery_fields", "disposition", "kind_of", "recipients_of"]

#: Recipients that are read from one report.
MAX_RECIPIENTS = 1000

Fields = HeaderScan

_STATUS_TYPES = frozenset({"message/delivery-status", "message/global-delivery-status", "text/rfc3464"})
_BLANK = re.compile(rb"\r?\n[ \t]*\r?\n")
_COMMENT = re.compile(r"\([^()]*\)")
# RFC 6533, section 3: characters beyond ASCII in an address of the type utf-8.
_EMBEDDED = re.compile(r"\\x\{([0-9A-Fa-f]{1,6})\}")
_FIELD_LINE = re.compile(rb"^(?:Final-Recipient|Original-Recipient)[ \t]*:", re.IGNORECASE | re.MULTILINE)
_LINE = re.compile(rb"\n(?=(?:Final-Recipient|Original-Recipient)[ \t]*:)", re.IGNORECASE)

_OUTCOME = re.compile(rb"^(?:Action|Status|Diagnostic-Code)[ \t]*:", re.IGNORECASE | re.MULTILINE)

_ACTIONS = {
    "failed": "failed",
    "failure": "failed",
    "fail": "failed",
    "error": "failed",
    "delayed": "delayed",
    "delay": "delayed",
    "deferred": "delayed",
    "delivered": "delivered",
    "relayed": "relayed",
    "expanded": "expanded",
}


def delivery_fields(root: Part) -> list[Fields]:
    """The groups of fields of a delivery report: first that of the message, then one for each recipient.

    Empty if there is no report. Groups without a recipient are kept, as the report's own.
    """
    for part in root.walk():
        if part.content_type in _STATUS_TYPES:
            groups = list(_groups(part))
            if groups:
                return groups
    for part in root.walk():
        # A report under another name; not one inside of the mail that came back.
        if part.is_message:
            continue
        if part.content_type.startswith("text/") and not part.children and _FIELD_LINE.search(part.data[:MAX_HEADER]):
            groups = [group for group in _groups(part) if _is_group(group)]
            if any(_address_fields(group) for group in groups):
                return groups
    return []


def _groups(part: Part) -> Iterator[Fields]:
    if _address_fields(part.header) or "reporting-mta" in part.header:
        # The empty line before the fields is missing: they are the part's header.
        yield part.header
    data = part.data.replace(b"\r\n", b"\n")[: MAX_HEADER * 4]
    for number, block in enumerate(_BLANK.split(data)):
        if number > MAX_RECIPIENTS:
            return
        for piece in _recipient_blocks(block.strip(b"\n") + b"\n"):
            yield scan(piece)


def _recipient_blocks(block: bytes) -> list[bytes]:
    """A group in one piece, or in several if the empty line between two recipients is missing."""
    pieces: list[bytes] = []
    pending: list[bytes] = []
    for piece in _LINE.split(block):
        pending.append(piece)
        if _OUTCOME.search(piece):
            pieces.append(b"\n".join(pending))
            pending = []
    if pending and pieces:
        # An Original-Recipient at the end of its group: any order is allowed.
        pieces[-1] = b"\n".join([pieces[-1].rstrip(b"\n"), *pending])
    elif pending:
        pieces.append(b"\n".join(pending))
    return pieces


def _is_group(group: Fields) -> bool:
    return bool(group.names)


def _address_fields(group: Fields) -> list[tuple[str, str]]:
    return [(name, value) for name in ("original-recipient", "final-recipient") if (value := group.get(name))]


def _typed(value: str) -> str:
    """The value of a field `type; value`, without its type."""
    kind, separator, rest = value.partition(";")
    return (rest if separator and len(kind) < 40 else value).strip()


def _address(value: str) -> str:
    """The address in a recipient field, as well as it can be had; empty if there is nothing."""
    text = _EMBEDDED.sub(lambda match: _character(match.group(1)), _typed(value))
    bare = text.strip("<>'\" ")
    if is_address(bare):
        return bare
    found = first_address(text)
    if found:
        return found
    return bare.split()[0].strip("<>'\",;") if bare.split() else ""


def _character(digits: str) -> str:
    number = int(digits, 16)
    return chr(number) if 0x20 <= number < 0x110000 and not 0xD800 <= number < 0xE000 else "?"


def recipients_of(groups: list[Fields]) -> list[BouncedRecipient]:
    """One record for each recipient of a delivery report, in its order."""
    found: dict[str, BouncedRecipient] = {}
    for group in groups:
        values = dict(_address_fields(group))
        if not values and "x-actual-recipient" in group:
            values["final-recipient"] = group.get("x-actual-recipient") or ""
        final, original = _address(values.get("final-recipient", "")), _address(values.get("original-recipient", ""))
        address = original if "@" in original else final or original
        if not address or len(found) >= MAX_RECIPIENTS:
            continue
        recipient = _recipient(group, address, final or address)
        known = found.get(address.lower())
        if known is None or (known.action != "failed" and recipient.action == "failed"):
            found[address.lower()] = recipient
    return list(found.values())


def _recipient(group: Fields, address: str, final: str) -> BouncedRecipient:
    diagnostic = _typed(group.get("diagnostic-code") or "")
    written = _COMMENT.sub(" ", group.get("status") or "")
    status = find_status(written)
    said = find_status(diagnostic)
    if said and (not status or status.endswith((".0.0", ".0.0 "))):
        status = said
    words = f"{diagnostic} {group.get('status') or ''}"
    action = _ACTIONS.get((group.get("action") or "").split(" ")[0].split("(")[0].strip().lower(), "")
    if not action:
        code = status or find_reply_code(written) or find_reply_code(diagnostic)
        action = "delayed" if code.startswith("4") else "delivered" if code.startswith("2") else "failed"
    fine = action in ("delivered", "relayed", "expanded")
    return BouncedRecipient(
        address=address,
        final=final,
        action=action,
        status=status,
        diagnostic=diagnostic[:2000],
        remote_mta=_typed(group.get("remote-mta") or "")[:300],
        reason="other" if fine else reason_of(status, words),
    )


def kind_of(recipients: list[BouncedRecipient]) -> BounceKind:
    """What a report as a whole says: a failure if any recipient failed."""
    actions = {recipient.action for recipient in recipients}
    if "failed" in actions or not actions:
        return "failure"
    return "delay" if "delayed" in actions else "success"


def complaint(root: Part) -> list[BouncedRecipient] | None:
    """The recipients that an abuse report (RFC 5965) is about, None if it is none; empty if it names nobody."""
    for part in root.walk():
        if part.content_type != "message/feedback-report":
            continue
        fields = next(_groups(part), None)
        if fields is None:
            return []
        if (fields.get("feedback-type") or "abuse").strip().lower() not in ("abuse", "fraud", "other", "virus"):
            # `not-spam`, `auth-failure` (RFC 6591) and `dmarc` are about something else.
            return None
        addresses = [_address(value) for value in fields.get_all("original-rcpt-to")[:MAX_RECIPIENTS]]
        return [
            BouncedRecipient(
                address=address,
                final=address,
                reason="complaint",
                diagnostic=(fields.get("feedback-type") or "")[:100],
                remote_mta=_typed(fields.get("reporting-mta") or fields.get("user-agent") or "")[:300],
            )
            for address in dict.fromkeys(addresses)
            if address
        ]
    return None


_THROWN_AWAY = re.compile(r"automatic-action/[^;]*;\s*(?:deleted|denied|failed|dispatched/error)", re.IGNORECASE)


def disposition(root: Part) -> list[BouncedRecipient] | None:
    """Recipients whose system threw a mail away and says so in a receipt (RFC 8098); None if there is no receipt.

    Empty for any other receipt: that somebody read a mail, or deleted it unread, is no failure of its delivery.
    """
    for part in root.walk():
        if part.content_type == "message/disposition-notification":
            fields = next(_groups(part), None)
            if fields is None or not _THROWN_AWAY.match((fields.get("disposition") or "").strip()):
                return []
            address = _address(fields.get("original-recipient") or fields.get("final-recipient") or "")
            return [BouncedRecipient(address=address, final=address)] if address else []
    return None
