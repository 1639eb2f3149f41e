"""`monsal suppressed`: addresses that are not written to any more, because mail to them came back."""

from __future__ import annotations

from pathlib import Path

import click

from monsal.address import is_address
from monsal.cli.exits import FAILED, OK
from monsal.cli.listing import lister
from monsal.cli.options import directory_option
from monsal.cli.reach import act
from monsal.cli.root import Actions

__all__ = ["command"]

COLUMNS = ("address", "reason", "since", "until", "detail")


@click.group("suppressed", cls=Actions)
def command() -> None:
    """Addresses that are not written to any more: list them, add one, take one away.

    \b
    monsal suppressed --dir desk
    monsal suppressed add ann@example.net --days 30 --dir desk
    monsal suppressed remove ann@example.net --dir desk
    """


@command.command("list")
@lister("suppressed", COLUMNS, empty="every address is written to")
def list_() -> None:
    """Show the addresses, each with why and until when; without a time it is for good."""


@command.command("add")
@click.argument("addresses", metavar="ADDRESS...", nargs=-1, required=True)
@click.option("--reason", default="by an operator", show_default=True, help="Why, for the history and for people.")
@click.option("--days", type=click.FloatRange(min=0, min_open=True), help="For so long; without it for good.")
@directory_option
def add(addresses: tuple[str, ...], reason: str, days: float | None, directory: Path) -> int:
    """Write to addresses no more."""
    for address in addresses:
        if not is_address(address):
            raise click.UsageError(f"{address!r} is no mail address")
    for address in addresses:
        act(directory, "suppress", address=address, reason=reason, days=days)
        click.echo(f"{address} is not written to any more")
    return OK


@command.command("remove")
@click.argument("addresses", metavar="ADDRESS...", nargs=-1, required=True)
@directory_option
def remove(addresses: tuple[str, ...], directory: Path) -> int:
    """Write to addresses again; what came back from them softly is forgotten."""
    code = OK
    for address in addresses:
        if act(directory, "unsuppress", address=address):
            click.echo(f"{address} is written to again")
        else:
            click.echo(f"monsal: {address} is not on the list", err=True)
            code = FAILED
    return code
