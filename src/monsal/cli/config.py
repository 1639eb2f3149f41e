"""`monsal config`: each setting, its value, and who set it."""

from __future__ import annotations

from pathlib import Path

import click
import msgspec

from monsal.cli.loading import is_application, no_application, resolve
from monsal.cli.options import directory_option, json_option
from monsal.cli.output import print_rows

__all__ = ["command"]


@click.command("config")
@directory_option
@json_option
def command(directory: Path, as_json: bool) -> None:
    """Show each setting, its value and where it comes from; passwords are masked.

    App(...) is overridden by monsal.toml, that by MONSAL_* in the environment, and that by the command line.

    \b
    monsal config --dir desk
    MONSAL_DRAIN=5 monsal config --dir desk --json
    """
    if not is_application(directory):
        raise no_application(directory)
    rows = [msgspec.structs.asdict(row) for row in resolve(directory).describe()]
    if not as_json:
        for row in rows:
            row["value"] = "none" if row["value"] is None else row["value"]
    print_rows(rows, ("name", "value", "origin"), as_json=as_json)
