"""`monsal blame`: what took how long when a server started or stopped."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import msgspec

from monsal.cli.exits import OK
from monsal.cli.options import directory_option, json_option
from monsal.cli.output import clean, print_json
from monsal.cli.reach import control_client, not_running
from monsal.errors import NotRunning

__all__ = ["command"]

#: Columns of the bars where the terminal leaves more.
_WIDEST = 60


class _Step(msgspec.Struct):
    name: str
    channel: str
    seconds: float
    at: float
    cause: str = ""
    kind: str = ""
    waited_for: str | None = None


class _Part(msgspec.Struct):
    seconds: float
    steps: list[_Step]
    chain: list[str]


class _Blame(msgspec.Struct):
    start: _Part | None = None
    stop: _Part | None = None


class _Noted(msgspec.Struct):
    """What is read of `run/last-stop.json`."""

    blame: _Blame


@click.command("blame")
@directory_option
@json_option
def command(directory: Path, as_json: bool) -> int:
    """Show what took how long at the start of the server; of one that is gone, at its last stop too.

    Each step is a bar from when it began to when it ended. Steps with a * are those that the whole was waiting for:
    only they can make it faster. `loading` is what comes before all others: to start Python, and to load the program
    and the application; it is left out where the system does not tell when a process began. Exit code 75: no server
    ran here.

    \b
    monsal blame --dir desk
    monsal blame --dir desk --json | jq .start.chain
    """
    facts = _facts(directory)
    if as_json:
        print_json(facts)
        return OK
    for name in ("start", "stop"):
        if (found := facts.get(name)) is not None:
            _print(name, found)
    return OK


def _facts(directory: Path) -> dict[str, Any]:
    """From the running server; else what the last one noted at its end."""
    with control_client(directory) as client:
        try:
            found: dict[str, Any] = client.call("server.blame")
        except NotRunning:
            try:
                noted = msgspec.json.decode((directory / "run" / "last-stop.json").read_bytes(), type=_Noted)
            except (OSError, msgspec.MsgspecError):
                raise not_running(directory) from None
            found = msgspec.to_builtins(noted.blame)
    return found


def _title(step: Mapping[str, Any], what: str) -> str:
    """The name of a step; at the stop with what was done, because a unit is drained and stopped."""
    name = clean(str(step["name"]).removeprefix("monsal.life.").removeprefix("_Life._"))
    return name if what == "start" else f"{name} ({step['channel']})"


def _print(what: str, found: Mapping[str, Any]) -> None:
    steps: Sequence[Mapping[str, Any]] = found["steps"]
    whole = max(float(found["seconds"]), 1e-9)
    click.echo(f"{what}: {whole:.3f} s")
    begun = min((float(step["at"]) for step in steps), default=0.0)
    titles = [_title(step, what) for step in steps]
    names = max((len(title) for title in titles), default=0)
    width = max(10, min(_WIDEST, shutil.get_terminal_size().columns - names - 16))
    for step, title in zip(steps, titles, strict=True):
        left = round((float(step["at"]) - begun) / whole * width)
        bar = "#" * max(1, round(float(step["seconds"]) / whole * width))
        mark = "*" if step["name"] in found["chain"] else " "
        cause = f"  {clean(step['cause'])}" if step.get("cause") else ""
        click.echo(f"{mark} {title:<{names}} {step['seconds']:8.3f} s  {' ' * left}{bar}{cause}".rstrip())
