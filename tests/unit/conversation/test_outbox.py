"""The outbox pump, between a store and a relay that are small and honest fakes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from monsal.backoff import OUTBOX_RETRIES, Schedule
from monsal.clock import ManualClock, SystemClock
from monsal.conversation.outbox import OutboxPump, OutboxSettings
from monsal.conversation.ports import Deferred, Delivered, Failed, Outcome, RelayMail
from monsal.errors import StoreUnavailable
from monsal.store.contract import Outgoing, Settled

OK = Delivered("250 2.0.0 queued")
DOWN = Deferred("no connection", whole_relay=True)


@dataclass
class Row:
    """A row of the fake outbox."""

    outgoing: Outgoing
    due: float = 0.0
    status: str = "waiting"
    reason: str = ""
    attempts: int = 0


class FakeStore:
    """The outbox of a store: the methods the pump uses, in memory."""

    def __init__(self) -> None:
        self.rows: dict[int, Row] = {}
        self.settled: list[list[Settled]] = []
        self.taken: list[int] = []
        self.broken = 0
        self._callbacks: list[Callable[[], None]] = []
        self.changed = asyncio.Event()

    def add(self, mail: int, *recipients: str, created: float = 0.0, attempts: int = 0) -> None:
        for recipient in recipients:
            number = len(self.rows) + 1
            outgoing = Outgoing(
                id=number,
                mail=mail,
                sender=f"b+{mail}@me",
                recipient=recipient,
                message_id=f"<{mail}@me>",
                attempts=attempts,
                created=created,
                body=b"body",
            )
            self.rows[number] = Row(outgoing, attempts=attempts)
        self._tell()

    def _tell(self) -> None:
        for callback in self._callbacks:
            callback()

    def on_outgoing(self, callback: Callable[[], None]) -> None:
        self._callbacks.append(callback)

    def _fail(self) -> None:
        if self.broken:
            self.broken -= 1
            raise StoreUnavailable("disk full")

    async def take_outgoing(self, limit: int, now: float) -> list[Outgoing]:
        self._fail()
        due = [row for row in self.rows.values() if row.status in ("waiting", "deferred") and row.due <= now][:limit]
        for row in due:
            row.status = "sending"
        self.taken.append(len(due))
        return [
            Outgoing(
                **{name: getattr(row.outgoing, name) for name in row.outgoing.__struct_fields__}
                | {"attempts": row.attempts}
            )
            for row in due
        ]

    def next_outgoing(self) -> float | None:
        return min((row.due for row in self.rows.values() if row.status in ("waiting", "deferred")), default=None)

    async def settle(self, results: Sequence[Settled]) -> None:
        self._fail()
        if results:
            self.settled.append(list(results))
        for result in results:
            row = self.rows[result.id]
            row.status, row.reason, row.due = result.status, result.reason, result.due
            row.attempts += result.tried
        self.changed.set()
        self._tell()

    async def until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            self.changed.clear()
            async with asyncio.timeout(60):
                await self.changed.wait()

    def statuses(self) -> list[str]:
        return [row.status for row in self.rows.values()]


@dataclass
class FakeRelay:
    """A relay that answers by the recipient's address."""

    answers: dict[str, Outcome | list[Outcome]] = field(default_factory=dict)
    mails: list[RelayMail] = field(default_factory=list)
    gate: asyncio.Event | None = None
    running: int = 0
    most: int = 0

    async def send(self, mails: Sequence[RelayMail]) -> list[list[Outcome]]:
        self.mails.extend(mails)
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            if self.gate is not None:
                await self.gate.wait()
            return [[self._answer(recipient) for recipient in mail.recipients] for mail in mails]
        finally:
            self.running -= 1

    def _answer(self, recipient: str) -> Outcome:
        answer = self.answers.get(recipient, OK)
        if isinstance(answer, list):
            return answer.pop(0) if len(answer) > 1 else answer[0]
        return answer

    async def close(self) -> None:
        """Nothing to give back."""


