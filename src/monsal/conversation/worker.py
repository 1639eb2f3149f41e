"""The worker: claim, plan, run, commit. One message at a time per queue, many queues at once (P3).

`Worker.run` takes rows from the store and gives each to a task of `process`; what happens to one row is in
`Passage`, in the order of DESIGN section 4, steps 6 to 9.
"""

from __future__ import annotations

import asyncio
import logging
import traceback
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from monsal.clock import Clock
from monsal.conversation.confirming import Confirming
from monsal.conversation.context import TurnTools, canonical
from monsal.conversation.entrance import Entrance
from monsal.conversation.orphans import UnknownState
from monsal.conversation.policy import after_failure
from monsal.conversation.runner import Runner
from monsal.conversation.spool import Spool
from monsal.conversation.surroundings import Surroundings
from monsal.conversation.templates import Templates
from monsal.conversation.turn import Sign, failure_commit
from monsal.conversation.ways import passage_of
from monsal.errors import StoreError, StoreUnavailable
from monsal.mail import Checks, Message, Upstream
from monsal.routing import Router
from monsal.store.budget import ReplyBudget
from monsal.store.contract import Ack, Claimed, Fence, Store

__all__ = ["Worker", "WorkerSettings", "WorkerStatistics"]

log = logging.getLogger("monsal.turns")


class WorkerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """`concurrency` bounds the messages under way; `lease` is how long a claim lasts without being prolonged and
    `deadline` how long a handler may run (both in seconds); `max_replies` bounds the mails an hour to one
    correspondent (None: any number); `upstream` is the one upstream whose Authentication-Results are believed;
    `unknown_state` says what becomes of a message whose conversation is in a state without a function;
    `confirming` is about those who are not proved; `public_url` begins the links in mails, empty if there are none."""

    concurrency: int = 64
    lease: float = 120.0
    deadline: float = 60.0
    max_replies: int | None = 10
    unknown_state: UnknownState = "start"
    upstream: Upstream = Upstream()
    confirming: Confirming = Confirming()
    public_url: str = ""


class WorkerStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """Messages under way, and since the start: turns committed, failures, conflicts (a turn run again because a
    state it read had changed), commits that came too late, mails to correspondents that the rules against loops kept
    back, messages whose conversation was in a state without a function; handlers stuck past their deadline."""

    running: int
    turns: int
    failures: int
    conflicts: int
    fenced: int
    suppressed: int
    orphans: int
    stuck: int


