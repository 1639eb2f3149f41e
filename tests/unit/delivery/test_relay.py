"""The relay against a next hop on a real socket that is polite, picky, slow, rude or not there."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller, UnixSocketController
from aiosmtpd.lmtp import LMTP

from monsal.conversation.ports import Deferred, Delivered, Failed, RelayMail
from monsal.delivery.connection import RelaySettings
from monsal.delivery.relay import SmtpRelay
from monsal.errors import ConfigError
from monsal.smtp.endpoint import Endpoint, parse_endpoint

BODY = b"From: a@me.example\r\nSubject: hi\r\n\r\n.dot\r\nbye\r\n"
HANG_UP = ""
SILENCE = "..."
TAKEN = [Delivered("250 2.0.0 taken")]


def mail(*recipients: str, body: bytes | Path = BODY, number: int = 1, sender: str = "b+x@me.example") -> RelayMail:
    return RelayMail(sender=sender, recipients=recipients or ("to@x.example",), message_id=f"<{number}@me>", body=body)


@asynccontextmanager
async def meeting(peer: Any, path: str | None = None, **settings: Any) -> AsyncIterator[SmtpRelay]:
    """A relay and its next hop, closed in the end, with nothing left under way."""
    url = await peer.listen(path)
    relay = SmtpRelay(url, RelaySettings(**{"name": "me.example", "first_wait": 0.0, **settings}))
    try:
        yield relay
    finally:
        await relay.close()
        statistics = relay.statistics()
        assert (statistics.connections, statistics.opening, statistics.waiting, statistics.in_flight) == (0, 0, 0, 0)
        await peer.close()


class TestDelivery:
    async def test_a_mail_arrives_as_it_is(self, new_peer: Any) -> None:
        peer = new_peer()
        async with meeting(peer) as relay:
            assert await relay.send([mail("b@x", "c@x")]) == [TAKEN * 2]
            assert relay.statistics().delivered == 2
            assert relay.healthy
        (taken,) = peer.mails
        assert (taken.sender, taken.recipients, taken.body) == ("b+x@me.example", ["b@x", "c@x"], BODY)
        assert peer.said("EHLO") == ["EHLO me.example"]
        assert peer.said("QUIT") == ["QUIT"]

    async def test_nothing_is_opened_for_nothing(self, new_peer: Any) -> None:
        peer = new_peer()
        async with meeting(peer) as relay:
            assert await relay.send([]) == []
            assert await relay.send([mail(), RelayMail(sender="", recipients=(), message_id="<2>", body=b"")]) == [
                TAKEN,
                [],
            ]
            assert relay.statistics().opened == 1

    async def test_many_mails_share_few_connections(self, new_peer: Any) -> None:
        peer = new_peer()
        async with meeting(peer, connections=3) as relay:
            outcomes = await relay.send([mail(number=number) for number in range(100)])
            assert outcomes == [TAKEN] * 100
            assert relay.statistics().opened <= 3
            assert await asyncio.gather(*(relay.send([mail(number=number)]) for number in range(20))) == [[TAKEN]] * 20
            assert relay.statistics().opened <= 3
        assert len(peer.mails) == 120

    async def test_a_kept_connection_is_used_again(self, new_peer: Any) -> None:
        peer = new_peer()
        async with meeting(peer) as relay:
            for number in range(5):
                assert await relay.send([mail(number=number)]) == [TAKEN]
            assert peer.connections == 1

    async def test_what_waits_behind_a_slow_answer_takes_another_kept_connection(self, new_peer: Any) -> None:
        peer = new_peer()
        async with meeting(peer, connections=2) as relay:
            await relay.send([mail(number=1), mail(number=2)])
            async with asyncio.timeout(30):
                while len(relay._idle) < 2:
                    await asyncio.sleep(0.001)
            already = len(peer.said("."))
            peer.script = lambda _n, line: SILENCE if line == "." and len(peer.said(".")) == already + 1 else None
            slow = asyncio.create_task(relay.send([mail(number=3)]))
            await peer.until(lambda: len(peer.said(".")) > already)
            async with asyncio.timeout(30):
                assert await relay.send([mail(number=4)]) == [TAKEN]
            assert not slow.done()
            assert relay.statistics().opened == 2
            await relay.close()
            assert isinstance((await slow)[0][0], Deferred)

    async def test_a_peer_without_pipelining(self, new_peer: Any) -> None:
        peer = new_peer(extensions=())
        async with meeting(peer) as relay:
            assert await relay.send([mail("b@x", "c@x"), mail()]) == [TAKEN * 2, TAKEN]

    async def test_more_recipients_than_a_transaction_takes(self, new_peer: Any) -> None:
        def script(_number: int, command: str) -> str | None:
            return "550 no" if command.startswith("RCPT TO:<3@x>") else None

        peer = new_peer(script)
        async with meeting(peer, max_recipients=2) as relay:
            (outcomes,) = await relay.send([mail(*(f"{number}@x" for number in range(5)))])
        assert outcomes == [*TAKEN * 3, Failed("550 no"), *TAKEN]
        assert sorted(len(taken.recipients) for taken in peer.mails) == [1, 1, 2]

    async def test_our_name_is_our_address_by_default(self, new_peer: Any) -> None:
        peer = new_peer()
        async with meeting(peer, name=None) as relay:
            await relay.send([mail()])
        assert peer.said("EHLO") == ["EHLO [127.0.0.1]"]

    async def test_over_a_unix_socket(self, new_peer: Any, tmp_path: Path) -> None:
        peer = new_peer(lmtp=True)
        async with meeting(peer, str(tmp_path / "lmtp.sock"), name=None) as relay:
            assert await relay.send([mail()]) == [TAKEN]
        assert peer.said("LHLO") == ["LHLO localhost"]

    async def test_lmtp_answers_for_each_recipient(self, new_peer: Any) -> None:
        answers = {". b@x": None, ". c@x": "452 4.2.2 full", ". d@x": "552 5.2.2 over quota"}
        peer = new_peer(lambda _number, command: answers.get(command), lmtp=True)
        async with meeting(peer) as relay:
            assert await relay.send([mail("b@x", "c@x", "d@x")]) == [
                [*TAKEN, Deferred("452 4.2.2 full"), Failed("552 5.2.2 over quota")]
            ]
            assert relay.healthy

    async def test_a_body_that_lies_in_a_file(self, new_peer: Any, tmp_path: Path) -> None:
        body = b"Subject: big\r\n\r\n" + b".line of a large mail\r\n" * 50_000
        (tmp_path / "body").write_bytes(body)
        peer = new_peer(extensions=("PIPELINING", "SIZE 9999999"))
        async with meeting(peer) as relay:
            assert await relay.send([mail(body=tmp_path / "body"), mail()]) == [TAKEN] * 2
        assert {taken.body for taken in peer.mails} == {body, BODY}
        assert f"MAIL FROM:<b+x@me.example> SIZE={len(body)}" in peer.said("MAIL")

    async def test_a_body_that_cannot_be_read(self, new_peer: Any, tmp_path: Path) -> None:
        peer = new_peer()
        async with meeting(peer) as relay:
            (missing,), (fine,) = await relay.send([mail(body=tmp_path / "none"), mail()])
            assert isinstance(missing, Deferred)
            assert "cannot be read" in missing.reason
            assert not missing.whole_relay
            assert [fine] == TAKEN
            (tmp_path / "directory").mkdir()  # it has a size, but cannot be opened
            ((unreadable,),) = await relay.send([mail(body=tmp_path / "directory")])
            assert isinstance(unreadable, Deferred)
            assert "cannot be read" in unreadable.reason
        assert len(peer.mails) == 1


class TestWhatIsFinal:
    """Only a 5yz to RCPT or after the mail data is (DESIGN 4, *Relay*)."""

    async def test_one_of_three_recipients_refused(self, new_peer: Any) -> None:
        answers = {"RCPT TO:<c@x>": "550 5.1.1 no such user", "RCPT TO:<d@x>": "450 4.2.0 greylisted"}
        peer = new_peer(lambda _number, command: answers.get(command))
        async with meeting(peer) as relay:
            assert await relay.send([mail("b@x", "c@x", "d@x")]) == [
                [*TAKEN, Failed("550 5.1.1 no such user"), Deferred("450 4.2.0 greylisted")]
            ]
            assert relay.healthy
            statistics = relay.statistics()
            assert (statistics.delivered, statistics.failed, statistics.deferred) == (1, 1, 1)
        assert peer.mails[0].recipients == ["b@x"]

    @pytest.mark.parametrize(
        ("command", "reply", "outcome"),
        [
            ("RCPT", "550 5.1.1 no", Failed("550 5.1.1 no")),
            ("RCPT", "450 4.2.0 later", Deferred("450 4.2.0 later")),
            ("DATA", "554 5.3.0 no", Deferred("554 5.3.0 no")),
            ("DATA", "451 4.3.0 later", Deferred("451 4.3.0 later")),
            (".", "554 5.6.0 spam", Failed("554 5.6.0 spam")),
            (".", "451 4.3.0 later", Deferred("451 4.3.0 later")),
            ("MAIL", "552 5.3.4 too big", Deferred("MAIL refused: 552 5.3.4 too big")),
            ("MAIL", "550 5.7.1 not you", Deferred("MAIL refused: 550 5.7.1 not you", whole_relay=True)),
            ("MAIL", "451 4.3.0 later", Deferred("MAIL refused: 451 4.3.0 later", whole_relay=True)),
        ],
    )
    @pytest.mark.parametrize("extensions", [("PIPELINING",), ()])
    async def test_a_refusal(
        self, new_peer: Any, command: str, reply: str, outcome: object, extensions: tuple[str, ...]
    ) -> None:
        refuses = True
        peer = new_peer(lambda _n, line: reply if refuses and line.split(" ")[0] == command else None, extensions)
        async with meeting(peer) as relay:
            assert await relay.send([mail()]) == [[outcome]]
            assert relay.healthy == (command != "MAIL")
            refuses = False
            assert await relay.send([mail()]) == [TAKEN]
            assert relay.healthy

    async def test_an_address_that_cannot_be_asked_about(self, new_peer: Any) -> None:
        peer = new_peer()
        async with meeting(peer) as relay:
            ((outcome,),) = await relay.send([mail("b@x>\r\nRSET\r\n")])
            assert isinstance(outcome, Failed)
        assert peer.said("RCPT") == []

    async def test_one_mail_refused_before_rcpt_is_its_own_trouble(self, new_peer: Any) -> None:
        peer = new_peer(lambda _n, line: "553 5.1.8 not this sender" if line.startswith("MAIL FROM:<bad") else None)
        async with meeting(peer, connections=1) as relay:
            outcomes = await relay.send([mail(), mail(sender="bad@me.example"), mail()])
            assert outcomes == [TAKEN, [Deferred("MAIL refused: 553 5.1.8 not this sender")], TAKEN]
            assert relay.healthy

    async def test_larger_than_the_peer_takes(self, new_peer: Any) -> None:
        peer = new_peer(extensions=("SIZE 20", "PIPELINING"))
        async with meeting(peer) as relay:
            assert await relay.send([mail()]) == [[Failed("5.3.4 larger than the peer's 20 octets")]]

    async def test_what_the_hello_of_the_peer_rules_out(self, new_peer: Any) -> None:
        """Not mojibake at the other end: it is said here, and for good (RFC 6531, RFC 6152)."""
        peer = new_peer(extensions=("PIPELINING",))
        async with meeting(peer) as relay:
            (addresses, content) = await relay.send([mail("jörg@x", "b@x"), mail(body="Grüße\r\n".encode())])
        assert addresses == [Failed("5.6.7 the peer takes no internationalised address (jörg@x)"), *TAKEN]
        assert content == [Failed("5.6.3 the peer takes no 8-bit content (RFC 6152)")]
        assert [taken.recipients for taken in peer.mails] == [["b@x"]]


class TestWhenItIsDown:
    async def test_nobody_listens(self) -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            relay = SmtpRelay(f"smtp://127.0.0.1:{taken.getsockname()[1]}", RelaySettings(first_wait=50.0))
            async with asyncio.timeout(60):
                (first,), (second,) = await relay.send([mail(), mail("b@x", number=2)])
                assert isinstance(first, Deferred)
                assert first == second
                assert first.whole_relay
                assert 25.0 <= first.retry_after <= 50.0
                assert "refused" in first.reason
                assert not relay.healthy
                assert relay.reason == first.reason
                ((again,),) = await relay.send([mail()])
            assert isinstance(again, Deferred)
            assert again.whole_relay
            assert again.retry_after <= first.retry_after
            assert relay.statistics().opened == 0
            await relay.close()

    async def test_it_is_not_hammered(self, new_peer: Any) -> None:
        peer = new_peer(lambda _n, line: "421 4.3.2 busy" if line == "GREETING" else None)
        async with meeting(peer, first_wait=50.0) as relay:
            for _ in range(10):
                outcomes = await relay.send([mail(number=number) for number in range(3)])
                assert all(isinstance(outcome, Deferred) and outcome.whole_relay for (outcome,) in outcomes)
            assert peer.connections <= 4  # those of the first try
            assert relay.reason.endswith("421 4.3.2 busy")

    async def test_after_a_failure_one_connection_tries(self, new_peer: Any) -> None:
        peer = new_peer(lambda number, line: "554 5.3.2 no" if line == "GREETING" and number < 6 else None)
        async with meeting(peer, connections=4) as relay:
            mails = [mail(number=number) for number in range(8)]
            tries = 0
            while isinstance((await relay.send(mails))[0][0], Deferred):
                tries += 1
            assert 3 <= tries <= 6
            assert peer.connections <= 10
            assert relay.healthy

    async def test_a_name_that_is_none(self) -> None:
        relay = SmtpRelay(f"smtp://{'x' * 70}.invalid:25")
        ((outcome,),) = await relay.send([mail()])
        assert isinstance(outcome, Deferred)
        assert outcome.whole_relay
        await relay.close()

    async def test_no_unix_socket_there(self, tmp_path: Path) -> None:
        relay = SmtpRelay(f"lmtp://{tmp_path}/none.sock")
        ((outcome,),) = await relay.send([mail()])
        assert isinstance(outcome, Deferred)
        assert "none.sock" in outcome.reason
        await relay.close()

    async def test_a_limit_of_connections_is_no_outage(self, new_peer: Any) -> None:
        """The peer takes two connections and turns the rest away: all mail goes over the two."""
        peer = new_peer(lambda number, line: "421 4.7.0 too many" if line == "GREETING" and number >= 2 else None)
        async with meeting(peer, connections=4, first_wait=50.0) as relay:
            assert await relay.send([mail(number=number) for number in range(20)]) == [TAKEN] * 20
            assert relay.healthy
            assert {taken.connection for taken in peer.mails} <= {0, 1}

    async def test_after_a_limit_of_connections_and_a_rest_it_is_tried_at_once(self, new_peer: Any) -> None:
        """Connections were turned away a moment ago, but the relay as a whole was never down."""
        peer = new_peer(lambda number, line: "421 4.7.0 too many" if line == "GREETING" and number == 1 else None)
        async with meeting(peer, connections=2, first_wait=50.0, idle_timeout=0.01) as relay:
            assert await relay.send([mail(number=number) for number in range(4)]) == [TAKEN] * 4
            await peer.until(lambda: not peer.open)
            assert await relay.send([mail()]) == [TAKEN]

    async def test_it_comes_back(self, new_peer: Any) -> None:
        peer = new_peer()
        url = await peer.listen()
        await peer.close()
        relay = SmtpRelay(url, RelaySettings(first_wait=0.0))
        ((outcome,),) = await relay.send([mail()])
        assert isinstance(outcome, Deferred)
        await peer.listen(port=relay.endpoint.port)
        assert await relay.send([mail()]) == [TAKEN]
        assert relay.healthy
        await relay.close()
        await peer.close()


class TestWhenItHangsUp:
    @pytest.mark.parametrize("reply", [HANG_UP, "421 4.4.2 idle too long"])
    async def test_a_kept_connection_found_closed_costs_nothing(self, new_peer: Any, reply: str) -> None:
        peer = new_peer(
            lambda number, line: reply if number == 0 and line.startswith("MAIL") and len(peer.mails) == 1 else None
        )
        async with meeting(peer) as relay:
            assert await relay.send([mail()]) == [TAKEN]
            assert await relay.send([mail(number=2)]) == [TAKEN]
            assert peer.connections == 2
            assert relay.healthy

    async def test_a_kept_connection_that_was_closed_while_idle_is_not_used(self, new_peer: Any) -> None:
        peer = new_peer()
        async with meeting(peer) as relay:
            await relay.send([mail()])
            peer.sessions[0].transport.close()
            await peer.until(lambda: not peer.open)
            assert await relay.send([mail()]) == [TAKEN]

    async def test_it_is_tried_over_another_connection_once_only(self, new_peer: Any) -> None:
        peer = new_peer(lambda _n, line: HANG_UP if line.startswith("MAIL") and peer.mails else None)
        async with meeting(peer) as relay:
            assert await relay.send([mail()]) == [TAKEN]
            ((outcome,),) = await relay.send([mail()])
            assert isinstance(outcome, Deferred)
            assert outcome.whole_relay
            assert peer.connections == 2
            assert not relay.healthy

    async def test_in_the_middle_of_the_mail_data(self, new_peer: Any, tmp_path: Path) -> None:
        (tmp_path / "body").write_bytes(b"line\r\n" * 200_000)
        peer = new_peer(extensions=("PIPELINING",))
        peer.on_content = lambda session: session.transport.abort() if session.number == 0 else None
        async with meeting(peer) as relay:
            ((outcome,),) = await relay.send([mail(body=tmp_path / "body")])
            assert isinstance(outcome, Deferred)
            assert not outcome.whole_relay
            assert await relay.send([mail()]) == [TAKEN]
        assert len(peer.mails) == 1

    async def test_after_the_mail_data_it_is_deferred_and_not_sent_twice_at_once(self, new_peer: Any) -> None:
        """P2: the peer may have it; another try is the outbox's decision."""
        peer = new_peer(lambda number, line: HANG_UP if number == 0 and line == "." else None)
        async with meeting(peer, connections=1) as relay:
            (first,), (second,) = await relay.send([mail(number=1), mail("second@x", number=2)])
            assert first == Deferred("the peer closed the connection")
            assert [second] == TAKEN
            assert [(taken.connection, taken.recipients) for taken in peer.mails] == [(1, ["second@x"])]
            assert relay.healthy

    async def test_with_rubbish(self, new_peer: Any) -> None:
        peer = new_peer(lambda number, line: "what?" if number == 0 and line.startswith("RCPT") else None)
        async with meeting(peer) as relay:
            ((outcome,),) = await relay.send([mail()])
            assert isinstance(outcome, Deferred)
            assert "broke the protocol" in outcome.reason
            assert await relay.send([mail()]) == [TAKEN]


