"""The conformance kit for those who write a store: does it keep what `monsal.store.contract` promises? (state.B13)

    from monsal.testing.checks import check_store

    check_store(lambda place: MyStore(place / "my.db"))

It needs no test framework: it returns, or raises AssertionError with a sentence that says what is wrong. `STORE_CHECKS`
are the single checks, to be run one by one with `run_check`. `check_storage` does the same for a storage of states
with the three methods get, set and clear.
"""

from __future__ import annotations

import asyncio
import inspect
import tempfile
from pathlib import Path
from types import ModuleType

from monsal.testing.kit import identity, outbox, restart, returned, spool, storage, turns, upkeep
from monsal.testing.kit.lab import Check, Crash, Lab, StoreFactory
from monsal.testing.kit.storage import StorageFactory

__all__ = [
    "STORAGE_CHECKS",
    "STORE_CHECKS",
    "Check",
    "Crash",
    "Lab",
    "StorageFactory",
    "StoreFactory",
    "check_storage",
    "check_store",
    "run_check",
]


def _checks_of(*modules: ModuleType) -> tuple[Check, ...]:
    found = [getattr(module, name) for module in modules for name in module.__all__]
    return tuple(check for check in found if inspect.iscoroutinefunction(check))


STORE_CHECKS: tuple[Check, ...] = _checks_of(spool, turns, identity, outbox, returned, upkeep, restart)

STORAGE_CHECKS = (
    storage.gives_start_for_the_unknown,
    storage.gives_what_was_set,
    storage.deletes_start,
    storage.keeps_pairs_apart,
    storage.survives_threads,
)


def run_check(check: Check, factory: StoreFactory, *, crash: Crash | None = None) -> None:
    """Run one check on a fresh store at a fresh place. Raises AssertionError."""

    async def body(place: Path) -> None:
        lab = Lab(factory, place, crash)
        await lab.store.open()
        try:
            async with asyncio.timeout(60):
                await check(lab)
        finally:
            await lab.store.close()

    with tempfile.TemporaryDirectory(prefix="monsal-check-") as place:
        asyncio.run(body(Path(place)))


def check_store(factory: StoreFactory, *, crash: Crash | None = None) -> None:
    """Check a store. Raises AssertionError with what it does wrong, after the name of the check.

    `factory(place)` gives a store over what is in the directory `place`, not opened: the same place again is a
    restart. `crash(store)` ends one as a kill of its process would, without flushing; without it, crashes are not
    checked. What a store does not promise (`capabilities`) is not asked of it.
    """
    for check in STORE_CHECKS:
        try:
            run_check(check, factory, crash=crash)
        except AssertionError as error:
            raise AssertionError(f"{getattr(check, '__name__', check)}: {error}") from error


def check_storage(factory: StorageFactory, *, processes: int = 0) -> None:
    """Check a storage of states with get, set and clear (rules state.R2 to R9, R21).

    `factory()` gives one over the same place each time. With `processes`, that many write at once; `factory` must
    then be something that can be sent to them (a function of a module, a `functools.partial`).
    """
    for check in STORAGE_CHECKS:
        factory().clear()
        check(factory)
    factory().clear()
    if processes:
        storage.survives_processes(factory, processes)
        factory().clear()
