"""The application's own actors: what `App(actors=[...])` asks for, started beside the conversations.

troupe = Troupe(specs)
await troupe.start()               # with an arbiter of its own, or in that of a server of several processes
...                                # handlers: await ask("indexer", "add", text)
await troupe.stop()
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

from monsal.actors import ActorSpec, Arbiter, GroupSpec, Monitor
from monsal.actors.life import class_at
from monsal.actors.station import here
from monsal.errors import UsageError
from monsal.memory import memory_of

__all__ = ["Troupe", "check_actors"]


def check_actors(specs: Sequence[ActorSpec | GroupSpec]) -> None:
    """Import the classes of the actors, and see that they take their arguments; nothing is made or started.

    For a process that only checks: where a server runs, the code of an actor is that of its own process. Raises
    ImportFailed, and UsageError for arguments that do not fit.
    """
    for given in specs:
        spec = given.member if isinstance(given, GroupSpec) else given
        made = class_at(spec.actor)
        try:
            inspect.signature(made).bind(**spec.args)
        except TypeError as error:
            raise UsageError(f"the args of the actor {spec.name} do not fit {spec.actor}: {error}") from None


class Troupe:
    """Started and used on the sockets' loop. A spec is a group of one, so each is started again when it ends."""

    def __init__(self, specs: Sequence[ActorSpec | GroupSpec]) -> None:
        self._groups = [spec if isinstance(spec, GroupSpec) else GroupSpec(member=spec) for spec in specs]
        self._own: Arbiter | None = None
        self._monitors: list[Monitor] = []

    async def start(self, arbiter: Arbiter | None = None) -> None:
        """Start all, one after the other. Without an `arbiter` there is one in this process, as which handlers ask.

        Raises SpawnFailed with what their code says; then none is left.
        """
        if arbiter is None:
            self._own = arbiter = Arbiter()
            here.settle(arbiter.station)
        try:
            for group in self._groups:
                self._monitors.append(await arbiter.add_monitor(group.name, group))
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """End all, in reverse order."""
        while self._monitors:
            await self._monitors.pop().close()
        own, self._own = self._own, None
        if own is not None:
            here.settle(None)
            await own.stop()

    async def renew(self) -> None:
        """Have the code as it is now take over, one group after the other. Raises ReloadFailed."""
        for monitor in self._monitors:
            await monitor.replace(wait=False)

    def rows(self) -> list[dict[str, Any]]:
        """Each actor, as plain values, for `monsal workers`."""
        return [
            {
                "name": record.ref.name,
                "pid": record.pid,
                "generation": record.ref.generation,
                "state": record.state,
                "uptime": round(record.uptime, 1),
                "turns": record.turns,
                "memory": memory_of(record.pid),
                "silent": round(record.silent, 1),
                "doing": "; ".join(record.doing),
            }
            for monitor in self._monitors
            for record in monitor.statistics().members
        ]
