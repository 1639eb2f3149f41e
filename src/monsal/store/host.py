"""The store process' side of `store.remote`: one writer, many workers, each over a link (DESIGN 6).

    host = StoreHost(SqliteStore(path, settings=EngineSettings(sweep_after=600.0)), running=rows_in_page_of)
    await host.open()
    ...                          # links with codec msgpack, raw=True, limits as `calls.LIMITS`, beat=None,
    ...                          # on_call=host.on_call, on_event=host.on_event; link.name names the worker
    await host.close()

`running(name)` gives the rows whose handlers ran in a worker that is gone without goodbye, from its turn page, once; it
is asked when the link ends. `counted(name)` is told when that is on the disk: the page is of no more use. `expect`
names workers that lived through the end of the last store process: until each has come (or `died(name)`, or `patience`
seconds passed) nobody is given a row, because it may be one whose turn still runs there (P3). `now` is the clock for
what no worker says a time for.

A link that ends without goodbye is taken for the end of its worker: whoever ends one otherwise ends that process, too.

An answer is given in the same turn of the loop if the engine has it, else when its future is done: no task for a call
of the hot way. What the engine does at once for several workers is flushed together (group commit).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Any, Final, TypeVar, cast

import msgspec

from monsal.errors import StoreError, StoreUnavailable
from monsal.store.budget import ReplyBudget
from monsal.store.calls import (
    BYE,
    CALLS,
    GIVE_BACK,
    HELLO,
    LIMITS,
    MAIL,
    PUT_BACK,
    WORK,
    Facts,
    Hello,
    Link,
)
from monsal.store.contract import (
    Accept,
    Applied,
    Claimed,
    CommitResult,
    Conflict,
    Fence,
    Fenced,
    Outgoing,
    Settled,
    StateKey,
    StateValue,
    TurnCommit,
)
from monsal.store.engine import clients, outbox, spool, turns
from monsal.store.engine.bodies import Filed
from monsal.store.engine.clients import Left, Running
from monsal.store.engine.data import Data
from monsal.store.engine.face import SqlStore, how_to_claim, how_to_commit, read_states
from monsal.store.engine.operation import APPLIED, DURABLE, LIGHT, LIGHT_DURABLE, How
from monsal.store.guest import Guest, Lease, refuse
from monsal.store.waking import Lane
from monsal.wire.codes import METHOD_NOT_FOUND
from monsal.wire.events import Called, Cancelled, Lost

__all__ = ["HostStatistics", "StoreHost"]

log = logging.getLogger("monsal.store")

T = TypeVar("T")

#: Octets of one answer to `claim`, and rows in one to `take_outgoing` (each at most `body_limit` octets).
_ROOM: Final = LIMITS.frame // 4
_MOST_MAILS: Final = 256


class HostStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """Workers that are connected, leases and outgoing rows that they hold; since the opening, how often one was woken,
    and how many were gone without goodbye."""

    workers: int
    leases: int
    sending: int
    wakes: int
    deaths: int


class StoreHost:
    """Serves one store to workers. All methods are called on the loop of `open`."""

    def __init__(
        self,
        store: SqlStore,
        *,
        running: Callable[[str], Sequence[int]] = lambda name: (),
        counted: Callable[[str], object] = lambda name: None,
        expect: Collection[str] = (),
        patience: float = 10.0,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.store = store
        self._core = store.core
        self._running = running
        self._counted = counted
        self._awaited = set(expect)
        self._patience = patience
        self._now = now
        self._budget = ReplyBudget()
        self._guests: dict[Link, Guest] = {}
        self._count = self._deaths = 0
        self._is_open = False
        self._data: Data | None = None
        self._timers: list[asyncio.TimerHandle] = []
        self._sweeping: asyncio.Task[int] | None = None
        #: Kills that could not be counted, because the store was not available.
        self._unwritten: list[tuple[Left, str]] = []
        self._loop: asyncio.AbstractEventLoop
        self._work: Lane[Guest]
        self._mail: Lane[Guest]
        self._hot: dict[str, Callable[[Guest, Any, Any], None]] = {
            "accept": self._accept,
            "accept_large": self._accept_large,
            "claim": self._claim,
            "extend": self._extend,
            "commit": self._commit,
            "commit_large": self._commit_large,
            "read_states": self._read_states,
            "take_outgoing": self._take,
            "settle": self._settle,
            BYE: self._bye,
        }

    def statistics(self) -> HostStatistics:
        return HostStatistics(
            workers=len(self._guests),
            leases=sum(len(guest.leases) for guest in self._guests.values()),
            sending=sum(len(guest.sending) for guest in self._guests.values()),
            wakes=self._work.wakes + self._mail.wakes,
            deaths=self._deaths,
        )

    # -- life -------------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Open the store. Raises StoreError."""
        await self.store.open()
        self._loop = asyncio.get_running_loop()
        self._data = self._core.data
        self._work = Lane(self._loop, self._next_work, lambda guest: guest.wake(WORK), self._now)
        self._mail = Lane(self._loop, self.store.next_outgoing, lambda guest: guest.wake(MAIL), self._now)
        self.store.on_work(self._work.look)
        self.store.on_outgoing(self._mail.look)
        self._is_open = True
        if self._awaited:
            self._timers.append(self._loop.call_later(self._patience, self._wait_no_longer))
        if self._data is not None and self._data.young_bodies:
            self._timers.append(self._loop.call_later(self.store.settings.sweep_after + 1.0, self._sweep))

    async def close(self) -> None:
        """Take no more calls, answer those that run, close the store."""
        self._is_open = False
        for timer in self._timers:
            timer.cancel()
        if self._data is not None:
            self._work.stop()
            self._mail.stop()
        unanswered = [future for guest in self._guests.values() for future in guest.unanswered]
        await self.store.close()
        if unanswered:
            # Their answers are said by then, and leave when the links are closed.
            await asyncio.wait(unanswered)

    def died(self, name: str) -> None:
        """A worker is gone, as somebody else has seen: what ran there is counted, and nobody waits for it any more.

        For one with a link this is of no use: that ends, too, and then nothing comes over it any more.
        """
        if any(link.name == name for link in self._guests):
            return
        rows = self._rows_running(name)
        if rows:
            self._leave(Left(0, (), (), rows), name)
        else:
            self._counted(name)
        if name in self._awaited:
            self._awaited.discard(name)
            self._work.look()

    def _wait_no_longer(self) -> None:
        if self._awaited:
            names = ", ".join(sorted(self._awaited))
            log.warning("%s did not come back to the store", names, extra={"action": "store_not_back"})
            self._awaited.clear()
            self._work.look()

    def _sweep(self) -> None:
        if self._is_open:
            self._sweeping = self._loop.create_task(self.store.sweep())

    def _next_work(self) -> float | None:
        return None if self._awaited else self.store.next_work()

    # -- links ------------------------------------------------------------------------------------------------

    def on_call(self, link: Link, called: Called) -> None:
        """A worker says something."""
        guest = self._guests.get(link)
        word = called.method
        if called.is_cast:
            self._told(guest, word, called.params)
            return
        try:
            if not self._is_open:
                raise StoreUnavailable("the store process is about to end; nothing was done")
            if guest is None:
                if word == HELLO:
                    self._hello(link, called)
                    return
                raise StoreUnavailable("this link said no hello, or goodbye")
            hot = self._hot.get(word)
            if hot is not None:
                hot(guest, called.id, called.params)
            elif word in CALLS and word != HELLO:
                self._ask(guest, called)
            else:
                link.refuse(called.id, METHOD_NOT_FOUND, f"the store process knows no {word!r:.100}")
        except Exception as error:  # noqa: BLE001 - handed to whoever called
            refuse(link, called.id, error, word)

    def _told(self, guest: Guest | None, word: str, raw: Any) -> None:
        """A cast: rows that came to a worker when nobody there waited for them any more."""
        if guest is None or word not in (GIVE_BACK, PUT_BACK):
            log.warning("a worker told us %r", word[:100], extra={"action": "store_cast_unknown"})
        elif word == GIVE_BACK:
            leases = _read_leases(raw)
            for _, fence in leases:
                guest.leases.pop(fence, None)
            counters = [(key, fence.counter) for key, fence in leases if self._is_of_now(fence)]
            self._attend(clients.gone, Left(0, counters, (), ()), self._now())
        else:
            rows = _read_ids(raw)
            guest.sending.difference_update(rows)
            self._attend(clients.gone, Left(0, (), rows, ()), self._now())

    def on_event(self, link: Link, event: object) -> None:
        """A link ended, or one of its calls was given up."""
        guest = self._guests.get(link)
        # Who dies while this process ends is counted by its turn page at the next start.
        if guest is None or not self._is_open:
            return
        if isinstance(event, Cancelled):
            guest.give_up(event.id)
        elif isinstance(event, Lost):
            self._deaths += 1
            rows = self._rows_running(link.name)
            log.warning(
                "the worker %s is gone without goodbye: %s; its %d messages wait again",
                link.name,
                event.reason,
                len(guest.leases),
                extra={"action": "worker_gone", "rows": list(rows)},
            )
            self._leave(self._forget(guest, rows), link.name)

    def _rows_running(self, name: str) -> Sequence[int]:
        try:
            return self._running(name)
        except Exception:  # whoever injected it; the leases must be given back all the same
            log.exception("the turn page of %s cannot be read", name, extra={"action": "page_unreadable"})
            return ()

    def _forget(self, guest: Guest, running: Sequence[int] = ()) -> Left:
        """A guest is gone: what it had. Its calls that wait are given up."""
        del self._guests[guest.link]
        guest.leave()
        self._work.leave(guest)
        self._mail.leave(guest)
        leases = [(lease.key, fence.counter) for fence, lease in guest.leases.items() if self._is_of_now(fence)]
        return Left(guest.number, leases, tuple(guest.sending), running)

    def _leave(self, left: Left, name: str) -> None:
        """Let others have what a guest that died had, and count the kills, in one operation."""

        def ended(dead: Sequence[int], error: BaseException | None) -> None:
            if error is None:
                self._counted(name)
                self._tell_dead(name, dead)
            elif left.running:
                # The leases are gone with the engine's memory; the kills are counted before anything is claimed again.
                self._unwritten.append((left._replace(leases=(), sending=()), name))

        self._attend(clients.gone, left, self._now(), how=DURABLE, then=ended)

    def _tell_dead(self, name: str, dead: Sequence[int]) -> None:
        if dead:
            rows = ", ".join(map(str, dead))
            log.error(
                "%s killed their worker (%s) for the third time and are dead letters now",
                rows,
                name,
                extra={"action": "killer", "rows": list(dead)},
            )

    def _attend(
        self,
        function: Callable[..., T],
        *arguments: Any,
        how: How = APPLIED,
        then: Callable[[Any, BaseException | None], object] = lambda value, error: None,
    ) -> None:
        """Have an operation done for which no worker waits; `then(value, error)` when it is."""
        try:
            found = self._core.begin(how, function, *arguments)
        except StoreError as error:
            then(None, error)
            return
        if not isinstance(found, asyncio.Future):
            then(found, None)
            return

        def done(future: asyncio.Future[Any]) -> None:
            error = future.exception()
            then(None if error else future.result(), error)

        found.add_done_callback(done)

    def _hello(self, link: Link, called: Called) -> None:
        hello: Hello = CALLS[HELLO].params.read(called.params)
        if self._core.data is None:
            raise StoreUnavailable("the store is not available")
        self._count += 1
        guest = Guest(self.store, link, self._count, self._next_work)
        self._guests[link] = guest
        self._awaited.discard(link.name)
        guest.reply(
            called.id,
            self._core.begin(APPLIED, clients.came_back, Running(guest.number, hello.running, hello.sending)),
            partial(self._welcomed, guest),
        )
        self._work.answered(guest, short=True)
        self._mail.answered(guest, short=True)

    def _welcomed(self, guest: Guest, sending: Sequence[int]) -> Facts:
        guest.sending.update(sending)
        store = self.store
        return Facts(
            epoch=store.epoch,
            secret=store.secret,
            capabilities=store.capabilities,
            bodies=None if store.bodies is None else str(store.bodies.folder),
            body_limit=store.settings.body_limit,
        )

    def _bye(self, guest: Guest, known: Any, _raw: Any) -> None:
        """Goodbye: all that it had waits again, nobody is blamed; answered when what is applied is durable."""
        guest.reply(known, self._core.begin(DURABLE, clients.gone, self._forget(guest), self._now()), lambda _: None)

    def _ask(self, guest: Guest, called: Called) -> None:
        """What is rare takes the way of the contract, in a task."""
        arguments = CALLS[called.method].params.read(called.params)
        guest.reply(called.id, self._loop.create_task(getattr(self.store, called.method)(*arguments)))

    # -- the spool --------------------------------------------------------------------------------------------

    def _accept(self, guest: Guest, known: Any, raw: Any) -> None:
        mail: Accept = CALLS["accept"].params.read(raw)
        guest.reply(known, self._core.begin(LIGHT_DURABLE, spool.accept, mail, None))

    def _accept_large(self, guest: Guest, known: Any, raw: Any) -> None:
        mail, token, size = cast("tuple[Accept, str, int]", CALLS["accept_large"].params.read(raw))
        guest.reply(known, self._core.begin(LIGHT_DURABLE, spool.accept, mail, Filed(token, size)))

    def _claim(self, guest: Guest, known: Any, raw: Any) -> None:
        limit, now, lease = cast("tuple[int, float, float]", CALLS["claim"].params.read(raw))
        self._work.asks(guest, now)
        if self._core.data is not self._data:
            self._opened_anew()
        if self._awaited:
            guest.answer(known, self._claimed(guest, limit, now, now + lease, []))
            return
        how = how_to_claim(self._core.data, now)
        found = self._core.begin(how, spool.claim, limit, now, lease, _ROOM, undo=spool.give_back)
        guest.reply(known, found, partial(self._claimed, guest, limit, now, now + lease), spool.give_back)

    def _claimed(self, guest: Guest, limit: int, now: float, until: float, rows: list[Claimed]) -> list[Claimed]:
        budget = self._budget
        for index, row in enumerate(rows):
            guest.leases[row.fence] = Lease(row.lease_key, row.correspondent, until)
            if replies := budget.count(row.correspondent, now):
                quick = budget.arrived(row.correspondent, row.received)
                rows[index] = msgspec.structs.replace(row, replies=replies, quick=quick)
        self._work.answered(guest, short=len(rows) < max(limit, 1))
        return rows

    def _opened_anew(self) -> None:
        """The engine read everything anew after an error: leases are gone, but their turns still run (P3)."""
        data = self._data = self._core.data
        if data is None:
            return
        for guest in self._guests.values():
            keys = [(lease.key, lease.until) for lease in guest.leases.values()]
            self._attend(clients.came_back, Running(guest.number, keys, tuple(guest.sending)))
        unwritten, self._unwritten = self._unwritten, []
        for left, name in unwritten:
            self._leave(left, name)

    def _is_of_now(self, fence: Fence) -> bool:
        return fence.epoch == self.store.epoch

    def _extend(self, guest: Guest, known: Any, raw: Any) -> None:
        leases, until = cast("tuple[list[tuple[str, Fence]], float]", CALLS["extend"].params.read(raw))
        if self._core.data is not self._data:
            self._opened_anew()
        found = self._core.begin(LIGHT, clients.extend, guest.number, leases, until)
        guest.reply(known, found, partial(self._extended, guest, leases, until))

    def _extended(
        self, guest: Guest, leases: Sequence[tuple[str, Fence]], until: float, held: list[bool]
    ) -> list[bool]:
        for (_, fence), is_held in zip(leases, held, strict=True):
            if is_held and fence in guest.leases:
                guest.leases[fence].until = until
        return held

    # -- turns ------------------------------------------------------------------------------------------------

    def _commit(self, guest: Guest, known: Any, raw: Any) -> None:
        turn: TurnCommit = CALLS["commit"].params.read(raw)
        found = self._core.begin(how_to_commit(turn), turns.commit, turn, {})
        guest.reply(known, found, partial(self._committed, guest, turn))

    def _commit_large(self, guest: Guest, known: Any, raw: Any) -> None:
        turn, named = cast("tuple[TurnCommit, dict[str, tuple[str, int]]]", CALLS["commit_large"].params.read(raw))
        files = {mail: Filed(*file) for mail, file in named.items()}

        def finish(result: CommitResult) -> tuple[CommitResult, list[str]]:
            return self._committed(guest, turn, result), list(files)

        guest.reply(known, self._core.begin(how_to_commit(turn), turns.commit, turn, files), finish)

    def _committed(self, guest: Guest, turn: TurnCommit, result: CommitResult) -> CommitResult:
        if isinstance(result, Conflict):
            return result
        lease = guest.leases.get(turn.fence)
        if lease is not None and isinstance(result, Applied):
            for _ in range(min(turn.replies, len(turn.outgoing))):
                self._budget.add(lease.correspondent, turn.now)
        if turn.ack.kind != "continue" or isinstance(result, Fenced):
            guest.leases.pop(turn.fence, None)
            if not self._is_of_now(turn.fence):
                self._attend(clients.let_go, guest.number, turn.lease_key)
        return result

    def _read_states(self, guest: Guest, known: Any, raw: Any) -> None:
        states: list[StateKey] = CALLS["read_states"].params.read(raw)

        def finish(values: dict[StateKey, StateValue]) -> list[StateValue]:
            return [values[state] for state in states]

        guest.reply(known, self._core.begin(LIGHT, read_states, states), finish)

    # -- the outbox -------------------------------------------------------------------------------------------

    def _take(self, guest: Guest, known: Any, raw: Any) -> None:
        limit, now = cast("tuple[int, float]", CALLS["take_outgoing"].params.read(raw))
        self._mail.asks(guest, now)
        if self._core.data is not self._data:
            self._opened_anew()
        limit = min(limit, _MOST_MAILS)
        found = self._core.begin(LIGHT, outbox.take_outgoing, limit, now, undo=outbox.put_back)
        guest.reply(known, found, partial(self._taken, guest, limit), outbox.put_back)

    def _taken(self, guest: Guest, limit: int, rows: list[Outgoing]) -> list[Outgoing]:
        guest.sending.update(row.id for row in rows)
        self._mail.answered(guest, short=len(rows) < max(limit, 1))
        return rows

    def _settle(self, guest: Guest, known: Any, raw: Any) -> None:
        results: list[Settled] = CALLS["settle"].params.read(raw)

        def finish(_: None) -> None:
            guest.sending.difference_update(result.id for result in results)

        guest.reply(known, self._core.begin(LIGHT_DURABLE, outbox.settle, results), finish)


_read_leases: Final = msgspec.msgpack.Decoder(list[tuple[str, Fence]]).decode
_read_ids: Final = msgspec.msgpack.Decoder(list[int]).decode
