"""Both built-in stores pass the kit that is given to others (rule state.B13)."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest

from monsal.store import MemoryStore, SqliteStore
from monsal.store.contract import Store
from monsal.testing import checks
from monsal.testing.checks import Check


def sqlite(place: Path) -> Store:
    return SqliteStore(place / "run" / "monsal.db")


def memory(place: Path) -> Store:
    return MemoryStore()


async def crash(store: Store) -> None:
    await cast(SqliteStore, store).abandon()


@pytest.mark.rule("state.B13")
@pytest.mark.parametrize("check", checks.STORE_CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("factory", [sqlite, memory])
def test_a_store_keeps_its_promises(factory: checks.StoreFactory, check: Check) -> None:
    checks.run_check(check, factory, crash=crash)
