"""`monsal run`: serve an application in the foreground."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from monsal.address import is_address
from monsal.cli.called import typed
from monsal.cli.exits import UNAVAILABLE
from monsal.cli.loading import load_app, make_room
from monsal.cli.options import app_option, directory_option
from monsal.config import CONFIG_FILE, Settings, mask_secrets

if TYPE_CHECKING:
    from monsal.routing import Table

__all__ = ["command"]

#: Seconds that threads of handlers get after a clean end.
_PATIENCE = 3.0


@click.command("run")
@directory_option
@app_option
@click.option("--workers", type=int, help="Worker processes.")
@click.option("--log", type=click.Choice(["text", "json"]), help="Form of the log lines on standard error.")
@click.option(
    "--log-level", type=click.Choice(["debug", "info", "warning", "error"]), help="Least level that is logged."
)
def command(directory: Path, target: str, workers: int | None, log: str | None, log_level: str | None) -> int:
    """Serve the application until SIGTERM, Ctrl-C or `monsal stop`.

    Then no more mail is taken, running turns end, and what was stored waits for the next start. Exit code 0: a clean
    end; 64: the application or a setting is wrong; 69: an address cannot be listened on; 73: the store cannot be
    made; 75: another process holds it.

    \b
    monsal run --dir desk
    monsal run --dir desk --log json
    """
    from monsal.life import serve

    app = load_app(directory, target)
    settings = app.settings(directory.resolve()).override({"workers": workers, "log": log, "log_level": log_level})
    app.load()
    make_room(settings.settings.store, directory.resolve())
    welcome = _welcome(directory, settings.settings, app.router.table) if settings.settings.log == "text" else None
    try:
        code = serve(app.parts(), directory, settings, on_ready=welcome)
    except OSError as error:
        # A port that is taken, a directory that cannot be written: the place is not fit, the application may be.
        said = _taken(error, settings.settings.ingress) or f"cannot serve {directory}: {error}"
        click.echo(f"monsal: {said}", err=True)
        return UNAVAILABLE
    _end_for_sure(code)
    return code


def _end_for_sure(code: int) -> None:
    """End the process soon, whatever a handler left running in a thread of an executor.

    At its end the interpreter waits for such threads without a bound; all that had to be kept is on the disk by now.
    """

    def end() -> None:
        click.echo("monsal: a thread that a handler started is still running; leaving it behind", err=True)
        os._exit(code)

    timer = threading.Timer(_PATIENCE, end)
    timer.daemon = True
    timer.start()


def _taken(error: OSError, ingress: tuple[str, ...]) -> str | None:
    """What to do if `error` says that the port of one of the addresses is taken; None if it says something else."""
    if error.errno != errno.EADDRINUSE:
        return None
    # The longest: smtp://h:88 is also the beginning of smtp://h:8825.
    url = max((url for url in ingress if url in str(error)), key=len, default=None)
    place, colon, port = (url or "").rpartition(":")
    if url is None or not port.isdigit():
        return None
    other = f"{place}{colon}{int(port) + 1 if int(port) < 65535 else 8825}"
    all_of_them = [other if each == url else each for each in ingress]
    listed = ", ".join(f'"{each}"' for each in all_of_them)
    return (
        f"{url} is in use: another monsal? Stop it, or choose a port: "
        f"ingress = [{listed}] in {CONFIG_FILE}, or MONSAL_INGRESS={','.join(all_of_them)}"
    )


def _welcome(directory: Path, settings: Settings, table: Table) -> Callable[[Mapping[str, Any]], None]:
    """What is said to people when the server is ready: where it is, and what to type next."""

    where = directory.resolve()  # it is typed in another terminal, and that may be anywhere

    def say(facts: Mapping[str, Any]) -> None:
        leaves = " (files it; nothing leaves this machine)" if settings.relay.startswith("capture:") else ""
        for name, text in (
            ("mail in", ", ".join([*facts["smtp"], *facts["lmtp"]]) or "nowhere"),
            ("mail out", f"{mask_secrets(settings.relay)}{leaves}"),
            ("write to it", f'{typed("say", _example(table), directory=where)} "Hello"'),
            ("look", typed("status", directory=where)),
            ("stop", f"Ctrl-C, or {typed('stop', directory=where)}"),
        ):
            click.echo(f"  {name:<12} {text}")

    return say


def _example(table: Table) -> str:
    """An address that somebody could write to: of a route that takes a first message, if there is one."""

    def rank(place: int) -> tuple[bool, int]:
        route = table.routes[place]
        return not any(handler.name == table.modules[handler.module].first for handler in route.handlers), place

    for place in sorted(range(len(table.routes)), key=rank):
        example = table.routes[place].pattern.example()
        if example is not None and is_address(example):
            return example
    return "ADDRESS"
