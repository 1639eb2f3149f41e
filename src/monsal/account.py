"""What a server says of itself: to who asks (`monsal status`, `why`, `blame`), and in the files below `run`."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from monsal.bus import Bus, Units, UnitStatistics
from monsal.errors import StoreUnavailable
from monsal.server import Server

__all__ = ["Account", "process_began"]

#: Tells a fresh image of a process when it began: its id, and seconds since 1970.
_BEGAN = "MONSAL_BEGAN"
#: Seconds that the store has to give its figures: less than who asks for them waits.
_STORE = 5.0


class Account:
    """What one server, the units of its life and its bus tell of themselves."""

    def __init__(self, server: Server, bus: Bus, units: Units) -> None:
        self._server = server
        self._bus = bus
        self._units = units
        self._ready_file = server.run_directory / "ready.json"
        self._announced = False
        self._process_began = process_began(server.generation)
        #: When and why the last reload failed, in words; empty if it did not.
        self.failed_reload = ""

    @property
    def announced(self) -> bool:
        """Whether `run/ready.json` says that this server is ready."""
        return self._announced

    def announce(self) -> dict[str, Any]:
        """Write `run/ready.json` in one step: from now on the server is ready."""
        server = self._server
        addresses = server.service.view.addresses()
        facts = {"pid": os.getpid(), "generation": server.generation, **addresses, "control": "run/control.sock"}
        _write(self._ready_file, facts)
        self._announced = True
        return facts

    def withdraw(self) -> None:
        """Say that the server is not ready any more."""
        if self._announced:
            # Not otherwise: the file may be that of another server, which kept this one from starting.
            self._announced = False
            self._ready_file.unlink(missing_ok=True)

    def blame(self) -> dict[str, Any]:
        """What the start of this process took, from its very beginning, and its stop; see `Units.blame`."""
        return self._units.blame(self._process_began)

    def leave_word(self) -> None:
        """Tell the image of the program that will replace this one when it began, for its `blame`."""
        self._bus.execv_environ[_BEGAN] = f"{os.getpid()} {time.time():.6f}"

    def note_the_end(self) -> None:
        """Write down in `run/last-stop.json` how it went: nobody can ask any more."""
        report = self._server.service.report
        facts = {
            "at": time.time(),
            "pid": os.getpid(),
            "restart": self._bus.execv,
            "said": "" if report is None else str(report),
            "drain": None if report is None else msgspec.structs.asdict(report),
            "blame": self.blame(),
        }
        _write(self._server.run_directory / "last-stop.json", facts)

    async def status(self) -> dict[str, Any]:
        """The answer to `monsal status`; without the figures of the store as long as it is not open."""
        server = self._server
        service = server.service
        facts: dict[str, Any] = {
            "ready": self._announced,
            "generation": server.generation,
            "pid": os.getpid(),
            "phase": self._bus.phase.value,
            "units": [_as_json(unit) for unit in self._units.statistics()],
            "health": [
                *self._units.faults(),
                *([self.failed_reload] if self.failed_reload else []),
                *service.view.notes(),
            ],
        }
        try:
            store = service.store
        except StoreUnavailable:
            return facts  # not open yet
        try:
            async with asyncio.timeout(_STORE):
                ledger = await store.ledger()
                outbox = await store.outbox_counts()
        except (StoreUnavailable, TimeoutError) as caught:
            error = caught if str(caught) else f"it does not answer within {_STORE:g} s"
            # Mail is answered with 451 now (P1). Whoever asks reads the figures in the file.
            return {**facts, "ready": False, "health": [f"store: {error}", *facts["health"]]}
        total: dict[str, int] = {}
        for entry in ledger.values():
            for name, value in msgspec.structs.asdict(entry).items():
                total[name] = total.get(name, 0) + value
        return {
            **facts,
            "ledger": total,
            "outbox": outbox,
            "sources": {source: msgspec.structs.asdict(entry) for source, entry in ledger.items()},
            **await service.view.figures(),
        }


def _as_json(unit: UnitStatistics) -> dict[str, Any]:
    return unit._asdict()


def process_began(generation: int = 1, stat: Path = Path("/proc/self/stat")) -> float | None:
    """When this process began, or this image of its program, in seconds since 1970; None where nobody tells.

    The system tells of the process; when a later generation of a server took its place is told by the one before.
    """
    pid, _, at = os.environ.get(_BEGAN, "").partition(" ")
    try:
        if generation > 1:
            return float(at) if pid == str(os.getpid()) else None
        # proc(5): the name in parentheses may hold anything; `starttime`, in ticks since boot, is the 20th word after.
        ticks = int(stat.read_text("utf-8", "replace").rpartition(")")[2].split()[19])
        age = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    except (AttributeError, IndexError, OSError, ValueError):
        return None
    return time.time() - age if ticks > 0 else None  # some that stand in for Linux say 0


def _write(path: Path, facts: Mapping[str, Any]) -> None:
    """Write JSON such that a reader finds all of it, or what was there before."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_bytes(msgspec.json.encode(facts))
    partial.replace(path)
