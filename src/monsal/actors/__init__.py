"""Actors: work in supervised processes that share no memory, and ask each other by messages.

May import: `monsal.wire`, `monsal.transport`, the ground floor. It knows nothing of mail, conversations and stores.
The pure part has no socket, clock or await: `spec.py` (what is to be), `supervision.py` and `policy.py` (restarting),
`causes.py` (why one ended), `states.py`, `queueing.py` (the mailbox), `groups.py` (whom to ask) and `waiting.py`
(circles of those who wait).
The shell: `arbitration.py` starts and knows all (`record.py`, `process.py`, `threads.py`, `switch.py`); `monitor.py`
and `generation.py` keep groups. In the child `child.py` and `life.py` run an `actor.py` at its `station.py`, where
`turns.py` runs its commands.
Names come when they are first asked for. Start reading at `actor.py`, then `arbitration.py`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from monsal.actors.actor import Actor as Actor
    from monsal.actors.actor import ActorStatistics as ActorStatistics
    from monsal.actors.actor import current_actor as current_actor
    from monsal.actors.actor import get_ref as get_ref
    from monsal.actors.actor import is_actor as is_actor
    from monsal.actors.ambient import arbiter as arbiter
    from monsal.actors.ambient import ask as ask
    from monsal.actors.ambient import get_actor as get_actor
    from monsal.actors.ambient import send as send
    from monsal.actors.ambient import spawn as spawn
    from monsal.actors.ambient import tell as tell
    from monsal.actors.arbitration import Arbiter as Arbiter
    from monsal.actors.arbitration import ArbiterStatistics as ArbiterStatistics
    from monsal.actors.causes import Exit as Exit
    from monsal.actors.causes import ExitKind as ExitKind
    from monsal.actors.causes import Knowledge as Knowledge
    from monsal.actors.causes import Status as Status
    from monsal.actors.causes import cause_of as cause_of
    from monsal.actors.commands import Command as Command
    from monsal.actors.commands import command as command
    from monsal.actors.commands import runnable as runnable
    from monsal.actors.errors import ActorDied as ActorDied
    from monsal.actors.errors import ActorStopping as ActorStopping
    from monsal.actors.errors import AskExpired as AskExpired
    from monsal.actors.errors import CommandError as CommandError
    from monsal.actors.errors import CommandNotFound as CommandNotFound
    from monsal.actors.errors import RemoteActorError as RemoteActorError
    from monsal.actors.errors import SpawnFailed as SpawnFailed
    from monsal.actors.errors import StaleName as StaleName
    from monsal.actors.errors import UnknownActor as UnknownActor
    from monsal.actors.groups import HashRing as HashRing
    from monsal.actors.groups import Roster as Roster
    from monsal.actors.groups import Route as Route
    from monsal.actors.happenings import Died as Died
    from monsal.actors.happenings import Down as Down
    from monsal.actors.happenings import GaveUp as GaveUp
    from monsal.actors.happenings import Happening as Happening
    from monsal.actors.happenings import Promoted as Promoted
    from monsal.actors.happenings import Restarting as Restarting
    from monsal.actors.happenings import Started as Started
    from monsal.actors.message import CommandRequest as CommandRequest
    from monsal.actors.monitor import Monitor as Monitor
    from monsal.actors.monitor import MonitorStatistics as MonitorStatistics
    from monsal.actors.policy import Supervisor as Supervisor
    from monsal.actors.queueing import Bounds as Bounds
    from monsal.actors.queueing import MessageQueue as MessageQueue
    from monsal.actors.queueing import Priority as Priority
    from monsal.actors.queueing import Put as Put
    from monsal.actors.queueing import QueueStatistics as QueueStatistics
    from monsal.actors.queueing import Taken as Taken
    from monsal.actors.record import RecordStatistics as RecordStatistics
    from monsal.actors.recorder import Doing as Doing
    from monsal.actors.refs import ARBITER as ARBITER
    from monsal.actors.refs import MONITOR as MONITOR
    from monsal.actors.refs import ActorRef as ActorRef
    from monsal.actors.refs import actor_identity as actor_identity
    from monsal.actors.refs import new_id as new_id
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
    from monsal.actors.turns import TurnStatistics as TurnStatistics
    from monsal.actors.waiting import Chain as Chain
    from monsal.actors.waiting import Hop as Hop
    from monsal.actors.waiting import Probe as Probe
    from monsal.actors.waiting import WaitingCircle as WaitingCircle
    from monsal.actors.waiting import Waits as Waits
    from monsal.actors.waiting import extend as extend
    from monsal.actors.waiting import find_circle as find_circle

_HOME = {
    "ACTOR_WAYS": "states",
    "ARBITER": "refs",
    "Action": "supervision",
    "Actor": "actor",
    "ActorDied": "errors",
    "ActorRef": "refs",
    "ActorSpec": "spec",
    "ActorState": "states",
    "ActorStatistics": "actor",
    "ActorStopping": "errors",
    "Arbiter": "arbitration",
    "ArbiterStatistics": "arbitration",
    "AskExpired": "errors",
    "AutoShutdown": "supervision",
    "BOOT_FAILURES": "supervision",
    "Backoff": "supervision",
    "Bounds": "queueing",
    "Chain": "waiting",
    "Child": "supervision",
    "ChildPhase": "supervision",
    "ChildStatistics": "supervision",
    "Command": "commands",
    "CommandError": "errors",
    "CommandNotFound": "errors",
    "CommandRequest": "message",
    "Died": "happenings",
    "Doing": "recorder",
    "Down": "happenings",
    "Escalate": "supervision",
    "Exit": "causes",
    "ExitKind": "causes",
    "GaveUp": "happenings",
    "GroupSpec": "spec",
    "Happening": "happenings",
    "HashRing": "groups",
    "Hop": "waiting",
    "Kind": "spec",
    "Knowledge": "causes",
    "MONITOR": "refs",
    "MessageQueue": "queueing",
    "Monitor": "monitor",
    "MonitorStatistics": "monitor",
    "Phase": "supervision",
    "Policy": "supervision",
    "Priority": "queueing",
    "Probe": "waiting",
    "Promoted": "happenings",
    "Put": "queueing",
    "QueueStatistics": "queueing",
    "Reason": "supervision",
    "RecordStatistics": "record",
    "Refused": "supervision",
    "RemoteActorError": "errors",
    "Restart": "supervision",
    "Restarting": "happenings",
    "Roster": "groups",
    "Route": "groups",
    "SpawnFailed": "errors",
    "StaleName": "errors",
    "Start": "supervision",
    "Started": "happenings",
    "StateError": "states",
    "Status": "causes",
    "Stop": "supervision",
    "Stopped": "supervision",
    "Strategy": "supervision",
    "Supervisor": "policy",
    "SupervisorStatistics": "supervision",
    "Taken": "queueing",
    "TurnStatistics": "turns",
    "UnknownActor": "errors",
    "Up": "supervision",
    "Wait": "supervision",
    "WaitingCircle": "waiting",
    "Waits": "waiting",
    "actor_identity": "refs",
    "arbiter": "ambient",
    "ask": "ambient",
    "cause_of": "causes",
    "check_move": "states",
    "command": "commands",
    "current_actor": "actor",
    "extend": "waiting",
    "find_circle": "waiting",
    "get_actor": "ambient",
    "get_ref": "actor",
    "is_actor": "actor",
    "new_id": "refs",
    "runnable": "commands",
    "send": "ambient",
    "spawn": "ambient",
    "tell": "ambient",
}

__all__ = [*_HOME]


def __getattr__(name: str) -> Any:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module 'monsal.actors' has no attribute {name!r}")
    value = getattr(import_module(f"monsal.actors.{home}"), name)
    globals()[name] = value
    return value
