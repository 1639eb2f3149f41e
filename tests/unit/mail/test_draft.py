"""What a handler writes, and its bytes."""

from __future__ import annotations

from email import policy
from email.message import EmailMessage
from email.parser import BytesParser
from typing import Any

import pytest

from monsal.errors import AddressError
from monsal.mail import PROTECTED_HEADERS, Attachment, Draft, Envelope, Message, ascii_domain, reply_draft

ID = "<m1@example.com>"


def draft(**given: Any) -> Draft:
    return Draft(**{"to": ("alice@example.org",), "sender": "orders@example.com", "text": "hello", **given})


def render(**given: Any) -> bytes:
    return draft(**given).render(message_id=ID, date=1_763_719_200.0)


def judge(raw: bytes) -> EmailMessage:
    return BytesParser(EmailMessage, policy=policy.default).parsebytes(raw)


def test_the_bytes_of_a_plain_mail() -> None:
    assert render(subject="Your order") == (
        b"From: orders@example.com\r\n"
        b"To: alice@example.org\r\n"
        b"Subject: Your order\r\n"
        b"Date: Fri, 21 Nov 2025 10:00:00 +0000\r\n"
        b"Message-ID: <m1@example.com>\r\n"
        b"MIME-Version: 1.0\r\n"
        b'Content-Type: text/plain; charset="utf-8"\r\n'
        b"Content-Transfer-Encoding: 7bit\r\n"
        b"\r\n"
        b"hello\r\n"
    )


def test_every_field() -> None:
    judged = judge(
        render(
            to=("a@x.y", "b@x.y"),
            cc=("c@x.y",),
            sender_name="Orders, Inc.",
            reply_to="r@x.y",
            in_reply_to="<m0@x>",
            references=("<m-1@x>", "<m0@x>"),
            auto_submitted="auto-generated",
            headers={"List-Unsubscribe": "<https://x.y/?u=?a" + "z" * 100 + ">", "X-Name": "ü"},
        )
    )

    assert judged["To"] == "a@x.y, b@x.y"
    assert judged["Cc"] == "c@x.y"
    assert judged["From"] == '"Orders, Inc." <orders@example.com>'
    assert judged["Reply-To"] == "r@x.y"
    assert judged["In-Reply-To"] == "<m0@x>"
    assert judged["References"] == "<m-1@x> <m0@x>"
    assert judged["Auto-Submitted"] == "auto-generated"
    assert judged["List-Unsubscribe"] == "<https://x.y/?u=?a" + "z" * 100 + ">"
    assert judged["X-Name"] == "ü"


def test_a_rendering_is_the_same_each_time() -> None:
    given: dict[str, Any] = {"html": "<p>ü</p>", "attachments": (("x.bin", b"\0\1", "application/octet-stream"),)}

    assert render(**given) == render(**given)


def test_text_and_html_are_alternatives_pictures_are_related_files_are_mixed() -> None:
    judged = judge(
        render(
            html='<img src="cid:p@x">',
            attachments=(
                Attachment("p.png", "image/png", b"png", content_id="p@x", inline=True),
                ("a b.txt", "ü".encode(), 'text/plain; charset="utf-8"'),
            ),
        )
    )

    assert [part.get_content_type() for part in judged.walk()] == [
        "multipart/mixed",
        "multipart/alternative",
        "text/plain",
        "multipart/related",
        "text/html",
        "image/png",
        "text/plain",
    ]
    (file,) = (part for part in judged.walk() if part.get_filename() == "a b.txt")
    assert file.get_content() == "ü"


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("plain\nlines\n", "7bit"),
        ("ein paar Umlaute: ä ö ü und sonst nichts als ASCII, Zeile um Zeile", "quoted-printable"),
        ("Привет, мир", "base64"),
        ("x" * 2000, "quoted-printable"),
        ("nul \0 inside", "quoted-printable"),
        ("", "7bit"),
    ],
)
def test_the_encoding_fits_the_text(text: str, encoding: str) -> None:
    judged = judge(render(text=text))

    assert judged["Content-Transfer-Encoding"] == encoding
    assert judged.get_content().rstrip() == text.replace("\n", "\r\n").rstrip()


def test_line_ends_are_made_one_kind() -> None:
    assert render(text="a\rb\nc\r\nd").endswith(b"\r\n\r\na\r\nb\r\nc\r\nd\r\n")


