"""Parts, cut out of raw bytes."""

from __future__ import annotations

import pytest

from monsal.mail.filenames import safe_filename
from monsal.mail.mime import MAX_DEPTH, MAX_PARTS, Part, parameters, parse


def shape(part: Part) -> list[tuple[str, bytes]]:
    return [(each.content_type, b"" if each.children else each.data) for each in part.walk()]


def multipart(body: str, boundary: str = "b", subtype: str = "mixed") -> bytes:
    head = f'Content-Type: multipart/{subtype}; boundary="{boundary}"\n\n'
    return (head + body).replace("\n", "\r\n").encode()


def test_a_plain_message_is_one_part() -> None:
    part = parse(b"From: a@b.c\r\n\r\nhello\r\n")

    assert shape(part) == [("text/plain", b"hello\r\n")]
    assert part.text == "hello\n"


def test_parts_between_boundaries() -> None:
    raw = multipart("preamble\n--b\n\none\n--b  \nContent-Type: TEXT/HTML\n\ntwo\n\n--b--\nepilogue\n--b\n\nno")

    assert shape(parse(raw)) == [("multipart/mixed", b""), ("text/plain", b"one"), ("text/html", b"two\r\n")]


@pytest.mark.parametrize("line_end", [b"\r\n", b"\n"])
def test_both_line_ends(line_end: bytes) -> None:
    raw = multipart("--b\n\none\ntwo\n--b--\n").replace(b"\r\n", line_end)

    assert shape(parse(raw))[1] == ("text/plain", b"one" + line_end + b"two")


@pytest.mark.parametrize(
    ("body", "parts"),
    [
        ("--b\n\none\n--b\n\ntwo\n", [b"one", b"two\r\n"]),  # no last boundary
        ("--b\n\none\n--b", [b"one"]),  # cut off in the boundary
        ("--b\n\n--b--\n", [b""]),
        ("--b\n--b--\n", []),
        ("--b\n--b\n\none\n--b\n--b\n--b--\n", [b"one"]),
        ("--b--\n", []),
        ("--b\n\n--bc\n--b-- x\n--b\n\ntwo\n--b--", [b"--bc\r\n--b-- x", b"two"]),  # lines that begin alike
        ("x --b\n--b\n\none --b\n--b--", [b"one --b"]),
    ],
)
def test_boundaries_of_living_systems(body: str, parts: list[bytes]) -> None:
    assert [child.data for child in parse(multipart(body)).children] == parts


def test_a_boundary_that_begins_another() -> None:
    inner = 'Content-Type: multipart/alternative; boundary="bb"\n\n--bb\n\none\n--bb\n\ntwo\n--bb--\n'
    raw = multipart(f"--b\n{inner}\n--b\n\nthree\n--b--\n")

    assert [data for kind, data in shape(parse(raw)) if kind == "text/plain"] == [b"one", b"two", b"three"]


def test_an_inner_multipart_with_the_boundary_of_the_outer_one() -> None:
    inner = 'Content-Type: multipart/alternative; boundary="b"\n\n--b\n\none\n--b\n\ntwo\n--b--\n'
    raw = multipart(f"--b\n{inner}\n--b\nContent-Type: image/gif\n\nthree\n--b--\n\n--b\n\nepilogue")

    assert shape(parse(raw))[1:] == [("text/plain", b"one"), ("text/plain", b"two"), ("image/gif", b"three")]


@pytest.mark.parametrize(
    "raw",
    [
        b"Content-Type: multipart/mixed\r\n\r\nstill text",
        b'Content-Type: multipart/mixed; boundary="missing"\r\n\r\nstill text',
        b"Content-Type: nonsense\r\n\r\nstill text",
        b"Content-Type:\r\n\r\nstill text",
    ],
)
def test_what_cannot_be_taken_apart_is_text(raw: bytes) -> None:
    part = parse(raw)

    assert (part.content_type, part.text, part.children) == ("text/plain", "still text", [])


def test_a_message_inside() -> None:
    raw = multipart("--b\nContent-Type: message/rfc822\n\nSubject: inner\n\nbody\n--b--\n")

    (outer,) = parse(raw).children
    assert outer.is_message
    assert outer.data == b"Subject: inner\r\n\r\nbody"
    assert [inner.subject for inner in outer.children] == ["inner"]
    assert outer.children[0].text == "body"


def test_a_message_inside_that_was_encoded_against_the_rules() -> None:
    raw = b"Content-Type: message/rfc822\r\nContent-Transfer-Encoding: base64\r\n\r\nU3ViamVjdDogaW5uZXIKCmJvZHk="

    (inner,) = parse(raw).children
    assert (inner.subject, inner.text) == ("inner", "body")


