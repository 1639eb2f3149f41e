"""The commands that every actor has (the table of the contract): ping, echo, config, run, stop, notify, info.

`spawn`, `introduce` and `kill_actor` are the arbiter's (arbitration.py).
"""

from __future__ import annotations

import os
import platform
import sys
import threading
import time
from typing import Any, ClassVar

from monsal.actors.commands import command, declared
from monsal.actors.errors import CommandError
from monsal.actors.message import CommandRequest

__all__ = ["BuiltIn"]


class BuiltIn:
    """What an `Actor` answers without having been told how."""

    #: Whether the command `run` is allowed: it calls functions that were declared `runnable` (mailbox.B6).
    allows_run: ClassVar[bool] = False
    #: What `config get` and `config set` read and write; at first the `args` of the actor.
    settings: dict[str, Any] | None = None

    @command(name="ping", control=True)
    def _ping(self, request: CommandRequest) -> str:
        """`pong`."""
        return "pong"

    @command(name="echo", control=True)
    def _echo(self, request: CommandRequest, message: Any) -> Any:
        """The message."""
        return message

    @command(name="config", control=True)
    def _config(self, request: CommandRequest, action: str, name: str, *value: Any) -> Any:
        """`get NAME`: a value; `set NAME VALUE`: True."""
        known = self.settings
        if known is None:
            known = self.settings = dict(request.actor.args)
        if action == "get" and not value:
            if name not in known:
                raise CommandError(f"there is no setting {name!r}")
            return known[name]
        if action == "set" and len(value) == 1:
            known[name] = value[0]
            return True
        raise CommandError("config takes `get NAME` or `set NAME VALUE`")

    @command(name="run")
    async def _run(self, request: CommandRequest, path: str, *args: Any, **kwargs: Any) -> Any:
        """The result of `function(actor, *args, **kwargs)` for a function at `module:name` declared `runnable`."""
        if not self.allows_run:
            raise CommandError(f"{request.actor.name} does not allow `run`: its class sets allows_run")
        value = declared(path)(request.actor, *args, **kwargs)
        return await value if hasattr(value, "__await__") else value

    @command(ack=False, name="stop", control=True)
    def _stop(self, request: CommandRequest) -> None:
        """Stop gracefully."""
        request.actor.station.leave(0)

    @command(name="notify", control=True)
    def _notify(self, request: CommandRequest, info: Any = None) -> float:
        """The time; an arbiter notes what a child tells of itself."""
        return time.time()

    @command(name="info", control=True)
    async def _info(self, request: CommandRequest) -> dict[str, Any] | None:
        """What there is to know of the actor; None before it was started."""
        actor = request.actor
        if not actor.started_at:
            return None
        told: dict[str, Any] = {
            "actor": {
                "name": actor.name,
                "state": actor.state.text,
                "actor_id": actor.aid,
                "uptime": time.time() - actor.started_at,
                "thread_id": threading.get_ident(),
                "process_id": os.getpid(),
                "is_process": actor.spec.kind == "process",
                "age": actor.ref.epoch,
            },
            "extra": {},
            "system": {"platform": platform.platform(), "python": sys.version.split()[0]},
        }
        await _awaited(actor.tell_more(told))
        added = await _awaited(actor.on_info(told))
        return added if isinstance(added, dict) else told

    def tell_more(self, info: dict[str, Any]) -> Any:
        """What a kind of actor adds to `info`."""


async def _awaited(value: Any) -> Any:
    return await value if hasattr(value, "__await__") else value
