"""A message does not outlive its turn, whatever became of that: it may be large, and there may be many."""

from __future__ import annotations

import gc
import time
import weakref
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import pytest

from monsal.conversation.circles import Circles
from monsal.mail import Message
from monsal.testing import TestClient

Make = Callable[[str], ModuleType]
Play = Callable[..., TestClient]

ANN = "ann@example.net"
DESK = "desk@example.com"


@pytest.fixture
def uncollected() -> Iterator[None]:
    """Python looks for no circles: what is dead ends with its last use, or never."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


class Seen:
    """Notes the messages that handlers are given, without keeping them."""

    def __init__(self) -> None:
        self.messages: list[weakref.ref[Message]] = []

    def __call__(self, message: Message) -> None:
        self.messages.append(weakref.ref(message))

    def left(self) -> list[Message]:
        """Those that are still there when the handlers' threads have had time to let go of them."""
        end = time.monotonic() + 5.0
        while any(each() is not None for each in self.messages) and time.monotonic() < end:
            time.sleep(0.001)
        return [message for each in self.messages if (message := each()) is not None]


HANDLER = """
@route("desk@(host)")
{kind} START(message):
    calls[0](message)
    {body}
{more}
"""
MADE_HERE = {
    "returns": "reply('yes')",
    "raises": "raise ValueError('no')",
    "is tried again": "raise Retry(after=5)",
    "rejects": "reject(550, 'no')",
    "writes nonsense": "current().write('insert into nowhere values (1)')",
    "returns nonsense": "return 17",
    "makes a mail that cannot be": "reply('yes', headers={'Subject': 'a\\nb'})",
}


@pytest.mark.usefixtures("uncollected")
@pytest.mark.parametrize("kind", ["def", "async def"])
@pytest.mark.parametrize("body", MADE_HERE.values(), ids=MADE_HERE)
@pytest.mark.parametrize("more", ["", "def ERROR(message): ...", "def ERROR(message): raise KeyError('neither')"])
def test_a_message_ends_with_its_turn(module: Make, play: Play, kind: str, body: str, more: str) -> None:
    seen = Seen()
    desk = module(HANDLER.format(kind=kind, body=body, more=more))
    desk.calls.append(seen)
    mail = play(desk)
    mail.deliver("hello", to=DESK, sender=ANN)
    mail.deliver("hello", to=DESK, sender="bob@example.net")
    assert len(seen.messages) == 2
    assert not seen.left()


@pytest.mark.usefixtures("uncollected")
@pytest.mark.parametrize(
    "source",
    [
        "def START(message):\n    calls[0](message)\n    current().read('select * from nowhere')",
        "async def START(message):\n    calls[0](message)\n    await current().read_async('select * from nowhere')",
    ],
)
def test_a_message_ends_with_a_turn_that_cannot_read(module: Make, play: Play, source: str) -> None:
    seen = Seen()
    desk = module(f'@route("desk@(host)")\n{source}\n')
    desk.calls.append(seen)
    play(desk).deliver("hello", to=DESK, sender=ANN)
    assert len(seen.messages) == 1
    assert not seen.left()


@pytest.mark.usefixtures("uncollected")
def test_a_message_ends_with_a_key_that_cannot_be_made(module: Make, play: Play) -> None:
    seen = Seen()
    desk = module(
        """
        @state_key_generator
        def key(name, message):
            calls[0](message)
            raise ValueError("no key")

        @route("desk@(host)")
        def START(message): ...
        """
    )
    desk.calls.append(lambda message: seen(message) if isinstance(message, Message) else None)
    play(desk).deliver("hello", to=DESK, sender=ANN)
    assert seen.messages
    assert not seen.left()


class Circle:
    """Dead as soon as nobody else has it, and kept by itself."""

    def __init__(self) -> None:
        self.me: Any = self


@pytest.mark.parametrize(("octets", "is_there"), [(31 * 1024 * 1024, True), (32 * 1024 * 1024, False)])
def test_circles_are_looked_for_when_they_may_hold_much(octets: int, is_there: bool) -> None:
    gc.collect()
    before = gc.get_threshold()
    gc.set_threshold(1_000_000, 1000, 1000)
    try:
        circles, dead = Circles(), weakref.ref(Circle())
        for _ in range(8):
            circles.may_hold(octets // 8)
        assert (dead() is not None) is is_there
    finally:
        gc.set_threshold(*before)


@pytest.mark.usefixtures("uncollected")
def test_an_application_that_wants_no_search_gets_none() -> None:
    dead = weakref.ref(Circle())
    Circles().may_hold(1 << 30)
    assert dead() is not None


def test_handlers_that_keep_their_errors_do_not_keep_all_mails(module: Make, play: Play) -> None:
    """P7: each leaves a circle with its message, of which the default of a server would let hundreds be."""
    seen = Seen()
    desk = module(
        """
        @route("desk@(host)")
        def START(message):
            try:
                raise ValueError("no")
            except ValueError as error:
                kept = error
            calls[0](message)
            message.raw
        """
    )
    desk.calls.append(seen)
    mail = play(desk)
    gc.collect()
    before = gc.get_threshold()
    gc.set_threshold(1_000_000, 1000, 1000)
    try:
        for number in range(24):
            raw = b"From: %d@example.net\r\nMessage-ID: <%d@example.net>\r\n\r\n" % (number, number) + b"x" * 4_000_000
            mail.deliver(raw=raw, to=DESK, sender=f"{number}@example.net")
        assert len(seen.messages) == 24
        assert sum(each() is not None for each in seen.messages) <= 9
    finally:
        gc.set_threshold(*before)
