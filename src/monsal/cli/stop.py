"""`monsal stop`: end a running server and wait until it is gone."""

from __future__ import annotations

import contextlib
import os
import select
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import msgspec

from monsal.cli.called import typed
from monsal.cli.exits import FAILED, OK
from monsal.cli.options import directory_option
from monsal.cli.output import clean
from monsal.cli.reach import control_client, not_running, read_ready
from monsal.errors import NotRunning

__all__ = ["command", "watch_process"]

#: Seconds between two looks at a process where the kernel cannot tell of its end (not Linux).
STEP = 0.05


@click.command("stop")
@directory_option
@click.option("--now", is_flag=True, help="Do not wait for turns that run; they are run again at the next start.")
@click.option(
    "--timeout", type=click.FloatRange(min=0), default=60.0, show_default=True, help="Seconds to wait for its end."
)
def command(directory: Path, now: bool, timeout: float) -> int:
    """End the running server: it takes no more mail, lets running turns end, sends what it can, and exits.

    Exit code 0: it is gone; 1: it still runs after the timeout; 75: none was running.

    \b
    monsal stop --dir desk
    monsal stop --now --dir desk
    """
    with control_client(directory) as client:
        try:
            pid = client.call("server.status").get("pid")
            if pid is None and (ready := read_ready(directory)) is not None:
                pid = ready.pid
            with watch_process(pid) as ended:
                client.call("server.stop", now=now)
                if ended(timeout):
                    _tell(directory, pid)
                    return OK
        except NotRunning:
            raise not_running(directory) from None
    why = typed("why", directory=directory)
    click.echo(
        f"monsal: process {pid} still runs after {timeout:g} seconds; `{why}` says what it waits for, "
        "--now does not wait for turns",
        err=True,
    )
    return FAILED


def _tell(directory: Path, pid: int | None) -> None:
    """Say what the server noted at its end: what was done, and what waits for the next start."""
    try:
        noted = msgspec.json.decode((directory / "run" / "last-stop.json").read_bytes(), type=dict[str, Any])
    except (OSError, msgspec.MsgspecError):
        return  # a server that was ended by force notes nothing
    if noted.get("pid") == pid and noted.get("said"):
        click.echo(clean(noted["said"]))


class _Ended:
    """Waits for the end of a process that is not our child."""

    def __init__(self, pid: int | None, handle: int | None) -> None:
        self._pid = pid
        self._handle = handle

    def __call__(self, timeout: float) -> bool:
        """Wait at most `timeout` seconds; whether it ended."""
        if self._handle is not None:
            return bool(select.select([self._handle], [], [], timeout)[0])
        end = time.monotonic() + timeout
        pause = threading.Event()
        while self._lives():
            if time.monotonic() > end:
                return False
            pause.wait(STEP)
        return True

    def _lives(self) -> bool:
        if self._pid is None:
            return False
        try:
            os.kill(self._pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            return True
        return True


@contextlib.contextmanager
def watch_process(pid: int | None) -> Iterator[_Ended]:
    """Begin to watch before the process is told to end, so that its number cannot be another one's by then."""
    handle = None
    if pid is not None and hasattr(os, "pidfd_open"):
        with contextlib.suppress(OSError):
            handle = os.pidfd_open(pid)
    try:
        yield _Ended(pid, handle)
    finally:
        if handle is not None:
            os.close(handle)
