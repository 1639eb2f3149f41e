"""What a forked child must not keep: the lock of the store, and listening sockets.

A handler may fork (`ProcessPoolExecutor` does). Its children outlive a server that is killed, and what they hold open
is not free for the next one: it would find its store in use and its ports taken. So they close it as they begin.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from typing import Any, Final, TypeVar
from weakref import WeakKeyDictionary

__all__ = ["close_in_children"]

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
