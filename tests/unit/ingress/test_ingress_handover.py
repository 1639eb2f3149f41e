"""Mails that are given to an intake without a task: the answer comes later, or at once, or to nobody."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from monsal.errors import StoreUnavailable
from monsal.ingress.base import BeginsIntake
from monsal.ingress.connection import Connection
from monsal.smtp.replies import Refused, Reply
from monsal.store.contract import Receipt

Run = Callable[[Callable[[], Awaitable[None]]], None]
MAIL = "Subject: x\r\n\r\nHello"


class Intake:
    """Keeps those who wait, until the test tells them; or does at once what `at_once` says."""

    def __init__(self, fake: Any) -> None:
        self.fake = fake
        self.accepts, self.screen, self.accept = fake.accepts, fake.screen, fake.accept
        self.waiters: list[Any] = []
        self.begun = asyncio.Event()
        self.at_once: Callable[[], Receipt | None] | None = None

    def begin_accept(self, envelope: Any, body: tuple[bytes, ...], waiter: Any) -> Any:
        if self.at_once is not None:
            return self.at_once()
        self.waiters.append(waiter)
        self.begun.set()
        return waiter

    async def one(self) -> Any:
        """The next one that waits."""
        while not self.waiters:
            self.begun.clear()
            await self.begun.wait()
        return self.waiters.pop(0)


def receipt(row: int, was: bool = False) -> Receipt:
    return Receipt((row,), (was,))


@pytest.fixture
def intake(fake_intake: Any) -> Callable[[], Intake]:
    return lambda: Intake(fake_intake())


async def begin(client: Any, ingress: Any) -> Any:
    """A client that has sent a mail and waits."""
    found = await client.greeted(ingress.addresses[0])
    await found.start_mail()
    found.send(f"{MAIL}\r\n.\r\n".encode())
    return found


def test_250_is_said_when_the_intake_tells_and_not_before(run: Run, smtp: Any, intake: Any, client: Any) -> None:
    async def test() -> None:
        taker = intake()
        assert isinstance(taker, BeginsIntake)
        async with smtp(taker) as ingress:
            found = await begin(client, ingress)
            waiter = await taker.one()
            assert (waiter.done(), ingress.statistics().busy, ingress.statistics().accepted) == (False, 1, 0)
            assert ingress.statistics().held > 0
            waiter.set_result(receipt(7))
            assert await found.reply() == "250 2.0.0 7 stored"
            assert (waiter.done(), ingress.statistics().accepted, ingress.statistics().held) == (True, 1, 0)
            assert ingress.tasks == set()
            assert ingress.pending == set()

    run(test)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (StoreUnavailable("the disk is full"), "451 4.3.0"),
        (Refused(Reply(554, "5.4.6", "a loop")), "554 5.4.6"),
        (KeyError("a fault"), "451 4.3.0"),
    ],
)
@pytest.mark.parametrize("way", ["told", "raised"])
def test_an_error_is_never_a_250(
    run: Run, smtp: Any, intake: Any, client: Any, error: Exception, said: str, way: str
) -> None:
    async def test() -> None:
        taker = intake()

        def fail() -> None:
            raise error

        async with smtp(taker) as ingress:
            if way == "raised":
                taker.at_once = fail
                found = await begin(client, ingress)
            else:
                found = await begin(client, ingress)
                (await taker.one()).set_exception(error)
            assert (await found.reply()).startswith(said)
            statistics = ingress.statistics()
            assert (statistics.accepted, statistics.held) == (0, 0)
            assert statistics.refused + statistics.failed == 1
            taker.at_once = lambda: receipt(8)
            assert (await found.mail(MAIL)).startswith("250")

    run(test)


def test_a_receipt_that_does_not_fit_is_no_250(run: Run, smtp: Any, intake: Any, client: Any) -> None:
    async def test() -> None:
        taker = intake()
        async with smtp(taker) as ingress:
            found = await begin(client, ingress)
            (await taker.one()).set_result(Receipt((1, 2), (False, False)))
            assert (await found.reply()).startswith("451")

    run(test)


def test_what_cannot_be_begun_is_accepted_by_a_task(run: Run, smtp: Any, intake: Any, client: Any) -> None:
    async def test() -> None:
        taker = intake()
        taker.at_once = lambda: None
        async with smtp(taker) as ingress:
            found = await client.greeted(ingress.addresses[0])
            assert await found.mail(MAIL) == "250 2.0.0 100 stored"
            assert ingress.statistics().held == 0
        assert len(taker.fake.mails) == 1

    run(test)


def test_a_thousand_mails_of_one_packet_that_are_known_at_once(run: Run, smtp: Any, intake: Any, client: Any) -> None:
    async def test() -> None:
        taker = intake()
        taker.at_once = lambda: receipt(9, True)
        async with smtp(taker) as ingress:
            found = await client.greeted(ingress.addresses[0])
            mail = "MAIL FROM:<>\r\nRCPT TO:<order@example.org>\r\nBDAT 2 LAST\r\n\r\n"
            found.send((mail * 1000).encode())
            for _ in range(1000):
                assert [(await found.reply())[:3] for _ in range(3)] == ["250", "250", "250"]

    run(test)


@pytest.mark.parametrize("told", [True, False])
def test_a_client_that_went_away_meanwhile(run: Run, smtp: Any, intake: Any, client: Any, told: bool) -> None:
    async def test() -> None:
        taker = intake()
        async with smtp(taker) as ingress:
            found = await begin(client, ingress)
            waiter = await taker.one()
            found.reset()
            while ingress.statistics().connections:
                await asyncio.sleep(0.001)
            assert not waiter.done()
            if told:
                waiter.set_result(receipt(1))
            else:
                waiter.set_exception(StoreUnavailable("no"))
            assert (ingress.statistics().held, ingress.statistics().accepted) == (0, int(told))

    run(test)


def test_a_stop_waits_for_a_mail_that_is_being_stored(run: Run, smtp: Any, intake: Any, client: Any) -> None:
    async def test() -> None:
        taker = intake()
        async with smtp(taker) as ingress:
            here, gone = await begin(client, ingress), await begin(client, ingress)
            waiters = [await taker.one(), await taker.one()]
            gone.reset()
            while ingress.statistics().connections > 1:
                await asyncio.sleep(0.001)
            stopping = asyncio.create_task(ingress.stop(60.0))
            waiters[0].set_result(receipt(3))
            assert await here.reply() == "250 2.0.0 3 stored"
            here.hang_up()
            for _ in range(20):
                await asyncio.sleep(0)
            assert not stopping.done()
            waiters[1].set_result(receipt(4))
            await stopping
            assert ingress.statistics().accepted == 2

    run(test)


def test_a_stop_gives_up_what_does_not_end(run: Run, smtp: Any, intake: Any, client: Any) -> None:
    async def test() -> None:
        taker = intake()
        async with smtp(taker) as ingress:
            found = await begin(client, ingress)
            waiter = await taker.one()
            await ingress.stop(0.0)
            # Who stores it sees that nobody waits, and tells nobody.
            assert waiter.done()
            assert b"250" not in await found.rest()
            assert ingress.statistics().held == 0

    run(test)


def test_a_mail_that_cannot_be_answered_hurts_no_other(
    run: Run, smtp: Any, intake: Any, client: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError("a fault of ours")

    async def test() -> None:
        taker = intake()
        async with smtp(taker) as ingress:
            first = await begin(client, ingress)
            waiters = [await taker.one()]
            second = await begin(client, ingress)
            waiters.append(await taker.one())
            with monkeypatch.context() as patch:
                patch.setattr(Connection, "told", broken)
                waiters[0].set_result(receipt(0))
            waiters[1].set_result(receipt(1))
            assert await second.reply() == "250 2.0.0 1 stored"
            assert await first.rest() == b""
            assert [record.message for record in caplog.records if record.levelname == "ERROR"] == ["cannot answer"]
            assert ingress.statistics().held == 0

    run(test)
