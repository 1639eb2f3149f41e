"""`monsal queue`: messages that wait, run or are held."""

from __future__ import annotations

from pathlib import Path

import click

from monsal.cli.options import directory_option, json_option, limit_option
from monsal.cli.output import print_rows
from monsal.cli.reach import looking

__all__ = ["command"]

COLUMNS = ("id", "state", "sender", "recipient", "attempts", "due", "reason", "message_id")


@click.command("queue")
@directory_option
@json_option
@limit_option
def command(directory: Path, as_json: bool, limit: int) -> None:
    """Show the messages that wait, run or are held, oldest first.

    \b
    monsal queue --dir desk
    monsal queue --dir desk --json | jq .sender
    """
    with looking(directory) as view:
        print_rows(view.rows("queue", limit), COLUMNS, as_json=as_json, empty="the queue is empty")
