"""Interpreters that begin before the command that needs them has loaded what it needs itself."""

from __future__ import annotations

import os
import resource
import signal
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from monsal.actors.interpreter import Interpreter

__all__ = ["LEAST_FILES", "begun_ahead", "discard"]

#: Open files without which nothing is served: connections leave 64 free for all else, and there are to be some of them.
LEAST_FILES: Final = 128


def begun_ahead(workers: int, *, becomes_another: bool) -> dict[str, Interpreter]:
    """The interpreters of the processes that so many workers need, which begin now: most of a start is what they load.

    None if there is to be one process, or if this one `becomes_another` user before it starts others.
    """
    if workers < 1 or becomes_another:
        return {}
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files != resource.RLIM_INFINITY and files < LEAST_FILES:
        return {}
    # What is meant for this process only, as after a restart, would be inherited by them.
    if signal.pthread_sigmask(signal.SIG_BLOCK, ()) or {"LISTEN_FDS", "MONSAL_LISTEN_FDS"} & {*os.environ}:
        return {}
    from monsal.processes.ahead import begin_ahead

    return begin_ahead(workers)


def discard(made: dict[str, Interpreter]) -> None:
    """End those that nobody took."""
    while made:
        made.popitem()[1].discard()
