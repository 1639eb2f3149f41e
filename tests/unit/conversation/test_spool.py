"""The way in, by itself: what is done before the client has its answer, and what after it."""

from __future__ import annotations

import asyncio
import logging
import sys
from pathlib import Path
from typing import Any

import pytest

from monsal.clock import SystemClock
from monsal.conversation import Spool
from monsal.conversation.bounces import BOUNCE_ADDRESS
from monsal.mail import Envelope
from monsal.routing import Router, literal, route, stateless
from monsal.smtp.replies import Refused
from monsal.store import MemoryStore, SqliteStore

_HEAD = b"From: ann@example.org\r\nMessage-ID: <%d@example.org>\r\n\r\n"
_ENVELOPE = Envelope(sender="ann@example.org", recipients=("help@example.com",))


@stateless
@route("help@(host)")
def TAKEN(message: Any) -> None:
    """The route of the one address."""


async def opened(store: Any = None) -> tuple[Spool, Any]:
    router = Router()
    router.defaults(host=literal("example.com"))
    router.load([sys.modules[__name__]])
    store = store or MemoryStore()
    await store.open()
    return Spool(store, router, SystemClock()), store


def test_the_client_does_not_wait_for_the_line_of_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "monsal.spool")

    async def test() -> None:
        spool, store = await opened()
        receipt = await spool.accept(_ENVELOPE, (_HEAD % 1 + b"hello\r\n",))
        assert (receipt.duplicates, caplog.messages) == ((False,), [])
        await asyncio.sleep(0)
        assert caplog.messages == ["stored mail from ann@example.org for help@example.com"]
        await store.close()

    asyncio.run(test())


def test_a_filter_that_raises_takes_no_other_line_of_the_log_along(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "monsal.spool")

    def raises_once(record: logging.LogRecord) -> bool:
        if not errors:
            raise LookupError("the application's filter")
        return True

    errors: list[BaseException | None] = []

    async def test() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: errors.append(context.get("exception")))
        spool, store = await opened()
        for number in range(3):
            await spool.accept(_ENVELOPE, (_HEAD % number,))
        await asyncio.sleep(0.01)
        await store.close()

    logger = logging.getLogger("monsal.spool")
    logger.addFilter(raises_once)
    try:
        asyncio.run(test())
    finally:
        logger.removeFilter(raises_once)
    assert [type(error) for error in errors] == [LookupError]
    assert len(caplog.messages) == 2


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


class Told:
    """A waiter that writes down what it is told."""

    def __init__(self) -> None:
        self.answers: list[Any] = []

    def done(self) -> bool:
        return bool(self.answers)

    def set_result(self, value: Any) -> None:
        self.answers.append(value)

    def set_exception(self, error: Any) -> None:
        self.answers.append(error)


def test_a_mail_is_begun_as_it_is_accepted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The same row, whichever way: the second is a duplicate of the first, and is counted and told of as that."""
    caplog.set_level(logging.INFO, "monsal.spool")

    async def test() -> None:
        spool, store = await opened(SqliteStore(tmp_path / "monsal.db"))
        body = (_HEAD % 1, b"hello\r\n")
        told = Told()
        assert spool.begin_accept(_ENVELOPE, body, told) is told
        while not told.done():
            await asyncio.sleep(0.001)
        again = await spool.accept(_ENVELOPE, body)
        assert (again.ids, again.duplicates) == (told.answers[0].ids, (True,))
        third = Told()
        assert spool.begin_accept(_ENVELOPE, body, third) is third
        while not third.done():
            await asyncio.sleep(0.001)
        assert third.answers == [again]
        found = spool.statistics()
        assert (found.messages, found.rows, found.duplicates) == (3, 1, 2)
        await asyncio.sleep(0)
        line = "stored mail from ann@example.org for help@example.com"
        assert caplog.messages == [line, f"{line} (seen before)", f"{line} (seen before)"]
        rows = await store.read("select sender from v_messages")
        assert len(rows) == 1
        await store.close()

    asyncio.run(test())


def test_what_has_to_wait_for_more_than_the_flush_is_not_begun(tmp_path: Path) -> None:
    async def test() -> None:
        spool, store = await opened(SqliteStore(tmp_path / "monsal.db"))
        assert spool.begin_accept(_ENVELOPE, (_HEAD % 1, b"x" * 200_000), Told()) is None
        bounce = Envelope(sender="", recipients=("help@example.com", f"b+{20 * '0'}.{16 * '0'}@example.com"))
        assert BOUNCE_ADDRESS.match(bounce.recipients[1])
        assert spool.begin_accept(bounce, (_HEAD % 2,), Told()) is None
        with pytest.raises(Refused, match="mail loop"):
            spool.begin_accept(_ENVELOPE, (b"Received: x\r\n" * 51 + _HEAD % 3,), Told())
        assert await store.read("select count(*) from v_messages") == [(0,)]
        await store.close()

    asyncio.run(test())
