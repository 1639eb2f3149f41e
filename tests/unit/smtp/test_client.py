"""The sending side of SMTP and LMTP: scripted dialogues, bytes in and bytes out."""

from __future__ import annotations

import itertools
from base64 import b64decode
from typing import Any

import pytest

from monsal.smtp.client import ClientProtocol
from monsal.smtp.dialogue import TABLE, Answer, Awaited
from monsal.smtp.endpoint import Credentials
from monsal.smtp.transaction import (
    BodyWanted,
    ClientEvent,
    ClientReady,
    ClientSettings,
    ConnectionGivenUp,
    RecipientResult,
    TlsWanted,
    Transaction,
    TransactionDone,
)

BODY = b"Subject: hi\r\n\r\n.hidden\r\nbye\r\n"
SENT = b"Subject: hi\r\n\r\n..hidden\r\nbye\r\n.\r\n"
PIPELINING = b"250-mx.example\r\n250-PIPELINING\r\n250-SIZE 1000\r\n250 8BITMIME\r\n"


def ready(hello: bytes = PIPELINING, **settings: Any) -> ClientProtocol:
    """A client past the greeting and hello."""
    client = ClientProtocol(ClientSettings(hello="me.example", **settings))
    assert client.receive_data(b"220 mx.example ESMTP\r\n") == []
    client.data_to_send()
    (event,) = client.receive_data(hello)
    assert isinstance(event, ClientReady)
    return client


class Named(Transaction):
    """A transaction that is known by a name."""

    token: object


def mail(
    *recipients: str, body: bytes | None = BODY, token: object = "one", sender: str = "a@me.example"
) -> Transaction:
    return Named(sender=sender, recipients=recipients or ("b@x.example",), body=body, token=token)


def done(events: list[ClientEvent]) -> TransactionDone:
    (event,) = events
    assert isinstance(event, TransactionDone)
    return event


def given_up(events: list[ClientEvent]) -> ConnectionGivenUp:
    event = events[-1]
    assert isinstance(event, ConnectionGivenUp)
    return event


def texts(event: TransactionDone) -> list[tuple[str, str]]:
    return [(result.stage, str(result)) for result in event.results]


class TestHello:
    def test_ehlo_after_the_greeting(self) -> None:
        client = ClientProtocol(ClientSettings(hello="[192.0.2.1]"))
        assert client.data_to_send() == b""
        assert client.awaits is Awaited.GREETING
        assert client.receive_data(b"220-mx\r\n220 welcome\r\n") == []
        assert client.data_to_send() == b"EHLO [192.0.2.1]\r\n"
        assert not client.wants_mail
        assert client.receive_data(b"250-mx.example hi\r\n250-size  99 \r\n250 SMTPUTF8\r\n") == [
            ClientReady({"SIZE": "99", "SMTPUTF8": ""})
        ]
        assert client.wants_mail
        assert client.idle
        assert client.awaits is None

    def test_helo_if_ehlo_is_not_known(self) -> None:
        client = ClientProtocol(ClientSettings(hello="me"))
        client.receive_data(b"220 old\r\n")
        client.data_to_send()
        assert client.receive_data(b"502 what?\r\n") == []
        assert client.data_to_send() == b"HELO me\r\n"
        assert client.receive_data(b"250 old\r\n") == [ClientReady({})]

    def test_lhlo_with_lmtp_and_nothing_older(self) -> None:
        client = ClientProtocol(ClientSettings(hello="me", lmtp=True))
        client.receive_data(b"220 lmtp\r\n")
        assert client.data_to_send() == b"LHLO me\r\n"
        event = given_up(client.receive_data(b"500 what?\r\n"))
        assert event.reason == "500 what?"
        assert client.closed

    @pytest.mark.parametrize("greeting", [b"421 4.3.2 busy\r\n", b"450 later\r\n", b"554 5.7.1 not you\r\n"])
    def test_a_greeting_that_turns_away(self, greeting: bytes) -> None:
        client = ClientProtocol()
        event = given_up(client.receive_data(greeting))
        assert event.reason.encode() == greeting.strip()
        assert event.reply is not None
        assert event.error is None
        assert client.data_to_send() == b"QUIT\r\n"
        assert client.receive_data(b"221 bye\r\n") == []

    def test_hello_refused_for_now(self) -> None:
        client = ClientProtocol()
        client.receive_data(b"220 mx\r\n")
        assert given_up(client.receive_data(b"450 4.7.0 later\r\n")).reason == "450 4.7.0 later"

    def test_no_greeting_at_all(self) -> None:
        client = ClientProtocol()
        assert client.lost() == [ConnectionGivenUp("the peer closed the connection")]
        assert client.lost() == []

    def test_a_size_that_is_no_number_is_no_limit(self) -> None:
        client = ready(b"250-mx\r\n250 SIZE many\r\n")
        client.send(mail())
        assert client.data_to_send().startswith(b"MAIL FROM:<a@me.example> SIZE=")


