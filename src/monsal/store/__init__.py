"""The one durable thing: spool, states, timers, history, outbox and dead letters in one store (P1, P2).

May import the ground floor and `wire`. `contract` says in values what a store is, and is where to start reading; `url`
makes one; `sqlite`, `memory` are those of this version, over one engine; `remote` is one in another process, where
`host` serves it; `states` has the get/set/clear storages of the original; `inspect` looks into a store without owning
it.

Names come when they are first asked for: importing this loads no database.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from monsal.late import late
from monsal.store.contract import (
    ROUTE_FIRST_STATE,
    Accept,
    Ack,
    Applied,
    Capabilities,
    Claimed,
    CommitResult,
    Conflict,
    DoneTurn,
    Expected,
    Fence,
    Fenced,
    Ledger,
    Outgoing,
    OutgoingMail,
    Receipt,
    Recipient,
    SetTimer,
    Settled,
    Source,
    StateChange,
    StateKey,
    Statement,
    StateValue,
    Store,
    TurnCommit,
    TurnRow,
)
from monsal.store.identity import Aside, Consumed, Identity, Released
from monsal.store.url import open_store
from monsal.store.url import open_store as open  # noqa: A004 - the name that docs/interface.md promises

if TYPE_CHECKING:
    from monsal.store.host import StoreHost
    from monsal.store.inspect import Inspector
    from monsal.store.memory import MemoryStore
    from monsal.store.remote import RemoteStore
    from monsal.store.sqlite import SqliteStore
    from monsal.store.states import MemoryStorage, ShelveStorage, StateStorage, Storage, StoreStates, as_storage

_HOME = {
    "Inspector": "monsal.store.inspect",
    "MemoryStorage": "monsal.store.states",
    "MemoryStore": "monsal.store.memory",
    "RemoteStore": "monsal.store.remote",
    "ShelveStorage": "monsal.store.states",
    "SqliteStore": "monsal.store.sqlite",
    "StateStorage": "monsal.store.states",
    "Storage": "monsal.store.states",
    "StoreHost": "monsal.store.host",
    "StoreStates": "monsal.store.states",
    "as_storage": "monsal.store.states",
}

__all__ = [
    "ROUTE_FIRST_STATE",
    "Accept",
    "Ack",
    "Applied",
    "Aside",
    "Capabilities",
    "Claimed",
    "CommitResult",
    "Conflict",
    "Consumed",
    "DoneTurn",
    "Expected",
    "Fence",
    "Fenced",
    "Identity",
    "Inspector",
    "Ledger",
    "MemoryStorage",
    "MemoryStore",
    "Outgoing",
    "OutgoingMail",
    "Receipt",
    "Recipient",
    "Released",
    "RemoteStore",
    "SetTimer",
    "Settled",
    "ShelveStorage",
    "Source",
    "SqliteStore",
    "StateChange",
    "StateKey",
    "StateStorage",
    "StateValue",
    "Statement",
    "Storage",
    "Store",
    "StoreHost",
    "StoreStates",
    "TurnCommit",
    "TurnRow",
    "as_storage",
    "open",
    "open_store",
]

if not TYPE_CHECKING:
    __getattr__, __dir__ = late(__name__, _HOME)
