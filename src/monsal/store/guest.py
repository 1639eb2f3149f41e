"""A worker as the store process sees it: its link, what it holds, and its calls that are not answered yet."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec

from monsal.errors import RemoteError
from monsal.store.calls import WAKE, Link, Wake, kind_of, packed
from monsal.store.contract import Fence
from monsal.store.engine.face import SqlStore
from monsal.store.engine.operation import Undo
from monsal.wire.codes import CANCELLED, INTERNAL_ERROR, INVALID_PARAMS, REFUSED

__all__ = ["Guest", "Lease", "refuse"]

log = logging.getLogger("monsal.store")

Finish = Callable[[Any], Any]


class Lease(msgspec.Struct):
    """A lease that the worker was given: its key, who wrote, when it ends (epoch seconds)."""

    key: str
    correspondent: str
    until: float


def _same(value: Any) -> Any:
    return value


def refuse(link: Link, known: Any, error: BaseException, word: str) -> None:
    """Answer a call with an error, by its type if it is one that callers of a store know."""
    kind = kind_of(error)
    if kind is not None:
        link.refuse(known, REFUSED, str(error), {"kind": kind})
    elif isinstance(error, msgspec.ValidationError):
        link.refuse(known, INVALID_PARAMS, f"{word}: {error}", {"kind": "TypeError"})
    else:
        log.error("%s failed in the store process", word, exc_info=error, extra={"action": "store_call_failed"})
        text = f"{word} failed in the store process: {type(error).__name__}: {error}"
        link.refuse(known, INTERNAL_ERROR, text, {"kind": "StoreError"})


class Guest:
    """One worker. `leases` and `sending` are what it was given and has not brought back.

    `next_work` is that of the store, as workers are to see it.
    """

    __slots__ = ("_next_work", "_pending", "_store", "is_gone", "leases", "link", "number", "sending")

    def __init__(self, store: SqlStore, link: Link, number: int, next_work: Callable[[], float | None]) -> None:
        self._store = store
        self._next_work = next_work
        self.link = link
        self.number = number
        self.leases: dict[Fence, Lease] = {}
        self.sending: set[int] = set()
        self.is_gone = False
        self._pending: dict[Any, asyncio.Future[Any]] = {}

    def reply(self, known: Any, found: Any, finish: Finish = _same, undo: Undo | None = None) -> None:
        """Answer the call `known` with `finish(value)`: at once, or when the value is there.

        `undo` is done if the worker is gone by then.
        """
        if isinstance(found, asyncio.Future):
            self._pending[known] = found
            found.add_done_callback(partial(self._done, known, finish, undo))
        else:
            self.answer(known, finish(found))

    def answer(self, known: Any, value: Any) -> None:
        """Answer a call. Raises StatementError if the answer is too long."""
        self.link.answer(known, packed((value, self._next_work(), self._store.next_outgoing())))

    def wake(self, bells: int) -> bool:
        """Tell it that there may be more; False if it has too much unread for that."""
        store = self._store
        try:
            self.link.cast(WAKE, packed(Wake(bells, self._next_work(), store.next_outgoing(), store.epoch)))
        except RemoteError:
            return False
        return True

    @property
    def unanswered(self) -> list[asyncio.Future[Any]]:
        """What its calls wait for."""
        return list(self._pending.values())

    def give_up(self, known: Any) -> None:
        """The worker does not wait for this call any more. What was not begun is not done."""
        future = self._pending.get(known)
        if future is not None:
            future.cancel()

    def leave(self) -> None:
        """It is gone: nothing is answered any more."""
        self.is_gone = True
        for future in list(self._pending.values()):
            future.cancel()

    def _done(self, known: Any, finish: Finish, undo: Undo | None, future: asyncio.Future[Any]) -> None:
        self._pending.pop(known, None)
        if future.cancelled():
            self.link.refuse(known, CANCELLED, "the call was given up")
            return
        error = future.exception()
        try:
            if error is not None:
                raise error
            if self.is_gone and undo is not None:
                self._store.core.afterwards(undo, future.result())
                return
            self.answer(known, finish(future.result()))
        except Exception as reason:  # noqa: BLE001 - handed to whoever called
            refuse(self.link, known, reason, "a call")
