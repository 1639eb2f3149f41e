"""A group of operations does what the same do one by one, whatever is among them; and a crash takes all of it.

Rows of a group are written together (`engine/pending.py`, `engine/arrivals.py`). So one store does each operation in a
group of its own and another does them in groups, and after each group their tables, memory and answers are compared.
A third one does each of them while the group before it is on its way to the disk, as far as that is possible.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from monsal.errors import StatementError
from monsal.store.contract import (
    Accept,
    Ack,
    Applied,
    Claimed,
    Expected,
    OutgoingMail,
    Recipient,
    SetTimer,
    Settled,
    StateChange,
    StateKey,
    Statement,
    TurnCommit,
    TurnRow,
)
from monsal.store.engine import operator, outbox, pruning, returned, spool, turns
from monsal.store.engine.opening import open_place
from monsal.store.engine.place import EngineSettings, FilePlace
from monsal.store.engine.text import store_text
from monsal.store.engine.writer import Occupied

pytestmark = pytest.mark.evidence

DAY = 86400.0
TABLES = (
    *("meta", "spool", "bodies", "history", "outbox", "states", "timers", "failures", "suppressed", "aside"),
    *("bounces", "consumed"),
)
WHO = st.sampled_from(["ann@x", "bob@x", "zoë\ud800@x"])
MAIL = st.tuples(
    st.just("accept"),
    WHO,
    st.integers(0, 5),
    st.sampled_from([("a@y",), ("a@y", "b@y"), ("a@y", "a@y")]),
    st.booleans(),
)
KINDS = st.sampled_from(["done", "done", "done", "done", "continue", "defer", "again", "dead", "hold", "drop"])
TURN = st.tuples(
    *(st.just("turn"), st.integers(0, 9), KINDS, st.sampled_from(["A", "B", "START", None])),
    *(st.sampled_from([None, "m:ONE", "m:TWO"]), st.integers(0, 2)),
    st.sampled_from([None] * 9 + ["timer", "conflict", "fenced", "works", "fails", "half"]),
)
OTHERS = st.sampled_from(
    [
        *(("claim",), ("claim",), ("state", "A"), ("state", "START"), ("set_all",), ("rename",), ("replay",)),
        *(("release",), ("suppress",), ("timers",), ("prune",), ("look",), ("give_back",), ("killed",)),
    ]
)
GROUP = st.tuples(
    st.lists(MAIL | TURN | TURN | OTHERS, max_size=12), st.sampled_from([0.0, 0.0, 1.0, 100.0, 4 * DAY]), st.booleans()
)


class Side:
    """A store and the leases that were given for it; `apart` flushes after each operation."""

    def __init__(self, place: Path, *, apart: bool, cached: int = 2, fresh: int = 20) -> None:
        # Small caches, so that rows of the open group are read.
        self.settings = EngineSettings(cached_states=cached, fresh_bytes=fresh, timers_at_once=2)
        self.place = FilePlace(place / "monsal.db", ("CREATE TABLE IF NOT EXISTS own(x UNIQUE)",), self.settings)
        self.apart = apart
        self.open()

    def open(self) -> None:
        self.data, _ = open_place(self.place, self.settings)
        self.leases: dict[str, Claimed] = {}

    def close(self) -> None:
        self.place.disconnect(self.data.writer.db)
        self.place.give_back()

    def run(self, function: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return self.data.run(function, *arguments)
        except StatementError as error:
            return type(error)
        finally:
            assert self.data.is_sound
            if self.apart:
                self.flush()

    def flush(self) -> None:
        if self.data.dirty:
            self.data.seal()
            self.data.hand_over()
            self.data.writer.commit()
            self.data.take_back()

    def do(self, step: tuple[Any, ...], now: float) -> Any:
        """Do one operation; its answer."""
        return getattr(self, step[0])(now, *step[1:])

    def accept(self, now: float, who: str, number: int, addresses: tuple[str, ...], is_large: bool) -> Any:
        mail = Accept(
            sender=who,
            correspondent=who,
            recipients=tuple(Recipient(address, who) for address in addresses),
            body=(b"%d" % number, b"x" * (100_000 if is_large else 5)),
            received=now,
            message_id=None if number == 0 else f"<{number}@x>",
            digest=None if number == 0 else number.to_bytes(32, "big"),
        )
        return self.run(spool.accept, mail, None)

    def claim(self, now: float) -> Any:
        rows = self.run(spool.claim, 10, now, 50.0)
        self.leases.update({row.lease_key: row for row in rows})
        return [(row.id, row.source, row.done, row.attempts, row.kills, row.body, row.fence.counter) for row in rows]

    def turn(
        self, now: float, which: int, kind: str, to: str | None, handler: str | None, mails: int, what: Any
    ) -> Any:
        if not self.leases:
            return None
        row = self.leases[sorted(self.leases)[which % len(self.leases)]]
        state = StateKey("m", row.correspondent)
        value = self.data.state(state)
        number = self.data.counters.turn
        own = {
            "works": (Statement("insert into own values (?)", (number,)),),
            "fails": (Statement("insert into own values (1), (1)"),),
            "half": (Statement("insert into own values (?)", (-number,)), Statement("insert into nowhere values (1)")),
        }
        turn = TurnCommit(
            fence=row.fence if what != "fenced" else type(row.fence)(row.fence.epoch, 0),
            lease_key=row.lease_key,
            message=row.id,
            now=now,
            ack=Ack(kind=kind, due=now + 20.0, reason="because", detail="Traceback"),  # type: ignore[arg-type]
            turn=handler
            and TurnRow(handler=handler, stateful=True, state=state, before=value.state, after=to or value.state),
            expected=(Expected(state, value.version + (what == "conflict")),),
            changes=() if to is None else (StateChange(state, to, "why"),),
            outgoing=tuple(
                OutgoingMail(
                    token=f"t{number}.{each}",
                    message_id=f"<o{number}.{each}@y>",
                    sender="b@y",
                    recipients=("ann@x", "b@x")[: each + 1],
                    body=b"z" * (5 + 90_000 * each),
                )
                for each in range(mails)
            ),
            timers=(SetTimer(state=state, target="m:T", due=now + 50.0, lease_key=row.lease_key),)
            if what == "timer"
            else (),
            statements=own.get(what, ()),
        )
        result = self.run(turns.commit, turn, {})
        if isinstance(result, Applied) and kind != "continue":
            self.leases.pop(row.lease_key, None)
        return result

    def state(self, now: float, name: str) -> Any:
        return self.run(operator.set_state, StateKey("m", "ann@x"), name, now)

    def set_all(self, now: float) -> Any:
        return self.run(operator.set_all, "bob@x", "C", now)

    def rename(self, now: float) -> Any:
        return self.run(operator.rename_state, "m", "A", "B", None)

    def replay(self, now: float) -> Any:
        return [self.run(operator.replay, row, now) for (row,) in self.data.select(_IN.format(3))]

    def release(self, now: float) -> Any:
        return self.run(operator.release, "ann@x", now)

    def suppress(self, now: float) -> Any:
        return self.run(returned.suppress, "ann@x", "failure", now, now + 10.0)

    def timers(self, now: float) -> Any:
        return self.claim(now + 60.0)

    def prune(self, now: float) -> Any:
        self.data.pruned_to = [0, 0, 0]
        return self.run(pruning.prune, now - 50.0, 3).rows

    def look(self, now: float) -> Any:
        whole = self.data.whole()
        return whole.execute("SELECT count(*), sum(turns), sum(status) FROM monsal_spool").fetchall()

    def give_back(self, now: float) -> Any:
        rows = list(self.leases.values())
        self.leases.clear()
        return self.run(spool.give_back, rows)

    def killed(self, now: float) -> Any:
        rows = [row.id for row in self.leases.values()]
        self.leases.clear()
        return self.run(spool.killed, rows, now)

    def send(self, now: float) -> Any:
        """What goes out between groups: only what is on the disk may."""
        taken = self.run(outbox.take_outgoing, 3, now)
        ends = ("sent", "deferred", "failed")
        self.run(
            outbox.settle,
            [Settled(id=row.id, status=ends[row.id % 3], due=now + 10.0, reason="so") for row in taken],  # type: ignore[arg-type]
        )
        return [(row.id, row.body, row.attempts) for row in taken]

    def picture(self) -> Any:
        """All tables but the number of the last flush, and what is in memory."""
        tables = {name: self.data.writer.db.execute(f"SELECT * FROM monsal_{name}").fetchall() for name in (*TABLES,)}
        tables["own"] = self.data.writer.db.execute("SELECT * FROM own").fetchall()
        # Which group and which opening it was is another thing on each side.
        meta = [value for place, value in enumerate(tables.pop("meta")[0]) if place not in (1, 2, 3)]
        return {name: sorted(rows, key=repr) for name, rows in tables.items()}, meta

    def memory(self) -> Any:
        data = self.data
        queues = sorted((q.key, q.count, q.head, q.due, q.held, q.counter) for q in data.schedule.queues.values())
        return queues, data.ledger.totals, data.outbox_counts, data.sending, data.next_timer, data.schedule.running

    def follows(self) -> None:
        """What is known of the rows after a head is true: they are the next ones, and wait."""
        for queue in self.data.schedule.queues.values():
            rows = self.data.select(_QUEUE, (store_text(queue.key),))
            assert (queue.count, queue.head) == (len(rows), rows[0][0])
            known = rows[1 : 1 + len(queue.following)]
            assert queue.following == [row for row, _, _, _ in known]
            assert all(status == 0 and due <= received for _, status, due, received in known)


class Meanwhile(Side):
    """A group of its own for each operation, which is being flushed while the next ones are done."""

    #: What may be tried meanwhile.
    LIGHT = (spool.accept, spool.claim, turns.commit, outbox.settle)

    def __init__(self, place: Path) -> None:
        super().__init__(place, apart=False, cached=100, fresh=10_000)
        self.done_meanwhile = 0

    def end_flush(self) -> None:
        """The disk has the group; what was done meanwhile is an open one."""
        data = self.data
        if data.writer.flushing:
            data.writer.commit()
            data.take_back()
            if data.dirty:
                data.writer.begin()

    def flush(self) -> None:
        self.end_flush()
        super().flush()

    def close(self) -> None:
        self.data.writer.take_back()
        super().close()

    def do(self, step: tuple[Any, ...], now: float) -> Any:
        if step[0] not in ("accept", "claim", "turn"):
            self.end_flush()
        try:
            return super().do(step, now)
        except Occupied:  # a state that is not in memory
            self.end_flush()
            return super().do(step, now)

    def run(self, function: Callable[..., Any], *arguments: Any) -> Any:
        data = self.data
        if data.dirty and not data.writer.flushing:
            data.seal()
            data.hand_over()
        if function in self.LIGHT and data.writer.flushing:
            try:
                answer = super().run(function, *arguments)
            except Occupied:
                pass
            else:
                self.done_meanwhile += 1
                return answer
        self.end_flush()
        return super().run(function, *arguments)

    def claim(self, now: float) -> Any:
        if self.data.arrivals or self.data.schedule.first > self.data.durable_row:  # they are given after the flush
            self.end_flush()
        rows = super().claim(now)
        if self.data.writer.flushing:
            self.end_flush()
            rows += super().claim(now)
        return rows


_QUEUE = "SELECT id, status, due, received FROM monsal_spool WHERE lease_key = ? AND status < 2 ORDER BY id"
_IN = "SELECT id FROM monsal_spool WHERE status = {} ORDER BY id"


@pytest.mark.rule("state.B11", "state.B12")
@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
@given(groups=st.lists(GROUP, min_size=1, max_size=5))
def test_a_group_does_what_its_operations_do_one_by_one(groups: list[Any]) -> None:
    with tempfile.TemporaryDirectory(prefix="monsal-groups-") as where:
        places = [Path(where) / name for name in ("together", "apart")]
        for place in places:
            place.mkdir()
        together, apart = Side(places[0], apart=False), Side(places[1], apart=True)
        now = 1_700_000_000.0
        for steps, later, crashes in groups:
            now += later
            if crashes:
                _crash(together, steps, now)
                # Its leases are gone; the other one loses them, too.
                apart.close()
                apart.open()
            # A receipt is right when its group is sealed: so all are looked at afterwards.
            answers = [(together.do(step, now), apart.do(step, now)) for step in steps]
            together.flush()
            assert [one for one, _ in answers] == [other for _, other in answers]
            assert together.picture() == apart.picture()
            assert together.memory() == apart.memory()
            together.follows()
            assert together.send(now) == apart.send(now)
            together.flush()
        together.close()
        together.open()
        apart.close()
        apart.open()
        assert together.picture() == apart.picture()
        assert together.memory() == apart.memory()
        together.close()
        apart.close()


@pytest.mark.rule("state.B11", "state.B12")
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(groups=st.lists(GROUP, min_size=1, max_size=5))
def test_operations_during_a_flush_do_what_they_do_one_by_one(groups: list[Any]) -> None:
    with tempfile.TemporaryDirectory(prefix="monsal-groups-") as where:
        places = [Path(where) / name for name in ("meanwhile", "apart")]
        for place in places:
            place.mkdir()
        meanwhile, apart = Meanwhile(places[0]), Side(places[1], apart=True)
        now = 1_700_000_000.0
        for steps, later, crashes in groups:
            now += later
            if crashes:
                for side in (meanwhile, apart):
                    side.close()
                    side.open()
            answers = [(meanwhile.do(step, now), apart.do(step, now)) for step in steps]
            meanwhile.flush()
            assert [one for one, _ in answers] == [other for _, other in answers]
            assert meanwhile.picture() == apart.picture()
            assert meanwhile.memory() == apart.memory()
            for side in (meanwhile, apart):
                side.follows()
            assert meanwhile.send(now) == apart.send(now)
            meanwhile.flush()
        for side in (meanwhile, apart):
            side.close()
            side.open()
        assert meanwhile.picture() == apart.picture()
        assert meanwhile.memory() == apart.memory()
        meanwhile.close()
        apart.close()


def _crash(side: Side, steps: list[Any], now: float) -> None:
    """Do a group whose process dies before its flush: nothing of it is left."""
    before = side.picture()
    for step in steps:
        side.do(step, now)
    side.close()
    side.open()
    assert side.picture() == before