class TestOneMailThatItHangsUpAt:
    """A next hop that hangs up at one recipient defers neither the others of that mail nor other mails for ever."""

    @pytest.mark.parametrize("connections", [1, 3])
    async def test_at_its_rcpt(self, new_peer: Any, connections: int) -> None:
        peer = new_peer(lambda _n, line: HANG_UP if line == "RCPT TO:<bad@x>" else None)
        async with meeting(peer, connections=connections) as relay:
            mails = [mail("a@x", "bad@x", "c@x", number=1), *(mail(number=number) for number in range(2, 6))]
            first, *others = await relay.send(mails)
            assert others == [TAKEN] * 4
            assert [type(outcome) for outcome in first] == [Deferred] * 3
            ((good, bad, fine),) = await relay.send(mails[:1])
            assert [good, fine] == TAKEN * 2
            assert isinstance(bad, Deferred)
            assert not bad.whole_relay
            assert relay.healthy
        assert [taken.recipients for taken in peer.mails if taken.recipients != ["to@x.example"]] == [["a@x"], ["c@x"]]

    @pytest.mark.parametrize("connections", [1, 3])
    async def test_before_it_answers_anything(self, new_peer: Any, connections: int) -> None:
        peer = new_peer(lambda _n, line: HANG_UP if line.startswith("MAIL FROM:<bad@") else None)
        async with meeting(peer, connections=connections) as relay:
            mails = [mail(number=1, sender="bad@me.example"), *(mail(number=number) for number in range(2, 6))]
            for number in range(3):
                (bad,), *others = await relay.send(mails)
                assert others == [TAKEN] * 4
                assert isinstance(bad, Deferred)
                # The first time all others may have passed before it: then nothing speaks for the next hop.
                assert not bad.whole_relay or not number
            assert relay.healthy

    async def test_two_of_them(self, new_peer: Any) -> None:
        """Nothing passed between their ends: it may be the next hop; but afterwards what passes is tried first."""
        peer = new_peer(lambda _n, line: HANG_UP if line.startswith("MAIL FROM:<bad@") else None)
        async with meeting(peer) as relay:
            mails = [*(mail(number=number, sender="bad@me.example") for number in (1, 2)), mail(number=3)]
            outcomes: list[Any] = []
            while not outcomes or outcomes[-1] != TAKEN:
                outcomes = await relay.send(mails)
            assert all(isinstance(outcome, Deferred) for outcome in outcomes[0] + outcomes[1])
            assert len(peer.mails) == 1


