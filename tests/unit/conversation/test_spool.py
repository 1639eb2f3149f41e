"""The way in, by itself: what is done before the client has its answer, and what after it."""

from __future__ import annotations

import asyncio
import logging
import sys
from typing import Any

import pytest

from monsal.clock import SystemClock
from monsal.conversation import Spool
from monsal.mail import Envelope
from monsal.routing import Router, literal, route, stateless
from monsal.store import MemoryStore

_HEAD = b"From: ann@example.org\r\nMessage-ID: <%d@example.org>\r\n\r\n"
_ENVELOPE = Envelope(sender="ann@example.org", recipients=("help@example.com",))


@stateless
@route("help@(host)")
def TAKEN(message: Any) -> None:
    """The route of the one address."""


async def opened() -> tuple[Spool, MemoryStore]:
    router = Router()
    router.defaults(host=literal("example.com"))
    router.load([sys.modules[__name__]])
    store = MemoryStore()
    await store.open()
    return Spool(store, router, SystemClock()), store


def test_the_client_does_not_wait_for_the_line_of_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "monsal.spool")

    async def test() -> None:
        spool, store = await opened()
        receipt = await spool.accept(_ENVELOPE, (_HEAD % 1 + b"hello\r\n",))
        assert (receipt.duplicates, caplog.messages) == ((False,), [])
        await asyncio.sleep(0)
        assert caplog.messages == ["stored <1@example.org> from ann@example.org for help@example.com"]
        await store.close()

    asyncio.run(test())


@pytest.mark.parametrize("octets", [10, 300_000], ids=["small", "large"])
def test_a_mail_that_comes_again_is_a_duplicate_whatever_its_size(octets: int) -> None:
    """DESIGN 4, *Duplicates*: what is below the Received lines is the same."""

    async def test() -> None:
        spool, store = await opened()
        pieces = (_HEAD % 2, b"x" * octets, b"y" * octets)
        first = await spool.accept(_ENVELOPE, pieces)
        again = await spool.accept(_ENVELOPE, (b"Received: by another way\r\n" + pieces[0], *pieces[1:]))
        other = await spool.accept(_ENVELOPE, (*pieces, b"z"))

        assert (first.duplicates, again.duplicates, other.duplicates) == ((False,), (True,), (False,))
        assert again.ids == first.ids
        await store.close()

    asyncio.run(test())
