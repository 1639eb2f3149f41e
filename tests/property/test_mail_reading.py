"""Any mail of anybody can be read: nothing raises, everything is bounded, and good mail reads as others read it."""

from __future__ import annotations

import email
import sys
import time
from email.message import EmailMessage
from email.message import Message as StdlibMessage
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monsal.mail import (
    MAX_DEPTH,
    MAX_PARTS,
    Attachment,
    Draft,
    Envelope,
    Message,
    Upstream,
    automatic_reason,
    decode_header,
    decode_text,
    digest_below_received,
    first_address,
    first_bytes,
    glance,
    html_to_text,
    mailboxes,
    parse_date,
    reply_draft,
    reply_text,
    scan,
)

SAMPLE = b"""Return-Path: <alice@example.org>
Received: from mx.example.org (mx.example.org [192.0.2.10])
\tby mail.example.com with ESMTPS id 4XyZ for <orders@example.com>;
\tFri, 21 Nov 2025 10:00:01 +0000 (UTC)
Authentication-Results: mail.example.com; dkim=pass header.d=example.org; dmarc=pass header.from=example.org
From: "Alice =?utf-8?q?Ex=C3=A4mple?=" <Alice@Example.org>
To: Orders <orders@example.com>, (a comment) "B, C" <bc@example.com>
Subject: =?utf-8?b?UsO8Y2tmcmFnZQ==?= =?iso-8859-1?q?_zu_n=B0_1?=
Date: Fri, 21 Nov 2025 10:00:00 +0000
Message-ID: <0123456789abcdef@mail.example.org>
In-Reply-To: <b+token@example.com>
References: <a@example.com>
 <b+token@example.com>
MIME-Version: 1.0
Content-Type: multipart/mixed; boundary="outer"

preamble
--outer
Content-Type: multipart/alternative; boundary=inner

--inner
Content-Type: text/plain; charset=iso-8859-1
Content-Transfer-Encoding: quoted-printable

Gr=FC=DFe =
aus K=F6ln

On Thu, 20 Nov 2025 at 09:00, Orders <orders@example.com> wrote:
> What would you like?
--inner
Content-Type: text/html; charset=utf-8
Content-Transfer-Encoding: base64

PHA+R3LDvMOfZSBhdXMgS8O2bG48L3A+PGJsb2NrcXVvdGU+b2xkPC9ibG9ja3F1b3RlPg==
--inner--

--outer
Content-Type: application/pdf; name*0*=utf-8''%E2%82%AC%20; name*1=rates.pdf
Content-Disposition: attachment; filename="../../etc/x.pdf"
Content-Transfer-Encoding: base64

JVBERi0xLjQK
--outer
Content-Type: message/rfc822

From: carol@example.net
Subject: inside

inner body
--outer--
epilogue
""".replace(b"\n", b"\r\n")

#: Pieces that mean something to a parser of mail; strung together they go where plain noise does not.
PIECES = st.sampled_from(
    [
        b"From: ", b"To: a@b.c\r\n", b"Subject: ", b"Date: ", b"Message-ID: <", b">", b"<", b"\r\n", b"\n",
        b"\r", b" ", b"\t", b";", b":", b",", b'"', b"\\", b"(", b")", b"@", b"=", b"=?", b"?=", b"=?utf-8?b?",
        b"=?idna?q?", b"Content-Type: multipart/mixed; boundary=x\r\n", b"Content-Type: multipart/mixed\r\n",
        b"--x", b"--x--", b"--", b"\r\n--x\r\n", b"Content-Type: message/rfc822\r\n\r\n",
        b"Content-Type: text/html; charset=punycode\r\n\r\n",
        b"Content-Type: text/plain; charset=utf-16\r\n\r\n", b"Content-Transfer-Encoding: base64\r\n\r\n",
        b"Content-Transfer-Encoding: quoted-printable\r\n\r\n",
        b"Content-Transfer-Encoding: uuencode\r\n\r\nbegin 6 x\n",
        b"Content-Disposition: attachment; filename*0*=utf-8''%", b"filename*1=", b"name=", b"=3D", b"=\xff",
        b"%zz", b"\0", b"\xc3\xa4", b"\xff\xfe", b"<a href=", b"<!--", b"<script>", b"<blockquote>",
        b"&#99999999999;", b"> ", b"-- \n", b"On 1, a@b wrote:\n",
        b"Content-Type: text/plain; format=flowed; delsp=yes\r\n\r\n", b"Reply-To: <a@b>\r\n", b"\x1b$B",
        b"<div class=gmail_quote>", b"<p hidden>", b"</div>", b"##- above this line -##\n",
        b"Authentication-Results: mail.example.com; dmarc=pass", b"References: <a@b> <",
    ]
)  # fmt: skip