class TestPipelined:
    def test_one_mail_in_one_group(self) -> None:
        client = ready()
        assert client.send(mail("b@x.example", "c@x.example")) == []
        assert client.data_to_send() == (
            b"MAIL FROM:<a@me.example> SIZE=29\r\nRCPT TO:<b@x.example>\r\nRCPT TO:<c@x.example>\r\nDATA\r\n"
        )
        assert not client.wants_mail
        assert client.receive_data(b"250 ok\r\n250 ok\r\n250 ok\r\n354 go\r\n") == []
        assert client.data_to_send() == SENT
        assert client.awaits is Awaited.BODY
        event = done(client.receive_data(b"250 2.0.0 queued as 1\r\n"))
        assert event.transaction.token == "one"
        assert texts(event) == [("body", "250 2.0.0 queued as 1")] * 2
        assert client.idle

    def test_the_next_envelope_follows_the_final_dot(self) -> None:
        client = ready()
        client.send(mail(token=1))
        client.data_to_send()
        client.receive_data(b"250 ok\r\n250 ok\r\n354 go\r\n")
        assert client.wants_mail
        client.send(mail(token=2))
        assert not client.wants_mail
        assert client.data_to_send() == SENT + (
            b"MAIL FROM:<a@me.example> SIZE=29\r\nRCPT TO:<b@x.example>\r\nDATA\r\n"
        )
        first = done(client.receive_data(b"451 no\r\n250 ok\r\n250 ok\r\n354 go\r\n"))
        assert (first.transaction.token, texts(first)) == (1, [("body", "451 no")])
        assert client.data_to_send() == SENT
        second = done(client.receive_data(b"250 yes\r\n"))
        assert (second.transaction.token, texts(second)) == (2, [("body", "250 yes")])

    def test_one_of_three_recipients_refused(self) -> None:
        client = ready()
        client.send(mail("b@x", "c@x", "d@x"))
        client.receive_data(b"250 ok\r\n250 ok\r\n550 5.1.1 no such user\r\n450 4.2.0 later\r\n354 go\r\n")
        event = done(client.receive_data(b"250 taken\r\n"))
        assert texts(event) == [("body", "250 taken"), ("rcpt", "550 5.1.1 no such user"), ("rcpt", "450 4.2.0 later")]

    def test_all_refused_and_data_too(self) -> None:
        client = ready()
        client.send(mail("b@x", "c@x"))
        client.data_to_send()
        event = done(client.receive_data(b"250 ok\r\n550 no\r\n551 no\r\n503 no recipients\r\n"))
        assert texts(event) == [("rcpt", "550 no"), ("rcpt", "551 no")]
        assert client.data_to_send() == b"RSET\r\n"
        client.send(mail(token=2))
        assert client.data_to_send().startswith(b"MAIL FROM")
        assert client.receive_data(b"250 reset\r\n250 ok\r\n250 ok\r\n354 go\r\n") == []
        assert client.data_to_send() == SENT

    def test_all_refused_but_data_taken_gets_a_lone_dot(self) -> None:
        """RFC 2920, section 3.1: the content must not be sent."""
        client = ready()
        client.send(mail())
        client.data_to_send()
        assert texts(done(client.receive_data(b"250 ok\r\n550 no\r\n354 go\r\n"))) == [("rcpt", "550 no")]
        assert client.data_to_send() == b".\r\n"
        assert client.receive_data(b"554 no valid recipients\r\n") == []
        assert client.idle

    def test_mail_refused(self) -> None:
        client = ready()
        client.send(mail("b@x", "c@x"))
        client.data_to_send()
        event = done(client.receive_data(b"452 4.3.1 full\r\n503 mail first\r\n503 mail first\r\n503 mail first\r\n"))
        assert texts(event) == [("mail", "452 4.3.1 full")] * 2
        assert client.data_to_send() == b""
        assert client.idle

    def test_mail_refused_but_a_recipient_taken_sends_nothing(self) -> None:
        """A lone dot would deliver an empty mail."""
        client = ready()
        client.send(mail())
        client.data_to_send()
        *rest, last = client.receive_data(b"550 no\r\n250 ok\r\n354 go\r\n")
        assert texts(done(rest)) == [("mail", "550 no")]
        assert isinstance(last, ConnectionGivenUp)
        assert last.error is not None
        assert client.data_to_send() == b""

    def test_data_refused(self) -> None:
        client = ready()
        client.send(mail("b@x", "c@x"))
        client.data_to_send()
        event = done(client.receive_data(b"250 ok\r\n250 ok\r\n550 no\r\n451 not now\r\n"))
        assert texts(event) == [("data", "451 not now"), ("rcpt", "550 no")]
        assert client.data_to_send() == b"RSET\r\n"
        assert given_up(client.receive_data(b"500 RSET?\r\n")).untouched == ()

    def test_a_null_sender(self) -> None:
        client = ready(b"250-mx\r\n250 PIPELINING\r\n")
        client.send(mail(sender=""))
        assert client.data_to_send() == b"MAIL FROM:<>\r\nRCPT TO:<b@x.example>\r\nDATA\r\n"


