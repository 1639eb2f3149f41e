"""What commands about stored rows have in common: to list them, and to do something about each that is named."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import click

from monsal.cli.exits import FAILED, OK
from monsal.cli.options import directory_option, json_option, limit_option
from monsal.cli.output import print_rows
from monsal.cli.reach import What, act, looking

__all__ = ["each", "lister"]


def lister(what: What, columns: Sequence[str], *, empty: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Turn a function that has nothing but its words into one that shows the rows `what`; `empty` says: there are none.

    Below `@group.command("list")` or `@click.command(NAME)`.
    """

    def decorate(words: Callable[..., None]) -> Callable[..., None]:
        def show(directory: Path, as_json: bool, limit: int) -> None:
            with looking(directory) as view:
                print_rows(view.rows(what, limit), columns, as_json=as_json, empty=empty)

        show.__doc__ = words.__doc__
        return directory_option(json_option(limit_option(show)))

    return decorate


def each(directory: Path, method: str, ids: Iterable[int], *, done: str, missing: str) -> int:
    """Have a method of the store's API done for each id, and say so; the exit code: FAILED if one was missing."""
    code = OK
    for number in ids:
        if act(directory, method, row=number):
            click.echo(f"{number} {done}")
        else:
            click.echo(f"monsal: there is {missing} with the id {number}", err=True)
            code = FAILED
    return code
