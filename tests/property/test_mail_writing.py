"""What a Draft writes is what others read: judged by the parser of the standard library."""

from __future__ import annotations

import re
from email import policy
from email.header import decode_header, make_header
from email.message import EmailMessage
from email.parser import BytesParser
from email.utils import parseaddr

from hypothesis import given, settings
from hypothesis import strategies as st

from monsal.mail import Attachment, Draft, Message

ANY_TEXT = st.text(max_size=400)
#: Header values: everything that is allowed in one.
ANY_VALUE = st.text(st.characters(blacklist_characters="\r\n\0", blacklist_categories=("Cs",)), max_size=300)
#: Not in angle brackets or quotation marks: the judge takes those off.
FILENAMES = st.text(st.characters(blacklist_categories=("Cs", "Cc", "Zl", "Zp")), min_size=1, max_size=120).filter(
    lambda name: name[0] not in '<"'
)
LINES = st.lists(st.text(st.characters(blacklist_categories=("Cs",)), max_size=1200), max_size=8).map("\n".join)

MESSAGE_ID = "<abcdefghijklmnop@example.com>"


def judge(raw: bytes) -> EmailMessage:
    return BytesParser(EmailMessage, policy=policy.default).parsebytes(raw)


def as_lines(text: str) -> str:
    """The text as it must come out: LF at the end of each line, the last one too."""
    text = text.encode("utf-8", "replace").decode("utf-8").replace("\r\n", "\n").replace("\r", "\n")
    return text if not text or text.endswith("\n") else text + "\n"


def part_text(part: EmailMessage) -> str:
    payload = part.get_payload(decode=True)
    assert isinstance(payload, bytes)
    return payload.decode("utf-8").replace("\r\n", "\n")


def assert_wire_form(raw: bytes) -> None:
    """RFC 5321: CRLF only, no NUL; RFC 5322: no line over 998 octets."""
    assert raw.endswith(b"\r\n")
    assert b"\0" not in raw
    assert re.search(rb"(?<!\r)\n|\r(?!\n)", raw) is None
    assert max(len(line) for line in raw.split(b"\r\n")) <= 998


@settings(deadline=None, max_examples=150)
@given(text=ANY_TEXT | LINES, html=st.none() | LINES)
def test_any_text_survives(text: str, html: str | None) -> None:
    raw = Draft(to=("a@example.org",), sender="b@example.com", text=text, html=html).render(
        message_id=MESSAGE_ID, date=0.0
    )

    assert_wire_form(raw)
    judged = judge(raw)
    plain = judged.get_body(("plain",))
    assert plain is not None
    assert part_text(plain) == as_lines(text)
    if html is not None:
        part = judged.get_body(("html",))
        assert part is not None
        assert part_text(part) == as_lines(html)


@settings(deadline=None, max_examples=200)
@given(subject=ANY_VALUE, name=ANY_VALUE)
def test_any_subject_and_name_survive(subject: str, name: str) -> None:
    raw = Draft(to=("a@example.org",), sender="b@example.com", sender_name=name, subject=subject, text="x").render(
        message_id=MESSAGE_ID, date=0.0
    )

    assert_wire_form(raw)
    assert raw.split(b"\r\n\r\n")[0].isascii()
    assert all(len(line) <= 78 for line in raw.split(b"\r\n"))
    judged = judge(raw)
    assert str(judged["Subject"]) == subject
    assert judged["From"].addresses[0].addr_spec == "b@example.com"
    # The newer parser puts a space between the encoded words of one name; the older one reads RFC 2047 as it is.
    phrase, _ = parseaddr(re.sub(r"\r\n", "", BytesParser(policy=policy.compat32).parsebytes(raw)["From"]))
    assert str(make_header(decode_header(phrase))).split() == name.split()


@settings(deadline=None, max_examples=100)
@given(name=FILENAMES, data=st.binary(max_size=300))
def test_any_file_survives(name: str, data: bytes) -> None:
    raw = Draft(
        to=("a@example.org",), sender="b@example.com", text="x", attachments=((name, data, "application/pdf"),)
    ).render(message_id=MESSAGE_ID, date=0.0)

    assert_wire_form(raw)
    (attached,) = judge(raw).iter_attachments()
    assert attached.get_filename() == name.strip()  # as the judge does
    assert attached.get_payload(decode=True) == data


@settings(deadline=None, max_examples=150)
@given(subject=ANY_VALUE, text=LINES, html=st.none() | LINES, name=FILENAMES, data=st.binary(max_size=100))
def test_what_we_write_we_read(subject: str, text: str, html: str | None, name: str, data: bytes) -> None:
    draft = Draft(
        to=("a@example.org",),
        sender="b@example.com",
        subject=subject,
        text=text,
        html=html,
        attachments=(Attachment(name, "image/png", data, content_id="x@y", inline=True),),
    )

    raw = draft.render(message_id=MESSAGE_ID, date=0.0)

    assert raw == draft.render(message_id=MESSAGE_ID, date=0.0)
    message = Message(raw=raw, recipient="a@example.org", correspondent="b@example.com")
    assert message.message_id == MESSAGE_ID
    if text.strip():
        assert message.text == as_lines(text).replace("\0", "")
    if html is not None:
        assert message.html == as_lines(html).replace("\0", "")
    (attachment,) = message.attachments
    assert attachment.data == data
    assert (attachment.content_type, attachment.content_id, attachment.inline) == ("image/png", "x@y", True)
