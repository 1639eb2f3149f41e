"""What can go wrong between actors, and how it gets over a link: the asker gets the error, never None (mailbox.B1).

RemoteError                    (monsal.errors)
├─ WaitingCircle               (waiting.py) it would wait for itself
├─ NoAnswer
│   ├─ ActorDied               the actor ended before it answered; `cause` says of what
│   └─ AskExpired              no answer in time; `doing` says what the actor did meanwhile
└─ RemoteFault
    ├─ Busy                    (monsal.errors) its mailbox is full
    ├─ CommandError            the command was refused
    │   ├─ CommandNotFound     this kind of actor has no such command
    │   ├─ UnknownActor        nobody has this id or name
    │   │   └─ StaleName       the name belongs to another one by now
    │   └─ ActorStopping       it takes no more commands
    └─ RemoteActorError        the command raised: `kind` is the name of the exception, `details` the traceback
SpawnFailed                    an actor was not started; `cause`, and `details` with the traceback of the child
"""

from __future__ import annotations

import traceback
from collections.abc import Callable
from typing import Any, Final

import msgspec

from monsal.actors.causes import Exit
from monsal.actors.refs import ActorRef
from monsal.actors.waiting import Hop, WaitingCircle
from monsal.errors import Busy, CallExpired, MonsalError, NoAnswer, RemoteError, RemoteFault
from monsal.wire.codes import BUSY, CANCELLED, DEADLINE, INTERNAL_ERROR, REFUSED, SHUTDOWN
from monsal.wire.packets import Fault

__all__ = [
    "ActorDied",
    "ActorStopping",
    "AskExpired",
    "CommandError",
    "CommandNotFound",
    "RemoteActorError",
    "SpawnFailed",
    "StaleName",
    "UnknownActor",
    "error_of",
    "fault_of",
]

#: So much of a traceback is sent at most.
_TRACEBACK: Final = 16 * 1024


class ActorDied(NoAnswer):
    """The actor ended before it answered: who, of what, and which commands it was running."""

    def __init__(self, message: str, *, ref: ActorRef | None = None, cause: Exit | None = None, details: str = ""):
        super().__init__(message, details)
        self.ref = ref
        self.cause = cause


class AskExpired(CallExpired):
    """The deadline of an ask has passed. `doing` are lines for people: what the actor did, and for whom it waits."""

    def __init__(self, message: str, *, doing: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.doing = doing


class CommandError(RemoteFault):
    """The command was refused; nothing was done."""

    code = REFUSED


class CommandNotFound(CommandError):
    """This type of actor has no such command."""


class UnknownActor(CommandError):
    """Nobody has this id or name."""


class StaleName(UnknownActor):
    """Whoever is meant has lost its name to another one (mailbox.B14)."""


class ActorStopping(CommandError):
    """The actor is about to end and begins nothing any more; nothing was done."""

    code = SHUTDOWN


class RemoteActorError(RemoteFault):
    """A command raised an exception in another actor: `kind` is its name, `details` the traceback from there."""

    code = INTERNAL_ERROR


class SpawnFailed(MonsalError):
    """An actor was not started. `details` is what it said, with the traceback; `cause` how its process ended.

    If one of its hooks raised, `kind` is the name of the exception and `reason` its text.
    """

    def __init__(
        self, message: str, *, cause: Exit | None = None, details: str = "", kind: str = "", reason: str = ""
    ) -> None:
        super().__init__(f"{message}; it said:\n{details}" if details.strip() else message)
        self.cause = cause
        self.details = details
        self.kind = kind
        self.reason = reason


#: Those that come to the asker as what they were.
_KNOWN: Final = {
    kind.__name__: kind for kind in (CommandError, CommandNotFound, UnknownActor, StaleName, ActorStopping)
}


def fault_of(error: BaseException) -> tuple[int, str, dict[str, Any] | None]:
    """Code, message and data of the fault by which an error goes to the asker."""
    data: dict[str, Any] = {"kind": type(error).__name__}
    if isinstance(error, Busy):
        return BUSY, str(error), {"retry_after": error.retry_after}
    if isinstance(error, ActorDied):
        data |= {"ref": error.ref, "cause": None if error.cause is None else msgspec.to_builtins(error.cause)}
        return REFUSED, str(error), data | {"details": error.details}
    if isinstance(error, CallExpired):
        return DEADLINE, str(error), data | {"doing": list(getattr(error, "doing", ()))}
    if isinstance(error, WaitingCircle):
        return REFUSED, str(error), data | {"circle": [[hop.actor, hop.key] for hop in error.circle]}
    if isinstance(error, CommandError):
        return error.code, str(error), data
    if isinstance(error, RemoteActorError):  # from one actor further on: the kind is what was raised there
        data |= {"kind": error.kind, "is_exception": True}
    elif isinstance(error, RemoteFault):
        return error.code, str(error), {"kind": error.kind or data["kind"], "details": error.details}
    else:
        data["is_exception"] = True
    text = "".join(traceback.format_exception(error))
    if isinstance(error, RemoteError) and error.details:
        text = f"{error.details}\n\nwhich was told, and then:\n\n{text}"
    data["traceback"] = text[-_TRACEBACK:]
    return INTERNAL_ERROR, str(error) or type(error).__name__, data


def error_of(fault: Fault) -> RemoteError:
    """The error that a fault is at the asker."""
    said: dict[str, Any] = fault.data if isinstance(fault.data, dict) else {}
    kind = str(said.get("kind", ""))
    details = str(said.get("traceback") or said.get("details") or "")
    made = _BY_CODE.get(fault.code)
    if made is not None:
        return made(fault, said)
    if kind == ActorDied.__name__:
        return ActorDied(fault.message, ref=_converted(said, "ref", ActorRef), cause=_cause(said), details=details)
    if kind == WaitingCircle.__name__:
        hops: list[tuple[str, str]] = _converted(said, "circle", list[tuple[str, str]]) or []
        return WaitingCircle([Hop(*hop) for hop in hops])
    known = _KNOWN.get(kind, CommandError if fault.code == REFUSED else RemoteActorError)
    if said.get("is_exception"):
        known = RemoteActorError
    return known(fault.message, code=fault.code, kind=kind, data=fault.data, details=details)


def _cause(said: dict[str, Any]) -> Exit | None:
    found: Exit | None = _converted(said, "cause", Exit)
    return found


def _converted(said: dict[str, Any], name: str, kind: Any) -> Any:
    try:
        return None if said.get(name) is None else msgspec.convert(said[name], kind)
    except msgspec.ValidationError:
        return None


def _busy(fault: Fault, said: dict[str, Any]) -> RemoteError:
    after = said.get("retry_after")
    return Busy(fault.message, float(after) if isinstance(after, int | float) else 1.0)


def _expired(fault: Fault, said: dict[str, Any]) -> RemoteError:
    doing = said.get("doing")
    return AskExpired(fault.message, doing=tuple(map(str, doing)) if isinstance(doing, list) else ())


_BY_CODE: Final[dict[int, Callable[[Fault, dict[str, Any]], RemoteError]]] = {
    BUSY: _busy,
    DEADLINE: _expired,
    CANCELLED: _expired,
    SHUTDOWN: lambda fault, said: ActorStopping(fault.message),
}
