"""Calls of the other side that wait: for room to be run, or for the other answers of their batch."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from monsal.wire.packets import Call, Cast, Id

__all__ = ["Gathering", "Held", "HeldBack", "Slot"]


class Gathering:
    """The answers of one batch: sent together, in the order of the calls, when the last one is there."""

    __slots__ = ("is_closed", "left", "payloads", "size")

    def __init__(self) -> None:
        self.payloads: list[bytes] = []
        self.left = 0
        self.size = 0
        self.is_closed = False

    def slot(self) -> Slot:
        """The place of the next answer."""
        self.payloads.append(b"")
        self.left += 1
        return Slot(self, len(self.payloads) - 1)

    @property
    def is_complete(self) -> bool:
        """Whether all of the batch was read and all its calls are answered."""
        return self.is_closed and not self.left


class Slot:
    """The place of one answer in that of its batch, and the deadline of its call."""

    __slots__ = ("deadline", "gathering", "index")

    def __init__(self, gathering: Gathering, index: int) -> None:
        self.gathering = gathering
        self.index = index
        self.deadline: float | None = None

    def fill(self, payload: bytes) -> None:
        gathering = self.gathering
        gathering.payloads[self.index] = payload
        gathering.size += len(payload) + 1
        gathering.left -= 1


class Held:
    """A call or cast that waits for room."""

    __slots__ = ("deadline", "octets", "packet", "secinfo", "slot")

    def __init__(
        self, packet: Call | Cast, deadline: float | None, secinfo: dict[str, Any], slot: Slot | None, *, octets: int
    ) -> None:
        self.packet = packet
        self.deadline = deadline
        self.secinfo = secinfo
        self.slot = slot
        self.octets = octets


class HeldBack:
    """What waits for room, in the order in which it came. Taking one out anywhere costs the same."""

    __slots__ = ("_by_id", "_last", "_waiting", "octets")

    def __init__(self) -> None:
        self._waiting: OrderedDict[int, Held] = OrderedDict()
        self._by_id: dict[Id, int] = {}
        self._last = 0
        self.octets = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def push(self, held: Held) -> None:
        self._last += 1
        self._waiting[self._last] = held
        self.octets += held.octets
        if isinstance(held.packet, Call):
            self._by_id[held.packet.id] = self._last

    def pop(self) -> Held:
        """The oldest. Raises KeyError if nothing waits."""
        number, held = self._waiting.popitem(last=False)
        self._forget(number, held)
        return held

    def drop(self, known: Id) -> Held | None:
        """The call with this id, taken out; None if it does not wait."""
        number = self._by_id.get(known)
        if number is None:
            return None
        held = self._waiting.pop(number)
        self._forget(number, held)
        return held

    def clear(self) -> None:
        self._waiting.clear()
        self._by_id.clear()
        self.octets = 0

    def _forget(self, number: int, held: Held) -> None:
        self.octets -= held.octets
        if isinstance(held.packet, Call) and self._by_id.get(held.packet.id) == number:
            del self._by_id[held.packet.id]
