"""Mail of a turn whose flush is still to come: prepared, and sent only if the disk has it (P2)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest

from monsal.clock import ManualClock
from monsal.conversation.outbox import OutboxPump, OutboxSettings
from monsal.conversation.ports import Deferred, Delivered, Failed, Outcome, RelayMail
from monsal.errors import StoreUnavailable
from monsal.store.contract import Outgoing, Settled
from monsal.store.early import Offer, Told

OK = Delivered("250 2.0.0 queued")
DOWN = Deferred("no connection", whole_relay=True)


def row(number: int, mail: int = 1, recipient: str = "b@x") -> Outgoing:
    return Outgoing(
        id=number,
        mail=mail,
        sender=f"b+{mail}@me",
        recipient=recipient,
        message_id=f"<{mail}@me>",
        attempts=0,
        created=1000.0,
        body=b"body",
    )


class Store:
    """The methods of an early store that the pump uses; nothing is ever taken from it in the usual way."""

    def __init__(self) -> None:
        self.offer: Offer | None = None
        self.settled: list[Settled] = []
        self.broken = False
        self.changed = asyncio.Event()

    def on_outgoing(self, callback: Callable[[], None]) -> None:
        """Nothing will be told."""

    def on_early(self, offer: Offer) -> None:
        self.offer = offer

    async def take_outgoing(self, limit: int, now: float) -> list[Outgoing]:
        return []

    def next_outgoing(self) -> float | None:
        return None

    async def settle(self, results: Sequence[Settled]) -> None:
        if self.broken:
            raise StoreUnavailable("disk full")
        self.settled += results
        self.changed.set()


class Begun:
    """What a relay began: it writes down what is done with it."""

    def __init__(self, asked: RelayMail, found: list[Outcome]) -> None:
        self.mail = asked
        self.done: list[str] = []
        self.breaks = ""
        self._found = found

    def release(self) -> None:
        self.done.append("released")
        if self.breaks == "release":
            raise ValueError("a fault of the relay")

    def abandon(self) -> None:
        self.done.append("abandoned")

    async def outcomes(self) -> list[Outcome]:
        assert self.done == ["released"]
        if self.breaks == "outcomes":
            raise ValueError("a fault of the relay")
        return self._found


class Relay:
    """An early relay whose outcomes are given; `takes` says whether it begins anything."""

    def __init__(self, found: list[Outcome]) -> None:
        self.begun: list[Begun] = []
        self.takes = True
        self._found = found

    def begin(self, mail: RelayMail) -> Begun | None:
        if not self.takes:
            return None
        self.begun.append(Begun(mail, self._found))
        return self.begun[-1]

    async def send(self, mails: Sequence[RelayMail]) -> list[list[Outcome]]:
        return [[DOWN] * len(mail.recipients) for mail in mails]

    async def close(self) -> None:
        """Nothing to give back."""


class World:
    """A running pump between the two."""

    def __init__(self, *found: Outcome, **settings: Any) -> None:
        self.store, self.relay, self.clock = Store(), Relay(list(found)), ManualClock(1000.0)
        self.pump = OutboxPump(self.store, self.relay, self.clock, OutboxSettings(**settings))  # type: ignore[arg-type] - the fake has what the pump uses

    def offer(self, *rows: Outgoing) -> Told | None:
        assert self.store.offer is not None
        return self.store.offer(rows)

    def run(self, body: Callable[[World], Awaitable[None]]) -> None:
        async def whole() -> None:
            running = asyncio.create_task(self.pump.run())
            while self.store.offer is None:
                await asyncio.sleep(0)
            async with asyncio.timeout(30):
                await body(self)
                await self.pump.stop(1.0)
                await running

        asyncio.run(whole())


def test_what_the_disk_has_is_sent_and_settled() -> None:
    async def body(world: World) -> None:
        told = world.offer(row(1), row(2, recipient="c@x"))
        assert told is not None
        (begun,) = world.relay.begun
        assert begun.mail == RelayMail(sender="b+1@me", recipients=("b@x", "c@x"), message_id="<1@me>", body=b"body")
        assert begun.done == []
        assert world.store.settled == []
        told(None)
        assert begun.done == ["released"]
        await world.store.changed.wait()
        assert [(each.id, each.status) for each in world.store.settled] == [(1, "sent"), (2, "failed")]
        assert (world.pump.statistics().sent, world.pump.statistics().failed) == (1, 1)

    World(OK, Failed("550 no")).run(body)


def test_what_the_disk_refused_is_abandoned_and_not_settled() -> None:
    async def body(world: World) -> None:
        told = world.offer(row(1))
        assert told is not None
        told(StoreUnavailable("the flush failed"))
        await asyncio.sleep(0)
        assert world.relay.begun[0].done == ["abandoned"]
        assert world.store.settled == []
        assert world.pump.healthy

    World(OK).run(body)


def test_a_relay_that_has_no_use_for_it_leaves_it_to_the_store() -> None:
    async def body(world: World) -> None:
        world.relay.takes = False
        assert world.offer(row(1)) is None

    World(OK).run(body)


def test_several_mails_go_the_usual_way() -> None:
    async def body(world: World) -> None:
        assert world.offer(row(1, mail=1), row(2, mail=2)) is None
        assert world.relay.begun == []

    World(OK).run(body)


def test_a_limit_for_each_domain_is_not_passed_by() -> None:
    async def body(world: World) -> None:
        assert world.offer(row(1)) is None

    World(OK, per_minute=1.0).run(body)


def test_nothing_is_begun_while_no_mail_leaves() -> None:
    async def body(world: World) -> None:
        told = world.offer(row(1))
        assert told is not None
        told(None)
        await world.store.changed.wait()
        assert [each.status for each in world.store.settled] == ["deferred"]
        assert not world.pump.healthy
        assert world.offer(row(2)) is None

    World(Deferred("closed", whole_relay=True, retry_after=60.0)).run(body)


def test_nothing_is_begun_while_outcomes_cannot_be_written() -> None:
    async def body(world: World) -> None:
        world.store.broken = True
        told = world.offer(row(1))
        assert told is not None
        told(None)
        while not world.pump.statistics().unsettled:
            await asyncio.sleep(0)
        assert world.offer(row(2)) is None
        world.store.broken = False

    World(OK).run(body)


@pytest.mark.parametrize("breaks", ["release", "outcomes", "too few"])
def test_a_relay_that_breaks_leaves_no_row_under_way(breaks: str) -> None:
    async def body(world: World) -> None:
        told = world.offer(row(1), *([row(2, recipient="c@x")] if breaks == "too few" else []))
        assert told is not None
        world.relay.begun[0].breaks = breaks
        told(None)
        await world.store.changed.wait()
        assert {each.status for each in world.store.settled} == {"deferred"}
        assert world.pump.statistics().in_flight == 0

    World(OK).run(body)


@pytest.mark.parametrize("ended", ["stopped", "cancelled"])
def test_nothing_leaves_and_nothing_is_begun_when_the_pump_has_ended(ended: str) -> None:
    async def whole() -> None:
        world = World(OK)
        running = asyncio.create_task(world.pump.run())
        while world.store.offer is None:
            await asyncio.sleep(0)
        told = world.offer(row(1))
        assert told is not None
        if ended == "stopped":
            await world.pump.stop(0.0)
        else:
            running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        told(None)
        assert world.relay.begun[0].done == ["abandoned"]
        assert world.offer(row(2)) is None

    asyncio.run(whole())
