"""Storages with three methods: get, set, clear."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from monsal.store.states import Storage
from monsal.testing.kit.lab import expect
from monsal.testing.kit.turns import HOSTILE

__all__ = [
    "StorageFactory",
    "deletes_start",
    "gives_start_for_the_unknown",
    "gives_what_was_set",
    "keeps_pairs_apart",
    "survives_processes",
    "survives_threads",
]

StorageFactory = Callable[[], Storage]


def gives_start_for_the_unknown(factory: StorageFactory) -> None:
    storage = factory()
    expect(storage.get("nobody", "ever@x") == "START", "an unknown pair is START")
    expect(storage.get("nobody", "ever@x") == "START", "also when it is asked for again")


def gives_what_was_set(factory: StorageFactory) -> None:
    storage = factory()
    for state in ("FIRST", "SECOND", "ERROR", "ZUSTAND_Ä"):
        storage.set("machine", "ann@x", state)
        expect(storage.get("machine", "ann@x") == state, f"get gives {state} after it was set")
        expect(type(storage.get("machine", "ann@x")) is str, "a state is a plain string")


def deletes_start(factory: StorageFactory) -> None:
    storage = factory()
    storage.set("machine", "ann@x", "START")
    expect(storage.get("machine", "ann@x") == "START", "START can be set where nothing was")
    storage.set("machine", "ann@x", "A")
    storage.set("machine", "ann@x", "START")
    expect(storage.get("machine", "ann@x") == "START", "START can be set again")


def keeps_pairs_apart(factory: StorageFactory) -> None:
    storage = factory()
    for number, pair in enumerate(HOSTILE):
        storage.set(*pair, f"S{number}")
    for number, pair in enumerate(HOSTILE):
        found = storage.get(*pair)
        expect(found == f"S{number}", f"{pair!r} has the state {found}, not S{number}: two pairs were merged")
    storage.clear()
    for pair in HOSTILE:
        expect(storage.get(*pair) == "START", f"after clear {pair!r} is START")


def survives_threads(factory: StorageFactory) -> None:
    storage = factory()
    faults: list[BaseException] = []

    def work(thread: int) -> None:
        try:
            for number in range(25):
                storage.set(f"m{number}", f"t{thread}@x", f"S{number}")
                expect(storage.get(f"m{number}", f"t{thread}@x") == f"S{number}", "a thread reads what it wrote")
        except BaseException as error:  # noqa: BLE001 - reported below, in the thread of the check
            faults.append(error)

    threads = [threading.Thread(target=work, args=(thread,)) for thread in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    expect(not faults, f"threads disturbed one another: {faults[:1]}")
    lost = [(t, n) for t in range(4) for n in range(25) if storage.get(f"m{n}", f"t{t}@x") != f"S{n}"]
    expect(not lost, f"{len(lost)} of 100 writes of threads are lost")


def survives_processes(factory: StorageFactory, processes: int) -> None:
    """Distinct keys from several processes (rule state.B2: 72 of 200 survived in the original)."""
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        for future in [pool.submit(_write, factory, process) for process in range(processes)]:
            future.result()
    storage = factory()
    lost = [(p, n) for p in range(processes) for n in range(50) if storage.get(f"m{n}", f"p{p}@x") != f"S{n}"]
    expect(not lost, f"{len(lost)} of {processes * 50} writes of processes are lost")


def _write(factory: StorageFactory, process: int) -> None:
    storage = factory()
    for number in range(50):
        storage.set(f"m{number}", f"p{process}@x", f"S{number}")
