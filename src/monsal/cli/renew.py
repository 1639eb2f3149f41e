"""`monsal reload` and `monsal restart`: the code as it is now in place of what runs."""

from __future__ import annotations

import contextlib
import threading
import time
from pathlib import Path
from typing import Any

import click

from monsal.cli.exits import FAILED, OK
from monsal.cli.output import clean
from monsal.cli.reach import control_client, not_running
from monsal.cli.stop import watch_process
from monsal.errors import NotRunning, RemoteError

__all__ = ["renew", "timeout_option"]

timeout_option = click.option(
    "--timeout", type=click.FloatRange(min=0), default=120.0, show_default=True, help="Seconds to wait until it serves."
)
#: Seconds between two looks at a server that is coming up.
_STEP = 0.05


def renew(directory: Path, timeout: float, method: str) -> int:
    """Have the running server take up the code as it is now by `method`, and wait until that serves."""
    began = time.monotonic()
    with control_client(directory, timeout=120.0) as client:
        try:
            pid = client.call("server.status").get("pid")
            with watch_process(pid) as ended:
                wanted = client.call(method)["generation"]
                return _wait(directory, wanted, ended, began, timeout)
        except NotRunning:
            raise not_running(directory) from None


def _wait(directory: Path, wanted: int, ended: Any, began: float, timeout: float) -> int:
    pause = threading.Event()
    while time.monotonic() - began < timeout:
        found = _look(directory)
        if found.get("generation", 0) >= wanted and found.get("ready"):
            click.echo(f"generation {wanted} serves, after {time.monotonic() - began:.1f} s")
            for fault in found.get("health", ()):
                click.echo(f"monsal: {clean(fault)}", err=True)
            return OK
        if ended(0.0):
            click.echo("monsal: the server ended during its restart; its log says why", err=True)
            return FAILED
        pause.wait(_STEP)
    click.echo(f"monsal: not ready after {timeout:g} seconds; `monsal why` says what it waits for", err=True)
    return FAILED


def _look(directory: Path) -> dict[str, Any]:
    with control_client(directory, timeout=5.0) as client, contextlib.suppress(RemoteError):
        found: dict[str, Any] = client.call("server.status")
        return found
    return {}
