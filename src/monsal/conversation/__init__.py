"""One turn, one commit: from a stored message to a new state, answers and timers (P2, P3).

May import the floors below (store, mail, smtp, routing, ground); knows no sockets and no relay: those are joined by
`server.py`. Start reading at `passage.py`, the way of one message; `worker.py` feeds it, `outbox.py` sends what it
leaves, `context.py` is what handlers see.
"""

from monsal.conversation.accepting import Asking
from monsal.conversation.confirming import Confirming
from monsal.conversation.context import Turn, after, current, reject, reply, send, start
from monsal.conversation.entrance import Delivery, Entrance, deliver, deliver_async, notify, read, read_async
from monsal.conversation.janitor import Janitor, Keeping
from monsal.conversation.keys import Key, Keyring, keys_of, read_keys, rotate_keys
from monsal.conversation.lanes import Lanes
from monsal.conversation.orphans import orphaned_states
from monsal.conversation.outbox import OutboxPump, OutboxSettings
from monsal.conversation.page import TurnPage, rows_in
from monsal.conversation.ports import Deferred, Delivered, Failed, LanedRelay, Outcome, Relay, RelayMail
from monsal.conversation.runner import Runner
from monsal.conversation.spool import Spool, SpoolSettings
from monsal.conversation.templates import Templates
from monsal.conversation.turn import Sign
from monsal.conversation.worker import Worker, WorkerSettings

__all__ = [
    "Asking",
    "Confirming",
    "Deferred",
    "Delivered",
    "Delivery",
    "Entrance",
    "Failed",
    "Janitor",
    "Keeping",
    "Key",
    "Keyring",
    "LanedRelay",
    "Lanes",
    "OutboxPump",
    "OutboxSettings",
    "Outcome",
    "Relay",
    "RelayMail",
    "Runner",
    "Sign",
    "Spool",
    "SpoolSettings",
    "Templates",
    "Turn",
    "TurnPage",
    "Worker",
    "WorkerSettings",
    "after",
    "current",
    "deliver",
    "deliver_async",
    "keys_of",
    "notify",
    "orphaned_states",
    "read",
    "read_async",
    "read_keys",
    "reject",
    "reply",
    "rotate_keys",
    "rows_in",
    "send",
    "start",
]