HOSTILE = st.one_of(
    st.binary(max_size=600),
    st.lists(PIECES | st.binary(max_size=6), max_size=60).map(b"".join),
)


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """The sample with some cuts, doublings and foreign pieces."""
    data = SAMPLE
    for _ in range(draw(st.integers(1, 6))):
        start = draw(st.integers(0, len(data)))
        end = min(len(data), start + draw(st.integers(0, 60)))
        data = data[:start] + draw(PIECES | st.binary(max_size=4) | st.just(data[start:end] * 2)) + data[end:]
    return data


def read_everything(raw: bytes) -> None:
    """Ask for all there is; compare types, because that is all that can be said of noise."""
    envelope = Envelope(sender="x@y.z", recipients=("orders@example.com",))
    message = Message(
        raw=raw,
        recipient="orders@example.com",
        correspondent="alice@example.org",
        envelope=envelope,
        upstream=Upstream(authserv_id="mail.example.com"),
    )
    texts = [message.subject, message.sender_name, message.text, message.reply_text, message.html or ""]
    texts += [text for pair in message.headers for text in pair] + message.get_all("received")
    texts += [message.thread or "", message.reply_address]
    texts += [message.message_id or "", message.in_reply_to or "", *message.references, message.automatic or ""]
    texts += [mailbox.address + mailbox.name for name in ("From", "To", "Cc") for mailbox in message.mailboxes(name)]
    assert isinstance(message.authenticated, bool)
    assert isinstance(message.is_bounce, bool)
    assert message.date is None or message.date.utcoffset() is not None
    assert len(message.parts) <= MAX_PARTS
    for part in message.parts:
        assert part.depth <= MAX_DEPTH
        texts += [part.text, part.filename, part.content_type, part.disposition, part.subject, part.charset or ""]
        assert isinstance(part.data, bytes)
    for attachment in message.attachments:
        texts += [attachment.filename, attachment.content_type]
        assert "/" not in attachment.filename
        assert isinstance(attachment.data, bytes)
    for text in texts:
        text.encode("utf-8")  # holds no surrogates
        assert "\0" not in text
    for text in (message.subject, message.sender_name, *(value for _, value in message.headers)):
        assert not any(sign in text for sign in "\r\n\x85\u2028")
    assert message.raw is raw
    # What a stranger sent can be answered and passed on, whatever it is.
    draft = reply_draft(message, text=message.reply_text, attachments=message.attachments)
    draft.render(message_id="<a@example.com>", date=0.0)


@settings(deadline=None, max_examples=200)
@given(raw=HOSTILE)
def test_no_bytes_raise(raw: bytes) -> None:
    read_everything(raw)


@settings(deadline=None, max_examples=200)
@given(raw=mutated())
def test_no_damaged_mail_raises(raw: bytes) -> None:
    read_everything(raw)


def test_the_undamaged_sample_reads_well() -> None:
    read_everything(SAMPLE)
    message = Message(raw=SAMPLE, recipient="orders@example.com", correspondent="alice@example.org")

    assert message.subject == "Rückfrage zu n° 1"
    assert message.sender_name == "Alice Exämple"
    assert message.reply_text == "Grüße aus Köln"
    assert html_to_text(message.html or "") == "Grüße aus Köln\n\n> old"
    assert [(a.filename, a.content_type) for a in message.attachments] == [
        ("x.pdf", "application/pdf"),
        ("", "message/rfc822"),
    ]
    assert [m.address for m in message.mailboxes("To")] == ["orders@example.com", "bc@example.com"]


def test_the_test_mails_of_the_standard_library() -> None:
    """Where Python came with its own tests: some fifty mails that were broken on purpose."""
    mails = [path for path in (Path(email.__file__).parents[1] / "test").glob("test_email/data/*") if path.is_file()]

    for path in mails:
        read_everything(path.read_bytes())

    assert not mails or len(mails) > 30


@settings(deadline=None, max_examples=200)
@given(text=st.text(max_size=300), noise=st.lists(PIECES, max_size=30).map(b"".join))
def test_no_text_raises(text: str, noise: bytes) -> None:
    for value in (text, noise.decode("latin-1"), text + noise.decode("latin-1")):
        decode_header(value).encode("utf-8")
        mailboxes(value)
        first_address(value)
        parse_date(value)
        html_to_text(value)
        reply_text(value)


