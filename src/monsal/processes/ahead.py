"""The interpreters of a server's processes, begun before anything else of it: their imports are most of its start."""

from __future__ import annotations

import os
from typing import Final

from monsal.actors.interpreter import Interpreter
from monsal.processes.plan import STORE_GROUP, WORKERS

__all__ = ["begin_ahead"]

_STORE: Final = ("monsal.processes.storekeeper",)
#: The second is what the application's own code will import.
_WORKER: Final = ("monsal.processes.worker", "monsal.app")


def begin_ahead(workers: int) -> dict[str, Interpreter]:
    """Start the interpreter of the store process and those of so many workers, as far as there are processors for them.

    To be called on the main thread. They import what they need while this process does, and are taken by whoever starts
    actors of those names. What cannot be started now is started then, or that is told then.
    """
    wanted: dict[str, tuple[str, ...]] = {f"{STORE_GROUP}-1": _STORE}
    # Further ones would take the processors from those that somebody waits for.
    for number in range(1, min(workers, os.cpu_count() or 1) + 1):
        wanted[f"{WORKERS}-{number}"] = _WORKER
    begun: dict[str, Interpreter] = {}
    for name, imports in wanted.items():
        try:
            begun[name] = Interpreter(name, imports=imports)
        except OSError:
            return begun
    return begun
