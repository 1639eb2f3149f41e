"""The hooks of an actor: what a subclass may do at the turns of its life. Each may be async or not."""

from __future__ import annotations

from typing import Any

from monsal.actors.refs import ActorRef
from monsal.errors import UsageError

__all__ = ["Hooks"]


class Hooks:
    """What is called if a subclass does not say otherwise."""

    def boot(self) -> Any:
        """Import and prepare what takes long, and connect to nothing: a spare does this, too, and then waits."""

    def start(self) -> Any:
        """It is made active: it has its name now. If this raises, it is not."""

    def stopping(self) -> Any:
        """It is about to end; the turns that ran are done. Awaited up to its grace."""

    def periodic_task(self) -> Any:
        """Once in each beat while it runs."""

    def on_info(self, info: dict[str, Any]) -> Any:
        """May add to what the command `info` tells."""

    def on_params(self, params: dict[str, Any]) -> Any:
        """May add to the `args` of an actor that it has spawned."""

    async def introduced(self, purpose: str, sock: Any, peer: ActorRef | None) -> None:
        """A connected socket came from the arbiter, that this actor owns now: to another actor, or for a purpose.

        Unless this is overridden, those for a mailbox become a direct link, and any other is closed and refused.
        """
        sock.close()
        raise UsageError(
            f"{type(self).__name__} has no use for a socket for {purpose!r}: its class overrides `introduced`"
        )
