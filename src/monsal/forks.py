"""What a forked child must not keep: the lock of the store, listening sockets, the lock of a module.

A handler may fork (`ProcessPoolExecutor` does). Its children outlive a server that is killed, and what they hold open
is not free for the next one: it would find its store in use and its ports taken. So they close it as they begin.

A module that another thread imports at that moment stays locked in the child, which would wait for it for ever. So a
fork waits for the modules that are imported at their first use.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable
from typing import Any, Final, TypeVar
from weakref import WeakKeyDictionary

__all__ = ["FIRST_USE", "close_in_children"]

T = TypeVar("T")

#: What is closed in a child, with how; the hook is there once something was (P9: not by an import).
_kept: Final[WeakKeyDictionary[Any, Callable[[Any], int]]] = WeakKeyDictionary()
_hooks: Final[list[Callable[[], None]]] = []


def close_in_children(thing: T, take: Callable[[T], int]) -> None:
    """Close the descriptor of `thing` in each child that is forked from now on, as long as `thing` lives.

    `take(thing)` is called in the child: it gives the descriptor, or -1 if there is none any more, and lets `thing`
    forget it, so that it is not closed again when it may be another file's. A call that ends a lock or a listening
    must not be made there: the parent has the same.
    """
    _kept[thing] = take
    if not _hooks:
        _hooks.append(_close_all)
        os.register_at_fork(after_in_child=_close_all)


def _close_all() -> None:
    for thing, take in list(_kept.items()):
        descriptor = take(thing)
        if descriptor >= 0:
            with contextlib.suppress(OSError):
                os.close(descriptor)
    _kept.clear()


class _FirstUse:
    """What a module is imported in that a handler's thread asks for by its first use: nobody forks meanwhile."""

    __slots__ = ("_has_hooks", "_lock")

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._has_hooks = False

    def __enter__(self) -> None:
        self._lock.acquire()
        if not self._has_hooks:
            self._has_hooks = True
            free = self._lock.release
            os.register_at_fork(before=self._lock.acquire, after_in_parent=free, after_in_child=free)

    def __exit__(self, *_: object) -> None:
        self._lock.release()


FIRST_USE: Final = _FirstUse()