def test_parts_of_a_digest_are_messages() -> None:
    raw = multipart("--b\n\nSubject: one\n\nfirst\n--b--\n", subtype="digest")

    (entry,) = parse(raw).children
    assert (entry.content_type, entry.children[0].subject) == ("message/rfc822", "one")


@pytest.mark.parametrize(
    ("encoding", "body", "data"),
    [
        ("base64", b"aGVsbG8=", b"hello"),
        ("BASE64 (comment)", b"aGVs\r\nbG8", b"hello"),
        ("quoted-printable", b"gr=C3=BCn=\r\n =zz", "grün =zz".encode()),
        ("8bit", b"gr\xc3\xbcn", "grün".encode()),
        ("unheard-of", b"as it is", b"as it is"),
        ("x-uuencode", b'begin 644 x\n%:&5L;&\\\n`\nend\n', b"hello"),
        ("uuencode", b"no beginning", b"no beginning"),
    ],
)  # fmt: skip
def test_transfer_encodings(encoding: str, body: bytes, data: bytes) -> None:
    assert parse(b"Content-Transfer-Encoding: " + encoding.encode() + b"\r\n\r\n" + body).data == data


def test_bounds_leave_the_rest_in_one_piece() -> None:
    many = parse(multipart("--b\n\nx\n" * (2 * MAX_PARTS) + "--b--\n"))
    deep = parse(b"Content-Type: message/rfc822\r\n\r\n" * (2 * MAX_DEPTH))

    assert len(list(many.walk())) == MAX_PARTS
    assert many.children[-1].raw_body.count(b"--b\r\n") == 2 * MAX_PARTS - MAX_PARTS + 1
    last = list(deep.walk())[-1]
    assert last.depth == MAX_DEPTH
    assert last.raw_body.count(b"message/rfc822") == 2 * MAX_DEPTH - MAX_DEPTH - 1


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("text/plain; charset=utf-8", {"charset": "utf-8"}),
        ('text/plain; CHARSET="utf-8" ; x=y', {"charset": "utf-8", "x": "y"}),
        ("text/plain; charset=utf-8 (comment)", {"charset": "utf-8"}),
        ('a/b; name="a;b\\"c"', {"name": 'a;b"c'}),
        ("a/b; name=two words.pdf", {"name": "two words.pdf"}),
        ('a/b; name="never closed', {"name": "never closed"}),
        ("a/b; name*=utf-8'en'%E2%82%AC%20rates", {"name": "€ rates"}),
        ("a/b; name*1*=%20b; name*0*=iso-8859-1''%E4", {"name": "ä b"}),
        ('a/b; name*0="long "; name*1="name"', {"name": "long name"}),
        ("a/b; name*=nonsense%zz", {"name": "nonsense%zz"}),
        ("a/b; x=1; x=2", {"x": "1"}),
        ("a/b", {}),
        (";;;=;=;", {}),
    ],
)
def test_parameters(value: str, found: dict[str, str]) -> None:
    assert parameters(value) == found


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("report.pdf", "report.pdf"),
        ("../../etc/passwd", "passwd"),
        ("C:\\Users\\x\\report.pdf", "report.pdf"),
        ("a\r\nb\0c.pdf", "a b c.pdf"),
        ("..", ""),
        ("/", ""),
        ("exe.\u202egpj.exe", "exe.gpj.exe"),
        (" spaced  out .txt ", "spaced out .txt"),
        ("Grüße.pdf", "Grüße.pdf"),
        (".profile", ".profile"),
        ("dots...", "dots"),
    ],
)
def test_file_names_stay_in_their_folder(name: str, safe: str) -> None:
    assert safe_filename(name) == safe


def test_a_long_file_name_keeps_its_extension() -> None:
    name = safe_filename("ü" * 300 + ".pdf")

    assert name.endswith("ü.pdf")
    assert len(name.encode()) <= 200


@pytest.mark.parametrize(
    ("header", "filename"),
    [
        (b'Content-Disposition: attachment; filename="x.pdf"', "x.pdf"),
        (b'Content-Disposition: attachment; filename="=?utf-8?q?=C3=A4.pdf?="', "ä.pdf"),
        (b"Content-Disposition: attachment; filename*=utf-8''%C3%A4.pdf", "ä.pdf"),
        (b'Content-Type: application/pdf; name="x.pdf"', "x.pdf"),
        (b'Content-Disposition: attachment; filename="../x.pdf"', "x.pdf"),
        (b"Content-Disposition: inline", ""),
    ],
)
def test_file_names(header: bytes, filename: str) -> None:
    assert parse(header + b"\r\n\r\n").filename == filename
