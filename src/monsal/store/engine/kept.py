"""Keys whose turns of an earlier opening may still run: nobody is given their rows until those ended (P3). Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

__all__ = ["Kept"]

_NEVER: Final = float("inf")


class Kept:
    """Who runs what, and until when that is believed. `first_end` may be too early, never too late."""

    __slots__ = ("_by_key", "first_end")

    def __init__(self) -> None:
        self._by_key: dict[str, dict[int, float]] = {}
        self.first_end = _NEVER

    def __contains__(self, key: str) -> bool:
        return key in self._by_key

    def keep(self, owner: int, key: str, until: float) -> None:
        """This owner runs a turn for the key, at most until then; said again, the time is moved."""
        self._by_key.setdefault(key, {})[owner] = until
        self.first_end = min(self.first_end, until)

    def has(self, owner: int, key: str) -> bool:
        """Whether this owner is believed to run a turn for the key."""
        return owner in self._by_key.get(key, ())

    def let_go(self, owner: int, keys: Iterable[str] | None = None) -> list[str]:
        """The owner runs none for these keys, or for any; the keys that nobody keeps any more."""
        return self._drop([(key, owner) for key in (self._by_key if keys is None else keys) if self.has(owner, key)])

    def expire(self, now: float) -> list[str]:
        """Believe no longer what was to end by now; the keys that nobody keeps any more."""
        over = [(key, owner) for key, ends in self._by_key.items() for owner, end in ends.items() if end <= now]
        free = self._drop(over)
        self.first_end = min((end for ends in self._by_key.values() for end in ends.values()), default=_NEVER)
        return free

    def _drop(self, over: list[tuple[str, int]]) -> list[str]:
        free = []
        for key, owner in over:
            ends = self._by_key[key]
            del ends[owner]
            if not ends:
                del self._by_key[key]
                free.append(key)
        if not self._by_key:
            self.first_end = _NEVER
        return free