def test_a_text_that_holds_the_boundary_gets_another() -> None:
    raw = render(html="<p>x</p>")
    boundary = judge(raw).get_boundary()
    assert boundary is not None

    again = judge(render(html="<p>x</p>", text=f"--{boundary}--\n"))

    assert again.get_boundary() != boundary
    part = again.get_body(("plain",))
    assert part is not None
    assert part.get_content() == f"--{boundary}--\r\n"


def test_an_attached_message_is_not_encoded() -> None:
    inner = b"Subject: inner\r\n\r\nbody\r\n"

    raw = render(attachments=(("inner.eml", inner, "message/rfc822"),))
    eight_bit = render(attachments=(("inner.eml", b"Subject: \xfc\r\n\r\n", "message/rfc822"),))

    assert inner in raw
    assert b"application/octet-stream" in eight_bit


@pytest.mark.parametrize("bad", ["a\r\nBcc: x@y.z", "a\nb", "a\rb", "a\0b"])
def test_no_line_end_gets_into_a_header(bad: str) -> None:
    for given in (
        {"subject": bad},
        {"sender_name": bad},
        {"headers": {"X-Name": bad}},
        {"headers": {f"X-{bad}": "x"}},
        {"in_reply_to": f"<{bad}@x>"},
        {"references": (f"<{bad}@x>",)},
        {"attachments": ((bad, b"", "text/plain"),)},
        {"attachments": (("x", b"", f"text/plain; {bad}"),)},
        {"attachments": (Attachment("x", "image/png", b"", content_id=bad),)},
        {"attachments": (Attachment("x", "text/csv", b"", charset=bad),)},
    ):
        with pytest.raises(ValueError):
            draft(**given)
    for given in ({"to": (f"{bad}@x.y",)}, {"sender": f"x@{bad}"}, {"cc": (bad,)}, {"reply_to": f'"{bad}"@x.y'}):
        with pytest.raises(AddressError):
            draft(**given)
    with pytest.raises(ValueError):
        draft().render(message_id=f"<{bad}@x>", date=0.0)


@pytest.mark.parametrize(
    "name", [*sorted(PROTECTED_HEADERS), "Content-Type", "RESENT-To", "FROM", "", "X Y", "Ü", "X:"]
)
def test_headers_that_cannot_be_given(name: str) -> None:
    with pytest.raises(ValueError):
        draft(headers={name: "x"})


def test_a_mail_needs_a_recipient() -> None:
    with pytest.raises(ValueError, match="recipient"):
        draft(to=())
    with pytest.raises(ValueError, match="auto_submitted"):
        draft(auto_submitted="yes")


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ({"text": 12.5}, "text"),
        ({"text": b"hello"}, "text"),
        ({"html": b"<p>"}, "html"),
        ({"html": 5, "text": None}, "html"),
        ({"subject": 7}, "subject"),
        ({"subject": None}, "subject"),
        ({"sender": None}, "sender"),
        ({"sender_name": b"x"}, "sender_name"),
        ({"to": 5}, "to"),
        ({"to": None}, "to"),
        ({"to": b"a@b.c"}, "to"),
        ({"to": (b"a@b.c",)}, "to"),
        ({"cc": (None,)}, "cc"),
        ({"reply_to": b"a@b.c"}, "reply_to"),
        ({"in_reply_to": 5}, "in_reply_to"),
        ({"references": (5,)}, "references"),
        ({"headers": {"X-Count": 5}}, "X-Count"),
        ({"headers": {5: "x"}}, "name of a header"),
        ({"headers": ["X-Count"]}, "headers"),
        ({"attachments": 5}, "attachments"),
        ({"attachments": "x.txt"}, "attachments"),
        ({"attachments": ("x.txt",)}, "attachment"),
        ({"attachments": (("x.txt", b"x"),)}, "attachment"),
        ({"attachments": (("x.txt", "text", "text/plain"),)}, "data"),
        ({"attachments": (("x.txt", None, "text/plain"),)}, "data"),
        ({"attachments": (("x.txt", bytearray(b"x"), "text/plain"),)}, "data"),
        ({"attachments": ((b"x.txt", b"x", "text/plain"),)}, "filename"),
        ({"attachments": (("x.txt", b"x", None),)}, "content_type"),
        ({"attachments": [Attachment("x", "a/b", lambda: "text")]}, "data"),  # type: ignore[arg-type,return-value]  # wrong on purpose
        ({"attachments": [Attachment("x", "a/b", b"", content_id=5)]}, "content_id"),  # type: ignore[arg-type]  # wrong on purpose
    ],
)
def test_a_value_of_another_type_fails_where_it_was_given(given: dict[str, Any], name: str) -> None:
    with pytest.raises(TypeError, match=name):
        draft(**given)