class TestLockStep:
    def test_one_command_at_a_time(self) -> None:
        client = ready(b"250 mx\r\n")
        client.send(mail("b@x", "c@x"))
        dialogue = [
            (b"MAIL FROM:<a@me.example>\r\n", b"250 ok\r\n"),
            (b"RCPT TO:<b@x>\r\n", b"250 ok\r\n"),
            (b"RCPT TO:<c@x>\r\n", b"550 no\r\n"),
            (b"DATA\r\n", b"354 go\r\n"),
        ]
        for command, reply in dialogue:
            assert client.data_to_send() == command
            assert client.receive_data(reply) == []
        assert client.data_to_send() == SENT
        assert not client.wants_mail
        assert texts(done(client.receive_data(b"250 yes\r\n"))) == [("body", "250 yes"), ("rcpt", "550 no")]
        assert client.wants_mail

    def test_pipelining_can_be_declined(self) -> None:
        client = ready(pipelining=False)
        client.send(mail())
        assert client.data_to_send() == b"MAIL FROM:<a@me.example> SIZE=29\r\n"

    def test_mail_refused_ends_it(self) -> None:
        client = ready(b"250 mx\r\n")
        client.send(mail())
        client.data_to_send()
        assert texts(done(client.receive_data(b"550 no\r\n"))) == [("mail", "550 no")]
        assert client.data_to_send() == b""
        assert client.wants_mail

    def test_all_recipients_refused_asks_for_no_data(self) -> None:
        client = ready(b"250 mx\r\n")
        client.send(mail())
        client.receive_data(b"250 ok\r\n")
        client.data_to_send()
        assert texts(done(client.receive_data(b"550 no\r\n"))) == [("rcpt", "550 no")]
        assert client.data_to_send() == b"RSET\r\n"
        assert not client.wants_mail
        assert client.receive_data(b"250 ok\r\n") == []
        assert client.wants_mail


