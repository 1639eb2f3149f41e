"""What commands print: tables for people, JSON for programs, and nothing that could steer a terminal."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import click
import msgspec

__all__ = ["clean", "print_json", "print_rows", "print_table"]


def clean(value: object) -> str:
    """A value as text in one line; control characters, which strangers may have sent, as their escapes.

    True and False are the words of TOML and JSON.
    """
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple | list):
        return ", ".join(clean(item) for item in value)
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in str(value))


def print_json(value: object) -> None:
    """One line of JSON."""
    try:
        text = msgspec.json.encode(value, enc_hook=str).decode()
    except UnicodeEncodeError:  # a lone surrogate, which is an escape in JSON
        text = json.dumps(msgspec.to_builtins(value, enc_hook=str))
    # JSON itself has escapes for the first 32 characters only; others may only stand in its texts.
    click.echo(text if text.isprintable() else "".join(map(_escaped, text)))


def _escaped(char: str) -> str:
    return char if char.isprintable() else json.dumps(char)[1:-1]


def print_rows(
    rows: Iterable[Mapping[str, Any]], columns: Sequence[str], *, as_json: bool, empty: str = "nothing"
) -> None:
    """Rows as JSON lines with all that is in them, or as a table with `columns`; `empty` says that there are none."""
    if as_json:
        for row in rows:
            print_json(row)
        return
    cells = [[clean(row.get(name)) for name in columns] for row in rows]
    if cells:
        print_table(columns, cells)
    else:
        click.echo(empty)


def print_table(columns: Sequence[str], cells: Sequence[Sequence[str]]) -> None:
    """A table: drawn on a terminal, plain columns otherwise, where nothing is cut off."""
    if sys.stdout.isatty():
        _draw(columns, cells)
        return
    lines = [list(columns), *(list(line) for line in cells)]
    widths = [max(len(line[place]) for line in lines) for place in range(len(columns))]
    for line in lines:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def _draw(columns: Sequence[str], cells: Sequence[Sequence[str]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*columns, box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for line in cells:
        table.add_row(*(Text(cell) for cell in line))  # as text: brackets in it are not rich's markup
    Console().print(table)
