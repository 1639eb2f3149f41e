"""`monsal run`: serve an application in the foreground."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from monsal.address import is_address
from monsal.cli.exits import UNAVAILABLE
from monsal.cli.loading import load_app
from monsal.cli.options import app_option, directory_option
from monsal.config import Settings, mask_secrets

if TYPE_CHECKING:
    from monsal.routing import Table

__all__ = ["command"]


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
    end; 64: the application or a setting is wrong; 69: an address cannot be listened on; 75: another process holds
    the store.

    \b
    monsal run --dir desk
    monsal run --dir desk --log json
    """
    from monsal.life import serve

    app = load_app(directory, target)
    settings = app.settings(directory.resolve()).override({"workers": workers, "log": log, "log_level": log_level})
    app.load()
    welcome = _welcome(directory, settings.settings, app.router.table) if settings.settings.log == "text" else None
    try:
        return serve(app.parts(), directory, settings, on_ready=welcome)
    except OSError as error:
        # A port that is taken, a directory that cannot be written: the place is not fit, the application may be.
        click.echo(f"monsal: cannot serve {directory}: {error}", err=True)
        return UNAVAILABLE


def _welcome(directory: Path, settings: Settings, table: Table) -> Callable[[Mapping[str, Any]], None]:
    """What is said to people when the server is ready: where it is, and what to type next."""

    where = directory.resolve()  # it is typed in another terminal, and that may be anywhere

    def say(facts: Mapping[str, Any]) -> None:
        leaves = " (files it; nothing leaves this machine)" if settings.relay.startswith("capture:") else ""
        for name, text in (
            ("mail in", ", ".join([*facts["smtp"], *facts["lmtp"]]) or "nowhere"),
            ("mail out", f"{mask_secrets(settings.relay)}{leaves}"),
            ("write to it", f'monsal say {_example(table)} --dir {where} "Hello"'),
            ("look", f"monsal status --dir {where}"),
            ("stop", f"Ctrl-C, or monsal stop --dir {where}"),
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
