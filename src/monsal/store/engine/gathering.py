"""The open group of operations: how long others may join it, and who flushes it. Pure: time is an argument.

A flush costs about as much as ten operations, whatever is in the group: pages that every group writes, a hop to the
thread, the call of the disk. So while there is much to do a group is flushed when a turn of the loop brought nothing
more, and not at the end of the first one; a turn that finds nothing to do takes a few microseconds. After a pause,
and where mails come one at a time, nothing waits: a mail is on the disk before its handler can begin.

Mails that are on their way are announced (`coming`), by those who are told what comes over a connection; for them a
group waits without turns of the loop, until they are there or it is as old as the window. With ten sessions that send
mail one after the other a group has nine mails by that instead of five, with two it has two.
"""

from __future__ import annotations

from typing import Final

from monsal.store.coming import Coming
from monsal.store.engine.place import EngineSettings

__all__ = ["Gathering"]

#: Windows without a flush after which the store counts as idle. A group of ten sessions takes about one window from
#: its first mail to its flush, and several where the machine is busy.
_PAUSE: Final = 5
#: Seconds that are not waited any more: a timer of uvloop counts whole milliseconds, and may be early by half of one.
_TICK: Final = 0.0005


class Gathering:
    """Counts the operations of the open group and the groups before it; times are of the monotonic clock.

    Not those of the loop: uvloop's clock counts whole milliseconds, half a window.
    """

    __slots__ = (
        "_began",
        "_last_flush",
        "_last_size",
        "_sealed",
        "_seen",
        "_settings",
        "coming",
        "flush_seconds",
        "groups",
        "largest",
        "size",
    )

    def __init__(self, settings: EngineSettings) -> None:
        self._settings = settings
        self.coming = Coming()
        self.start(0.0)

    def start(self, flush_seconds: float) -> None:
        """Begin to count, for a store that was opened; `flush_seconds` is what a flush took there."""
        #: Operations in the open group.
        self.size = 0
        self.groups = self.largest = 0
        #: What a flush takes, smoothed.
        self.flush_seconds = flush_seconds
        self._seen = self._last_size = self._sealed = 0
        self._began = self._last_flush = 0.0

    def add(self, now: float) -> bool:
        """One more operation; False if the group is to be flushed at once, because it is full."""
        if not self.size:
            self._began = now
        self.size += 1
        return self.size < self._settings.group_limit

    def goes_on(self, now: float) -> bool:
        """Asked at the end of a turn of the loop when somebody waits: whether the next one may bring more.

        That is so if this one did, until the group is full or as old as the window (DESIGN 2); never if the store was
        idle for a while, nor for the second lone operation in a row: then nobody else is there who could join.
        """
        window = self._settings.window
        if self.size == self._seen or self.size >= self._settings.group_limit:
            return False
        if self.is_lone or now - self._last_flush >= _PAUSE * window:
            return False
        self._seen = self.size
        return now - self._began < window

    def waits(self, now: float) -> float:
        """Seconds for which it may still wait for mails that were announced; 0 if there are none, or it is to go."""
        rest = self._began + self._settings.window - now
        if rest < _TICK or self.size >= self._settings.group_limit:
            return 0.0
        return rest if self.coming.is_awaited(now) else 0.0

    @property
    def has_room(self) -> bool:
        """Whether one more operation may join it."""
        return self.size < self._settings.group_limit

    @property
    def is_lone(self) -> bool:
        """Whether the group has one operation, as the one before it had: others do not come often enough to join."""
        return self.size == self._last_size == 1

    def goes_here(self, waiting: int, now: float, *, is_busy: bool) -> bool:
        """Whether the loop's own thread should flush, on a quick disk: a hop to another costs 45 us and more.

        A single operation, and a group for whose flush nothing else waits: all of its operations are `waiting` for it,
        no turn is under way (`is_busy`), and nobody is about to bring more.
        """
        if self.flush_seconds >= self._settings.inline_below:
            return False
        return self.size == 1 or (self.size == waiting and not is_busy and not self.coming.is_awaited(now))

    def rest(self, now: float) -> float:
        """Seconds for which applied turns, for which nobody waits, may still wait for others; 0 or less for none."""
        window = self._settings.window
        # Where flushes are slow, applied turns wait for others about as long as one takes (rule state.B11).
        return self._last_flush + min(max(window, self.flush_seconds), 10 * window) - now

    def seal(self) -> None:
        """The group is about to be flushed; what comes now is the next one."""
        self._sealed = self.size
        self.forget()

    def flushed(self, seconds: float, now: float) -> None:
        """The group that was sealed is on the disk, which took so long."""
        self.flush_seconds += (seconds - self.flush_seconds) * 0.2
        self.groups += 1
        self.largest = max(self.largest, self._sealed)
        self._last_flush, self._last_size = now, self._sealed

    def go_on(self, now: float) -> None:
        """Those of the group before were answered. What was applied meanwhile could not be flushed until now: from now
        on it may wait for others."""
        self._began = now

    def forget(self) -> None:
        """There is no open group any more."""
        self.size = self._seen = 0
