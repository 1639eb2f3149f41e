"""Options that many commands have, with the same name and meaning everywhere."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

__all__ = ["app_option", "directory_option", "json_option", "limit_option"]

_Command = TypeVar("_Command", bound=Callable[..., Any])


def directory_option(command: _Command) -> _Command:
    """`--dir D`: the application's directory."""
    return click.option(
        "--dir",
        "directory",
        type=click.Path(exists=True, file_okay=False, path_type=Path),
        default=".",
        # An application may change to its directory while it is imported; it must still be found by its path then.
        callback=lambda context, parameter, value: value if value == Path() else value.absolute(),
        envvar="MONSAL_DIR",
        help="Directory of the application (default: this one; or MONSAL_DIR).",
    )(command)


def json_option(command: _Command) -> _Command:
    """`--json`: for programs."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON, one object a line.")(command)


def limit_option(command: _Command) -> _Command:
    """`--limit N`: how many rows."""
    return click.option(
        "--limit", type=click.IntRange(1, 100_000), default=1000, show_default=True, help="Rows to show, oldest first."
    )(command)


def app_option(command: _Command) -> _Command:
    """`--app module:name`: where the application object is."""
    return click.option(
        "--app",
        "target",
        default="app:app",
        show_default=True,
        metavar="MODULE:NAME",
        help="The application object, in a module below the directory.",
    )(command)
