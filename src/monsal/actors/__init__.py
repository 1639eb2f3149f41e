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

from typing import TYPE_CHECKING

from monsal.late import late

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
    "ACTOR_WAYS": "monsal.actors.states",
    "ARBITER": "monsal.actors.refs",
    "Action": "monsal.actors.supervision",
    "Actor": "monsal.actors.actor",
    "ActorDied": "monsal.actors.errors",
    "ActorRef": "monsal.actors.refs",
    "ActorSpec": "monsal.actors.spec",
    "ActorState": "monsal.actors.states",
    "ActorStatistics": "monsal.actors.actor",
    "ActorStopping": "monsal.actors.errors",
    "Arbiter": "monsal.actors.arbitration",
    "ArbiterStatistics": "monsal.actors.arbitration",
    "AskExpired": "monsal.actors.errors",
    "AutoShutdown": "monsal.actors.supervision",
    "BOOT_FAILURES": "monsal.actors.supervision",
    "Backoff": "monsal.actors.supervision",
    "Bounds": "monsal.actors.queueing",
    "Chain": "monsal.actors.waiting",
    "Child": "monsal.actors.supervision",
    "ChildPhase": "monsal.actors.supervision",
    "ChildStatistics": "monsal.actors.supervision",
    "Command": "monsal.actors.commands",
    "CommandError": "monsal.actors.errors",
    "CommandNotFound": "monsal.actors.errors",
    "CommandRequest": "monsal.actors.message",
    "Died": "monsal.actors.happenings",
    "Doing": "monsal.actors.recorder",
    "Down": "monsal.actors.happenings",
    "Escalate": "monsal.actors.supervision",
    "Exit": "monsal.actors.causes",
    "ExitKind": "monsal.actors.causes",
    "GaveUp": "monsal.actors.happenings",
    "GroupSpec": "monsal.actors.spec",
    "Happening": "monsal.actors.happenings",
    "HashRing": "monsal.actors.groups",
    "Hop": "monsal.actors.waiting",
    "Kind": "monsal.actors.spec",
    "Knowledge": "monsal.actors.causes",
    "MONITOR": "monsal.actors.refs",
    "MessageQueue": "monsal.actors.queueing",
    "Monitor": "monsal.actors.monitor",
    "MonitorStatistics": "monsal.actors.monitor",
    "Phase": "monsal.actors.supervision",
    "Policy": "monsal.actors.supervision",
    "Priority": "monsal.actors.queueing",
    "Probe": "monsal.actors.waiting",
    "Promoted": "monsal.actors.happenings",
    "Put": "monsal.actors.queueing",
    "QueueStatistics": "monsal.actors.queueing",
    "Reason": "monsal.actors.supervision",
    "RecordStatistics": "monsal.actors.record",
    "Refused": "monsal.actors.supervision",
    "RemoteActorError": "monsal.actors.errors",
    "Restart": "monsal.actors.supervision",
    "Restarting": "monsal.actors.happenings",
    "Roster": "monsal.actors.groups",
    "Route": "monsal.actors.groups",
    "SpawnFailed": "monsal.actors.errors",
    "StaleName": "monsal.actors.errors",
    "Start": "monsal.actors.supervision",
    "Started": "monsal.actors.happenings",
    "StateError": "monsal.actors.states",
    "Status": "monsal.actors.causes",
    "Stop": "monsal.actors.supervision",
    "Stopped": "monsal.actors.supervision",
    "Strategy": "monsal.actors.supervision",
    "Supervisor": "monsal.actors.policy",
    "SupervisorStatistics": "monsal.actors.supervision",
    "Taken": "monsal.actors.queueing",
    "TurnStatistics": "monsal.actors.turns",
    "UnknownActor": "monsal.actors.errors",
    "Up": "monsal.actors.supervision",
    "Wait": "monsal.actors.supervision",
    "WaitingCircle": "monsal.actors.waiting",
    "Waits": "monsal.actors.waiting",
    "actor_identity": "monsal.actors.refs",
    "arbiter": "monsal.actors.ambient",
    "ask": "monsal.actors.ambient",
    "cause_of": "monsal.actors.causes",
    "check_move": "monsal.actors.states",
    "command": "monsal.actors.commands",
    "current_actor": "monsal.actors.actor",
    "extend": "monsal.actors.waiting",
    "find_circle": "monsal.actors.waiting",
    "get_actor": "monsal.actors.ambient",
    "get_ref": "monsal.actors.actor",
    "is_actor": "monsal.actors.actor",
    "new_id": "monsal.actors.refs",
    "runnable": "monsal.actors.commands",
    "send": "monsal.actors.ambient",
    "spawn": "monsal.actors.ambient",
    "tell": "monsal.actors.ambient",
}

__all__ = [*_HOME]

if not TYPE_CHECKING:
    __getattr__, __dir__ = late(__name__, _HOME)