def make(
    answers: dict[str, Any] | None = None, **settings: Any
) -> tuple[OutboxPump, FakeStore, FakeRelay, ManualClock]:
    store, relay, clock = FakeStore(), FakeRelay(answers or {}), ManualClock(1000.0)
    return OutboxPump(store, relay, clock, OutboxSettings(**{"jitter": 0.0, **settings})), store, relay, clock  # type: ignore[arg-type] - the fake has what the pump uses


def once(pump: OutboxPump, clock: ManualClock) -> int:
    return asyncio.run(pump.pump_once(clock.now()))


class TestOutcomes:
    def test_rows_of_a_mail_are_one_mail(self) -> None:
        pump, store, relay, clock = make()
        store.add(1, "b@x", "c@x")
        store.add(2, "b@x")
        assert once(pump, clock) == 3
        assert [(mail.sender, mail.recipients, mail.message_id) for mail in relay.mails] == [
            ("b+1@me", ("b@x", "c@x"), "<1@me>"),
            ("b+2@me", ("b@x",), "<2@me>"),
        ]
        assert store.statuses() == ["sent"] * 3
        assert len(store.settled) == 1  # one write for all of them
        assert store.rows[1].reason == "250 2.0.0 queued"
        assert once(pump, clock) == 0

    def test_each_recipient_has_its_own_fate(self) -> None:
        pump, store, _, clock = make({"c@x": Failed("550 no"), "d@x": Deferred("450 later")})
        store.add(1, "b@x", "c@x", "d@x")
        once(pump, clock)
        assert store.statuses() == ["sent", "failed", "deferred"]
        assert store.rows[2].reason == "550 no"
        assert store.rows[3].due == 1060.0
        statistics = pump.statistics()
        assert (statistics.sent, statistics.failed, statistics.deferred, statistics.in_flight) == (1, 1, 1, 0)

    def test_only_the_deferred_row_is_tried_again(self) -> None:
        pump, store, relay, clock = make({"c@x": [Deferred("450 later"), OK]})
        store.add(1, "b@x", "c@x")
        once(pump, clock)
        clock.advance(59)
        assert once(pump, clock) == 0
        clock.advance(1)
        assert once(pump, clock) == 1
        assert relay.mails[-1].recipients == ("c@x",)
        assert store.statuses() == ["sent", "sent"]

    def test_the_waits_are_those_of_the_schedule_and_then_it_has_failed(self) -> None:
        pump, store, relay, clock = make({"b@x": Deferred("450 greylisted")})
        store.add(1, "b@x", created=clock.now())
        waits = []
        while "failed" not in store.statuses():
            assert once(pump, clock) == 1
            waits.append(store.rows[1].due - clock.now())
            clock.advance(max(0.0, waits[-1]))
        assert tuple(waits[:-1]) == OUTBOX_RETRIES.waits
        assert len(relay.mails) == len(OUTBOX_RETRIES.waits) + 1
        assert store.rows[1].reason == "given up after 45 tries: 450 greylisted"
        assert clock.now() - 1000.0 >= 5 * 24 * 3600 - 3600 * 2

    def test_what_was_put_off_together_does_not_come_back_together(self) -> None:
        pump, store, _, clock = make(dict.fromkeys("abcdefgh", Deferred("450 later")), jitter=0.1)
        for number, recipient in enumerate("abcdefgh", 1):
            store.add(number, recipient, created=clock.now())
        once(pump, clock)
        waits = [row.due - clock.now() for row in store.rows.values()]
        assert all(60.0 <= wait <= 66.0 for wait in waits)
        assert len(set(waits)) > 1

    def test_what_is_too_much_for_a_domain_is_put_off_without_a_try(self) -> None:
        pump, store, relay, clock = make({}, per_minute=6)
        for number, recipient in enumerate(("a@x", "b@X", "c@x", "d@y"), 1):
            store.add(number, recipient, created=clock.now())
        once(pump, clock)
        assert sorted(recipient for mail in relay.mails for recipient in mail.recipients) == ["a@x", "d@y"]
        late = [row for row in store.rows.values() if row.status == "deferred"]
        assert [(row.due - clock.now(), row.attempts) for row in late] == [(10.0, 0), (20.0, 0)]
        assert pump.healthy
        clock.advance(20.0)
        once(pump, clock)
        assert store.statuses().count("sent") == 3
        clock.advance(10.0)
        once(pump, clock)
        assert store.statuses().count("sent") == 4

    def test_it_is_not_given_up_before_its_days_are_over(self) -> None:
        """Tries that an operator asked for use the schedule up sooner."""
        pump, store, _, clock = make({"b@x": Deferred("450 later")}, schedule=Schedule((10.0, 20.0)))
        store.add(1, "b@x", created=clock.now(), attempts=7)
        once(pump, clock)
        assert store.rows[1].status == "deferred"
        assert store.rows[1].due == clock.now() + 20.0
        clock.advance(30)
        once(pump, clock)
        assert store.rows[1].status == "failed"

    @pytest.mark.parametrize("answer", ["raise", "short"])
    def test_a_relay_that_breaks_its_word_defers(
        self, answer: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        pump, store, relay, clock = make()

        async def send(_mails: Sequence[RelayMail]) -> list[list[Outcome]]:
            if answer == "raise":
                raise ValueError("oops")
            return [[]]

        monkeypatch.setattr(relay, "send", send)
        store.add(1, "b@x")
        with caplog.at_level(logging.ERROR):
            once(pump, clock)
        assert store.statuses() == ["deferred"]
        assert not pump.healthy
        assert "relay" in caplog.text


class TestOutage:
    def test_a_relay_that_is_down_uses_up_no_tries(self) -> None:
        pump, store, _, clock = make({"b@x": [DOWN] * 100 + [OK]})
        store.add(1, "b@x", created=clock.now())
        waits = []
        for _ in range(100):
            assert once(pump, clock) == 1
            assert store.rows[1].status == "deferred"
            assert store.rows[1].attempts == 0
            waits.append(store.rows[1].due - clock.now())
            clock.advance(waits[-1])
        assert waits[:8] == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0]
        assert not pump.healthy
        assert pump.reason == "no connection"
        assert pump.statistics().relay_reason == "no connection"
        once(pump, clock)
        assert store.statuses() == ["sent"]
        assert pump.healthy
        assert pump.statistics().relay_reason == ""

    def test_the_relay_says_how_long(self) -> None:
        pump, store, _, clock = make({"b@x": Deferred("down", whole_relay=True, retry_after=42.0)})
        store.add(1, "b@x")
        once(pump, clock)
        assert store.rows[1].due == clock.now() + 42.0

    def test_one_bad_mail_among_others_is_no_outage(self) -> None:
        pump, store, _, clock = make({"bad@x": Deferred("MAIL refused", whole_relay=True)})
        store.add(1, "bad@x")
        store.add(2, "b@x")
        once(pump, clock)
        assert pump.healthy
        assert store.rows[1].due == clock.now() + 1.0