def test_an_attachment_of_no_bytes_is_none() -> None:
    with pytest.raises(TypeError, match="bytes"):
        Attachment("x.txt", "text/plain", "text")  # type: ignore[arg-type]  # wrong on purpose


@pytest.mark.parametrize("field", ["to", "cc", "reply_to", "sender"])
@pytest.mark.parametrize("domain", ["é" * 60 + ".example", "ﷺ" * 30, "\u0fd8" * 60, "x\u2488y", "é..x", "é" * 200])
def test_an_odd_domain_fails_where_it_was_given_or_not_at_all(field: str, domain: str) -> None:
    try:
        made = draft(**{field: f"a@{domain}"})
    except AddressError:
        return

    assert made.render(message_id=ID, date=0.0).isascii()
    assert all(address.isascii() for address in made.recipients)


def test_what_was_checked_is_what_is_written() -> None:
    headers = {"X-Name": "x"}
    made = draft(headers=headers)
    headers["X-Name"] = "y\r\nBcc: z"

    assert made.headers == {"X-Name": "x"}


def test_recipients_are_those_of_the_envelope() -> None:
    made = draft(to="Alice@x.y", cc=["alice@X.y", "bob@bücher.example"])

    assert made.to == ("Alice@x.y",)
    assert made.recipients == ("Alice@x.y", "bob@xn--bcher-kva.example")


@pytest.mark.parametrize(
    ("address", "ascii_form"),
    [
        ("a@example.com", "a@example.com"),
        ("a@bücher.example", "a@xn--bcher-kva.example"),
        ("a@BÜCHER.example", "a@xn--bcher-kva.example"),
        ("a@faß.example", "a@xn--fa-hia.example"),
        ("a@例え。テスト", "a@xn--r8jz45g.xn--zckzah"),
        ("ä@example.com", "ä@example.com"),
    ],
)
def test_domains_are_written_in_ascii(address: str, ascii_form: str) -> None:
    assert ascii_domain(address) == ascii_form


@pytest.mark.parametrize("address", ["", "a", "a@", "a@" + "ü" * 64 + ".example", "a@x＠y"])
def test_what_is_no_address(address: str) -> None:
    with pytest.raises(AddressError):
        ascii_domain(address)


def test_the_sender_is_kept_in_ascii() -> None:
    assert draft(sender="x@bücher.example").sender == "x@xn--bcher-kva.example"


def test_a_local_part_beyond_ascii_is_written_as_it_is() -> None:
    assert "To: jürgen@example.org\r\n".encode() in render(to=("jürgen@example.org",))


def message(header: str, sender: str = "alice@example.org") -> Message:
    return Message(
        raw=header.replace("\n", "\r\n").encode() + b"\r\nbody",
        recipient="Orders@example.com",
        correspondent=sender,
        envelope=Envelope(sender="bounces@example.org", recipients=("Orders@example.com",)),
    )


def test_an_answer_is_in_the_thread() -> None:
    made = reply_draft(
        message("From: Alice@Example.org\nSubject: hi\nMessage-ID: <m2@x>\nReferences: <m1@x>\n"), text="hello"
    )

    assert made.to == ("Alice@Example.org",)
    assert made.sender == "Orders@example.com"
    assert made.subject == "Re: hi"
    assert made.in_reply_to == "<m2@x>"
    assert made.references == ("<m1@x>", "<m2@x>")
    assert made.auto_submitted == "auto-replied"
    assert not made.null_sender


@pytest.mark.parametrize(
    ("subject", "answer"),
    [
        ("hi", "Re: hi"),
        ("Re: hi", "Re: hi"),
        ("RE: AW: re[2]: hi", "Re: hi"),
        ("=?utf-8?q?Re=3A_gr=C3=BCn?=", "Re: grün"),
        ("=?utf-8?q?x=0D=0ABcc=3A_y?=", "Re: x  Bcc: y"),
        ("Regarding: hi", "Re: Regarding: hi"),
        ("Order more: pears", "Re: Order more: pears"),
        ("hi Re: there", "Re: hi Re: there"),
        ("   Re: hi", "Re: hi"),
        ("x" + " " * 100 + "more: y", "Re: x" + " " * 100 + "more: y"),
        ("回复：答复: 梨", "Re: 梨"),
        ("YNT: Ynt: armut", "Re: armut"),
        ("ΑΠ: αχλάδια", "Re: αχλάδια"),
        ("Отв: Re(2): груши", "Re: груши"),
        ("회신: 배", "Re: 배"),
        ("Fwd: hi", "Re: Fwd: hi"),
        ("", "Re:"),
    ],
)
def test_one_re_is_enough(subject: str, answer: str) -> None:
    assert reply_draft(message(f"From: alice@example.org\nSubject: {subject}\n"), text="x").subject == answer