#: Codecs that are no character sets, or raise errors of their own, beside honest ones.
CHARSETS = [
    "idna", "punycode", "unknown-8bit", "base64", "rot13", "zlib", "bz2", "hex", "uu", "undefined", "mbcs",
    "unicode_escape", "utf-7", "utf-16", "utf-32", "hz", "iso-2022-jp", "iso-2022-kr", "cp037", "big5",
    "euc-jp", "gb18030", "koi8-r", "windows-1251", "utf-8\0", "aliases", "a.b", "..",
]  # fmt: skip


@settings(deadline=None, max_examples=200)
@given(
    data=st.binary(max_size=100),
    charset=st.text(max_size=20) | st.sampled_from(CHARSETS),
)
def test_no_character_set_raises(data: bytes, charset: str) -> None:
    decode_text(data, charset).encode("utf-8")


@settings(deadline=None, max_examples=100)
@given(raw=HOSTILE | mutated(), cuts=st.lists(st.integers(0, 3000), max_size=6))
def test_pieces_make_no_difference(raw: bytes, cuts: list[int]) -> None:
    """However the bytes came from the socket, the digest and the first bytes are the same."""
    edges = [0, *sorted(cut for cut in cuts if cut <= len(raw)), len(raw)]
    chunks = tuple(raw[a:b] for a, b in pairwise(edges))

    assert digest_below_received(chunks) == digest_below_received((raw,))
    assert first_bytes(chunks, 100) == raw[:100]
    assert first_bytes(chunks) == raw[:65536]


TOKENS = st.from_regex(r"[a-zA-Z0-9]{1,12}", fullmatch=True)
BODY = st.text(st.characters(blacklist_categories=("Cs",), blacklist_characters="\0\r"), max_size=200)


@st.composite
def trees(draw: st.DrawFn, depth: int = 0) -> EmailMessage:
    """A well-formed mail, made by the standard library."""
    message = EmailMessage()
    kind = draw(st.integers(0, 3 if depth < 3 else 1))
    if kind == 0:
        message.set_content(draw(BODY), cte=draw(st.sampled_from(["base64", "quoted-printable", "8bit"])))
    elif kind == 1:
        message.set_content(
            draw(st.binary(max_size=80)), maintype="application", subtype="x-data", filename=draw(TOKENS)
        )
    elif kind == 2:
        message["Content-Type"] = "multipart/" + draw(st.sampled_from(["mixed", "alternative", "related"]))
        for _ in range(draw(st.integers(1, 3))):
            message.attach(draw(trees(depth + 1)))
    else:
        inner = draw(trees(depth + 1))
        inner["Subject"] = draw(TOKENS)
        message.set_content(inner)
    return message


def shape(part: StdlibMessage) -> list[tuple[str, bytes]]:
    """Type and content of each part, as the judge has it."""
    found = []
    for each in part.walk():
        data = b"" if each.is_multipart() else each.get_payload(decode=True)
        assert isinstance(data, bytes)
        found.append((each.get_content_type(), data))
    return found


@settings(deadline=None, max_examples=120)
@given(tree=trees())
def test_good_mail_has_the_parts_that_the_standard_library_finds(tree: EmailMessage) -> None:
    raw = tree.as_bytes()

    judged = shape(email.message_from_bytes(raw))
    ours = Message(raw=raw, recipient="a@b.c", correspondent="d@e.f").parts
    assert [(p.content_type, b"" if p.children else p.data) for p in ours] == judged


def nested(levels: int) -> bytes:
    head = b"".join(b'Content-Type: multipart/mixed; boundary="b%d"\r\n\r\n--b%d\r\n' % (n, n) for n in range(levels))
    return b"From: a@b.c\r\n" + head + b"\r\ndeep\r\n"


@pytest.mark.parametrize(
    "raw",
    [
        nested(10_000),
        b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + b"--b\r\n\r\nx\r\n" * 100_000,
        b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + b"--bX\r\n" * 200_000,
        b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + b"--b\r\n" * 200_000,
        b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n" * 20_000 + b"--b--\r\n" * 50_000,
        b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + b"--b" * 400_000,
        b"Content-Type: message/rfc822\r\n\r\n" * 30_000,
        b"X:\r\n" * 300_000,
        b"From: " + b'"' * 65_000 + b"\r\n\r\n",
        b"From: " + b"a, " * 20_000 + b"\r\n\r\n",
        b"Subject: " + b"=?utf-8?q?=41?= " * 4000 + b"\r\n\r\n",
        b"Content-Type: text/html\r\n\r\n" + b"<a '\"" * 200_000,
        b"Content-Type: text/html\r\n\r\n" + b"<" * 1_000_000,
        b"\r\n" + b"On 1@: " * 150_000,
        b"\r\n" + (b"From: x\n" * 100_000),
    ],
    ids=lambda raw: f"{len(raw)}-{raw[:20]!r}",
)
def test_hostile_mail_is_bounded(raw: bytes) -> None:
    """Ten thousand nested multiparts and their like: no RecursionError, and time in proportion to the size."""
    limit = sys.getrecursionlimit()
    started = time.process_time()

    read_everything(raw)

    assert sys.getrecursionlimit() == limit
    assert time.process_time() - started < 20.0  # a quadratic step takes minutes


