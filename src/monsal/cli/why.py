"""`monsal why`: what a start or stop is waiting for."""

from __future__ import annotations

from pathlib import Path

import click

from monsal.cli.exits import OK
from monsal.cli.options import directory_option, json_option
from monsal.cli.output import clean, print_json
from monsal.cli.reach import control_client, not_running
from monsal.errors import NotRunning

__all__ = ["command"]


@click.command("why")
@directory_option
@json_option
def command(directory: Path, as_json: bool) -> int:
    """Say what a server that starts, drains or stops is waiting for: which unit, for how long, where its code is.

    Exit code 0: it was asked; 75: no server runs.

    \b
    monsal why --dir desk
    """
    with control_client(directory) as client:
        try:
            reasons: list[str] = client.call("server.why")
            status = client.call("server.status")
        except NotRunning:
            raise not_running(directory) from None
    if as_json:
        print_json({"phase": status.get("phase"), "ready": status["ready"], "waiting": reasons})
        return OK
    for reason in reasons:
        first, *more = reason.rstrip("\n").split("\n")
        click.echo(clean(first))
        for line in more:
            click.echo(f"    {clean(line)}")
    if not reasons:
        click.echo(f"it waits for nothing: the server is {'ready' if status['ready'] else status.get('phase', 'up')}")
    return OK
