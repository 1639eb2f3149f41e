"""Who is behind a session: STARTTLS, AUTH, XCLIENT."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import pytest

from monsal.errors import UsageError
from monsal.smtp.events import Closing, Hello, Login, MessageReceived, StartTls, XClient
from monsal.smtp.replies import LOGIN_UNAVAILABLE, TOO_MANY_CONNECTIONS
from monsal.smtp.states import SessionState

Start = Callable[..., Any]


def codes(output: bytes) -> list[int]:
    return [int(line[:3]) for line in output.split(b"\r\n") if line and line[3:4] == b" "]


def plain(user: str, password: str, acts_as: str = "") -> str:
    return base64.b64encode(f"{acts_as}\0{user}\0{password}".encode()).decode()


def b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


class TestStartTls:
    def test_the_client_begins_anew(self, talk: Start) -> None:
        it = talk(starttls=True, auth=True)

        assert b"STARTTLS\r\n" in (offers := it.say("EHLO liar.example"))
        assert b"AUTH" not in offers
        assert it.say("STARTTLS") == b"220 2.0.0 ready to start TLS\r\n"
        assert it.events[-1] == StartTls()
        it.protocol.tls_started()
        assert it.protocol.tls
        assert it.protocol.hello is None
        assert codes(it.say("MAIL FROM:<ann@example.com>")) == [503]
        offers = it.say("EHLO client.example")
        assert b"STARTTLS" not in offers
        assert b"AUTH PLAIN LOGIN\r\n" in offers
        assert it.protocol.hello == Hello("client.example", True)

    def test_what_was_injected_behind_it_is_thrown_away(self, talk: Start) -> None:
        """CVE-2011-0411: else the attacker's commands would be done as those of the encrypted client."""
        it = talk(starttls=True).hello()

        assert codes(it.say(b"STARTTLS\r\nEHLO evil\r\nMAIL FROM:<evil@example.com>\r\nRCPT TO:<a@")) == [220]
        assert it.say(b"RSET\r\nMAIL FROM:<evil@example.com>\r\n") == b""
        it.protocol.tls_started()
        assert it.protocol.data_to_send() == b""
        assert it.protocol.state is SessionState.CONNECTED
        assert codes(it.say("NOOP")) == [250]
        assert codes(it.say("STARTTLS")) == [503]

    def test_twice(self, talk: Start) -> None:
        it = talk(starttls=True).hello()
        it.say("STARTTLS")
        it.protocol.tls_started()
        it.say("EHLO x")

        assert it.say("STARTTLS") == b"503 5.5.1 the link is encrypted already\r\n"
        with pytest.raises(UsageError):
            it.protocol.tls_started()

    @pytest.mark.parametrize(
        ("offered", "lines", "code"),
        [
            (False, ["EHLO x", "STARTTLS"], 502),
            (True, ["STARTTLS"], 503),
            (True, ["EHLO x", "STARTTLS now"], 501),
            (True, ["EHLO x", "MAIL FROM:<>", "STARTTLS"], 503),
            (True, ["EHLO x", "MAIL FROM:<>", "RCPT TO:<a@example.org>", "STARTTLS"], 503),
        ],
    )
    def test_at_the_wrong_time(self, talk: Start, offered: bool, lines: list[str], code: int) -> None:
        it = talk(starttls=offered)

        assert codes([it.say(line) for line in lines][-1]) == [code]
        assert it.protocol.state is not SessionState.TLS_STARTING

    def test_a_client_that_hangs_up_meanwhile(self, talk: Start) -> None:
        it = talk(starttls=True).hello()
        it.say("STARTTLS")
        it.protocol.receive_eof()

        assert it.protocol.closing


