"""The thread behind a watchdog: it asks again and again whether there is progress, and reports what it hears.

An answer that does not come counts as none: the question is asked on another thread, which may hang.
"""

from __future__ import annotations

import sys
import threading
import traceback
from collections.abc import Callable, Iterable

from monsal.bus.inner.waiting import spawn

__all__ = ["Progress", "Watchdog", "stacks"]

#: The part of an interval that an answer may take, so that a beat comes after 1.5 intervals at the latest.
PATIENCE = 0.5
#: What stalls; nothing, if all is well.
Progress = Callable[[], Iterable[str] | str | None]


class _Question:
    """One call of `progress`, which may not return."""

    def __init__(self, progress: Progress) -> None:
        self.answered = threading.Event()
        self.reasons: list[str] = []
        self._progress = progress

    def ask(self) -> None:
        try:
            found = self._progress()
            reasons = [found] if isinstance(found, str) else list(found or ())
            self.reasons = [str(reason) for reason in reasons if reason]
        except Exception as error:  # noqa: BLE001 - who cannot tell of progress shows none
            self.reasons = [f"progress() failed: {error!r}"]
        self.answered.set()


class Watchdog:
    """Calls `beat` with what stalls, every `interval` seconds, from `start` to `stop`."""

    def __init__(self, interval: float, progress: Progress | None, beat: Callable[[list[str]], object]) -> None:
        self._interval = interval
        self._progress = progress
        self._beat = beat
        self._over = threading.Event()
        self._thread: threading.Thread | None = None
        self._question: _Question | None = None

    def start(self) -> None:
        """Begin, or begin again where the thread is not any more: it does not live in the child of a fork."""
        if self._thread is None or not self._thread.is_alive():
            self._over, self._question = threading.Event(), None
            self._thread = spawn("monsal-watchdog", self._run)

    def stop(self) -> None:
        """End; a beat that is under way may still come."""
        self._over.set()

    def _run(self) -> None:
        over = self._over
        while not over.wait(self._interval):
            self._beat(self._ask())

    def _ask(self) -> list[str]:
        """What stalls."""
        if self._progress is None:
            return []
        question = self._question
        if question is None:
            question = self._question = _Question(self._progress)
            if spawn("monsal-watchdog-progress", question.ask) is None:
                return ["no thread can be started"]
        if not question.answered.wait(self._interval * PATIENCE):
            return ["progress() does not answer"]
        self._question = None
        return question.reasons


def stacks() -> str:
    """Where every thread is now, as text; the own one left out."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    parts = []
    for ident, frame in sys._current_frames().items():
        if ident != threading.get_ident():
            parts.append(f"Thread {names.get(ident, ident)}:\n{''.join(traceback.format_stack(frame))}")
    return "\n".join(parts)