class TestTime:
    @pytest.mark.parametrize(
        ("command", "setting", "whole"),
        [
            ("GREETING", "greeting_timeout", True),
            ("EHLO me.example", "hello_timeout", True),
            ("MAIL", "mail_timeout", True),
            ("RCPT", "rcpt_timeout", False),
            ("DATA", "data_timeout", False),
            (".", "end_timeout", False),
        ],
    )
    async def test_a_peer_that_says_nothing(self, new_peer: Any, command: str, setting: str, whole: bool) -> None:
        peer = new_peer(lambda _n, line: SILENCE if line.startswith(command) else None, extensions=())
        async with meeting(peer, **{setting: 0.02}) as relay:
            ((outcome,),) = await relay.send([mail()])
            assert isinstance(outcome, Deferred)
            assert "in time" in outcome.reason
            assert outcome.whole_relay == whole
            await peer.until(lambda: not peer.open)

    async def test_a_peer_that_does_not_read(self, new_peer: Any, tmp_path: Path) -> None:
        (tmp_path / "body").write_bytes(b"x" * 30_000_000)
        peer = new_peer(extensions=("PIPELINING",))
        peer.script = lambda _n, line: peer.sessions[0].transport.pause_reading() if line == "DATA" else None
        async with meeting(peer, block_timeout=0.1) as relay:
            ((outcome,),) = await relay.send([mail(body=tmp_path / "body")])
            assert isinstance(outcome, Deferred)
            assert outcome.reason == "the peer does not read in time"

    async def test_an_unused_connection_is_closed_with_quit(self, new_peer: Any) -> None:
        peer = new_peer()
        async with meeting(peer, idle_timeout=0.01) as relay:
            await relay.send([mail()])
            await peer.until(lambda: not peer.open)
            assert peer.said("QUIT") == ["QUIT"]
            assert relay.statistics().connections == 0
            assert relay.healthy
            assert await relay.send([mail()]) == [TAKEN]

    async def test_a_peer_that_does_not_take_leave(self, new_peer: Any) -> None:
        peer = new_peer()
        async with meeting(peer, quit_timeout=0.01) as relay:
            await relay.send([mail()])
            peer.sessions[0].transport.pause_reading()
            await relay.close()
            peer.sessions[0].transport.resume_reading()


