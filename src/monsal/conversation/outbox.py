"""The outbox pump: durable outgoing rows to the relay, and what became of them back to the store.

A row leaves at least once (P2): it is settled after the relay answered, and what was not settled when the process
died is taken again. Of a relay with lanes, rows of each are sent and settled by themselves, so that a lane that is slow
or down holds up no other. What follows from an outcome is in `OutboxPump._judge` and nowhere else.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import groupby
from typing import Any

import msgspec

from monsal.backoff import OUTBOX_RETRIES, Schedule, exponential
from monsal.clock import Clock
from monsal.conversation.bounces import with_report
from monsal.conversation.lanes import Lanes
from monsal.conversation.pacing import Pacer
from monsal.conversation.ports import (
    Begun,
    Deferred,
    Delivered,
    EarlyRelay,
    Failed,
    LanedRelay,
    Outcome,
    Relay,
    RelayMail,
)
from monsal.errors import StoreError
from monsal.store.contract import Outgoing, Settled, Store
from monsal.store.early import EarlyStore, Told

__all__ = ["OutboxPump", "OutboxSettings", "OutboxStatistics"]

log = logging.getLogger("monsal.outbox")

#: Results that could not be written are kept for another try, up to so many.
MAX_UNSETTLED = 10_000


class OutboxSettings(msgspec.Struct, frozen=True, kw_only=True):
    """`batch` bounds the rows taken at once, `concurrency` the batches under way: a slow recipient delays what is in
    its batch, no more. With lanes as many rows may be under way, and `per_lane` in each. `schedule` has the waits
    between the tries of a row. When the relay as a whole fails, waits grow from `first_wait` to `longest_wait`;
    `longest_sleep` is how far a jump of the machine's clock may go unnoticed while a row waits for its time (all in
    seconds). A wait of the schedule is drawn out by up to the part `jitter` of it, so that what was put off together
    does not come back together. At most `per_minute` mails go to the recipients of one domain; None for any number."""

    batch: int = 64
    concurrency: int = 8
    schedule: Schedule = OUTBOX_RETRIES
    first_wait: float = 1.0
    longest_wait: float = 60.0
    longest_sleep: float = 60.0
    jitter: float = 0.1
    per_minute: float | None = None
    per_lane: int = 64


class OutboxStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """Rows under way, and since the start: sent, deferred (each time counts), failed. `relay_reason` says why nothing
    can be sent at the moment, and is empty if something can; `unsettled` are results that the store did not take."""

    in_flight: int
    sent: int
    deferred: int
    failed: int
    unsettled: int
    relay_reason: str


class OutboxPump:
    """Sends what the store has to send.

    Order of use: `run` in a task, on the loop of the store, until `stop` or cancellation; or, instead of it,
    `pump_once` whenever something may be due.
    """

    def __init__(self, store: Store, relay: Relay, clock: Clock, settings: OutboxSettings | None = None) -> None:
        self._store = store
        self._relay = relay
        self._clock = clock
        self._settings = settings or OutboxSettings()
        self._wake = asyncio.Event()
        self._ran = asyncio.Event()
        self._ran.set()  # `run` has ended, or was never begun
        self._batches: set[asyncio.Task[None]] = set()
        self._stopping = False
        self._over = False
        self._held_until = 0.0  # nothing is taken before: the relay said that it would not even try
        self._outages = 0  # batches in a row of which nothing could be sent
        self._store_failures = 0
        self._reason = ""
        self._unsettled: list[Settled] = []
        self._laned = relay if isinstance(relay, LanedRelay) else None
        self._lanes: Lanes | None = None
        if self._laned is not None:
            total = self._settings.batch * self._settings.concurrency
            self._lanes = Lanes(total=total, each=self._settings.per_lane)
        self._pacer = None if self._settings.per_minute is None else Pacer(self._settings.per_minute)
        self._in_flight = 0
        self._counts = {"sent": 0, "deferred": 0, "failed": 0}

    @property
    def reason(self) -> str:
        """Why nothing can be sent at the moment; empty if something can."""
        return self._reason or ("" if self._laned is None else self._laned.reason)

    @property
    def healthy(self) -> bool:
        """Whether mail leaves, as far as is known."""
        return not self.reason

    def statistics(self) -> OutboxStatistics:
        return OutboxStatistics(
            in_flight=self._in_flight,
            sent=self._counts["sent"],
            deferred=self._counts["deferred"],
            failed=self._counts["failed"],
            unsettled=len(self._unsettled),
            relay_reason=self.reason,
        )

    async def run(self) -> None:
        """Send until `stop`. Waits by events: an empty outbox costs nothing."""
        self._store.on_outgoing(self._wake.set)
        if isinstance(self._store, EarlyStore) and isinstance(self._relay, EarlyRelay):
            self._store.on_early(partial(self._prepare, self._relay))
        self._ran.clear()
        try:
            while not self._stopping:
                self._wake.clear()
                if not await self._start_batch():
                    await self._wait()
        finally:
            self._ran.set()
            batches = list(self._batches)
            if not self._stopping:
                self._over = True
                for batch in batches:
                    batch.cancel()
                await asyncio.gather(*batches, return_exceptions=True)

    async def stop(self, grace: float, hurry: asyncio.Event | None = None) -> int:
        """Send what is due, for at most `grace` seconds or until `hurry`, then no more; how many rows were under way.

        A relay that takes nothing ends it sooner. Those rows are taken again when the store is next opened; what was
        not taken at all simply waits there.
        """
        self._stopping = True
        self._wake.set()
        await self._ran.wait()
        await self._flush(grace, hurry)
        left = self._in_flight
        self._over = True
        batches = list(self._batches)
        for batch in batches:
            batch.cancel()
        await asyncio.gather(*batches, return_exceptions=True)
        await self._settle([])
        return left

    async def _flush(self, grace: float, hurry: asyncio.Event | None) -> None:
        loop = asyncio.get_running_loop()
        end = loop.time() + grace
        hurried = loop.create_task(hurry.wait() if hurry is not None else asyncio.Event().wait())
        try:
            await self._wait_for_disk(grace, hurried)
            while (left := end - loop.time()) > 0 and not hurried.done():
                if await self._start_batch():
                    continue
                if not self._batches:
                    return
                await asyncio.wait([*self._batches, hurried], timeout=left, return_when=asyncio.FIRST_COMPLETED)
        finally:
            hurried.cancel()

    async def _wait_for_disk(self, grace: float, hurried: asyncio.Task[Any]) -> None:
        """What the last turns say can be taken when it is on the disk."""
        flushed = asyncio.ensure_future(self._store.settle(()))
        await asyncio.wait([flushed, hurried], timeout=grace, return_when=asyncio.FIRST_COMPLETED)
        if not flushed.done():
            flushed.cancel()
        elif (error := flushed.exception()) is not None:
            self._store_failed("what the last turns say may not be on the disk", error)

    async def pump_once(self, now: float) -> int:
        """Send and settle all that is due at `now`; how many rows there were. Raises StoreError."""
        count = 0
        await self._settle([])
        while rows := await self._store.take_outgoing(self._settings.batch, now):
            count += len(rows)
            await self._send(rows)
        return count

    # Batches

    async def _start_batch(self) -> bool:
        """Take rows and begin to send them; whether there may be more at once."""
        limit = self._room()
        if not limit or self._clock.now() < self._held_until:
            return False
        await self._settle([])
        if self._unsettled:  # what cannot be written down should not be done
            return False
        try:
            rows = await self._store.take_outgoing(limit, self._clock.now())
        except StoreError as error:
            self._store_failed("outgoing mail cannot be read", error)
            return False
        self._store_failures = 0
        if not rows:
            return False
        if self._lanes is None:
            self._begin("", rows)
        else:
            await self._begin_lanes(rows, self._lanes)
        return len(rows) >= limit

    def _room(self) -> int:
        """How many rows may be taken now."""
        if self._lanes is not None:
            return min(self._settings.batch, self._lanes.room)
        return self._settings.batch if len(self._batches) < self._settings.concurrency else 0

    async def _begin_lanes(self, rows: Sequence[Outgoing], lanes: Lanes) -> None:
        """Send the rows of each lane by themselves. Those that find no room in theirs wait, which is no try of them:
        here they would take the room of others."""
        assert self._laned is not None
        now = self._clock.now()
        parts: dict[str, list[Outgoing]] = defaultdict(list)
        late: list[Settled] = []
        for row in rows:
            lane = self._laned.lane(row.recipient)
            if due := lanes.admit(lane, now):
                reason = "as many mails as may be are under way for that domain"
                late.append(Settled(id=row.id, status="deferred", reason=reason, due=due, tried=False))
            else:
                parts[lane].append(row)
        for lane, part in parts.items():
            self._begin(lane, part)
        await self._settle(late)

    def _prepare(self, relay: EarlyRelay, rows: Sequence[Outgoing]) -> Told | None:
        """Have the relay prepare the mail of a turn whose flush is still to come."""
        if self._stopping or self._over or not self._room() or self._unsettled or self._pacer is not None:
            return None
        mails = _by_mail(rows)
        if len(mails) > 1 or self._clock.now() < self._held_until:
            return None
        begun = relay.begin(_as_mail(mails[0]))
        return None if begun is None else partial(self._prepared, begun, rows)

    def _prepared(self, begun: Begun, rows: Sequence[Outgoing], error: Exception | None) -> None:
        """The disk has it, so it leaves; or it never was, so it does not (P2)."""
        if error is not None or self._over:
            begun.abandon()
            return
        try:
            begun.release()
        except Exception:  # as in `_ask_relay`
            log.exception("the relay raised", extra={"action": "relay_error"})
            self._begin("", rows)
        else:
            self._begin("", rows, begun)

    def _begin(self, lane: str, rows: Sequence[Outgoing], begun: Begun | None = None) -> None:
        task = asyncio.get_running_loop().create_task(self._send(rows, begun))
        self._batches.add(task)
        task.add_done_callback(partial(self._batch_done, lane, len(rows)))

    def _batch_done(self, lane: str, rows: int, task: asyncio.Task[None]) -> None:
        self._batches.discard(task)
        if self._lanes is not None:
            self._lanes.leave(lane, rows)
        self._wake.set()
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a batch of outgoing mail broke", exc_info=error, extra={"action": "outbox_error"})

    async def _send(self, rows: Sequence[Outgoing], begun: Begun | None = None) -> None:
        self._in_flight += len(rows)
        count = len(rows)
        try:
            if self._pacer is not None:
                rows = await self._pace(rows, self._pacer)
                if not rows:
                    return
            groups = _by_mail(rows)
            outcomes = await self._ask_relay([_as_mail(group) for group in groups], begun)
            told = [outcome for of_mail in outcomes for outcome in of_mail]  # of each row, in their order
            self._watch_relay(told, mails=len(groups))
            now = self._clock.now()
            pairs = zip(rows, told, strict=True)
            await self._settle([with_report(row, self._judge(row, outcome, now), now) for row, outcome in pairs])
        finally:
            self._in_flight -= count

    async def _pace(self, rows: Sequence[Outgoing], pacer: Pacer) -> list[Outgoing]:
        """The rows that may leave now; the others are put off, which is no try of them."""
        now = self._clock.now()
        free: list[Outgoing] = []
        late: list[Settled] = []
        for row in rows:
            if due := pacer.admit(row.recipient, now):
                reason = "as many mails as the limit allows left for that domain"
                late.append(Settled(id=row.id, status="deferred", reason=reason, due=due, tried=False))
            else:
                free.append(row)
        await self._settle(late)
        return free

    async def _ask_relay(self, mails: list[RelayMail], begun: Begun | None) -> list[list[Outcome]]:
        try:
            outcomes = await self._relay.send(mails) if begun is None else [await begun.outcomes()]
        except Exception as error:  # a relay of somebody else: its error must not stop the outbox (P7)
            log.exception("the relay raised", extra={"action": "relay_error"})
            reason = f"the relay raised {type(error).__name__}: {error}"
        else:
            if [len(row) for row in outcomes] == [len(mail.recipients) for mail in mails]:
                return outcomes
            reason = "the relay did not answer for each recipient"
            log.error(reason, extra={"action": "relay_error"})
        return [[Deferred(reason, whole_relay=True) for _ in mail.recipients] for mail in mails]

    def _watch_relay(self, outcomes: Sequence[Outcome], *, mails: int) -> None:
        """Red if nothing of a batch could be sent; then nothing is taken until there is hope.

        One single mail that was refused holds nobody up: it may be the mail.
        """
        outages: list[Deferred] = []
        for outcome in outcomes:
            if not (isinstance(outcome, Deferred) and outcome.whole_relay):
                self._relay_works()
                return
            outages.append(outcome)
        self._outages += 1
        wait = max(outage.retry_after for outage in outages)
        if mails > 1:
            wait = max(wait, self._outage_wait())
        self._held_until = self._clock.now() + wait
        if not self._reason:
            log.warning("no mail leaves: %s", outages[-1].reason, extra={"action": "outbox_down"})
        self._reason = outages[-1].reason

    def _relay_works(self) -> None:
        self._outages = 0
        self._held_until = 0.0
        if self._reason:
            log.info("mail leaves again", extra={"action": "outbox_up"})
        self._reason = ""

    def _outage_wait(self) -> float:
        settings = self._settings
        return exponential(max(1, self._outages), first=settings.first_wait, limit=settings.longest_wait)

    # Outcomes

    def _judge(self, row: Outgoing, outcome: Outcome, now: float) -> Settled:
        """What an outcome means for its row."""
        if isinstance(outcome, Delivered):
            return Settled(id=row.id, status="sent", reason=outcome.reply)
        if isinstance(outcome, Failed):
            return Settled(id=row.id, status="failed", reason=outcome.reason)
        if outcome.whole_relay:
            # Nobody refused this mail: the try does not count.
            due = now + max(self._outage_wait(), outcome.retry_after)
            return Settled(id=row.id, status="deferred", reason=outcome.reason, due=due, tried=False)
        schedule = self._settings.schedule
        wait = schedule.delay(row.attempts + 1)
        if wait is None:
            if now - row.created >= sum(schedule.waits):
                reason = f"given up after {row.attempts + 1} tries: {outcome.reason}"
                return Settled(id=row.id, status="failed", reason=reason)
            wait = schedule.waits[-1]  # tries made by hand use the schedule up sooner, but not the days
        return Settled(
            id=row.id,
            status="deferred",
            reason=outcome.reason,
            due=now + wait * (1.0 + self._settings.jitter * random.random()),
        )

    async def _settle(self, results: list[Settled]) -> None:
        results = [*self._unsettled, *results]
        if not results:
            return
        self._unsettled = []
        try:
            await self._store.settle(results)
        except StoreError as error:
            # The mail is gone, and it is not known on disk. Kept for another try; if the process ends before, the
            # rows are sent again, byte for byte the same (P2).
            self._unsettled = [*self._unsettled, *results][-MAX_UNSETTLED:]
            self._store_failed(f"the outcome of {len(results)} outgoing rows cannot be written", error)
            return
        self._store_failures = 0
        for result in results:
            self._counts[result.status] += 1

    def _store_failed(self, what: str, error: BaseException) -> None:
        self._store_failures += 1
        log.error("%s: %s", what, error, extra={"action": "outbox_error"})

    # Waiting

    async def _wait(self) -> None:
        """Until an event, or the time at which something is due."""
        timer = self._timer()
        try:
            await self._wake.wait()
        finally:
            if timer is not None:
                timer.cancel()

    def _timer(self) -> asyncio.TimerHandle | None:
        seconds = min(self._waits(), default=None)
        if seconds is None:
            return None
        seconds = min(max(seconds, 0.0), self._settings.longest_sleep)
        return asyncio.get_running_loop().call_later(seconds, self._wake.set)

    def _waits(self) -> Iterator[float]:
        """Seconds until each thing that can make a difference; nothing of it if a batch has to end first."""
        if not self._room():
            return
        now = self._clock.now()
        if self._store_failures or self._unsettled:
            yield exponential(max(1, self._store_failures), first=1.0, limit=self._settings.longest_wait)
        elif now < self._held_until:
            yield self._held_until - now
        elif (due := self._store.next_outgoing()) is not None:
            yield due - now


def _by_mail(rows: Sequence[Outgoing]) -> list[list[Outgoing]]:
    """The rows of each mail, which come next to each other."""
    return [list(group) for _, group in groupby(rows, key=lambda row: (row.mail, row.sender))]


def _as_mail(rows: Sequence[Outgoing]) -> RelayMail:
    """The rows of one mail as one mail with several recipients."""
    first = rows[0]
    return RelayMail(
        sender=first.sender,
        recipients=tuple([row.recipient for row in rows]),
        message_id=first.message_id,
        body=first.body,
    )
