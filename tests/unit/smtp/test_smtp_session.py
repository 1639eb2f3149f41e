"""Dialogues, line by line, as RFC 5321 and RFC 2033 have them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from monsal.errors import UsageError
from monsal.smtp.events import Hello, MailFrom, MessageReceived, Quit, RcptTo, Reset
from monsal.smtp.replies import ABORTED, SHUTTING_DOWN, Reply
from monsal.smtp.states import SessionState

Start = Callable[..., Any]


def code(output: bytes) -> list[int]:
    """The codes of all replies in an output."""
    return [int(line[:3]) for line in output.split(b"\r\n") if line[3:4] == b" "]


def test_a_whole_dialogue(talk: Start) -> None:
    it = talk(hostname="mx.example.org")

    assert it.greeting == b"220 mx.example.org ESMTP monsal\r\n"
    assert it.say("EHLO client.example") == (
        b"250-mx.example.org\r\n250-PIPELINING\r\n250-SIZE 26214400\r\n250-8BITMIME\r\n250-ENHANCEDSTATUSCODES\r\n"
        b"250-SMTPUTF8\r\n250-CHUNKING\r\n250 BINARYMIME\r\n"
    )
    assert it.say("MAIL FROM:<ann@example.com> SIZE=100 BODY=8BITMIME") == b"250 2.1.0 sender OK\r\n"
    assert it.say("RCPT TO:<order@example.org>") == b"250 2.1.5 recipient OK\r\n"
    assert it.say("RCPT TO:<nobody@example.org>") == b"550 5.1.1 unknown recipient\r\n"
    assert it.say("RCPT TO:<help@example.org>") == b"250 2.1.5 recipient OK\r\n"
    assert it.say("DATA").startswith(b"354 ")
    assert it.say("Subject: one\r\n\r\n..dot\r\n.") == b"250 2.0.0 1 stored\r\n"
    assert it.say("QUIT") == b"221 2.0.0 goodbye\r\n"
    assert it.protocol.closing
    size = len(it.body)
    assert it.events == [
        Hello("client.example", True),
        MailFrom("ann@example.com", 100, "8BITMIME", False, (("SIZE", "100"), ("BODY", "8BITMIME"))),
        RcptTo("order@example.org"),
        RcptTo("nobody@example.org"),
        RcptTo("help@example.org"),
        MessageReceived("ann@example.com", ("order@example.org", "help@example.org"), it.mails[0].body, size),
        Quit(),
    ]
    assert it.body == b"Subject: one\r\n\r\n.dot\r\n"


def test_several_mails_over_one_connection(talk: Start) -> None:
    it = talk().hello()
    for number in range(3):
        it.transaction(f"box{number}@example.org")
        it.say("DATA")
        assert it.say(f"mail {number}\r\n.") == b"250 2.0.0 %d stored\r\n" % (number + 1)

    assert [mail.recipients for mail in it.mails] == [(f"box{number}@example.org",) for number in range(3)]


def test_helo_offers_nothing(talk: Start) -> None:
    it = talk()

    assert it.say("HELO client.example") == b"250 localhost\r\n"
    assert code(it.say("MAIL FROM:<ann@example.com> SIZE=1")) == [555]
    assert code(it.say("MAIL FROM:<ann@example.com>")) == [250]
    assert it.protocol.hello == Hello("client.example", False)


def test_a_refused_mail_is_not_counted_as_taken(talk: Start) -> None:
    it = talk().hello().transaction()
    it.say("DATA")
    it.answers = [ABORTED]

    assert it.say("x\r\n.").startswith(b"451 4.3.0")
    assert it.protocol.state is SessionState.READY


def test_an_empty_mail(talk: Start) -> None:
    it = talk().hello().transaction()

    it.say("DATA")
    assert it.say(".") == b"250 2.0.0 1 stored\r\n"
    assert it.mails[0].size == 0


def test_null_sender_and_postmaster(talk: Start) -> None:
    it = talk().hello()

    assert code(it.say("MAIL FROM:<>") + it.say("RCPT TO:<postmaster>") + it.say("DATA")) == [250, 250, 354]
    it.say(".")
    assert (it.mails[0].sender, it.mails[0].recipients) == ("", ("postmaster",))


@pytest.mark.parametrize(
    ("lines", "last"),
    [
        (["MAIL FROM:<a@example.com>"], 503),
        (["RCPT TO:<a@example.com>"], 503),
        (["DATA"], 503),
        (["EHLO x", "RCPT TO:<a@example.com>"], 503),
        (["EHLO x", "DATA"], 503),
        (["EHLO x", "MAIL FROM:<a@example.com>", "MAIL FROM:<a@example.com>"], 503),
        (["EHLO x", "MAIL FROM:<a@example.com>", "DATA"], 503),
        (["EHLO x", "MAIL FROM:<a@example.com>", "RCPT TO:<no@example.org>", "DATA"], 503),
        (["EHLO x", "MAIL FROM:<a@example.com>", "RCPT TO:<b@example.org>", "MAIL FROM:<a@example.com>"], 503),
        (["EHLO x", "MAIL FROM:<a@example.com>", "RSET", "RCPT TO:<b@example.org>"], 503),
        (["EHLO x", "MAIL FROM:<a@example.com>", "RCPT TO:<b@example.org>", "EHLO y", "DATA"], 503),
        (
            ["EHLO x", "MAIL FROM:<a@example.com>", "RCPT TO:<b@example.org>", "HELO y", "MAIL FROM:<a@example.com>"],
            250,
        ),
        (["EHLO x", "MAIL FROM:<a@example.com>", "RCPT TO:<b@example.org>", "RCPT TO:<no@example.org>", "DATA"], 354),
        (["EHLO x", "MAIL FROM:<a@example.com>", "RCPT TO:<b@example.org>", "NOOP", "DATA"], 354),
    ],
)
def test_order_of_commands(talk: Start, lines: list[str], last: int) -> None:
    """RFC 5321, section 4.1.4."""
    it = talk()

    assert code([it.say(line) for line in lines][-1]) == [last]


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        ("NOOP", 250),
        ("NOOP anything at all", 250),
        ("noop", 250),
        ("Rset", 250),
        ("RSET  ", 250),
        ("RSET x", 501),
        ("QUIT x", 501),
        ("quit", 221),
        ("QUIT\t", 221),
        ("VRFY ann", 252),
        ("VRFY", 501),
        ("EXPN list", 502),
        ("EXPN", 501),
        ("HELP", 214),
        ("HELP MAIL", 214),
        ("STARTTLS", 503),
        ("AUTH PLAIN", 503),
        ("BDAT 5 LAST", 503),
        ("XCLIENT ADDR=192.0.2.1", 550),
        ("TURN", 502),
        ("XYZZY", 500),
        ("", 500),
        (" NOOP", 500),
        ("MAILFROM:<a@example.com>", 500),
        ("LHLO x", 500),
        ("EHLO", 501),
        ("EHLO two words", 501),
        ("HELO", 501),
        ("DATA", 503),
    ],
)
def test_single_commands(talk: Start, line: str, answer: int) -> None:
    assert code(talk().say(line)) == [answer]


def test_every_reply_but_hello_greeting_and_354_has_an_enhanced_code(talk: Start) -> None:
    """RFC 2034, section 4."""
    it = talk().hello()
    lines = ["NOOP", "RSET", "VRFY x", "EXPN x", "HELP", "FOO", "EHLO", "MAIL FROM:<x>", "MAIL FROM:<a@example.com>"]
    lines += ["MAIL FROM:<a@example.com>", "DATA", "RCPT TO:<a@example.com>", "RCPT TO:<no@example.com>", "QUIT"]
    for line in lines:
        reply = it.say(line)
        assert reply[4:5] == reply[:1], reply
        assert reply[5:6] == b".", reply


def test_reset_forgets_the_transaction(talk: Start) -> None:
    it = talk().hello().transaction("order@example.org")

    it.say("RSET")
    it.transaction("help@example.org")
    it.say("DATA")
    it.say(".")

    assert Reset() in it.events
    assert it.mails[0].recipients == ("help@example.org",)


@pytest.mark.parametrize("line", [b"MAIL FROM:<a@x.example>\nRCPT TO:<b@x.example>", b"NOOP\nNOOP", b"QUIT\n", b"A\rB"])
def test_a_bare_cr_or_lf_does_not_end_a_command(talk: Start, line: bytes) -> None:
    it = talk().hello()

    output = it.say(line + b"\r\n")

    assert code(output) == [500]
    assert it.protocol.state is SessionState.READY
    assert code(it.say("NOOP")) == [250]


def test_pipelining(talk: Start) -> None:
    """RFC 2920: all in one packet, answered in order; a later packet may start anywhere."""
    it = talk()
    stream = (
        b"EHLO x\r\nMAIL FROM:<a@example.com>\r\nRCPT TO:<no@example.org>\r\nRCPT TO:<b@example.org>\r\nDATA\r\n"
        b"one\r\n.\r\nMAIL FROM:<>\r\nRCPT TO:<c@example.org>\r\nDATA\r\ntwo\r\n.\r\nQUIT\r\nNOOP\r\n"
    )

    assert code(it.say(stream)) == [250, 250, 550, 250, 354, 250, 250, 250, 354, 250, 221]
    assert [b"".join(mail.body) for mail in it.mails] == [b"one\r\n", b"two\r\n"]


def test_a_pipelining_client_whose_sender_is_refused_is_no_attacker(talk: Start) -> None:
    """The recipients that follow a refused MAIL are no errors of the client; it keeps its connection."""
    it = talk(max_errors=5, max_message_size=1000).hello()

    output = it.say(b"MAIL FROM:<a@example.com> SIZE=2000\r\n" + b"RCPT TO:<b@example.org>\r\n" * 50 + b"DATA\r\n")

    assert code(output) == [552] + [503] * 51
    assert not it.protocol.closing


def test_smtputf8_can_be_withheld(talk: Start) -> None:
    it = talk(smtputf8=False)

    assert b"SMTPUTF8" not in it.say("EHLO x")
    assert code(it.say("MAIL FROM:<a@example.com> SMTPUTF8")) == [555]


def test_smtputf8(talk: Start) -> None:
    it = talk().hello()

    assert code(it.say("MAIL FROM:<jürgen@example.com> SMTPUTF8")) == [250]
    assert code(it.say("RCPT TO:<δοκιμή@παράδειγμα.example>")) == [250]
    it.say("DATA")
    it.say(".")
    assert it.mails[0].sender == "jürgen@example.com"


class TestLmtp:
    """RFC 2033."""

    def test_one_reply_per_accepted_recipient(self, talk: Start) -> None:
        it = talk(lmtp=True)
        assert it.greeting == b"220 localhost LMTP monsal\r\n"
        it.hello().transaction("a@example.org", "no@example.org", "b@example.org")
        it.answers = [Reply(250, "2.0.0", "7 stored"), Reply(451, "4.3.0", "later")]

        it.say("DATA")
        assert it.say("x\r\n.") == b"250 2.0.0 7 stored\r\n451 4.3.0 later\r\n"
        assert it.mails[0].recipients == ("a@example.org", "b@example.org")

    def test_one_recipient_that_took_it_makes_it_a_mail(self, talk: Start) -> None:
        """A mail refused for some of its recipients is no refusal of the client."""
        it = talk(lmtp=True, max_refusals=1).hello()
        it.answers = [Reply(250, "2.0.0", "7 stored"), ABORTED]
        for _ in range(3):
            it.transaction("a@example.org", "b@example.org")
            it.say("DATA")
            it.say("x\r\n.")

        assert len(it.mails) == 3
        assert not it.protocol.closing

    def test_no_recipient_no_data(self, talk: Start) -> None:
        it = talk(lmtp=True).hello().transaction("no@example.org")

        assert code(it.say("DATA")) == [503]

    @pytest.mark.parametrize("verb", ["HELO", "EHLO"])
    def test_the_greetings_of_smtp_are_refused(self, talk: Start, verb: str) -> None:
        assert code(talk(lmtp=True).say(f"{verb} x")) == [500]

    def test_too_big_is_said_to_each(self, talk: Start) -> None:
        it = talk(lmtp=True, max_message_size=10).hello().transaction("a@example.org", "b@example.org")

        it.say("DATA")
        assert code(it.say("x" * 20 + "\r\n.")) == [552, 552]

    def test_the_number_of_answers_is_checked(self, talk: Start) -> None:
        it = talk(lmtp=True).hello().transaction("a@example.org", "b@example.org")
        it.say("DATA")
        it.protocol.receive_data(b"x\r\n.\r\n")

        with pytest.raises(UsageError):
            it.protocol.reply(ABORTED)


class TestDecisions:
    """What awaits a decision stops the session until it has one."""

    def test_nothing_is_read_meanwhile(self, talk: Start) -> None:
        it = talk().hello()

        assert it.protocol.receive_data(b"MAIL FROM:<a@example.com>\r\nRSET\r\nNOOP\r\n") == [MailFrom("a@example.com")]
        assert it.protocol.state is SessionState.MAIL_ASKED
        assert it.protocol.data_to_send() == b""
        assert it.protocol.reply(Reply(250, "2.1.0", "fine")) == [Reset()]
        assert code(it.protocol.data_to_send()) == [250, 250, 250]

    def test_none_without_a_question(self, talk: Start) -> None:
        it = talk().hello()

        with pytest.raises(UsageError, match="READY"):
            it.protocol.reply(ABORTED)

    def test_421_ends_the_session(self, talk: Start) -> None:
        it = talk().hello()
        it.protocol.receive_data(b"MAIL FROM:<a@example.com>\r\nNOOP\r\n")

        assert it.protocol.reply(SHUTTING_DOWN) == []
        assert it.protocol.closing
        assert code(it.protocol.data_to_send()) == [421]

    def test_too_late_is_ignored(self, talk: Start) -> None:
        it = talk().hello()
        it.protocol.receive_data(b"MAIL FROM:<a@example.com>\r\n")
        it.protocol.close(SHUTTING_DOWN)

        assert it.protocol.reply(ABORTED) == []
        assert code(it.protocol.data_to_send()) == [421]

    def test_the_end_of_input_waits_for_the_decision(self, talk: Start) -> None:
        """A client may shut its side down after QUIT and still read the replies."""
        it = talk().hello().transaction()
        it.say("DATA")
        it.protocol.receive_data(b"x\r\n.\r\nQUIT\r\n")
        it.protocol.receive_eof()
        assert not it.protocol.closing

        assert it.protocol.reply(Reply(250, "2.0.0", "stored")) == [Quit()]
        assert code(it.protocol.data_to_send()) == [250, 221]
        assert it.protocol.closing

    def test_the_end_of_input_in_the_middle_of_a_mail_is_no_mail(self, talk: Start) -> None:
        it = talk().hello().transaction()
        it.say("DATA")
        it.say(b"half a mail\r\n.\r")
        it.protocol.receive_eof()

        assert it.protocol.closing
        assert it.mails == []
        assert it.protocol.data_to_send() == b""
