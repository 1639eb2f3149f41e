"""One turn, one commit: from a stored message to a new state, answers and timers (P2, P3).

May import the floors below (store, mail, smtp, routing, ground); knows no sockets and no relay: those are joined by
`server.py`. Start reading at `passage.py`, the way of one message; `worker.py` feeds it, `outbox.py` sends what it
leaves, `context.py` is what handlers see.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from monsal.late import late

if TYPE_CHECKING:
    from monsal.conversation.accepting import Asking as Asking
    from monsal.conversation.confirming import Confirming as Confirming
    from monsal.conversation.context import Turn as Turn
    from monsal.conversation.context import after as after
    from monsal.conversation.context import current as current
    from monsal.conversation.context import reject as reject
    from monsal.conversation.context import reply as reply
    from monsal.conversation.context import send as send
    from monsal.conversation.context import start as start
    from monsal.conversation.entrance import Delivery as Delivery
    from monsal.conversation.entrance import Entrance as Entrance
    from monsal.conversation.entrance import deliver as deliver
    from monsal.conversation.entrance import deliver_async as deliver_async
    from monsal.conversation.entrance import notify as notify
    from monsal.conversation.entrance import read as read
    from monsal.conversation.entrance import read_async as read_async
    from monsal.conversation.janitor import Janitor as Janitor
    from monsal.conversation.janitor import Keeping as Keeping
    from monsal.conversation.keys import Key as Key
    from monsal.conversation.keys import Keyring as Keyring
    from monsal.conversation.keys import keys_of as keys_of
    from monsal.conversation.keys import read_keys as read_keys
    from monsal.conversation.keys import rotate_keys as rotate_keys
    from monsal.conversation.lanes import Lanes as Lanes
    from monsal.conversation.orphans import orphaned_states as orphaned_states
    from monsal.conversation.outbox import OutboxPump as OutboxPump
    from monsal.conversation.outbox import OutboxSettings as OutboxSettings
    from monsal.conversation.page import TurnPage as TurnPage
    from monsal.conversation.page import rows_in as rows_in
    from monsal.conversation.ports import Deferred as Deferred
    from monsal.conversation.ports import Delivered as Delivered
    from monsal.conversation.ports import Failed as Failed
    from monsal.conversation.ports import LanedRelay as LanedRelay
    from monsal.conversation.ports import Outcome as Outcome
    from monsal.conversation.ports import Relay as Relay
    from monsal.conversation.ports import RelayMail as RelayMail
    from monsal.conversation.runner import Runner as Runner
    from monsal.conversation.spool import Spool as Spool
    from monsal.conversation.spool import SpoolSettings as SpoolSettings
    from monsal.conversation.templates import Templates as Templates
    from monsal.conversation.turn import Sign as Sign
    from monsal.conversation.worker import Worker as Worker
    from monsal.conversation.worker import WorkerSettings as WorkerSettings

# Most of those who come here need a few of them: what nobody asks for is not imported.
_HOME = {
    "Asking": "monsal.conversation.accepting",
    "Confirming": "monsal.conversation.confirming",
    "Deferred": "monsal.conversation.ports",
    "Delivered": "monsal.conversation.ports",
    "Delivery": "monsal.conversation.entrance",
    "Entrance": "monsal.conversation.entrance",
    "Failed": "monsal.conversation.ports",
    "Janitor": "monsal.conversation.janitor",
    "Keeping": "monsal.conversation.janitor",
    "Key": "monsal.conversation.keys",
    "Keyring": "monsal.conversation.keys",
    "LanedRelay": "monsal.conversation.ports",
    "Lanes": "monsal.conversation.lanes",
    "OutboxPump": "monsal.conversation.outbox",
    "OutboxSettings": "monsal.conversation.outbox",
    "Outcome": "monsal.conversation.ports",
    "Relay": "monsal.conversation.ports",
    "RelayMail": "monsal.conversation.ports",
    "Runner": "monsal.conversation.runner",
    "Sign": "monsal.conversation.turn",
    "Spool": "monsal.conversation.spool",
    "SpoolSettings": "monsal.conversation.spool",
    "Templates": "monsal.conversation.templates",
    "Turn": "monsal.conversation.context",
    "TurnPage": "monsal.conversation.page",
    "Worker": "monsal.conversation.worker",
    "WorkerSettings": "monsal.conversation.worker",
    "after": "monsal.conversation.context",
    "current": "monsal.conversation.context",
    "deliver": "monsal.conversation.entrance",
    "deliver_async": "monsal.conversation.entrance",
    "keys_of": "monsal.conversation.keys",
    "notify": "monsal.conversation.entrance",
    "orphaned_states": "monsal.conversation.orphans",
    "read": "monsal.conversation.entrance",
    "read_async": "monsal.conversation.entrance",
    "read_keys": "monsal.conversation.keys",
    "reject": "monsal.conversation.context",
    "reply": "monsal.conversation.context",
    "rotate_keys": "monsal.conversation.keys",
    "rows_in": "monsal.conversation.page",
    "send": "monsal.conversation.context",
    "start": "monsal.conversation.context",
}

__all__ = [*_HOME]

if not TYPE_CHECKING:
    __getattr__, __dir__ = late(__name__, _HOME)
