"""The mailbox of an actor as a pure object: bounded, in order per key, urgent messages first (mailbox.B7, B8).

Order of use: `put` each message that comes; `take` what may run now, until it gives None; `done(ticket)` after each,
and `take` again. Messages of one key run one at a time in the order in which they came, those of different keys beside
one another. System messages overtake control messages, those overtake the user's, and neither waits for a turn.
"""

from __future__ import annotations

from collections import deque
from enum import Enum, IntEnum
from typing import Generic, Literal, TypeVar

import msgspec

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


class Bounds(msgspec.Struct, frozen=True, kw_only=True):
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


class Taken(msgspec.Struct, Generic[T], eq=False):
    """A message that may run now. Give `ticket` to `done` when it has."""

    item: T
    octets: int
    key: str
    priority: Priority
    ticket: int
    #: What it keeps busy while it runs; None for an urgent one.
    place: _Place | None


class QueueStatistics(msgspec.Struct, frozen=True, kw_only=True):
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
        #: By priority: how much waits, and what may run next.
        self._lanes: tuple[_Lane[T], ...] = tuple(_Lane() for _ in Priority)
        #: The places of which a message runs or may run; others of the same place wait behind it.
        self._claimed: set[_Place] = set()
        self._behind: dict[_Place, deque[Taken[T]]] = {}
        #: The tickets that run, with the place that each keeps busy; urgent ones keep none.
        self._running: dict[int, _Place | None] = {}
        self._users = 0
        self._tickets = 0
        self._refused = 0
        #: How many messages wait.
        self.waiting = 0

    def begin(self, key: str | None = None, priority: Priority = Priority.USER) -> int:
        """The ticket of a message that runs at once, because nothing is before it; 0 if it is to be `put`.

        The same as `put` and `take`, for a fraction of the cost: most messages come to an actor that has time.
        """
        system, control, user = self._lanes
        if system.ready or control.ready:
            return 0
        ticket = self._tickets + 1
        place: _Place | None = None
        if priority is Priority.USER:
            place = key or (NO_KEY if self.serial else ticket)
            if user.ready or place in self._claimed or (self.parallel is not None and self._users >= self.parallel):
                return 0
            self._claimed.add(place)
            self._users += 1
        self._tickets = ticket
        self._running[ticket] = place
        return ticket

    def put(self, item: T, octets: int, *, key: str | None = None, priority: Priority = Priority.USER) -> Put:
        """Take a message of so many bytes in, or say why not."""
        lane = self._lanes[priority]
        bounds = self.bounds
        if lane.count >= bounds.count or lane.octets >= bounds.octets:
            if bounds.policy == "wait":
                return Put.WAIT
            self._refused += 1
            return Put.REFUSED
        self._tickets = ticket = self._tickets + 1
        lane.count += 1
        lane.octets += octets
        self.waiting += 1
        if priority is not Priority.USER:
            lane.ready.append(Taken(item, octets, key or NO_KEY, priority, ticket, None))
            return Put.ACCEPTED
        place = key or (NO_KEY if self.serial else ticket)
        entry = Taken(item, octets, key or NO_KEY, priority, ticket, place)
        if place not in self._claimed:
            self._claimed.add(place)
            lane.ready.append(entry)
        elif place in self._behind:
            self._behind[place].append(entry)
        else:
            self._behind[place] = deque((entry,))
        return Put.ACCEPTED

    def take(self) -> Taken[T] | None:
        """The next message that may run now, or None. It counts as running until `done`."""
        system, control, user = self._lanes
        if system.ready:
            lane = system
        elif control.ready:
            lane = control
        elif user.ready and (self.parallel is None or self._users < self.parallel):
            lane = user
            self._users += 1
        else:
            return None
        taken = lane.ready.popleft()
        lane.count -= 1
        lane.octets -= taken.octets
        self.waiting -= 1
        self._running[taken.ticket] = taken.place
        return taken

    def done(self, ticket: int) -> None:
        """A message has run: the next one of its key may.

        Raises `KeyError` if none with this ticket runs.
        """
        place = self._running.pop(ticket)
        if place is None:
            return
        self._users -= 1
        behind = self._behind.get(place)
        if behind is None:
            self._claimed.discard(place)
            return
        self._lanes[Priority.USER].ready.append(behind.popleft())
        if not behind:
            del self._behind[place]

    def has_room(self, priority: Priority = Priority.USER) -> bool:
        """Whether a message of this priority would be taken in."""
        lane = self._lanes[priority]
        return lane.count < self.bounds.count and lane.octets < self.bounds.octets

    def is_busy(self, key: str) -> bool:
        """Whether a message of this key runs or is about to, so that another one has to wait for it."""
        return key in self._claimed

    def drain(self) -> list[T]:
        """Take out all that waits, urgent ones first and else as they came; what runs goes on (B13)."""
        system, control, user = self._lanes
        behind = [taken for line in self._behind.values() for taken in line]
        users = sorted([*user.ready, *behind], key=lambda taken: taken.ticket)
        left = [taken.item for taken in (*system.ready, *control.ready, *users)]
        self._lanes = tuple(_Lane() for _ in Priority)
        self._behind.clear()
        self._claimed = {place for place in self._running.values() if place is not None}
        self.waiting = 0
        return left

    def __len__(self) -> int:
        """How many messages wait."""
        return self.waiting

    def statistics(self) -> QueueStatistics:
        """What waits and runs now, and how many were accepted and refused so far."""
        return QueueStatistics(
            waiting=self.waiting,
            octets=sum(lane.octets for lane in self._lanes),
            running=len(self._running),
            keys=len(self._claimed),
            accepted=self._tickets,
            refused=self._refused,
        )


#: The key of a turn, or the ticket of a message that stands alone.
_Place = str | int


class _Lane(Generic[T]):
    """One priority: how much waits in it, and what of that may run, in the order in which it may."""

    __slots__ = ("count", "octets", "ready")

    def __init__(self) -> None:
        self.count = 0
        self.octets = 0
        self.ready: deque[Taken[T]] = deque()
