"""`monsal workers`: the processes that serve."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from monsal.cli.exits import OK
from monsal.cli.options import directory_option, json_option
from monsal.cli.output import print_rows
from monsal.cli.reach import control_client, not_running
from monsal.errors import NotRunning

__all__ = ["command"]

COLUMNS = ("name", "pid", "generation", "state", "uptime", "turns", "memory", "restarts", "last_end", "doing")


@click.command("workers")
@directory_option
@json_option
def command(directory: Path, as_json: bool) -> int:
    """Show the processes that serve: what each is doing, its turns and memory, how often it was restarted and why.

    With --workers 0 all is done by the line `server`, of which only turns and doings are told; actors of the
    application have lines of their own.

    Exit code 0: they are listed; 75: no server runs.

    \b
    monsal workers --dir desk
    monsal workers --dir desk --json | jq 'select(.restarts > 0)'
    """
    with control_client(directory) as client:
        try:
            rows: list[dict[str, Any]] = client.call("server.workers")
        except NotRunning:
            raise not_running(directory) from None
    print_rows(rows if as_json else map(_for_people, rows), COLUMNS, as_json=as_json, empty="no process serves yet")
    return OK


def _for_people(row: Mapping[str, Any]) -> dict[str, Any]:
    """The same with units: seconds and octets as a person says them."""
    memory, uptime = row.get("memory"), row.get("uptime")
    return {
        **row,
        "memory": "" if not memory else f"{memory / 1e6:.0f} MB",
        "uptime": "" if uptime is None else _duration(uptime),
    }


def _duration(seconds: float) -> str:
    for size, name in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.1f} {name}"
    return f"{seconds:.0f} s"
