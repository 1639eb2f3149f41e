"""Where the CPU time of a server goes: the event loop's thread is sampled, the other threads have their own account.

    sampler = Sampler(stage)
    sampler.begin()                          # on the main thread, which runs the loop
    ...
    found = sampler.end()                    # seconds of CPU by stage, and of all of it under `TOTAL`

A timer that runs with the CPU time of the process interrupts the main thread some hundred times a second, and what the
thread has used since the last time goes to the stage that its innermost frames belong to. So the stages add up to what
the thread used, which the kernel counts to the nanosecond; and so do the threads, each under its own name.
"""

from __future__ import annotations

import dis
import logging
import resource
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

__all__ = ["LOGGING", "LOOP", "OTHER", "TOTAL", "Sampler", "Stage", "calls"]

#: What the loop itself uses, its system calls among it; threads without a stage; and the sum of everything.
LOOP, OTHER, TOTAL = "event loop and sockets", "other threads", "all of it"
#: Names the stage of a stack, innermost call first, each as (file, function); None if no call has one.
Stage = Callable[[list[tuple[str, str]]], str | None]

_PERIOD = 0.002
_RESUME = dis.opmap["RESUME"]


#: Lines of a log are written by a library, whose files are called so.
LOGGING = "logging/"
_LIBRARY = str(Path(logging.__file__).parent) + "/"


def calls(frame: FrameType | None, root: str) -> Iterator[tuple[str, str]]:
    """The calls of a stack whose files are below `root`, innermost first: the path from there, and the function."""
    while frame is not None:
        name = frame.f_code.co_filename
        if name.startswith(root):
            yield name[len(root) :], frame.f_code.co_name
        elif name.startswith(_LIBRARY):
            yield LOGGING, frame.f_code.co_name
        frame = frame.f_back


class Sampler:
    """Counts from `begin` to `end`. `threads` are stages of other threads by the beginning of their names."""

    def __init__(self, root: str, stage: Stage, threads: dict[str, str]) -> None:
        self._root = root
        self._stage = stage
        self._threads = threads
        self._found: Counter[str] = Counter()
        self._last = 0
        self._before: dict[int, float] = {}
        self._total = 0.0

    def begin(self) -> None:
        """Start the timer. Called on the main thread."""
        self._found.clear()
        self._before = _by_thread()
        self._total = _cpu()
        self._last = time.thread_time_ns()
        signal.signal(signal.SIGPROF, self._tick)
        signal.setitimer(signal.ITIMER_PROF, _PERIOD, _PERIOD)

    def end(self) -> dict[str, float]:
        """Stop it; seconds of CPU by stage."""
        signal.setitimer(signal.ITIMER_PROF, 0.0)
        self._note(LOOP)
        total = _cpu() - self._total
        found = {stage: used / 1e9 for stage, used in self._found.items()}
        names = {thread.native_id: thread.name for thread in threading.enumerate()}
        main = threading.main_thread().native_id
        for thread, used in _by_thread().items():
            if thread == main:
                continue
            name = names.get(thread, "")
            stage = next((stage for start, stage in self._threads.items() if name.startswith(start)), OTHER)
            found[stage] = found.get(stage, 0.0) + used - self._before.get(thread, 0.0)
        # Threads that have ended meanwhile have taken their account with them.
        found[OTHER] = found.get(OTHER, 0.0) + max(0.0, total - sum(found.values()))
        found[TOTAL] = sum(found.values())
        return found

    def _tick(self, _number: int, frame: FrameType | None) -> None:
        self._note(LOOP if _is_beginning(frame, self._root) else self._stage(list(calls(frame, self._root))) or LOOP)

    def _note(self, stage: str) -> None:
        now = time.thread_time_ns()
        self._found[stage] += now - self._last
        self._last = now


def _is_beginning(frame: FrameType | None, root: str) -> bool:
    """Whether a callback of the loop has only just begun: then what was interrupted is the loop before it, which is C
    and is told of signals only when it calls something."""
    if frame is None or (frame.f_back is not None and frame.f_back.f_code.co_filename.startswith(root)):
        return False
    return frame.f_lasti >= 0 and frame.f_code.co_code[frame.f_lasti] == _RESUME


def _by_thread() -> dict[int, float]:
    """Seconds of CPU of each thread of this process, by its number (proc(5), schedstat)."""
    found = {}
    for task in Path("/proc/self/task").iterdir():
        try:
            found[int(task.name)] = int((task / "schedstat").read_text().split()[0]) / 1e9
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has ended since the listing
    return found


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
