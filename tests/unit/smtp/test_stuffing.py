"""Dots and line ends of the mail data."""

from __future__ import annotations

import pytest

from monsal.smtp.stuffing import DotStuffer


def stuffed(*pieces: bytes) -> bytes:
    stuffer = DotStuffer()
    return b"".join(stuffer.feed(piece) for piece in pieces) + stuffer.finish()


@pytest.mark.parametrize(
    ("body", "sent"),
    [
        (b"", b".\r\n"),
        (b"a\r\n", b"a\r\n.\r\n"),
        (b"a", b"a\r\n.\r\n"),
        (b".", b"..\r\n.\r\n"),
        (b".\r\n", b"..\r\n.\r\n"),
        (b"..a\r\n.b\r\n", b"...a\r\n..b\r\n.\r\n"),
        (b"a.b\r\n", b"a.b\r\n.\r\n"),
        (b"\r\n\r\n.\r\n.\r\n", b"\r\n\r\n..\r\n..\r\n.\r\n"),
    ],
)
def test_a_leading_dot_is_doubled_and_the_end_added(body: bytes, sent: bytes) -> None:
    assert stuffed(body) == sent


@pytest.mark.parametrize(
    "smuggled", [b"a\n.\nMAIL", b"a\r.\rMAIL", b"a\n.\r\nMAIL", b"a\r\n.\nMAIL", b"a\r\r\n.\r\nMAIL"]
)
def test_no_line_end_but_crlf_leaves(smuggled: bytes) -> None:
    """RFC 5321 section 2.3.8: else the rest of a mail could pass as commands at a lax peer."""
    sent = stuffed(smuggled)
    assert sent.count(b"\r\n") == sent.count(b"\n") == sent.count(b"\r")
    assert b"\r\n.\r\n" not in sent[:-5]
    assert sent.endswith(b"MAIL\r\n.\r\n")


def test_pieces_give_the_same_as_the_whole() -> None:
    body = b".a\r\n..\r\n\r\r\n\n.x\ry\r\n."
    whole = stuffed(body)
    assert stuffed(*(bytes([byte]) for byte in body)) == whole
    for cut in range(len(body) + 1):
        assert stuffed(body[:cut], body[cut:]) == whole


def test_a_lone_cr_at_the_end_becomes_a_line_end() -> None:
    assert stuffed(b"a\r") == b"a\r\n.\r\n"
