"""`monsal status`: how it is, in one look, and in the exit code."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from monsal.cli.called import typed
from monsal.cli.exits import FAILED, OK
from monsal.cli.options import directory_option, json_option
from monsal.cli.output import clean, print_json
from monsal.cli.reach import LEDGER, OUTBOX, control_client, looking_at_file
from monsal.errors import NoAnswer, NotRunning

__all__ = ["command"]

#: What has words of its own.
_TOLD = ("ready", "generation", "pid", "phase", "ledger", "outbox", "units", "health")


@click.command("status")
@directory_option
@json_option
def command(directory: Path, as_json: bool) -> int:
    """Show readiness, ledger and outbox. Exit code 0: ready; 1: not.

    Without a running server the numbers come from the store's file.

    \b
    monsal status --dir desk
    monsal status --dir desk --json | jq .ledger.dead
    """
    try:
        facts = _facts(directory)
    except NoAnswer as error:
        click.echo(f"monsal: {error}", err=True)
        return FAILED
    if as_json:
        print_json(facts)
    else:
        _print(facts, directory)
    return OK if facts["ready"] else FAILED


def _facts(directory: Path) -> dict[str, Any]:
    with control_client(directory) as client:
        try:
            found: dict[str, Any] = client.call("server.status")
        except NotRunning:
            found = {}
    if "ledger" not in found:
        # No server, or one that has not opened its store yet, or has closed it.
        with looking_at_file(directory) as view:
            sources = view.ledger()
            outbox = view.outbox_counts()
        none = {"ready": False, "generation": 0}
        found = {**none, **found, "ledger": _total(sources), "outbox": outbox, "sources": sources}
    return {
        **found,
        "ledger": {name: found["ledger"].get(name, 0) for name in LEDGER},
        "outbox": {name: found["outbox"].get(name, 0) for name in OUTBOX},
    }


def _total(sources: Mapping[str, Mapping[str, int]]) -> dict[str, int]:
    return {name: sum(ledger.get(name, 0) for ledger in sources.values()) for name in LEDGER}


def _print(facts: Mapping[str, Any], directory: Path) -> None:
    ledger = facts["ledger"]
    if facts["ready"]:
        _line("ready", f"yes, process {facts.get('pid', '?')}, generation {facts['generation']}")
    else:
        start = typed("run", directory=directory)
        why = typed("why", directory=directory)
        up = f"no, process {facts.get('pid')} is {facts.get('phase', 'not ready')}; "
        # A server that has started and is not ready says why in the line of its health.
        up += "see health" if facts.get("phase") == "started" else f"`{why}` says what it waits for"
        _line("ready", up if "pid" in facts else f"no, none runs here; `{start}` starts one")
    parts = " + ".join(f"{ledger[name]} {name}" for name in LEDGER[1:-1])
    _line("ledger", f"{ledger['accepted']} accepted = {parts}; {ledger['duplicates']} duplicates")
    _line("outbox", ", ".join(f"{facts['outbox'][name]} {name}" for name in OUTBOX))
    if units := facts.get("units"):
        _line("units", ", ".join(_unit(unit) for unit in units))
    for fault in facts.get("health", ()):
        _line("health", clean(fault))
    for name, value in facts.items():
        if name not in _TOLD and (words := _words(value)):
            _line(name, words)
    if ledger["dead"]:
        dead, show = typed("dead", directory=directory), typed("dead", "show", "ID", directory=directory)
        _line("next", f"`{dead}` lists the dead letters, `{show}` says why")
    if ledger["held"]:
        queue = typed("queue", directory=directory)
        release = typed("release", "CONVERSATION", directory=directory)
        _line("next", f"`{queue}` lists what is held, `{release}` lets it go on")


def _unit(unit: Mapping[str, Any]) -> str:
    """A unit with its phase, and what it is doing or why it is so."""
    more = unit["reason"] or unit["doing"]
    return clean(f"{unit['name']} {unit['phase']}" + (f" ({more})" if more else ""))


def _line(name: str, text: str) -> None:
    """One line: a name and what there is to say about it."""
    click.echo(f"{name:<10} {text}".rstrip())


def _words(value: object) -> str:
    """A nested value in words, without what is zero or empty."""
    if isinstance(value, Mapping):
        said = ((clean(name), item, _words(item)) for name, item in value.items() if item not in (0, None, ""))
        parts = [f"{name} ({words})" if isinstance(item, Mapping) else f"{name} {words}" for name, item, words in said]
        return ", ".join(part for part in parts if not part.endswith((" ", "()")))
    return clean(value)
