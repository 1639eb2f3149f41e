"""What a running server can be asked: two small objects, one for the store and one for the process."""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

from msgspec import Meta, to_builtins
from msgspec.structs import asdict

from monsal.clock import Clock
from monsal.errors import MonsalError, ReloadFailed, UsageError
from monsal.rpc import Refused, RemoteAPI, incoming
from monsal.store.contract import StateKey, Store

__all__ = ["MAX_RAW", "MAX_ROWS", "ServerApi", "StoreApi"]

#: Rows of one answer.
MAX_ROWS = 100_000
#: Octets of a dead letter's raw message that are shown; the rest stays in the store.
MAX_RAW = 1024 * 1024

What = Literal["queue", "dead", "states", "outbox", "suppressed"]
#: Turns and mails of one message that are told; more than that nobody reads at a prompt.
_TOLD = 50
_ROW = "SELECT m.status, s.attempts, s.due, s.reason FROM v_messages m JOIN monsal_spool s USING (id) WHERE m.id = ?"
# From the table: the view has no note.
_TURNS = (
    "SELECT id, handler, stateful, key, before, after, note FROM monsal_history WHERE message = ? ORDER BY id LIMIT ?"
)
# Outgoing mail has no index by message: only the newest are looked at, so that the question stays a cheap one (P7).
_OUTGOING = (
    "SELECT o.turn, o.recipient, o.status, o.due, o.reason FROM v_outbox o JOIN monsal_outbox b USING (id)"
    " WHERE o.id > (SELECT coalesce(max(id), 0) - 1000 FROM monsal_outbox) AND b.message = ? ORDER BY o.id LIMIT ?"
)
Limit = Annotated[int, Meta(ge=1, le=MAX_ROWS)]

# A question does not wait for the one before it: a reload takes longer than to say how it goes.
_asked = incoming(ordered=False)
_done = incoming(has_reply=True, ordered=False)


class StoreApi(RemoteAPI):
    """Looks into the store and acts on it, as an operator; mounted at `store`.

    `store()` is asked at each call: it raises StoreUnavailable while there is none, because the server starts or stops.
    """

    def __init__(self, store: Callable[[], Store], clock: Clock) -> None:
        super().__init__()
        self._open_store = store
        self._clock = clock

    @property
    def _store(self) -> Store:
        return self._open_store()

    @_asked
    async def ledger(self, caller: str) -> dict[str, Any]:
        """The ledger by source (P4)."""
        return {source: to_builtins(ledger) for source, ledger in (await self._store.ledger()).items()}

    @_asked
    async def outbox_counts(self, caller: str) -> dict[str, int]:
        """Outgoing rows by status."""
        return dict(await self._store.outbox_counts())

    @_asked
    async def rows(self, caller: str, what: What, limit: Limit = 1000) -> list[dict[str, Any]]:
        """Rows to look at, oldest first, with the columns that docs/interface.md lists."""
        return [dict(_sayable(row)) for row in await self._store.rows(what, limit)]

    @_asked
    async def dead_detail(self, caller: str, row: int) -> dict[str, Any] | None:
        """All about one dead letter; `raw` is the start of the message, `size` how long all of it is."""
        found = await self._store.dead_detail(row)
        if found is None:
            return None
        detail = dict(_sayable(found))
        raw = detail.get("raw")
        if isinstance(raw, bytes):
            detail["size"] = len(raw)
            detail["raw"] = raw[:MAX_RAW]
        return detail

    @_asked
    async def message(self, caller: str, row: int) -> dict[str, Any] | None:
        """What became of one message: where it stands, its turns, the mails they made; None if there is none."""
        found = await self._store.read(_ROW, (row,))
        if not found:
            return None
        status, attempts, due, reason = found[0]
        turns = await self._store.read(_TURNS, (row, _TOLD))
        mails = await self._store.read(_OUTGOING, (row, _TOLD))
        told = {
            "id": row,
            "status": status,
            "attempts": attempts,
            "due": due,
            "reason": reason or "",
            "turns": [
                dict(zip(("id", "handler", "stateful", "key", "before", "after", "note"), turn, strict=True))
                for turn in turns
            ],
            "outgoing": [
                dict(zip(("turn", "recipient", "status", "due", "reason"), mail, strict=True)) for mail in mails
            ],
        }
        return dict(_sayable(told))

    @_asked
    async def replay(self, caller: str, row: int) -> bool:
        """Have a dead letter handled again; False if there is none with this id."""
        return await self._store.replay(row, self._clock.now())

    @_asked
    async def drop(self, caller: str, row: int) -> bool:
        """Give a dead letter up; False if there is none with this id."""
        return await self._store.drop(row, self._clock.now())

    @_asked
    async def release(self, caller: str, lease_key: str) -> int:
        """Let the held rows of a queue go on; how many there were."""
        return await self._store.release(lease_key, self._clock.now())

    @_asked
    async def retry_outgoing(self, caller: str, row: int) -> bool:
        """Try a deferred or failed outgoing mail at once; False if there is none with this id."""
        return await self._store.retry_outgoing(row, self._clock.now())

    @_asked
    async def cancel_outgoing(self, caller: str, row: int) -> bool:
        """Never send a waiting or deferred outgoing mail; False if there is none with this id."""
        return await self._store.cancel_outgoing(row, self._clock.now())

    @_asked
    async def suppress(self, caller: str, address: str, reason: str, days: float | None = None) -> bool:
        """Do not write to an address any more, for some days or for good."""
        now = self._clock.now()
        await self._store.suppress(address, reason, now, None if days is None else now + days * 86400.0)
        return True

    @_asked
    async def unsuppress(self, caller: str, address: str) -> bool:
        """Write to an address again; False if it was not on the list."""
        return await self._store.unsuppress(address)

    @_asked
    async def state(self, caller: str, key: str, sender: str) -> dict[str, Any]:
        """Where one conversation stands."""
        asked = StateKey(key, sender)
        value = (await self._store.read_states([asked]))[asked]
        return {"key": key, "sender": sender, **asdict(value)}

    @_done
    async def set_state(self, caller: str, key: str, sender: str, state: str) -> None:
        """Force the state of one conversation."""
        await self._store.set_state(StateKey(key, sender), state, self._clock.now())

    @_asked
    async def set_all(self, caller: str, sender: str, state: str) -> int:
        """Force every stored state of one correspondent; how many changed."""
        return await self._store.set_all(sender, state, self._clock.now())

    @_asked
    async def rename_state(self, caller: str, key: str, old: str, new: str) -> int:
        """Give every conversation of a machine that is in `old` the state `new`; how many changed."""
        return await self._store.rename_state(key, old, new, self._clock.now())

    @_asked
    async def erase(self, caller: str, sender: str, dry_run: bool = True) -> dict[str, Any]:
        """Erase one correspondent (folded), or only count what there is of them: `monsal.store.upkeep.Erased`."""
        return asdict(await self._store.erase(sender, self._clock.now(), dry_run=dry_run))


