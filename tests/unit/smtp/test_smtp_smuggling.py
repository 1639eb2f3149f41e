"""SMTP smuggling: nothing but CRLF.CRLF ends a message, and nothing at all ends one within BDAT."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import pytest

Start = Callable[..., Any]

#: Line ends that some server takes for one.
ENDS = [b"\n", b"\r", b"\r\n", b"\r\r\n", b"\n\r", b"\r\n\r", b"\x85", b"\x0b", b"\x0c", b"\x00\r\n", b"\xe2\x80\xa8"]
#: Everything with a dot between two of them but the end itself: what ends in a CRLF and so begins at one is included.
SEQUENCES = [
    first + b"." + last
    for first, last in product(ENDS, ENDS)
    if not (first.endswith(b"\r\n") and last.startswith(b"\r\n"))
]
NAMED = [
    b"\n.\n",
    b"\n.\r\n",
    b"\r.\r",
    b"\r.\r\n",
    b"\r\n.\n",
    b"\r\n.\r",
    b"\n.\r",
    b"\r.\n",
    b"\r\n\x00.\r\n",
    b"\r\n.\x00\r\n",
]
SECOND = b"MAIL FROM:<evil@example.com>\r\nRCPT TO:<victim@example.org>\r\nDATA\r\nforged\r\n.\r\n"


def test_the_table_has_the_sequences_that_are_known() -> None:
    assert set(NAMED[:8]) <= set(SEQUENCES)
    assert len(SEQUENCES) > 100


def _splits(data: bytes) -> list[list[bytes]]:
    return [[data[:cut], data[cut:]] for cut in range(1, len(data))]


@pytest.mark.parametrize("sequence", sorted(set(SEQUENCES + NAMED)))
def test_it_ends_no_message(talk: Start, sequence: bytes) -> None:
    stream = b"Subject: one\r\n\r\nhello" + sequence + SECOND
    for pieces in [
        [stream],
        [stream[:21], *_splits(sequence)[0], SECOND],
        *([a, b] for a, b in _splits(stream)[18:30]),
    ]:
        it = talk().hello().transaction()
        it.say("DATA")
        output = b"".join(it.say(piece) for piece in pieces)

        assert output.count(b"\r\n") == 1, "one reply to one mail"
        assert len(it.mails) == 1
        assert it.mails[0].recipients == ("order@example.org",)
        assert b"RCPT TO:<victim@example.org>" in it.body


@pytest.mark.parametrize("sequence", sorted({*SEQUENCES, *NAMED, b"\r\n.\r\n"}))
def test_within_a_chunk_nothing_is_an_end(talk: Start, sequence: bytes) -> None:
    chunk = b"Subject: one\r\n\r\nhello" + sequence + SECOND
    stream = b"BDAT %d LAST\r\n" % len(chunk) + chunk
    for pieces in ([stream], [stream[:38], stream[38:]], [bytes([octet]) for octet in stream]):
        it = talk().hello().transaction()
        output = b"".join(it.say(piece) for piece in pieces)

        assert output.count(b"\r\n") == 1
        assert [mail.recipients for mail in it.mails] == [("order@example.org",)]
        assert it.body == chunk


def test_the_end_itself_ends_one(talk: Start) -> None:
    it = talk().hello().transaction()
    it.say("DATA")
    it.say(b"hello\r\n.\r\n" + SECOND)

    assert [mail.recipients for mail in it.mails] == [("order@example.org",), ("victim@example.org",)]


@pytest.mark.parametrize("end", [b"\n", b"\r", b"\n\r"])
def test_a_bare_end_of_line_ends_no_command(talk: Start, end: bytes) -> None:
    it = talk().hello()
    output = it.say(b"MAIL FROM:<ann@example.com>" + end + b"RCPT TO:<a@example.org>\r\n")

    assert output.startswith(b"500 5.5.2 ")
    assert output.count(b"\r\n") == 1
