"""`monsal keys`: the keys that sign capability addresses."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path

import click

from monsal.cli.loading import load_app, store_url
from monsal.cli.options import app_option, directory_option, json_option
from monsal.cli.output import print_rows
from monsal.cli.root import Actions
from monsal.errors import ConfigError, UsageError

__all__ = ["command"]

COLUMNS = ("id", "made", "signs")


@click.group("keys", cls=Actions)
def command() -> None:
    """The keys that sign capability addresses, in run/keys; see docs/identity.md.

    \b
    monsal keys --dir desk
    monsal keys rotate --dir desk             sign with a new key from now on
    monsal keys rotate --revoke --dir desk    and believe no address that is out there
    """


@command.command("list")
@directory_option
@json_option
def list_(directory: Path, as_json: bool) -> None:
    """Show the keys, oldest first, without their secrets."""
    from monsal.conversation import read_keys

    path = _path(directory)
    keys = read_keys(path) if path.exists() else ()
    rows = [
        {
            "id": key.id,
            "made": datetime.fromtimestamp(key.made, UTC).isoformat(timespec="seconds"),
            "signs": key is keys[-1],
        }
        for key in keys
    ]
    print_rows(rows, COLUMNS, as_json=as_json, empty="there are no keys yet; the first start makes one")


@command.command("rotate")
@click.option("--revoke", is_flag=True, help="Forget all older keys: no address that was handed out is valid any more.")
@directory_option
@app_option
def rotate(revoke: bool, directory: Path, target: str) -> None:
    """Sign with a new key from now on; running servers take it up at once.

    Older keys stay until all that they have signed has expired.
    """
    from monsal.conversation import rotate_keys

    path = _path(directory)
    path.parent.mkdir(exist_ok=True)
    keys = rotate_keys(path, time.time(), keep=0.0 if revoke else _longest(directory, target))
    older = len(keys) - 1
    click.echo(
        f"key {keys[-1].id} signs from now on; {older} older one{'s' * (older != 1)} still verif{_ending(older)}"
    )


def _ending(older: int) -> str:
    return "ies" if older == 1 else "y"


def _path(directory: Path) -> Path:
    """Raises ConfigError for an application whose keys are in memory."""
    from monsal.conversation import keys_of

    path = keys_of(store_url(directory), directory.resolve())
    if path is None:
        raise ConfigError("this application keeps everything in memory (store = memory:), its keys too")
    return path


def _longest(directory: Path, target: str) -> float:
    """How long an address that was made now may be valid, in seconds; the most there can be if nobody can tell."""
    try:
        app = load_app(directory, target)
        app.load()
    except UsageError as error:
        click.echo(f"monsal: {error}; older keys stay as long as any application could need them", err=True)
        from monsal.routing import MAX_TTL

        return MAX_TTL
    ttls = [it.ttl for route in app.router.table.routes for it in route.pattern.capabilities.values()]
    return max(ttls, default=0.0) + app.settings(directory.resolve()).settings.confirm_within