class ServerApi(RemoteAPI):
    """Looks at the process and steers it; mounted at `server`. What it calls may be plain or `async`.

    `status()` gives at least `ready` and `generation`, and what else the server knows of itself. `stop(now)` begins
    the end and returns at once. `reload()` has the code as it is now take over, or begins to replace the process as
    `restart()` does; `config()` gives `Resolved.describe()`; `why()` says what a start or stop waits for, `blame()`
    what took how long; `workers()` lists the processes that serve.
    """

    def __init__(
        self,
        *,
        status: Callable[[], Any],
        stop: Callable[[bool], Any],
        reload: Callable[[], Any] | None = None,
        restart: Callable[[], Any] | None = None,
        config: Callable[[], Any] | None = None,
        why: Callable[[], Any] | None = None,
        blame: Callable[[], Any] | None = None,
        workers: Callable[[], Any] | None = None,
    ) -> None:
        super().__init__()
        self._status = status
        self._stop = stop
        self._reload = reload
        self._restart = restart
        self._workers = workers
        self._config = config
        self._why = why
        self._blame = blame

    @_asked
    async def status(self, caller: str) -> dict[str, Any]:
        """Readiness, generation, and what else the server tells of itself."""
        return dict(await _value(self._status()))

    @_done
    async def stop(self, caller: str, now: bool = False) -> None:
        """Begin to stop; with `now` without waiting for turns that run."""
        await _value(self._stop(now))

    @_asked
    async def reload(self, caller: str) -> Any:
        """Replace the running code by what it is now, or begin to; at least `generation`, the number of the new one."""
        return await _ask(self._reload, "cannot reload; stop it and run it again")

    @_asked
    async def restart(self, caller: str) -> Any:
        """Begin to replace the process by a fresh one; at least `generation`, the number of that."""
        return await _ask(self._restart, "cannot restart; stop it and run it again")

    @_asked
    async def workers(self, caller: str) -> Any:
        """The processes that serve: name, pid, generation, state, what they are doing, turns, memory, restarts."""
        return to_builtins(await _ask(self._workers, "does not tell its processes"))

    @_asked
    async def config(self, caller: str) -> Any:
        """The settings in force: name, value, origin."""
        return to_builtins(await _ask(self._config, "does not tell its settings"))

    @_asked
    async def why(self, caller: str) -> Any:
        """What a start or stop waits for now, in sentences; none if it waits for nothing."""
        return await _ask(self._why, "does not tell what it waits for")

    @_asked
    async def blame(self, caller: str) -> Any:
        """What took how long at the start, and at the stop if there was one."""
        return await _ask(self._blame, "does not tell what took how long")


def _sayable(value: Any) -> Any:
    """What JSON can say: a lone surrogate, for which it has no words, as its escape. Else one row would keep all others
    from being seen."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode("utf-8")
    if isinstance(value, Mapping):
        return {name: _sayable(item) for name, item in value.items()}
    return [_sayable(item) for item in value] if isinstance(value, list) else value


async def _ask(question: Callable[[], Any] | None, otherwise: str) -> Any:
    if question is None:
        raise UsageError(f"this server {otherwise}")
    try:
        return await _value(question())
    except MonsalError as error:
        raise _with_details(error) from error


def _with_details(error: MonsalError) -> MonsalError:
    """The same refusal with what helps the author of the application: the traceback of their own code."""
    details = error.details if isinstance(error, ReloadFailed) else ""
    if isinstance(error, UsageError) and error.__cause__ is not None:
        details = "".join(traceback.format_exception(error.__cause__))
    if not details:
        return error
    return Refused(str(error), data={"kind": type(error).__name__, "details": details})


async def _value(result: Any) -> Any:
    return await result if inspect.isawaitable(result) else result
