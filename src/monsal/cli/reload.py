"""`monsal reload`: see `renew.py`."""

from __future__ import annotations

from pathlib import Path

import click

from monsal.cli.options import directory_option
from monsal.cli.renew import renew, timeout_option

__all__ = ["command"]


@click.command("reload")
@directory_option
@timeout_option
def command(directory: Path, timeout: float) -> int:
    """Have the running server take up the code as it is now, without refusing anybody.

    A fresh process checks first that the code can be loaded; if not, its traceback is shown and the running code goes
    on. Then running turns end, and a new generation takes over the same sockets; who connects meanwhile waits. With
    --workers the new generation begins beside the old one, and nobody waits.

    Exit code 0: the new code serves; 1: it cannot; 75: no server runs.

    \b
    monsal reload --dir desk
    """
    return renew(directory, timeout, "server.reload")
