"""Conversations in a state whose function was renamed or removed (rules routing.B8, state.B7; P5).

Of a renamed function the former name is known (`was`): then all goes on under the new one. Of the others a setting says
what becomes of their mail, and whoever starts the server is told that there are some.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, Literal

import msgspec

from monsal.routing import Match, Table, orphaned
from monsal.store.contract import Ack, StateKey, StateValue, Store

__all__ = ["OrphanedStates", "UnknownState", "ack_of_nobody", "orphaned_states", "rename_in"]

#: What becomes of a message whose conversation is in a state without a function.
UnknownState = Literal["start", "dead", "hold"]


class OrphanedStates(msgspec.Struct, frozen=True):
    """How many conversations of a machine are in a state that no loaded function has."""

    key: str
    state: str
    conversations: int


def rename_in(view: dict[StateKey, StateValue], keys: Mapping[str, StateKey], table: Table) -> set[StateKey]:
    """Show states under the names that their functions have now; which those are. The next turn there stores them."""
    renamed: set[StateKey] = set()
    for name, key in keys.items():
        module = table.modules.get(name)
        if module is None or not module.renamed:
            continue
        value = view[key]
        present = module.present_name(value.state)
        if present != value.state:
            view[key] = msgspec.structs.replace(value, state=present)
            renamed.add(key)
    return renamed


def ack_of_nobody(
    policy: UnknownState, ack: Ack, matches: Sequence[Match], states: Mapping[str, tuple[str, str]], table: Table
) -> Ack:
    """What becomes of a message that no stateful handler took: `ack`, unless a conversation of it is an orphan.

    `states` has key and state of each module. With the policy `start` somebody else has taken it, if there is anybody.
    """
    if ack.reason == "no_handler_in_state":
        names = sorted({f"{key} is in {state}" for key, state in states.values()})
        ack = msgspec.structs.replace(ack, reason=f"no_handler_in_state ({', '.join(names)})")
    if policy == "start" or ack.kind not in ("done", "dead"):
        return ack
    found = orphaned(matches, lambda module: states[module][1], table=table)
    if not found:
        return ack
    reason = "; ".join(f"unknown_state ({orphan.module} has no state {orphan.state} any more)" for orphan in found)
    return Ack(kind=policy, reason=reason, detail=ack.detail, tried=ack.tried)


#: Machines and states that are told; a generator may make a key for each correspondent.
_TOLD: Final = 1000
_COUNT: Final = "SELECT key, state, count(*) FROM v_states GROUP BY key, state ORDER BY count(*) DESC LIMIT ?"


async def orphaned_states(store: Store, table: Table) -> list[OrphanedStates]:
    """The stored states that no loaded function has, the most frequent first. Raises StoreError."""
    rows = await store.read(_COUNT, (_TOLD,))
    return [OrphanedStates(key, state, count) for key, state, count in rows if not table.knows(key, state)]
