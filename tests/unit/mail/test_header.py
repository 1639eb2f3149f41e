"""The scan between DATA and 250, and what makes two messages the same."""

from __future__ import annotations

import pytest

from monsal.mail.header import MAX_FIELDS, MAX_HEADER, digest_below_received, first_bytes, scan

RAW = (
    b"Received: from a by b;\r\n\tFri, 21 Nov 2025 10:00:00 +0000\r\n"
    b"received: from c by a\r\n"
    b"From: Alice <Alice@Example.ORG>\r\n"
    b"SUBJECT: a long\r\n  folded one\r\n"
    b"Message-Id: <Id.1@example.org>\r\n"
    b"Auto-Submitted: Auto-Replied (rejected)\r\n"
    b"Precedence: Bulk\r\n"
    b"List-Id: A list <list.example.org>\r\n"
    b"\r\n"
    b"From: not a header\r\n"
)


def test_the_facts_of_a_header() -> None:
    found = scan(RAW)

    assert found.correspondent == "alice@example.org"
    assert found.message_id == "<Id.1@example.org>"
    assert found.received_count == 2
    assert found.subject == "a long  folded one"
    assert found.auto_submitted == "auto-replied"
    assert found.precedence == "bulk"
    assert found.list_id == "A list <list.example.org>"
    assert RAW[found.body_offset :] == b"From: not a header\r\n"
    assert found.complete
    assert found.names[:3] == ("received", "from", "subject")
    assert "sUbJeCt" in found
    assert "Ünknown" not in found
    assert found.get("X-None") is None
    assert found.get_all("Received") == [
        "from a by b;\tFri, 21 Nov 2025 10:00:00 +0000".replace("\t", " "),
        "from c by a",
    ]


def test_bare_line_feeds_are_line_ends_too() -> None:
    found = scan(RAW.replace(b"\r\n", b"\n"))

    assert found.fields == scan(RAW).fields
    assert RAW.replace(b"\r\n", b"\n")[found.body_offset :] == b"From: not a header\n"


@pytest.mark.parametrize(
    ("raw", "names", "body"),
    [
        (b"", (), b""),
        (b"\r\nbody", (), b"body"),
        (b"no header at all\r\nA: b\r\n", (), b"no header at all\r\nA: b\r\n"),
        (b"A: 1\r\nno field\r\nB: 2\r\n", ("a",), b"no field\r\nB: 2\r\n"),
        (b"A: 1", ("a",), b""),
        (b"A: 1\r\n", ("a",), b""),
        (b"A : 1\r\nB:\r\n\r\nbody", ("a", "b"), b"body"),
        (b"A: 1\r\n \r\nB: 2\r\n\r\nbody", ("a", "b"), b"body"),
        (b"From someone Fri Nov 21\nA: 1\n\nbody", ("a",), b"body"),
        (b">From someone Fri Nov 21\nA: 1\n\nbody", ("a",), b"body"),
        (b" continues nothing\r\nA: 1\r\n\r\nbody", ("a",), b"body"),
        (b"From: a@b.c\r\n\r\nbody", ("from",), b"body"),
    ],
)
def test_where_the_header_ends(raw: bytes, names: tuple[str, ...], body: bytes) -> None:
    found = scan(raw)

    assert found.names == names
    assert raw[found.body_offset :] == body


def test_only_the_first_64_kb_are_looked_at() -> None:
    raw = b"X: 1\r\n" * 20_000 + b"From: late@example.org\r\n\r\nbody"

    found = scan(raw)

    assert len(found.raw_fields) == MAX_FIELDS
    assert found.correspondent is None
    assert not found.complete
    assert found.body_offset <= MAX_HEADER


@pytest.mark.parametrize(
    ("value", "message_id"),
    [
        (b"<a@b>", "<a@b>"),
        (b"  <a@b> (comment)", "<a@b>"),
        (b"\r\n <a@b>", "<a@b>"),
        (b"a@b", None),
        (b"<>", None),
        (b"<a b@c>", None),
        (b"<" + b"a" * 1000 + b"@b>", None),
        (b"<\xff@b>", None),
        (b"", None),
    ],
)
def test_a_message_id_is_one_or_there_is_none(value: bytes, message_id: str | None) -> None:
    assert scan(b"Message-ID: " + value + b"\r\n\r\n").message_id == message_id


def test_values_are_decoded_leniently_and_hold_no_control_characters() -> None:
    found = scan("A: grün\r\n".encode() + b"B: gr\xfcn\r\nC: a\0b\rc\r\n\r\n")

    assert (found.get("a"), found.get("b"), found.get("c")) == ("grün", "grün", "a b c")


@pytest.mark.rule("routing.B17")
def test_the_correspondent_is_folded_and_the_first_from_counts() -> None:
    assert scan(b"From: A@X.Y, b@x.y\r\nFrom: c@x.y\r\n\r\n").correspondent == "a@x.y"
    assert scan(b"From: nobody\r\nSender: s@x.y\r\n\r\n").correspondent is None
    assert scan(b"\r\n").correspondent is None


def test_first_bytes_take_no_more_than_needed() -> None:
    assert first_bytes(()) == b""
    assert first_bytes((b"abc", b"def", b"ghi"), 5) == b"abcde"
    assert first_bytes((b"abc", b"def"), 100) == b"abcdef"
    whole = b"abc"
    assert first_bytes((whole,), 3) is whole


@pytest.mark.parametrize(
    "trace",
    [
        b"Received: from a\r\n",
        b"received: from a\r\n\tby b\r\n",
        b"Return-Path: <x@y>\r\nDelivered-To: z@y\r\nX-Original-To: z@y\r\nReceived: from a\r\n by b\r\n",
    ],
)
def test_the_same_message_by_another_way_has_the_same_digest(trace: bytes) -> None:
    message = b"From: a@b.c\r\nReceived: below counts\r\n\r\nbody"

    assert digest_below_received((trace + message,)) == digest_below_received((message,))


def test_another_message_has_another_digest() -> None:
    one = digest_below_received((b"From: a@b.c\r\n\r\nbody",))

    assert digest_below_received((b"From: a@b.c\r\n\r\nbody.",)) != one
    assert digest_below_received((b"X: 1\r\nFrom: a@b.c\r\n\r\nbody",)) != one
    assert len(one) == 32
