"""The states of conversations as the ancestor's router sees them while a server runs: those of the turn at hand."""

from __future__ import annotations

from typing import Any

from monsal.compat.salmon.outgoing import running_turn
from monsal.errors import UsageError
from monsal.store import ROUTE_FIRST_STATE, MemoryStorage, StateStorage
from monsal.store.contract import StateKey

__all__ = ["TurnStates"]


class TurnStates(StateStorage):
    """Takes the place of `Router.STATE_STORE`: what a handler forces is committed with its turn (P2).

    `storage` is what the application had put there itself, None if the states are in the store. Outside of a turn the
    storage is asked; without one, states are kept in memory for tests that deliver by the router, and a server's
    thread is refused.
    """

    def __init__(self, storage: Any, entrances: list[Any]) -> None:
        self._storage = storage
        self._entrances = entrances
        self._memory = MemoryStorage()

    def get(self, key: str, sender: str) -> str:
        turn = running_turn()
        if turn is None:
            return str((self._outside("read") or self._memory).get(key, sender))
        pair = StateKey(key, sender)
        if pair in turn.forced:
            return turn.forced[pair]
        if pair == turn.conversation:
            return turn.state
        if self._storage is not None:
            return str(self._storage.get(key, sender))
        found = turn.read("select state from v_states where key = ? and sender = ?", (key, sender))
        return str(found[0][0]) if found else ROUTE_FIRST_STATE

    def set(self, key: str, sender: str, state: str) -> None:
        turn = running_turn()
        if turn is None:
            (self._outside("changed") or self._memory).set(key, sender, state)
        else:
            turn.check_open()
            turn.forced[StateKey(key, sender)] = state

    def clear(self) -> None:
        (self._outside("cleared") or self._memory).clear()

    def _outside(self, done: str) -> Any:
        if self._storage is None and self._entrances:
            raise UsageError(f"states are {done} in handlers only while a server runs; see `monsal states`")
        return self._storage
