"""What a fleet says of itself: gathered from its processes, in the words that a server in one process uses."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, Protocol

from monsal.actors import ActorRef, Died, Happening
from monsal.config import Settings, mask_secrets
from monsal.errors import RemoteError
from monsal.ingress import Doors
from monsal.memory import memory_of
from monsal.outline import Doing
from monsal.processes.supervisor import Supervisor

__all__ = ["FleetView", "added"]

#: Seconds that a process has to tell how it is: one that is busier than that is told of as such.
_PATIENCE: Final = 2.0
#: Seconds between two looks at all of them, for the watchdog and the units' health.
_LOOK: Final = 20.0
#: Ends of processes that are remembered, for `monsal workers`.
_REMEMBERED: Final = 256


class _Fleet(Protocol):
    """What is looked at."""

    @property
    def supervisor(self) -> Supervisor | None: ...
    def members(self) -> list[ActorRef]: ...


class FleetView:
    """What the processes of one fleet say, and what was last heard of each."""

    def __init__(
        self, fleet: _Fleet, directory: Path, settings: Settings, doors: Callable[[], Doors], first: int
    ) -> None:
        self._fleet = fleet
        self._directory = directory
        self._settings = settings
        self._doors = doors
        #: The generation that the server is in its first one of workers.
        self._first = first
        #: What each told last, by its id.
        self._told: dict[str, dict[str, Any]] = {}
        self._deaths: deque[tuple[str, int, str]] = deque(maxlen=_REMEMBERED)
        self._done_before = 0

    def happened(self, happening: Happening) -> None:
        """Something happened to a process."""
        if isinstance(happening, Died):
            told = self._told.pop(happening.ref.aid, None)
            self._done_before += 0 if told is None else told["done"]
            if happening.cause.is_abnormal:
                self._deaths.append((happening.ref.name, happening.ref.generation, str(happening.cause)))

    def forget(self, generation: int) -> None:
        """A generation of workers did not come to be: how its processes ended was told to whoever wanted it."""
        kept = [end for end in self._deaths if end[1] != generation]
        self._deaths = deque(kept, maxlen=_REMEMBERED)

    async def watch(self) -> None:
        """Ask now and then, for those who want to know how it is without waiting for an answer."""
        while True:
            await asyncio.sleep(_LOOK)
            await self.refresh()

    def store_doing(self) -> str:
        return mask_secrets(self._settings.store)

    def addresses(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {"smtp": [], "lmtp": [], "http": [], "rpc": []}
        for door in self._doors():
            places = found.setdefault(door.protocol, [])
            places += [address.removeprefix(f"{self._directory}/") for address in door.addresses]
        for told in self._told.values():
            found["rpc"] += told["addresses"]["rpc"]
        return found

    def notes(self) -> list[str]:
        """Settings of the code that serves which only the supervisor can take up."""
        settings = self._settings
        ours = {
            "store": settings.store,
            "ingress": list(settings.ingress),
            "http": list(settings.http),
            "workers": settings.workers,
        }
        known = (self._told.get(ref.aid) for ref in self._fleet.members())
        told = next((each["fixed"] for each in known if each is not None), ours)
        changed = ", ".join(name for name, value in ours.items() if told[name] != value)
        return [f"the setting {changed} was changed; `monsal restart` takes that up"] if changed else []

    def example(self) -> str:
        return next((told["example"] for told in self._told.values()), "ADDRESS")

    async def refresh(self) -> None:
        """Ask all processes how they are."""
        supervisor = self._fleet.supervisor
        if supervisor is None:
            return

        async def ask(ref: ActorRef) -> None:
            # What it told last stays, if it does not answer; `workers` says since when it gives no sign of life.
            with contextlib.suppress(RemoteError):
                self._told[ref.aid] = await supervisor.ask(ref, "figures", timeout=_PATIENCE)

        await asyncio.gather(*map(ask, self._fleet.members()))

    async def figures(self) -> dict[str, Any]:
        await self.refresh()
        total: dict[str, Any] = {}
        for told in self._told.values():
            added(total, told["figures"])
        return total

    async def workers(self) -> list[dict[str, Any]]:
        """Each process: the store's, the workers, the spare, those of the application."""
        await self.refresh()
        supervisor = self._fleet.supervisor
        if supervisor is None:
            return []
        rows = []
        for known in supervisor.everybody():
            told = self._told.get(known.ref.aid, {})
            ref = known.ref
            ends = [end for name, number, end in self._deaths if (name, number) == (ref.name, ref.generation)]
            rows.append(
                {
                    "name": known.ref.name or f"{known.ref.group} (spare)",
                    "pid": known.pid,
                    "generation": told.get("generation", self._first + known.ref.generation - 1),
                    "state": known.state,
                    "uptime": round(known.uptime, 1),
                    "turns": told.get("done", 0),
                    "memory": memory_of(known.pid),
                    "restarts": len(ends),
                    "last_end": ends[-1] if ends else "",
                    "silent": round(known.silent, 1),
                    "doing": told.get("doing", {}).get("workers", "") or "; ".join(known.doing),
                }
            )
        return rows

    def progress(self) -> tuple[int, float] | None:
        supervisor = self._fleet.supervisor
        if supervisor is None:
            return None
        due = supervisor.store.next_work()
        done = self._done_before + sum(told["done"] for told in self._told.values())
        return done, 0.0 if due is None else time.time() - due

    def tell(self, part: str) -> Doing:
        told = list(self._told.values())
        health = [said for each in told if (said := each["health"].get(part))]
        doing = [said for each in told if (said := each["doing"].get(part))]
        return Doing(doing="; ".join(doing), health="; ".join(health) or None)


def added(total: dict[str, Any], more: Mapping[str, Any]) -> None:
    """Add figures to a total: numbers are summed up, texts and lists are kept once, mappings go on inside."""
    for name, value in more.items():
        if isinstance(value, Mapping):
            added(total.setdefault(name, {}), value)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            total[name] = total.get(name, 0) + value
        elif value or name not in total:
            total[name] = value