class TestRunning:
    """The pump in a task, woken by the store."""

    def test_mail_that_comes_while_it_waits(self) -> None:
        async def main() -> None:
            store, relay = FakeStore(), FakeRelay()
            pump = OutboxPump(store, relay, SystemClock())  # type: ignore[arg-type] - see above
            running = asyncio.create_task(pump.run())
            for number in range(5):
                store.add(number, "b@x")
                await store.until(lambda: set(store.statuses()) == {"sent"})
            assert await pump.stop(5.0) == 0
            await running

        asyncio.run(main())

    def test_an_empty_outbox_is_asked_once(self) -> None:
        async def main() -> None:
            store = FakeStore()
            pump = OutboxPump(store, FakeRelay(), SystemClock())  # type: ignore[arg-type] - see above
            running = asyncio.create_task(pump.run())
            for _ in range(50):
                await asyncio.sleep(0)
            assert store.taken == [0]
            await pump.stop(0.0)
            await running

        asyncio.run(main())

    def test_a_deferred_row_leaves_at_its_time(self) -> None:
        async def main() -> None:
            store, relay = FakeStore(), FakeRelay({"b@x": [Deferred("450 later"), OK]})
            settings = OutboxSettings(schedule=Schedule((0.01,)))
            pump = OutboxPump(store, relay, SystemClock(), settings)  # type: ignore[arg-type] - see above
            running = asyncio.create_task(pump.run())
            store.add(1, "b@x", created=SystemClock().now())
            await store.until(lambda: store.statuses() == ["sent"])
            await pump.stop(1.0)
            await running

        asyncio.run(main())

    def test_batches_go_side_by_side_up_to_a_bound(self) -> None:
        async def main() -> None:
            store, relay = FakeStore(), FakeRelay(gate=asyncio.Event())
            settings = OutboxSettings(batch=2, concurrency=3)
            pump = OutboxPump(store, relay, SystemClock(), settings)  # type: ignore[arg-type] - see above
            for number in range(10):
                store.add(number, "b@x")
            running = asyncio.create_task(pump.run())
            for _ in range(50):
                await asyncio.sleep(0)
            assert relay.running == 3
            assert pump.statistics().in_flight == 6
            assert relay.gate is not None
            relay.gate.set()
            await store.until(lambda: set(store.statuses()) == {"sent"})
            assert relay.most == 3
            await pump.stop(1.0)
            await running

        asyncio.run(main())

    def test_nothing_is_taken_while_the_relay_would_not_try(self) -> None:
        async def main() -> None:
            store = FakeStore()
            relay = FakeRelay({"b@x": Deferred("down", whole_relay=True, retry_after=500.0)})
            pump = OutboxPump(store, relay, SystemClock())  # type: ignore[arg-type] - see above
            running = asyncio.create_task(pump.run())
            store.add(1, "b@x")
            await store.until(lambda: store.statuses() == ["deferred"])
            for number in range(5):
                store.add(number + 2, "c@x")
                await asyncio.sleep(0)
            assert store.statuses() == ["deferred", *["waiting"] * 5]
            assert len(relay.mails) == 1
            assert not pump.healthy
            await pump.stop(0.0)
            await running

        asyncio.run(main())

    @pytest.mark.parametrize("hurried", [False, True])
    def test_stop_sends_what_is_due_unless_it_is_hurried(self, hurried: bool) -> None:
        async def main() -> None:
            store, relay = FakeStore(), FakeRelay(gate=asyncio.Event())
            settings = OutboxSettings(batch=1, concurrency=1)
            pump = OutboxPump(store, relay, SystemClock(), settings)  # type: ignore[arg-type] - see above
            for number in range(3):
                store.add(number, "b@x")
            running = asyncio.create_task(pump.run())
            while not relay.running:
                await asyncio.sleep(0)
            hurry = asyncio.Event()
            stopping = asyncio.create_task(pump.stop(60.0, hurry))
            await running
            assert relay.gate is not None
            (hurry if hurried else relay.gate).set()
            assert await stopping == (1 if hurried else 0)
            expected = ["sending", "waiting", "waiting"] if hurried else ["sent"] * 3
            assert store.statuses() == expected

        asyncio.run(main())

    def test_stop_sends_what_is_being_flushed(self) -> None:
        class Flushing(FakeStore):
            """What the last turn says can be taken after a flush that is under way, for which an empty settle waits."""

            async def settle(self, results: Sequence[Settled]) -> None:
                if not self.rows:
                    await asyncio.sleep(0.01)
                    self.add(1, "b@x")
                await super().settle(results)

        async def main() -> None:
            store = Flushing()
            pump = OutboxPump(store, FakeRelay(), SystemClock())  # type: ignore[arg-type] - see above
            assert await pump.stop(60.0) == 0
            assert store.statuses() == ["sent"]

        asyncio.run(main())

    def test_a_stop_does_not_wait_for_a_disk_longer_than_it_may(self) -> None:
        class Hanging(FakeStore):
            async def settle(self, results: Sequence[Settled]) -> None:
                await asyncio.Event().wait()

        async def main() -> None:
            pump = OutboxPump(Hanging(), FakeRelay(), SystemClock())  # type: ignore[arg-type] - see above
            hurry = asyncio.Event()
            stopping = asyncio.create_task(pump.stop(3600.0, hurry))
            await asyncio.sleep(0.01)
            hurry.set()
            assert await stopping == 0

        asyncio.run(main())

    def test_a_relay_that_takes_nothing_does_not_hold_up_a_stop(self) -> None:
        async def main() -> None:
            store = FakeStore()
            relay = FakeRelay({"b@x": Deferred("down", whole_relay=True, retry_after=500.0)})
            settings = OutboxSettings(batch=1, concurrency=1)
            pump = OutboxPump(store, relay, SystemClock(), settings)  # type: ignore[arg-type] - see above
            for number in range(3):
                store.add(number, "b@x")
            assert await pump.stop(3600.0) == 0
            assert store.statuses() == ["deferred", "waiting", "waiting"]

        asyncio.run(main())

    @pytest.mark.parametrize("how", ["stop", "cancel"])
    def test_what_does_not_end_in_time_is_taken_again_later(self, how: str) -> None:
        """P2: not settled, so the store gives it out again when it is next opened."""

        async def main() -> None:
            store, relay = FakeStore(), FakeRelay(gate=asyncio.Event())
            pump = OutboxPump(store, relay, SystemClock())  # type: ignore[arg-type] - see above
            store.add(1, "b@x", "c@x")
            running = asyncio.create_task(pump.run())
            while not relay.running:
                await asyncio.sleep(0)
            if how == "stop":
                assert await pump.stop(0.0) == 2
                await running
            else:
                running.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await running
            assert relay.running == 0
            assert store.statuses() == ["sending"] * 2
            assert pump.statistics().in_flight == 0

        asyncio.run(main())


