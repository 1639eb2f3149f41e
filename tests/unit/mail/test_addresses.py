"""Address lists of anybody's mail."""

from __future__ import annotations

import pytest

from monsal.mail.addresses import Mailbox, first_address, mailboxes


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("bob@x.y", "bob@x.y"),
        ("Bob <Bob@X.y>", "Bob@X.y"),
        ('"Bob, Jr" <bob@x.y>, c@d.e', "bob@x.y"),
        ('"a \\" b" <bob@x.y>', "bob@x.y"),
        ("bob@x.y (Bob B)", "bob@x.y"),
        ("(a (nested) comment) bob (x) @ y.z", "bob@y.z"),
        ("<@one.example,@two.example:bob@x.y>", "bob@x.y"),
        ("Friends: bob@x.y, carol@x.y;", "bob@x.y"),
        ("undisclosed-recipients:;, bob@x.y", "bob@x.y"),
        ("=?utf-8?q?B=C3=B6b?= <bob@x.y>", "bob@x.y"),
        ("=?utf-8?q?Bob_=3Cbob=40x.y=3E?=", "bob@x.y"),
        # What looks like an address in a display name is a name: the brackets decide.
        ("ceo@good.example <bob@x.y>", "bob@x.y"),
        ('"ceo@good.example" <bob@x.y>', "bob@x.y"),
        ("<Bob <bob@x.y>", "bob@x.y"),
        ("Bob Smith bob@x.y", "bob@x.y"),
        (" ,, not an address, bob@x.y", "bob@x.y"),
        ('<"odd>local"@x.y>', '"odd>local"@x.y'),
        ("bob@[192.0.2.1]", "bob@[192.0.2.1]"),
        ("bob smith@x.y carol@x.y", None),
        ("undisclosed-recipients:;", None),
        ("Bob <>", None),
        ('"never closed <bob@x.y>', None),
        ("(never closed bob@x.y", None),
        ("", None),
    ],
)
def test_the_first_address(text: str, address: str | None) -> None:
    assert first_address(text) == address


def test_all_addresses_with_their_names() -> None:
    found = mailboxes('Al <al@x.y>, "B, C" <bc@x.y>, d@x.y (Dora), G: =?utf-8?q?=C3=84?= <e@x.y>;, junk, f@x.y')

    assert found == [
        Mailbox("al@x.y", "Al"),
        Mailbox("bc@x.y", "B, C"),
        Mailbox("d@x.y", "Dora"),
        Mailbox("e@x.y", "Ä"),
        Mailbox("f@x.y", ""),
    ]


def test_a_list_is_read_up_to_a_limit() -> None:
    assert len(mailboxes("a@b.c, " * 5000)) == 1000
    assert mailboxes("a@b.c, d@e.f", 1) == [Mailbox("a@b.c")]
