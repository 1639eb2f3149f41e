"""`monsal outbox`: mail that has not left, and what to do about it."""

from __future__ import annotations

from pathlib import Path

import click

from monsal.cli.exits import FAILED, OK
from monsal.cli.options import directory_option, json_option, limit_option
from monsal.cli.output import print_rows
from monsal.cli.reach import act, looking
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
@directory_option
@json_option
@limit_option
def list_(directory: Path, as_json: bool, limit: int) -> None:
    """Show outgoing mail that has not left, oldest first."""
    with looking(directory) as view:
        print_rows(view.rows("outbox", limit), COLUMNS, as_json=as_json, empty="all mail has left")


@command.command("retry")
@click.argument("ids", metavar="ID...", type=int, nargs=-1, required=True)
@directory_option
def retry(ids: tuple[int, ...], directory: Path) -> int:
    """Try deferred or failed mail at once."""
    return _each(directory, "retry_outgoing", ids, "will be tried now", "no deferred or failed mail")


@command.command("cancel")
@click.argument("ids", metavar="ID...", type=int, nargs=-1, required=True)
@directory_option
def cancel(ids: tuple[int, ...], directory: Path) -> int:
    """Never send waiting or deferred mail; it counts as failed."""
    return _each(directory, "cancel_outgoing", ids, "will not be sent", "no waiting or deferred mail")


def _each(directory: Path, method: str, ids: tuple[int, ...], done: str, missing: str) -> int:
    code = OK
    for number in ids:
        if act(directory, method, row=number):
            click.echo(f"{number} {done}")
        else:
            click.echo(f"monsal: there is {missing} with the id {number}", err=True)
            code = FAILED
    return code