def test_a_mail_passed_on_is_the_same_file() -> None:
    message = Message(raw=SAMPLE, recipient="orders@example.com", correspondent="alice@example.org")
    pdf, inner = message.attachments

    raw = Draft(to=("x@y.z",), sender="orders@example.com", text="see", attachments=(pdf, inner)).render(
        message_id="<m@example.com>", date=0.0
    )

    again = Message(raw=raw, recipient="x@y.z", correspondent="orders@example.com").attachments
    assert [(a.filename, a.content_type, a.data) for a in again] == [
        ("x.pdf", "application/pdf", b"%PDF-1.4\n"),
        ("", "message/rfc822", b"From: carol@example.net\r\nSubject: inside\r\n\r\ninner body"),
    ]
    assert isinstance(again[0], Attachment)


@settings(deadline=None, max_examples=100)
@given(raw=HOSTILE | mutated(), sender=st.none() | st.sampled_from(["", "a@b.c", "MAILER-DAEMON@x.y"]))
def test_a_reason_is_a_short_line(raw: bytes, sender: str | None) -> None:
    reason = automatic_reason(scan(raw), sender)

    assert reason is None or (0 < len(reason) < 500 and "\n" not in reason)


_NAMES = st.sampled_from(
    [b"From", b"FROM ", b"Message-ID", b"message-id\t", b"Received", b"Subject", b"Fromage", b"X:"]
)
_VALUES = st.sampled_from(
    [
        b" Ann <ann@example.net>",
        b"\tbob@EXAMPLE.net.",
        b" <1@x>",
        b" two\r\n\tlines <2@x>",
        b" a\n From: c@x",
        b"",
        b" \xff",
    ]
)
_ENDS = st.sampled_from([b"\r\n", b"\n", b"\n\n", b"\r\n\r\n", b""])


@given(
    st.sampled_from([b"", b"From ann Mon\n", b" lost\r\n"]),
    st.lists(st.tuples(_NAMES, _VALUES, _ENDS), max_size=6),
    st.sampled_from([0, 1, 999, 1000, 1001]),
    st.binary(max_size=30),
)
def test_a_glance_sees_what_the_split_header_says(
    lead: bytes, fields: list[tuple[bytes, bytes, bytes]], more: int, rest: bytes
) -> None:
    raw = lead + b"".join(name + b":" + value + end for name, value, end in fields)
    raw += b"Received: x\r\n" * more + b"From: last@x\r\n" + rest
    header = scan(raw)
    assert glance(raw) == (header.correspondent, header.message_id, header.received_count)


_LINES = st.sampled_from(
    [
        *(
            b"From: ann@example.net",
            b"FROM : ann@example.net",
            b"From ann Mon",
            b"From : odd",
            b">From ann",
            b">From: x",
        ),
        *(
            b"Subject: a: b",
            b"X:",
            b":",
            b" goes on",
            b"\t",
            b" ",
            b"",
            b"no field",
            b"\r",
            b"a b: c",
            b"\xff: x",
            b"X\t: \r y",
        ),
    ]
)


@settings(max_examples=500)
@given(st.lists(st.tuples(_LINES, st.sampled_from([b"\r\n", b"\r\n", b"\r\n", b"\n"])), max_size=12), st.booleans())
def test_a_header_is_split_as_the_expression_of_the_whole_block_says(
    lines: list[tuple[bytes, bytes]], ends: bool
) -> None:
    raw = b"".join(line + end for line, end in lines) + b"\r\nbody: none\r\n" * ends

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("monsal.mail.header._split", lambda block: None)
        slow = scan(raw)

    quick = scan(raw)
    assert (quick.raw_fields, quick.body_offset, quick.complete) == (slow.raw_fields, slow.body_offset, slow.complete)
    assert [quick.get_all(name) for name in quick.names] == [slow.get_all(name) for name in slow.names]
