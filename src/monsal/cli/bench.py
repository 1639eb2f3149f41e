"""`monsal bench`: how fast this machine is with monsal, on the disk of a directory."""

from __future__ import annotations

import os
import platform
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from monsal.cli.exits import CannotCreate
from monsal.cli.options import directory_option
from monsal.cli.output import print_json

if TYPE_CHECKING:
    from monsal.cli.measure import Pace, Times

__all__ = ["command"]


@click.command("bench")
@click.option(
    "--seconds", type=click.FloatRange(0.1, 600), default=5.0, show_default=True, help="How long mails are sent."
)
@click.option("--connections", type=click.IntRange(1, 100), default=10, show_default=True, help="Connections at once.")
@directory_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(seconds: float, connections: int, directory: Path, as_json: bool) -> None:
    """Measure this machine: the disk of the directory, and a server on it that takes mails as fast as it can.

    The server has an application of its own that keeps a state and answers each mail; answers are filed. All of it is
    in temporary files, those of the store in the directory's run/ (or in the directory, if there is none), and gone
    afterwards; your application and its server are left alone. The load and the server share the processors, and what
    else runs takes its part of them: CPU time tells more than rates do.

    \b
    monsal bench --dir desk
    monsal bench --dir desk --seconds 30 --json | jq .cpu_us
    """
    from monsal.cli.measure import Load, measure_flush, measure_server

    below = directory.resolve() / "run"
    try:
        temporary = tempfile.TemporaryDirectory(prefix="bench-", dir=below if below.is_dir() else below.parent)
    except OSError as error:
        raise CannotCreate(f"nothing can be written in {error.filename}: {error.strerror}") from None
    with temporary as made:
        place = Path(made)
        flush = measure_flush(place, min(1.0, seconds))
        pace = measure_server(place, Load(seconds=seconds, connections=connections))
    if as_json:
        print_json(_facts(directory, seconds, connections, flush, pace))
        return
    click.echo(f"{_machine()}; store in {place.parent}; {connections} connections for {seconds:g} s")
    click.echo(f"flush   {_words(flush)}  4 KiB are on the disk")
    click.echo(f"accept  {_words(pace.accept)}  from MAIL to the 250, mails of 1 kB")
    click.echo(f"turn    {_words(pace.turn)}  from the 250 to the commit of state and answer")
    if pace.cpu_us is not None:
        click.echo(f"CPU     {pace.cpu_us:8.0f} us a mail: accept, turn, and an answer that is filed")


def _machine() -> str:
    return f"{os.cpu_count()} processors, Python {platform.python_version()}"


def _words(times: Times) -> str:
    return f"{times.per_second:8.0f}/s  p50 {times.p50_ms:8.2f} ms  p99 {times.p99_ms:8.2f} ms "


def _facts(directory: Path, seconds: float, connections: int, flush: Times, pace: Pace) -> dict[str, Any]:
    given = {"directory": directory.resolve(), "seconds": seconds, "connections": connections}
    machine = {"processors": os.cpu_count(), "python": platform.python_version()}
    return {**given, **machine, "flush": flush, **msgspec.structs.asdict(pace)}