class TestTheEnd:
    async def test_close_defers_what_is_under_way(self, new_peer: Any) -> None:
        peer = new_peer(lambda _n, line: SILENCE if line == "." else None)
        async with meeting(peer, connections=1) as relay:
            sending = asyncio.create_task(relay.send([mail(number=number) for number in range(5)]))
            await peer.until(lambda: bool(peer.said(".")))
            await relay.close()
            outcomes = await sending
            assert all(isinstance(outcome, Deferred) for (outcome,) in outcomes)
            ((late,),) = await relay.send([mail()])
            assert isinstance(late, Deferred)

    @pytest.mark.parametrize("turns", range(0, 12, 2))
    async def test_close_while_a_connection_is_made(self, new_peer: Any, turns: int) -> None:
        peer = new_peer()
        async with meeting(peer) as relay:
            sending = asyncio.create_task(relay.send([mail()]))
            for _ in range(turns):
                await asyncio.sleep(0)
            await relay.close()
            assert len(await sending) == 1
            await peer.until(lambda: not peer.open)

    async def test_a_cancelled_call_takes_back_what_no_connection_has(self, new_peer: Any) -> None:
        peer = new_peer(lambda _n, line: SILENCE if line == "." else None)
        async with meeting(peer, connections=1) as relay:
            sending = asyncio.create_task(relay.send([mail(number=number) for number in range(5)]))
            await peer.until(lambda: bool(peer.said(".")))
            sending.cancel()
            with pytest.raises(asyncio.CancelledError):
                await sending
            assert relay.statistics().waiting == 0


