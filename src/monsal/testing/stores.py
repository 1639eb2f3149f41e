"""The store of an application under test: in memory or on a file, in its own order or in that of a seed."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from random import Random
from types import MethodType
from typing import cast

from monsal.store import Claimed, Store
from monsal.store import open as open_store
from monsal.store.engine.face import SqlStore

__all__ = ["open_for_test"]


def open_for_test(url: str, base: Path, tables: Sequence[str], seed: int | None, places: ExitStack) -> Store:
    """The store that a URL names, not opened yet; `sqlite` is a file that goes when `places` are closed."""
    if url == "sqlite":
        place = Path(places.enter_context(tempfile.TemporaryDirectory(prefix="monsal-test-")))
        url = f"sqlite:///{place / 'monsal.db'}"
    store = open_store(url, base=base, tables=tables)
    if seed is not None:
        _claim_by_seed(cast(SqlStore, store), Random(seed))
    return store


def _claim_by_seed(store: SqlStore, random: Random) -> None:
    """Have the store give one row at a time: of the queues that are ready, the one that the seed decides."""
    plain = store.claim

    async def claim(self: SqlStore, limit: int, now: float, lease: float) -> list[Claimed]:
        if self.core.data is not None:
            self.core.data.schedule.shuffle(random, now)
        return await plain(min(limit, 1), now, lease)

    store.claim = MethodType(claim, store)  # type: ignore[method-assign]  # of this one store only
