"""Which mail gets no automatic answer (DESIGN 4, Loops; RFC 3834)."""

from __future__ import annotations

import pytest

from monsal.mail.automatic import automatic_reason, bounce_reason
from monsal.mail.header import scan


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ("Auto-Submitted: auto-replied", "Auto-Submitted: auto-replied"),
        ("Auto-Submitted: auto-generated; owner-email=x", "Auto-Submitted: auto-generated"),
        ("Precedence: bulk", "Precedence: bulk"),
        ("Precedence: LIST", "Precedence: list"),
        ("Precedence: junk", "Precedence: junk"),
        ("Precedence: auto_reply", "Precedence: auto_reply"),
        ("List-Id: <x.y>", "List-Id"),
        ("List-Unsubscribe: <mailto:x@y>", "List-Unsubscribe"),
        ("X-Autoreply: yes", "X-Autoreply"),
        ("X-Autorespond: x", "X-Autorespond"),
        ("X-Loop: monsal", "X-Loop"),
        ("X-Auto-Response-Suppress: DR, OOF, AutoReply", "X-Auto-Response-Suppress: DR, OOF, AutoReply"),
        ("X-Auto-Response-Suppress: All", "X-Auto-Response-Suppress: All"),
        ("Content-Type: multipart/report; report-type=disposition-notification; boundary=x",
         "Content-Type: multipart/report (receipt)"),
        ("Content-Type: multipart/report; boundary=x", "Content-Type: multipart/report (report)"),
        ('Content-Type: multipart/report; report-type="delivery-status"; boundary=x',
         "Content-Type: multipart/report (delivery report)"),
        ("X-Failed-Recipients: x@y", "X-Failed-Recipients"),
    ],
)  # fmt: skip
def test_a_header_that_says_so(header: str, reason: str) -> None:
    raw = f"From: a@b.c\r\n{header}\r\n\r\n".encode()

    assert automatic_reason(scan(raw), "a@b.c") == reason


@pytest.mark.parametrize(
    "header",
    [
        "Auto-Submitted: no",
        "Auto-Submitted: No (typed by hand)",
        "Precedence: first-class",
        "X-Auto-Response-Suppress: DR",
        "Content-Type: multipart/alternative; boundary=report-type",
        "X-Priority: 1",
    ],
)
def test_a_person(header: str) -> None:
    raw = f"From: a@b.c\r\n{header}\r\n\r\n".encode()

    assert automatic_reason(scan(raw), "a@b.c") is None
    assert automatic_reason(scan(raw), None) is None


@pytest.mark.parametrize(
    ("sender", "reason"),
    [
        ("", "null envelope sender"),
        ("MAILER-DAEMON@x.y", "envelope sender MAILER-DAEMON@x.y"),
        ("list-request@x.y", "envelope sender list-request@x.y"),
        ("owner-list@x.y", "envelope sender owner-list@x.y"),
    ],
)
def test_an_envelope_sender_that_wants_no_answer(sender: str, reason: str) -> None:
    assert automatic_reason(scan(b"From: a@b.c\r\n\r\n"), sender) == reason


def test_the_daemon_in_from() -> None:
    found = scan(b"From: Mail Delivery System <Mailer-Daemon@x.y>\r\n\r\n")

    assert bounce_reason(found, "x@y.z") == "From: mailer-daemon@x.y"


def test_a_vacation_notice_is_no_bounce() -> None:
    found = scan(b"From: a@b.c\r\nAuto-Submitted: auto-replied\r\n\r\n")

    assert bounce_reason(found, "a@b.c") is None
    assert automatic_reason(found, "a@b.c") is not None
