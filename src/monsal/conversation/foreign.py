"""States in a storage beside the store, which promises less (rule state.B14): get, set and clear, no versions."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

import msgspec

from monsal.conversation.result import Outcome
from monsal.errors import StoreError
from monsal.store.contract import StateKey, StateValue, TurnCommit

__all__ = ["ForeignStates"]


class ForeignStates:
    """One storage, for one passage. `ask` calls a function where handlers run: the storage is foreign code."""

    def __init__(self, storage: Any, ask: Callable[[Callable[[], Any]], Awaitable[Outcome]]) -> None:
        self._storage = storage
        self._ask = ask

    async def read(self, wanted: Iterable[StateKey], view: Mapping[StateKey, StateValue]) -> dict[StateKey, StateValue]:
        """The view with the names that the storage has. Raises StoreError if it failed."""
        names = await self._do(lambda: {key: self._storage.get(key.key, key.sender) for key in wanted})
        return {key: msgspec.structs.replace(view[key], state=name, version=0) for key, name in names.items()}

    async def write(self, commit: TurnCommit) -> TurnCommit:
        """Set the states before the ack: a crash in between runs the handler again (B14).

        The store gets the changes too, uncompared, so that timers end and `monsal states` shows them. Raises StoreError
        if the storage failed.
        """

        def set_all() -> None:
            for change in commit.changes:
                self._storage.set(change.state.key, change.state.sender, change.name)

        if commit.changes:
            await self._do(set_all)
        return msgspec.structs.replace(commit, expected=())

    async def _do(self, function: Callable[[], Any]) -> Any:
        outcome = await self._ask(function)
        if outcome.error is not None:
            raise StoreError(f"the storage of states failed: {outcome.error}") from outcome.error
        return outcome.value