class TestABrokenStore:
    def test_a_result_that_cannot_be_written_is_written_with_the_next(self, caplog: pytest.LogCaptureFixture) -> None:
        async def main() -> None:
            pump, store, relay, clock = make()
            store.add(1, "b@x")
            rows = await store.take_outgoing(10, 0.0)
            store.broken = 1
            await pump._send(rows)
            assert store.statuses() == ["sending"]
            assert pump.statistics().unsettled == 1
            assert "disk full" in caplog.text
            store.add(2, "c@x")
            assert await pump.pump_once(clock.now()) == 1
            assert store.statuses() == ["sent", "sent"]
            assert len(relay.mails) == 2
            assert pump.statistics().unsettled == 0
            assert pump.statistics().sent == 2

        asyncio.run(main())

    def test_nothing_more_is_sent_until_results_can_be_written(self) -> None:
        async def main() -> None:
            pump, store, relay, _ = make()
            store.add(1, "b@x")
            rows = await store.take_outgoing(10, 0.0)
            store.broken = 3
            await pump._send(rows)
            store.add(2, "c@x")
            running = asyncio.create_task(pump.run())
            for _ in range(20):
                await asyncio.sleep(0)
            assert len(relay.mails) == 1
            assert store.statuses() == ["sending", "waiting"]
            store.broken = 0
            store.add(3, "d@x")  # any event makes it look again
            await store.until(lambda: set(store.statuses()) == {"sent"})
            await pump.stop(1.0)
            await running

        asyncio.run(main())

    def test_stop_tries_once_more_to_write(self) -> None:
        async def main() -> None:
            pump, store, _, _ = make()
            store.add(1, "b@x")
            rows = await store.take_outgoing(10, 0.0)
            store.broken = 1
            await pump._send(rows)
            await pump.stop(0.0)
            assert store.statuses() == ["sent"]

        asyncio.run(main())