class TestLmtp:
    def test_a_reply_per_recipient_that_was_taken(self) -> None:
        client = ready(lmtp=True)
        client.send(mail("b@x", "c@x", "d@x"))
        client.receive_data(b"250 ok\r\n250 ok\r\n550 no\r\n250 ok\r\n354 go\r\n")
        assert client.receive_data(b"250 stored\r\n") == []
        event = done(client.receive_data(b"452 4.2.2 full\r\n"))
        assert texts(event) == [("body", "250 stored"), ("rcpt", "550 no"), ("body", "452 4.2.2 full")]

    def test_what_was_answered_stands_when_the_connection_breaks(self) -> None:
        client = ready(lmtp=True)
        client.send(mail("b@x", "c@x"))
        client.receive_data(b"250 ok\r\n250 ok\r\n250 ok\r\n354 go\r\n")
        client.receive_data(b"250 stored\r\n")
        event, last = client.lost("gone")
        assert isinstance(event, TransactionDone)
        assert texts(event) == [("body", "250 stored"), ("lost", "gone")]
        assert last == ConnectionGivenUp("gone")

    def test_data_taken_without_recipients_is_a_breach(self) -> None:
        client = ready(lmtp=True)
        client.send(mail())
        event = given_up(client.receive_data(b"250 ok\r\n550 no\r\n354 go\r\n"))
        assert event.error is not None


class TestContentInPieces:
    def test_pieces_are_stuffed_over_their_borders(self) -> None:
        client = ready()
        big = Transaction(sender="a@b", recipients=("c@d",), body=None, size=500)
        client.send(big)
        assert client.data_to_send().startswith(b"MAIL FROM:<a@b> SIZE=500 BODY=8BITMIME\r\n")
        assert client.receive_data(b"250 ok\r\n250 ok\r\n354 go\r\n") == [BodyWanted(big)]
        assert client.streaming
        assert not client.wants_mail
        for piece in (b"a\r", b"\n", b".b\r\n"):
            client.send_body(piece)
        client.end_body()
        assert client.data_to_send() == b"a\r\n..b\r\n.\r\n"
        assert client.wants_mail
        assert texts(done(client.receive_data(b"250 yes\r\n"))) == [("body", "250 yes")]

    def test_a_peer_that_leaves_in_the_middle(self) -> None:
        client = ready()
        client.send(mail(body=None))
        client.receive_data(b"250 ok\r\n250 ok\r\n354 go\r\n")
        client.data_to_send()
        event, last = client.receive_data(b"421 4.3.2 shutting down\r\n")
        assert isinstance(event, TransactionDone)
        assert texts(event) == [("lost", "421 4.3.2 shutting down")]
        assert isinstance(last, ConnectionGivenUp)
        assert client.data_to_send() == b""  # no QUIT in the middle of the mail data
        with pytest.raises(RuntimeError):
            client.send_body(b"more")
        with pytest.raises(RuntimeError):
            client.end_body()


