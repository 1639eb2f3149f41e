"""By which word a link gives a call up at a side that said no hello."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest
from link_world import Run, Watcher, until

from monsal.transport import LinkSetup, link_pair


@pytest.mark.rule("rpc.B4", "rpc.B12")
@pytest.mark.parametrize(
    ("codec", "cancel", "is_told"),
    [
        ("lsp:", None, True),  # who frames so knows $/cancelRequest
        ("lsp:", "", False),
        ("jrpc:\n", None, False),
        ("jrpc:\n", "$/cancelRequest", True),
    ],
)
def test_a_side_that_said_no_hello_is_told_by_the_word_it_knows(
    run: Run, codec: str, cancel: str | None, is_told: bool
) -> None:
    async def scene() -> None:
        watcher = Watcher()
        link, other = link_pair(
            LinkSetup(codec=codec, hello=None, cancel=cancel), watcher.setup(codec=codec, hello=None)
        )
        task = asyncio.ensure_future(link.call("slow", {}))
        await until(lambda: watcher.calls)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        # What is said after it comes after it.
        link.cast("later", {})
        await until(lambda: len(watcher.calls) == 2)
        told: list[Any] = [kind for kind in watcher.kinds if kind == "Cancelled"]
        assert bool(told) is is_told
        link.abort()
        other.abort()
        await asyncio.gather(link.wait_closed(), other.wait_closed())

    run(scene())
