"""The store process: the one writer of an SQLite file, for all workers (DESIGN 6)."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from monsal.actors import ARBITER, Actor, command
from monsal.clock import SystemClock
from monsal.conversation import Janitor, Keeping, rows_in
from monsal.errors import StoreLocked
from monsal.logs import set_up_logging
from monsal.memory import collect_seldom
from monsal.processes.links import CLIENT, serve_store
from monsal.processes.pages import page_of, pages
from monsal.store import open as open_store
from monsal.store.engine.face import SqlStore
from monsal.store.host import StoreHost

__all__ = ["StoreKeeper"]

log = logging.getLogger("monsal.store")

#: Seconds that a command, or the store process before this one, may have the store; and between two looks.
_PATIENCE: Final = 10.0
_LOOK_AGAIN: Final = 0.05
#: Seconds in which a worker that lives has come back to the store, or is found to hang and ended.
_BACK: Final = 60.0
#: Seconds within which a signal turns out to be that of the supervisor's end.
_MOMENT: Final = 0.5
#: Seconds that workers have for their last commits when the supervisor is gone.
_ORPHANED: Final = 6.0


class StoreKeeper(Actor):
    """Opens the store, and serves each worker that is introduced.

    `directory` is the application's, `url` that of the store, `tables` the application's own; `keeping` the seconds for
    which bodies and history are kept (None: for ever).
    """

    def __init__(
        self,
        *,
        directory: str,
        url: str,
        tables: Sequence[str],
        log: str,
        log_level: str,
        keeping: Sequence[float | None] = (None, None),
    ) -> None:
        self._directory = Path(directory)
        self._pages = self._directory / "run"
        #: Of whom it was said what they were running, until that is counted.
        self._told: set[str] = set()
        self._url = url
        self._tables = tuple(tables)
        self._keeping = Keeping(bodies=keeping[0], history=keeping[1])
        self._janitor: asyncio.Task[None] | None = None
        self._log = log
        self._log_level = log_level
        self._host: StoreHost | None = None
        self._expected: set[str] = set()

    async def start(self) -> None:
        """Open the store. What ran in workers that are gone is counted before anybody is given a row (P6)."""
        set_up_logging(self._log, self._log_level, process=f"store[{os.getpid()}]")
        living: list[str] = await self.ask(ARBITER, "living_workers")
        known = {*living, *pages(self._pages)}
        store = open_store(self._url, base=self._directory, tables=self._tables)
        assert isinstance(store, SqlStore)
        host = StoreHost(store, running=self._rows_of, counted=self._counted, expect=known, patience=_BACK)
        await _open_when_free(host)
        self._host = host
        self._janitor = asyncio.create_task(Janitor(store, SystemClock(), self._keeping).run())
        self._janitor.add_done_callback(_say_how_it_ended)
        self._expected = set(living)
        for name in known.difference(living):
            host.died(name)
        collect_seldom()

    @command(ack=False, control=True)
    def living(self, request: Any, names: list[str]) -> None:
        """Those of the workers that were expected which still live."""
        for name in self._expected.difference(names):
            self._gone(name)

    @command(ack=False, control=True)
    def worker_gone(self, request: Any, name: str) -> None:
        """A worker has ended: nobody waits for it, and its page is of no more use."""
        self._gone(name)

    def _rows_of(self, name: str) -> list[int]:
        """What a worker was running when it ended without a word. It is said once: several tell of one end."""
        if name in self._told:
            return []
        self._told.add(name)
        return rows_in(page_of(self._pages, name))

    def _counted(self, name: str) -> None:
        """What a worker was running is counted, on the disk: its page is of no more use."""
        page_of(self._pages, name).unlink(missing_ok=True)
        self._told.discard(name)

    def _gone(self, name: str) -> None:
        if self._host is not None:
            self._host.died(name)

    async def introduced(self, purpose: str, sock: Any, peer: Any) -> None:
        """A worker comes, or the supervisor."""
        kind, _, name = purpose.partition(":")
        if kind != CLIENT or self._host is None:
            await super().introduced(purpose, sock, peer)
        else:
            await serve_store(sock, self._host, name)

    async def stopping(self) -> None:
        """Close the store; if the supervisor is gone, after the last commits of the workers."""
        host = self._host
        if host is None:
            return
        if self._janitor is not None:
            self._janitor.cancel()
        if host.statistics().workers and not self.is_orphan:
            # Of a supervisor that was killed the thread that started us may die first: the kernel's signal then comes
            # while that process still has others, and only the end of its link says what it was.
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.station.parent_lost.wait(), _MOMENT)
        if self.is_orphan:
            await self._wait_for_workers(host)
        await host.close()

    async def _wait_for_workers(self, host: StoreHost) -> None:
        """Let those who also lost the supervisor commit what they run, and say goodbye."""
        end = time.monotonic() + _ORPHANED
        while time.monotonic() < end:
            if not host.statistics().workers:
                return
            await asyncio.sleep(_LOOK_AGAIN)


def _say_how_it_ended(janitor: asyncio.Task[None]) -> None:
    """Mail is more important than tidiness: without a janitor the store goes on, and only grows."""
    if not janitor.cancelled() and (error := janitor.exception()) is not None:
        log.critical("nothing is tidied up any more", exc_info=error, extra={"action": "janitor_broke"})


async def _open_when_free(host: StoreHost) -> None:
    """Open the store once nobody else has it. Raises StoreLocked if that takes too long, StoreError."""
    end = time.monotonic() + _PATIENCE
    while True:
        try:
            await host.open()
        except StoreLocked:
            if time.monotonic() > end:
                raise
            await asyncio.sleep(_LOOK_AGAIN)
        else:
            return
