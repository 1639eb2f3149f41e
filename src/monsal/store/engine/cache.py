"""Values that were read or written lately, bounded, without a lock."""

from __future__ import annotations

from monsal.store.contract import StateKey, StateValue

__all__ = ["StateCache"]


class StateCache:
    """Known states. Two generations instead of a list in order of use: what was not asked for while `limit / 2`
    others were put in is forgotten.

    One thread writes; another one may read meanwhile, because each step on a dict is atomic.
    """

    __slots__ = ("_half", "_new", "_old")

    def __init__(self, limit: int = 20_000) -> None:
        self._half = max(1, limit // 2)
        self._new: dict[StateKey, StateValue] = {}
        self._old: dict[StateKey, StateValue] = {}

    def __len__(self) -> int:
        return len(self._new.keys() | self._old.keys())

    def get(self, state: StateKey) -> StateValue | None:
        """The value if it is known; may be called from any thread."""
        value = self._new.get(state)
        return self._old.get(state) if value is None else value

    def put(self, state: StateKey, value: StateValue) -> None:
        """Note a value that was read or has been written."""
        if len(self._new) >= self._half and state not in self._new:
            self._old = self._new
            self._new = {}
        self._new[state] = value

    def drop(self, state: StateKey) -> None:
        """Forget a value: the next reader asks the database."""
        self._new.pop(state, None)
        self._old.pop(state, None)

    def clear(self) -> None:
        """Forget everything."""
        self._new = {}
        self._old = {}
