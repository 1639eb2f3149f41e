"""Storages of the original design: three methods, one short word for each pair of key and sender.

    get(key, sender) -> str     the state, START for a pair that was never set
    set(key, sender, state)     from then on get gives it; START deletes
    clear()                     forget all pairs; may refuse

Both storages here are meant to be read as examples (rule state.R26); docs/storages.md has one over a database.
`as_storage` takes any object with these methods, `StoreStates` gives a whole store this shape.
"""

from __future__ import annotations

import fcntl
import inspect
import os
import pickletools
import shelve
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from monsal.errors import StoreCorrupt, StoreError, UsageError
from monsal.store.contract import ROUTE_FIRST_STATE, StateKey, StateValue, Store

__all__ = [
    "MemoryStorage",
    "PastTurn",
    "ShelveStorage",
    "StateRow",
    "StateStorage",
    "Storage",
    "StoreStates",
    "as_storage",
]


class Storage(Protocol):
    """What a storage of states is. Its methods may be called from any thread."""

    def get(self, key: str, sender: str, /) -> str: ...

    def set(self, key: str, sender: str, state: str, /) -> None: ...

    def clear(self) -> None: ...


class StateStorage:
    """The base of the original design: derive from it and write the three methods.

    All of them must be safe for threads, and for processes if several use the storage. Use the key exactly as it is
    handed in, and keep nothing but the state.
    """

    def get(self, key: str, sender: str) -> str:
        """The stored state of the pair, or START."""
        raise NotImplementedError(f"{type(self).__name__} has no method get(key, sender)")

    def set(self, key: str, sender: str, state: str) -> None:
        """Store the state of the pair; START deletes it."""
        raise NotImplementedError(f"{type(self).__name__} has no method set(key, sender, state)")

    def clear(self) -> None:
        """Forget all pairs; for tests. A storage may raise instead, to be safe."""
        raise NotImplementedError(f"{type(self).__name__} has no method clear()")


class MemoryStorage(StateStorage):
    """A dict under a lock; lost when the process ends."""

    def __init__(self) -> None:
        self.states: dict[str, str] = {}
        self.lock = threading.RLock()

    def key(self, key: str, sender: str) -> str:
        """The text form of the list of both: no two pairs have the same, whatever is in them."""
        return repr([key, sender])

    def get(self, key: str, sender: str) -> str:
        with self.lock:
            return self.states.get(self.key(key, sender), ROUTE_FIRST_STATE)

    def set(self, key: str, sender: str, state: str) -> None:
        with self.lock:
            if state == ROUTE_FIRST_STATE:
                self.states.pop(self.key(key, sender), None)
            else:
                self.states[self.key(key, sender)] = state

    def clear(self) -> None:
        with self.lock:
            self.states.clear()


class ShelveStorage(MemoryStorage):
    """A shelf of the standard library at `database_path`, in the key form of `MemoryStorage`.

    Each operation takes the lock of this process and that of all processes (`<database_path>.lock`), opens the shelf,
    does one thing and closes it. So threads and processes lose nothing, and it is slow: from five to some thousand
    writes a second, by what database library Python was built with. `sqlite:` is faster and keeps more.

    A shelf holds pickles. Only plain strings are read from it, and they are read without unpickling: anything else
    raises StoreCorrupt.
    """

    def __init__(self, database_path: str | os.PathLike[str]) -> None:
        super().__init__()
        self.database_path = os.fspath(database_path)

    def get(self, key: str, sender: str) -> str:
        with self._shelf() as shelf:
            found = shelf.dict.get(self.key(key, sender).encode("utf-8"))
        return ROUTE_FIRST_STATE if found is None else self._plain(found)

    def set(self, key: str, sender: str, state: str) -> None:
        if not isinstance(state, str):
            raise TypeError(f"a state is a string, not {type(state).__name__}")
        with self._shelf() as shelf:
            if state == ROUTE_FIRST_STATE:
                shelf.dict.pop(self.key(key, sender).encode("utf-8"), None)
            else:
                # str() takes what a subclass of str may carry along off it.
                shelf[self.key(key, sender)] = str(state)

    def clear(self) -> None:
        with self._shelf() as shelf:
            for key in list(shelf.dict.keys()):
                del shelf.dict[key]

    @contextmanager
    def _shelf(self) -> Iterator[Any]:
        with self.lock, self._all_processes(), shelve.open(self.database_path) as shelf:  # noqa: S301 - values are read by _plain, which does not unpickle
            yield shelf

    @contextmanager
    def _all_processes(self) -> Iterator[None]:
        path = Path(self.database_path + ".lock")
        path.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield
        finally:
            os.close(file)

    def _plain(self, pickled: bytes) -> str:
        texts: list[str] = []
        try:
            for opcode, argument, _ in pickletools.genops(BytesIO(pickled)):
                if opcode.name in _TEXT:
                    texts.append(str(argument))
                elif opcode.name not in _HARMLESS:
                    raise ValueError(opcode.name)
            (state,) = texts
        except (ValueError, UnicodeDecodeError) as error:
            raise StoreCorrupt(
                f"{self.database_path} holds something that is no plain string; it was not read, because reading it "
                "could run code. Remove it, or begin a new shelf"
            ) from error
        return state


