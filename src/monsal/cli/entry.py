"""Where the command begins: as little as can be is loaded before Ctrl-C ends it quietly."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from importlib import import_module

from monsal.cli.interrupts import loading

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit code."""
    with loading():
        root = import_module("monsal.cli.root")
    try:
        code: int = root.main(arguments)
    except KeyboardInterrupt:  # before it has begun, or while it says that it was interrupted
        code = 128 + signal.SIGINT
    return code
