"""The suite of reading and writing: its readers find the same in a mail, its writers say the same, its probe runs."""

from __future__ import annotations

import email
import email.policy
from dataclasses import replace

import pytest
from bench.harness import run_table
from bench.probes.reading import MAILS, REPLIES, WAYS, make_mail
from bench.suites.mail import SUITE

HERE = [name for name in WAYS if name != "salmon"]  # it is in no environment but its own


@pytest.mark.parametrize("name", HERE)
@pytest.mark.parametrize("what", MAILS)
def test_all_readers_find_the_same_in_a_header(name: str, what: str) -> None:
    hops, sender, message_id = WAYS[name][0](make_mail(what))["header"]()
    assert (hops, sender.lower(), message_id) == (3, "alice@example.org", "<0123456789abcdef@mail.example.org>")


@pytest.mark.parametrize("name", HERE)
def test_all_readers_find_the_text_and_the_file(name: str) -> None:
    found = repr(WAYS[name][0](make_mail("106 kB, a file"))["whole"]())
    assert "Rückfrage zu n° 1" in found
    assert "We opened the parcel" in found
    assert len(found) > 75_000


def test_the_large_mail_is_as_large_as_its_name_says() -> None:
    assert 103_000 < len(make_mail("106 kB, a file")) < 110_000


@pytest.mark.parametrize("name", HERE)
@pytest.mark.parametrize("what", REPLIES)
def test_all_writers_say_the_same(name: str, what: str) -> None:
    text, html = REPLIES[what]
    written = email.message_from_bytes(WAYS[name][1](text, html)["write"](), policy=email.policy.default)
    assert str(written["Subject"]) == "Re: Rückfrage zu n° 1"
    assert str(written["In-Reply-To"]) == "<0123456789abcdef@mail.example.org>"
    leaves = [part.get_content().replace("\r\n", "\n") for part in written.walk() if not part.is_multipart()]
    assert leaves == [one for one in (text, html) if one is not None]


def test_the_suite_of_reading_and_writing_runs() -> None:
    """Very short, the first contest of each table; what it finds is looked at by nobody, only that it finds it."""
    for table in SUITE.tables(0.001, False):
        table = replace(table, contests=table.contests[:1])
        for row in run_table(table, 1, 1, lambda line: None).rows:
            assert not row.note
            assert set(row.figures) == {column.key for column in table.columns}
