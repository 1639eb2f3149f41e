"""Reports come from anybody: whatever their bytes are, reading them ends, and raises nothing."""

from __future__ import annotations

import time

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monsal.mail import Bounce, parse, parse_bounce

#: What reports are made of, in any order: near the real thing, and never quite.
PIECES = [
    b"From: MAILER-DAEMON@x.example\r\n",
    b"Subject: Undelivered Mail Returned to Sender\r\n",
    b"Subject: =?utf-8?b?RGVsaXZlcnkgZmFpbHVyZQ==?=\r\n",
    b"X-Failed-Recipients: a@b.example, \xff, <c@d>\r\n",
    b'Content-Type: multipart/report; report-type=delivery-status; boundary="x"\r\n',
    b"Content-Type: message/delivery-status\r\n",
    b"Content-Type: message/feedback-report\r\n",
    b"Content-Type: message/disposition-notification\r\n",
    b"Content-Type: message/rfc822\r\n",
    b"Content-Transfer-Encoding: base64\r\n",
    b"\r\n",
    b"\n\n",
    b"--x\r\n",
    b"--x--\r\n",
    b"Final-Recipient: rfc822; a@b.example\r\n",
    b"Original-Recipient: utf-8; \\x{110000}\\x{d800}\\x{41}@b.example\r\n",
    b"Final-Recipient: ;;;\r\n",
    b"Action: failed\r\nStatus: 5.999.999\r\n",
    b"Status: (((5.1.1\r\n",
    b"Diagnostic-Code: smtp; 550-5.1.1 \xe4\r\n  more\r\n",
    b"Feedback-Type: abuse\r\nOriginal-Rcpt-To: <>\r\n",
    b"Disposition: automatic-action/x; deleted\r\n",
    b"<a@b.example>:\r\n550 5.1.1 user unknown\r\n",
    b"could not be delivered to the following recipients:\r\n  name\r\n  a@b.example\r\n",
    b"--- Below this line is a copy of the message.\r\n",
    b"Received: from x\r\nTo: a@b.example\r\n",
    b"\x00\xff\x80=?x?q?=",
]


@given(
    st.lists(st.one_of(st.sampled_from(PIECES), st.binary(max_size=40)), max_size=30),
    st.sampled_from(["", "a@b", None]),
)
def test_no_bytes_raise(pieces: list[bytes], sender: str | None) -> None:
    found = parse_bounce(parse(b"".join(pieces)), envelope_sender=sender)
    if found is not None:
        # All that is derived can be asked for, and the record can be written down.
        assert found.error_for_humans
        assert isinstance(found.is_hard, bool)
        assert found.primary_status[0] in (0, 2, 4, 5)
        assert msgspec.json.decode(msgspec.json.encode(found), type=Bounce) == found


@pytest.mark.parametrize(
    "body",
    [
        b"a@b.example " * 40_000,
        b"a" * 500_000,
        b"@" * 500_000,
        b"<" * 300_000 + b"@" * 300_000,
        b"Final-Recipient: rfc822; a@b.example\nAction: failed\n\n" * 20_000,
        b"Original-Recipient: rfc822; a@b.example\n" * 20_000,
        b"could not " * 60_000,
        b"--- the returned " * 40_000,
        b"550 5.1.1 " * 60_000,
        b" \n" * 300_000,
        b"mailbox " * 60_000 + b"x",
    ],
    ids=lambda body: repr(body[:20]),
)
def test_long_texts_take_no_quadratic_time(body: bytes) -> None:
    """The bound is that of minutes against a moment: what is quadratic would take hours."""
    head = b"From: MAILER-DAEMON@x.example\nSubject: failure notice\n"
    began = time.process_time()
    parse_bounce(parse(head + b"\n" + body), envelope_sender="")
    parse_bounce(parse(head + b"Content-Type: message/delivery-status\n\n" + body), envelope_sender="")
    assert time.process_time() - began < 30
