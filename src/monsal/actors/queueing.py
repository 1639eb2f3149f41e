"""The mailbox of an actor as a pure object: bounded, in order per key, urgent messages first (mailbox.B7, B8).

Order of use: `put` each message that comes; `take` what may run now, until it gives None; `done(ticket)` after each,
and `take` again. Messages of one key run one at a time in the order in which they came, those of different keys beside
one another. System messages overtake control messages, those overtake the user's, and neither waits for a turn.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import Enum, IntEnum
from typing import Generic, Literal, TypeVar

__all__ = ["Bounds", "MessageQueue", "Priority", "Put", "QueueStatistics", "Taken"]

T = TypeVar("T")

#: The key of messages that have none.
NO_KEY = ""


class Priority(IntEnum):
    """What overtakes what; a smaller number goes first."""

    SYSTEM = 0
    CONTROL = 1
    USER = 2


class Put(Enum):
    """What became of a message that came."""

    #: It is in the queue.
    ACCEPTED = "accepted"
    #: It is not in the queue, and the sender is to be told so.
    REFUSED = "refused"
    #: It is not in the queue, and the sender is to wait until `has_room` says yes.
    WAIT = "wait"


@dataclass(frozen=True, kw_only=True, slots=True)
class Bounds:
    """How much may wait in a mailbox, for each priority on its own.

    A message is taken as long as fewer than `count` wait and they are together below `octets` bytes: so one that is
    greater than the bound still reaches an actor that has nothing else to do. When it is full the policy says whether
    senders `wait` or are refused (`refuse`).
    """

    count: int = 1000
    octets: int = 8 * 1024 * 1024
    policy: Literal["wait", "refuse"] = "refuse"

    def __post_init__(self) -> None:
        if self.count < 1 or self.octets < 1:
            raise ValueError("the bounds of a mailbox are at least 1 message and 1 byte")
        if self.policy not in ("wait", "refuse"):
            raise ValueError(
                f"a mailbox that is full lets its senders 'wait' or be refused ('refuse'), not {self.policy!r}"
            )


@dataclass(frozen=True, slots=True)
class Taken(Generic[T]):
    """A message that may run now. Give `ticket` to `done` when it has."""

    item: T
    key: str
    priority: Priority
    ticket: int


@dataclass(frozen=True, kw_only=True, slots=True)
class QueueStatistics:
    """What waits and runs, and what became of all that came."""

    waiting: int
    octets: int
    running: int
    keys: int
    accepted: int
    refused: int


class MessageQueue(Generic[T]):
    """The messages that wait for an actor.

    `parallel` is how many user messages run beside one another, None for as many as there are keys. With `serial`,
    messages without a key are turns of one key; without it each of them stands alone.
    """

    def __init__(self, bounds: Bounds | None = None, *, parallel: int | None = None, serial: bool = True) -> None:
        if parallel is not None and parallel < 1:
            raise ValueError("at least one message runs at a time")
        self.bounds = bounds or Bounds()
        self.parallel = parallel
        self.serial = serial
        self._lanes = {priority: _Lane() for priority in Priority}
        self._urgent: dict[Priority, deque[_Waiting[T]]] = {Priority.SYSTEM: deque(), Priority.CONTROL: deque()}
        #: What waits, by key; a message that stands alone has a key that nobody else has.
        self._waiting: dict[_Key, deque[_Waiting[T]]] = {}
        #: The keys of which a message may run, in the order in which they became so.
        self._runnable: deque[_Key] = deque()
        #: The tickets that run, with the key that each keeps busy; urgent ones keep none.
        self._running: dict[int, _Key | None] = {}
        self._busy: set[_Key] = set()
        self._tickets = 0
        self._accepted = 0
        self._refused = 0
        #: How many messages wait.
        self.waiting = 0

    def begin(self, key: str | None = None, priority: Priority = Priority.USER) -> int:
        """The ticket of a message that runs at once, because nothing is before it; 0 if it is to be `put`.

        The same as `put` and `take`, for a fraction of the cost: most messages come to an actor that has time.
        """
        place: _Key | None = None
        if priority is Priority.USER:
            if self._runnable or (self.parallel is not None and len(self._busy) >= self.parallel):
                return 0
            if key or self.serial:
                place = key or NO_KEY
                if place in self._busy:
                    return 0
            else:
                place = self._tickets + 1
            self._busy.add(place)
        elif self._urgent[Priority.SYSTEM] or self._urgent[Priority.CONTROL]:
            return 0
        self._tickets = ticket = self._tickets + 1
        self._accepted += 1
        self._running[ticket] = place
        return ticket

    def put(self, item: T, octets: int, *, key: str | None = None, priority: Priority = Priority.USER) -> Put:
        """Take a message of so many bytes in, or say why not."""
        if not self.has_room(priority):
            if self.bounds.policy == "wait":
                return Put.WAIT
            self._refused += 1
            return Put.REFUSED
        self._tickets += 1
        self._accepted += 1
        self._lanes[priority].add(octets)
        self.waiting += 1
        entry = _Waiting(item, octets, key or NO_KEY, self._tickets)
        if priority is not Priority.USER:
            self._urgent[priority].append(entry)
            return Put.ACCEPTED
        place: _Key = self._tickets if not (key or self.serial) else entry.key
        line = self._waiting.setdefault(place, deque())
        line.append(entry)
        if len(line) == 1 and place not in self._busy:
            self._runnable.append(place)
        return Put.ACCEPTED

    def take(self) -> Taken[T] | None:
        """The next message that may run now, or None. It counts as running until `done`."""
        for priority, line in self._urgent.items():
            if line:
                return self._start(line.popleft(), priority, None)
        if not self._runnable or (self.parallel is not None and len(self._busy) >= self.parallel):
            return None
        place = self._runnable.popleft()
        line = self._waiting[place]
        entry = line.popleft()
        if not line:
            del self._waiting[place]
        self._busy.add(place)
        return self._start(entry, Priority.USER, place)

    def _start(self, entry: _Waiting[T], priority: Priority, place: _Key | None) -> Taken[T]:
        self._lanes[priority].remove(entry.octets)
        self.waiting -= 1
        self._running[entry.ticket] = place
        return Taken(entry.item, entry.key, priority, entry.ticket)

    def done(self, ticket: int) -> None:
        """A message has run: the next one of its key may.

        Raises `KeyError` if none with this ticket runs.
        """
        place = self._running.pop(ticket)
        if place is not None:
            self._busy.discard(place)
            if place in self._waiting:
                self._runnable.append(place)

    def has_room(self, priority: Priority = Priority.USER) -> bool:
        """Whether a message of this priority would be taken in."""
        lane = self._lanes[priority]
        return lane.count < self.bounds.count and lane.octets < self.bounds.octets

    def is_busy(self, key: str) -> bool:
        """Whether a turn of this key runs, so that another one has to wait for it."""
        return key in self._busy

    def drain(self) -> list[T]:
        """Take out all that waits, urgent ones first and else as they came; what runs goes on (B13)."""
        left = [entry.item for line in self._urgent.values() for entry in line]
        users = [entry for line in self._waiting.values() for entry in line]
        left += [entry.item for entry in sorted(users, key=lambda entry: entry.ticket)]
        for line in self._urgent.values():
            line.clear()
        self._waiting.clear()
        self._runnable.clear()
        self._lanes = {priority: _Lane() for priority in Priority}
        self.waiting = 0
        return left

    def __len__(self) -> int:
        """How many messages wait."""
        return self.waiting

    def statistics(self) -> QueueStatistics:
        """What waits and runs now, and how many were accepted and refused so far."""
        return QueueStatistics(
            waiting=len(self),
            octets=sum(lane.octets for lane in self._lanes.values()),
            running=len(self._running),
            keys=len(self._waiting.keys() | self._busy),
            accepted=self._accepted,
            refused=self._refused,
        )


#: The key of a turn, or the ticket of a message that stands alone.
_Key = str | int


@dataclass(frozen=True, slots=True)
class _Waiting(Generic[T]):
    item: T
    octets: int
    key: str
    ticket: int


class _Lane:
    """How much waits in one priority."""

    __slots__ = ("count", "octets")

    def __init__(self) -> None:
        self.count = 0
        self.octets = 0

    def add(self, octets: int) -> None:
        self.count += 1
        self.octets += octets

    def remove(self, octets: int) -> None:
        self.count -= 1
        self.octets -= octets