class TestLogin:
    @pytest.mark.parametrize(
        "lines",
        [
            [f"AUTH PLAIN {plain('ann', 'secret')}"],
            [f"auth plain {plain('ann', 'secret', 'ann')}  "],
            ["AUTH PLAIN", plain("ann", "secret")],
            ["AUTH LOGIN", b64("ann"), b64("secret")],
            [f"AUTH LOGIN {b64('ann')}", b64("secret")],
        ],
    )
    def test_ways_in(self, talk: Start, lines: list[str]) -> None:
        it = talk(auth=True, tls=True).hello()
        outputs = [it.say(line) for line in lines]

        assert [codes(output) for output in outputs] == [[334]] * (len(lines) - 1) + [[235]]
        assert it.protocol.user == "ann"
        it.say("RSET")
        it.say("EHLO again")
        assert it.protocol.user == "ann"
        assert codes(it.say(f"AUTH PLAIN {plain('bob', 'secret')}")) == [503]

    def test_the_challenges_of_login_are_those_that_programs_wait_for(self, talk: Start) -> None:
        it = talk(auth=True, tls=True).hello()

        assert it.say("AUTH LOGIN") == b"334 VXNlcm5hbWU6\r\n"
        assert it.say(b64("ann")) == b"334 UGFzc3dvcmQ6\r\n"

    def test_before_tls_nothing_is_looked_at(self, talk: Start) -> None:
        it = talk(auth=True, starttls=True).hello()

        assert codes(it.say(f"AUTH PLAIN {plain('ann', 'secret')}")) == [538]
        assert not any(isinstance(event, Login) for event in it.events)

    def test_a_password_is_in_no_text(self) -> None:
        login = Login("PLAIN", "ann", "secret")

        assert "secret" not in f"{login!r} {login} {[login]}"

    def test_after_three_wrong_tries_the_session_ends(self, talk: Start) -> None:
        it = talk(auth=True, tls=True).hello()

        assert codes(it.say(f"AUTH PLAIN {plain('ann', 'guess')}")) == [535]
        it.say("EHLO again")
        assert codes(it.say(f"AUTH PLAIN {plain('ann', 'secret', 'root')}")) == [535]
        assert codes(it.say(f"AUTH PLAIN {plain('ann', 'guess')}\r\nNOOP")) == [535, 421]
        assert it.protocol.closing
        assert isinstance(it.events[-1], Closing)

    def test_a_login_that_cannot_be_checked_is_no_wrong_one(self, talk: Start) -> None:
        it = talk(auth=True, tls=True).hello()
        for _ in range(5):
            it.protocol.receive_data(f"AUTH PLAIN {plain('ann', 'secret')}\r\n".encode())
            it.protocol.reply(LOGIN_UNAVAILABLE)
            assert codes(it.protocol.data_to_send()) == [454]

        assert it.protocol.user is None
        assert not it.protocol.closing

    @pytest.mark.parametrize(
        ("lines", "code"),
        [
            (["AUTH"], 504),
            (["AUTH CRAM-MD5"], 504),
            (["AUTH PLAIN", "*"], 501),
            (["AUTH LOGIN", b64("ann"), "*"], 501),
            (["AUTH PLAIN ***"], 501),
            (["AUTH PLAIN", "not base64"], 501),
            (["AUTH PLAIN ="], 501),
            (["AUTH PLAIN", ""], 501),
            (["AUTH LOGIN ="], 501),
            ([f"AUTH PLAIN {b64('ann')}"], 501),
            ([f"AUTH PLAIN {plain('', 'x')}"], 501),
            ([f"AUTH PLAIN {plain('ann', '')}"], 501),
            ([f"AUTH PLAIN {plain('ann', 'x' * 256)}"], 501),
            ([f"AUTH PLAIN {b64('a') + '='}"], 501),
            (["AUTH PLAIN " + base64.b64encode(b"\0\xff\0x").decode()], 501),
            (["AUTH PLAIN", "A" * 13000], 500),
            (["AUTH PLAIN " + "A" * 13000], 500),
        ],
    )
    def test_what_is_no_login(self, talk: Start, lines: list[str], code: int) -> None:
        it = talk(auth=True, tls=True).hello()

        assert codes([it.say(line) for line in lines][-1]) == [code]
        assert it.protocol.state is SessionState.READY
        assert codes(it.say("NOOP")) == [250]
        assert not any(isinstance(event, Login) for event in it.events)

    def test_a_line_of_a_megabyte_is_not_held(self, talk: Start) -> None:
        it = talk(auth=True, tls=True, max_skipped=1024 * 1024).hello()
        it.say("AUTH PLAIN")
        output = b"".join(it.say(b"A" * 4096) for _ in range(255))

        assert codes(output) == [500]
        assert len(it.protocol._buffer) < 2
        assert codes(it.say(b"A\r\nNOOP\r\n")) == [250]
        it.say("AUTH PLAIN")
        output = b"".join(it.say(b"A" * 4096) for _ in range(300))
        assert codes(output) == [500, 421]

    def test_before_the_hello_and_within_a_mail(self, talk: Start) -> None:
        it = talk(auth=True, tls=True)

        assert codes(it.say("AUTH PLAIN")) == [503]
        it.say("HELO old.example")
        assert codes(it.say("AUTH PLAIN")) == [503]
        it.hello().transaction()
        assert codes(it.say("AUTH PLAIN")) == [503]

    def test_where_it_is_not_offered(self, talk: Start) -> None:
        it = talk(tls=True)

        assert b"AUTH" not in it.say("EHLO x")
        assert codes(it.say("AUTH PLAIN")) == [502]
        assert codes(it.say("MAIL FROM:<ann@example.com> AUTH=<>")) == [555]

    def test_the_parameter_of_mail_is_read_and_believed_by_nobody(self, talk: Start) -> None:
        it = talk(auth=True, tls=True).hello()

        assert codes(it.say("MAIL FROM:<ann@example.com> AUTH=boss@example.com")) == [250]
        assert it.protocol.user is None


