"""What a store is: values go in, values come out.

A `Store` is the one durable thing of an application: spool, bodies, states, timers, history, outbox, dead letters.
Every method takes and returns frozen records and is one transaction at most; none is held open between two calls.
So the same worker drives a store in its own process, one behind a process border, or a database server.

Order of use: `open`, then `accept`, `claim`, `read_states`, `commit`, `take_outgoing` and `settle`, at last `close`.

*Applied, then durable.* `commit` returns when the turn is applied: its lease may be free and its states are what
others read, but a crash can still undo it, together with everything applied after it (a suffix, never a middle).
`accept` returns, and `take_outgoing` hands a mail out, only when everything they rest on has reached the disk.

Records that go over a link are arrays there (`array_like`): both sides are the same program, and names cost twice.
Leases give order: one lease key has at most one claimed row at a time, and its rows are claimed in order of their
ids. Correctness comes from the fence (a commit of a lost lease is `Fenced`) and from comparing the version of each
state that a turn read or changes (`Conflict`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

import msgspec

from monsal.store.bounced import Bounced, Suppressions
from monsal.store.identity import Identity
from monsal.store.upkeep import Upkeep

__all__ = [
    "ROUTE_FIRST_STATE",
    "Accept",
    "Ack",
    "Applied",
    "Capabilities",
    "Claimed",
    "CommitResult",
    "Conflict",
    "DoneTurn",
    "Expected",
    "Fence",
    "Fenced",
    "Ledger",
    "Outgoing",
    "OutgoingMail",
    "Receipt",
    "Recipient",
    "SetTimer",
    "Settled",
    "Source",
    "StateChange",
    "StateKey",
    "StateValue",
    "Statement",
    "Store",
    "TurnCommit",
    "TurnRow",
    "What",
]

#: The state of every conversation that was never stored (contract rule state.R7).
ROUTE_FIRST_STATE = "START"
Source = Literal["mail", "timer", "bounce", "call"]
What = Literal["queue", "dead", "states", "outbox", "suppressed"]


class Capabilities(msgspec.Struct, frozen=True, kw_only=True):
    """What a store promises (rule state.B14). An application that needs more refuses to start."""

    durable_ack: bool
    atomic_turn: bool
    fence: bool
    order: bool
    timers: bool
    scan: bool
    multi_host: bool
    sql: bool


class StateKey(msgspec.Struct, frozen=True, array_like=True):
    """Names one conversation: the key of its machine and its correspondent, both kept exactly as given.

    A state shared by all correspondents of a machine has the sender `""`."""

    key: str
    sender: str


class StateValue(msgspec.Struct, frozen=True, array_like=True):
    """Where a conversation stands.

    `version` grows with each change, 0 when nothing is stored (then `state` is START); `entered` is that of the last
    change of the name, `since` its time in epoch seconds, `previous` the state before (rule state.B6)."""

    state: str = ROUTE_FIRST_STATE
    version: int = 0
    entered: int = 0
    since: float = 0.0
    previous: str = ROUTE_FIRST_STATE


class Fence(msgspec.Struct, frozen=True, array_like=True):
    """The proof of a lease: `epoch` is committed anew at each open of the store, `counter` grows with each claim."""

    epoch: int
    counter: int


class Recipient(msgspec.Struct, frozen=True, array_like=True):
    """One recipient of a mail, as the envelope has it, and the queue its row stands in."""

    address: str
    lease_key: str


class Accept(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """One mail to be stored: a row for each recipient, the body once.

    `body` is the raw message in pieces as they came from the socket. `sender` is the envelope's, `correspondent`
    who writes (folded). `digest` is the sha256 of the message below its Received lines, or None if there is no
    Message-ID and so no notion of a duplicate. `received` is in epoch seconds. `envelope` is msgspec JSON of the
    connection's facts (peer, hello, protocol, user, tls), kept as it is."""

    sender: str
    correspondent: str
    recipients: tuple[Recipient, ...]
    body: tuple[bytes, ...]
    received: float
    message_id: str | None = None
    digest: bytes | None = None
    source: Source = "mail"
    envelope: bytes = b"{}"