class TestWhatCannotBeSent:
    def test_larger_than_the_peer_takes(self) -> None:
        client = ready()
        event = done(client.send(mail(body=b"x" * 1001)))
        assert texts(event) == [("size", "larger than the peer's 1000 octets")]
        assert client.data_to_send() == b""
        assert client.idle

    def test_a_limit_of_zero_is_none(self) -> None:
        client = ready(b"250-mx\r\n250-PIPELINING\r\n250 SIZE 0\r\n")
        assert client.send(mail(body=b"x" * 1001)) == []

    @pytest.mark.parametrize("address", ["b@x>\r\nRSET", "b\n@x", "b\0@x", "b@x\x7f", "b\ud800@x"])
    def test_an_address_that_would_end_the_command(self, address: str) -> None:
        client = ready()
        event = done(client.send(mail(address)))
        assert event.results[0].stage == "address"
        assert client.data_to_send() == b""
        assert done(client.send(mail("ok@x", sender=address))).results[0].stage == "address"
        assert client.send(mail(address, "c@x")) == []
        assert client.data_to_send().split(b"\r\n")[1:] == [b"RCPT TO:<c@x>", b"DATA", b""]

    def test_an_internationalised_address_where_it_is_taken(self) -> None:
        client = ready(b"250-mx\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 SMTPUTF8\r\n")
        client.send(mail("jörg@x.example", body="Grüße\r\n".encode()))
        assert client.data_to_send() == (
            "MAIL FROM:<a@me.example> BODY=8BITMIME SMTPUTF8\r\nRCPT TO:<jörg@x.example>\r\nDATA\r\n".encode()
        )

    def test_an_internationalised_address_where_it_is_not(self) -> None:
        client = ready(b"250 mx\r\n")
        client.send(mail("jörg@x.example", "b@x.example"))
        assert client.data_to_send() == b"MAIL FROM:<a@me.example>\r\n"
        client.receive_data(b"250 ok\r\n")
        assert client.data_to_send() == b"RCPT TO:<b@x.example>\r\n"
        client.receive_data(b"250 ok\r\n354 go\r\n")
        event = done(client.receive_data(b"250 yes\r\n"))
        assert [result.stage for result in event.results] == ["utf8", "body"]
        assert done(client.send(mail(sender="jörg@x.example"))).results[0].stage == "utf8"

    def test_eight_bit_content_does_not_leave_to_a_peer_without_8bitmime(self) -> None:
        client = ready(b"250-mx\r\n250 PIPELINING\r\n")
        event = done(client.send(mail(body="Grüße\r\n".encode())))
        assert texts(event) == [("8bit", "the peer takes no 8-bit content (RFC 6152)")]
        assert client.data_to_send() == b""
        assert client.idle


class TestStartTls:
    SECURABLE = b"250-mx.example\r\n250-STARTTLS\r\n250 PIPELINING\r\n"

    def greeted(self, hello: bytes, **settings: Any) -> tuple[ClientProtocol, list[ClientEvent]]:
        client = ClientProtocol(ClientSettings(hello="me.example", **settings))
        client.receive_data(b"220 mx.example ESMTP\r\n")
        client.data_to_send()
        return client, client.receive_data(hello)

    def test_the_dialogue_begins_anew_after_the_handshake(self) -> None:
        client, events = self.greeted(self.SECURABLE, starttls="require")
        assert events == []
        assert client.data_to_send() == b"STARTTLS\r\n"
        assert client.receive_data(b"220 2.0.0 go\r\n") == [TlsWanted()]
        assert not client.wants_mail
        assert client.awaits is None
        client.tls_started()
        assert client.data_to_send() == b"EHLO me.example\r\n"
        assert client.receive_data(b"250-mx.example\r\n250 SIZE 5\r\n") == [ClientReady({"SIZE": "5"})]

    def test_what_was_said_in_clear_behind_the_220_is_somebody_elses(self) -> None:
        client, _ = self.greeted(self.SECURABLE, starttls="require")
        event = given_up(client.receive_data(b"220 go\r\n250 injected\r\n"))
        assert event.error is not None

    @pytest.mark.parametrize("hello", [b"250 mx\r\n", b"502 no EHLO here\r\n"])
    def test_a_peer_without_it(self, hello: bytes) -> None:
        client, events = self.greeted(hello, starttls="require")
        event = given_up(events or client.receive_data(b"250 hello\r\n"))
        assert event.reason == "the peer offers no STARTTLS, and nothing may be sent without it"
        assert client.data_to_send().endswith(b"QUIT\r\n")
        assert not client.wants_mail
        client, events = self.greeted(hello, starttls="opportunistic")
        assert (events or client.receive_data(b"250 hello\r\n")) == [ClientReady({})]

    @pytest.mark.parametrize("reply", [b"454 4.7.0 not now\r\n", b"502 5.5.1 no\r\n"])
    def test_a_peer_that_refuses_it(self, reply: bytes) -> None:
        client, _ = self.greeted(self.SECURABLE, starttls="require")
        assert "STARTTLS refused" in given_up(client.receive_data(reply)).reason
        client, _ = self.greeted(self.SECURABLE, starttls="opportunistic")
        (event,) = client.receive_data(reply)
        assert isinstance(event, ClientReady)


