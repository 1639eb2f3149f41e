"""The message that a handler gets."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from monsal.mail import Envelope, Message

LETTER = """\
From: "Alice Example" <Alice@Example.org>
To: Orders <orders@example.com>, carol@example.net
Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=
Date: Fri, 21 Nov 2025 10:00:00 +0100
Message-ID: <m2@example.org>
In-Reply-To: <m1@example.com> (yours)
References: <m0@example.com>
 <m1@example.com>
X-Twice: one
X-Twice: =?utf-8?q?zw=C3=B6lf?=

hello
"""


def make(text: str | bytes = LETTER, *, sender: str | None = "alice@example.org", **options: object) -> Message:
    raw = text if isinstance(text, bytes) else text.replace("\n", "\r\n").encode()
    envelope = None if sender is None else Envelope(sender=sender, recipients=("Orders+Tok@example.com",))
    facts = {
        "raw": raw,
        "recipient": "Orders+Tok@example.com",
        "correspondent": "alice@example.org",
        "envelope": envelope,
    }
    return Message(**{**facts, **options})  # type: ignore[arg-type] # a shorthand for tests


@pytest.mark.rule("routing.B17")
def test_the_envelope_decides_who_and_the_recipient_keeps_its_case() -> None:
    message = make(id=7, received=1_763_719_200.0)

    assert message.recipient == "Orders+Tok@example.com"
    assert message.sender == "alice@example.org"
    assert message.sender_address == "Alice@Example.org"
    assert message.sender_name == "Alice Example"
    assert message.envelope_sender == "alice@example.org"
    assert (message.id, message.source) == (7, "mail")
    assert message.received == datetime(2025, 11, 21, 10, 0, tzinfo=UTC)
    assert "Orders+Tok@example.com" in repr(message)


def test_the_original_names_are_not_here() -> None:
    assert not hasattr(make(), "To")
    assert not hasattr(make(), "From")


def test_the_header_by_name() -> None:
    message = make()

    assert message["SUBJECT"] == message.subject == "Grüße"
    assert message.get("X-None") is None
    assert message.get("X-None", "?") == "?"
    assert message.get_all("x-twice") == ["one", "zwölf"]
    assert "subject" in message
    assert "x-none" not in message
    assert 3 not in message
    assert list(message)[:3] == ["From", "To", "Subject"]
    with pytest.raises(KeyError):
        message["X-None"]
    assert message.headers[0] == ("From", '"Alice Example" <Alice@Example.org>')
    assert message.headers[-1] == ("X-Twice", "zwölf")
    assert [found.address for found in message.mailboxes("to")] == ["orders@example.com", "carol@example.net"]


def test_the_thread() -> None:
    message = make()

    assert message.message_id == "<m2@example.org>"
    assert message.in_reply_to == "<m1@example.com>"
    assert message.references == ("<m0@example.com>", "<m1@example.com>")
    assert message.date is not None
    assert message.date.isoformat() == "2025-11-21T10:00:00+01:00"


def test_an_empty_message_has_nothing_and_says_so() -> None:
    message = make(b"", sender=None)

    assert (message.subject, message.text, message.reply_text, message.html) == ("", "", "", None)
    assert (message.message_id, message.in_reply_to, message.date, message.references) == (None, None, None, ())
    assert (message.attachments, message.headers, message.sender_name) == ((), [], "")
    assert message.envelope_sender is None
    assert not message.is_automatic
    assert not message.is_bounce
    assert not message.authenticated


def test_a_long_thread_keeps_its_first_and_its_latest() -> None:
    ids = " ".join(f"<{number}@x>" for number in range(300))

    references = make(f"References: {ids}\n\n").references

    assert len(references) == 100
    assert (references[0], references[1], references[-1]) == ("<0@x>", "<201@x>", "<299@x>")


def test_raw_is_loaded_once_and_only_when_needed() -> None:
    calls = []

    def load() -> bytes:
        calls.append(1)
        return b"Subject: x\r\n\r\nbody"

    message = make(raw=load)
    assert calls == []
    assert (message.subject, message.text, message.raw) == ("x", "body", b"Subject: x\r\n\r\nbody")
    assert calls == [1]


def test_kinds_of_mail() -> None:
    bounce = make(sender="")
    vacation = make("Auto-Submitted: auto-replied\n\n")

    assert bounce.is_bounce
    assert bounce.automatic == "null envelope sender"
    assert vacation.is_automatic
    assert not vacation.is_bounce
    assert make().automatic is None


ALTERNATIVE = """\
Content-Type: multipart/mixed; boundary=m

--m
Content-Type: multipart/alternative; boundary=a

--a
Content-Type: text/plain; charset=utf-8

written
> quoted
--a
Content-Type: multipart/related; boundary=r

--r
Content-Type: text/html

<p>written</p><img src="cid:pic@x">
--r
Content-Type: image/png
Content-ID: <pic@x>
Content-Transfer-Encoding: base64

iVBORw==
--r--
--a--
--m
Content-Type: text/plain; charset=iso-8859-1
Content-Disposition: attachment; filename="notes.txt"

a file
--m
Content-Type: text/plain

a footer
--m
Content-Type: message/rfc822

Subject: inner

inner text
--m--
"""


def test_text_html_and_files() -> None:
    message = make(ALTERNATIVE)

    assert message.text == "written\n> quoted\na footer"
    assert message.reply_text == "written\na footer"
    assert message.html == '<p>written</p><img src="cid:pic@x">'
    picture, notes, inner = message.attachments
    assert (picture.content_id, picture.inline, picture.data) == ("pic@x", True, b"\x89PNG")
    assert (notes.filename, notes.charset, notes.inline, notes.data) == ("notes.txt", "iso-8859-1", False, b"a file")
    assert (inner.content_type, inner.data) == ("message/rfc822", b"Subject: inner\r\n\r\ninner text")
    assert "notes.txt" in repr(notes)
    assert [part.content_type for part in message.parts] == [
        "multipart/mixed",
        "multipart/alternative",
        "text/plain",
        "multipart/related",
        "text/html",
        "image/png",
        "text/plain",
        "text/plain",
        "message/rfc822",
        "text/plain",
    ]


def test_html_alone_is_read_as_text() -> None:
    message = make("Content-Type: text/html; charset=utf-8\n\n<p>Hello <b>you</b></p><blockquote>old</blockquote>\n")

    assert message.text == "Hello you\n\n> old"
    assert message.reply_text == "Hello you"


def test_a_blank_plain_part_does_not_hide_the_html() -> None:
    message = make(
        "Content-Type: multipart/alternative; boundary=a\n\n"
        "--a\nContent-Type: text/plain\n\n \n--a\nContent-Type: text/html\n\n<p>here</p>\n--a--\n"
    )

    assert message.text == "here"


def test_a_mail_that_is_a_file() -> None:
    message = make("Content-Type: application/pdf; name=x.pdf\nContent-Transfer-Encoding: base64\n\naGk=\n")

    assert message.text == ""
    assert [(a.filename, a.data) for a in message.attachments] == [("x.pdf", b"hi")]


def test_a_message_of_a_timer_is_the_one_that_set_it() -> None:
    message = make(source="timer")

    assert (message.source, message.subject) == ("timer", "Grüße")
