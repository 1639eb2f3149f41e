"""Mail straight to the servers of each domain: its trouble is its own."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from dnsserver import SERVFAIL, name_server

from monsal.conversation.ports import Deferred, Delivered, Failed, LanedRelay, RelayMail
from monsal.delivery import MxRelay, open_relay
from monsal.delivery.connection import RelaySettings
from monsal.errors import ConfigError
from monsal.smtp.mxurl import MxUrl

TAKEN = Delivered("250 2.0.0 taken")
SILENCE = "..."


def mail(*recipients: str, number: int = 1) -> RelayMail:
    return RelayMail(sender="b@me.example", recipients=recipients, message_id=f"<{number}@me>", body=b"Subject: x\r\n")


async def listen_beside(*peers: Any) -> int:
    """The peers on 127.0.0.1, 127.0.0.2 ..., all at one port, which is the result."""
    for _ in range(20):
        port = int((await peers[0].listen()).rpartition(":")[2])
        try:
            for number, peer in enumerate(peers[1:], 2):
                await peer.listen(None, port, f"127.0.0.{number}")
        except OSError:  # somebody has that port there
            for peer in peers:
                await peer.close()
            continue
        return port
    raise AssertionError("no port is free at several addresses")


@asynccontextmanager
async def world(*peers: Any, table: dict[str, Any] | None = None, **options: Any) -> AsyncIterator[MxRelay]:
    """A relay for the domains d1.example, d2.example ..., each with one of the peers, and what else is in `table`."""
    port = await listen_beside(*peers)
    names: dict[str, Any] = {}
    for number in range(1, len(peers) + 1):
        names[f"d{number}.example"] = {"MX": [f"10 mx.d{number}.example."]}
        names[f"mx.d{number}.example"] = {"A": [f"127.0.0.{number}"]}
    async with name_server(names | (table or {})) as server:
        url = MxUrl(port=port, private=True, nameserver="127.0.0.1", nameserver_port=server.port)
        relay = MxRelay(url, RelaySettings(name="me.example", first_wait=0.0, idle_timeout=600.0), **options)
        try:
            yield relay
        finally:
            await relay.close()
            statistics = relay.statistics()
            assert (statistics.connections, statistics.opening, statistics.waiting) == (0, 0, 0)
            assert statistics.in_flight == 0
            for peer in peers:
                await peer.close()


async def test_each_domain_gets_its_own(new_peer: Any) -> None:
    one, two = new_peer(), new_peer()
    async with world(one, two) as relay:
        outcomes = await relay.send([mail("a@d1.example", "b@d2.example", "c@D1.example"), mail("d@d2.example")])
        assert outcomes == [[TAKEN] * 3, [TAKEN]]
        assert relay.statistics().delivered == 4
        assert relay.healthy
    assert [taken.recipients for taken in one.mails] == [["a@d1.example", "c@D1.example"]]
    assert sorted(taken.recipients for taken in two.mails) == [["b@d2.example"], ["d@d2.example"]]
    assert one.said("EHLO") == ["EHLO me.example"]


async def test_each_recipient_has_the_fate_of_its_domain(new_peer: Any) -> None:
    one = new_peer(lambda _number, command: "550 5.1.1 no" if command.startswith("RCPT TO:<no@") else None)
    two = new_peer(lambda _number, command: "421 4.3.2 busy" if command == "GREETING" else None)
    table = {"null.example": {"MX": ["0 ."]}, "ill.example": {"MX": SERVFAIL}}
    async with world(one, two, table=table) as relay:
        ours = ("a@d1.example", "no@d1.example", "b@d2.example")
        (outcomes,) = await relay.send([mail(*ours, "c@null.example", "d@ill.example", "e@no.example")])
        first, refused, busy, null, ill, missing = outcomes
        assert first == TAKEN
        assert refused == Failed("550 5.1.1 no")
        assert isinstance(busy, Deferred)
        assert "421 4.3.2 busy" in busy.reason
        assert null == Failed("5.1.10 null.example takes no mail (null MX)")
        assert isinstance(ill, Deferred)
        assert missing == Failed("5.1.2 there is no domain no.example")
        # That a domain is down is a try of its mail: or it would never be given up.
        assert not busy.whole_relay
        assert not ill.whole_relay
        assert relay.healthy


async def test_a_domain_that_says_nothing_stops_no_other(new_peer: Any) -> None:
    dead, fine = new_peer(lambda _number, _command: SILENCE), new_peer()
    async with world(dead, fine) as relay:
        waiting = asyncio.create_task(relay.send([mail(f"a{number}@d1.example") for number in range(20)]))
        await dead.until(lambda: dead.connections > 0)
        async with asyncio.timeout(60):
            assert await relay.send([mail("b@d2.example", number=2)]) == [[TAKEN]]
        assert not waiting.done()
        assert dead.connections <= 4
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)


async def test_closing_defers_what_waits_without_a_try(new_peer: Any) -> None:
    dead = new_peer(lambda _number, _command: SILENCE)
    async with world(dead) as relay:
        waiting = asyncio.create_task(relay.send([mail("a@d1.example")]))
        await dead.until(lambda: dead.connections > 0)
        await relay.close()
        ((outcome,),) = await waiting
        assert isinstance(outcome, Deferred)
        assert outcome.whole_relay
        assert await relay.send([mail("a@d1.example")]) == [[Deferred("the relay is closed", whole_relay=True)]]


async def test_domains_that_are_not_in_use_make_room(new_peer: Any) -> None:
    peers = [new_peer() for _ in range(3)]
    async with world(*peers, max_domains=2) as relay:
        for number in (1, 2, 1, 3):
            assert await relay.send([mail(f"a@d{number}.example")]) == [[TAKEN]]
        await peers[1].until(lambda: not peers[1].open)  # the least used one
        assert (peers[0].open, peers[2].open) == (1, 1)
        assert relay.statistics().delivered == 4
        # More than there is room for at a time: they take turns.
        assert await relay.send([mail(*(f"a@d{number}.example" for number in (1, 2, 3)))]) == [[TAKEN] * 3]


async def test_if_no_domain_can_be_reached_it_is_us(new_peer: Any) -> None:
    peer = new_peer()
    table: dict[str, Any] = {f"ill{number}.example": {"MX": SERVFAIL} for number in range(6)}
    async with world(peer, table=table) as relay:
        for number in (0, 0, 0, 0, 0, 1, 2, 3):
            await relay.send([mail(f"a@ill{number}.example")])
            assert relay.healthy
        await relay.send([mail("a@ill4.example")])
        assert "the last 5 domains cannot be reached: 4.4.3" in relay.reason
        assert relay.statistics().reason == relay.reason
        assert await relay.send([mail("a@d1.example")]) == [[TAKEN]]
        assert relay.healthy


async def test_by_its_url(new_peer: Any, tmp_path: Path) -> None:
    peer = new_peer()
    port = int((await peer.listen()).rpartition(":")[2])
    async with name_server({"x.example": {"A": ["127.0.0.1"]}}) as server:
        url = f"mx:?port={port}&nameserver=127.0.0.1:{server.port}"
        relay = open_relay(f"{url}&private=yes", tmp_path, name="me.example")
        assert isinstance(relay, LanedRelay)
        assert (relay.lane("a@X.example"), relay.lane("b@x.example.")) == ("x.example", "x.example")
        assert await relay.send([mail("a@x.example")]) == [[TAKEN]]
        await relay.close()
        closed = open_relay(url, tmp_path)
        ((outcome,),) = await closed.send([mail("a@x.example")])
        assert isinstance(outcome, Failed)  # what is not allowed is not done
        await closed.close()
    assert len(peer.mails) == 1
    await peer.close()


def test_without_dnspython_it_says_what_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "dns.asyncresolver", None)
    with pytest.raises(ConfigError, match=r"monsal\[mx\]"):
        open_relay("mx:", tmp_path)