class TestAgainstAiosmtpd:
    class Keeper:
        def __init__(self) -> None:
            self.mails: list[tuple[str, list[str], bytes]] = []

        async def handle_RCPT(self, _server: Any, _session: Any, envelope: Any, address: str, _options: Any) -> str:
            if address.startswith("no"):
                return "550 5.1.1 no such user"
            envelope.rcpt_tos.append(address)
            return "250 OK"

        async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:
            self.mails.append((envelope.mail_from, envelope.rcpt_tos, envelope.original_content))
            return "\r\n".join(["250 kept"])

    async def test_smtp(self) -> None:
        keeper = self.Keeper()
        listening = socket.create_server(("127.0.0.1", 0))

        class Given(Controller):
            def _create_server(self) -> Any:
                return self.loop.create_server(self._factory_invoker, sock=listening)

        # Not on a port that was free a moment ago: somebody else may have it now.
        controller = Given(keeper, hostname="127.0.0.1", port=listening.getsockname()[1])
        controller.start()
        try:
            relay = SmtpRelay(f"smtp://127.0.0.1:{controller.port}")
            outcomes = await relay.send([mail("b@x.example", "no@x.example"), mail()])
            assert outcomes == [[Delivered("250 kept"), Failed("550 5.1.1 no such user")], [Delivered("250 kept")]]
            await relay.close()
        finally:
            controller.stop()
        assert sorted(keeper.mails) == [
            ("b+x@me.example", ["b@x.example"], BODY),
            ("b+x@me.example", ["to@x.example"], BODY),
        ]

    async def test_lmtp_over_a_unix_socket(self, tmp_path: Path) -> None:
        keeper = self.Keeper()

        class LmtpController(UnixSocketController):
            def factory(self) -> LMTP:
                return LMTP(self.handler)

        controller = LmtpController(keeper, unix_socket=str(tmp_path / "l.sock"))
        controller.start()
        try:
            relay = SmtpRelay(f"lmtp://{tmp_path}/l.sock")
            assert await relay.send([mail()]) == [[Delivered("250 kept")]]
            await relay.close()
        finally:
            controller.stop()


