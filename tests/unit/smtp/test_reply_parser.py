"""The parser of a peer's replies."""

from __future__ import annotations

import pytest

from monsal.errors import ProtocolError
from monsal.smtp.replies import Reply
from monsal.smtp.reply_parser import ReplyParser


def parse(data: bytes, **bounds: int) -> list[Reply]:
    parser = ReplyParser(**bounds)
    parser.feed(data)
    replies = []
    while (reply := parser.next_reply()) is not None:
        replies.append(reply)
    return replies


@pytest.mark.parametrize(
    ("data", "reply"),
    [
        (b"250 2.1.0 sender OK\r\n", Reply(250, "2.1.0", "sender OK")),
        (b"250 OK\r\n", Reply(250, None, "OK")),
        (b"250\r\n", Reply(250, None, "")),
        (b"250 \n", Reply(250, None, "")),
        (b"550 5.1.1\r\n", Reply(550, "5.1.1", "")),
        (b"550 4.1.1 of another class\r\n", Reply(550, None, "4.1.1 of another class")),
        (b"220 1.2.3.4 is my name\r\n", Reply(220, None, "1.2.3.4 is my name")),
        (b"250 2.0.0.1 is no code\r\n", Reply(250, None, "2.0.0.1 is no code")),
        (
            b"250-mx.example\r\n250-PIPELINING\r\n250 SIZE 10\r\n",
            Reply(250, None, ("mx.example", "PIPELINING", "SIZE 10")),
        ),
        (b"550-5.7.1 no\r\n550 5.7.1 never\r\n", Reply(550, "5.7.1", ("no", "never"))),
        ("550 5.1.1 Größe\r\n".encode(), Reply(550, "5.1.1", "Größe")),
        (b"250 \x1b[2Jwiped\x00\r\n", Reply(250, None, "?[2Jwiped?")),
        (b"250 \xff\r\n", Reply(250, None, "\ufffd")),
    ],
)
def test_a_reply_is_read(data: bytes, reply: Reply) -> None:
    assert parse(data) == [reply]


def test_a_reply_comes_when_its_last_line_is_whole() -> None:
    parser = ReplyParser()
    parser.feed(b"250-a\r\n250 b\r")
    assert parser.next_reply() is None
    parser.feed(b"\n354 go\r\n")
    assert parser.next_reply() == Reply(250, None, ("a", "b"))
    assert parser.next_reply() == Reply(354, None, "go")
    assert parser.next_reply() is None


@pytest.mark.parametrize(
    "data",
    [
        b"\r\n",
        b"hello\r\n",
        b"25 OK\r\n",
        b"2500 OK\r\n",
        b"150 OK\r\n",
        b"650 OK\r\n",
        b"250:OK\r\n",
        b"250-a\r\n251 b\r\n",
        b"250-a\r\nb\r\n",
        b"\x32\x35\xb0 x\r\n",
    ],
)
def test_what_is_no_reply_is_a_breach_of_the_protocol(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        parse(data)


def test_a_reply_is_bounded() -> None:
    """P7: neither a line without end nor lines without end take memory."""
    assert parse(b"250 " + b"x" * 10 + b"\r\n", max_line=16)
    for data in (b"250 " + b"x" * 11 + b"\r\n", b"250 " + b"x" * 13):
        with pytest.raises(ProtocolError, match="longer than 16 octets"):
            parse(data, max_line=16)
    assert parse(b"250-a\r\n" * 3 + b"250 a\r\n", max_lines=4)
    with pytest.raises(ProtocolError, match="more than 4 lines"):
        parse(b"250-a\r\n" * 5, max_lines=4)