class Worker:
    """Runs the turns of one application. Made, started and stopped on the sockets' loop."""

    def __init__(
        self,
        store: Store,
        spool: Spool,
        runner: Runner,
        clock: Clock,
        *,
        router: Router,
        entrance: Entrance,
        templates: Templates | None = None,
        settings: WorkerSettings | None = None,
        states: Any = None,
        sign: Sign | None = None,
        checker: Callable[[Message], Checks] | None = None,
    ) -> None:
        self._store = store
        self._runner = runner
        self._clock = clock
        self._settings = settings or WorkerSettings()
        self._budget = ReplyBudget()
        self._wake, self._busy = asyncio.Event(), asyncio.Event()
        self._running: dict[Fence, tuple[Claimed, asyncio.Task[None]]] = {}
        self._by_key: dict[str, asyncio.Task[None]] = {}
        self._suspects = asyncio.Lock()
        self._stopping = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._around = Surroundings(
            store=store,
            router=router,
            runner=runner,
            clock=clock,
            budget=self._budget,
            deadline=self._settings.deadline,
            unknown_state=self._settings.unknown_state,
            upstream=self._settings.upstream,
            checker=checker,
            states=states,
            sign=sign,
            announce=entrance.announce,
            capabilities=spool.capabilities,
            confirming=self._settings.confirming,
            tools=TurnTools(
                state_key=router.state_key,
                named_state=router.named_state,
                lease_key=spool.lease_key,
                is_own=spool.is_own,
                replies=lambda address: self._budget.count(canonical(address), clock.now()),
                max_replies=self._settings.max_replies,
                templates=templates or Templates(None),
                read=self._read,
                read_async=self._read_async,
                address=lambda value, captures, nonce, correspondent: spool.capabilities.address(
                    value, captures, now=clock.now(), nonce=nonce, correspondent=correspondent
                ),
                # Asked for when it is used: who serves the APIs begins after the worker.
                prepare=lambda *call: entrance.prepare(*call),
                public_url=self._settings.public_url,
            ),
        )

    def statistics(self) -> WorkerStatistics:
        counts = self._around.counts
        return WorkerStatistics(
            running=len(self._running),
            turns=counts.turns,
            failures=counts.failures,
            conflicts=counts.conflicts,
            fenced=counts.fenced,
            suppressed=counts.suppressed,
            orphans=counts.orphans,
            stuck=self._runner.statistics().stuck,
        )

    def describe(self) -> str:
        """What is being handled now, for people: how many messages, and where the first handlers are; else empty."""
        rows = [row for row, _ in list(self._running.values())]
        if not rows:
            return ""
        named = self._runner.describe() or [f"{row.message_id or row.id} to {row.recipient}" for row in rows]
        more = f"; and {len(named) - 5} more" if len(named) > 5 else ""
        return f"{len(rows)} message{'s' * (len(rows) != 1)}: {'; '.join(named[:5])}{more}"

    async def run(self) -> None:
        """Handle messages until `stop`. Waits by events; an idle worker costs nothing."""
        self._loop = asyncio.get_running_loop()
        self._store.on_work(self._wake.set)
        beat = self._loop.create_task(self._prolong())
        try:
            while not self._stopping:
                self._wake.clear()
                if not await self._claim():
                    await self._wait()
        finally:
            beat.cancel()

    async def run_until_idle(self) -> None:
        """Handle everything that is due now, and what follows from it; for tests."""
        self._loop = asyncio.get_running_loop()
        while await self._claim() or self._running:
            if self._running:
                await asyncio.wait([task for _, task in self._running.values()])

    async def stop(self, grace: float, hurry: asyncio.Event | None = None) -> int:
        """Claim nothing more and let running turns end, within `grace` seconds or until `hurry`; how many did not."""
        self._stopping = True
        self._wake.set()
        tasks = [task for _, task in self._running.values()]
        if tasks:
            log.info("waiting up to %.0f s for %s", grace, self.describe(), extra={"action": "drain"})
            await _wait_for_all(tasks, grace, hurry)
        for row, task in list(self._running.values()):
            log.warning(
                "a turn did not end; its message will be handled again after the next start",
                extra={
                    "action": "turn_abandoned",
                    "message_id": row.message_id,
                    "conversation": row.correspondent,
                    "row": row.id,
                },
            )
            task.cancel()
        return len(self._running)

    async def _claim(self) -> bool:
        """Start as many rows as there is room for; whether there may be more at once."""
        room = self._settings.concurrency - len(self._running)
        if room <= 0 or self._runner.is_full:
            return False
        try:
            rows = await self._store.claim(room, self._clock.now(), self._settings.lease)
        except StoreUnavailable as error:
            log.error("cannot claim: %s", error, extra={"action": "claim_failed"})
            await asyncio.sleep(1.0)
            return True
        loop = self._loop
        assert loop is not None
        for row in rows:
            # After a recovery of the store, or a jump of the clock, its former turn may still be running (P3).
            former = self._by_key.get(row.lease_key)
            task = loop.create_task(self._process(row, former))
            self._running[row.fence] = (row, task)
            self._by_key[row.lease_key] = task
        if rows:
            self._busy.set()
        return len(rows) >= room

    async def _process(self, row: Claimed, former: asyncio.Task[None] | None) -> None:
        try:
            if former is not None:
                await asyncio.wait([former])
            if row.kills:
                await self._process_suspect(row)
            else:
                await passage_of(row, self._around).run()
        except StoreError as error:
            # Nothing was committed: the row is still in the store and is claimed again.
            log.error(
                "cannot commit: %s",
                error,
                extra={"action": "commit_failed", "message_id": row.message_id, "conversation": row.correspondent},
            )
        except Exception as error:  # an error of monsal itself must not end the worker
            log.exception(
                "the passage of row %d failed",
                row.id,
                extra={"action": "passage_failed", "message_id": row.message_id, "conversation": row.correspondent},
            )
            await self._put_off(row, error)
        finally:
            _, task = self._running.pop(row.fence)
            if self._by_key.get(row.lease_key) is task:
                del self._by_key[row.lease_key]
            self._wake.set()

    async def _process_suspect(self, row: Claimed) -> None:
        """Handle a row that ran when a process was killed: one such at a time, so that the next kill names its cause.

        One that hangs does not keep the others waiting for ever.
        """
        try:
            await asyncio.wait_for(self._suspects.acquire(), self._settings.deadline + 5.0)
        except TimeoutError:
            await passage_of(row, self._around).run()
            return
        try:
            await passage_of(row, self._around).run()
        finally:
            self._suspects.release()

    async def _put_off(self, row: Claimed, error: Exception) -> None:
        """Commit the failure of a passage like one of a handler: tried again on the schedule, then a dead letter."""
        now = self._clock.now()
        failure = after_failure("monsal", TimeoutError(), attempts=row.attempts, detail="")
        detail = "".join(traceback.format_exception(error))
        reason = f"monsal: {traceback.format_exception_only(error)[-1].strip()}".splitlines()[0][:300]
        if failure.wait is None:
            ack = Ack(kind="dead", reason=reason, detail=detail, tried=True)
        else:
            ack = Ack(kind="defer", due=now + failure.wait, reason=reason)
        try:
            await self._store.commit(failure_commit(row, ack=ack, now=now))
        except StoreError as unavailable:
            log.error("cannot commit: %s", unavailable, extra={"action": "commit_failed", "row": row.id})

    async def _wait(self) -> None:
        """Sleep until there may be work: an event, or the time of the next retry, timer or expired lease."""
        due = self._store.next_work()
        room = len(self._running) < self._settings.concurrency and not self._runner.is_full
        timeout = None if due is None or not room else max(0.0, due - self._clock.now())
        if timeout is None:
            await self._wake.wait()
            return
        assert self._loop is not None
        # At most an hour at once: the clock of the machine may be set while we sleep.
        timer = self._loop.call_later(min(timeout, 3600.0), self._wake.set)
        try:
            await self._wake.wait()
        finally:
            timer.cancel()

    async def _prolong(self) -> None:
        """Keep the leases of running turns; on the sockets' loop, which no handler can block.

        While nothing runs there is no timer: an idle server does not wake.
        """
        while True:
            await self._busy.wait()
            await asyncio.sleep(self._settings.lease / 3)
            if not self._running:
                self._busy.clear()
            leases = [(row.lease_key, row.fence) for row, _ in self._running.values()]
            if leases:
                try:
                    await self._store.extend(leases, self._clock.now() + self._settings.lease)
                except StoreUnavailable as error:
                    log.error("cannot prolong leases: %s", error, extra={"action": "extend_failed"})

    def _read(self, sql: str, params: Sequence[Any]) -> list[tuple[Any, ...]]:
        assert self._loop is not None
        return asyncio.run_coroutine_threadsafe(self._store.read(sql, params), self._loop).result()

    async def _read_async(self, sql: str, params: Sequence[Any]) -> list[tuple[Any, ...]]:
        assert self._loop is not None
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self._store.read(sql, params), self._loop))


async def _wait_for_all(tasks: Sequence[asyncio.Task[None]], grace: float, hurry: asyncio.Event | None) -> None:
    """Wait until all tasks have ended, `grace` seconds are over, or `hurry` is set."""
    everything = asyncio.gather(*tasks, return_exceptions=True)
    waits: list[asyncio.Future[Any]] = [asyncio.ensure_future(asyncio.wait([everything]))]
    if hurry is not None:
        waits.append(asyncio.ensure_future(hurry.wait()))
    try:
        await asyncio.wait(waits, timeout=grace, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