class TestXClient:
    def test_the_session_begins_anew_for_somebody_else(self, talk: Start) -> None:
        it = talk(xclient=True)

        assert b"XCLIENT NAME ADDR PORT PROTO HELO LOGIN\r\n" in it.say("EHLO proxy.example")
        said = it.say(
            "XCLIENT NAME=spike.example ADDR=192.0.2.1 PORT=4711 PROTO=esmtp HELO=spike "
            "LOGIN=ann+40example.com DESTPORT=25"
        )
        assert said == it.greeting
        assert it.events[-1] == XClient(
            name="spike.example", address="192.0.2.1", port=4711, proto="ESMTP", hello="spike", login="ann@example.com"
        )
        assert it.protocol.hello is None
        assert it.protocol.user == "ann@example.com"
        assert codes(it.say("MAIL FROM:<ann@example.com>")) == [503]
        it.say("XCLIENT LOGIN=[UNAVAILABLE] ADDR=IPV6:2001:DB8:0::1")
        assert it.events[-1] == XClient(login="", address="2001:db8::1")
        assert it.protocol.user is None

    def test_from_others_it_is_refused(self, talk: Start) -> None:
        it = talk()

        assert b"XCLIENT" not in it.say("EHLO x")
        assert codes(it.say("XCLIENT ADDR=192.0.2.1 LOGIN=root")) == [550]
        assert it.protocol.user is None
        assert not any(isinstance(event, XClient) for event in it.events)

    @pytest.mark.parametrize(
        "argument",
        [
            "",
            "ADDR",
            "ADDR=",
            "ADDR=here",
            "ADDR=IPV6:fe80::1%eth0",
            "PORT=70000",
            "PORT=-1",
            "PROTO=UUCP",
            "COLOUR=red",
            "ADDR=192.0.2.1 ADDR=192.0.2.2",
            "NAME=+0D+0A250",
            "NAME=+FF",
            "NAME=+4",
            "LOGIN=a=b",
            "HELO=two+20words",
            "NAME=" + "x" * 300,
        ],
    )
    def test_bad_syntax_changes_nothing(self, talk: Start, argument: str) -> None:
        it = talk(xclient=True).hello()

        assert codes(it.say(f"XCLIENT {argument}")) == [501]
        assert it.protocol.hello is not None

    def test_within_a_mail(self, talk: Start) -> None:
        it = talk(xclient=True).hello().transaction()

        assert codes(it.say("XCLIENT ADDR=192.0.2.1")) == [503]

    def test_whoever_it_is_may_be_turned_away(self, talk: Start) -> None:
        it = talk(xclient=True)
        it.protocol.receive_data(b"XCLIENT ADDR=192.0.2.1\r\n")
        it.protocol.reply(TOO_MANY_CONNECTIONS)

        assert codes(it.protocol.data_to_send()) == [421]
        assert it.protocol.closing


def test_ten_thousand_commands_end_the_session(talk: Start) -> None:
    it = talk(auth=True, tls=True, starttls=True).hello()
    output = it.say(b"AUTH PLAIN\r\n*\r\n" * 5000)

    assert codes(output)[-1] == 421
    assert len(codes(output)) < 100
    assert not any(isinstance(event, MessageReceived) for event in it.events)
