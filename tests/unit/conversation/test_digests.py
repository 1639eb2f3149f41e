"""Digests of mails that come in: those of large ones beside the loop, one at a time."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

import pytest

import monsal.conversation.digests as digests
from monsal.conversation.digests import Digests
from monsal.mail import digest_below_received, first_bytes

_HEAD = b"Received: from here\r\nFrom: ann@example.com\r\nMessage-ID: <1@example.com>\r\n\r\n"
_LARGE = (_HEAD, *(b"x" * 262_144 for _ in range(3)))


class Taken:
    """Takes digests when it is let; writes down on which threads, and how many at once."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.begun = threading.Event()
        self.threads: list[int] = []
        self.at_once = self.most = 0

    def __call__(self, body: Sequence[bytes], first: bytes) -> bytes:
        self.threads.append(threading.get_ident())
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        self.begun.set()
        assert self.go.wait(30)
        self.at_once -= 1
        return digest_below_received(body, first)


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> Taken:
    watched = Taken()
    monkeypatch.setattr(digests, "digest_below_received", watched)
    return watched


async def _of(taker: Digests, body: tuple[bytes, ...]) -> bytes:
    return await taker.of(body, first_bytes(body))


@pytest.mark.parametrize("body", [(_HEAD + b"small\r\n",), _LARGE], ids=["small", "large"])
def test_it_is_the_digest_below_received(body: tuple[bytes, ...]) -> None:
    assert asyncio.run(_of(Digests(), body)) == digest_below_received(body)


def test_of_a_small_mail_it_is_taken_at_once(taken: Taken) -> None:
    taken.go.set()

    asyncio.run(_of(Digests(), (_HEAD,)))

    assert taken.threads == [threading.get_ident()]


def test_the_loop_goes_on_while_that_of_a_large_mail_is_taken(taken: Taken) -> None:
    """P7: a huge mail never stops another connection."""

    async def test() -> None:
        waiting = asyncio.create_task(_of(Digests(), _LARGE))
        assert await asyncio.to_thread(taken.begun.wait, 30)
        # Were it taken here, this line would not be reached before its time was up.
        taken.go.set()

        assert await waiting == digest_below_received(_LARGE)
        assert taken.threads != [threading.get_ident()]

    asyncio.run(test())


def test_those_of_large_mails_are_taken_one_after_the_other(taken: Taken) -> None:
    async def test() -> None:
        taker = Digests()
        waiting = [asyncio.create_task(_of(taker, _LARGE)) for _ in range(5)]
        assert await asyncio.to_thread(taken.begun.wait, 30)
        taken.go.set()

        assert set(await asyncio.gather(*waiting)) == {digest_below_received(_LARGE)}
        assert (len(taken.threads), taken.most) == (5, 1)

    asyncio.run(test())