def test_large_outboxes_leave_in_batches() -> None:
    pump, store, relay, clock = make(batch=7)
    mails: Iterable[int] = range(50)
    for number in mails:
        store.add(number, "b@x")
    assert once(pump, clock) == 50
    assert store.taken == [7, 7, 7, 7, 7, 7, 7, 1, 0]
    assert len(relay.mails) == 50


class LaneRelay(FakeRelay):
    """A relay whose lanes are the domains; those in `stuck` do not answer."""

    reason = ""
    stuck: tuple[str, ...] = ()

    def lane(self, recipient: str) -> str:
        return recipient.rpartition("@")[2]

    async def send(self, mails: Sequence[RelayMail]) -> list[list[Outcome]]:
        if {self.lane(each) for mail in mails for each in mail.recipients} & set(self.stuck):
            await asyncio.Event().wait()
        return await super().send(mails)


class TestLanes:
    """A relay that has no one next hop."""

    @staticmethod
    def run(scenario: Callable[[OutboxPump, FakeStore, LaneRelay], Any], **settings: Any) -> None:
        async def main() -> None:
            store, relay = FakeStore(), LaneRelay()
            pump = OutboxPump(store, relay, SystemClock(), OutboxSettings(**settings))  # type: ignore[arg-type] - see above
            running = asyncio.create_task(pump.run())
            await scenario(pump, store, relay)
            await pump.stop(0.0)
            await running

        asyncio.run(main())

    def test_a_lane_that_does_not_answer_holds_up_nobody(self) -> None:
        async def scenario(pump: OutboxPump, store: FakeStore, relay: LaneRelay) -> None:
            relay.stuck = ("dead",)
            store.add(1, *(["a@dead"] * 50))
            store.add(2, "b@fine", "c@dead", "d@good")
            for number in range(3, 40):
                store.add(number, "b@fine")
            fine = [row for row in store.rows.values() if row.outgoing.recipient.endswith(("fine", "good"))]
            dead = [row for row in store.rows.values() if row.outgoing.recipient.endswith("dead")]
            # Three are under way; the others are put off, which is no try of them.
            wanted = ["deferred"] * 48 + ["sending"] * 3
            await store.until(
                lambda: all(row.status == "sent" for row in fine) and sorted(row.status for row in dead) == wanted
            )
            late = [row for row in dead if row.status == "deferred"]
            assert not any(row.attempts for row in late)
            assert len({row.due for row in late}) == 48
            assert pump.statistics().in_flight == 3
            assert pump.healthy

        # More batches than there are at a time would have been needed for the dead ones alone.
        self.run(scenario, batch=4, concurrency=2, per_lane=3, longest_sleep=0.01)

    def test_no_more_rows_are_taken_than_may_be_under_way(self) -> None:
        async def scenario(_pump: OutboxPump, store: FakeStore, relay: LaneRelay) -> None:
            relay.stuck = tuple(f"d{number}" for number in range(20))
            store.add(1, *(f"a@d{number}" for number in range(20)))
            while store.statuses().count("sending") < 8:
                await asyncio.sleep(0)
            for _ in range(100):
                await asyncio.sleep(0)
            assert store.statuses().count("sending") == 8

        self.run(scenario, batch=4, concurrency=2, per_lane=3)

    def test_each_lane_is_settled_when_it_is_done(self) -> None:
        async def scenario(_pump: OutboxPump, store: FakeStore, relay: LaneRelay) -> None:
            relay.answers = {"b@x": Failed("550 no")}
            relay.stuck = ("dead",)
            store.add(1, "a@dead", "b@x", "c@y")
            await store.until(lambda: store.statuses() == ["sending", "failed", "sent"])

        self.run(scenario)

    def test_the_relay_says_if_no_mail_leaves(self) -> None:
        async def scenario(pump: OutboxPump, _store: FakeStore, relay: LaneRelay) -> None:
            assert pump.healthy
            relay.reason = "port 25 is closed"
            assert not pump.healthy
            assert (pump.reason, pump.statistics().relay_reason) == ("port 25 is closed", "port 25 is closed")

        self.run(scenario)
