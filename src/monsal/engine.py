"""Store, spool, worker and outbox of one application, joined; without sockets.

Here meet the floors that do not know each other: store, routing, conversation, relay. `server.py` puts sockets and a
bus around it; `monsal.testing` drives it by hand.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from monsal.authentic import checker, organization
from monsal.clock import Clock
from monsal.config import Settings
from monsal.conversation import (
    Asking,
    Confirming,
    Entrance,
    Janitor,
    Keeping,
    OutboxPump,
    OutboxSettings,
    Relay,
    Runner,
    Sign,
    Spool,
    SpoolSettings,
    Templates,
    TurnPage,
    Worker,
    WorkerSettings,
    orphaned_states,
)
from monsal.exposure import Apis
from monsal.mail import Upstream
from monsal.outline import DrainReport, OnFailure, Parts
from monsal.store.contract import Store

__all__ = ["Engine"]

log = logging.getLogger("monsal.engine")

#: What becomes of mail in a state without a function, by the setting `unknown_state`.
_ORPHANS_MAIL = {"start": "handled by somebody else", "dead": "a dead letter", "hold": "held"}


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
        sign: Sign | None = None,
        keys: Path | None = None,
    ) -> None:
        """`page` is the file of the turn page, `keys` that of the keys of capability addresses; None for a store in
        memory, which has neither."""
        self.router = parts.router
        self.settings = settings
        self.clock = clock
        self.store = store
        self.relay = relay
        self._page = TurnPage(page)
        self._has_foreign_states = parts.states is not None
        self.runner = Runner(threads=settings.handler_threads, page=self._page)
        self.asking = Asking(parts.router)
        self.spool = Spool(
            store,
            parts.router,
            clock,
            SpoolSettings(correspondent=settings.correspondent, max_hops=settings.max_hops),
            self.asking,
            keys=keys,
        )
        self.entrance = Entrance(store, self.spool, parts.router, clock, max_size=settings.max_message_size)
        self.apis = Apis(parts.exposures, self.entrance, threads=settings.handler_threads, deadline=settings.deadline)
        self._entrances = parts.entrances
        self.worker = Worker(
            store,
            self.spool,
            self.runner,
            clock,
            router=parts.router,
            entrance=self.entrance,
            templates=Templates(directory / parts.templates),
            settings=_worker_settings(settings),
            states=parts.states,
            sign=sign,
            checker=checker(settings) if settings.check_auth else None,
        )
        limit = settings.max_mails_per_minute
        # Each worker process has a pump of its own, and its share of the rate.
        share = None if limit is None else limit / max(1, settings.workers)
        self.pump = OutboxPump(store, relay, clock, OutboxSettings(per_minute=share))
        self._tasks: dict[str, asyncio.Task[None]] = {}
        #: When a drain began, with the turns and mails there were until then.
        self._drained_from = (time.monotonic(), 0, 0)
        self._abandoned = 0
        #: Set it to have a drain end at once.
        self.hurry = asyncio.Event()

    async def open(self) -> None:
        """Open the store, and settle who killed the last process (P6)."""
        await self.store.open()
        await self.runner.open()
        await self.asking.open()
        self.entrance.open()
        await self.apis.open()
        self._entrances.append(self.entrance)
        # They are made at the first start, and what is wrong with them is to be known then.
        self.spool.capabilities.keyring.keys()
        if self._has_foreign_states:
            log.warning(
                "states are kept in a storage beside the store: a crash between the two runs a handler again",
                extra={"action": "weaker_promise"},
            )
        await self._warn_of_orphans()
        suspects = self._page.left_behind()
        if suspects:
            dead = await self.store.killed(suspects, self.clock.now())
            log.warning(
                "the last process ended while it handled the rows %s%s",
                ", ".join(map(str, suspects)),
                f"; {', '.join(map(str, dead))} did so for the third time and are dead letters now" if dead else "",
                extra={"action": "unclean_end", "rows": suspects},
            )

    async def _warn_of_orphans(self) -> None:
        """Say which stored states no function has (rule state.B7): their mail goes elsewhere (P5)."""
        for orphan in await orphaned_states(self.store, self.router.table):
            many = orphan.conversations != 1
            log.warning(
                "%d conversation%s with %s %s in %s, which no function has any more; new mail of theirs is %s "
                "(`monsal states rename` moves them, and so does was=%r on the function that took its place)",
                orphan.conversations,
                "s" if many else "",
                orphan.key,
                "are" if many else "is",
                orphan.state,
                _ORPHANS_MAIL[self.settings.unknown_state],
                orphan.state,
                extra={"action": "orphan_states", "key": orphan.key, "state": orphan.state},
            )

    def start_worker(self, on_failure: OnFailure) -> None:
        """Begin to handle messages, in the background; `on_failure` as for `start_pump`."""
        self._begin("worker", self.worker.run(), on_failure)

    def start_pump(self, on_failure: OnFailure) -> None:
        """Begin to send the outbox, in the background.

        `on_failure(error)` is called if it ends by an error, which only a fault of monsal itself can cause: the server
        must not go on taking mail that nobody handles.
        """
        self._begin("outbox", self.pump.run(), on_failure)

    def _begin(self, name: str, work: Coroutine[Any, Any, None], on_failure: OnFailure) -> None:
        def ended(task: asyncio.Task[None]) -> None:
            error = None if task.cancelled() else task.exception()
            if error is not None:
                log.critical("the %s broke", name, exc_info=error, extra={"action": "engine_broke"})
                on_failure(error)

        self._tasks[name] = task = asyncio.get_running_loop().create_task(work)
        task.add_done_callback(ended)

    def start_janitor(self, on_failure: OnFailure) -> None:
        """Begin to tidy up, in the background; where the store is another process', that one does it."""
        keeping = Keeping(bodies=self.settings.keep_bodies, history=self.settings.keep_history)
        self._begin("janitor", Janitor(self.store, self.clock, keeping).run(), on_failure)

    async def settle(self) -> None:
        """Handle and send everything that is due now, in the foreground; for tests."""
        while True:
            await self.worker.run_until_idle()
            await self.entrance.settle()
            await self.store.settle(())  # what the turns say can be taken when it is on the disk
            if not await self.pump.pump_once(self.clock.now()):
                return

    def next_due(self) -> float | None:
        """When something will be due without a new event: a timer, a retry, a deferred mail."""
        times = [due for due in (self.store.next_work(), self.store.next_outgoing()) if due is not None]
        return min(times, default=None)

    async def drain_apis(self, grace: float) -> None:
        """Take no more calls and let those that run end, within `grace` seconds."""
        await self.apis.drain(0.0 if self.hurry.is_set() else grace)

    def begin_drain(self) -> None:
        """From here on turns and mails count as those of the drain; may be called on any thread."""
        self._drained_from = (time.monotonic(), self.worker.statistics().turns, self.pump.statistics().sent)

    async def drain_workers(self, grace: float) -> None:
        """Claim nothing more and let running turns end, within `grace` seconds or until `hurry`.

        Those that do not are handled again after the next start.
        """
        self._abandoned = await self.worker.stop(grace, self.hurry)
        await self._end("worker")

    async def drain_outbox(self, grace: float) -> DrainReport:
        """Send what is due, within `grace` seconds or until `hurry`; what became of everything since a drain began."""
        left = await self.pump.stop(0.0 if self.hurry.is_set() else grace, self.hurry)
        await self._end("outbox")
        began, turns, sent = self._drained_from
        waiting = sum(entry.waiting + entry.running for entry in (await self.store.ledger()).values())
        outbox = await self.store.outbox_counts()
        return DrainReport(
            seconds=round(time.monotonic() - began, 3),
            turns=self.worker.statistics().turns - turns,
            abandoned=self._abandoned,
            sent=self.pump.statistics().sent - sent,
            in_flight=left,
            waiting=waiting,
            outbox=sum(outbox.get(status, 0) for status in ("waiting", "deferred", "sending")),
        )

    async def _end(self, name: str) -> None:
        task = self._tasks.pop(name, None)
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def close(self) -> None:
        """Give everything back, at once; what was not drained stays stored."""
        self.hurry.set()
        if self.entrance in self._entrances:
            self._entrances.remove(self.entrance)
        await self.apis.close()
        await self._end("janitor")
        await self.drain_workers(0.0)
        await self.pump.stop(0.0)
        await self._end("outbox")
        await self.asking.close()
        await self.runner.close()
        self.entrance.close()
        await self.relay.close()
        await self.store.close()
        self._page.close()


def _worker_settings(settings: Settings) -> WorkerSettings:
    return WorkerSettings(
        concurrency=max(settings.claim_batch, settings.handler_threads),
        lease=settings.lease,
        deadline=settings.deadline,
        max_replies=settings.max_replies_per_hour,
        unknown_state=settings.unknown_state,
        upstream=Upstream(
            authserv_id=settings.authserv_id,
            hops=settings.authserv_hops,
            organization=organization(),
        ),
        confirming=Confirming(
            within=settings.confirm_within, limit=settings.max_unconfirmed, hourly=settings.max_questions_per_hour
        ),
        public_url=settings.public_url or "",
    )
