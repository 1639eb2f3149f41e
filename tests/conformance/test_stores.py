"""All built-in stores pass the kit that is given to others (rule state.B13)."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest
from store_links import Bordered, Linked

from monsal.store import MemoryStorage, MemoryStore, ShelveStorage, SqliteStore
from monsal.store.contract import Store
from monsal.testing import checks
from monsal.testing.checks import Check

pytestmark = pytest.mark.evidence


def sqlite(place: Path) -> Store:
    return SqliteStore(place / "run" / "monsal.db")


def memory(place: Path) -> Store:
    return MemoryStore()


def linked(place: Path) -> Store:
    return Linked(place / "run" / "monsal.db")


def bordered(place: Path) -> Store:
    return Bordered(place / "run" / "monsal.db")


async def crash(store: Store) -> None:
    if isinstance(store, Linked | Bordered):
        await store.crash()
    else:
        await cast(SqliteStore, store).abandon()


@pytest.mark.rule("state.B13")
@pytest.mark.parametrize("check", checks.STORE_CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("factory", [sqlite, memory, linked, bordered])
def test_a_store_keeps_its_promises(factory: checks.StoreFactory, check: Check) -> None:
    checks.run_check(check, factory, crash=crash)


@pytest.mark.rule("state.B13", "state.B1", "state.R6", "state.R7", "state.R9", "state.R21")
def test_the_memory_storage_passes_the_kit() -> None:
    storage = MemoryStorage()
    checks.check_storage(lambda: storage)


@pytest.mark.rule("state.B13", "state.B2", "state.B3", "state.R3", "state.R6", "state.R9", "state.R14", "state.R21")
def test_the_shelf_passes_the_kit_with_processes(tmp_path: Path) -> None:
    checks.check_storage(partial(ShelveStorage, str(tmp_path / "run" / "states")), processes=4)


@pytest.mark.rule("state.B13")
def test_the_kit_finds_a_store_that_forgets_and_names_the_check() -> None:
    class Forgetful(MemoryStore):
        async def extend(self, leases: Any, until: float) -> list[bool]:
            return [True for _ in leases]

    with pytest.raises(AssertionError, match=r"extends_leases: only the held lease|lets_an_expired_lease"):
        checks.check_store(lambda place: Forgetful())


@pytest.mark.rule("state.B13")
def test_the_kit_finds_a_storage_that_merges_keys() -> None:
    class Folding(MemoryStorage):
        def key(self, key: str, sender: str) -> str:
            return f"{key} {sender}".lower()

    storage = Folding()
    with pytest.raises(AssertionError, match="two pairs were merged"):
        checks.check_storage(lambda: storage)