def test_an_answer_without_references_takes_the_one_it_answers() -> None:
    made = reply_draft(message("From: a@b.c\nMessage-ID: <m2@x>\nIn-Reply-To: <m1@x>\n"), text="x")
    without = reply_draft(message("From: a@b.c\n"), text="x")

    several = reply_draft(message("From: a@b.c\nMessage-ID: <m3@x>\nIn-Reply-To: <m1@x> <m2@x>\n"), text="x")

    assert made.references == ("<m1@x>", "<m2@x>")
    assert (without.in_reply_to, without.references) == (None, ())
    assert several.references == ("<m3@x>",)


def test_the_references_of_a_long_thread_are_bounded() -> None:
    ids = " ".join(f"<{number}@x>" for number in range(300))

    made = reply_draft(message(f"From: a@b.c\nMessage-ID: <last@x>\nReferences: {ids}\n"), text="x")

    assert len(made.references) == 20
    assert (made.references[0], made.references[-1]) == ("<0@x>", "<last@x>")


def test_the_thread_of_a_message() -> None:
    assert message("From: a@b.c\nMessage-ID: <m3@x>\nReferences: <m1@x> <m2@x>\n").thread == "<m1@x>"
    assert message("From: a@b.c\nMessage-ID: <m3@x>\nIn-Reply-To: <m2@x>\n").thread == "<m2@x>"
    assert message("From: a@b.c\nMessage-ID: <m3@x>\n").thread == "<m3@x>"
    assert message("From: a@b.c\n").thread is None


def test_where_an_answer_is_wanted() -> None:
    asked = message("From: Alice@Example.org\nReply-To: nobody, Desk <desk@x.y>, other@x.y\n")

    assert asked.reply_address == "desk@x.y"
    assert message("From: Alice@Example.org\nReply-To: none\n").reply_address == "Alice@Example.org"
    assert reply_draft(asked, text="x").to == ("Alice@Example.org",)
    assert reply_draft(asked, text="x", to=asked.reply_address).to == ("desk@x.y",)


def test_the_headers_of_lists() -> None:
    """RFC 2369, 2919, 8058: URIs stay whole, whatever their length."""
    unsubscribe = f"<https://example.com/u/{'x' * 90}>, <mailto:off@example.com?subject=off>"
    raw = render(
        headers={
            "List-Id": "Pears <pears.example.com>",
            "List-Unsubscribe": unsubscribe,
            "List-Unsubscribe-Post": "List-Unsubscribe=One-Click",
            "Precedence": "list",
        }
    )

    judged = judge(raw)
    assert judged["List-Unsubscribe"] == unsubscribe
    assert judged["List-Id"] == "Pears <pears.example.com>"
    assert judged["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    assert judged["Precedence"] == "list"
    for line in raw.split(b"\r\n"):
        assert line.count(b"<") == line.count(b">")
    for bad in ("x\r\nBcc: y@z.w", "x\ny", "x\0"):
        with pytest.raises(ValueError, match="CR, LF or NUL"):
            draft(headers={"List-Id": bad})


def test_a_correspondent_out_of_the_envelope_is_answered_there() -> None:
    made = reply_draft(message("From: someone@else.example\n", sender="bounces@example.org"), text="x")

    assert made.to == ("bounces@example.org",)


def test_who_is_in_bcc_is_in_the_envelope_alone() -> None:
    draft = Draft(to=("ann@x.example",), bcc=("bob@x.example", "Ann@X.example"), sender="desk@x.example", text="hi")
    assert draft.recipients == ("ann@x.example", "bob@x.example")
    alone = Draft(to=(), bcc=("bob@x.example",), sender="desk@x.example", text="hi")
    for each in (draft, alone):
        assert b"bob@" not in each.render(message_id="<1@x.example>", date=0.0)
    with pytest.raises(AddressError):
        Draft(to=(), bcc=("nobody",), sender="desk@x.example")
