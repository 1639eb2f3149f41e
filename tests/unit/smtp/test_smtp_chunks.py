"""BDAT (RFC 3030): chunks of a said size, whose octets are never commands."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from monsal.smtp.events import Closing, MessageDiscarded
from monsal.smtp.replies import TOO_BUSY, Reply
from monsal.smtp.states import SessionState

Start = Callable[..., Any]


def codes(output: bytes) -> list[int]:
    return [int(line[:3]) for line in output.split(b"\r\n") if line and line[3:4] == b" "]


def test_a_mail_in_chunks_is_what_was_sent(talk: Start) -> None:
    it = talk().hello().transaction()

    assert it.say(b"BDAT 10\r\nfirst\r\n.\r\n") == b"250 2.0.0 10 octets so far\r\n"
    assert it.say(b"BDAT 4\r\n\r\n\r\n" + b"BDAT 3 LAST\r\n\n.\n") == (
        b"250 2.0.0 14 octets so far\r\n250 2.0.0 1 stored\r\n"
    )
    assert it.body == b"first\r\n.\r\n\r\n\r\n\n.\n"
    assert it.mails[0].size == 17


def test_everything_in_one_packet(talk: Start) -> None:
    it = talk()
    chunk = b"x" * 3000
    output = it.say(
        b"EHLO x\r\nMAIL FROM:<ann@example.com>\r\nRCPT TO:<a@example.org>\r\nBDAT 3000\r\n"
        + chunk
        + b"bdat 0 last\r\nQUIT\r\n"
    )

    assert codes(output) == [220] * 0 + [250, 250, 250, 250, 250, 221]
    assert it.body == chunk


@pytest.mark.parametrize("before", [[], ["EHLO x"], ["EHLO x", "MAIL FROM:<ann@example.com>"]])
def test_a_chunk_that_comes_at_the_wrong_time_is_read_over(talk: Start, before: list[str]) -> None:
    """A client that pipelines has sent it already; its octets look like commands here."""
    it = talk()
    for line in before:
        it.say(line)
    evil = b"MAIL FROM:<evil@example.com>\r\nQUIT\r\n"

    assert codes(it.say(b"BDAT %d LAST\r\n%sNOOP\r\n" % (len(evil), evil))) == [503, 250]
    assert not it.protocol.closing
    assert codes(it.say(b"BDAT 6\r\nQU")) == [503]
    assert codes(it.say(b"IT\r\nNOOP\r\n")) == [250]


def test_recipients_that_were_all_refused(talk: Start) -> None:
    it = talk().hello()
    output = it.say(b"MAIL FROM:<ann@example.com>\r\nRCPT TO:<no@example.org>\r\nBDAT 6 LAST\r\nQUIT\r\nRSET\r\n")

    assert codes(output) == [250, 550, 503, 250]


@pytest.mark.parametrize(
    "line", ["BDAT", "BDAT x", "BDAT -1", "BDAT +5", "BDAT 5 FIRST", "BDAT 5LAST", "BDAT 0x10", "BDAT 1e3"]
)
@pytest.mark.parametrize("within", [True, False])
def test_without_a_size_the_session_ends(talk: Start, line: str, within: bool) -> None:
    """Nobody knows where that chunk would end, and what follows must not be read as commands."""
    it = talk().hello()
    if within:
        it.transaction()

    assert codes(it.say(line + "\r\nMAIL FROM:<evil@example.com>")) == [501]
    assert it.protocol.closing


@pytest.mark.parametrize("size", [2**63, 2**64, 10**20 - 1, 151, 1000])
def test_a_size_out_of_all_proportion_ends_the_session(talk: Start, size: int) -> None:
    it = talk(max_message_size=100, max_discarded=50).hello().transaction()

    assert codes(it.say(f"BDAT {size} LAST")) == [552]
    assert isinstance(it.events[-1], Closing)
    assert it.protocol.closing


def test_above_the_size_the_chunk_is_read_and_refused(talk: Start) -> None:
    it = talk(max_message_size=100).hello().transaction()

    assert codes(it.say(b"BDAT 60\r\n" + b"x" * 60)) == [250]
    assert it.protocol.stored == 60
    assert it.say(b"BDAT 41\r\n" + b"x" * 40) == b""
    assert it.protocol.stored == 0
    assert codes(it.say(b"x")) == [552]
    assert it.events[-1].size == 101
    # The rest of the mail, that was on its way already, is no mail of its own.
    assert codes(it.say(b"BDAT 5 LAST\r\nQUIT\n")) == [503]
    assert codes(it.say("MAIL FROM:<ann@example.com>")) == [250]
    assert it.mails == []


def test_by_lmtp_each_recipient_gets_a_reply_to_the_last_chunk_only(talk: Start) -> None:
    it = talk(lmtp=True, max_message_size=100).hello().transaction("a@example.org", "b@example.org")

    assert codes(it.say(b"BDAT 3\r\nabc")) == [250]
    assert codes(it.say(b"BDAT 0 LAST\r\n")) == [250, 250]
    it.transaction("a@example.org", "b@example.org")
    assert codes(it.say(b"BDAT 101 LAST\r\n" + b"x" * 101)) == [552, 552]
    it.transaction("a@example.org", "b@example.org")
    assert codes(it.say(b"BDAT 101\r\n" + b"x" * 101)) == [552]


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("DATA", 503),
        ("RCPT TO:<b@example.org>", 503),
        ("MAIL FROM:<>", 503),
        ("STARTTLS", 503),
        ("AUTH PLAIN", 503),
        ("NOOP", 250),
        ("VRFY a", 252),
    ],
)
def test_between_chunks_there_are_only_chunks(talk: Start, line: str, code: int) -> None:
    it = talk().hello().transaction()
    it.say(b"BDAT 3\r\nabc")

    assert codes(it.say(line)) == [code]
    assert codes(it.say(b"BDAT 3 LAST\r\ndef")) == [250]
    assert it.body == b"abcdef"


@pytest.mark.parametrize("line", ["RSET", "EHLO again"])
def test_a_mail_in_chunks_can_be_given_up(talk: Start, line: str) -> None:
    it = talk().hello().transaction()
    it.say(b"BDAT 3\r\nabc")
    it.say(line)

    assert it.protocol.stored == 0
    assert it.protocol.state is SessionState.READY
    it.transaction()
    it.say(b"BDAT 1 LAST\r\nx")
    assert it.body == b"x"


def test_what_the_caller_refuses_between_two_chunks_is_told_at_the_next(talk: Start) -> None:
    it = talk().hello().transaction()
    it.say(b"BDAT 3\r\nabc")
    it.protocol.discard(TOO_BUSY)

    assert it.protocol.stored == 0
    assert codes(it.say(b"BDAT 3 LAST\r\ndef")) == [452]
    assert it.events[-1] == MessageDiscarded("ann@example.com", ("order@example.org",), 6, TOO_BUSY)


def test_what_the_caller_refuses_within_a_chunk_is_told_at_its_end(talk: Start) -> None:
    it = talk().hello().transaction()
    it.say(b"BDAT 6\r\nabc")
    it.protocol.discard(TOO_BUSY)

    assert codes(it.say(b"def")) == [452]


def test_binary_mail_needs_chunks(talk: Start) -> None:
    it = talk().hello()
    it.say("MAIL FROM:<ann@example.com> BODY=BINARYMIME")
    it.say("RCPT TO:<a@example.org>")

    assert codes(it.say("DATA")) == [503]
    assert codes(it.say(b"BDAT 5 LAST\r\n\x00\n\r\n\xff")) == [250]
    assert it.body == b"\x00\n\r\n\xff"


def test_where_chunks_are_not_offered(talk: Start) -> None:
    it = talk(chunking=False)

    assert b"CHUNKING" not in it.say("EHLO x")
    assert codes(it.say("MAIL FROM:<ann@example.com> BODY=BINARYMIME")) == [555]
    it.transaction()
    assert codes(it.say(b"BDAT 6\r\nQUIT\r\nNOOP\r\n")) == [502, 250]


def test_many_small_chunks_end_the_session(talk: Start) -> None:
    it = talk(max_junk_commands=10).hello().transaction()

    output = it.say(b"BDAT 1\r\nx" * 20)
    assert codes(output)[-1] == 421
    assert it.protocol.closing


def test_an_answer_is_a_reply(talk: Start) -> None:
    it = talk().hello().transaction()
    it.answers = [Reply(451, "4.3.0", "no")]

    assert codes(it.say(b"BDAT 1 LAST\r\nx")) == [451]
    assert it.protocol.state is SessionState.READY
