"""The threads that a process waits for before it ends (rule R17)."""

from __future__ import annotations

import sys
import threading

__all__ = ["child_threads"]


def child_threads() -> list[threading.Thread]:
    """All that are no daemons, but for the main and the calling one, and the workers of executors.

    A worker of `concurrent.futures` is no daemon either (Python 3.9), but it sleeps until the interpreter ends, which
    has it finish its work first; who joined it before would wait for ever. A re-execution does not wait for that: who
    has an executor shuts it down in a listener of `stop`.
    """
    pools = sys.modules.get("concurrent.futures.thread")
    others = {threading.main_thread(), threading.current_thread(), *getattr(pools, "_threads_queues", ())}
    return [thread for thread in threading.enumerate() if not thread.daemon and thread not in others]
