"""A store as a few dicts, and a machine that drives a real one beside them (contract state, judged by a model).

A crash may take back what was applied and not flushed. So the model keeps a picture of itself after each step since
the last answer that had to be durable; after a crash the store must look like exactly one of them: a suffix is gone,
never a middle.
"""

from __future__ import annotations

import asyncio
import copy
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from monsal.store import SqliteStore
from monsal.store.contract import (
    Accept,
    Ack,
    Applied,
    Claimed,
    Conflict,
    Expected,
    Fenced,
    OutgoingMail,
    Recipient,
    SetTimer,
    Settled,
    StateChange,
    StateKey,
    TurnCommit,
    TurnRow,
)
from monsal.store.engine.place import EngineSettings

__all__ = ["SENDERS", "Model", "StoreMachine"]

DAY = 86400.0
SENDERS = st.sampled_from(["ann@x", "bob@x", "zoë\ud800@x"])
STATES = st.sampled_from(["A", "B", "START"])
KINDS = st.sampled_from(["done", "done", "done", "continue", "defer", "again", "dead", "hold", "drop"])
Pair = tuple[str, str]


@dataclass
class Row:
    """A row of the spool as the model knows it."""

    key: str
    status: str = "waiting"
    due: float = 0.0
    attempts: int = 0
    kills: int = 0
    done: list[str] = field(default_factory=list)
    source: str = "mail"
    entered: int = 0
    target: str = ""


@dataclass
class Model:
    """What the store should hold. Leases are in memory and so beside it."""

    rows: dict[int, Row] = field(default_factory=dict)
    states: dict[Pair, tuple[str, int, int]] = field(default_factory=dict)
    timers: dict[tuple[str, str, str], tuple[float, int]] = field(default_factory=dict)
    outbox: dict[int, tuple[str, int, float]] = field(default_factory=dict)
    seen: dict[tuple[str, int], tuple[int, float]] = field(default_factory=dict)
    duplicates: int = 0
    turns: int = 0

    def change(self, pair: Pair, name: str, version: int) -> None:
        before = self.states.get(pair, ("START", 0, 0))
        if name != before[0]:
            self.timers = {timer: value for timer, value in self.timers.items() if timer[:2] != pair}
        if name == "START":
            self.states.pop(pair, None)
        else:
            self.states[pair] = (name, version, before[2] if name == before[0] else version)

    def head(self, key: str) -> int | None:
        open_rows = [
            row for row, found in self.rows.items() if found.key == key and found.status in ("waiting", "held")
        ]
        return min(open_rows, default=None)

    def picture(self) -> Any:
        """The same as `_picture` of the store."""
        return (
            sorted((n, row.status, row.attempts, row.kills, tuple(row.done)) for n, row in self.rows.items()),
            sorted((*pair, state, version) for pair, (state, version, _) in self.states.items()),
            sorted((*timer, due) for timer, (due, _) in self.timers.items()),
            sorted((row, status, attempts) for row, (status, attempts, _) in self.outbox.items()),
            self.duplicates,
        )


