"""Lines that the sender left to the reader (RFC 3676)."""

from __future__ import annotations

import pytest

from monsal.mail import Message
from monsal.mail.flowed import unflow


@pytest.mark.parametrize(
    ("text", "delsp", "read"),
    [
        ("one \ntwo\nthree", False, "one two\nthree"),
        ("日本 \n語", True, "日本語"),
        ("> quoted \n> on\nnew", False, "> quoted on\nnew"),
        (">> deep \n> less", False, ">> deep \n> less"),
        (" >stuffed\n From me", False, ">stuffed\nFrom me"),
        ("text \n-- \nAlice", False, "text \n-- \nAlice"),
        ("one \n\ntwo", False, "one \ntwo"),
        ("", False, ""),
        ("open ", False, "open "),
    ],
)
def test_soft_breaks(text: str, delsp: bool, read: str) -> None:
    assert unflow(text, delsp=delsp) == read


def test_it_is_undone_where_it_is_declared() -> None:
    body = (
        b"a line that \r\ngoes on\r\n\r\nOn 21.11.2025 10:00, Bob \r\n<bob@example.org> wrote:\r\n> old \r\n> text\r\n"
    )
    flowed = b"Content-Type: text/plain; charset=utf-8; format=flowed; delsp=no\r\n\r\n" + body
    fixed = b"Content-Type: text/plain; charset=utf-8\r\n\r\n" + body

    assert Message(raw=flowed, recipient="a@b.c", correspondent="d@e.f").reply_text == "a line that goes on"
    assert Message(raw=fixed, recipient="a@b.c", correspondent="d@e.f").reply_text == "a line that\ngoes on"