class TestUrls:
    @pytest.mark.parametrize(
        ("url", "endpoint", "shown"),
        [
            ("smtp://127.0.0.1:2525", Endpoint(host="127.0.0.1", port=2525), "smtp://127.0.0.1:2525"),
            ("smtp://mx.example", Endpoint(host="mx.example", port=25), "smtp://mx.example:25"),
            ("smtp://mx.example/", Endpoint(host="mx.example", port=25), "smtp://mx.example:25"),
            ("smtp://[::1]:25", Endpoint(host="::1", port=25), "smtp://[::1]:25"),
            ("lmtp://localhost", Endpoint(host="localhost", port=24, lmtp=True), "lmtp://localhost:24"),
            ("lmtp:///run/a.sock", Endpoint(path="/run/a.sock", lmtp=True), "lmtp:///run/a.sock"),
            ("smtp:///run/a%20b.sock", Endpoint(path="/run/a b.sock"), "smtp:///run/a b.sock"),
        ],
    )
    def test_what_they_mean(self, url: str, endpoint: Endpoint, shown: str) -> None:
        assert parse_endpoint(url) == endpoint
        assert str(endpoint) == shown

    @pytest.mark.parametrize(
        "url",
        [
            "http://x",
            "localhost:25",
            "smtp://",
            "smtp:///",
            "smtp://h:0",
            "smtp://h:99999",
            "smtp://h:x",
            "smtp://h/path",
            "smtp://h?x=1",
            "smtp://[::1",
            "",
        ],
    )
    def test_what_is_none(self, url: str) -> None:
        with pytest.raises(ConfigError, match="relay"):
            parse_endpoint(url)

    def test_a_password_is_not_repeated(self) -> None:
        with pytest.raises(ConfigError) as caught:
            parse_endpoint("smtp://me:secret@h:25?tls=perhaps")
        assert "secret" not in str(caught.value)
