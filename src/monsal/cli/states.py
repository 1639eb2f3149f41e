"""`monsal states`: where conversations stand, and how to move one by hand."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from monsal.address import fold
from monsal.cli.called import typed
from monsal.cli.exits import FAILED, OK
from monsal.cli.listing import lister
from monsal.cli.loading import load_app
from monsal.cli.options import app_option, directory_option, json_option
from monsal.cli.output import clean, print_rows
from monsal.cli.reach import act, looking
from monsal.cli.root import Actions
from monsal.errors import MonsalError, UsageError

if TYPE_CHECKING:
    from monsal.routing import Table

__all__ = ["command"]

COLUMNS = ("key", "sender", "state", "version", "since")
ALL = 100_000


@click.group("states", cls=Actions)
def command() -> None:
    """Where conversations stand. Those at START are not stored and not listed.

    \b
    monsal states --dir desk
    monsal states show ann@example.net --dir desk
    monsal states set orders.handlers ann@example.net CHOOSING --dir desk
    monsal states orphans --dir desk          states whose function is gone
    monsal states rename CHOOSING PICKING --dry-run --dir desk
    monsal states rename orders.handlers CHOOSING PICKING --dir desk
    """


@command.command("list")
@lister("states", COLUMNS, empty="all conversations are at START")
def list_() -> None:
    """Show all conversations, those that moved longest ago first."""


@command.command("show")
@click.argument("who")
@directory_option
@json_option
def show(who: str, directory: Path, as_json: bool) -> int:
    """Show the conversations of a correspondent, or those of a machine: its key, or its module.

    Exit code 1: none is stored. A conversation at START, its first state, is not.
    """
    with looking(directory) as view:
        rows = [row for row in view.rows("states", ALL) if _is_about(row, who)]
    if not rows:
        click.echo(f"monsal: no stored conversation has this correspondent or key: {clean(who)}", err=True)
        return FAILED
    print_rows(rows, COLUMNS, as_json=as_json)
    return OK


def _is_about(row: Mapping[str, Any], who: str) -> bool:
    # Keys that a module makes begin with its name, unless its author chose others.
    key = str(row["key"])
    return fold(who) == fold(row["sender"]) or key == who or key.startswith(f"{who}:")


@command.command("set")
@click.argument("key")
@click.argument("sender")
@click.argument("state")
@directory_option
@app_option
@click.option("--force", is_flag=True, help="Also a state that no handler of the application has.")
def set_(key: str, sender: str, state: str, directory: Path, target: str, force: bool) -> None:
    """Put the conversation of SENDER with the machine KEY into STATE.

    KEY is the name of the handlers' module, or what its state_key_generator returns; SENDER is "" for a conversation
    that all correspondents share.
    """
    _check_key(directory, target, key, sender, force=force)
    if not force:
        _check_state(directory, target, key, state)
    act(directory, "set_state", key=key, sender=fold(sender), state=state)
    click.echo(f"{sender or 'the shared conversation'} is in {state} with {key}")


@command.command("orphans")
@directory_option
@app_option
@json_option
def orphans(directory: Path, target: str, as_json: bool) -> None:
    """Show conversations in a state whose function was renamed or removed.

    What becomes of their next message is the setting unknown_state: it starts over, is a dead letter, or held. A route
    with was="OLDNAME" takes them along, and `monsal states rename` moves them.
    """
    table = _table(directory, target)
    with looking(directory) as view:
        rows = [row for row in view.rows("states", ALL) if not table.knows(row["key"], row["state"])]
    print_rows(rows, COLUMNS, as_json=as_json, empty="every stored state has its function")


@command.command("rename")
@click.argument("names", metavar="[KEY] OLD NEW", nargs=-1, required=True)
@directory_option
@app_option
@click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")
@click.option("--force", is_flag=True, help="Also to a state that no handler of the application has.")
def rename(names: tuple[str, ...], directory: Path, target: str, dry_run: bool, force: bool) -> int:
    """Give every conversation in OLD the state NEW, of the machine KEY or of all of them; their timers stay.

    Exit code 1: no conversation is in OLD.
    """
    if len(names) not in (2, 3):
        raise click.UsageError(f"rename takes [KEY] OLD NEW; there are {len(names)} words")
    *keys, old, new = names
    with looking(directory) as view:
        rows = [row for row in view.rows("states", ALL) if row["state"] == old]
    counts = Counter(str(row["key"]) for row in rows if not keys or row["key"] in keys)
    if not force:
        for key in keys or counts:
            _check_state(directory, target, key, new)
    if dry_run:
        for key, count in sorted(counts.items()):
            click.echo(f"would rename {_conversations(count)} of {clean(key)} from {old} to {new}")
        click.echo(f"nothing was changed; {_conversations(counts.total())} would be")
        return OK if counts else FAILED
    changed = sum(act(directory, "rename_state", key=key, old=old, new=new) for key in keys or sorted(counts))
    click.echo(f"{_conversations(changed)} {'is' if changed == 1 else 'are'} now in {new}")
    return OK if changed else FAILED


def _conversations(count: int) -> str:
    return f"{count} conversation{'' if count == 1 else 's'}"


def _table(directory: Path, target: str) -> Table:
    app = load_app(directory, target)
    app.load()
    return app.router.table


def _check_key(directory: Path, target: str, key: str, sender: str, *, force: bool) -> None:
    """Raise MonsalError for a key that is neither stored nor a module's; warn of a row that no message would find.

    A module that makes its own keys may make any, so one that is not stored is most likely misspelt.
    """
    with looking(directory) as view:
        rows = [row for row in view.rows("states", ALL) if row["key"] == key]
    if sender and rows and not any(row["sender"] for row in rows):
        click.echo(f'monsal: warning: all correspondents share the conversation with {key}; its SENDER is ""', err=True)
    if rows or force:
        return
    modules = _table(directory, target).modules
    named = modules.get(key)
    if named is not None and named.key_generator is None:
        return
    listing = typed("states", directory=directory)
    raise MonsalError(
        f"there is no machine {key!r}: no conversation with this key is stored, and no module has its name; there are "
        f"{', '.join(modules)} (`{listing}` lists what is stored, --force sets it all the same)"
    )


def _check_state(directory: Path, target: str, key: str, state: str) -> None:
    """Raise UsageError for a state that nobody would handle: its correspondent would be stranded (P5)."""
    table = _table(directory, target)
    modules, machines = table.modules, table.machines_of(key)
    if any(module.knows(state) for module in machines):
        return
    if not machines:
        raise UsageError(f"there is no machine {key!r}; there are {', '.join(modules)} (--force sets it all the same)")
    names = sorted({name for module in machines for name in (module.first, *module.handlers)})
    raise UsageError(f"{key} has no state {state!r}; it has {', '.join(names)} (--force sets it all the same)")
