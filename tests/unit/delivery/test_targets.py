"""Several places for one relay: the first that works is used, and one that failed is tried last for a while."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from monsal.conversation.ports import Deferred, Delivered, Failed, RelayMail
from monsal.delivery.connection import RelaySettings
from monsal.delivery.relay import SmtpRelay
from monsal.delivery.route import NoRoute, Target
from monsal.smtp.endpoint import Endpoint, parse_endpoint

TAKEN = [Delivered("250 2.0.0 taken")]
REFUSES = "554 5.3.2 not now"


def mail(number: int = 1) -> RelayMail:
    return RelayMail(sender="b@me", recipients=("to@x.example",), message_id=f"<{number}@me>", body=b"Subject: x\r\n")


class Places:
    """A route that says what the test says."""

    def __init__(self) -> None:
        self.found: list[Target] | NoRoute = []

    async def targets(self) -> Sequence[Target]:
        if isinstance(self.found, NoRoute):
            raise self.found
        return list(self.found)


@asynccontextmanager
async def relay_to(
    *peers: Any, mail_is_final: bool = False, **settings: Any
) -> AsyncIterator[tuple[SmtpRelay, Places]]:
    places = Places()
    places.found = [Target(parse_endpoint(await peer.listen())) for peer in peers]
    chosen = RelaySettings(**{"name": "me.example", "first_wait": 0.0, "connections": 1, **settings})
    relay = SmtpRelay(Endpoint(host="x.example", port=25), chosen, route=places, mail_is_final=mail_is_final)
    try:
        yield relay, places
    finally:
        await relay.close()
        statistics = relay.statistics()
        assert (statistics.connections, statistics.opening, statistics.waiting, statistics.in_flight) == (0, 0, 0, 0)
        for peer in peers:
            await peer.close()


async def test_the_first_is_used(new_peer: Any) -> None:
    one, two = new_peer(), new_peer()
    async with relay_to(one, two) as (relay, _):
        assert await relay.send([mail(), mail(2)]) == [TAKEN, TAKEN]
    assert (len(one.mails), two.connections) == (2, 0)


async def test_the_second_if_nobody_is_at_the_first(new_peer: Any) -> None:
    one, two = new_peer(), new_peer()
    async with relay_to(one, two) as (relay, _):
        await one.close()
        assert await relay.send([mail()]) == [TAKEN]
        assert relay.healthy
    assert len(two.mails) == 1


@pytest.mark.parametrize("at", ["GREETING", "EHLO me.example"])
async def test_the_second_if_the_first_sends_us_away(new_peer: Any, at: str) -> None:
    one = new_peer(lambda _number, command: "421 4.3.2 busy" if command == at else None)
    two = new_peer()
    async with relay_to(one, two) as (relay, _):
        assert await relay.send([mail()]) == [TAKEN]
        assert relay.healthy
        two.sessions[0].transport.abort()  # so that the next mail needs a new connection
        await two.until(lambda: not two.open)
        assert await relay.send([mail(2)]) == [TAKEN]
    assert one.connections == 1  # it was shunned
    assert len(two.mails) == 2


async def test_the_second_if_the_first_does_not_take_this_mail_now(new_peer: Any) -> None:
    """RFC 5321, section 5.1: in the same attempt, not after the wait for the next one."""
    one = new_peer(lambda _number, command: "451 4.7.1 greylisted" if command.startswith("MAIL") else None)
    two = new_peer()
    async with relay_to(one, two, connections=2) as (relay, _):
        assert await relay.send([mail(number) for number in range(1, 6)]) == [TAKEN] * 5
        assert relay.healthy
        assert await relay.send([mail(6)]) == [TAKEN]
    assert (len(one.mails), len(two.mails)) == (0, 6)


async def test_the_second_also_if_other_connections_to_the_first_are_kept(new_peer: Any) -> None:
    """None of those gets the mail while they are given up: it would be refused there again, and wait."""
    gate: list[str] = []
    one = new_peer(
        lambda _number, command: "451 4.7.1 greylisted" if gate and command.startswith("MAIL") else None,
        extensions=("SIZE 1000000",),  # without PIPELINING its connection is idle as soon as MAIL is refused
    )
    two = new_peer()
    async with relay_to(one, two, connections=3) as (relay, _):
        assert await relay.send([mail(number) for number in range(1, 25)]) == [TAKEN] * 24
        await one.until(lambda: one.open == 3)
        gate.append("closed")
        assert await relay.send([mail(30)]) == [TAKEN]
        assert relay.healthy
    assert (len(one.mails), len(two.mails)) == (24, 1)


async def test_each_is_asked_once_if_none_takes_the_mail_now(new_peer: Any) -> None:
    one, two, three = (
        new_peer(lambda _number, command: "451 4.3.0 not now" if command.startswith("MAIL") else None) for _ in range(3)
    )
    async with relay_to(one, two, three) as (relay, _):
        ((outcome,),) = await relay.send([mail()])
        assert isinstance(outcome, Deferred)
        assert "MAIL refused: 451 4.3.0 not now" in outcome.reason
    assert [peer.connections for peer in (one, two, three)] == [1, 1, 1]


@pytest.mark.parametrize("is_final", [False, True])
async def test_a_refusal_for_good_asks_nobody_else(new_peer: Any, is_final: bool) -> None:
    one = new_peer(lambda _number, command: "550 5.7.1 not you" if command.startswith("MAIL") else None)
    two = new_peer()
    async with relay_to(one, two, mail_is_final=is_final) as (relay, _):
        ((outcome,),) = await relay.send([mail()])
        # Of a next hop it is a reason to look at its settings, of the recipients' own server an answer.
        assert outcome == Failed("550 5.7.1 not you") if is_final else isinstance(outcome, Deferred)
    assert two.connections == 0


async def test_if_all_fail_mail_is_deferred_and_each_is_tried_in_turn(new_peer: Any) -> None:
    back = False

    def script(_number: int, command: str) -> str | None:
        return REFUSES if command == "GREETING" else None

    one = new_peer(script)
    two = new_peer(lambda number, command: None if back else script(number, command))
    async with relay_to(one, two) as (relay, _):
        ((outcome,),) = await relay.send([mail()])
        assert isinstance(outcome, Deferred)
        assert outcome.whole_relay
        assert REFUSES in outcome.reason
        assert (one.connections, two.connections) == (1, 1)
        assert not relay.healthy
        back = True
        tries = 0
        while await relay.send([mail()]) != [TAKEN]:  # the first again at most: then it is the turn of the second
            tries += 1
            assert tries < 2
        assert relay.healthy
    assert len(two.mails) == 1


async def test_what_is_nowhere_for_now_is_deferred(new_peer: Any) -> None:
    peer = new_peer()
    async with relay_to(peer) as (relay, places):
        right, places.found = places.found, NoRoute("4.4.3 the DNS is silent", final=False)
        ((outcome,),) = await relay.send([mail()])
        assert isinstance(outcome, Deferred)
        assert (outcome.reason, outcome.whole_relay) == ("4.4.3 the DNS is silent", True)
        places.found = right
        assert await relay.send([mail()]) == [TAKEN]


async def test_what_is_nowhere_for_good_fails(new_peer: Any) -> None:
    peer = new_peer()
    async with relay_to(peer) as (relay, places):
        right, places.found = places.found, NoRoute("5.1.2 no such domain", final=True)
        assert await relay.send([mail(), mail(2)]) == [[Failed("5.1.2 no such domain")]] * 2
        places.found = right
        assert await relay.send([mail()]) == [TAKEN]
