"""Every limit, with too much really sent; and what is no SMTP at all."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest

from monsal.errors import UsageError
from monsal.smtp.events import Closing, MessageDiscarded, Opening, Quit
from monsal.smtp.replies import MESSAGE_TOO_BIG, NOT_SMTP, OK, SENDER_OK, TOO_BUSY
from monsal.smtp.states import SessionState

Start = Callable[..., Any]


def code(output: bytes) -> list[int]:
    """The codes of all replies in an output."""
    return [int(line[:3]) for line in output.split(b"\r\n") if line[3:4] == b" "]


def closed(it: Any) -> bool:
    return bool(it.protocol.closing) and any(isinstance(event, Closing) for event in it.events)


class TestLines:
    def test_the_longest_line(self, talk: Start) -> None:
        it = talk(max_command_line=512)

        assert code(it.say(b"NOOP " + b"x" * 505 + b"\r\n")) == [250]
        assert code(it.say(b"NOOP " + b"x" * 506 + b"\r\n")) == [500]
        assert code(it.say(b"NOOP\r\n")) == [250]

    @pytest.mark.parametrize("cut", [509, 510, 511, 512])
    def test_the_longest_line_in_two_pieces(self, talk: Start, cut: int) -> None:
        it = talk(max_command_line=512)
        line = b"NOOP " + b"x" * 505 + b"\r\n"

        assert code(it.say(line[:cut]) + it.say(line[cut:])) == [250]

    @pytest.mark.parametrize("step", [1, 7, 511, 512, 513, 4096])
    def test_a_line_too_long_is_passed_over(self, talk: Start, step: int) -> None:
        it = talk(max_command_line=512)
        stream = b"NOOP " + b"x\r" * 5000 + b"\r\nNOOP\r\n"

        output = b"".join(it.say(stream[start : start + step]) for start in range(0, len(stream), step))

        assert output.startswith(b"500 5.5.6")
        assert code(output) == [500, 250]

    def test_a_line_without_an_end_costs_no_memory_and_ends_the_session(self, talk: Start) -> None:
        """100 MB without a CRLF."""
        it = talk()
        piece = b"x" * 65_536
        tracemalloc.start()
        output = it.say(piece * 2)
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        for _ in range(1600):
            output += it.say(piece)
        peak = tracemalloc.get_traced_memory()[1] - before
        tracemalloc.stop()

        assert code(output) == [500, 421]
        assert closed(it)
        assert peak < 300_000

    def test_the_bound_of_a_line_passed_over(self, talk: Start) -> None:
        it = talk(max_skipped=10_000)

        assert code(it.say(b"x" * 10_000 + b"\r\n")) == [500]
        assert code(it.say(b"x" * 10_001 + b"\r\nNOOP\r\n")) == [500, 421]

    def test_the_longest_addresses_fit(self, talk: Start) -> None:
        """RFC 5321, section 4.5.3.1: local part 64, domain 255 octets."""
        domain = ".".join(["d" * 62] * 4) + ".xy"
        it = talk().hello()

        output = it.say(f"MAIL FROM:<{'l' * 64}@{domain}> SIZE=12345678 BODY=8BITMIME SMTPUTF8")

        assert len(domain) == 254
        assert code(output) == [250]


class TestCounts:
    def test_errors(self, talk: Start) -> None:
        it = talk(max_errors=3).hello()

        assert code(it.say(b"EHLO\r\n" * 5)) == [501, 501, 501, 421]
        assert closed(it)

    def test_unknown_commands(self, talk: Start) -> None:
        it = talk(max_unknown_commands=3)

        assert code(it.say(b"FOO\r\nBAR\r\nBAZ\r\nNOOP\r\n")) == [500, 500, 500, 421]
        assert closed(it)

    def test_commands_that_bring_no_mail(self, talk: Start) -> None:
        it = talk(max_junk_commands=10)

        output = it.say(b"NOOP\r\nRSET\r\nVRFY x\r\nHELP\r\nEHLO x\r\n" * 3)

        assert len(code(output)) == 11
        assert code(output)[-1] == 421
        assert closed(it)

    def test_refusals(self, talk: Start) -> None:
        """Guessing addresses ends after a while."""
        it = talk(max_refusals=5).hello().transaction("yes@example.org")

        output = it.say(b"RCPT TO:<no@example.org>\r\n" * 9)

        assert code(output) == [550] * 5 + [421]
        assert closed(it)

    def test_a_mail_wipes_the_slate_clean(self, talk: Start) -> None:
        it = talk(max_errors=3, max_refusals=3, max_junk_commands=4).hello()
        for _ in range(5):
            it.say(b"EHLO\r\nEHLO\r\nRSET\r\nNOOP\r\n")
            it.transaction("no@example.org", "a@example.org", "no@example.org")
            it.say("DATA")
            assert code(it.say(".")) == [250]

    def test_recipients(self, talk: Start) -> None:
        """RFC 5321, section 4.5.3.1.10: 452 and the rest of the mail goes on."""
        it = talk().hello().transaction()

        output = it.say(b"RCPT TO:<b@example.org>\r\n" * 150)
        assert code(output) == [250] * 99 + [452] * 51
        assert output.endswith(b"452 4.5.3 too many recipients\r\n")
        it.say("DATA")
        it.say(".")
        assert len(it.mails[0].recipients) == 100

    def test_transactions(self, talk: Start) -> None:
        it = talk(max_transactions=2).hello()
        for _ in range(2):
            it.transaction()
            it.say("DATA")
            it.say(".")

        assert code(it.say("MAIL FROM:<>")) == [421]
        assert closed(it)


class TestSizes:
    def test_declared_too_big(self, talk: Start) -> None:
        """RFC 1870, section 6.1."""
        it = talk(max_message_size=1000).hello()

        assert code(it.say("MAIL FROM:<a@example.com> SIZE=1001")) == [552]
        assert code(it.say("MAIL FROM:<a@example.com> SIZE=99999999999999999999")) == [552]
        assert code(it.say("MAIL FROM:<a@example.com> SIZE=1000")) == [250]

    def test_really_too_big(self, talk: Start) -> None:
        it = talk(max_message_size=1000).hello().transaction()
        it.say("DATA")

        output = it.say(b"x" * 998 + b"\r\nmore\r\n.\r\nNOOP\r\n")

        assert output.startswith(b"552 5.3.4 ")
        assert code(output) == [552, 250]
        assert it.mails == []
        assert MessageDiscarded("ann@example.com", ("order@example.org",), 1006, MESSAGE_TOO_BIG) in it.events

    def test_too_big_is_not_stored_meanwhile(self, talk: Start) -> None:
        it = talk(max_message_size=100_000).hello().transaction()
        it.say("DATA")

        seen = []
        for _ in range(10):
            it.say(b"x" * 30_000)
            seen.append(it.protocol.stored)

        assert seen[:3] == [30_000, 60_000, 90_000]
        assert set(seen[3:]) == {0}
        assert it.protocol.state is SessionState.DISCARDING

    def test_the_bound_of_what_is_read_without_being_kept(self, talk: Start) -> None:
        for more, codes in ((0, [552, 250]), (1, [552])):
            it = talk(max_message_size=1000, max_discarded=2000).hello().transaction()
            it.say("DATA")

            assert code(it.say(b"x" * (2998 + more) + b"\r\n.\r\nNOOP\r\n")) == codes

    @pytest.mark.parametrize("step", [100, 5000])
    def test_far_too_big_ends_the_session(self, talk: Start, step: int) -> None:
        it = talk(max_message_size=1000, max_discarded=2000).hello().transaction()
        it.say("DATA")

        output = b"".join(it.say(b"x" * step) for _ in range(5000 // step))
        output += it.say(b"\r\n.\r\nNOOP\r\n")

        assert code(output) == [552]
        assert closed(it)

    def test_the_caller_can_refuse_to_hold_a_mail(self, talk: Start) -> None:
        it = talk().hello().transaction()
        it.say("DATA")
        it.say(b"x" * 1000)

        it.protocol.discard(TOO_BUSY)
        assert it.protocol.stored == 0
        assert it.say("more\r\n.").startswith(b"452 4.3.1")
        it.protocol.discard(TOO_BUSY)  # between mails there is nothing to refuse
        assert it.protocol.state is SessionState.READY

    def test_what_waits_for_a_decision_is_bounded_by_the_caller(self, talk: Start) -> None:
        it = talk(max_buffered=1000).hello()
        it.protocol.receive_data(b"MAIL FROM:<a@example.com>\r\n")
        assert it.protocol.wants_data
        it.protocol.receive_data(b"RCPT TO:<b@example.org>\r\n" * 60)
        assert not it.protocol.wants_data
        assert it.protocol.data_to_send() == b""

        it.protocol.reply(SENDER_OK)
        assert it.protocol.wants_data is False  # the first RCPT waits now, and the rest behind it


class TestForeign:
    @pytest.mark.parametrize("verb", ["GET", "POST", "PUT", "HEAD", "OPTIONS", "CONNECT", "DELETE", "get"])
    def test_http(self, talk: Start, verb: str) -> None:
        """A browser or a tricked web server must not reach the commands in its body."""
        it = talk()

        output = it.say(f"{verb} / HTTP/1.1\r\nHost: x\r\n\r\nMAIL FROM:<evil@example.com>")

        assert output == NOT_SMTP.to_bytes()
        assert closed(it)

    @pytest.mark.parametrize(
        "hello", [b"\x16", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"\x16\x03\x01\r\nEHLO x\r\n"]
    )
    def test_tls(self, talk: Start, hello: bytes) -> None:
        it = talk()

        assert it.say(hello) == NOT_SMTP.to_bytes()
        assert closed(it)

    def test_that_octet_later_is_only_an_error(self, talk: Start) -> None:
        it = talk()

        assert code(it.say("NOOP") + it.say(b"\x16\x03\x01") + it.say(b"\r\n")) == [250, 500]

    def test_nor_does_it_matter_in_a_line_that_is_passed_over(self, talk: Start) -> None:
        it = talk()

        assert code(it.say(b"x" * 2000) + it.say(b"\x16\x03\x01\r\n") + it.say("NOOP")) == [500, 250]

    def test_binary_garbage(self, talk: Start) -> None:
        it = talk()

        output = it.say(bytes(range(256)) * 4 + b"\r\n" + b"\xff\xfe\r\n" * 20)

        assert set(code(output)) == {500, 421}
        assert closed(it)

    def test_after_the_end_nothing_is_heard(self, talk: Start) -> None:
        it = talk()
        it.say("QUIT")

        assert it.say("NOOP") == b""
        assert it.say(b"x" * 100_000) == b""


class TestOpeningAMailAtOnce:
    """What it finds and that it changes nothing else is in tests/property/test_smtp_opening.py."""

    DATA = b"MAIL FROM:<ann@example.com> SIZE=9\r\nRCPT TO:<order@example.org>\r\nDATA\r\n"

    def test_a_mail_in_two_packets(self, talk: Start) -> None:
        it = talk().hello()
        opening = it.protocol.opening(self.DATA)
        assert opening == Opening("ann@example.com", "order@example.org", 9)
        it.protocol.open(opening)

        assert code(it.protocol.data_to_send()) == [250, 250, 354]
        assert code(it.say(b"..a\r\n..b\r\n.\r\n") + it.say("NOOP")) == [250, 250]
        assert [(mail.sender, mail.recipients, mail.body) for mail in it.mails] == [
            ("ann@example.com", ("order@example.org",), (b".a\r\n.b\r\n",))
        ]

    def test_what_follows_the_content_waits_for_its_answer(self, talk: Start) -> None:
        it = talk().hello()
        it.say(self.DATA)
        [_] = it.protocol.receive_data(b"text\r\n.\r\nQUIT\r\n")

        assert it.protocol.data_to_send() == b""
        assert [type(each) for each in it.protocol.reply(OK)] == [Quit]
        assert code(it.protocol.data_to_send()) == [250, 221]

    def test_only_where_a_mail_may_begin(self, talk: Start) -> None:
        it = talk()
        assert it.protocol.opening(self.DATA) is None
        it.hello()
        opening = it.protocol.opening(self.DATA)
        assert opening is not None
        it.say("MAIL FROM:<ann@example.com>")

        assert it.protocol.opening(self.DATA) is None
        with pytest.raises(UsageError, match="no mail can be opened in state MAIL"):
            it.protocol.open(opening)

    def test_never_within_what_is_passed_over(self, talk: Start) -> None:
        it = talk().hello()
        it.say(b"x" * 2000)

        assert it.protocol.opening(self.DATA) is None
        assert code(it.say(self.DATA)) == [503, 503]

    def test_never_behind_the_beginning_of_a_line(self, talk: Start) -> None:
        it = talk().hello()
        it.say(b"NOOP ")

        assert it.protocol.opening(self.DATA) is None
