"""`monsal doctor`: what is wrong here, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import msgspec

from monsal.cli.called import typed
from monsal.cli.exits import FAILED, OK
from monsal.cli.loading import is_application, load_app, no_application, resolve
from monsal.cli.options import app_option, directory_option, json_option
from monsal.cli.output import clean, print_json
from monsal.cli.reach import control_client
from monsal.errors import MonsalError, NoAnswer, NotRunning

__all__ = ["command"]

_MARKS = {"ok": "ok     ", "warning": "WARNING", "error": "ERROR  "}


@click.command("doctor")
@directory_option
@app_option
@json_option
def command(directory: Path, target: str, as_json: bool) -> int:
    """Look at everything that commonly goes wrong, and say of each finding what to do.

    Python and SQLite, place and rights of the store, disk, server, ports, relay, names, clock, certificates, settings,
    routes, dead letters, states that nobody has. Nothing is changed. Exit code 1: there is something to be done.

    \b
    monsal doctor --dir desk
    monsal doctor --dir desk --json | jq 'select(.level != "ok")'
    """
    if not is_application(directory):
        raise no_application(directory)
    bad = 0
    for finding in _findings(directory, target):
        bad += finding.level != "ok"
        if as_json:
            print_json(msgspec.structs.asdict(finding))
            continue
        click.echo(f"{_MARKS[finding.level]}  {finding.check}: {clean(finding.text)}")
        if finding.advice:
            click.echo(f"{'':9}{clean(finding.advice)}")
    if not as_json:
        click.echo(f"{bad} thing{'' if bad == 1 else 's'} to do" if bad else "all is well")
    return FAILED if bad else OK


def _findings(directory: Path, target: str) -> Iterator[Any]:
    from monsal.cli.checks import examine
    from monsal.cli.findings import Case, Finding

    home = directory.resolve()
    table = None
    try:
        app = load_app(directory, target)
        app.load()
        table = app.router.table
    except MonsalError as error:
        advice = f"mend it; `{typed('run', '--check', directory=directory)}` shows where it is"
        yield Finding(check="code", level="error", text=str(error), advice=advice)
    else:
        yield Finding(check="code", level="ok", text=f"{target} can be loaded")
    try:
        settings = resolve(directory).settings
    except MonsalError as error:
        advice = f"mend it where it says, then `{typed('doctor', directory=directory)}` looks at the rest"
        yield Finding(check="settings", level="error", text=str(error), advice=advice)
        return
    server: dict[str, Any] | None
    with control_client(directory) as client:
        try:
            server = client.call("server.status")
        except NotRunning:
            server = None
        except NoAnswer as error:
            server = {"phase": "silent", "health": [str(error)]}
    yield from examine(Case(home, settings, server, table, typed=lambda *words: typed(*words, directory=directory)))
