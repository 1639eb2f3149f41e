"""`monsal dead`: dead letters, why they are dead, and their way back."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from monsal.cli.called import typed
from monsal.cli.listing import each, lister
from monsal.cli.options import directory_option, json_option
from monsal.cli.output import clean, print_json
from monsal.cli.reach import looking
from monsal.cli.root import Actions
from monsal.errors import MonsalError

__all__ = ["command"]

COLUMNS = ("id", "sender", "recipient", "reason", "created", "message_id")
#: Characters of a message that are shown to people; `--raw` gives all of it.
SHOWN = 4000


@click.group("dead", cls=Actions)
def command() -> None:
    """Dead letters: messages that no handler took, or whose handler failed for good.

    \b
    monsal dead --dir desk
    monsal dead show 5 --dir desk
    monsal dead replay 5 --dir desk      after its cause was mended
    monsal dead drop 5 --dir desk        give it up
    """


@command.command("list")
@lister("dead", COLUMNS, empty="there are no dead letters")
def list_() -> None:
    """Show all dead letters, oldest first."""


@command.command("show")
@click.argument("row", metavar="ID", type=int)
@directory_option
@json_option
@click.option("--raw", is_flag=True, help="Print the message, byte for byte, and nothing else.")
def show(row: int, directory: Path, as_json: bool, raw: bool) -> None:
    """Show one dead letter: its reason, the tracebacks, the message."""
    with looking(directory) as view:
        found = view.dead_detail(row)
    if found is None:
        listing = typed("dead", directory=directory)
        raise MonsalError(f"there is no dead letter with the id {row}; `{listing}` shows them")
    message = bytes(found.get("raw") or b"")
    if raw:
        _write_raw(message, int(found.get("size", len(message))))
        return
    text = message.decode("utf-8", "backslashreplace")
    if as_json:
        print_json({**found, "raw": text})
        return
    _print_detail({name: value for name, value in found.items() if name not in ("raw", "detail", "size")})
    for line in str(found.get("detail", "")).splitlines():
        click.echo(f"  {clean(line)}")
    click.echo("")
    for line in text[:SHOWN].splitlines():
        click.echo(clean(line))
    if len(text) > SHOWN:
        click.echo(f"... ({len(text)} characters; --raw prints all)")


def _write_raw(message: bytes, size: int) -> None:
    sys.stdout.flush()
    sys.stdout.buffer.write(message)
    sys.stdout.buffer.flush()
    if size > len(message):
        raise MonsalError(f"the message has {size} bytes and a running server gives only {len(message)}; stop it first")


def _print_detail(facts: dict[str, Any]) -> None:
    width = max(len(name) for name in facts)
    for name, value in facts.items():
        click.echo(f"{name:<{width}}  {clean(value)}".rstrip())


@command.command("replay")
@click.argument("rows", metavar="ID...", type=int, nargs=-1, required=True)
@directory_option
def replay(rows: tuple[int, ...], directory: Path) -> int:
    """Have dead letters handled again; handlers that were done with them stay done."""
    return each(directory, "replay", rows, done="waits to be handled again", missing="no dead letter")


@command.command("drop")
@click.argument("rows", metavar="ID...", type=int, nargs=-1, required=True)
@directory_option
def drop(rows: tuple[int, ...], directory: Path) -> int:
    """Give dead letters up; they count as dropped."""
    return each(directory, "drop", rows, done="is dropped", missing="no dead letter")