class Receipt(msgspec.Struct, frozen=True, array_like=True):
    """The answer to `accept`: for each recipient the id of its row and whether that row was there before."""

    ids: tuple[int, ...]
    duplicates: tuple[bool, ...]


class DoneTurn(msgspec.Struct, frozen=True, array_like=True):
    """A turn of a message that was committed before: its handler must not run again."""

    handler: str
    stateful: bool


class Claimed(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """A row under lease. `body` is the raw message, or the path of the file that holds it if it is large.

    `attempts` counts failed tries, `kills` the times its process died while it ran. `done` lists the turns already
    committed for it. For source timer: `target` is the function to call (`module:name`), `state` the conversation
    that set it, `entered` that conversation's `StateValue.entered` at the time, and body and message_id are those of
    the message whose turn set it. `replies` counts the mails of the last hour to the correspondent as far as the store
    knows (`TurnCommit.replies`), `quick` how often in a row an answer came at once (`ReplyBudget.arrived`); one
    worker counts for itself.
    """

    id: int
    fence: Fence
    lease_key: str
    source: Source
    sender: str
    correspondent: str
    recipient: str
    received: float
    body: bytes | Path
    message_id: str | None = None
    envelope: bytes = b"{}"
    attempts: int = 0
    kills: int = 0
    done: tuple[DoneTurn, ...] = ()
    target: str | None = None
    state: StateKey | None = None
    entered: int = 0
    replies: int = 0
    quick: int = 0


class Expected(msgspec.Struct, frozen=True, array_like=True):
    """A state that the turn read: the commit is a `Conflict` unless its version is still this one."""

    state: StateKey
    version: int


class StateChange(msgspec.Struct, frozen=True, array_like=True):
    """The new state of a conversation. START deletes its row and clears its timers (rule state.R8).

    A change of the *name* ends the conversation's timers; those set in the same commit come after and live.
    `reason` is kept with the previous state, so that an ERROR can be resumed (rule state.B6). With `renames` it is the
    same state under another name: its timers stay (rule routing.B8)."""

    state: StateKey
    name: str
    reason: str = ""
    renames: bool = False


class OutgoingMail(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """A rendered mail: these bytes, with this Message-ID, are what leaves, however often it has to be tried.

    `token` identifies it in the envelope sender (`b+<token>.<mac>@host`). `due` is when it may leave first.
    To a suppressed address it is not sent, and noted as failed, unless it is `forced`."""

    token: str
    message_id: str
    sender: str
    recipients: tuple[str, ...]
    body: bytes
    due: float = 0.0
    forced: bool = False


class SetTimer(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """Call `target` (`module:name`) at `due`, unless the conversation's state has another name by then.

    A timer is (state, target): setting it again replaces it. With `due` None it is taken away. `recipient` and
    `correspondent` are those of the turn that sets it; the row it becomes has its `lease_key`.
    """

    state: StateKey
    target: str
    due: float | None
    recipient: str = ""
    correspondent: str = ""
    lease_key: str = ""


class Statement(msgspec.Struct, frozen=True, array_like=True):
    """One SQL statement that belongs to the turn (`current().write`)."""

    sql: str
    params: tuple[Any, ...] = ()


class TurnRow(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """The history of one turn; unique per message and handler. `handler` is `module:name`.

    `state` is the conversation of the handler's module, `before` and `after` its state's names; `note` says what a
    reader of the history should know, for example which replies were suppressed and why.
    """

    handler: str
    stateful: bool
    state: StateKey
    before: str
    after: str
    note: str = ""


class Ack(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """What becomes of the claimed row.

    | kind | the row | its lease |
    |---|---|---|
    | continue | stays claimed: more handlers of its plan follow | kept |
    | done | done | freed |
    | defer | waits until `due`, with `attempts` one higher; later rows of its queue wait behind it | freed |
    | again | waits at the head of its queue as if never claimed (a Conflict, a drain) | freed |
    | dead | a dead letter, with `reason` (one line) and `detail` (tracebacks); if `tried`, one attempt more | freed |
    | hold | the same, but held, and its queue with it, until released | freed |
    | aside | held by itself (`Identity.aside`), while its queue goes on | freed |
    | drop | dropped on purpose, with `reason` | freed |
    """

    kind: Literal["continue", "done", "defer", "again", "dead", "hold", "aside", "drop"]
    due: float = 0.0
    reason: str = ""
    detail: str = ""
    tried: bool = False


class TurnCommit(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """One turn, one commit (P2). `turn` is None when no handler ran to its end (a failure, a stale timer).

    `message` is the id of the claimed row, `now` the time of the commit in epoch seconds; `replies` says how many of
    the outgoing mails go to the correspondent; `identity` is what the turn found out about who somebody is, and
    `bounced` what the row, a report, says of our mail.
    """

    fence: Fence
    lease_key: str
    message: int
    now: float
    ack: Ack
    turn: TurnRow | None = None
    expected: tuple[Expected, ...] = ()
    changes: tuple[StateChange, ...] = ()
    outgoing: tuple[OutgoingMail, ...] = ()
    timers: tuple[SetTimer, ...] = ()
    statements: tuple[Statement, ...] = ()
    replies: int = 0
    identity: Identity | None = None
    bounced: tuple[Bounced, ...] = ()


class Applied(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """The turn is applied; `turn` is the id of its history row (0 without one)."""

    turn: int


class Fenced(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """The lease was lost (it expired, was revoked, or the store was opened anew): nothing was written."""


class Conflict(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """Some states have another version than the turn read: nothing was written, the lease is still held."""

    states: tuple[StateKey, ...]


CommitResult = Applied | Fenced | Conflict


class Outgoing(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """A mail to be sent now, to one recipient. Rows of one mail have the same `mail` and come next to each other."""

    id: int
    mail: int
    sender: str
    recipient: str
    message_id: str
    attempts: int
    created: float
    body: bytes | Path


class Settled(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """What became of an outgoing row: sent; deferred until `due`; or failed for good. `reason` is the peer's reply.

    `tried` is False when the relay as a whole was down: the row's `attempts` stay as they are. `report` is stored with
    a row that fails: a mail to its own envelope sender, for the queue of the row that made it."""

    id: int
    status: Literal["sent", "deferred", "failed"]
    reason: str = ""
    due: float = 0.0
    tried: bool = True
    report: Accept | None = None


class Ledger(msgspec.Struct, frozen=True, kw_only=True):
    """Rows by where they are (P4): accepted = done + waiting + running + held + dead + dropped."""

    accepted: int = 0
    done: int = 0
    waiting: int = 0
    running: int = 0
    held: int = 0
    dead: int = 0
    dropped: int = 0
    duplicates: int = 0


class Store(Suppressions, Upkeep, Protocol):
    """The durable side of an application. See the module's text for the order of use."""

    @property
    def capabilities(self) -> Capabilities:
        """What this store promises."""
        ...

    @property
    def secret(self) -> bytes:
        """The store's own key of 32 bytes, drawn when it was created: for tokens and macs."""
        ...

    @property
    def epoch(self) -> int:
        """The number of this opening."""
        ...

    async def open(self) -> None:
        """Take the store into possession, migrate it, commit a new epoch.

        Raises StoreLocked, StoreCorrupt, StoreNewer, StoreUnavailable.
        """
        ...

    async def close(self) -> None:
        """Flush what is applied and give the store back. Calls still waiting raise StoreUnavailable."""
        ...

    def on_work(self, callback: Callable[[], None]) -> None:
        """Have `callback()` called on the loop of `open` whenever `claim` may give more than before."""
        ...

    def on_outgoing(self, callback: Callable[[], None]) -> None:
        """Have `callback()` called on the loop of `open` whenever `take_outgoing` may give more than before."""
        ...

    async def accept(self, mail: Accept) -> Receipt:
        """Store a mail; returns after it reached the disk (P1). A duplicate gives the first receipt and is counted.

        Raises StoreUnavailable if it cannot be committed: then nothing of it is stored."""
        ...

    async def claim(self, limit: int, now: float, lease: float) -> list[Claimed]:
        """Take up to `limit` rows, each the due head of a free queue, under a lease of `lease` seconds."""
        ...

    def next_work(self) -> float | None:
        """The time at which `claim` may give more without any new event (a retry, a timer, a lease), or None."""
        ...

    async def extend(self, leases: Sequence[tuple[str, Fence]], until: float) -> list[bool]:
        """Prolong leases to `until`; False for each one that is no longer held."""
        ...

    async def commit(self, turn: TurnCommit) -> CommitResult:
        """Apply one turn. Raises StatementError (nothing written, lease kept) or StoreUnavailable."""
        ...

    async def read_states(self, states: Sequence[StateKey]) -> dict[StateKey, StateValue]:
        """The value of each conversation asked for, as of the last applied turn."""
        ...

    async def read(self, sql: str, params: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Run one reading statement and return its rows, as of the last applied turn. Raises StatementError."""
        ...

    async def take_outgoing(self, limit: int, now: float) -> list[Outgoing]:
        """Take up to `limit` durable outgoing rows that are due; they count as sending until settled."""
        ...

    def next_outgoing(self) -> float | None:
        """The time at which `take_outgoing` may give more without any new event, or None."""
        ...

    async def settle(self, results: Sequence[Settled]) -> None:
        """Write what became of outgoing rows. Returns when durable, and with it all that was applied before.

        Of no rows it is the way to wait for that.
        """
        ...

    async def ledger(self) -> dict[Source, Ledger]:
        """The ledger by source, with the running rows of this moment."""
        ...

    async def outbox_counts(self) -> dict[str, int]:
        """Outgoing rows by status: waiting, deferred, sending, sent, failed."""
        ...

    async def rows(self, what: What, limit: int = 1000) -> list[Mapping[str, Any]]:
        """Rows for people to look at, with the columns of INTERFACE, oldest first."""
        ...

    async def dead_detail(self, row: int) -> Mapping[str, Any] | None:
        """All about one dead letter (columns of `rows("dead")` with `detail` and `raw`), or None."""
        ...

    async def replay(self, row: int, now: float) -> bool:
        """Move a dead letter back to waiting, attempts and kills at 0; handlers that were done stay done."""
        ...

    async def drop(self, row: int, now: float) -> bool:
        """Move a dead letter to dropped."""
        ...

    async def release(self, lease_key: str, now: float) -> int:
        """Let the held rows of a queue wait again; how many there were."""
        ...

    async def retry_outgoing(self, row: int, now: float) -> bool:
        """Have a deferred or failed outgoing row tried at once."""
        ...

    async def cancel_outgoing(self, row: int, now: float) -> bool:
        """Have a waiting or deferred outgoing row never sent; it counts as failed."""
        ...

    async def set_state(self, state: StateKey, name: str, now: float) -> None:
        """Force a conversation's state, as an operator. Returns when durable."""
        ...

    async def set_all(self, sender: str, name: str, now: float) -> int:
        """Force every stored state of one correspondent; how many changed."""
        ...

    async def rename_state(self, key: str, old: str, new: str, now: float) -> int:
        """Give every conversation of a machine that is in `old` the state `new`; timers stay. How many changed."""
        ...

    async def clear_states(self) -> None:
        """Forget all states and their timers."""
        ...

    async def killed(self, rows: Sequence[int], now: float) -> list[int]:
        """Note that a process died while these rows ran; those at three kills become dead letters and are returned.

        Only rows that still wait count. If some of them were there at an earlier kill (`kills` of 1 or more), these
        are the suspects, which the worker runs one at a time: each of them gets one kill more, the others none. If
        none was, each gets its first: what ran beside a killer is counted once. All may be claimed at once.
        """
        ...
