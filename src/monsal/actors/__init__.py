"""Actors: work in supervised processes that share no memory, and ask each other by messages.

May import: `monsal.wire`, `monsal.transport`, the ground floor. It knows nothing of mail, conversations and stores.
The pure part has no socket, clock or await: `spec.py` (what is to be), `supervision.py` and `policy.py` (restarting),
`causes.py` (why one ended), `states.py`, `queueing.py` (the mailbox), `groups.py` (whom to ask) and `waiting.py`
(circles of those who wait).
Names come when they are first asked for. Start reading at `spec.py`, then `policy.py`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from monsal.actors.causes import Exit as Exit
    from monsal.actors.causes import ExitKind as ExitKind
    from monsal.actors.causes import Knowledge as Knowledge
    from monsal.actors.causes import Status as Status
    from monsal.actors.causes import cause_of as cause_of
    from monsal.actors.groups import HashRing as HashRing
    from monsal.actors.groups import Roster as Roster
    from monsal.actors.groups import Route as Route
    from monsal.actors.policy import Supervisor as Supervisor
    from monsal.actors.queueing import Bounds as Bounds
    from monsal.actors.queueing import MessageQueue as MessageQueue
    from monsal.actors.queueing import Priority as Priority
    from monsal.actors.queueing import Put as Put
    from monsal.actors.queueing import QueueStatistics as QueueStatistics
    from monsal.actors.queueing import Taken as Taken
    from monsal.actors.spec import ActorSpec as ActorSpec
    from monsal.actors.spec import GroupSpec as GroupSpec
    from monsal.actors.spec import Kind as Kind
    from monsal.actors.states import ACTOR_WAYS as ACTOR_WAYS
    from monsal.actors.states import ActorState as ActorState
    from monsal.actors.states import StateError as StateError
    from monsal.actors.states import check_move as check_move
    from monsal.actors.supervision import BOOT_FAILURES as BOOT_FAILURES
    from monsal.actors.supervision import Action as Action
    from monsal.actors.supervision import AutoShutdown as AutoShutdown
    from monsal.actors.supervision import Backoff as Backoff
    from monsal.actors.supervision import Child as Child
    from monsal.actors.supervision import ChildPhase as ChildPhase
    from monsal.actors.supervision import ChildStatistics as ChildStatistics
    from monsal.actors.supervision import Escalate as Escalate
    from monsal.actors.supervision import Phase as Phase
    from monsal.actors.supervision import Policy as Policy
    from monsal.actors.supervision import Reason as Reason
    from monsal.actors.supervision import Refused as Refused
    from monsal.actors.supervision import Restart as Restart
    from monsal.actors.supervision import Start as Start
    from monsal.actors.supervision import Stop as Stop
    from monsal.actors.supervision import Stopped as Stopped
    from monsal.actors.supervision import Strategy as Strategy
    from monsal.actors.supervision import SupervisorStatistics as SupervisorStatistics
    from monsal.actors.supervision import Up as Up
    from monsal.actors.supervision import Wait as Wait
    from monsal.actors.waiting import Chain as Chain
    from monsal.actors.waiting import Hop as Hop
    from monsal.actors.waiting import Probe as Probe
    from monsal.actors.waiting import WaitingCircle as WaitingCircle
    from monsal.actors.waiting import Waits as Waits
    from monsal.actors.waiting import extend as extend
    from monsal.actors.waiting import find_circle as find_circle

_HOME = {
    "ACTOR_WAYS": "states",
    "BOOT_FAILURES": "supervision",
    "Action": "supervision",
    "ActorSpec": "spec",
    "ActorState": "states",
    "AutoShutdown": "supervision",
    "Backoff": "supervision",
    "Bounds": "queueing",
    "Chain": "waiting",
    "Child": "supervision",
    "ChildPhase": "supervision",
    "ChildStatistics": "supervision",
    "Escalate": "supervision",
    "Exit": "causes",
    "ExitKind": "causes",
    "GroupSpec": "spec",
    "HashRing": "groups",
    "Hop": "waiting",
    "Kind": "spec",
    "Knowledge": "causes",
    "MessageQueue": "queueing",
    "Phase": "supervision",
    "Policy": "supervision",
    "Priority": "queueing",
    "Probe": "waiting",
    "Put": "queueing",
    "QueueStatistics": "queueing",
    "Reason": "supervision",
    "Refused": "supervision",
    "Restart": "supervision",
    "Roster": "groups",
    "Route": "groups",
    "Start": "supervision",
    "StateError": "states",
    "Status": "causes",
    "Stop": "supervision",
    "Stopped": "supervision",
    "Strategy": "supervision",
    "Supervisor": "policy",
    "SupervisorStatistics": "supervision",
    "Taken": "queueing",
    "Up": "supervision",
    "Wait": "supervision",
    "WaitingCircle": "waiting",
    "Waits": "waiting",
    "cause_of": "causes",
    "check_move": "states",
    "extend": "waiting",
    "find_circle": "waiting",
}

__all__ = [*_HOME]


def __getattr__(name: str) -> Any:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module 'monsal.actors' has no attribute {name!r}")
    value = getattr(import_module(f"monsal.actors.{home}"), name)
    globals()[name] = value
    return value
