"""A coroutine that is begun outside of its task goes on in it as if it had been awaited from its first step."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Coroutine
from typing import Any

import pytest

from monsal.loops import go_on, new_loop


def _begun(work: Coroutine[Any, Any, Any]) -> Coroutine[Any, Any, Any]:
    async def rest() -> Any:
        return await go_on(work, work.send(None))

    return rest()


def test_it_gives_what_the_coroutine_returns_after_all_its_waits() -> None:
    async def work() -> str:
        for _ in range(3):
            await asyncio.sleep(0)
        return await asyncio.wait_for(asyncio.sleep(0, "done"), 5)

    async def main() -> str:
        return str(await _begun(work()))

    assert asyncio.run(main()) == "done"


def test_it_raises_what_the_coroutine_raises() -> None:
    async def work() -> None:
        await asyncio.sleep(0)
        raise ValueError("no")

    async def main() -> None:
        await _begun(work())

    with pytest.raises(ValueError, match="no"):
        asyncio.run(main())


def test_cancellation_reaches_what_the_coroutine_waits_for() -> None:
    heard = []

    async def work() -> str:
        future = asyncio.get_running_loop().create_future()
        try:
            await future
        except asyncio.CancelledError:
            heard.append(future.cancelled())
            return "ended in order"
        return "never"

    async def main() -> Any:
        task = asyncio.create_task(_begun(work()))
        await asyncio.sleep(0)
        task.cancel()
        return await task

    assert asyncio.run(main()) == "ended in order"
    assert heard == [True]


def test_closing_it_closes_the_coroutine() -> None:
    heard = []

    async def work() -> None:
        try:
            await asyncio.sleep(0)
        finally:
            heard.append("closed")

    rest = _begun(work())
    rest.send(None)
    rest.close()
    assert heard == ["closed"]


@pytest.mark.parametrize("there", [True, False])
def test_the_loop_is_that_of_uvloop_if_it_is_there(there: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not there:
        monkeypatch.setitem(sys.modules, "uvloop", None)
    loop = new_loop()
    try:
        assert type(loop).__module__.startswith("uvloop") is there
    finally:
        loop.close()
