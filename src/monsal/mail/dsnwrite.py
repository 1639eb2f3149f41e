"""A delivery report of our own: what a relay's refusal says, in the form of RFC 3464. It goes to ourselves alone.

So a mail that our relay gives up comes back by the same way, and is read by the same code, as one that another system
gives up later.
"""

from __future__ import annotations

from monsal.mail.dates import format_date
from monsal.mail.dsnstatus import find_status

__all__ = ["delivery_report"]


def delivery_report(
    *, sender: str, recipient: str, message_id: str, reason: str, token: str, given_up: bool, now: float
) -> bytes:
    """The report that a mail from the envelope sender `sender` did not reach `recipient`.

    `reason` is the last reply of the next hop, `given_up` whether it was one of too many that said "later"; `token`
    makes the boundary, which must not occur in the reason; `now` is in epoch seconds.
    """
    host = sender.rpartition("@")[2]
    said = " ".join(reason.split())[:900]
    status = "4.4.7" if given_up else find_status(said) or "5.0.0"
    kind = "delivery-status" if (recipient + said).isascii() else "global-delivery-status"
    address = ("rfc822;" if recipient.isascii() else "utf-8;") + recipient
    boundary = f"report-{token}"
    lines = [
        f"From: Mail Delivery <mailer-daemon@{host}>",
        f"To: {sender}",
        f"Date: {format_date(now)}",
        "Subject: Undelivered Mail",
        "Auto-Submitted: auto-generated",
        "MIME-Version: 1.0",
        f'Content-Type: multipart/report; report-type={kind}; boundary="{boundary}"',
        "",
        f"--{boundary}",
        "Content-Type: text/plain; charset=utf-8",
        "",
        f"The mail {message_id} could not be delivered to",
        "",
        f"    {recipient}",
        "",
        said,
        "",
        f"--{boundary}",
        f"Content-Type: message/{kind}",
        "",
        f"Reporting-MTA: dns; {host}",
        "",
        f"Final-Recipient: {address}",
        "Action: failed",
        f"Status: {status}",
        f"Diagnostic-Code: smtp; {said}",
        "",
        f"--{boundary}",
        "Content-Type: text/rfc822-headers",
        "",
        f"Message-ID: {message_id}",
        "",
        f"--{boundary}--",
        "",
    ]
    return "\r\n".join(lines).encode("utf-8", "replace")
