"""`monsal config`: each setting, its value, and who set it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

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

    App(...) is overridden by monsal.toml, that by MONSAL_* in the environment, and that by the command line. Values
    are shown as monsal.toml takes them.

    \b
    monsal config --dir desk
    MONSAL_DRAIN=5 monsal config --dir desk --json
    """
    if not is_application(directory):
        raise no_application(directory)
    rows = [msgspec.structs.asdict(row) for row in resolve(directory).describe()]
    if not as_json:
        for row in rows:
            row["value"] = _toml(row["value"])
    print_rows(rows, ("name", "value", "origin"), as_json=as_json)


def _toml(value: Any) -> str:
    """A value as it stands in monsal.toml, where "none" stands for None; https://toml.io/en/v1.0.0#string."""
    if isinstance(value, tuple):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return str(value)
    # A text of JSON is one of TOML, which has no halves of a pair in it and forbids one character more.
    text = json.dumps("none" if value is None else value, ensure_ascii=False)
    return "".join(char if char.isprintable() else f"\\U{ord(char):08x}" for char in text)
