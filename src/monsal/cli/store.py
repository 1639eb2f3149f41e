"""`monsal store`: the file with everything in it."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import click

from monsal.cli.called import typed
from monsal.cli.exits import CannotCreate
from monsal.cli.options import directory_option, json_option
from monsal.cli.output import print_json
from monsal.cli.reach import store_file

__all__ = ["command"]


@click.group("store")
def command() -> None:
    """The file with everything in it.

    \b
    monsal store backup /backups/desk-monday.tar --dir desk
    """


@command.command("backup", short_help="Copy the store to FILE while it is used, and verify the copy.")
@click.argument("target", metavar="FILE", type=click.Path(path_type=Path))
@directory_option
@json_option
def backup_(target: Path, directory: Path, as_json: bool) -> None:
    """Copy the store to FILE while it is used: consistent, verified, with all large bodies.

    FILE is a directory that does not exist yet, or a tar file if it ends with .tar. It appears when it is complete.
    Exit code 73: it exists, or cannot be made there.

    \b
    monsal store backup desk-monday --dir desk
    """
    from monsal.store.backup import backup

    path = store_file(directory)
    show = _Progress(shown=sys.stderr.isatty())
    try:
        made = backup(path, target, now=time.time(), on_progress=show)
    except OSError as error:
        raise CannotCreate(f"no backup was made at {target}: {error.strerror or error}") from None
    finally:
        show.end()
    if as_json:
        print_json(made)
        return
    accepted = sum(entry["accepted"] for entry in made.ledger.values())
    click.echo(
        f"{target}: the store as of {made.made}, {made.database + made.body_octets} octets with {made.bodies} large "
        f"bodies; {accepted} messages accepted so far; verified"
    )
    click.echo(
        f"to restore it, see docs/operating.md; `{typed('doctor', directory=directory)}` then looks at it", err=True
    )


class _Progress:
    """One line that is written over, for a person who waits."""

    def __init__(self, *, shown: bool) -> None:
        self._shown = shown
        self._written = False

    def __call__(self, what: str, done: int, total: int) -> None:
        if self._shown:
            self._written = True
            click.echo(f"\r{what}: {done} of {total}\x1b[K", nl=False, err=True)

    def end(self) -> None:
        if self._written:
            click.echo("\r\x1b[K", nl=False, err=True)
