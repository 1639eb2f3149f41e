"""States in a storage of the application's own, beside the store: the weaker promise of `App(states=...)`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import msgspec

from monsal.conversation.result import Outcome
from monsal.errors import StoreError
from monsal.store.contract import StateKey, TurnCommit

__all__ = ["read_foreign", "set_foreign"]

Ask = Callable[[Callable[[], Any]], Awaitable[Outcome]]


async def read_foreign(states: Any, wanted: Sequence[StateKey], ask: Ask) -> dict[StateKey, str]:
    """The names of states. `ask` calls what may wait where handlers run. Raises StoreError if the storage fails."""
    found: dict[StateKey, str] = await _value(ask, lambda: {key: states.get(key.key, key.sender) for key in wanted})
    return found


async def set_foreign(states: Any, commit: TurnCommit, ask: Ask) -> TurnCommit:
    """Set the states of a commit before the ack: a crash in between runs the handler again (B14).

    The store gets the changes too, uncompared, so that timers end and `monsal states` shows them.
    """

    def set_all() -> None:
        for change in commit.changes:
            states.set(change.state.key, change.state.sender, change.name)

    if commit.changes:
        await _value(ask, set_all)
    return msgspec.structs.replace(commit, expected=())


async def _value(ask: Ask, function: Callable[[], Any]) -> Any:
    outcome = await ask(function)
    if outcome.error is not None:
        raise StoreError(f"the storage of states failed: {outcome.error}") from outcome.error
    return outcome.value
