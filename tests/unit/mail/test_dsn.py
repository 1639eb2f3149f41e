"""Reports of what could not be delivered: the forms for machines, the texts for people, and what is neither."""

from __future__ import annotations

import pytest

from monsal.mail import Bounce, parse, parse_bounce
from monsal.mail.dsnstatus import find_reply_code, find_status, reason_of


def read(text: str, sender: str | None = None) -> Bounce | None:
    return parse_bounce(parse(text.replace("\n", "\r\n").encode()), envelope_sender=sender)


def bounce(text: str, sender: str | None = None) -> Bounce:
    found = read(text, sender)
    assert found is not None
    return found


def report(fields: str, *, kind: str = "delivery-status", text: str = "Sorry.") -> str:
    return f"""From: MAILER-DAEMON@mx.example.net
To: b+1.2@example.com
Subject: Undelivered Mail Returned to Sender
MIME-Version: 1.0
Content-Type: multipart/report; report-type={kind}; boundary="x"

--x
Content-Type: text/plain

{text}

--x
Content-Type: message/{kind}

{fields}
--x
Content-Type: text/rfc822-headers

From: desk@example.com
To: ann@example.net
Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=
Message-ID: <abc@example.com>

--x--
"""


FAILED = """Reporting-MTA: dns; mx.example.net
Original-Envelope-Id: e17

Original-Recipient: rfc822;ann@example.net
Final-Recipient: rfc822;ann.b@inner.example.net
Action: failed
Status: 5.0.0 (permanent failure)
Remote-MTA: dns; inner.example.net
Diagnostic-Code: smtp; 550 5.1.1 <ann.b@inner.example.net>:
    user unknown
"""


def test_a_report_says_who_why_and_which_mail() -> None:
    found = bounce(report(FAILED))
    assert (found.kind, found.form, found.reporting_mta, found.envelope_id) == (
        "failure",
        "rfc3464",
        "mx.example.net",
        "e17",
    )
    assert (found.original_message_id, found.original_subject) == ("<abc@example.com>", "Grüße")
    [recipient] = found.recipients
    assert (recipient.address, recipient.final) == ("ann@example.net", "ann.b@inner.example.net")
    assert recipient.remote_mta == "inner.example.net"
    assert recipient.diagnostic == "550 5.1.1 <ann.b@inner.example.net>:    user unknown"
    # The vague code of the report gives way to the one that the server said.
    assert (recipient.status, recipient.reason, recipient.is_hard) == ("5.1.1", "unknown_user", True)


def test_the_names_of_the_ancestor_have_counterparts() -> None:
    found = bounce(report(FAILED))
    assert found.primary_status == (5, "Permanent failure")
    assert found.secondary_status == (1, "Addressing status")
    assert found.combined_status == (11, "Bad destination mailbox address")
    assert (found.is_hard, found.is_soft, found.action) == (True, False, "failed")
    assert found.final_recipient == "ann.b@inner.example.net"
    assert found.remote_mta == "inner.example.net"
    assert len(found.diagnostic_codes) == 1
    assert found.error_for_humans.startswith("ann@example.net: there is no such mailbox [5.1.1]")


def test_codes_outside_of_any_table_are_read() -> None:
    found = bounce(report(FAILED.replace("5.0.0", "5.4.316").replace("5.1.1", "5.4.316")))
    assert found.combined_status == (4316, "Network and routing status, detail 316")
    empty = Bounce(kind="failure")
    assert (empty.primary_status, empty.secondary_status, empty.combined_status) == ((0, ""), (0, ""), (0, ""))
    assert empty.error_for_humans.startswith("the recipient is not named")


@pytest.mark.parametrize(
    ("action", "status", "kind"),
    [
        ("delayed", "4.4.7", "delay"),
        ("delivered", "2.1.5", "success"),
        ("relayed", "2.0.0", "success"),
        ("expanded", "2.1.5", "success"),
        ("failed", "5.1.1", "failure"),
        ("", "4.2.2", "delay"),
        ("FAILURE", "5.2.1", "failure"),
    ],
)
def test_kinds_of_reports_are_told_apart(action: str, status: str, kind: str) -> None:
    fields = f"Reporting-MTA: dns; x\n\nFinal-Recipient: rfc822;a@b.example\nAction: {action}\nStatus: {status}\n"
    found = bounce(report(fields))
    assert (found.kind, found.is_hard) == (kind, kind == "failure")


def test_several_recipients_one_of_which_arrived() -> None:
    found = bounce(report(FAILED + "\nFinal-Recipient: rfc822;bob@b.example\nAction: delivered\nStatus: 2.0.0\n"))
    assert found.kind == "failure"
    assert [(one.address, one.action) for one in found.recipients] == [
        ("ann@example.net", "failed"),
        ("bob@b.example", "delivered"),
    ]


