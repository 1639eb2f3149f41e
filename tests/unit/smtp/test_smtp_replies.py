"""Replies: what goes over the wire, and what cannot."""

from __future__ import annotations

import pytest

from monsal.smtp import replies
from monsal.smtp.replies import Refused, Reply


def test_one_line() -> None:
    assert Reply(550, "5.1.1", "unknown recipient").to_bytes() == b"550 5.1.1 unknown recipient\r\n"
    assert Reply(354, None, "go").to_bytes() == b"354 go\r\n"
    assert str(Reply(550, "5.1.1", "unknown recipient")) == "550 5.1.1 unknown recipient"


def test_several_lines_repeat_the_codes() -> None:
    reply = Reply(250, "2.0.0", ("first", "second", "third"))

    assert reply.to_bytes() == b"250-2.0.0 first\r\n250-2.0.0 second\r\n250 2.0.0 third\r\n"
    assert reply.lines == ("first", "second", "third")
    assert str(reply) == "250 2.0.0 first second third"


@pytest.mark.parametrize("text", ["", (), ("",)])
def test_a_reply_always_has_a_line(text: str | tuple[str, ...]) -> None:
    assert Reply(250, None, text).to_bytes() == b"250 \r\n"


@pytest.mark.parametrize("evil", ["x\r\n250 2.0.0 stored", "x\n250 ok", "x\r250 ok", "x\x00y", "x\u2028y", "é"])
def test_text_from_outside_cannot_forge_a_line(evil: str) -> None:
    sent = Reply(550, "5.1.1", evil).to_bytes()

    assert sent.count(b"\r\n") == 1
    assert sent.endswith(b"\r\n")
    assert all(0x20 <= octet < 0x7F for octet in sent[:-2])


def test_a_line_has_at_most_512_octets() -> None:
    """RFC 5321, section 4.5.3.1.5."""
    assert len(Reply(250, "2.0.0", "x" * 5000).to_bytes()) == 512


@pytest.mark.parametrize(
    ("code", "positive", "transient", "permanent"),
    [(220, 1, 0, 0), (354, 1, 0, 0), (421, 0, 1, 0), (451, 0, 1, 0), (500, 0, 0, 1), (599, 0, 0, 1)],
)
def test_kinds(code: int, positive: int, transient: int, permanent: int) -> None:
    reply = Reply(code, None, "")

    assert (reply.is_positive, reply.is_transient, reply.is_permanent) == (positive, transient, permanent)


@pytest.mark.parametrize("code", [0, 99, 199, 600, 1000, -250])
def test_a_code_has_three_digits_from_2_to_5(code: int) -> None:
    with pytest.raises(ValueError, match="200 to 599"):
        Reply(code, None, "")


def test_a_refusal_never_says_yes() -> None:
    """P1: what is raised to refuse a mail cannot become a 250."""
    assert str(Refused(replies.TOO_MANY_HOPS)).startswith("554 5.4.6")
    with pytest.raises(ValueError, match="4yz or 5yz"):
        Refused(Reply(250, "2.0.0", "stored"))


def test_every_standard_reply_has_codes_that_agree() -> None:
    standard = [value for value in vars(replies).values() if isinstance(value, Reply)]
    assert len(standard) > 20
    for reply in standard:
        if reply.enhanced is not None:
            assert reply.enhanced[0] == str(reply.code)[0], reply
            assert reply.enhanced.count(".") == 2
        else:
            assert reply.code == 354 or not reply.lines[0].isupper()
