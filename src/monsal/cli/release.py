"""`monsal release`: let a held conversation go on."""

from __future__ import annotations

from pathlib import Path

import click

from monsal.address import fold
from monsal.cli.called import typed
from monsal.cli.options import directory_option
from monsal.cli.reach import act
from monsal.errors import MonsalError

__all__ = ["command"]


@click.command("release")
@click.argument("conversation")
@directory_option
def command(conversation: str, directory: Path) -> None:
    """Let the held messages of a CONVERSATION wait for their handlers again.

    CONVERSATION is the correspondent's address, or that of a shared conversation (a list, a ticket). Modules with
    ON_FAILURE = "hold" park a conversation when a handler fails for good; `monsal queue` shows what is held. A message
    that waits for its sender's confirmation is ?ID, with its number there.

    \b
    monsal release ann@example.net --dir desk
    monsal release '?17' --dir desk
    """
    # A queue is named by who writes, a shared one by @ and the address written to.
    for key in dict.fromkeys((conversation, fold(conversation), "@" + fold(conversation))):
        released = act(directory, "release", lease_key=key)
        if released:
            click.echo(f"{released} {'message goes' if released == 1 else 'messages go'} on")
            return
    raise MonsalError(f"nothing is held for {conversation}; `{typed('queue', directory=directory)}` shows what is")
