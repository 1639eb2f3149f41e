"""`monsal states`: where conversations stand, and how to move one by hand."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from monsal.address import fold
from monsal.cli.called import typed
from monsal.cli.exits import FAILED, OK
from monsal.cli.loading import load_app
from monsal.cli.options import app_option, directory_option, json_option, limit_option
from monsal.cli.output import clean, print_rows
from monsal.cli.reach import act, looking
from monsal.cli.root import Actions
from monsal.errors import MonsalError, UsageError

if TYPE_CHECKING:
    from monsal.routing import Module

__all__ = ["command", "machines_of", "orphaned_rows"]

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
    monsal states rename orders.handlers CHOOSING PICKING --dir desk
    """


@command.command("list")
@directory_option
@json_option
@limit_option
def list_(directory: Path, as_json: bool, limit: int) -> None:
    """Show all conversations, those that moved longest ago first."""
    with looking(directory) as view:
        print_rows(view.rows("states", limit), COLUMNS, as_json=as_json, empty="all conversations are at START")


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

    Their next message is still handled; `monsal states rename` moves them, or a route with was="OLDNAME" does.
    """
    modules = _modules(directory, target)
    with looking(directory) as view:
        rows = orphaned_rows(view.rows("states", ALL), modules)
    print_rows(rows, COLUMNS, as_json=as_json, empty="every stored state has its function")


@command.command("rename")
@click.argument("key")
@click.argument("old")
@click.argument("new")
@directory_option
@app_option
@click.option("--force", is_flag=True, help="Also to a state that no handler of the application has.")
def rename(key: str, old: str, new: str, directory: Path, target: str, force: bool) -> int:
    """Give every conversation of the machine KEY that is in OLD the state NEW; their timers stay."""
    if not force:
        _check_state(directory, target, key, new)
    changed = act(directory, "rename_state", key=key, old=old, new=new)
    click.echo(f"{changed} {'conversation is' if changed == 1 else 'conversations are'} now in {new}")
    return OK if changed else FAILED


def machines_of(key: str, modules: Mapping[str, Module]) -> list[Module]:
    """The modules whose conversations can have this key: the one it names, else those that make keys of their own."""
    named = modules.get(key)
    if named is not None and named.key_generator is None:
        return [named]
    return [module for module in modules.values() if module.key_generator is not None]


def orphaned_rows(rows: Any, modules: Mapping[str, Module]) -> list[Mapping[str, Any]]:
    """Those rows of states that no module knows."""
    return [row for row in rows if not any(module.knows(row["state"]) for module in machines_of(row["key"], modules))]


def _modules(directory: Path, target: str) -> Mapping[str, Module]:
    app = load_app(directory, target)
    app.load()
    return app.router.table.modules


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
    modules = _modules(directory, target)
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
    modules = _modules(directory, target)
    machines = machines_of(key, modules)
    if any(module.knows(state) for module in machines):
        return
    if not machines:
        raise UsageError(f"there is no machine {key!r}; there are {', '.join(modules)} (--force sets it all the same)")
    names = sorted({name for module in machines for name in (module.first, *module.handlers)})
    raise UsageError(f"{key} has no state {state!r}; it has {', '.join(names)} (--force sets it all the same)")
