"""A store in another process, for a worker: the contract over a link to a `store.host.StoreHost`.

    store = RemoteStore()
    ...                              # a link with codec msgpack, raw=True, limits as `calls.LIMITS`, beat=None,
    ...                              # on_call=store.on_call, on_event=store.on_event
    await store.attach(link)
    await store.open()               # learns secret, epoch, capabilities
    ...
    await store.attach(other_link)   # the store process died and came back; may be done any number of times
    await store.close()              # goodbye: what this worker had waits again, nobody is blamed

Large bodies are written and read here, and only their names go over the link. While there is no link a call waits for
the next one for up to `patience` seconds if it certainly did not reach the store; whatever may have reached it raises
StoreUnavailable, whose text says so: an accept whose answer was lost is no yes (P1).

The store room knows no transport: a link is whatever has the methods of `calls.Link`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from msgspec.structs import replace

from monsal.errors import ConnectionLost, RemoteError, StatementError, StoreError, StoreUnavailable
from monsal.store.bounced import SentMail
from monsal.store.calls import (
    BYE,
    CALLS,
    GIVE_BACK,
    HELLO,
    MAIL,
    PUT_BACK,
    WAKE,
    WORK,
    Facts,
    Hello,
    Link,
    Wake,
    What,
    Words,
    error_of,
    packed,
    with_path,
)
from monsal.store.contract import (
    Accept,
    Capabilities,
    Claimed,
    CommitResult,
    Conflict,
    Fence,
    Ledger,
    Outgoing,
    Receipt,
    Settled,
    Source,
    StateKey,
    Statement,
    StateValue,
    TurnCommit,
)
from monsal.store.engine.bodies import BodyFiles, BodyWriters, Filed
from monsal.store.upkeep import Erased
from monsal.wire.events import Called, Lost

__all__ = ["RemoteStore"]

log = logging.getLogger("monsal.store")

#: Turns whose leases are remembered before those whose time has passed are forgotten.
_MANY: Final = 1000
_wake: Final = Words(Wake)


class RemoteStore:
    """The store of a worker. `monsal.store.contract.Store` says what each method promises."""

    def __init__(self, *, patience: float = 10.0) -> None:
        #: Seconds to wait for another store process when there is none.
        self.patience = patience
        #: Whether to say goodbye at the end. Without it, what still runs here is held to have ended this process.
        self.says_goodbye = True
        self._link: Link | None = None
        self._offered: Link | None = None
        self._linked: asyncio.Future[None] | None = None
        self._facts: Facts | None = None
        self._is_open = False
        self._work: float | None = None
        self._mail: float | None = None
        self._on_work: list[Callable[[], None]] = []
        self._on_outgoing: list[Callable[[], None]] = []
        #: Leases whose turns run, with their keys and ends; outgoing rows that the relay has.
        self._running: dict[Fence, tuple[str, float]] = {}
        self._sending: set[int] = set()
        self._bodies: BodyWriters | None = None
        self._strays: set[asyncio.Task[Any]] = set()

    # -- life -------------------------------------------------------------------------------------------------

    @property
    def capabilities(self) -> Capabilities:
        return self._known().capabilities

    @property
    def secret(self) -> bytes:
        return self._known().secret

    @property
    def epoch(self) -> int:
        return self._known().epoch

    def _known(self) -> Facts:
        if self._facts is None:
            raise StoreUnavailable("the store process was not asked yet")
        return self._facts

    @property
    def is_linked(self) -> bool:
        """Whether the store process can be spoken to now."""
        return self._link is not None

    async def attach(self, link: Link) -> None:
        """Speak over this link from now on. Raises StoreError if the store process does not take us."""
        self._offered = link
        if self._is_open:
            await self._greet(link)

    async def open(self) -> None:
        if self._is_open:
            raise StoreUnavailable("the store is open already")
        if self._offered is None:
            raise StoreUnavailable("there is no link to a store process")
        self._is_open = True
        try:
            await self._greet(self._offered)
        except BaseException:
            self._is_open = False
            raise

    async def _greet(self, link: Link) -> None:
        """Say what we are at, learn what the store is; then those who wait go on."""
        hello = Hello([(key, until) for key, until in self._running.values()], sorted(self._sending))
        try:
            raw = await link.call(HELLO, packed(hello))
        except (RemoteError, ValueError) as error:
            raise error_of(error, "hello") from error
        facts: Facts
        facts, self._work, self._mail = CALLS[HELLO].answer.read(raw)
        if self._facts is not None and facts.secret != self._facts.secret:
            raise StoreError("this is another store than before")
        if self._bodies is None and facts.bodies is not None:
            self._bodies = BodyWriters(BodyFiles(Path(facts.bodies)))
        self._facts = facts
        self._link = link
        if self._linked is not None:
            self._linked.set_result(None)
            self._linked = None
        # Whoever waited for the former store process heard nothing of what happened since.
        self._ring(WORK | MAIL)

    async def close(self) -> None:
        if not self._is_open:
            return
        self._is_open = False
        if self._linked is not None:
            self._linked.set_result(None)
            self._linked = None
        link, self._link, self._offered = self._link, None, None
        self._running.clear()
        self._sending.clear()
        self._work = self._mail = None
        bodies, self._bodies = self._bodies, None
        try:
            if link is not None and self.says_goodbye:
                await link.call(BYE, packed(()))
        except ConnectionLost:
            # It had nothing to tell us: what this worker had is given back when its link ends.
            log.info("the store process was gone before the goodbye", extra={"action": "store_gone"})
        except (RemoteError, ValueError) as error:
            told = error_of(error, "the goodbye")
            if not isinstance(told, StoreUnavailable):
                raise told from error
            # It ends as well, and gives everything back.
            log.info("the store process heard no goodbye: %s", told, extra={"action": "store_gone"})
        finally:
            if bodies is not None:
                await asyncio.to_thread(bodies.stop)

    def on_work(self, callback: Callable[[], None]) -> None:
        self._on_work.append(callback)

    def on_outgoing(self, callback: Callable[[], None]) -> None:
        self._on_outgoing.append(callback)

    # -- the link ---------------------------------------------------------------------------------------------

    def on_call(self, link: Link, called: Called) -> None:
        """The store process says something."""
        if called.method != WAKE or link is not self._link:
            return
        wake: Wake = _wake.read(called.params)
        self._work, self._mail = wake.work, wake.mail
        if self._facts is not None and wake.epoch != self._facts.epoch:
            known = self._facts
            self._facts = Facts(wake.epoch, known.secret, known.capabilities, known.bodies, known.body_limit)
        self._ring(wake.bells)

    def on_event(self, link: Link, event: object) -> None:
        """A link ended."""
        if isinstance(event, Lost):
            self._unlink(link)

    def _unlink(self, link: Link) -> None:
        if self._link is link:
            self._link = None
            log.warning("the link to the store process is gone", extra={"action": "store_down"})

    def _ring(self, bells: int) -> None:
        for callback in (*(self._on_work if bells & WORK else ()), *(self._on_outgoing if bells & MAIL else ())):
            callback()

    async def _wait_for_link(self, word: str, patience: float) -> None:
        """Wait for the next link. Raises StoreUnavailable; then the call did not reach the store."""
        if not self._is_open:
            raise StoreUnavailable("the store is not open")
        if self._linked is None:
            self._linked = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(patience):
                await asyncio.shield(self._linked)
        except TimeoutError:
            raise StoreUnavailable(f"the store process is gone; {word} did not reach it") from None

    async def _ask(self, word: str, params: Any) -> Any:
        """The result of a call."""
        raw = packed(params)
        patience = self.patience
        while True:
            link = self._link
            if link is None:
                before = asyncio.get_running_loop().time()
                await self._wait_for_link(word, patience)
                patience = max(0.0, patience - (asyncio.get_running_loop().time() - before))
                continue
            try:
                answer = await link.call(word, raw)
            except ConnectionLost as error:
                self._unlink(link)
                if error.sent:
                    raise error_of(error, word) from error
                # It certainly did not arrive: it may be said to the next one.
                continue
            except (RemoteError, ValueError) as error:
                raise error_of(error, word) from error
            value, work, mail = CALLS[word].answer.read(answer)
            if link is self._link:
                self._work, self._mail = work, mail
            return value

    async def _ask_to_the_end(self, word: str, params: Any, too_late: Callable[[Any], None]) -> Any:
        """The result of a call that gives something to us; `too_late(result)` if the caller went away meanwhile."""
        task = asyncio.get_running_loop().create_task(self._ask(word, params))
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            self._strays.add(task)
            task.add_done_callback(lambda done: self._stray_ended(done, too_late))
            raise

    def _stray_ended(self, task: asyncio.Task[Any], too_late: Callable[[Any], None]) -> None:
        self._strays.discard(task)
        if not task.cancelled() and task.exception() is None:
            too_late(task.result())

    def _tell(self, word: str, params: Any) -> None:
        """Say what is not answered. If the link is gone, the store process knows it by that."""
        link = self._link
        if link is not None and params:
            try:
                link.cast(word, packed(params))
            except RemoteError as error:
                log.warning("the store process was not told: %s", error, extra={"action": word})

    # -- the spool --------------------------------------------------------------------------------------------

    async def accept(self, mail: Accept) -> Receipt:
        bodies = self._bodies
        if bodies is None or sum(map(len, mail.body)) <= self._known().body_limit:
            receipt: Receipt = await self._ask("accept", mail)
            return receipt
        file = await self._write_body(bodies, mail.body)
        bare = _without_body(mail)
        try:
            receipt = await self._ask("accept_large", (bare, file.token, file.size))
        except StoreUnavailable:
            # It may have been stored all the same. The sweep finds out.
            raise
        except Exception:
            bodies.remove(file.token)
            raise
        if all(receipt.duplicates):
            bodies.remove(file.token)
        return receipt

    async def claim(self, limit: int, now: float, lease: float) -> list[Claimed]:
        rows: list[Claimed] = await self._ask_to_the_end("claim", (limit, now, lease), self._give_back)
        until = now + lease
        if len(self._running) > _MANY:
            self._running = {fence: kept for fence, kept in self._running.items() if kept[1] > now}
        for row in rows:
            self._running[row.fence] = row.lease_key, until
        return [with_path(row) for row in rows]

    def _give_back(self, rows: list[Claimed]) -> None:
        self._tell(GIVE_BACK, [(row.lease_key, row.fence) for row in rows])

    def next_work(self) -> float | None:
        return self._work

    async def extend(self, leases: Sequence[tuple[str, Fence]], until: float) -> list[bool]:
        held: list[bool] = await self._ask("extend", (list(leases), until))
        for key, fence in leases:
            # Also those of an earlier opening: the lease is lost, the turn still runs.
            if fence in self._running:
                self._running[fence] = key, until
        return held

    async def killed(self, rows: Sequence[int], now: float) -> list[int]:
        dead: list[int] = await self._ask("killed", (list(rows), now))
        return dead

    # -- turns ------------------------------------------------------------------------------------------------

    async def commit(self, turn: TurnCommit) -> CommitResult:
        if turn.statements:
            _check_statements(turn.statements)
        try:
            result = await self._commit(turn)
        except StoreUnavailable:
            if self._link is None:
                # Its handler has returned, and nobody will commit for it: it runs no longer.
                self._running.pop(turn.fence, None)
            raise
        if turn.ack.kind != "continue" and not isinstance(result, Conflict):
            self._running.pop(turn.fence, None)
        return result

    async def _commit(self, turn: TurnCommit) -> CommitResult:
        bodies, limit = self._bodies, self._known().body_limit
        large = [mail for mail in turn.outgoing if len(mail.body) > limit] if bodies is not None else []
        if not large:
            result: CommitResult = await self._ask("commit", turn)
            return result
        assert bodies is not None
        files: dict[str, Filed] = {}
        is_known = True
        try:
            for mail in large:
                files[mail.token] = await self._write_body(bodies, (mail.body,))
            try:
                result, unused = await self._ask("commit_large", (_without_bodies(turn, files), files))
            except StoreUnavailable:
                # It may have been applied all the same. The sweep finds out.
                is_known = False
                raise
        except Exception:
            for file in files.values() if is_known else ():
                bodies.remove(file.token)
            raise
        for token in unused:
            bodies.remove(files[token].token)
        return result

    async def read_states(self, states: Sequence[StateKey]) -> dict[StateKey, StateValue]:
        values: list[StateValue] = await self._ask("read_states", list(states))
        return dict(zip(states, values, strict=True))

    async def read(self, sql: str, params: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        # By the store process, although the file could be read here: only there is what was applied and is not flushed,
        # and only there can the open group be flushed first.
        if not isinstance(params, Sequence):
            raise StatementError(f"the parameters of a statement are a list, not {type(params).__name__}: {sql}")
        _check_statements([Statement(sql, tuple(params))])
        rows: list[tuple[Any, ...]] = await self._ask("read", (sql, list(params)))
        return rows

    # -- the outbox -------------------------------------------------------------------------------------------

    async def take_outgoing(self, limit: int, now: float) -> list[Outgoing]:
        rows: list[Outgoing] = await self._ask_to_the_end("take_outgoing", (limit, now), self._put_back)
        self._sending.update(row.id for row in rows)
        return [with_path(row) for row in rows]

    def _put_back(self, rows: list[Outgoing]) -> None:
        self._tell(PUT_BACK, [row.id for row in rows])

    def next_outgoing(self) -> float | None:
        return self._mail

    async def settle(self, results: Sequence[Settled]) -> None:
        await self._ask("settle", list(results))
        self._sending.difference_update(result.id for result in results)

    async def outbox_counts(self) -> dict[str, int]:
        counts: dict[str, int] = await self._ask("outbox_counts", ())
        return counts

    async def retry_outgoing(self, row: int, now: float) -> bool:
        return bool(await self._ask("retry_outgoing", (row, now)))

    async def cancel_outgoing(self, row: int, now: float) -> bool:
        return bool(await self._ask("cancel_outgoing", (row, now)))

    async def sent(self, token: str) -> SentMail | None:
        return (await self._ask("sent", (token,))) or None

    async def suppress(self, address: str, reason: str, now: float, until: float | None = None) -> None:
        await self._ask("suppress", (address, reason, now, until))

    async def unsuppress(self, address: str) -> bool:
        return bool(await self._ask("unsuppress", (address,)))

    # -- for people -------------------------------------------------------------------------------------------

    async def ledger(self) -> dict[Source, Ledger]:
        ledger: dict[Source, Ledger] = await self._ask("ledger", ())
        return ledger

    async def rows(self, what: What, limit: int = 1000) -> list[Mapping[str, Any]]:
        rows: list[Mapping[str, Any]] = await self._ask("rows", (what, limit))
        return rows

    async def dead_detail(self, row: int) -> Mapping[str, Any] | None:
        detail: Mapping[str, Any] | None = await self._ask("dead_detail", (row,))
        return detail

    async def replay(self, row: int, now: float) -> bool:
        return bool(await self._ask("replay", (row, now)))

    async def drop(self, row: int, now: float) -> bool:
        return bool(await self._ask("drop", (row, now)))

    async def release(self, lease_key: str, now: float) -> int:
        return int(await self._ask("release", (lease_key, now)))

    async def set_state(self, state: StateKey, name: str, now: float) -> None:
        await self._ask("set_state", (state, name, now))

    async def set_all(self, sender: str, name: str, now: float) -> int:
        return int(await self._ask("set_all", (sender, name, now)))

    async def rename_state(self, key: str, old: str, new: str, now: float) -> int:
        return int(await self._ask("rename_state", (key, old, new, now)))

    async def clear_states(self) -> None:
        await self._ask("clear_states", ())

    async def prune(self, now: float, keep: float, limit: int = 500) -> int:
        return int(await self._ask("prune", (now, keep, limit)))

    async def prune_bodies(self, now: float, keep: float, limit: int = 500) -> int:
        return int(await self._ask("prune_bodies", (now, keep, limit)))

    async def erase(self, sender: str, now: float, dry_run: bool = False) -> Erased:
        erased: Erased = await self._ask("erase", (sender, now, dry_run))
        return erased

    # -- large bodies -----------------------------------------------------------------------------------------

    async def _write_body(self, bodies: BodyWriters, pieces: Sequence[bytes]) -> Filed:
        try:
            return await asyncio.wrap_future(bodies.write(pieces))
        except OSError as error:
            raise StoreUnavailable(f"a large body cannot be written: {error}") from error


def _without_body(mail: Accept) -> Accept:
    return replace(mail, body=())


def _without_bodies(turn: TurnCommit, files: Mapping[str, Filed]) -> TurnCommit:
    outgoing = tuple(replace(mail, body=b"") if mail.token in files else mail for mail in turn.outgoing)
    return replace(turn, outgoing=outgoing)


def _check_statements(statements: Sequence[Statement]) -> None:
    """Refuse here what could not be carried, and would be refused there. Raises StatementError."""
    for statement in statements:
        if not isinstance(statement.sql, str):
            raise StatementError(f"a statement is text, not {statement.sql!r:.100}")
        for value in statement.params:
            if isinstance(value, int) and not -(2**63) <= value < 2**63:
                raise StatementError(f"{value} is no integer of SQL: {statement.sql}")
            if not isinstance(value, int | float | str | bytes | bytearray | memoryview | None):
                raise StatementError(f"a {type(value).__name__} cannot be a parameter: {statement.sql}")
