"""`monsal outbox`: mail that has not left, and what to do about it."""

from __future__ import annotations

from pathlib import Path

import click

from monsal.cli.listing import each, lister
from monsal.cli.options import directory_option
from monsal.cli.root import Actions

__all__ = ["command"]

COLUMNS = ("id", "state", "sender", "recipient", "attempts", "due", "reason", "message_id")


@click.group("outbox", cls=Actions)
def command() -> None:
    """Mail that has not left: list it, try it again, or never send it.

    \b
    monsal outbox --dir desk
    monsal outbox retry 17 --dir desk
    monsal outbox cancel 17 --dir desk
    """


@command.command("list")
@lister("outbox", COLUMNS, empty="all mail has left")
def list_() -> None:
    """Show outgoing mail that has not left, oldest first."""


@command.command("retry")
@click.argument("ids", metavar="ID...", type=int, nargs=-1, required=True)
@directory_option
def retry(ids: tuple[int, ...], directory: Path) -> int:
    """Try deferred or failed mail at once."""
    return each(directory, "retry_outgoing", ids, done="will be tried now", missing="no deferred or failed mail")


@command.command("cancel")
@click.argument("ids", metavar="ID...", type=int, nargs=-1, required=True)
@directory_option
def cancel(ids: tuple[int, ...], directory: Path) -> int:
    """Never send waiting or deferred mail; it counts as failed."""
    return each(directory, "cancel_outgoing", ids, done="will not be sent", missing="no waiting or deferred mail")
