"""The actors of this thread, as functions: the names of the contract (mailbox 2.2).

arbiter()                                       # on a running loop: made if this thread has no actor
ref = await spawn(ActorSpec(name="greeter", actor="greetings:Greeter"))
await send("greeter", "greet", "Anna")          # `ask` under the name of the contract
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from monsal.actors.actor import Actor, current_actor
from monsal.actors.arbitration import Arbiter
from monsal.actors.refs import ActorRef
from monsal.actors.spec import ActorSpec
from monsal.actors.station import here

__all__ = ["arbiter", "ask", "get_actor", "send", "spawn", "tell"]

T = TypeVar("T")


def arbiter(**params: Any) -> Arbiter | None:
    """The arbiter: made with `params` if this thread has no actor; None in an actor that is none.

    Raises RuntimeError without a running loop.
    """
    if here.station is None or not here.station.loop.is_running():
        here.station = None
        return Arbiter(**params)
    found = here.station.actor
    return found if isinstance(found, Arbiter) else None


def _actor() -> Actor:
    found = current_actor()
    if found is None:
        raise RuntimeError("this is no actor: only an actor, or the arbiter, can do that")
    return found


async def _there(actor: Actor, work: Coroutine[Any, Any, T]) -> T:
    """Do something where an actor is, from whatever loop."""
    loop = actor.station.loop
    if loop is asyncio.get_running_loop():
        return await work
    return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, loop))


async def send(target: Any, action: str, /, *args: Any, **params: Any) -> Any:
    """The result of a command, asked as the current actor; see `Actor.ask`. RuntimeError outside of an actor."""
    actor = _actor()
    return await _there(actor, actor.send(target, action, *args, **params))


async def ask(target: Any, command: str, *args: Any, **options: Any) -> Any:
    """`Actor.ask` of the current actor. RuntimeError outside of an actor."""
    actor = _actor()
    return await _there(actor, actor.ask(target, command, *args, **options))


async def tell(target: Any, command: str, *args: Any, **options: Any) -> None:
    """`Actor.tell` of the current actor. RuntimeError outside of an actor."""
    actor = _actor()
    await _there(actor, actor.tell(target, command, *args, **options))


async def spawn(spec: ActorSpec | None = None, **params: Any) -> ActorRef:
    """Start an actor, made of a spec or of the fields of one. RuntimeError outside of an actor; see `Arbiter.spawn`."""
    actor = _actor()
    return await _there(actor, actor.spawn(ActorSpec(**params) if spec is None else spec))


def get_actor() -> Actor | None:
    """The actor that controls this thread, or None."""
    return current_actor()
