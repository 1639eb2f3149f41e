"""`monsal restart`: see `renew.py`."""

from __future__ import annotations

from pathlib import Path

import click

from monsal.cli.options import directory_option
from monsal.cli.renew import renew, timeout_option

__all__ = ["command"]


@click.command("restart")
@directory_option
@timeout_option
def command(directory: Path, timeout: float) -> int:
    """Replace the running server by a fresh one on the same sockets, without refusing anybody.

    As `monsal reload`: the code is checked first, running turns end, and who connects meanwhile waits.

    Exit code 0: the fresh one serves; 1: the code cannot, and the old server goes on; 75: no server runs.

    \b
    monsal restart --dir desk
    """
    return renew(directory, timeout, "server.restart")