class StoreMachine(RuleBasedStateMachine):
    """Drives a store on a file and the model side by side."""

    def __init__(self) -> None:
        super().__init__()
        self.place = Path(tempfile.mkdtemp(prefix="monsal-model-"))
        self.loop = asyncio.new_event_loop()
        self.model = Model()
        self.pictures: list[Model] = []
        self.now = 1_700_000_000.0
        self.leases: dict[str, tuple[int, float, Claimed]] = {}
        self.lost: list[Claimed] = []
        self.sending: set[int] = set()
        self.mails: list[Accept] = []
        self.version = 0
        self.count = 0
        self.store = self._store()

    def _store(self) -> SqliteStore:
        # Small groups and caches, so that their edges are met; bodies above 64 bytes are files.
        sizes = EngineSettings(
            group_limit=5, narrow=99, cached_states=2, fresh_bytes=200, body_limit=64, timers_at_once=2
        )
        return SqliteStore(self.place / "monsal.db", settings=sizes)

    def run(self, coroutine: Any) -> Any:
        return self.loop.run_until_complete(asyncio.wait_for(coroutine, 60))

    @initialize()
    def open(self) -> None:
        self.run(self.store.open())
        self.durable()

    def teardown(self) -> None:
        self.run(self.store.close())
        self.loop.close()
        self.remove_place()

    def remove_place(self) -> None:
        shutil.rmtree(self.place)

    def durable(self) -> None:
        """The last answer had to be on the disk: no crash goes behind it."""
        self.pictures = [copy.deepcopy(self.model)]

    def applied(self) -> None:
        self.pictures.append(copy.deepcopy(self.model))

    # -- mail in ----------------------------------------------------------------------------------------------

    @rule(sender=SENDERS, two=st.booleans(), large=st.booleans())
    def accept(self, sender: str, two: bool, large: bool) -> None:
        self.count += 1
        recipients = tuple(Recipient(address, sender) for address in (["a@y", "b@y"] if two else ["a@y"]))
        body = (b"%d " % self.count, b"x" * (100 if large else 5))
        digest = self.count.to_bytes(32, "big")
        mail = Accept(
            sender=sender,
            correspondent=sender,
            recipients=recipients,
            body=body,
            received=self.now,
            message_id=f"<{self.count}@x>",
            digest=digest,
        )
        self.mails.append(mail)
        self._accept(mail)

    @precondition(lambda self: self.mails)
    @rule(data=st.data())
    def accept_again(self, data: st.DataObject) -> None:
        mail = data.draw(st.sampled_from(self.mails))
        fields = {name: getattr(mail, name) for name in mail.__struct_fields__}
        self._accept(Accept(**{**fields, "received": self.now}))

    def _accept(self, mail: Accept) -> None:
        receipt = self.run(self.store.accept(mail))
        number = int.from_bytes(mail.digest or b"", "big")
        for recipient, row, is_duplicate in zip(mail.recipients, receipt.ids, receipt.duplicates, strict=True):
            before = self.model.seen.get((recipient.address, number))
            expected = before is not None and before[1] > self.now - 3 * DAY
            assert is_duplicate == expected, (recipient, before, self.now)
            if expected:
                assert before is not None
                assert row == before[0]
                self.model.duplicates += 1
            else:
                assert row > max(self.model.rows, default=0)
                self.model.rows[row] = Row(recipient.lease_key)
                self.model.seen[recipient.address, number] = (row, self.now)
        self.durable()

    @rule(limit=st.sampled_from([1, 2, 100]), lease=st.sampled_from([10.0, 1000.0]))
    def claim(self, limit: int, lease: float) -> None:
        due = sorted((due, timer) for timer, (due, _) in self.model.timers.items() if due <= self.now)[:2]
        claimed = self.run(self.store.claim(limit, self.now, lease))
        for _, timer in due:
            _, entered = self.model.timers.pop(timer)
            row = max(self.model.rows, default=0) + 1
            self.model.rows[row] = Row(timer[1], source="timer", entered=entered, target=timer[2])
        if due:
            self.applied()
        ready = self._ready()
        assert len(claimed) == min(limit, len(ready)), (ready, claimed)
        for row in claimed:
            expected = self.model.rows[row.id]
            assert ready.pop(row.lease_key) == row.id
            assert (row.attempts, row.kills, row.source) == (expected.attempts, expected.kills, expected.source)
            assert [turn.handler for turn in row.done] == expected.done
            if expected.source == "timer":
                assert (row.entered, row.target) == (expected.entered, expected.target)
            body = row.body if isinstance(row.body, bytes) else row.body.read_bytes()
            assert body.startswith(b"%d " % int((row.message_id or "<0@").partition("@")[0][1:]))
            if row.lease_key in self.leases:
                self.lost.append(self.leases[row.lease_key][2])
            self.leases[row.lease_key] = (row.id, self.now + lease, row)

    def _ready(self) -> dict[str, int]:
        found = {}
        for key in {row.key for row in self.model.rows.values()}:
            head = self.model.head(key)
            is_leased = key in self.leases and self.leases[key][1] > self.now
            if head is None or is_leased or self.model.rows[head].status == "held" or self._is_kept(key):
                continue
            if self.model.rows[head].due <= self.now:
                found[key] = head
        return found

    def _is_kept(self, key: str) -> bool:
        """Whether rows of this key are given to nobody, for other reasons than a lease."""
        return False

    # -- turns ------------------------------------------------------------------------------------------------

    @precondition(lambda self: self.leases)
    @rule(
        data=st.data(),
        kind=KINDS,
        to=st.none() | STATES,
        handler=st.none() | st.sampled_from(["m:ONE", "m:TWO"]),
        timer=st.none() | st.sampled_from([0.0, 5.0, 500.0]),
        mails=st.integers(0, 2),
        is_stale=st.booleans() | st.just(False),
    )
    def commit(self, data: st.DataObject, kind: str, to: str | None, handler: str | None, **more: Any) -> None:
        key = data.draw(st.sampled_from(sorted(self.leases)))
        number, _, row = self.leases[key]
        pair, model = ("m", key), self.model
        value = self.run(self.store.read_states([StateKey(*pair)]))[StateKey(*pair)]
        name, version, entered = model.states.get(pair, ("START", 0, 0))
        assert (value.state, value.version, value.entered) == (name, version, entered)
        expected = version + 1_000_000 if more["is_stale"] else version
        turn = self._turn(row, kind, to, handler, expected=expected, before=name, **more)
        result = self.run(self.store.commit(turn))
        found = model.rows[number]
        if handler is not None and handler in found.done:
            assert isinstance(result, Applied)
            return
        if more["is_stale"]:
            assert result == Conflict((StateKey(*pair),))
            return
        assert isinstance(result, Applied), result
        self._follow(turn, result)

    def _turn(self, row: Claimed, kind: str, to: str | None, handler: str | None, **more: Any) -> TurnCommit:
        pair = StateKey("m", row.lease_key)
        self.count += 1
        timers = () if more["timer"] is None else (more["timer"],)
        return TurnCommit(
            fence=row.fence,
            lease_key=row.lease_key,
            message=row.id,
            now=self.now,
            ack=Ack(
                kind=kind,  # type: ignore[arg-type]
                due=self.now + 20.0,
                reason="because",
                detail="Traceback",
                tried=self.count % 2 == 0,
            ),
            turn=handler
            and TurnRow(handler=handler, stateful=True, state=pair, before=more["before"], after=to or more["before"]),
            expected=(Expected(pair, more["expected"]),),
            changes=() if to is None else (StateChange(pair, to),),
            outgoing=tuple(
                OutgoingMail(
                    token=f"t{self.count}.{number}",
                    message_id=f"<o{self.count}.{number}@y>",
                    sender="b@y",
                    recipients=("a@x", "b@x")[: number + 1],
                    body=b"z" * (5 + 100 * number),
                    due=self.now,
                )
                for number in range(more["mails"])
            ),
            timers=tuple(
                SetTimer(state=pair, target="m:T", due=self.now + after, lease_key=row.lease_key) for after in timers
            ),
        )

    def _follow(self, turn: TurnCommit, result: Applied) -> None:
        """Do to the model what the turn did."""
        model, pair = self.model, ("m", turn.lease_key)
        row = model.rows[turn.message]
        for change in turn.changes:
            stored = self.run(self.store.read_states([change.state]))[change.state]
            assert stored.version == 0 if change.name == "START" else stored.version > self.version
            self.version = max(self.version, stored.version)
            model.change(pair, change.name, stored.version)
        if turn.turn is not None:
            assert result.turn > model.turns
            model.turns = result.turn
            row.done.append(turn.turn.handler)
        for mail in turn.outgoing:
            for _ in mail.recipients:
                model.outbox[max(model.outbox, default=0) + 1] = ("waiting", 0, mail.due)
        for timer in turn.timers:
            assert timer.due is not None
            model.timers[(*pair, timer.target)] = (timer.due, model.states.get(pair, ("START", 0, 0))[2])
        kind = turn.ack.kind
        row.status = {"done": "done", "dead": "dead", "hold": "held", "drop": "dropped"}.get(kind, row.status)
        if kind == "defer":
            row.due, row.attempts = turn.ack.due, row.attempts + 1
        elif row.status in ("dead", "held", "dropped"):
            row.attempts += turn.ack.tried
        if kind != "continue":
            self.lost.append(self.leases.pop(turn.lease_key)[2])
        self.applied()

    @precondition(lambda self: self.lost)
    @rule(data=st.data())
    def commit_without_a_lease(self, data: st.DataObject) -> None:
        row = data.draw(st.sampled_from(self.lost))
        turn = self._turn(row, "done", "A", "m:LATE", expected=0, before="START", timer=None, mails=1)
        assert isinstance(self.run(self.store.commit(turn)), Fenced)
        assert self.run(self.store.extend([(row.lease_key, row.fence)], self.now + 9)) == [False]

    @rule(seconds=st.sampled_from([1.0, 15.0, 2000.0, 2 * DAY]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    # -- outgoing ---------------------------------------------------------------------------------------------

    @rule(limit=st.sampled_from([1, 100]), status=st.sampled_from(["sent", "deferred", "failed", "keep"]))
    def send(self, limit: int, status: str) -> None:
        self._flush()
        due = {
            row
            for row, (state, _, due) in self.model.outbox.items()
            if state in ("waiting", "deferred") and due <= self.now
        }
        taken = self.run(self.store.take_outgoing(limit, self.now))
        assert len(taken) == min(limit, len(due - self.sending))
        assert {row.id for row in taken} <= due - self.sending
        for row in taken:
            assert row.attempts == self.model.outbox[row.id][1]
            self.sending.add(row.id)
        if status == "keep":
            return
        later = self.now + 30.0
        self.run(self.store.settle([Settled(id=row.id, status=status, due=later) for row in taken]))  # type: ignore[arg-type]
        for row in taken:
            self.sending.discard(row.id)
            self.model.outbox[row.id] = (status, row.attempts + 1, later)
        self.durable()

    def _flush(self) -> None:
        """Wait until all that is applied is on the disk, by an act that changes nothing."""
        self.run(self.store.set_state(StateKey("(none)", ""), "START", self.now))
        self.durable()

    # -- an operator ------------------------------------------------------------------------------------------

    @precondition(lambda self: self.model.rows)
    @rule(data=st.data(), act=st.sampled_from(["replay", "drop"]))
    def act_on_a_dead_letter(self, data: st.DataObject, act: str) -> None:
        dead = [row for row, found in self.model.rows.items() if found.status == "dead"]
        row = data.draw(st.sampled_from(dead or sorted(self.model.rows)))
        found = self.model.rows[row]
        done = self.run(getattr(self.store, act)(row, self.now))
        assert done == (found.status == "dead")
        if done:
            found.status = "waiting" if act == "replay" else "dropped"
            if act == "replay":
                found.due, found.attempts, found.kills = 0.0, 0, 0
            self.durable()

    @rule(sender=SENDERS)
    def release(self, sender: str) -> None:
        held = [row for row in self.model.rows.values() if row.key == sender and row.status == "held"]
        assert self.run(self.store.release(sender, self.now)) == len(held)
        for row in held:
            row.status, row.due, row.attempts, row.kills = "waiting", 0.0, 0, 0
        self.durable()

    @precondition(lambda self: self.model.rows)
    @rule(data=st.data())
    def kill(self, data: st.DataObject) -> None:
        running = [row for row, _, _ in self.leases.values()]
        known = st.sampled_from(running or sorted(self.model.rows))
        numbers = data.draw(st.lists(known, min_size=1, max_size=3, unique=True))
        dead = self.run(self.store.killed(numbers, self.now))
        assert dead == self.count_kills(numbers)

    def count_kills(self, numbers: list[int]) -> list[int]:
        """Do to the model what a kill does that these rows are blamed for; those that are dead letters by it."""
        expected: list[int] = []
        waiting = [number for number in numbers if self.model.rows[number].status == "waiting"]
        suspects = [number for number in waiting if self.model.rows[number].kills]
        for number in suspects or waiting:
            row = self.model.rows[number]
            row.kills += 1
            if row.kills >= 3:
                row.status = "dead"
                expected.append(number)
        for number in waiting:
            key = self.model.rows[number].key
            if key in self.leases and self.leases[key][0] == number:
                self.lost.append(self.leases.pop(key)[2])
        if waiting:
            self.durable()
        return expected

    @rule(sender=SENDERS, state=STATES, act=st.sampled_from(["set_state", "set_all", "rename_state", "clear_states"]))
    def act_on_states(self, sender: str, state: str, act: str) -> None:
        model = self.model
        if act == "set_state":
            self.run(self.store.set_state(StateKey("m", sender), state, self.now))
            changed = [("m", sender)]
        elif act == "set_all":
            changed = [pair for pair, value in model.states.items() if pair[1] == sender and value[0] != state]
            assert self.run(self.store.set_all(sender, state, self.now)) == len(changed)
        elif act == "rename_state":
            changed = []
            renamed = [pair for pair, value in model.states.items() if pair[0] == "m" and value[0] == "A"]
            assert self.run(self.store.rename_state("m", "A", "B", self.now)) == len(renamed)
            for pair in renamed:
                version = self.run(self.store.read_states([StateKey(*pair)]))[StateKey(*pair)].version
                assert version > self.version or version > model.states[pair][1]
                self.version = max(self.version, version)
                model.states[pair] = ("B", version, model.states[pair][2])
        else:
            self.run(self.store.clear_states())
            model.states, model.timers, changed = {}, {}, []
        for pair in changed:
            version = self.run(self.store.read_states([StateKey(*pair)]))[StateKey(*pair)].version
            self.version = max(self.version, version)
            model.change(pair, state, version)
        self.durable()

    # -- endings ----------------------------------------------------------------------------------------------

    @rule()
    def restart(self) -> None:
        self.run(self.store.close())
        self._open_again()

    @rule()
    def crash(self) -> None:
        self.run(self.store.abandon())
        self._open_again()
        picture = self.run(self._picture())
        matching = [model for model in self.pictures if model.picture() == picture]
        assert matching, (picture, [model.picture() for model in self.pictures])
        self.model = copy.deepcopy(matching[-1])
        self.durable()

    def _open_again(self) -> None:
        self.lost += [row for _, _, row in self.leases.values()]
        self.leases, self.sending = {}, set()
        self.store = self._store()
        self.run(self.store.open())

    # -- looking ----------------------------------------------------------------------------------------------

    async def _picture(self) -> Any:
        read = self.store.read
        turns: dict[int, list[str]] = {}
        for message, handler in await read("select message, handler from monsal_history order by id"):
            turns.setdefault(message, []).append(handler)
        rows = await read("select id, status, (select attempts from monsal_spool s where s.id = v.id),"
                          " (select kills from monsal_spool s where s.id = v.id) from v_messages v")  # fmt: skip
        return (
            sorted((*row, tuple(turns.get(row[0], ()))) for row in rows),
            sorted(await read("select key, sender, state, version from v_states")),
            sorted(await read("select key, sender, target, due from monsal_timers")),
            sorted(await read("select id, status, attempts from v_outbox")),
            (await read("select sum(duplicates) from v_ledger"))[0][0],
        )

    @invariant()
    def the_store_is_the_model(self) -> None:
        if self.store.epoch == 0:
            return
        assert self.run(self._picture()) == self.model.picture()

    @invariant()
    def the_ledger_balances_and_counts_the_rows(self) -> None:
        if self.store.epoch == 0:
            return
        ledger = self.run(self.store.ledger())
        for source in ("mail", "timer"):
            found, rows = ledger[source], [row for row in self.model.rows.values() if row.source == source]
            assert found.accepted == len(rows)
            for name in ("done", "held", "dead", "dropped"):
                assert getattr(found, name) == sum(row.status == name for row in rows), (name, found)
            assert found.waiting + found.running == sum(row.status == "waiting" for row in rows)
        assert sum(entry.running for entry in ledger.values()) == len(self.leases)
        counts = self.run(self.store.outbox_counts())
        assert counts["sending"] == len(self.sending)
        assert sum(counts.values()) == len(self.model.outbox)
