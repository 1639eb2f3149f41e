"""Who has which name: each new owner of one gets a higher epoch, and one of a lower epoch is refused (mailbox.B14)."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from monsal.actors.errors import CommandError, StaleName, UnknownActor
from monsal.actors.refs import ARBITER, MONITOR

__all__ = ["Names"]

#: So many names that have no owner are remembered with their epoch.
_REMEMBERED: Final = 10_000
_RESERVED: Final = frozenset({ARBITER, MONITOR})


class Names:
    """The owners of names, by the ids of actors. Pure."""

    def __init__(self) -> None:
        self._owners: dict[str, tuple[str, int]] = {}
        self._epochs: OrderedDict[str, int] = OrderedDict()

    def claim(self, name: str, aid: str) -> int:
        """Give a name to an actor; the epoch of that. Raises CommandError if another one has it."""
        owner = self._owners.get(name)
        if owner is not None and owner[0] == aid:
            return owner[1]
        if owner is not None or name in _RESERVED or not name:
            raise CommandError(f"the name {name!r} is taken")
        epoch = self.reserve(name)
        self._owners[name] = (aid, epoch)
        return epoch

    def reserve(self, name: str) -> int:
        """An epoch for somebody who is going to `take_over` the name."""
        epoch = self._epochs.pop(name, 0) + 1
        self._epochs[name] = epoch
        if len(self._epochs) > _REMEMBERED:
            unused = next((known for known in self._epochs if known not in self._owners and known != name), None)
            if unused is not None:
                del self._epochs[unused]
        return epoch

    def take_over(self, name: str, aid: str, epoch: int) -> None:
        """Give a name to the successor of whoever has it; the old owner is stale from now on."""
        self._owners[name] = (aid, epoch)

    def release(self, name: str, aid: str) -> None:
        """The name has no owner any more, if this one was it."""
        owner = self._owners.get(name)
        if owner is not None and owner[0] == aid:
            del self._owners[name]

    def owner(self, name: str) -> str | None:
        """The id of the owner."""
        owner = self._owners.get(name)
        return None if owner is None else owner[0]

    def check(self, name: str, aid: str, epoch: int) -> None:
        """Raises StaleName if the name belongs to another one by now, UnknownActor if to nobody."""
        owner = self._owners.get(name)
        if owner is None:
            raise UnknownActor(f"nobody has the name {name!r}")
        if owner != (aid, epoch):
            raise StaleName(f"{name!r} belongs to {owner[0]} since epoch {owner[1]}; {aid} had it in epoch {epoch}")
