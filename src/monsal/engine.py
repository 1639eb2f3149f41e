"""Store, spool, worker and outbox of one application, joined; without sockets.

Here meet the floors that do not know each other: store, routing, conversation, relay. `server.py` puts sockets and a
bus around it; `monsal.testing` drives it by hand.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from monsal.clock import Clock
from monsal.config import Settings
from monsal.conversation import (
    OutboxPump,
    Relay,
    Runner,
    Spool,
    SpoolSettings,
    Templates,
    TurnPage,
    Worker,
    WorkerSettings,
)
from monsal.routing import Router
from monsal.store.contract import Store

__all__ = ["Engine", "Parts"]

log = logging.getLogger("monsal.engine")


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What an App is made of, as far as running it is concerned."""

    router: Router
    states: Any
    tables: Sequence[str]
    templates: Path


class Engine:
    """Store, spool, worker and outbox of one application, joined; without sockets.

    Made, opened, used and closed on one event loop.
    """

    def __init__(
        self,
        parts: Parts,
        *,
        directory: Path,
        settings: Settings,
        clock: Clock,
        store: Store,
        relay: Relay,
        page: Path | None = None,
    ) -> None:
        self.router = parts.router
        self.settings = settings
        self.clock = clock
        self.store = store
        self.relay = relay
        self._page = TurnPage(page)
        self._has_foreign_states = parts.states is not None
        self.runner = Runner(threads=settings.handler_threads, page=self._page)
        self.spool = Spool(
            store,
            parts.router,
            clock,
            SpoolSettings(correspondent=settings.correspondent, max_hops=settings.max_hops),
        )
        self.worker = Worker(
            store,
            self.spool,
            self.runner,
            clock,
            router=parts.router,
            templates=Templates(directory / parts.templates),
            settings=WorkerSettings(
                concurrency=max(settings.claim_batch, settings.handler_threads),
                lease=settings.lease,
                deadline=settings.deadline,
                max_replies=settings.max_replies_per_hour,
                authserv_id=settings.authserv_id,
            ),
            states=parts.states,
        )
        self.pump = OutboxPump(store, relay, clock)
        self._tasks: list[asyncio.Task[None]] = []
        #: Set it to have a drain end at once.
        self.hurry = asyncio.Event()

    async def open(self) -> None:
        """Open the store, and settle who killed the last process (P6)."""
        await self.store.open()
        await self.runner.open()
        if self._has_foreign_states:
            log.warning(
                "states are kept in a storage beside the store: a crash between the two runs a handler again",
                extra={"action": "weaker_promise"},
            )
        suspects = self._page.left_behind()
        if suspects:
            dead = await self.store.killed(suspects, self.clock.now())
            log.warning(
                "the last process ended while it handled the rows %s%s",
                ", ".join(map(str, suspects)),
                f"; {', '.join(map(str, dead))} did so for the third time and are dead letters now" if dead else "",
                extra={"action": "unclean_end", "rows": suspects},
            )

    def start(self, *, on_failure: Callable[[], None] = lambda: None) -> None:
        """Begin to handle messages and to send the outbox, in the background.

        `on_failure()` is called if one of them ends by an error, which only a fault of monsal itself can cause: the
        server must not go on taking mail that nobody handles.
        """

        def ended(task: asyncio.Task[None]) -> None:
            error = None if task.cancelled() else task.exception()
            if error is not None:
                log.critical("the engine broke", exc_info=error, extra={"action": "engine_broke"})
                on_failure()

        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self.worker.run()), loop.create_task(self.pump.run())]
        for task in self._tasks:
            task.add_done_callback(ended)

    async def settle(self) -> None:
        """Handle and send everything that is due now, in the foreground; for tests."""
        while True:
            await self.worker.run_until_idle()
            if not await self.pump.pump_once(self.clock.now()):
                return

    def next_due(self) -> float | None:
        """When something will be due without a new event: a timer, a retry, a deferred mail."""
        times = [due for due in (self.store.next_work(), self.store.next_outgoing()) if due is not None]
        return min(times, default=None)

    async def drain(self, grace: float) -> None:
        """Let running turns end and the outbox flush, within `grace` seconds together; the rest stays stored.

        `hurry` ends the waiting.
        """
        end = time.monotonic() + grace
        await self.worker.stop(grace, self.hurry)
        await self.pump.stop(0.0 if self.hurry.is_set() else max(0.0, end - time.monotonic()))
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []

    async def close(self, grace: float) -> None:
        """Drain and give everything back."""
        await self.drain(grace)
        await self.runner.close()
        await self.relay.close()
        await self.store.close()
        self._page.close()