#: The pickle of a string: a frame, the string, and notes for a memory that nothing asks.
_TEXT = {"BINUNICODE", "BINUNICODE8", "SHORT_BINUNICODE", "UNICODE"}
_HARMLESS = {"PROTO", "FRAME", "MEMOIZE", "BINPUT", "LONG_BINPUT", "PUT", "STOP"}


# -- any class with three methods -------------------------------------------------------------------------------


class _Checked:
    """A foreign storage whose answers are looked at: one string, never None (rule state.R1)."""

    def __init__(self, storage: Any) -> None:
        self._storage = storage

    def get(self, key: str, sender: str, /) -> str:
        state = self._storage.get(key, sender)
        if not isinstance(state, str) or not state:
            raise StoreError(
                f"{type(self._storage).__name__}.get gave {state!r} for {(key, sender)!r}; "
                f"it must give the name of a state, {ROUTE_FIRST_STATE!r} if there is none"
            )
        return state

    def set(self, key: str, sender: str, state: str, /) -> None:
        self._storage.set(key, sender, state)

    def clear(self) -> None:
        self._storage.clear()


def as_storage(storage: object) -> Storage:
    """Any object with get, set and clear as a storage whose answers are checked.

    Nothing is called yet. Raises UsageError if it is a class, lacks a method or has a coroutine for one.
    """
    if isinstance(storage, _Checked):
        return storage
    if isinstance(storage, type):
        raise UsageError(f"states={storage.__name__} is a class; give an object of it: states={storage.__name__}()")
    for name in ("get", "set", "clear"):
        method = getattr(storage, name, None)
        if not callable(method) or getattr(method, "__func__", None) is vars(StateStorage)[name]:
            raise UsageError(f"{type(storage).__name__} is no storage of states: it has no method {name}")
        if inspect.iscoroutinefunction(method):
            raise UsageError(f"{type(storage).__name__}.{name} is a coroutine; a storage of states has plain methods")
    return _Checked(storage)


# -- a store as a storage ---------------------------------------------------------------------------------------


class StateRow(NamedTuple):
    """A stored conversation: `since` in epoch seconds; the `previous` state, and why and by which row it was left."""

    key: str
    sender: str
    state: str
    version: int
    since: float
    previous: str
    reason: str
    message: int | None


class PastTurn(NamedTuple):
    """A turn in the history of a conversation; `at` in epoch seconds."""

    turn: int
    message: int
    handler: str
    before: str
    after: str
    note: str
    at: float


class StoreStates:
    """The states of a store in the shape of the original, with the inspection it lacked (rule state.B8).

    `now` gives the time for changes. What is set here counts as an operator's act: nothing compares versions.
    """

    def __init__(self, store: Store, now: Any) -> None:
        self._store = store
        self._now = now

    async def get(self, key: str, sender: str) -> str:
        return (await self.value(key, sender)).state

    async def value(self, key: str, sender: str) -> StateValue:
        """The state with its version."""
        pair = StateKey(key, sender)
        return (await self._store.read_states([pair]))[pair]

    async def set(self, key: str, sender: str, state: str) -> None:
        await self._store.set_state(StateKey(key, sender), state, self._now())

    async def clear(self, *, yes: bool = False) -> None:
        """Forget all states. It asks first, outside tests being one call from disaster: UsageError without `yes`."""
        if not yes:
            raise UsageError("clear forgets every conversation of this store; say clear(yes=True) if that is wanted")
        await self._store.clear_states()

    async def delete(self, key: str, sender: str) -> None:
        """Forget one conversation; no error if there was none."""
        await self.set(key, sender, ROUTE_FIRST_STATE)

    async def set_all(self, sender: str, state: str) -> int:
        """Set every stored state of one correspondent, for example when mail to it bounces; how many changed."""
        return await self._store.set_all(sender, state, self._now())

    async def rename(self, key: str, old: str, new: str) -> int:
        """Follow the renaming of a handler; how many conversations were in it (rule state.B7)."""
        return await self._store.rename_state(key, old, new, self._now())

    async def count(self) -> int:
        """How many conversations are stored."""
        return int((await self._store.read("SELECT count(*) FROM monsal_states"))[0][0])

    async def scan(
        self,
        *,
        state: str | None = None,
        key: str | None = None,
        sender: str | None = None,
        older_than: float | None = None,
        limit: int = 1000,
    ) -> list[StateRow]:
        """Stored conversations, oldest first; `older_than` is a time in epoch seconds."""
        conditions = {"state = ?": state, "key = ?": key, "sender = ?": sender, "since < ?": older_than}
        given = {condition: value for condition, value in conditions.items() if value is not None}
        rows = await self._store.read(
            "SELECT key, sender, state, version, since, previous, reason, message FROM monsal_states"
            f" WHERE {' AND '.join(given) or '1'} ORDER BY since, version LIMIT ?",
            (*given.values(), limit),
        )
        return [StateRow(*row) for row in rows]

    async def history(self, key: str, sender: str, limit: int = 100) -> list[PastTurn]:
        """The last turns of one conversation, oldest first."""
        rows = await self._store.read(
            "SELECT id, message, handler, before, after, note, at FROM monsal_history"
            " WHERE key = ? AND sender = ? ORDER BY id DESC LIMIT ?",
            (key, sender, limit),
        )
        return [PastTurn(*row) for row in reversed(rows)]
