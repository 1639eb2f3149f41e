"""Mails are announced while they come, by clients that were quick; nobody stays announced who went away.

The clock stands still, so every client is quick.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from monsal.ingress.smtp import SmtpIngress
from monsal.store.coming import Coming, Waits

Run = Callable[[Callable[[], Awaitable[None]]], None]


class Intake:
    """A fake one that stands before a store that waits."""

    def __init__(self, fake: Any) -> None:
        self.coming = Coming()
        self.accepts, self.screen, self.accept = fake.accepts, fake.screen, fake.accept


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("monsal.ingress.connection.monotonic", lambda: 100.0)


async def quick(client: Any, ingress: SmtpIngress, mails: int = 2) -> Any:
    """A client that has shown by that many mails how quick it is."""
    found = await client.greeted(ingress.addresses[0])
    for number in range(mails):
        assert (await found.mail(f"Subject: {number}\r\n\r\nHello")).startswith("250")
    return found


def test_an_ingress_announces_to_the_store_behind_its_intake(run: Run, smtp: Any, fake_intake: Any) -> None:
    async def test() -> None:
        intake = Intake(fake_intake())
        assert isinstance(intake, Waits)
        async with smtp(intake) as ingress:
            assert ingress.coming is intake.coming
        async with smtp(fake_intake()) as ingress:
            assert ingress.coming.senders == 0

    run(test)


def test_a_mail_is_announced_from_the_answer_to_the_last_one(
    run: Run, smtp: Any, fake_intake: Any, client: Any
) -> None:
    async def test() -> None:
        async with smtp(Intake(fake_intake())) as ingress:
            first = await quick(client, ingress, 1)
            assert ingress.coming.senders == 0
            await first.start_mail()
            assert ingress.coming.senders == 1
            first.send(b"Subject: 2\r\n\r\nHello\r\n.\r\n")
            assert (await first.reply()).startswith("250")
            assert ingress.coming.senders == 1
            await first.start_mail()
            assert ingress.coming.senders == 1

    run(test)


@pytest.mark.parametrize("command", ["one by one", "many recipients", "at once"])
def test_however_a_mail_is_begun(run: Run, smtp: Any, fake_intake: Any, client: Any, command: str) -> None:
    async def test() -> None:
        async with smtp(Intake(fake_intake())) as ingress:
            found = await quick(client, ingress, 1)
            if command == "one by one":
                for line in ("MAIL FROM:<ann@example.com>", "RCPT TO:<order@example.org>", "DATA"):
                    assert ingress.coming.senders == 0
                    await found.say(line)
            else:
                await found.start_mail(*(["a@example.org", "b@example.org"] if "many" in command else []))
            assert ingress.coming.senders == 1

    run(test)


@pytest.mark.parametrize("way", ["quit", "hang up", "reset", "half a mail", "a large mail", "stop"])
def test_nobody_stays_announced_who_went_away(run: Run, smtp: Any, fake_intake: Any, client: Any, way: str) -> None:
    async def test() -> None:
        async with smtp(Intake(fake_intake())) as ingress:
            found = await quick(client, ingress)
            assert ingress.coming.senders == 1
            if way == "quit":
                await found.say("QUIT")
            elif way == "half a mail":
                await found.start_mail()
                found.send(b"Subject: half")
                found.hang_up()
            elif way == "a large mail":
                await found.start_mail()
                found.send(b"x" * 100_000)
            elif way == "reset":
                found.reset()
            elif way == "hang up":
                found.hang_up()
            else:
                await ingress.stop(1.0)
            # Whoever connects and is greeted afterwards was read later than that.
            while ingress.coming.senders:
                await (await client.connect(ingress.addresses[0])).reply()

    run(test)


def test_a_client_that_went_away_while_its_mail_was_stored_is_not_waited_for(
    run: Run, smtp: Any, fake_intake: Any, client: Any
) -> None:
    async def test() -> None:
        fake = fake_intake()
        intake, stored = Intake(fake), asyncio.Event()
        stored.set()

        async def accept(envelope: Any, body: tuple[bytes, ...]) -> Any:
            await stored.wait()
            return await fake.accept(envelope, body)

        intake.accept = accept
        async with smtp(intake) as ingress:
            found = await quick(client, ingress)
            stored.clear()
            await found.start_mail()
            found.send(b"Subject: 3\r\n\r\nHello\r\n.\r\n")
            while not ingress.statistics().busy:
                await asyncio.sleep(0.001)
            found.reset()
            while ingress.statistics().connections:
                await asyncio.sleep(0.001)
            stored.set()
            while ingress.statistics().accepted < 3:
                await asyncio.sleep(0.001)
            assert ingress.coming.senders == 0

    run(test)