class TestAuthentication:
    ME = Credentials("jörg", "geheim")

    def offered(self, mechanisms: bytes, *, secured: bool = True) -> tuple[ClientProtocol, list[ClientEvent]]:
        client = ClientProtocol(ClientSettings(hello="me", secured=secured, credentials=self.ME))
        client.receive_data(b"220 mx\r\n")
        client.data_to_send()
        return client, client.receive_data(b"250-mx\r\n250 " + mechanisms + b"\r\n")

    def test_plain(self) -> None:
        client, _ = self.offered(b"AUTH LOGIN PLAIN")
        assert b64decode(client.data_to_send().removeprefix(b"AUTH PLAIN ")) == "\0jörg\0geheim".encode()
        assert not client.wants_mail
        (event,) = client.receive_data(b"235 2.7.0 hello\r\n")
        assert isinstance(event, ClientReady)
        assert client.wants_mail

    def test_login(self) -> None:
        client, _ = self.offered(b"AUTH CRAM-MD5 LOGIN")
        assert client.data_to_send() == b"AUTH LOGIN\r\n"
        assert client.receive_data(b"334 VXNlcm5hbWU6\r\n") == []
        assert b64decode(client.data_to_send()) == "jörg".encode()
        assert client.receive_data(b"334 UGFzc3dvcmQ6\r\n") == []
        assert b64decode(client.data_to_send()) == b"geheim"
        assert given_up(client.receive_data(b"334 and your shoe size\r\n")).error is not None

    def test_a_refusal_repeats_no_password(self) -> None:
        client, _ = self.offered(b"AUTH PLAIN")
        client.data_to_send()
        event = given_up(client.receive_data(b"535 5.7.8 no\r\n"))
        assert event.reason == "the name or password is refused: 535 5.7.8 no"
        assert client.data_to_send() == b"QUIT\r\n"
        assert "geheim" not in repr(self.ME)

    def test_nothing_it_could_use(self) -> None:
        _, events = self.offered(b"AUTH GSSAPI")
        assert "it offers GSSAPI" in given_up(events).reason
        _, events = self.offered(b"SIZE 5")
        assert "it offers none" in given_up(events).reason

    def test_not_where_others_hear_it(self) -> None:
        client, events = self.offered(b"AUTH PLAIN", secured=False)
        assert given_up(events).reason == "a password is not told to a peer without TLS"
        assert client.data_to_send() == b"QUIT\r\n"