def test_groups_without_an_empty_line_between_them() -> None:
    one = "Final-Recipient: rfc822;{}@b.example\nAction: failed\nStatus: 5.1.1\n"
    found = bounce(report("Reporting-MTA: dns; x\n\n" + one.format("a") + one.format("b")))
    assert found.addresses == ("a@b.example", "b@b.example")


def test_a_recipient_in_any_order_of_fields_is_one() -> None:
    fields = (
        "Final-Recipient: rfc822;a@b.example\nAction: failed\nStatus: 5.1.1\nOriginal-Recipient: rfc822;c@d.example\n"
    )
    assert bounce(report(fields)).addresses == ("c@d.example",)


def test_an_internationalised_report() -> None:
    """RFC 6533: the type utf-8, characters embedded or as they are, message/global-delivery-status."""
    fields = "Final-Recipient: utf-8;gr\\x{FC}n@b.example\nAction: failed\nStatus: 5.1.1\n"
    assert bounce(report(fields, kind="global-delivery-status")).addresses == ("grün@b.example",)
    assert bounce(report(fields.replace("\\x{FC}", "ü"), kind="global-delivery-status")).addresses == (
        "grün@b.example",
    )


def test_a_complaint() -> None:
    fields = "Feedback-Type: abuse\nUser-Agent: x/1\nVersion: 1\nOriginal-Rcpt-To: <ann@example.net>\n"
    found = bounce(report(fields, kind="feedback-report"))
    assert (found.kind, found.form, found.reason, found.is_hard) == ("complaint", "arf", "complaint", True)
    assert found.addresses == ("ann@example.net",)
    assert read(report(fields.replace("abuse", "not-spam"), kind="feedback-report")) is None


def test_receipts_are_no_bounces_unless_a_filter_threw_the_mail_away() -> None:
    fields = "Final-Recipient: rfc822;ann@example.net\nDisposition: {}\n"
    read_it = fields.format("manual-action/MDN-sent-manually; displayed")
    assert read(report(read_it, kind="disposition-notification", text="Your mail was read.")) is None
    thrown = fields.format("automatic-action/MDN-sent-automatically; deleted")
    found = bounce(report(thrown, kind="disposition-notification", text="It was rejected: Quota exceeded"))
    assert (found.form, found.reason, found.is_hard) == ("mdn", "mailbox_full", False)


TEXTS = {
    "angle brackets, a colon, and words below": (
        "Hi. This is the mail program.\nI'm afraid I wasn't able to deliver your message to the following addresses.\n"
        "This is a permanent error; I've given up.\n\n<ann@example.net>:\n192.0.2.1 does not like recipient.\n"
        "Remote host said: 550 5.1.1 no such user here\n\n--- Below this line is a copy of the message.\n\n"
        "Return-Path: <desk@example.com>\nTo: carl@example.org\n",
        ["ann@example.net"],
        "unknown_user",
    ),
    "an indented address and a host that says why": (
        "This message was created automatically by mail delivery software.\n\nA message that you sent could not be "
        "delivered to one or more of its\nrecipients. The following address(es) failed:\n\n  ann@example.net\n    host "
        "mx.example.net [192.0.2.1]: 552 mailbox is full\n\n------ This is a copy of the message ------\n"
        "To: carl@example.org\n",
        ["ann@example.net"],
        "mailbox_full",
    ),
    "a transcript of the session": (
        "   ----- The following addresses had permanent fatal errors -----\n<ann@example.net>\n<bob@example.net>\n\n"
        "   ----- Transcript of session follows -----\n... talking to mx.example.net.:\n>>> RCPT To:<ann@example.net>"
        "\n<<< 550 5.7.1 Relaying denied\n550 ann@example.net... User unknown\n",
        ["ann@example.net", "bob@example.net"],
        None,
    ),
    "a sentence": (
        "Delivery of your message failed.\n\nYour message could not be delivered to ann@example.net: host unknown.\n\n"
        "For help write to postmaster@example.net.\n",
        ["ann@example.net"],
        "host_unknown",
    ),
    "the header of the mail repeated": (
        "Your message\n\n  To:      carl@example.org\n  Subject: hello\n  Sent:    Mon, 1 Jun 2026 10:00:00 +0000\n\n"
        "did not reach the following recipient(s):\n\nann@example.net on Mon, 1 Jun 2026 10:01:00 +0000\n"
        "    The recipient name is not recognized\n",
        ["ann@example.net"],
        "unknown_user",
    ),
    "Japanese, and lines of commands": (
        "以下のメールアドレスへの送信に失敗しました。\nann@example.net\n\n-------server message\n550 5.1.1 "
        "<ann@example.net>: Recipient address rejected: User unknown\n\n-------original message\n"
        "Received: from x\nTo: carl@example.org\n",
        ["ann@example.net"],
        "unknown_user",
    ),
    "the details of a session": (
        "Error: Invalid user address\n\n550 - Requested action not taken: no such user here\n\nMessage details:\n"
        "  Subject: Test\n  MAIL FROM: desk@example.com\n  RCPT TO: ann@example.net\n  From: desk@example.com\n",
        ["ann@example.net"],
        "unknown_user",
    ),
    "a label": (
        "Delivery failed 20 attempts: ann@example.net\n\n\nOriginal message follows.\n\nTo: carl@example.org\n",
        ["ann@example.net"],
        None,
    ),
}


