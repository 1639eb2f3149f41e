"""One application in two workers, over links to one store: what each must know of the other."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType

import pytest
from store_links import join

from monsal import App, literal
from monsal.clock import ManualClock
from monsal.conversation.ports import Delivered, Outcome, RelayMail
from monsal.engine import Engine
from monsal.mail import Envelope
from monsal.store import MemoryStore, RemoteStore, StoreHost

Make = Callable[[str], ModuleType]


class Kept:
    """A relay that keeps what it is given, as pairs of recipients and Message-ID."""

    def __init__(self) -> None:
        self.mails: list[RelayMail] = []

    async def send(self, mails: Sequence[RelayMail]) -> list[list[Outcome]]:
        self.mails += mails
        return [[Delivered("250 kept") for _ in mail.recipients] for mail in mails]

    async def close(self) -> None:
        """Nothing to give back."""


async def engine(module: ModuleType, host: StoreHost, name: str, clock: ManualClock, place: Path) -> Engine:
    app = App(module, captures={"host": literal("example.com")})
    app.load()
    store = RemoteStore()
    made = Engine(
        app.parts(),
        directory=place,
        settings=app.settings(place, environ={}).settings,
        clock=clock,
        store=store,
        relay=Kept(),
    )
    await join(store, host, name)
    await made.open()
    return made


@pytest.mark.parametrize("handlers", [1, 2])
def test_a_loop_ends_after_ten_replies_an_hour_whoever_sent_them(module: Make, tmp_path: Path, handlers: int) -> None:
    more = '@stateless\n@route("desk@(host)")\ndef ALSO(message):\n    reply("And")\n' if handlers == 2 else ""
    desk = module(f'{more}@route("desk@(host)")\ndef START(message):\n    reply("Hello")')

    async def body() -> None:
        clock = ManualClock()
        host = StoreHost(MemoryStore(), now=clock.now)
        await host.open()
        one, two = [await engine(desk, host, name, clock, tmp_path) for name in ("one", "two")]

        async def hear(worker: Engine, who: str, number: int) -> None:
            envelope = Envelope(sender=who, recipients=("desk@example.com",))
            await worker.spool.accept(envelope, (f"From: {who}\r\nSubject: {number}\r\n\r\nhi\r\n".encode(),))
            await worker.settle()

        def sent_to(who: str) -> int:
            return sum(who in mail.recipients for worker in (one, two) for mail in worker.relay.mails)

        for number in range(15):
            await hear((one, two)[number % 2], "ann@example.net", number)
        await hear(one, "bob@example.net", 1)
        assert sent_to("ann@example.net") == 10
        assert sent_to("bob@example.net") == handlers
        clock.advance(3600.0)
        await hear(two, "ann@example.net", 99)
        assert sent_to("ann@example.net") == 10 + handlers
        for worker in (one, two):
            await worker.close()
        await host.close()

    asyncio.run(body())
