"""The arbiter of a server: gives its children the listening sockets and connections to the store."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Coroutine
from itertools import count
from typing import Any, Final

from monsal.actors import (
    ActorRef,
    Arbiter,
    CommandRequest,
    RecordStatistics,
    UnknownActor,
    command,
)
from monsal.actors.happenings import Died, Happening, Started
from monsal.actors.interpreter import Interpreter
from monsal.backoff import exponential
from monsal.errors import MonsalError, RemoteError
from monsal.ingress import Doors
from monsal.processes.links import CLIENT, STORE, store_link
from monsal.processes.plan import STORE_GROUP, WORKERS
from monsal.store.remote import RemoteStore

__all__ = ["Supervisor"]

log = logging.getLogger("monsal.processes")

#: What the supervisor is called by the store.
_SERVER: Final = "server"
#: Seconds to wait for a store process that is being started again.
_STORE_BACK: Final = 240.0
#: Seconds before a connection that was not made is tried again, at first and at last.
_AGAIN: Final = 0.1
_AGAIN_LIMIT: Final = 5.0


class Supervisor(Arbiter):
    """Knows the store process and the doors; `store` is its own way to the store, for commands and figures.

    `made` are interpreters that run already, by the names of their actors.
    """

    def __init__(
        self, doors: Callable[[], Doors], on_event: Callable[[Happening], object], made: dict[str, Interpreter]
    ) -> None:
        super().__init__(on_event=self._noted, made=made)
        self._doors = doors
        self._equipped: set[str] = set()
        #: Whether our own way to the store was made.
        self.attached: asyncio.Future[None] = self.switch.loop.create_future()
        self._tell = on_event
        self.store = RemoteStore()
        self._keeper: ActorRef | None = None
        self._keeper_is_there = asyncio.Event()
        self._under_way: set[asyncio.Task[None]] = set()

    # -- the store --------------------------------------------------------------------------------------------

    def _noted(self, happening: Happening) -> None:
        if isinstance(happening, Started) and happening.ref.group == STORE_GROUP:
            self._keeper = happening.ref
            self._keeper_is_there.set()
            living = self._living()
            # One of those that it was told of may have died while it opened the store.
            self._say("living", living)
            for name in (_SERVER, *living):
                self._connect_soon(name)
        elif isinstance(happening, Died) and happening.ref == self._keeper:
            self._keeper = None
            self._keeper_is_there.clear()
        elif isinstance(happening, Died) and happening.ref.aid in self._equipped:
            self._equipped.discard(happening.ref.aid)
            self._say("worker_gone", happening.ref.aid)
        self._tell(happening)

    def _living(self) -> list[str]:
        """The ids of the workers that have been connected to the store."""
        return [record.ref.aid for record in self.switch.records.values() if record.ref.aid in self._equipped]

    def _soon(self, work: Coroutine[Any, Any, None], name: str) -> None:
        task = self.switch.loop.create_task(work, name=name)
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    def _connect_soon(self, name: str) -> None:
        self._soon(self._reconnect(name), f"connects {name} to the store")

    async def _reconnect(self, name: str) -> None:
        keeper = self._keeper
        for tries in count(1):
            try:
                await self.connect(name)
            except (MonsalError, OSError) as error:  # TimeoutError, too, and that there are no more files now
                log.warning("%s is not connected to the store: %s", name, error, extra={"action": "store_link"})
            else:
                return
            await asyncio.sleep(exponential(tries, first=_AGAIN, limit=_AGAIN_LIMIT, jitter=0.5))
            if self._keeper != keeper or name not in (_SERVER, *self._living()):
                # One of the two has died meanwhile: whoever takes its place is connected.
                return

    def _say(self, word: str, told: Any) -> None:
        """Tell the store process, if there is one."""
        if self._keeper is not None:
            self._soon(self._say_to(self._keeper, word, told), f"tells {word}")

    async def _say_to(self, keeper: ActorRef, word: str, told: Any) -> None:
        try:
            await self.tell(keeper, word, told)
        except RemoteError as error:
            # It has died: the next one asks who lives.
            log.info("the store process was not told: %s", error, extra={"action": "store_link"})

    async def connect(self, name: str) -> None:
        """Give the store process and a worker (or this process) the two ends of a connection.

        Raises UnknownActor, ActorDied, what the two say against it, TimeoutError while there is no store process.
        """
        async with asyncio.timeout(_STORE_BACK):
            await self._keeper_is_there.wait()
        keeper = self._keeper
        if keeper is None:
            raise UnknownActor("the store process has just ended")
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            await self.hand_over(keeper, f"{CLIENT}:{name}", ours)
            if name == _SERVER:
                await self.store.attach(await store_link(theirs.dup(), self.store))
                if not self.attached.done():
                    self.attached.set_result(None)
            else:
                await self.hand_over(name, STORE, theirs)
        finally:
            ours.close()
            theirs.close()

    # -- what children ask ------------------------------------------------------------------------------------

    @command(control=True)
    async def equip(self, request: CommandRequest, aid: str) -> None:
        """Give a process that boots a connection to the store, and a worker all doors."""
        await self.connect(aid)
        record = self.switch.records.get(aid)
        if record is None:
            raise UnknownActor(f"{aid} has ended meanwhile")
        self._equipped.add(aid)
        for door in self._doors() if record.ref.group == WORKERS else ():
            for each in door.sockets:
                await self.hand_over(aid, f"door:{door.url}", each)

    @command(control=True)
    def store_is_there(self, request: CommandRequest) -> bool:
        """Whether there is a store process now."""
        return self._keeper is not None

    @command(control=True)
    def living_workers(self, request: CommandRequest) -> list[str]:
        """The names under which workers that live are known to the store."""
        return self._living()

    @command(control=True)
    def replace_worker(self, request: CommandRequest, aid: str) -> None:
        """Start another worker for one in which handlers hang, and end that."""
        record = self.switch.find(aid)
        group = None if record is None else self.switch.groups.get(record.ref.group)
        if record is not None and group is not None:
            log.error("handlers hang in %s; it is replaced", record.ref, extra={"action": "hang"})
            group.recycle(record)

    def everybody(self) -> list[RecordStatistics]:
        """All children: the store process, workers, spares, the application's own actors."""
        return [record.statistics() for record in self.switch.records.values()]
