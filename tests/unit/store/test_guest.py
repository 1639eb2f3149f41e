"""A worker as the store process sees it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from store_links import setup_of

from monsal.store import MemoryStore, RemoteStore
from monsal.store.contract import Claimed
from monsal.store.engine import spool
from monsal.store.guest import Guest
from monsal.testing.kit.lab import Lab
from monsal.transport import LinkSetup, link_pair


def test_a_result_that_came_with_the_death_of_its_worker_is_taken_back(tmp_path: Path) -> None:
    """The engine has given the row; before it can be told to the worker, that one is gone."""

    async def body() -> None:
        store = MemoryStore()
        await store.open()
        lab = Lab(lambda _: store, tmp_path, None)
        await lab.accept()
        calls: list[Any] = []
        _, link = link_pair(setup_of(RemoteStore()), LinkSetup(on_call=calls.append), names=("worker", "store"))
        guest = Guest(store, link, 1, store.next_work)
        future: asyncio.Future[list[Claimed]] = asyncio.get_running_loop().create_future()
        guest.reply(7, future, undo=spool.give_back)
        future.set_result(await lab.claim())
        guest.leave()
        assert await lab.claim() == []
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert len(await lab.claim()) == 1
        await store.close()

    asyncio.run(body())
