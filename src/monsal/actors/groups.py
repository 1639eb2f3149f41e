"""Which member of a group gets a message: by turns, the least busy, always the same for a key, or all of them."""

from __future__ import annotations

import hashlib
from bisect import bisect_right, insort
from collections.abc import Callable
from typing import Literal

from monsal.errors import NotRunning

__all__ = ["HashRing", "Roster", "Route"]

Route = Literal["least_busy", "round_robin", "hash", "broadcast"]

#: How many points each member has on the ring. With 160 (the number of Ketama, which many memcached clients use) the
#: share of a member differs from that of another by about a tenth.
POINTS = 160


def _point(text: str) -> int:
    # hash() is salted in each process; keys must go to the same member whoever asks.
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")


class HashRing:
    """Consistent hashing: a key keeps its member for as long as that one is there.

    Who joins takes keys from the others and moves none between them; who leaves leaves its keys to the others.
    """

    def __init__(self) -> None:
        self._points: list[tuple[int, str]] = []

    def join(self, member: str) -> None:
        """Give a member its share of the keys."""
        for number in range(POINTS):
            insort(self._points, (_point(f"{member}\x00{number}"), member))

    def leave(self, member: str) -> None:
        """Take a member's share away."""
        self._points = [point for point in self._points if point[1] != member]

    def find(self, key: str) -> str:
        """The member of a key. Raises `LookupError` if there is none at all."""
        if not self._points:
            raise LookupError("nobody is on the ring")
        place = bisect_right(self._points, _point(key), key=lambda point: point[0])
        return self._points[place % len(self._points)][1]


class Roster:
    """The members of a group that can be asked now, by the name of their place in it.

    A member that is replaced keeps its name, and with it its keys. `load(name)` says how busy one is: any number, for
    example that of its messages that wait or run.
    """

    def __init__(self, name: str, load: Callable[[str], float]) -> None:
        self.name = name
        self._load = load
        self._members: list[str] = []
        self._ring = HashRing()
        self._turn = 0

    @property
    def members(self) -> tuple[str, ...]:
        """The names of the members, in the order in which they joined."""
        return tuple(self._members)

    def join(self, member: str) -> None:
        """Let a member be asked; who is there already stays as it is."""
        if member not in self._members:
            self._members.append(member)
            self._ring.join(member)

    def leave(self, member: str) -> None:
        """Let a member not be asked any more; who is not there is no error."""
        if member in self._members:
            self._members.remove(member)
            self._ring.leave(member)

    def choose(self, route: Route = "least_busy", *, key: str | None = None) -> tuple[str, ...]:
        """Who gets the next message: one member, or all of them for `broadcast`.

        Among those that are equally busy they take turns. Raises `NotRunning` if there is no member, `ValueError` if
        the route is unknown or a key is missing.
        """
        if not self._members:
            raise NotRunning(f"no member of {self.name} is running; try again when one is")
        if route == "broadcast":
            return self.members
        if route == "hash":
            if key is None:
                raise ValueError("the route 'hash' needs a key")
            return (self._ring.find(key),)
        if route not in ("least_busy", "round_robin"):
            raise ValueError(f"there is no route {route!r}; there are least_busy, round_robin, hash and broadcast")
        self._turn += 1
        first = (self._turn - 1) % len(self._members)
        if route == "round_robin":
            return (self._members[first],)
        turns = [*self._members[first:], *self._members[:first]]
        return (min(turns, key=self._load),)
