"""`monsal queue`: messages that wait, run or are held."""

from __future__ import annotations

import click

from monsal.cli.listing import lister

__all__ = ["command"]

COLUMNS = ("id", "state", "sender", "recipient", "attempts", "due", "reason", "message_id")


@click.command("queue")
@lister("queue", COLUMNS, empty="the queue is empty")
def command() -> None:
    """Show the messages that wait, run or are held, oldest first.

    \b
    monsal queue --dir desk
    monsal queue --dir desk --json | jq .sender
    """
