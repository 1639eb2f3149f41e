"""`monsal routes`: what goes where, and what its author may not have meant."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from monsal.cli.exits import FAILED, OK
from monsal.cli.loading import load_app
from monsal.cli.options import app_option, directory_option, json_option
from monsal.cli.output import clean, print_json, print_rows

if TYPE_CHECKING:
    from monsal.routing import Handler, Router, Table

__all__ = ["command"]


@click.command("routes")
@click.option("--test", "address", metavar="ADDRESS", help="Show what ADDRESS matches. Exit code 1: nothing.")
@click.option(
    "--check", is_flag=True, help="Show what is odd, with an address for which it is. Exit code 1: something."
)
@directory_option
@app_option
@json_option
def command(address: str | None, check: bool, directory: Path, target: str, as_json: bool) -> int:
    """Show all routes, in the order in which they are tried.

    \b
    monsal routes --dir desk
    monsal routes --test order@example.com --dir desk
    monsal routes --check --dir desk
    """
    if address is not None and check:
        raise click.UsageError("--test and --check exclude each other")
    app = load_app(directory, target)
    app.load()
    if address is not None:
        return _test(app.router, address, as_json=as_json)
    if check:
        return _check(app.router.table, as_json=as_json)
    rows = [
        {
            "format": route.pattern.format,
            "handlers": [handler.id for handler in route.handlers],
            "marks": _marks(route.handlers),
            "example": route.pattern.example(),
        }
        for route in app.router.table.routes
    ]
    print_rows(rows, ("format", "handlers", "marks", "example"), as_json=as_json, empty="there are no routes")
    return OK


def _test(router: Router, address: str, *, as_json: bool) -> int:
    rows = [
        {
            "format": match.route.pattern.format,
            "handlers": [handler.id for handler in match.handlers],
            "marks": _marks(match.handlers),
            "captures": dict(match.captures),
        }
        for match in router.match(address)
    ]
    if as_json:
        print_rows(rows, (), as_json=True)
    elif rows:
        shown: list[dict[str, Any]] = [{**row, "captures": _pairs(row["captures"])} for row in rows]
        print_rows(shown, ("format", "handlers", "marks", "captures"), as_json=False)
    else:
        click.echo(f"{clean(address)} matches no route: mail to it is refused with 550")
    return OK if rows else FAILED


def _pairs(captures: Any) -> str:
    return " ".join(f"{name}={value}" for name, value in captures.items())


def _marks(handlers: Iterable[Handler]) -> list[str]:
    found: dict[str, None] = {}
    for handler in handlers:
        found |= {name: None for name in ("stateless", "requires_authenticated") if getattr(handler, name)}
    return list(found)


def _check(table: Table, *, as_json: bool) -> int:
    import msgspec

    from monsal.routing import draw, findings

    found = findings(table)
    if as_json:
        for finding in found:
            print_json(msgspec.structs.asdict(finding))
    else:
        for finding in found:
            click.echo(f"{finding.severity}: {clean(finding.text)}")
        if not found:
            click.echo("nothing is odd")
        click.echo(f"\n{draw(table)}")
    return FAILED if any(finding.severity == "warning" for finding in found) else OK