@pytest.mark.parametrize("name", TEXTS)
def test_texts_without_a_form(name: str) -> None:
    text, addresses, reason = TEXTS[name]
    found = bounce(
        f"From: MAILER-DAEMON@mx.example.net\nTo: desk@example.com\nSubject: failure notice\n\n{text}", sender=""
    )
    assert (found.kind, found.form) == ("failure", "text")
    assert sorted(found.addresses) == addresses
    if reason is not None:
        assert found.reason == reason


def test_a_warning_is_a_delay() -> None:
    found = bounce(
        "From: Mailer-Daemon@mx.example.net\nTo: desk@example.com\nSubject: Warning: message delayed 24 hours\n\n"
        "The message has not yet been delivered to the following addresses:\n\n  ann@example.net\n\n"
        "No action is required on your part. Delivery attempts will continue for some time.\n"
    )
    assert found.kind == "delay"
    assert [(one.address, one.action) for one in found.recipients] == [("ann@example.net", "delayed")]


def test_a_header_names_the_recipients() -> None:
    found = bounce(
        "From: Mail Delivery System <Mailer-Daemon@mx.example.net>\nX-Failed-Recipients: ann@example.net,\n"
        " bob@example.net\nSubject: Mail delivery failed\n\nIt could not be delivered. 550 no such user\n"
    )
    assert (found.form, found.addresses) == ("header", ("ann@example.net", "bob@example.net"))


NO_BOUNCES = {
    "a person": "From: ann@example.net\nSubject: Order\n\nI would like two of them.\n",
    "a person whose parcel did not come": (
        "From: ann@example.net\nSubject: Delivery of my parcel\n\nIt could not be delivered to bob@example.net.\n"
    ),
    "a person who answers a bounce": (
        "From: ann@example.net\nSubject: Re: Undelivered Mail Returned to Sender\nIn-Reply-To: <x@y.example>\n\n"
        "What does that mean?\n\n> <bob@example.net>: 550 5.1.1 user unknown\n> could not be delivered\n"
    ),
    "a holiday": (
        "From: ann@example.net\nSubject: Out of office: your order\nAuto-Submitted: auto-replied\n\n"
        "I am out of the office until Monday. Write to bob@example.net.\n"
    ),
    "a proof is asked for": (
        "From: ann@example.net\nSubject: Please confirm your mail\nAuto-Submitted: auto-replied\n\n"
        "Your message is on the waiting list. Click the link to prove that you are human.\n"
    ),
    "a list": "From: news@example.net\nList-Id: <news.example.net>\nSubject: Mail delivery news\n\nNew this month.\n",
    "nothing": "",
}


@pytest.mark.parametrize("name", NO_BOUNCES)
def test_no_bounces(name: str) -> None:
    assert read(NO_BOUNCES[name]) is None


@pytest.mark.parametrize(
    ("status", "words", "reason"),
    [
        ("5.1.1", "", "unknown_user"),
        ("5.7.1", "550 5.7.1 relaying denied", "relay_denied"),
        ("5.7.1", "Message rejected as spam", "spam"),
        ("5.2.2", "", "mailbox_full"),
        ("5.0.0", "552 message size exceeds fixed maximum", "too_large"),
        ("4.4.7", "delivery time expired", "expired"),
        ("5.4.4", "", "host_unknown"),
        ("5.7.26", "", "authentication"),
        ("5.7.999", "", "policy"),
        ("", "554 5.7.1 client host [192.0.2.1] blocked using dnsbl", "blocked"),
        ("5.3.4", "", "too_large"),
        ("", "550", "unknown_user"),
        ("", "", "other"),
    ],
)
def test_reasons(status: str, words: str, reason: str) -> None:
    assert reason_of(status, words) == reason


def test_codes_are_found_and_other_numbers_are_not() -> None:
    assert find_status("smtp; 550 5.1.1 <a@b>") == "5.1.1"
    assert find_status("host 5.1.1.7 said 3.1.1") == ""
    assert find_reply_code("said: 550-no") == "550"
    assert find_reply_code("at 192.0.2.450 or 4500 or 12:450") == ""


def test_a_full_mailbox_is_soft_although_the_code_is_permanent() -> None:
    [recipient] = bounce(report(FAILED.replace("5.1.1", "5.2.2").replace("user unknown", "over quota"))).recipients
    assert (recipient.is_hard, recipient.is_soft, recipient.is_passing) == (False, True, True)
