"""The methods of the contract over the engine: what runs where, what is durable, and large bodies on their way."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, cast

from monsal.errors import StoreUnavailable
from monsal.store.bounced import SentMail
from monsal.store.coming import Coming
from monsal.store.contract import (
    Accept,
    Capabilities,
    Claimed,
    CommitResult,
    Fence,
    Ledger,
    Outgoing,
    OutgoingMail,
    Receipt,
    Settled,
    Source,
    StateKey,
    StateValue,
    TurnCommit,
)
from monsal.store.early import Offer
from monsal.store.engine import erasing, looking, operator, outbox, pruning, returned, spool, turns
from monsal.store.engine.bodies import BodyFiles, BodyWriters, Filed
from monsal.store.engine.codes import SOURCES
from monsal.store.engine.core import Core
from monsal.store.engine.data import Data
from monsal.store.engine.database import foreign_error
from monsal.store.engine.looking import What
from monsal.store.engine.opening import sweep
from monsal.store.engine.operation import APPLIED, ASIDE, ASIDE_DURABLE, DURABLE, LIGHT, LIGHT_DURABLE, How, InDoubt
from monsal.store.engine.place import EngineSettings, Place
from monsal.store.engine.statistics import StoreStatistics
from monsal.store.engine.text import store_text
from monsal.store.upkeep import Erased
from monsal.store.waiter import Waiter

__all__ = ["SqlStore", "how_to_claim", "how_to_commit", "read_states"]

#: Rows that one step of an erasure takes away.
_AT_ONCE: Final = 100
#: The columns of `erasing.COUNT`.
_COUNTED: Final = ("messages", "unhandled", "turns", "mails", "unsent", "states", "timers", "elsewhere")


class SqlStore:
    """A store on SQLite. `monsal.store.contract.Store` says what each method promises."""

    def __init__(self, place: Place, settings: EngineSettings, capabilities: Capabilities, *, threaded: bool) -> None:
        #: For whoever gives others access to this store (`store.host`).
        self.core = self._core = Core(place, settings, threaded=threaded)
        self.bodies = place.bodies
        self.settings = self._settings = settings
        self._place = place
        self._capabilities = capabilities
        self._writers: BodyWriters | None = None
        self._secret = b""
        self._epoch = 0

    @property
    def capabilities(self) -> Capabilities:
        return self._capabilities

    @property
    def secret(self) -> bytes:
        self._note_opening()
        return self._secret

    @property
    def epoch(self) -> int:
        self._note_opening()
        return self._epoch

    def _note_opening(self) -> None:
        if (data := self._core.data) is not None:
            self._secret, self._epoch = data.secret, data.epoch

    @property
    def coming(self) -> Coming:
        """Where mails are announced for which a group waits."""
        return self._core.group.coming

    def statistics(self) -> StoreStatistics:
        """Figures about the engine, for people."""
        return self._core.statistics()

    async def open(self) -> None:
        await self._core.open()
        self._note_opening()

    async def close(self) -> None:
        try:
            await self._core.close()
        finally:
            writers, self._writers = self._writers, None
            if writers is not None:
                await asyncio.to_thread(writers.stop)

    async def abandon(self) -> None:
        """End as a killed process does, without a flush; for tests of crashes."""
        await self._core.abandon()

    def on_work(self, callback: Callable[[], None]) -> None:
        self._core.work.listeners.append(callback)

    def on_outgoing(self, callback: Callable[[], None]) -> None:
        self._core.mail.listeners.append(callback)

    def on_early(self, offer: Offer) -> None:
        self._core.early.offer = offer

    # -- the spool --------------------------------------------------------------------------------------------

    async def accept(self, mail: Accept) -> Receipt:
        bodies = self._place.bodies
        if bodies is None or spool.total(mail.body) <= self._settings.body_limit:
            return await self._core.run(LIGHT_DURABLE, spool.accept, mail, None)
        file = await self._write_body(bodies, mail.body)
        try:
            receipt = await self._core.run(LIGHT_DURABLE, spool.accept, mail, file)
        except InDoubt:
            # If its row turns up after all, the sender's next try is a duplicate, and this is all there is of the mail.
            bodies.doubt(file.token)
            raise
        except Exception:
            # Nothing was stored; a caller who is cancelled cannot know that, so then the next opening looks.
            self._forget_body(bodies, file.token)
            raise
        if all(receipt.duplicates):
            self._forget_body(bodies, file.token)
        return receipt

    def begin_accept(self, mail: Accept, waiter: Waiter) -> Receipt | Waiter | None:
        """`accept` without a coroutine; see `monsal.store.waiter`. None for a large mail, which becomes a file."""
        if self._place.bodies is not None and spool.total(mail.body) > self._settings.body_limit:
            return None
        return self._core.begin(LIGHT_DURABLE, spool.accept, mail, None, waiter=cast(asyncio.Future[Receipt], waiter))

    async def claim(self, limit: int, now: float, lease: float) -> list[Claimed]:
        return await self._core.run(
            how_to_claim(self._core.data, now), spool.claim, limit, now, lease, undo=spool.give_back
        )

    def next_work(self) -> float | None:
        data = self._core.data
        if data is None:
            return None
        if data.arrivals and not data.writer.flushing:
            return 0.0  # they are in no queue yet: the claim puts them there
        # A mail that is not on the disk yet can be claimed at the end of the flush, which is an event.
        is_ready = not data.writer.flushing or data.schedule.first <= data.durable_row
        due = data.schedule.next_time(is_ready=is_ready)
        if data.next_timer == float("inf"):
            return due
        return data.next_timer if due is None else min(due, data.next_timer)

    async def extend(self, leases: Sequence[tuple[str, Fence]], until: float) -> list[bool]:
        return await self._core.run(LIGHT, spool.extend, tuple(leases), until)

    async def killed(self, rows: Sequence[int], now: float) -> list[int]:
        return await self._core.run(DURABLE, spool.killed, tuple(rows), now)

    # -- turns ------------------------------------------------------------------------------------------------

    async def commit(self, turn: TurnCommit) -> CommitResult:
        bodies = self._place.bodies
        large = [mail for mail in turn.outgoing if len(mail.body) > self._settings.body_limit] if bodies else []
        if large:
            assert bodies is not None
            return await self._commit_large(bodies, turn, large)
        return await self._core.run(how_to_commit(turn), turns.commit, turn, {})

    async def _commit_large(self, bodies: BodyFiles, turn: TurnCommit, large: Sequence[OutgoingMail]) -> CommitResult:
        written: dict[str, Filed] = {}
        used: dict[str, Filed] = {}
        try:
            for mail in large:
                written[mail.token] = await self._write_body(bodies, (mail.body,))
            used = dict(written)
            return await self._core.run(how_to_commit(turn), turns.commit, turn, used)
        except Exception:
            used = written
            raise
        finally:
            # The commit takes out what it pointed to; what it did not, nothing will.
            for mail_token in used:
                self._forget_body(bodies, written[mail_token].token)

    async def read_states(self, states: Sequence[StateKey]) -> dict[StateKey, StateValue]:
        data = self._core.data
        if data is not None:
            known = {state: value for state in states if (value := data.states.get(state)) is not None}
            if len(known) == len(states) or len(known) == len(set(states)):
                return known
        return await self._core.run(LIGHT, read_states, states)

    async def read(self, sql: str, params: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        return await self._core.read(sql, params)

    # -- the outbox -------------------------------------------------------------------------------------------

    async def take_outgoing(self, limit: int, now: float) -> list[Outgoing]:
        return await self._core.run(LIGHT, outbox.take_outgoing, limit, now, undo=outbox.put_back)

    def next_outgoing(self) -> float | None:
        data = self._core.data
        due = float("inf") if data is None else outbox.next_due(data)
        return None if due == float("inf") else due

    async def settle(self, results: Sequence[Settled]) -> None:
        await self._core.run(LIGHT_DURABLE, outbox.settle, tuple(results))

    async def outbox_counts(self) -> dict[str, int]:
        return await self._core.run(LIGHT, outbox.counts)

    async def retry_outgoing(self, row: int, now: float) -> bool:
        return await self._core.run(DURABLE, outbox.retry_outgoing, row, now)

    async def cancel_outgoing(self, row: int, now: float) -> bool:
        return await self._core.run(DURABLE, outbox.cancel_outgoing, row, now)

    # -- mail that came back ------------------------------------------------------------------------------------

    async def sent(self, token: str) -> SentMail | None:
        return await self._core.run(APPLIED, returned.sent, token)

    async def suppress(self, address: str, reason: str, now: float, until: float | None = None) -> None:
        await self._core.run(DURABLE, returned.suppress, address, reason, now, until)

    async def unsuppress(self, address: str) -> bool:
        return await self._core.run(DURABLE, returned.unsuppress, address)

    # -- for people -------------------------------------------------------------------------------------------

    async def ledger(self) -> dict[Source, Ledger]:
        return await self._core.run(APPLIED, _ledger)

    async def rows(self, what: What, limit: int = 1000) -> list[Mapping[str, Any]]:
        return await self._core.run(ASIDE, _rows, what, limit)

    async def dead_detail(self, row: int) -> Mapping[str, Any] | None:
        return await self._core.run(ASIDE, _dead_detail, row)

    async def replay(self, row: int, now: float) -> bool:
        return await self._core.run(DURABLE, operator.replay, row, now)

    async def drop(self, row: int, now: float) -> bool:
        return await self._core.run(DURABLE, operator.drop, row, now)

    async def release(self, lease_key: str, now: float) -> int:
        return await self._core.run(DURABLE, operator.release, lease_key, now)

    async def set_state(self, state: StateKey, name: str, now: float) -> None:
        await self._core.run(DURABLE, operator.set_state, state, name, now)

    async def set_all(self, sender: str, name: str, now: float) -> int:
        return await self._core.run(ASIDE_DURABLE, operator.set_all, sender, name, now)

    async def rename_state(self, key: str, old: str, new: str, now: float) -> int:
        changed, after = await self._core.run(ASIDE_DURABLE, operator.rename_state, key, old, new, None)
        while after is not None:
            step, after = await self._core.run(ASIDE_DURABLE, operator.rename_state, key, old, new, after)
            changed += step
        return changed

    async def clear_states(self) -> None:
        await self._core.run(ASIDE_DURABLE, operator.clear_states)

    # -- upkeep -----------------------------------------------------------------------------------------------

    async def prune(self, now: float, keep: float, limit: int = 500) -> int:
        return await self._prune(pruning.prune, now - max(keep, self._settings.duplicates_for), limit)

    async def prune_bodies(self, now: float, keep: float, limit: int = 500) -> int:
        return await self._prune(pruning.prune_bodies, now - keep, limit)

    async def _prune(self, step: Callable[[Data, float, int], pruning.Pruned], before: float, limit: int) -> int:
        """Take steps until one finds something, or there is nothing more."""
        while True:
            pruned = await self._core.run(ASIDE_DURABLE, step, before, limit)
            self._forget_files(pruned.files)
            if pruned.rows or pruned.is_over:
                return pruned.rows

    async def erase(self, sender: str, now: float, dry_run: bool = False) -> Erased:
        known = (await self._core.read(erasing.COUNT, (store_text(sender),)))[0]
        counted = Erased(**dict(zip(_COUNTED, known, strict=True)))
        if dry_run:
            return counted
        messages = await self._erase_rows(erasing.MESSAGES, erasing.erase_messages, sender)
        mails = await self._erase_rows(erasing.MAILS, erasing.erase_mails, sender)
        states = await self._core.run(ASIDE_DURABLE, erasing.erase_states, sender)
        self._forget_files(states.files)
        return Erased(
            messages=messages.rows,
            unhandled=messages.open,
            turns=messages.turns,
            mails=mails.rows,
            unsent=mails.open,
            states=states.rows,
            timers=states.open,
            bodies=messages.bodies + mails.bodies + states.bodies,
            running=messages.busy + mails.busy,
            elsewhere=counted.elsewhere,
        )

    async def _erase_rows(
        self, ids: str, step: Callable[[Data, list[int]], erasing.Taken], sender: str
    ) -> erasing.Taken:
        """Take away, some at a time, the rows that a statement finds for a correspondent; the sum of all steps."""
        rows = [row for (row,) in await self._core.read(ids, (store_text(sender),))]
        total = erasing.Taken()
        for start in range(0, len(rows), _AT_ONCE):
            taken = await self._core.run(ASIDE_DURABLE, step, rows[start : start + _AT_ONCE])
            self._forget_files(taken.files)
            for name in ("rows", "open", "turns", "bodies", "busy"):
                setattr(total, name, getattr(total, name) + getattr(taken, name))
        return total

    def _forget_files(self, files: Sequence[str]) -> None:
        """Their rows are gone, on the disk: nothing points to these files any more."""
        if self._place.bodies is not None:
            for token in files:
                self._forget_body(self._place.bodies, token)

    async def sweep(self) -> int:
        """Remove large bodies that belong to no mail, as at the opening; how many are still too young to tell."""
        return await self._core.run(ASIDE, sweep)

    # -- large bodies -----------------------------------------------------------------------------------------

    async def _write_body(self, bodies: BodyFiles, pieces: Sequence[bytes]) -> Filed:
        if self._core.data is None:
            raise StoreUnavailable(f"{self._place.name} is not available")
        try:
            return await asyncio.wrap_future(self._body_writers(bodies).write(pieces))
        except OSError as error:
            raise foreign_error(error, self._place.name) from error

    def _forget_body(self, bodies: BodyFiles, token: str) -> None:
        self._body_writers(bodies).remove(token)

    def _body_writers(self, bodies: BodyFiles) -> BodyWriters:
        if self._writers is None:
            self._writers = BodyWriters(bodies)
        return self._writers


def how_to_claim(data: Data | None, now: float) -> How:
    """Many timers may be due at once."""
    return ASIDE if data is not None and data.next_timer <= now else LIGHT


def how_to_commit(turn: TurnCommit) -> How:
    """What an application's statement costs is not known beforehand."""
    return ASIDE if turn.statements else LIGHT


def read_states(data: Data, states: Sequence[StateKey]) -> dict[StateKey, StateValue]:
    """The value of each conversation, as an operation."""
    return {state: data.state(state) for state in states}


def _ledger(data: Data) -> dict[Source, Ledger]:
    data.write_arrivals()
    return {
        name: looking.to_ledger(data.ledger.totals[source], data.schedule.running[source])
        for source, name in enumerate(SOURCES)
    }


def _rows(data: Data, what: What, limit: int) -> list[Mapping[str, Any]]:
    running = data.sending if what == "outbox" else data.schedule.running_rows() if what == "queue" else ()
    return looking.rows(data.whole(), what, limit, running)


def _dead_detail(data: Data, row: int) -> Mapping[str, Any] | None:
    return looking.dead_detail(data.whole(), row, data.bodies)
