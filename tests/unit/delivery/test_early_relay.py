"""The envelope of a mail that may not leave yet: the next hop is told it, and gets the content after `release` only."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from monsal.conversation.ports import Deferred, Delivered, EarlyRelay, Failed, Outcome, RelayMail
from monsal.delivery.capture import CaptureRelay
from monsal.delivery.connection import RelaySettings
from monsal.delivery.jobs import Begun
from monsal.delivery.relay import SmtpRelay

BODY = b"From: a@me.example\r\nSubject: hi\r\n\r\n.dot\r\nbye\r\n"
HANG_UP = ""
SILENCE = "..."
TAKEN = [Delivered("250 2.0.0 taken")]


def mail(*recipients: str, number: int = 1, body: bytes | Path = BODY) -> RelayMail:
    recipients = recipients or ("to@x.example",)
    return RelayMail(sender=f"b+{number}@me", recipients=recipients, message_id=f"<{number}@me>", body=body)


@asynccontextmanager
async def acquainted(peer: Any, **settings: Any) -> AsyncIterator[SmtpRelay]:
    """A relay with one connection that has been used, and has nothing to do."""
    url = await peer.listen()
    relay = SmtpRelay(url, RelaySettings(**{"name": "me.example", "first_wait": 0.0, **settings}))
    try:
        assert await relay.send([mail(number=0)]) == [TAKEN]
        yield relay
    finally:
        await relay.close()
        statistics = relay.statistics()
        assert (statistics.connections, statistics.waiting, statistics.in_flight) == (0, 0, 0)
        await peer.close()


def begin(relay: SmtpRelay, asked: RelayMail) -> Begun:
    begun = relay.begin(asked)
    assert begun is not None
    return begun


async def outcomes(begun: Begun) -> list[Outcome]:
    async with asyncio.timeout(30):
        return await begun.outcomes()


async def told(peer: Any, command: str = "DATA", count: int = 2) -> None:
    """The peer heard a command so many times (once of it before) and had time to answer, and the relay to hear that."""
    await peer.until(lambda: len(peer.said(command)) >= count)
    for _ in range(20):
        await asyncio.sleep(0.001)


class TestRelease:
    @pytest.mark.parametrize("extensions", [("PIPELINING",), ()])
    async def test_the_content_follows_the_envelope_when_it_may(self, new_peer: Any, extensions: Any) -> None:
        peer = new_peer(extensions=extensions)
        async with acquainted(peer) as relay:
            begun = begin(relay, mail("b@x", "c@x"))
            await told(peer)
            assert len(peer.mails) == 1
            begun.release()
            assert await outcomes(begun) == TAKEN * 2
            assert (relay.statistics().delivered, relay.statistics().opened) == (3, 1)
        assert (peer.mails[1].recipients, peer.mails[1].body) == (["b@x", "c@x"], BODY)
        assert peer.said("MAIL")[1:] == ["MAIL FROM:<b+1@me>"]

    async def test_a_release_before_the_peer_has_answered(self, new_peer: Any) -> None:
        peer = new_peer()
        async with acquainted(peer) as relay:
            begun = begin(relay, mail())
            begun.release()
            assert await outcomes(begun) == TAKEN
            assert await relay.send([mail(number=2)]) == [TAKEN]
        assert [taken.sender for taken in peer.mails] == ["b+0@me", "b+1@me", "b+2@me"]

    async def test_others_do_not_wait_for_what_is_held(self, new_peer: Any) -> None:
        peer = new_peer()
        async with acquainted(peer) as relay:
            begun = begin(relay, mail())
            async with asyncio.timeout(30):
                assert await relay.send([mail(number=2)]) == [TAKEN]
            begun.release()
            assert await outcomes(begun) == TAKEN
        assert [taken.sender for taken in peer.mails] == ["b+0@me", "b+2@me", "b+1@me"]

    @pytest.mark.parametrize(
        ("command", "reply", "outcome"),
        [
            ("RCPT", "550 5.1.1 no", Failed("550 5.1.1 no")),
            ("RCPT", "450 later", Deferred("450 later")),
            ("DATA", "452 full", Deferred("452 full")),
            ("MAIL", "451 not now", Deferred("MAIL refused: 451 not now")),
        ],
    )
    async def test_what_the_peer_says_to_the_envelope_counts_when_the_mail_may_leave(
        self, new_peer: Any, command: str, reply: str, outcome: Outcome
    ) -> None:
        peer = new_peer()
        async with acquainted(peer) as relay:
            before = relay.statistics()
            peer.script = lambda _n, line: reply if line.startswith(command) else None
            begun = begin(relay, mail())
            await told(peer)
            now = relay.statistics()
            assert (now.delivered, now.deferred, now.failed, now.reason) == (before.delivered, 0, 0, "")
            begun.release()
            assert await outcomes(begun) == [outcome]
            assert len(peer.said(command)) == 2
            peer.script = lambda _n, _line: None
            assert await relay.send([mail(number=2)]) == [TAKEN]
        assert [taken.sender for taken in peer.mails] == ["b+0@me", "b+2@me"]

    @pytest.mark.parametrize("command", ["MAIL", "RCPT", "DATA"])
    async def test_a_connection_that_ends_meanwhile_is_no_try(self, new_peer: Any, command: str) -> None:
        peer = new_peer()
        async with acquainted(peer) as relay:
            peer.script = lambda number, line: HANG_UP if number == 0 and line.startswith(command) else None
            begun = begin(relay, mail())
            await told(peer, command)
            begun.release()
            assert await outcomes(begun) == TAKEN
            assert relay.statistics().opened == 2
        assert [(taken.connection, taken.sender) for taken in peer.mails] == [(0, "b+0@me"), (1, "b+1@me")]

    async def test_the_end_after_the_content_is_deferred_as_ever(self, new_peer: Any) -> None:
        peer = new_peer()
        async with acquainted(peer) as relay:
            begun = begin(relay, mail())
            await told(peer)
            peer.script = lambda _n, line: HANG_UP if line == "." else None
            begun.release()
            (outcome,) = await outcomes(begun)
            assert isinstance(outcome, Deferred)

    async def test_a_relay_that_is_closed_meanwhile_defers(self, new_peer: Any) -> None:
        peer = new_peer()
        async with acquainted(peer) as relay:
            begun = begin(relay, mail())
            await told(peer)
            await relay.close()
            begun.release()
            assert await outcomes(begun) == [Deferred("the relay is closed", whole_relay=True)]
        assert len(peer.mails) == 1


class TestAbandon:
    @pytest.mark.parametrize("answer", [None, SILENCE])
    async def test_the_peer_never_gets_the_end(self, new_peer: Any, answer: str | None) -> None:
        peer = new_peer()
        async with acquainted(peer) as relay:
            peer.script = lambda _n, line: answer if line.startswith("MAIL") else None
            begun = begin(relay, mail())
            await told(peer, "MAIL")
            begun.abandon()
            await peer.until(lambda: not peer.open)
            peer.script = lambda _n, _line: None
            assert await relay.send([mail(number=2)]) == [TAKEN]
            statistics = relay.statistics()
            assert (statistics.delivered, statistics.deferred, statistics.failed) == (2, 0, 0)
            assert relay.healthy
        assert [taken.sender for taken in peer.mails] == ["b+0@me", "b+2@me"]
        assert BODY not in b"".join(session.buffer for session in peer.sessions)

    async def test_a_connection_that_refused_it_goes_on(self, new_peer: Any) -> None:
        peer = new_peer()
        async with acquainted(peer) as relay:
            peer.script = lambda _n, line: "550 no" if line.startswith("RCPT TO:<no@x>") else None
            begun = begin(relay, mail("no@x"))
            await told(peer)
            begun.abandon()
            assert await relay.send([mail(number=2)]) == [TAKEN]
            assert relay.statistics().opened == 1

    async def test_a_connection_that_has_ended_is_left_alone(self, new_peer: Any) -> None:
        peer = new_peer()
        async with acquainted(peer) as relay:
            peer.script = lambda number, line: HANG_UP if number == 0 and line.startswith("MAIL") else None
            begun = begin(relay, mail())
            await peer.until(lambda: not peer.open)
            begun.abandon()
            assert await relay.send([mail(number=2)]) == [TAKEN]


class TestOnlyWhereItIsOfUse:
    async def test_not_without_a_connection_that_was_used(self, new_peer: Any) -> None:
        peer = new_peer()
        relay = SmtpRelay(await peer.listen())
        assert relay.begin(mail()) is None
        assert peer.connections == 0
        await peer.close()

    async def test_not_beside_others(self, new_peer: Any) -> None:
        peer = new_peer()
        async with acquainted(peer) as relay:
            begun = begin(relay, mail())
            assert relay.begin(mail(number=2)) is None
            begun.release()
            assert await outcomes(begun) == TAKEN

    async def test_not_what_is_unusual(self, new_peer: Any, tmp_path: Path) -> None:
        peer = new_peer()
        (tmp_path / "large").write_bytes(BODY)
        async with acquainted(peer, max_recipients=2) as relay:
            assert relay.begin(mail(body=tmp_path / "large")) is None
            assert relay.begin(mail("a@x", "b@x", "c@x")) is None
            assert relay.begin(RelayMail(sender="", recipients=(), message_id="<2>", body=BODY)) is None
            assert len(peer.said("MAIL")) == 1

    async def test_not_after_a_refusal_of_everything(self, new_peer: Any) -> None:
        peer = new_peer()
        async with acquainted(peer) as relay:
            peer.script = lambda _n, line: "421 closing" if line.startswith("MAIL") else None
            await relay.send([mail(number=2)])
            assert relay.begin(mail()) is None

    async def test_not_what_the_peer_cannot_take(self, new_peer: Any) -> None:
        peer = new_peer(extensions=("PIPELINING", "SIZE 100"))
        async with acquainted(peer) as relay:
            begun = begin(relay, mail(body=b"x" * 101))
            begun.release()
            (outcome,) = await outcomes(begun)
            assert isinstance(outcome, Failed)
            assert len(peer.said("MAIL")) == 1

    def test_other_relays_have_no_part_in_it(self, tmp_path: Path) -> None:
        assert isinstance(SmtpRelay("smtp://127.0.0.1:9"), EarlyRelay)
        assert not isinstance(CaptureRelay(tmp_path), EarlyRelay)