class TestTheEnd:
    def test_quit(self) -> None:
        client = ready()
        client.quit()
        assert client.data_to_send() == b"QUIT\r\n"
        assert not client.wants_mail
        event = given_up(client.receive_data(b"221 2.0.0 bye\r\n"))
        assert event.clean
        assert event.error is None

    def test_a_peer_that_hangs_up_on_quit(self) -> None:
        client = ready()
        client.quit()
        assert given_up(client.lost()).clean

    def test_421_while_idle(self) -> None:
        client = ready()
        event = given_up(client.receive_data(b"421 4.4.2 idle too long\r\n"))
        assert (event.reason, event.untouched, event.error) == ("421 4.4.2 idle too long", (), None)

    def test_a_kept_connection_found_closed_leaves_the_mail_untouched(self) -> None:
        client = ready()
        seven = mail(token=7)
        client.send(seven)
        assert given_up(client.lost()).untouched == (seven,)

    def test_421_to_mail_leaves_it_untouched(self) -> None:
        client = ready()
        seven = mail(token=7)
        client.send(seven)
        (event,) = client.receive_data(b"421 4.4.2 timeout\r\n")
        assert given_up([event]).untouched == (seven,)

    def test_421_to_rcpt_keeps_what_was_refused(self) -> None:
        client = ready()
        client.send(mail("b@x", "c@x"))
        event, last = client.receive_data(b"250 ok\r\n550 no\r\n421 bye\r\n")
        assert isinstance(event, TransactionDone)
        assert texts(event) == [("rcpt", "550 no"), ("lost", "421 bye")]
        assert isinstance(last, ConnectionGivenUp)
        assert last.untouched == ()

    def test_421_to_the_content_leaves_the_next_untouched(self) -> None:
        client = ready()
        client.send(mail(token=1))
        client.receive_data(b"250 ok\r\n250 ok\r\n354 go\r\n")
        second = mail(token=2)
        client.send(second)
        event, last = client.receive_data(b"421 4.3.0 full\r\n")
        assert isinstance(event, TransactionDone)
        assert (event.transaction.token, texts(event)) == (1, [("lost", "421 4.3.0 full")])
        assert isinstance(last, ConnectionGivenUp)
        assert last.untouched == (second,)

    @pytest.mark.parametrize("rubbish", [b"hello\r\n", b"250 to nothing\r\n", b"x" * 3000])
    def test_what_was_right_before_a_breach_counts(self, rubbish: bytes) -> None:
        client = ready()
        client.send(mail())
        client.receive_data(b"250 ok\r\n250 ok\r\n354 go\r\n")
        event, last = client.receive_data(b"250 yes\r\n" + rubbish)
        assert isinstance(event, TransactionDone)
        assert texts(event) == [("body", "250 yes")]
        assert isinstance(last, ConnectionGivenUp)
        assert last.error is not None
        assert client.receive_data(b"250 more\r\n") == []

    @pytest.mark.parametrize(
        "early", [b"250 yes\r\n", b"451 no\r\n", b"550 no\r\n", b"354 go\r\n", b"250-yes\r\n250 yes\r\n"]
    )
    def test_an_answer_to_content_that_the_peer_has_not_got_is_none(self, early: bytes) -> None:
        client = ready()
        client.send(mail())
        client.data_to_send()
        event, last = client.receive_data(b"250 ok\r\n250 ok\r\n354 go\r\n" + early)
        assert isinstance(event, TransactionDone)
        assert [result.stage for result in event.results] == ["lost"]
        assert isinstance(last, ConnectionGivenUp)
        assert last.error is not None
        # The peer is told neither the content nor its end.
        assert client.data_to_send() == b""

    def test_421_instead_of_waiting_for_the_content(self) -> None:
        client = ready()
        client.send(mail())
        client.data_to_send()
        event, last = client.receive_data(b"250 ok\r\n250 ok\r\n354 go\r\n421 4.3.2 bye\r\n")
        assert isinstance(event, TransactionDone)
        assert texts(event) == [("lost", "421 4.3.2 bye")]
        assert isinstance(last, ConnectionGivenUp)
        assert (last.error, client.data_to_send()) == (None, b"")

    def test_wrong_use_is_told(self) -> None:
        client = ClientProtocol()
        with pytest.raises(RuntimeError):
            client.send(mail())
        with pytest.raises(RuntimeError):
            client.quit()


class TestTheTable:
    def test_every_pair_is_decided(self) -> None:
        """What is not in the table is a breach: only 3yz outside DATA and AUTH, and 2yz to DATA."""
        missing = {pair for pair in itertools.product(Awaited, Answer) if pair not in TABLE}
        assert missing == {
            (awaited, Answer.MORE) for awaited in Awaited if awaited not in (Awaited.DATA, Awaited.AUTH)
        } | {(Awaited.DATA, Answer.YES)}

    def test_every_action_is_there(self) -> None:
        assert all(callable(getattr(ClientProtocol, name)) for name in TABLE.values())

    def test_a_pair_outside_the_table_gives_the_connection_up(self) -> None:
        client = ClientProtocol()
        event = given_up(client.receive_data(b"354 go\r\n"))
        assert event.error is not None
        assert "no answer to the greeting" in event.reason


def test_a_result_shows_as_its_reply_or_reason() -> None:
    assert str(RecipientResult("lost", None, "gone")) == "gone"
