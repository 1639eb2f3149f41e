"""Commands that are plain functions of a module (mailbox.B6)."""

from __future__ import annotations

from monsal.actors import command
from monsal.actors.message import CommandRequest


@command()
def shout(request: CommandRequest, text: str) -> str:
    return f"{text.upper()} says {request.actor.name}"
