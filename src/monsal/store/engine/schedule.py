"""Which queue is next: leases and the heads of all queues, in memory. Pure: no clock, no database.

A queue is what has one lease key. It is in one place at a time:

    READY   its head may be claimed          -> LEASED by `lease`
    LATER   its head is due in the future    -> READY when a claim sees that the time has come
    LEASED  its head is being handled        -> `settle` puts it where its next head belongs; READY when it expires
    HELD    its head is held                 -> READY by `settle` after a release
    KEPT    a turn of an earlier opening may still run for its key (`Kept`) -> READY or LATER by `let_go`

The index holds one `Queue` per key with waiting or held rows, however many rows there are; the row after the head
is looked up by whoever takes the head away. Ready queues take turns: one that was handled goes to the end.

Leases are lost with the process, and that is right: whoever held them is gone, or is fenced by the new epoch.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Iterable
from itertools import takewhile
from random import Random
from typing import Final, NamedTuple

from monsal.store.engine.codes import SOURCES
from monsal.store.engine.kept import Kept

__all__ = ["FOLLOWING", "Head", "Queue", "Schedule"]

_GONE: Final = 0
_READY: Final = 1
_LATER: Final = 2
_LEASED: Final = 3
_HELD: Final = 4
_KEPT: Final = 5

_NEVER: Final = float("inf")
#: Rows after the head that are known of a queue, at most.
FOLLOWING: Final = 32


class Head(NamedTuple):
    """The first row of a queue: when it is due (0.0: at once, whatever the clock says) and whether it is held."""

    row: int
    due: float
    held: bool


class Queue:
    """One lease key with rows. `counter` is that of its last lease and 0 when no lease can commit any more.

    `following` are the rows right after the head as far as they are known, each of them waiting and due at once: no
    look at the table is needed then to see which is the next head. Anything but mail that comes and heads that leave
    makes them unknown.
    """

    __slots__ = (
        *("count", "counter", "due", "following", "head", "held", "key", "place", "row", "serial", "source", "turns"),
        "until",
    )

    def __init__(self, key: str, count: int, head: Head) -> None:
        self.key = key
        self.count = count
        self.head, self.due, self.held = head
        self.place = _GONE
        self.serial = 0
        self.counter = 0
        self.row = 0
        self.source = 0
        self.turns = 0
        self.until = 0.0
        self.following: list[int] = []

    def follow(self, heads: Iterable[Head]) -> None:
        """What was read of the rows after the head, in their order."""
        self.following = [head.row for head in takewhile(lambda head: not (head.due or head.held), heads)]

    def go_on(self, head: Head, *, removed: int) -> None:
        """It has another head, or the same, after `removed` rows have left it."""
        if head.row != self.head or removed:
            if removed == 1 and self.following[:1] == [head.row]:
                del self.following[0]
            else:
                self.following.clear()
        self.head, self.due, self.held = head


class Schedule:
    """All queues. See the module's text; times are epoch seconds, given by the caller."""

    def __init__(self) -> None:
        self.queues: dict[str, Queue] = {}
        self.leased: dict[str, Queue] = {}
        self.running = [0] * len(SOURCES)
        self.kept = Kept()
        self._ready: deque[Queue] = deque()
        self._later: list[tuple[float, int, Queue]] = []
        self._serial = 0
        # No lease ends before this; it may be too early, never too late.
        self._first_end = _NEVER

    def add(self, key: str, row: int, due: float = 0.0) -> bool:
        """A new row at the end of a queue; whether `take` may give more now."""
        queue = self.queues.get(key)
        if queue is not None:
            if len(queue.following) == queue.count - 1 < FOLLOWING and not due:
                queue.following.append(row)
            queue.count += 1
            return False
        return self.restore(key, 1, Head(row, due, False))

    def restore(self, key: str, count: int, head: Head) -> bool:
        """Put a queue in its place as it was found on the disk; whether it is ready."""
        queue = self.queues[key] = Queue(key, count, head)
        return self._put(queue)

    def rejoin(self, key: str, head: Head, added: int) -> bool:
        """Rows came back to a queue (a replay, a release), or its head was changed; whether it is ready now."""
        queue = self.queues.get(key)
        if queue is None:
            return self.restore(key, added, head)
        queue.count += added
        queue.following.clear()
        queue.head, queue.due, queue.held = head
        return queue.place != _LEASED and self._put(queue)

    def take(self, limit: int, now: float, fits: Callable[[int], bool] | None = None) -> list[Queue]:
        """Up to `limit` ready queues; the caller leases each of them, or settles it, before anything else.

        With `fits` up to the first whose head does not fit.
        """
        self._look(now)
        taken: list[Queue] = []
        ready = self._ready
        while ready and len(taken) < limit:
            queue = ready[0]
            # A queue that went elsewhere while it stood here left its entry behind.
            if queue.place == _READY:
                if fits is not None and not fits(queue.head):
                    break
                queue.place = _GONE
                taken.append(queue)
            ready.popleft()
        return taken

    @property
    def first(self) -> int:
        """The head of the queue that is next, if one is ready, else 0."""
        return next((queue.head for queue in self._ready if queue.place == _READY), 0)

    def _look(self, now: float) -> None:
        """Find what became ready by the time alone."""
        if now >= self._first_end:
            self._expire(now)
        if now >= self.kept.first_end:
            self._put_free(self.kept.expire(now))
        later = self._later
        while later and later[0][0] <= now:
            _, serial, queue = heapq.heappop(later)
            if queue.place == _LATER and queue.serial == serial:
                queue.place = _READY
                self._ready.append(queue)

    @property
    def width(self) -> int:
        """Queues whose head is handled or can be taken now; some that went elsewhere may be counted, too."""
        return len(self.leased) + len(self._ready)

    @property
    def is_idle(self) -> bool:
        """Whether no row is handled and none can be taken now: until new mail comes, no turn is committed."""
        return not self.leased and not self._ready

    def shuffle(self, random: Random, now: float) -> None:
        """Put the ready queues in an order that `random` decides, for runs that are to be repeated (mailbox.B17)."""
        self._look(now)
        # Rows are numbered as they came; keys may be drawn at random.
        ready = {queue.head: queue for queue in self._ready if queue.place == _READY}
        order = sorted(ready)
        random.shuffle(order)
        self._ready = deque(ready[row] for row in order)

    def lease(self, queue: Queue, counter: int, source: int, until: float) -> None:
        """Lease a taken queue: its head runs."""
        if queue.counter:
            self.running[queue.source] -= 1
        queue.place = _LEASED
        queue.counter = counter
        queue.row = queue.head
        queue.source = source
        queue.turns = 0
        queue.until = until
        self.running[source] += 1
        self.leased[queue.key] = queue
        if until < self._first_end:
            self._first_end = until

    def holder(self, key: str, counter: int) -> Queue | None:
        """The queue whose last lease this is. One that expired and was not taken by another may still commit."""
        queue = self.queues.get(key)
        return queue if queue is not None and queue.counter == counter else None

    def extend(self, key: str, counter: int, until: float) -> bool:
        """Prolong a lease; False if it is not held any more."""
        queue = self.holder(key, counter)
        if queue is None:
            return False
        queue.until = until
        queue.place = _LEASED
        self.leased[key] = queue
        if until < self._first_end:
            self._first_end = until
        return True

    def settle(self, queue: Queue, *, removed: int, head: Head | None) -> bool:
        """End the queue's lease, if it has one, and put it where its next head belongs; whether it is ready now.

        `removed` rows have left it; `head` is the first of those that stay, None if there is none.
        """
        self.revoke(queue)
        queue.count -= removed
        if head is None:
            queue.place = _GONE
            del self.queues[queue.key]
            return False
        queue.go_on(head, removed=removed)
        return self._put(queue)

    def revoke(self, queue: Queue) -> None:
        """Take a lease away: nothing of it can be committed. The caller settles the queue next."""
        if queue.counter:
            self.running[queue.source] -= 1
            queue.counter = 0
            self.leased.pop(queue.key, None)

    def running_rows(self) -> set[int]:
        """The rows that are being handled."""
        return {queue.row for queue in self.queues.values() if queue.counter}

    def next_time(self, *, is_ready: bool = True) -> float | None:
        """When `take` may give more without any new event; it may be too early. Changes nothing, looks at no list
        as a whole: it is called while another thread may be taking. Without `is_ready` it is not about those that are
        ready now.
        """
        if self._ready and is_ready:
            return 0.0
        times = [entry[0] for entry in self._later[:1]]
        if self.leased:
            times.append(self._first_end)
        if self.kept.first_end != _NEVER:
            times.append(self.kept.first_end)
        return min(times, default=None)

    def keep(self, owner: int, key: str, until: float) -> None:
        """Give no row of this key to anybody until `let_go` or a time: the owner still runs a turn for it (P3)."""
        self.kept.keep(owner, key, until)
        queue = self.queues.get(key)
        if queue is not None and queue.place in (_READY, _LATER):
            queue.place = _KEPT

    def let_go(self, owner: int, keys: Iterable[str] | None = None) -> bool:
        """The owner runs no turn for these keys, or for any, any more; whether `take` may give more now."""
        return self._put_free(self.kept.let_go(owner, keys))

    def _put_free(self, keys: Iterable[str]) -> bool:
        queues = [queue for key in keys if (queue := self.queues.get(key)) is not None and queue.place == _KEPT]
        # All of them, not up to the first that is ready.
        return bool(sum(self._put(queue) for queue in queues))

    def _put(self, queue: Queue) -> bool:
        if queue.held:
            queue.place = _HELD
            return False
        if queue.key in self.kept:
            queue.place = _KEPT
            return False
        if queue.due:
            self._serial += 1
            queue.serial = self._serial
            queue.place = _LATER
            heapq.heappush(self._later, (queue.due, queue.serial, queue))
            return False
        queue.place = _READY
        self._ready.append(queue)
        return True

    def _expire(self, now: float) -> None:
        for queue in [queue for queue in self.leased.values() if queue.until <= now]:
            del self.leased[queue.key]
            queue.place = _KEPT if queue.key in self.kept else _READY
            if queue.place == _READY:
                self._ready.append(queue)
        self._first_end = min((queue.until for queue in self.leased.values()), default=_NEVER)
